"""Configuration that changes under load: noticed, applied or refused, and nobody loses a request."""

import asyncio
import hashlib
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.gateway.harness import CHAT, PLAIN, Gateway, gateway
from tests.gateway.traffic import requests, streams
from tests.gateway.waiting import until

pytestmark = pytest.mark.anyio

CHANGED = PLAIN.replace(
    "- {model: demo, target: mock}", "- {model: demo, target: mock}\n  - {model: more, target: mock}"
)
HASHES = [hashlib.sha256(f"sk-{name}".encode()).hexdigest() for name in ("stays", "goes")]
ONE_KEY = PLAIN + f'keys:\n  - {{id: stays, hash: "sha256:{HASHES[0]}"}}\n'
TWO_KEYS = ONE_KEY + f'  - {{id: goes, hash: "sha256:{HASHES[1]}"}}\n'
NOTICED_S = 1.0

BROKEN = {
    "half of a file": PLAIN[: PLAIN.index("mock, base_url")],
    "an unknown key": PLAIN + "rotues: []\n",
    "a secret file that is missing": PLAIN.replace("MOCK_URL}", "MOCK_URL, api_key: file:nowhere.key}"),
    "an empty file": "",
}


async def _revision(gw: Gateway) -> str:
    return str((await gw.admin.get("/admin/v1/config")).json()["revision"])


async def _noticed(gw: Gateway, write: Callable[[], None]) -> float:
    """Seconds from the change that `write` makes until another revision is served."""
    before = gw.served.control.loaded.revision
    since_s = time.monotonic()
    write()
    await until(lambda: gw.served.control.loaded.revision != before, 5.0)
    return time.monotonic() - since_s


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN.keys())
async def test_a_broken_file_changes_nothing_and_is_told(text: str, caplog: pytest.LogCaptureFixture) -> None:
    """F76, F77."""
    async with gateway() as gw:
        before = (await gw.admin.get("/admin/v1/config")).json()
        async with requests(gw.client) as asked:
            gw.config_path.write_text(text.replace("MOCK_URL", gw.mock.url))
            await until(lambda: gw.served.control.faults, 5.0)
            assert await gw.metric("gateway_config_last_reload_successful") == 0.0
            answered = asked.answered
            await until(lambda: asked.answered > answered + 50, 10.0)
            shown = (await gw.admin.get("/admin/v1/config")).json()
            assert shown["last_reload"]["successful"] is False
            assert shown["last_reload"]["faults"] != []
            assert shown == before | {"last_reload": shown["last_reload"]}
            gw.write_config(PLAIN)
            await until(lambda: not gw.served.control.faults, 5.0)
            assert await gw.metric("gateway_config_last_reload_successful") == 1.0
        assert asked.faults == []
        assert set(asked.statuses) == {200}
        assert set(asked.revisions) == {before["revision"]}
        told = [f"configuration not applied (file changed): {fault}" for fault in shown["last_reload"]["faults"]]
        assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == told


async def test_a_refused_reload_answers_with_its_faults() -> None:
    """F76, F77."""
    async with gateway() as gw:
        revision = await _revision(gw)
        answer = await gw.reload(BROKEN["an unknown key"])
        assert answer["revision"] == revision
        assert answer["changed"] is False
        assert any("rotues" in fault for fault in answer["faults"])
        assert await _revision(gw) == revision


async def test_ten_reloads_a_second_cut_no_stream_and_lose_no_request() -> None:
    """F79."""
    async with (
        gateway() as gw,
        streams(gw.client, 50, "tokens=60,gap=80ms") as opened,
        requests(gw.client) as asked,
    ):
        counted = [0.0]
        for number in range(40):
            answer = await gw.reload(f"{PLAIN}# {number}\n" if number % 4 else f"{CHANGED}# {number}\n")
            assert answer["faults"] == []
            counted.append(await gw.metric("gateway_requests_total", route="demo"))
            await asyncio.sleep(0.1)
        assert counted == sorted(counted)
        assert counted[-1] > counted[1]
        await opened.ended()
        assert opened.count(is_complete=True) == 50
    assert asked.faults == []
    assert set(asked.statuses) == {200}
    assert len(asked.revisions) > 10
    assert len(gw.served.process.running.generations) == 1


async def test_a_reload_keeps_the_upstream_connections_that_it_does_not_change() -> None:
    """F79."""
    async with gateway() as gw:
        for number in range(5):
            assert (await gw.client.post("/v1/chat/completions", json=CHAT)).status_code == 200
            await gw.reload(f"{CHANGED}# {number}\n")
        assert {call["connection"] for call in await gw.calls()} == {(await gw.calls())[0]["connection"]}


async def test_a_file_renamed_into_place_is_noticed() -> None:
    """F80."""
    async with gateway() as gw:
        assert await _noticed(gw, lambda: gw.write_config(CHANGED)) < NOTICED_S
        assert await _noticed(gw, lambda: gw.write_config(PLAIN)) < NOTICED_S


async def test_a_file_written_in_place_is_noticed() -> None:
    """F80."""
    async with gateway() as gw:
        text = CHANGED.replace("MOCK_URL", gw.mock.url)
        assert await _noticed(gw, lambda: _write(gw.config_path, text)) < NOTICED_S


