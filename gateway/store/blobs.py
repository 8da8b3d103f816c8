"""Replies that are kept to be given again: what one is, who may find it, and how it is made to disappear.

Theory of operation. An entry stands under its key, which is a digest of everything that makes two
requests the same. Beside it stand its *scopes*: whose key filled it, the tags of that request, its
route, its prompt's version, and itself. Each scope has an *epoch*, and an entry carries the epochs that
were in force before the model was asked. To purge a scope is to change its epoch: from that moment every
entry with an older one is a miss, whatever still lies in memory or in Redis, and so is the reply that is
being written meanwhile. The bodies are removed after.

A store that does not answer is no error here: nothing is found, and nothing is kept.
"""

from typing import Protocol

from msgspec import Struct

MAX_LEASE_S = 300.0
"""No lease is longer."""
_OVERHEAD_BYTES = 1024
"""What an entry takes besides its body, about: measured 700 to 1,100 with four scopes."""


class Entry(Struct, frozen=True, array_like=True):
    """One stored reply, always a whole one of status 200."""

    body: bytes
    """As the provider's own whole reply; a stream is stored as the whole reply that it came to."""
    content_type: bytes
    stored_s: float
    """Unix seconds."""
    ttl_s: float
    target: str
    """Configured name of the target that gave it."""
    model_served: str | None
    response_id: str | None
    finish_reasons: tuple[str, ...]
    input_tokens: int | None
    output_tokens: int | None
    cost_nusd: int | None
    """What it cost when it was bought; None when that was not known."""
    filled_by: str
    """Id of the key whose request filled it."""
    request_id: str
    scopes: tuple[str, ...]
    epochs: tuple[int, ...]
    """Of the scopes, in their order, from before the model was asked."""
    share: str = ""
    """Who may be given it: `key=...`, `team=...` or `tenant=...`."""

    def __repr__(self) -> str:
        return f"Entry(***, {len(self.body)} bytes, target={self.target!r}, request_id={self.request_id!r})"

    @property
    def size_bytes(self) -> int:
        """What it takes of the room there is."""
        return len(self.body) + _OVERHEAD_BYTES

    def age_s(self, wall_s: float) -> float:
        """How old it is; at least 0, for it may come from a machine whose clock is ahead."""
        return max(0.0, wall_s - self.stored_s)


class Found(Struct, frozen=True):
    """The answer to a look-up."""

    entry: Entry | None
    epochs: tuple[int, ...] | None
    """Of the scopes that were asked with, to be stored with the reply. None: the store did not answer."""
    leads: bool = True
    """Whether this process is the one of the fleet that should ask the model; True where nobody can tell."""


class Receipt(Struct, frozen=True):
    """What a purge has done."""

    scope: str
    epoch: int
    """The scope's new one, in force since before this was written."""
    matched: int
    """Entries that were removed."""
    is_complete: bool = True
    """Whether all of them are; the others are misses already, and go at their time."""


class Purging(Protocol):
    """Where an operator has entries removed."""

    async def purge(self, scope: str) -> Receipt:
        """Make every entry of `scope` (as from `purge_scope`) a miss, at once, and then remove it.

        Raises StoreUnavailable when the store did not take it for good: it has to be asked again.
        """
        ...


class Blobs(Purging, Protocol):
    """Entries by key. `find`, `put` and `release` never fail, and take a bounded time."""

    @property
    def is_shared(self) -> bool:
        """Whether other processes see the same entries, so that `put` and `release` have a way to go."""
        ...

    @property
    def size_bytes(self) -> int:
        """Bytes of the entries in this process."""
        ...

    async def find(self, key: bytes, scopes: tuple[str, ...], lease_s: float = 0.0) -> Found:
        """The entry under `key`, unless it is too old or purged; else the present epochs of `scopes`.

        With `lease_s` a miss asks at the same time to be the one of the fleet that fills it, for so long
        (at most `MAX_LEASE_S`), until `put` or `release`.
        """
        ...

    async def put(self, key: bytes, entry: Entry) -> bool:
        """Keep an entry for its `ttl_s`, and end this process's lease. Whether it was taken.

        It is not when one of its epochs is no longer in force.
        """
        ...

    async def release(self, key: bytes) -> None:
        """End this process's lease on `key` without an entry."""
        ...


def key_scope(key_id: str) -> str:
    """Everything that requests with this client key have filled."""
    return f"key:{key_id}"


def tag_scope(name: str, value: str) -> str:
    """Everything that requests with this tag have filled."""
    return f"tag:{name}={value}"


def route_scope(route: str) -> str:
    """Everything of a route, by its configured name."""
    return f"route:{route}"


def prompt_scope(name: str, version: str) -> str:
    """Everything that requests with this version of a prompt have filled."""
    return f"prompt:{name}@{version}"


def entry_scope(key: bytes) -> str:
    """One entry."""
    return f"entry:{key.hex()}"


def purge_scope(
    *,
    key: str | None = None,
    tag: str | None = None,
    route: str | None = None,
    prompt_version: str | None = None,
    entry: str | None = None,
) -> str:
    """The scope that one of these names: a key's id, `name=value`, a route, `name@version`, an entry's id.

    Raises ValueError, with a message for whoever asked, unless exactly one is given, in its form.
    """
    given = {
        "key": key,
        "tag": tag,
        "route": route,
        "prompt_version": prompt_version,
        "entry": entry,
    }
    named = [(kind, value) for kind, value in given.items() if value]
    if len(named) != 1:
        raise ValueError(f"give exactly one of {', '.join(given)}")
    kind, value = named[0]
    if kind == "tag" and not all(value.partition("=")[::2]):
        raise ValueError("a tag is written name=value")
    if kind == "prompt_version":
        if not all(value.rpartition("@")[::2]):
            raise ValueError("a prompt's version is written name@version")
        return f"prompt:{value}"
    if kind == "entry":
        # What came with a reply has more behind it: how the reply was found.
        value = value.lower().partition("-")[0]
        if len(value) != 64 or value.strip("0123456789abcdef"):
            raise ValueError("an entry's id is 64 hexadecimal digits")
    return f"{kind}:{value}"
