"""Open-loop load against a small server."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from loadtests.client import Answer, Fleet, chat_request
from loadtests.openloop import Arrivals, OpenLoop

pytestmark = pytest.mark.anyio


class Server(asyncio.Protocol):
    """Answers each request with `status`, or never when it is None."""

    def __init__(self, status: bytes | None) -> None:
        self._status = status
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._status is not None and self._transport is not None:
            self._transport.write(b"HTTP/1.1 " + self._status + b"\r\nContent-Length: 2\r\n\r\n{}")


@asynccontextmanager
async def serving(status: bytes | None) -> AsyncIterator[int]:
    server = await asyncio.get_running_loop().create_server(lambda: Server(status), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def drive(status: bytes | None, patience_s: float = 5.0) -> Arrivals:
    async with serving(status) as port:
        fleet = Fleet(port)
        try:
            load = OpenLoop(fleet, chat_request("bench", "k"), 400.0, random.Random(7))
            return await load.run(0.2, patience_s)
        finally:
            fleet.close()


async def test_every_request_is_answered_and_timed() -> None:
    arrivals = await drive(b"200 OK")
    # Poisson arrivals of a fixed seed: about 80 in 0.2 s.
    assert 50 < arrivals.sent < 120
    assert len(arrivals.latencies_s) == arrivals.sent and not arrivals.faults
    assert arrivals.latencies_s == sorted(arrivals.latencies_s)
    assert 0 < arrivals.quantile_ms(0.5) <= arrivals.quantile_ms(0.99)


async def test_an_error_status_is_counted_and_not_timed() -> None:
    arrivals = await drive(b"503 Service Unavailable")
    assert arrivals.faults == {"status 503": arrivals.sent}
    assert arrivals.latencies_s == []


async def test_requests_leave_on_time_when_no_answer_comes() -> None:
    arrivals = await drive(None, patience_s=0.1)
    assert arrivals.sent > 50
    assert arrivals.faults == {"no answer in time": arrivals.sent}


def test_latency_counts_from_the_intended_time() -> None:
    arrivals = Arrivals()
    arrivals.note(Answer(status=200, complete=True, ended_s=12.0), intended_s=10.5)
    arrivals.note(Answer(status=200, fault="connection lost"), intended_s=10.5)
    assert arrivals.latencies_s == [1.5]
    assert arrivals.faults == {"connection lost": 1}
