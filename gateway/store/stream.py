"""The language of a stream in Redis: ids, entries, its extent, and commands that are sent at once."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

from redis.exceptions import RedisError, ResponseError

from gateway.store.connect import AnyConnection
from gateway.store.link import SECOND_LOOK_S

FIELD = b"r"
"""The one field of an entry."""
_MOST_OF_AN_ERROR = 200
_MOST_DIGITS = 20

Place = tuple[int, int]
"""An entry's id: milliseconds of the server's clock, and a number."""
BEGIN: Place = (0, 0)
"""Before every entry."""


@dataclass(frozen=True, slots=True)
class Extent:
    """What there is of a stream; without entries `first` and `last` are `BEGIN`, without a stream all are."""

    generated: Place
    """The newest id that was ever given."""
    first: Place
    last: Place

    @classmethod
    def parse(cls, answer: Sequence[Any]) -> Self:
        """From XINFO STREAM of Redis 6 or 7."""
        about = dict(zip(answer[::2], answer[1::2], strict=True))
        first, last = [about[name] and about[name][0] for name in (b"first-entry", b"last-entry")]
        return cls(place_of(about[b"last-generated-id"]), place_of(first), place_of(last))


def extent_of(answer: Any) -> Extent:
    """From what `exchange` gives for XINFO STREAM. Raises RedisError."""
    if isinstance(answer, ResponseError) and "no such key" in str(answer):
        return Extent(BEGIN, BEGIN, BEGIN)
    raise_first([answer])
    return Extent.parse(answer)


def place_of(name: bytes | None) -> Place:
    """Of an entry's id; `BEGIN` for None."""
    if name is None:
        return BEGIN
    time_ms, _, number = name.partition(b"-")
    return int(time_ms), int(number)


def text_of(place: Place) -> str:
    """As Redis writes it."""
    return f"{place[0]}-{place[1]}"


def is_place(name: str) -> bool:
    """Whether Redis takes it for an entry's id. One that is none would have a whole command refused."""
    parts = name.split("-")
    return len(parts) == 2 and all(
        part.isascii() and part.isdigit() and len(part) <= _MOST_DIGITS and int(part) < 2**64 for part in parts
    )


def records_of(entries: Sequence[Any]) -> list[tuple[str, bytes]]:
    """Ids and records of entries. What is no record of ours is passed over."""
    return [
        (name.decode(), fields[1])
        for name, fields in entries
        if isinstance(fields, list) and len(fields) == 2 and fields[0] == FIELD and isinstance(fields[1], bytes)
    ]


async def exchange(connection: AnyConnection, commands: Sequence[Sequence[str | bytes | int]]) -> list[Any]:
    """The answers to commands sent at once; one that was refused gives its ResponseError. Raises other RedisErrors."""
    await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
    answers: list[Any] = []
    for _ in commands:
        try:
            answers.append(await connection.read_response())
        except ResponseError as refusal:
            answers.append(refusal)
    return answers


def raise_first(answers: Sequence[Any]) -> None:
    """Raise the first of the answers that is a RedisError."""
    for answer in answers:
        if isinstance(answer, RedisError):
            raise answer


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """Raise TimeoutError after that time, and a second look: a busy loop sees its timers before its sockets."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:
        timers: list[asyncio.TimerHandle] = []

        def expire() -> None:
            limit.reschedule(loop.time())

        timers.append(loop.call_later(seconds, lambda: timers.append(loop.call_later(SECOND_LOOK_S, expire))))
        try:
            yield
        finally:
            for timer in timers:
                timer.cancel()


def reason_of(fault: BaseException) -> str:
    """For a log: of what kind it is, and what it says."""
    return f"{type(fault).__name__}: {str(fault) or 'no answer in time'}"[:_MOST_OF_AN_ERROR]
