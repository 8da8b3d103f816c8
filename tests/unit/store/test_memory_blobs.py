"""Stored replies in memory: as every store of them, and the room that they have."""

from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from gateway.store.blobs import Entry, key_scope
from gateway.store.memory_blobs import MAX_ENTRY_EPOCHS, MemoryBlobs
from tests.fakes import FakeClock
from tests.unit.store.blob_behaviour import KEY, OTHER_KEY, SCOPES, BlobBehaviour, Shelf, entry, has, stored


@dataclass
class MemoryShelf:
    """Memory, on a clock that the test moves."""

    clock: FakeClock = field(default_factory=FakeClock)
    blobs: MemoryBlobs = field(init=False)

    def __post_init__(self) -> None:
        self.blobs = MemoryBlobs(1024 * 1024, self.clock)

    def wall(self) -> float:
        return self.clock.wall()

    async def expire(self, ttl_s: float) -> None:
        self.clock.advance(ttl_s)


@pytest.fixture
def shelf() -> MemoryShelf:
    """An empty one."""
    return MemoryShelf()


class TestMemory(BlobBehaviour):
    """As every store of replies."""


@pytest.mark.anyio
async def test_the_one_longest_unused_makes_room(shelf: Shelf) -> None:
    clock = FakeClock()
    small = MemoryShelf(clock)
    one = await entry(small)
    small.blobs = MemoryBlobs(3 * one.size_bytes, clock)
    keys = [bytes([number]) * 32 for number in range(4)]
    for key in keys[:3]:
        await stored(small, key)
    assert await has(small, keys[0])
    await stored(small, keys[3])
    assert [await has(small, key) for key in keys] == [True, False, True, True]
    assert small.blobs.size_bytes == 3 * one.size_bytes
    assert len(small.blobs) == 3


@pytest.mark.anyio
async def test_what_is_larger_than_all_the_room_is_not_taken(shelf: MemoryShelf) -> None:
    await stored(shelf, OTHER_KEY)
    assert not await shelf.blobs.put(KEY, await entry(shelf, body=bytes(1024 * 1024)))
    assert await has(shelf, OTHER_KEY)


@pytest.mark.anyio
async def test_every_byte_is_given_back(shelf: MemoryShelf) -> None:
    await stored(shelf, ttl_s=1.0)
    await stored(shelf, body=b"another", ttl_s=1.0)
    await stored(shelf, OTHER_KEY)
    shelf.clock.advance(1.0)
    assert not await has(shelf)
    await shelf.blobs.purge(SCOPES[1])
    assert (shelf.blobs.size_bytes, len(shelf.blobs)) == (0, 0)


@pytest.mark.anyio
async def test_an_entry_that_was_put_while_its_scope_is_being_purged_stays(shelf: MemoryShelf) -> None:
    blobs = shelf.blobs

    class Putting(MemoryBlobs):
        def remove(self, key: bytes) -> None:
            super().remove(key)
            if key == KEY and not self.has_put:
                self.has_put = True
                assert self.keep(OTHER_KEY, fresh())

        has_put = False

    def fresh() -> Entry:
        return replace(old, epochs=shelf.blobs.epochs_of(SCOPES))

    shelf.blobs = blobs = Putting(1024 * 1024, shelf.clock)
    old = await entry(shelf)
    blobs._entries[KEY] = old
    blobs._entries[OTHER_KEY] = old
    receipt = await blobs.purge(SCOPES[1])
    assert receipt.matched == 1
    assert await has(shelf, OTHER_KEY)


@pytest.mark.anyio
async def test_purges_of_single_entries_are_not_remembered_for_ever(shelf: MemoryShelf) -> None:
    first = f"entry:{KEY.hex()}"
    await shelf.blobs.purge(first)
    for number in range(MAX_ENTRY_EPOCHS):
        shelf.blobs.bump(f"entry:{number}")
    assert shelf.blobs.epochs_of((first, "entry:0")) == (0, 2)


def test_memory_is_of_one_process(shelf: MemoryShelf) -> None:
    assert not shelf.blobs.is_shared
    assert shelf.blobs.epochs_of((key_scope("a"),)) == (0,)
