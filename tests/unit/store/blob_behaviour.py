"""What every store of replies does, whichever it is: one suite.

A test file of one has a fixture `shelf` that gives a `Shelf`, and a class that inherits `BlobBehaviour`.
"""

from typing import Any, Protocol

import pytest
from msgspec.structs import replace

from gateway.store.blobs import Blobs, Entry, entry_scope, key_scope, prompt_scope, route_scope, tag_scope

KEY = bytes(range(32))
OTHER_KEY = bytes(32)
SCOPES = (
    entry_scope(KEY),
    key_scope("checkout"),
    route_scope("support-*"),
    prompt_scope("greeting", "3"),
    tag_scope("team", "a"),
)


class Shelf(Protocol):
    """A started store, and what a test cannot do through its protocol."""

    @property
    def blobs(self) -> Blobs:
        """The store."""
        ...

    def wall(self) -> float:
        """Unix seconds, as the store sees them."""
        ...

    async def expire(self, ttl_s: float) -> None:
        """Let `ttl_s` pass for entries."""
        ...


async def entry(shelf: Shelf, key: bytes = KEY, scopes: tuple[str, ...] = SCOPES, **changes: Any) -> Entry:
    """An entry that may be stored now."""
    found = await shelf.blobs.find(key, scopes)
    assert found.epochs is not None
    given: dict[str, Any] = {
        "body": b'{"a":"\xff\x00"}',
        "content_type": b"application/json",
        "stored_s": shelf.wall(),
        "ttl_s": 60.0,
        "target": "gpt",
        "model_served": "gpt-4.1",
        "response_id": None,
        "finish_reasons": ("stop",),
        "input_tokens": 5,
        "output_tokens": 7,
        "cost_nusd": 900,
        "filled_by": "checkout",
        "request_id": "req-1",
        "scopes": scopes,
        "epochs": found.epochs,
    }
    return Entry(**(given | changes))


async def stored(shelf: Shelf, key: bytes = KEY, **changes: Any) -> Entry:
    """An entry that has just been stored."""
    made = await entry(shelf, key, **changes)
    assert await shelf.blobs.put(key, made)
    return made


async def has(shelf: Shelf, key: bytes = KEY) -> bool:
    """Whether there is an entry under `key`."""
    return (await shelf.blobs.find(key, SCOPES)).entry is not None


@pytest.mark.anyio
class BlobBehaviour:
    """Run against every store."""

    async def test_what_was_put_is_found_as_it_was(self, shelf: Shelf) -> None:
        made = await stored(shelf)
        assert (await shelf.blobs.find(KEY, SCOPES)).entry == made

    async def test_another_key_finds_nothing(self, shelf: Shelf) -> None:
        await stored(shelf)
        assert not await has(shelf, OTHER_KEY)

    async def test_a_later_entry_takes_the_place_of_an_earlier_one(self, shelf: Shelf) -> None:
        await stored(shelf)
        await stored(shelf, body=b"later")
        found = (await shelf.blobs.find(KEY, SCOPES)).entry
        assert found is not None
        assert found.body == b"later"

    async def test_an_entry_ends_with_its_time_to_live(self, shelf: Shelf) -> None:
        await stored(shelf, ttl_s=0.25)
        assert await has(shelf)
        await shelf.expire(0.25)
        assert not await has(shelf)

    @pytest.mark.parametrize("scope", SCOPES)
    async def test_a_purge_of_any_of_its_scopes_ends_an_entry(self, shelf: Shelf, scope: str) -> None:
        await stored(shelf)
        receipt = await shelf.blobs.purge(scope)
        assert not await has(shelf)
        assert (receipt.scope, receipt.matched, receipt.is_complete) == (scope, 1, True)
        assert receipt.epoch > 0

    async def test_a_purge_of_another_scope_leaves_it_alone(self, shelf: Shelf) -> None:
        await stored(shelf)
        receipt = await shelf.blobs.purge(key_scope("other"))
        assert receipt.matched == 0
        assert await has(shelf)

    @pytest.mark.parametrize("scope", SCOPES)
    async def test_a_reply_that_was_asked_for_before_a_purge_is_not_stored_after_it(
        self, shelf: Shelf, scope: str
    ) -> None:
        made = await entry(shelf)
        await shelf.blobs.purge(scope)
        assert not await shelf.blobs.put(KEY, made)
        assert not await has(shelf)

    async def test_what_is_asked_for_after_a_purge_is_stored_again(self, shelf: Shelf) -> None:
        await stored(shelf)
        await shelf.blobs.purge(SCOPES[1])
        await stored(shelf)
        assert await has(shelf)

    async def test_each_purge_has_a_later_epoch(self, shelf: Shelf) -> None:
        first = await shelf.blobs.purge(SCOPES[1])
        second = await shelf.blobs.purge(SCOPES[1])
        assert second.epoch > first.epoch

    async def test_all_of_many_entries_are_removed(self, shelf: Shelf) -> None:
        keys = [number.to_bytes(32, "big") for number in range(700)]
        for number, key in enumerate(keys):
            scopes = (entry_scope(key), key_scope("a" if number % 7 else "b"))
            await stored(shelf, key, scopes=scopes, body=b"x")
        receipt = await shelf.blobs.purge(key_scope("a"))
        assert (receipt.matched, receipt.is_complete) == (600, True)
        assert [key for key in keys if await has(shelf, key)] == keys[::7]

    async def test_an_entry_with_epochs_of_nowhere_is_not_taken(self, shelf: Shelf) -> None:
        made = await entry(shelf)
        assert made.epochs
        assert not await shelf.blobs.put(KEY, replace(made, epochs=tuple(epoch + 1 for epoch in made.epochs)))

    async def test_releasing_what_nobody_holds_is_no_fault(self, shelf: Shelf) -> None:
        await shelf.blobs.release(KEY)
        assert (await shelf.blobs.find(KEY, SCOPES, 1.0)).leads
