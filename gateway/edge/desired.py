"""What every process is to serve: a configuration, and the overrides that operators have put over it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gateway.assembly.prices import is_known
from gateway.config.load import Loaded, Sources, load
from gateway.store.base import Override


@dataclass(frozen=True, slots=True)
class Desired:
    """A configuration and its overrides, by name. Two with the same `id` are served alike."""

    loaded: Loaded
    overrides: Mapping[str, Override] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The configuration's revision, with a digest of the overrides where there are any."""
        if not self.overrides:
            return self.loaded.revision
        ordered = [self.overrides[name] for name in sorted(self.overrides)]
        return f"{self.loaded.revision}+{hashlib.sha256(msgspec.msgpack.encode(ordered)).hexdigest()[:8]}"

    def dump(self) -> bytes:
        """All of it as bytes, for another process of this version; holds secrets."""
        return msgspec.msgpack.encode([self.loaded.sources.dump(), list(self.overrides.values())])


def restore(dumped: bytes) -> Desired:
    """What `dump` wrote. Raises ConfigError where the sources are not sound."""
    sources, overrides = msgspec.msgpack.decode(dumped, type=tuple[bytes, list[Override]])
    return Desired(load(Sources.restore(sources), is_known), {override.name: override for override in overrides})


def shown(override: Override) -> dict[str, Any]:
    """An override as the admin API shows it."""
    shown: dict[str, Any] = msgspec.to_builtins(override)
    return shown
