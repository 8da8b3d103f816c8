"""What the tests of logs share: somebody who is told, and what every log does."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gateway.store.records import MOST_RECORD_BYTES, MOST_TOLD, Records, Told
from tests.unit.store.redis_bench import until


@dataclass
class Listener:
    """Folds a log: keeps what it was told, in its order."""

    told: list[Told] = field(default_factory=list)
    resets: int = 0
    batches: list[int] = field(default_factory=list)
    at_first: Callable[[], None] | None = None
    """What to do when the first batch was told."""

    def apply(self, batch: Sequence[Told]) -> None:
        self.batches.append(len(batch))
        self.told += batch
        then, self.at_first = self.at_first, None
        if then is not None:
            then()

    def reset(self) -> None:
        self.resets += 1
        self.told.clear()

    @property
    def records(self) -> list[bytes]:
        """Without their ids."""
        return [record for _, record in self.told]

    def id_of(self, record: bytes) -> str:
        """Under which it was told."""
        (found,) = [name for name, each in self.told if each == record]
        return found


def numbered(count: int, size_bytes: int = 0) -> list[bytes]:
    """So many records, no two the same."""
    return [b"%06d" % number + bytes(size_bytes) for number in range(count)]


async def append_all(records: Records, listener: Listener, wanted: Sequence[bytes]) -> None:
    """Append, no faster than they are told, so that no queue is full."""
    for start in range(0, len(wanted), 1000):
        some = wanted[start : start + 1000]
        for record in some:
            records.append(record)
        await until(lambda last=some[-1]: listener.told and listener.told[-1][1] == last)  # type: ignore[misc]


class RecordsBehaviour:
    """What every log does. The class that inherits it has fixtures `records` (started) and `listener` (its own)."""

    async def test_what_is_appended_is_told_once_and_in_order(self, records: Records, listener: Listener) -> None:
        wanted = numbered(300)
        for record in wanted:
            records.append(record)
        await until(lambda: len(listener.told) >= 300)
        await asyncio.sleep(0)
        assert listener.records == wanted
        assert len({name for name, _ in listener.told}) == 300
        assert max(listener.batches) <= MOST_TOLD
        assert (listener.resets, records.dropped, records.lag_s) == (0, 0, 0.0)
        assert records.is_live

    async def test_who_is_told_may_append(self, records: Records, listener: Listener) -> None:
        told = listener.apply

        def apply(batch: Sequence[Told]) -> None:
            for _, record in batch:
                if record == b"question":
                    records.append(b"answer")
            told(batch)

        listener.apply = apply  # type: ignore[method-assign]
        records.append(b"question")
        records.append(b"next")
        await until(lambda: len(listener.told) == 3)
        assert sorted(listener.records) == [b"answer", b"next", b"question"]
        assert listener.records[0] == b"question"

    async def test_any_bytes_are_a_record(self, records: Records, listener: Listener) -> None:
        wanted = [b"", bytes(range(256)), b"\r\n$-1\r\n", bytes(MOST_RECORD_BYTES)]
        for record in wanted:
            records.append(record)
        await until(lambda: len(listener.told) == 4)
        assert listener.records == wanted

    async def test_a_record_that_is_too_large_is_dropped(self, records: Records, listener: Listener) -> None:
        records.append(bytes(MOST_RECORD_BYTES + 1))
        records.append(b"a")
        await until(lambda: listener.told)
        assert listener.records == [b"a"]
        assert records.dropped == 1

    async def test_deleting_fails_for_nothing(self, records: Records, listener: Listener) -> None:
        records.append(b"a")
        await until(lambda: listener.told)
        nonsense = ["", "-", "1", "-1-0", "1-", "a-b", "1-2-3", "²-0", "9" * 5000 + "-0", "9" * 20 + "-0", "77-0"]
        records.delete([*nonsense, listener.id_of(b"a")])
        records.delete([])
        await until(lambda: not records.deleting)
        records.append(b"b")
        await until(lambda: len(listener.told) == 2)
        assert listener.records == [b"a", b"b"]

    async def test_nothing_is_told_after_the_end(self, records: Records, listener: Listener) -> None:
        await records.aclose()
        assert not records.is_live
        records.append(b"late")
        records.delete(["1-0"])
        await records.aclose()
        assert (listener.told, records.dropped) == ([], 1)
