"""The bench's own Redis."""

import subprocess
from pathlib import Path

from loadtests.processes import Child
from loadtests.redis import Redis, redis_command, store_section


def child(folder: Path) -> Child:
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    return Child("redis", process, folder / "redis.out")


def state(server: Child) -> str:
    return Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_redis_listens_on_the_loopback_address_alone_and_saves_nothing(tmp_path: Path) -> None:
    command = redis_command(tmp_path, 1234)
    assert command[command.index("--bind") + 1] == "127.0.0.1"
    assert command[command.index("--save") + 1] == ""
    assert command[command.index("--port") + 1] == "1234"


def test_its_address_is_read_from_a_file_of_the_rig(tmp_path: Path) -> None:
    assert f"file:{tmp_path}/redis.url" in store_section(tmp_path)


def test_what_was_killed_is_another_process_when_it_is_started_again(tmp_path: Path) -> None:
    first = child(tmp_path)
    redis = Redis(first, 1234, lambda: child(tmp_path))
    try:
        redis.kill()
        assert first.process.poll() is not None
        redis.resume()
        redis.restart()
        assert redis.child.process.poll() is None and redis.child.pid != first.pid
    finally:
        redis.kill()


def test_what_was_paused_runs_on_when_it_is_resumed(tmp_path: Path) -> None:
    redis = Redis(child(tmp_path), 1234, lambda: child(tmp_path))
    try:
        redis.pause()
        redis.resume()
        assert state(redis.child) != "T"
        assert redis.child.process.poll() is None
    finally:
        redis.kill()
