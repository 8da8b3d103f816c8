"""`gateway serve` that cannot serve says why, and ends."""

import signal
import socket

import pytest

from tests.gateway.harness import PLAIN
from tests.gateway.processes import run, serving
from tests.gateway.waiting import until

pytestmark = pytest.mark.anyio

BROKEN = """\
apiVersion: gateway/v1
server: {drain: 5}
targets:
  mock: {provider: mock, base_ulr: "http://127.0.0.1:1"}
routes:
  - {model: demo, target: mokc}
"""


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_broken_file_at_the_start_is_told_with_every_fault(workers: str) -> None:
    """F78."""
    async with run(BROKEN, "--workers", workers) as started:
        assert await started.ended(30.0) == 1
        told = started.complaints()
        for place, word in ((":2:", "drain"), (":4:", "base_ulr"), (":6:", "mokc")):
            assert any(place in line and word in line for line in told.splitlines()), told
        assert "gateway check" in told
        assert "Traceback" not in told


async def test_a_missing_file_at_the_start_is_told() -> None:
    """F78."""
    async with run(PLAIN, "--config", "nowhere.yaml") as started:
        assert await started.ended(30.0) == 1
        assert "nowhere.yaml" in started.complaints()
        assert "Traceback" not in started.complaints()


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("plane", ["--listen", "--admin"])
async def test_a_port_that_is_taken_is_named(workers: str, plane: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        async with run(PLAIN, "--workers", workers, plane, address) as started:
            assert await started.ended(30.0) == 1
            assert f"cannot listen on {address}: address already in use" in started.complaints()
            assert "Traceback" not in started.complaints()


async def test_workers_do_not_share_the_port_of_another_gateway() -> None:
    async with serving(PLAIN, "--workers", "2") as gw:
        address = f"{gw.address[0]}:{gw.address[1]}"
        async with run(PLAIN, "--workers", "2", "--listen", address) as second:
            assert await second.ended(30.0) == 1
            assert f"cannot listen on {address}" in second.complaints()


async def test_a_hangup_reads_the_file_again() -> None:
    async with serving() as gw:
        gw.run.write_config(PLAIN.replace("model: demo", "model: other"))
        gw.run.signal(signal.SIGHUP)
        await until(lambda: any("applied (SIGHUP)" in message for message in gw.run.messages()))
        assert (await gw.ask()).status_code == 404
