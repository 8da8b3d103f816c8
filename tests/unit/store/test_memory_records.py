"""The log of one process that keeps nothing."""

from collections.abc import AsyncIterator

import pytest

from gateway.store.memory_records import MemoryRecords
from tests.unit.store.record_bench import Listener, RecordsBehaviour

pytestmark = pytest.mark.anyio


@pytest.fixture
def listener() -> Listener:
    """Who is told."""
    return Listener()


@pytest.fixture
async def records(listener: Listener, anyio_backend: str) -> AsyncIterator[MemoryRecords]:
    """A started log."""
    made = MemoryRecords()
    await made.start(lambda batch: listener.apply(batch), listener.reset)
    yield made
    await made.aclose()


class TestMemory(RecordsBehaviour):
    """As every log."""


def test_what_is_appended_before_the_start_is_dropped() -> None:
    records = MemoryRecords()
    records.append(b"a")
    assert records.dropped == 1
    assert not records.is_live


async def test_a_record_is_told_before_append_returns(records: MemoryRecords, listener: Listener) -> None:
    records.append(b"a")
    assert listener.told == [("1-0", b"a")]


async def test_who_is_told_may_close(listener: Listener) -> None:
    records = MemoryRecords()

    def apply(batch: object) -> None:
        records.append(b"never told")
        records._apply = None

    await records.start(apply, listener.reset)
    records.append(b"a")
    await records.aclose()
    assert not records.is_live
