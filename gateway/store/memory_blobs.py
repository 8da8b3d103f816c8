"""Stored replies of one process, in memory: the one longest unused makes room."""

import asyncio
from collections import OrderedDict

from gateway.core.clock import Clock
from gateway.store.blobs import Entry, Found, Receipt

MAX_ENTRY_EPOCHS = 10_000
"""Purges of single entries that are remembered; each is needed only as long as a request runs."""
_LOOKED_AT_ONCE = 2_000
_ENTRY = "entry:"


class MemoryBlobs:
    """See Blobs. At most `max_bytes` of entries, counted with about 1 KiB for each besides its body."""

    def __init__(self, max_bytes: int, clock: Clock) -> None:
        self._max_bytes = max_bytes
        self._wall = clock.wall
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self._epochs: dict[str, int] = {}
        self._entry_epochs: OrderedDict[str, int] = OrderedDict()
        self._last_epoch = 0
        self._size_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def is_shared(self) -> bool:
        """See Blobs. Never."""
        return False

    @property
    def size_bytes(self) -> int:
        """See Blobs."""
        return self._size_bytes

    async def find(self, key: bytes, scopes: tuple[str, ...], lease_s: float = 0.0) -> Found:
        """See Blobs. There is no fleet here, so whoever asks leads."""
        entry = self._entries.get(key)
        if entry is not None:
            if self._wall() < entry.stored_s + entry.ttl_s and self._are_in_force(entry):
                self._entries.move_to_end(key)
                return Found(entry, entry.epochs)
            self.remove(key)
        return Found(None, self.epochs_of(scopes))

    async def put(self, key: bytes, entry: Entry) -> bool:
        """See Blobs."""
        return self.keep(key, entry)

    async def release(self, key: bytes) -> None:
        """See Blobs. There is nothing to release."""

    async def purge(self, scope: str) -> Receipt:
        """See Blobs. The bodies are removed in slices: other requests run between them."""
        epoch = self.bump(scope)
        keys = list(self._entries)
        matched = 0
        for start in range(0, len(keys), _LOOKED_AT_ONCE):
            for key in keys[start : start + _LOOKED_AT_ONCE]:
                entry = self._entries.get(key)
                if entry is not None and scope in entry.scopes and not self._are_in_force(entry):
                    self.remove(key)
                    matched += 1
            await asyncio.sleep(0)
        return Receipt(scope, epoch, matched)

    def keep(self, key: bytes, entry: Entry) -> bool:
        """As `put`, at once. Of an entry larger than all the room nothing is kept."""
        size_bytes = entry.size_bytes
        if size_bytes > self._max_bytes or not self._are_in_force(entry):
            return False
        self.remove(key)
        self._entries[key] = entry
        self._size_bytes += size_bytes
        while self._size_bytes > self._max_bytes:
            self.remove(next(iter(self._entries)))
        return True

    def remove(self, key: bytes) -> None:
        """Forget an entry, if there is one. All that leaves goes this way."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._size_bytes -= entry.size_bytes

    def bump(self, scope: str) -> int:
        """The scope's new epoch; what has an older one is a miss from here on."""
        self._last_epoch += 1
        if scope.startswith(_ENTRY):
            self._entry_epochs[scope] = self._last_epoch
            if len(self._entry_epochs) > MAX_ENTRY_EPOCHS:
                self._entry_epochs.popitem(last=False)
        else:
            self._epochs[scope] = self._last_epoch
        return self._last_epoch

    def epochs_of(self, scopes: tuple[str, ...]) -> tuple[int, ...]:
        """The present epochs; 0 for what was never purged."""
        if self._last_epoch == 0:
            return (0,) * len(scopes)
        return tuple([self._epoch(scope) for scope in scopes])

    def _epoch(self, scope: str) -> int:
        return self._entry_epochs.get(scope, 0) if scope.startswith(_ENTRY) else self._epochs.get(scope, 0)

    def _are_in_force(self, entry: Entry) -> bool:
        return self.epochs_of(entry.scopes) == entry.epochs
