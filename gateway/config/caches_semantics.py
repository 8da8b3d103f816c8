"""What is wrong or doubtful about caches as a whole: who could share, and what would fit."""

from collections.abc import Mapping

from gateway.config.document import Path, Value
from gateway.config.faults import did_you_mean
from gateway.config.merge import Merged
from gateway.config.schema import Cache, RouteCache
from gateway.config.similarity_semantics import check_embedder, check_semantic
from gateway.config.units import UnitError, parse_size, show_size


def check_caches(merged: Merged) -> None:
    """Write into `merged` what is wrong with the caches of routes, and with the room for them."""
    room = merged.section("cache")
    if room.get("persist") is True and isinstance(merged.values.get("store"), dict):
        message = "`persist` means nothing with a Redis, which keeps the replies itself"
        merged.doubt(("cache", "persist"), message, "remove it")
    tags = [tag for path, _ in merged.items("keys") for tag in merged.section(*path, "tags")]
    uses = False
    for path, _ in merged.items("routes"):
        cache = merged.section(*path, "cache")
        if not cache:
            continue
        uses = True
        _check_share(merged, (*path, "cache", "share"), cache.get("share"), tags)
        _check_room(merged, path, cache, room)
        check_semantic(merged, (*path, "cache", "semantic"), cache.get("semantic"))
    check_embedder(merged)
    if room and not uses:
        merged.doubt(("cache",), "no route has a cache: this room stays empty", "add cache: {exact: 1h} to a route")


def _check_share(merged: Merged, path: Path, share: Value, tags: list[str]) -> None:
    # By the key's own tag alone: one that a request brings in its header proves nothing.
    if share in ("team", "tenant") and share not in tags:
        message = f"no key has the tag `{share}`: every key has its own replies, as with `share: key`"
        # `team` is no misspelt `tenant`.
        others = [tag for tag in tags if tag not in ("team", "tenant")]
        advice = did_you_mean(str(share), others) or f"add {share} to the `tags` of keys"
        merged.doubt(path, message, advice)


def _check_room(merged: Merged, path: Path, cache: Mapping[str, Value], room: Mapping[str, Value]) -> None:
    """A reply that is larger than all the room would never be kept."""
    max_entry = cache.get("max_entry", show_size(RouteCache.model_fields["max_entry"].default))
    max_bytes = room.get("max_bytes", show_size(Cache().max_bytes))
    try:
        fits = parse_size(max_entry) < parse_size(max_bytes)
    except UnitError:
        return
    if not fits:
        place: Path = (*path, "cache", "max_entry") if "max_entry" in cache else ("cache", "max_bytes")
        message = f"a reply of {max_entry} does not fit into `cache.max_bytes`, {max_bytes}"
        merged.fault(place, message, "write a smaller `max_entry`, or more room")