async def test_a_change_of_the_same_size_is_noticed() -> None:
    """F80."""
    async with gateway() as gw:
        text = PLAIN.replace("MOCK_URL", gw.mock.url)
        assert await _noticed(gw, lambda: _write(gw.config_path, text.replace("drain: 5s", "drain: 6s"))) < NOTICED_S


async def test_a_file_that_is_written_slowly_is_read_when_it_is_whole(caplog: pytest.LogCaptureFixture) -> None:
    """F80."""
    async with gateway() as gw:
        text = CHANGED.replace("MOCK_URL", gw.mock.url)
        with gw.config_path.open("w") as file:
            # In less than the time between two looks: a watcher that reads what it sees first sees a half.
            for start in range(0, len(text), 64):
                file.write(text[start : start + 64])
                file.flush()
                await asyncio.sleep(0.01)
        await until(lambda: gw.served.control.loaded.config.routes[-1].model == "more", NOTICED_S * 2)
        assert gw.served.control.faults == []
        assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_swapped_volume_is_noticed() -> None:
    """F80: Kubernetes updates a ConfigMap by renaming the link `..data` over the old one."""
    async with gateway() as gw:
        folder = gw.config_path.parent
        text = gw.config_path.read_text()

        def mount(version: str, content: str) -> None:
            (folder / version).mkdir()
            (folder / version / gw.config_path.name).write_text(content)
            (folder / "..data_tmp").symlink_to(version)
            (folder / "..data_tmp").rename(folder / "..data")

        mount("..2026_1", text)
        link = folder / "link"
        link.symlink_to(Path("..data") / gw.config_path.name)
        link.rename(gw.config_path)
        changed = CHANGED.replace("MOCK_URL", gw.mock.url)
        assert await _noticed(gw, lambda: mount("..2026_2", changed)) < NOTICED_S
        assert await _noticed(gw, lambda: mount("..2026_3", text)) < NOTICED_S
        assert gw.served.control.faults == []


async def test_a_secret_file_that_changes_is_noticed() -> None:
    """F80."""
    config = PLAIN.replace("MOCK_URL}", "MOCK_URL, api_key: file:up.key}")
    async with gateway() as gw:
        secret = gw.config_path.parent / "up.key"
        secret.write_text("sk-first\n")
        assert (await gw.reload(config))["faults"] == []
        assert await _noticed(gw, lambda: _write(secret, "sk-second\n")) < NOTICED_S
        await gw.client.post("/v1/chat/completions", json=CHAT)
        assert ["authorization", "Bearer sk-second"] in (await gw.calls())[-1]["headers"]


async def test_a_file_that_vanishes_and_comes_back_changes_nothing() -> None:
    """F76, F80."""
    async with gateway() as gw:
        away = gw.config_path.with_suffix(".away")
        gw.config_path.rename(away)
        await until(lambda: gw.served.control.faults, 5.0)
        assert (await gw.client.post("/v1/chat/completions", json=CHAT)).status_code == 200
        away.rename(gw.config_path)
        await until(lambda: not gw.served.control.faults, 5.0)
        assert await gw.metric("gateway_config_last_reload_successful") == 1.0


async def test_a_removed_key_stops_within_a_second_and_the_others_go_on() -> None:
    """F81."""
    async with gateway(TWO_KEYS) as gw, requests(gw.client, authorization="Bearer sk-stays") as asked:
        goes = {"authorization": "Bearer sk-goes"}
        assert (await gw.client.post("/v1/chat/completions", json=CHAT, headers=goes)).status_code == 200
        since_s = time.monotonic()
        gw.write_config(ONE_KEY)

        async def is_refused() -> bool:
            return (await gw.client.post("/v1/chat/completions", json=CHAT, headers=goes)).status_code == 401

        await until(is_refused, 5.0)
        assert time.monotonic() - since_s < 1.0
    assert set(asked.statuses) == {200}
    assert asked.faults == []


async def test_what_a_reload_cannot_change_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """F77."""
    async with gateway() as gw:
        assert (await gw.admin.get("/admin/v1/config")).json()["restart_required"] == []
        await gw.reload(PLAIN.replace('listen: "127.0.0.1:0"', 'listen: "127.0.0.1:1", keepalive_timeout: 5s'))
        needed = ["server.listen", "server.keepalive_timeout"]
        assert (await gw.admin.get("/admin/v1/config")).json()["restart_required"] == needed
        warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert warnings == [f"configuration: {name} changed; takes effect after a restart" for name in needed]
        assert (await gw.client.post("/v1/chat/completions", json=CHAT)).status_code == 200
        await gw.reload(PLAIN)
        assert (await gw.admin.get("/admin/v1/config")).json()["restart_required"] == []


def _write(path: Path, text: str) -> None:
    # As `cat > file` does: truncate, write, and nothing else; the inode stays.
    inode = path.stat().st_ino
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC)
    os.write(descriptor, text.encode())
    os.close(descriptor)
    assert path.stat().st_ino == inode
