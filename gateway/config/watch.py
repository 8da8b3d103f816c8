"""Whether the files of a configuration have changed, by looking.

Looking beats being told: inotify misses network file systems and sees half-written files. What is compared is what an
editor's rename, truncate-and-write and a Kubernetes `..data` swap all change: where the path really leads, the inode,
size and time of change. A difference counts once it has stayed the same for one more look, so that a file is not
read while it is being written.
"""

from pathlib import Path

from gateway.config.sources import Signature, Sources, included, signature

_Look = dict[str, Signature]
_PATIENCE = 3
"""Looks after which a file that never comes to rest is read all the same."""


class Watcher:
    """Looks at the files of `sources` each time it is asked. `interval_s` is how often the owner should ask."""

    def __init__(self, sources: Sources, interval_s: float = 0.25) -> None:
        self.interval_s = interval_s
        self._sources = sources
        self._accepted: _Look = sources.signatures
        self._last: _Look = sources.signatures
        self._unrest = 0

    def changed(self) -> bool:
        """True once for each change, when it has stayed the same for two looks. One `stat` a file, no reading."""
        now = self._look()
        if now == self._accepted:
            self._last, self._unrest = now, 0
            return False
        self._unrest += 1
        is_settled = now == self._last or self._unrest >= _PATIENCE
        self._last = now
        if is_settled:
            self._accepted, self._unrest = now, 0
        return is_settled

    def follow(self, sources: Sources) -> None:
        """Watch the files of `sources` from now on: what was read last, sound or not. Later changes count."""
        self._sources = sources
        self._accepted = self._last = sources.signatures
        self._unrest = 0

    def _look(self) -> _Look:
        names = list(self._sources.signatures)
        for pattern in self._sources.includes:
            names += included(Path(self._sources.root), pattern)
        return {name: signature(name) for name in names}
