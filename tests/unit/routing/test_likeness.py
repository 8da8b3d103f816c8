"""What two replies say: kept while they pass, within bounds, and no longer than it takes to measure it."""

import pytest

from gateway.core.exchange import Dialect, Operation, Reply, Request, Usage
from gateway.routing.likeness import MOST_BYTES, MOST_STREAM_BYTES, Heard, Likeness, Listener
from tests.fakes import event_frame, events_of, request

pytestmark = pytest.mark.anyio


class _Collector:
    def __init__(self) -> None:
        self.fed: list[bytes] = []
        self.is_whole = True

    def feed(self, block: bytes) -> None:
        """Keep it."""
        self.fed.append(block)

    def body(self, usage: Usage) -> bytes | None:
        """All of it."""
        return b"".join(self.fed) if self.is_whole else None


class _Texts:
    """A dialect in which a reply's text is its bytes."""

    def __init__(self) -> None:
        self.collectors: list[_Collector] = []

    def collector(self, dialect: Dialect, operation: Operation) -> _Collector:
        """One more."""
        self.collectors.append(_Collector())
        return self.collectors[-1]

    def text(self, dialect: Dialect, operation: Operation, body: bytes) -> str | None:
        """The bytes; nothing for tools."""
        return None if body == b"tools" else body.decode()


class _World:
    def __init__(self) -> None:
        self.texts = _Texts()
        self.measured: list[tuple[str, str]] = []
        self.likeness = Likeness(self.texts, self._distance)

    async def _distance(self, one: str, other: str) -> float | None:
        self.measured.append((one, other))
        return 0.25

    def listen(self, reply: Reply, asked: Request | None = None) -> Heard | None:
        """What is kept of a primary."""
        return self.likeness.listen(request() if asked is None else asked, reply)

    def heard(self, reply: Reply) -> Heard:
        """What is kept of a primary, which is something."""
        heard = self.listen(reply)
        assert heard is not None
        return heard


def _whole(body: bytes) -> Reply:
    return Reply(200, [], body=body)


def _stream() -> Reply:
    return Reply(200, [], events=events_of(), error_event=event_frame)


async def test_a_stream_and_a_whole_reply_are_compared_alike() -> None:
    world = _World()
    primary = _stream()
    heard = world.heard(primary)
    for piece in (b"one ", b"and two"):
        for tap in primary.taps:
            tap(piece)
    heard.copy.open(_whole(b"three"))
    assert await heard.distance() == 0.25
    heard = world.heard(_whole(b"one and two"))
    heard.copy.open(_stream())
    heard.copy.feed(b"three")
    assert await heard.distance() == 0.25
    assert world.measured == [("one and two", "three")] * 2


async def test_what_was_measured_is_forgotten() -> None:
    world = _World()
    heard = world.heard(_whole(b"one"))
    heard.copy.open(_stream())
    heard.copy.feed(b"two")
    await heard.distance()
    assert heard.primary.is_empty and heard.copy.is_empty
    assert await heard.distance() is None
    assert len(world.measured) == 1


@pytest.mark.parametrize("operation", ["embeddings", "text_completion", "count_tokens", "relay"])
def test_of_what_has_no_text_nothing_is_kept(operation: Operation) -> None:
    world = _World()
    reply = _stream()
    assert world.listen(reply, request(operation=operation)) is None
    assert (reply.taps, world.texts.collectors) == ([], [])


@pytest.mark.parametrize("operation", ["chat", "responses", "messages"])
def test_of_what_has_a_text_it_is_kept(operation: Operation) -> None:
    assert _World().listen(_whole(b"one"), request(operation=operation)) is not None


async def test_a_reply_that_is_too_large_is_not_kept() -> None:
    world = _World()
    assert world.listen(_whole(b"x" * (MOST_BYTES + 1))) is None
    heard = world.heard(_whole(b"x" * MOST_BYTES))
    heard.copy.open(_whole(b"x" * (MOST_BYTES + 1)))
    assert heard.copy.is_empty
    assert await heard.distance() is None
    assert world.measured == []


async def test_a_stream_that_comes_to_too_much_has_no_text() -> None:
    world = _World()
    heard = world.heard(_whole(b"one"))
    heard.copy.open(_stream())
    heard.copy.feed(b"x" * (MOST_BYTES + 1))
    assert await heard.distance() is None


def test_a_stream_that_becomes_too_long_is_forgotten_at_once() -> None:
    listener = Listener(_Texts(), "openai", "chat")
    listener.open(_stream())
    listener.feed(b"x" * MOST_STREAM_BYTES)
    assert not listener.is_empty
    listener.feed(b"x")
    assert listener.is_empty
    listener.feed(b"x")
    assert listener.text() is None


@pytest.mark.parametrize("side", ["primary", "copy"])
async def test_what_is_more_than_text_has_no_distance(side: str) -> None:
    world = _World()
    bodies = {"primary": b"one", "copy": b"two", side: b"tools"}
    heard = world.heard(_whole(bodies["primary"]))
    heard.copy.open(_whole(bodies["copy"]))
    assert await heard.distance() is None
    assert world.measured == []


async def test_a_stream_that_cannot_be_put_together_has_no_distance() -> None:
    world = _World()
    heard = world.heard(_stream())
    world.texts.collectors[0].is_whole = False
    heard.copy.open(_whole(b"two"))
    assert await heard.distance() is None


def test_pieces_of_something_else_are_no_stream() -> None:
    reply = Reply(200, [], events=events_of(b"piece"))
    assert _World().listen(reply) is None
    assert reply.taps == []


async def test_what_is_to_be_forgotten_takes_nothing_more() -> None:
    world = _World()
    primary = _stream()
    heard = world.heard(primary)
    heard.copy.open(_stream())
    heard.forget()
    primary.taps[0](b"one")
    heard.copy.feed(b"two")
    assert [collector.fed for collector in world.texts.collectors] == [[], []]
    assert await heard.distance() is None
