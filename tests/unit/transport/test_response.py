"""A response by itself, with a connection that only writes down what it is told."""

import asyncio
from math import inf
from typing import cast

import pytest

from gateway.core.errors import UpstreamError, UpstreamTruncated
from gateway.core.pipeline import spawn
from gateway.transport.base import Timeouts
from gateway.transport.response import Http1Response, declares_end

pytestmark = pytest.mark.anyio


class StillCarrier:
    """A connection on which nothing happens."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.watched: list[float] = []
        self.resumed = 0
        self.finished: list[Http1Response] = []

    def watch(self, at_s: float) -> None:
        self.watched.append(at_s)

    def resume(self, response: Http1Response) -> None:
        self.resumed += 1
        response.is_paused = False

    def finish(self, response: Http1Response) -> None:
        self.finished.append(response)


def arriving(*pieces: bytes, timeouts: Timeouts | None = None) -> tuple[StillCarrier, Http1Response]:
    carrier = StillCarrier()
    response = Http1Response(carrier, timeouts or Timeouts(1.0, 10.0, 3.0, None), False)
    response.status = 200
    response.pieces.extend(pieces)
    return carrier, response


async def test_read_gives_all_that_has_arrived_and_then_the_end_for_ever() -> None:
    _, response = arriving(b"a", b"b")
    response.is_complete = True
    assert [await response.read() for _ in range(3)] == [b"ab", b"", b""]


async def test_what_arrived_before_a_fault_is_given_first() -> None:
    """F19."""
    _, response = arriving(b"a")
    response.error = UpstreamTruncated("cut")
    assert await response.read() == b"a"
    with pytest.raises(UpstreamTruncated, match="cut"):
        await response.read()


async def test_reading_lets_the_socket_be_read_again() -> None:
    """F24."""
    carrier, response = arriving(b"a" * 9)
    response.is_paused = True
    await response.read()
    assert (carrier.resumed, response.buffered) == (1, 0)


async def test_read_all_joins_and_stops_at_its_limit() -> None:
    _, response = arriving(b"abc", b"def")
    response.is_complete = True
    assert await response.read_all(6) == b"abcdef"
    _, response = arriving(b"abc", b"def")
    with pytest.raises(UpstreamError, match="larger than the 5 bytes"):
        await response.read_all(5)


async def test_read_all_of_an_empty_body_is_empty() -> None:
    _, response = arriving()
    response.is_complete = True
    assert await response.read_all(0) == b""


async def test_closing_twice_finishes_once_and_wakes_the_reader() -> None:
    carrier, response = arriving()
    reader = spawn(response.read(), "reader")
    await asyncio.sleep(0)
    response.close()
    response.close()
    assert carrier.finished == [response]
    await asyncio.wait([reader])
    assert isinstance(reader.exception(), UpstreamTruncated)


async def test_a_complete_response_can_be_read_after_it_was_closed() -> None:
    _, response = arriving(b"a")
    response.is_complete = True
    response.close()
    assert [await response.read(), await response.read()] == [b"a", b""]


async def test_the_first_event_is_due_from_the_moment_the_request_is_sent() -> None:
    """F14."""
    _, response = arriving(timeouts=Timeouts(1.0, 10.0, 3.0, None))
    assert response.limit() == (inf, "idle")
    response.sent_s = 100.0
    assert response.limit() == (110.0, "first_token")


async def test_without_a_limit_for_the_first_event_only_the_deadline_counts() -> None:
    _, response = arriving(timeouts=Timeouts(1.0, None, 3.0, None))
    response.sent_s = 100.0
    assert response.limit()[0] == inf


async def test_idle_time_counts_only_while_somebody_reads() -> None:
    """F13, F24: a slow client is not a slow upstream."""
    carrier, response = arriving(timeouts=Timeouts(1.0, 10.0, 3.0, None))
    response.sent_s = 100.0
    response.begin()
    assert response.limit() == (inf, "idle")
    waiter = response.arrival()
    (watched,) = carrier.watched
    assert response.limit() == (watched, "idle")
    response.wake()
    assert waiter.done()
    assert response.limit() == (inf, "idle")


async def test_a_stalled_upload_is_idle() -> None:
    _, response = arriving(timeouts=Timeouts(1.0, 10.0, 3.0, None))
    response.stalled_s = 50.0
    assert response.limit() == (53.0, "idle")


async def test_the_deadline_is_over_everything() -> None:
    _, response = arriving(timeouts=Timeouts(1.0, 10.0, 3.0, 104.0))
    assert response.limit() == (104.0, "total")
    response.sent_s = 100.0
    assert response.limit() == (104.0, "total")
    response.begin()
    assert response.limit() == (104.0, "total")


async def test_a_cancelled_reader_waits_no_longer() -> None:
    _, response = arriving()
    response.begin()
    reader = spawn(response.read(), "reader")
    await asyncio.sleep(0)
    reader.cancel()
    await asyncio.wait([reader])
    assert response.limit()[0] == inf
    response.wake()


# Listening


class Ear:
    """A listener that takes whatever there is, and keeps it."""

    def __init__(self, response: Http1Response) -> None:
        self._response = response
        self.taken: list[bytes | None] = []
        self.fault: BaseException | None = None

    def __call__(self) -> None:
        """There may be something to take."""
        try:
            self.taken.append(self._response.take())
        except UpstreamTruncated as fault:
            self.fault = fault


async def test_nothing_is_taken_before_something_has_arrived() -> None:
    _, response = arriving()
    assert response.take() is None
    response.pieces += [b"a", b"b"]
    assert [response.take(), response.take()] == [b"ab", None]
    response.is_complete = True
    assert [response.take(), response.take()] == [b"", b""]


async def test_what_arrived_before_a_fault_is_taken_first() -> None:
    """F19."""
    _, response = arriving(b"a")
    response.error = UpstreamTruncated("cut")
    assert response.take() == b"a"
    with pytest.raises(UpstreamTruncated, match="cut"):
        response.take()


async def test_taking_lets_the_socket_be_read_again() -> None:
    """F24."""
    carrier, response = arriving(b"a")
    response.is_paused = True
    response.take()
    assert (carrier.resumed, response.buffered) == (1, 0)


async def test_a_listener_is_called_for_every_piece_the_end_and_not_after_it_left() -> None:
    _, response = arriving()
    ear = Ear(response)
    assert response.listen(ear)
    assert ear.taken == [], "what is at hand is for the listener to look for"
    for piece in (b"a", b"b"):
        response.pieces.append(piece)
        response.wake()
    response.is_complete = True
    response.wake()
    assert ear.taken == [b"a", b"b", b""]
    response.listen(None)
    response.wake()
    assert len(ear.taken) == 3


async def test_a_listener_hears_of_a_fault() -> None:
    """F19."""
    _, response = arriving()
    ear = Ear(response)
    response.listen(ear)
    response.error = UpstreamTruncated("cut")
    response.wake()
    assert (ear.taken, ear.fault) == ([], response.error)


async def test_a_response_that_is_closed_tells_its_listener_that_it_was_cut() -> None:
    carrier, response = arriving()
    ear = Ear(response)
    response.listen(ear)
    response.close()
    assert isinstance(ear.fault, UpstreamTruncated)
    assert carrier.finished == [response]
    _, complete = arriving()
    ear = Ear(complete)
    complete.listen(ear)
    complete.is_complete = True
    complete.close()
    assert (ear.taken, ear.fault) == ([b""], None)


async def test_idle_time_counts_while_somebody_listens_from_the_last_piece() -> None:
    """F13, F24: and not while the listener is away because its client is slow."""
    now_s = 100.0

    class Loop:
        def time(self) -> float:
            return now_s

    carrier, response = arriving(timeouts=Timeouts(1.0, 10.0, 3.0, None))
    carrier.loop = cast(asyncio.AbstractEventLoop, Loop())
    response.sent_s = 90.0
    response.begin()
    ear = Ear(response)
    response.listen(ear)
    assert carrier.watched == [103.0]
    assert response.limit() == (103.0, "idle")
    now_s = 102.0
    response.pieces.append(b"a")
    response.wake()
    assert response.limit() == (105.0, "idle")
    response.listen(None)
    assert response.limit() == (inf, "idle")
    now_s = 200.0
    response.listen(ear)
    assert carrier.watched[-1] == 203.0
    assert response.limit() == (203.0, "idle")


@pytest.mark.parametrize(
    ("headers", "declared"),
    [
        ([(b"content-length", b"3")], True),
        ([(b"a", b"b"), (b"transfer-encoding", b"gzip, Chunked")], True),
        ([(b"transfer-encoding", b"gzip")], False),
        ([], False),
    ],
)
def test_an_end_is_declared_by_length_or_by_chunks(headers: list[tuple[bytes, bytes]], declared: bool) -> None:
    assert declares_end(headers) is declared


@pytest.mark.parametrize("status", [204, 304])
async def test_what_has_no_body_cannot_be_cut(status: int) -> None:
    _, response = arriving()
    assert not response.is_delimited
    response.status = status
    assert response.is_delimited


async def test_repr_shows_no_content() -> None:
    """F114."""
    _, response = arriving(b"a canary reply")
    response.headers = [(b"set-cookie", b"canary")]
    assert "canary" not in repr(response)
    assert "200" in repr(response)
    response.is_complete = True
    assert "complete" in repr(response)
