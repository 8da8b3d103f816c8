"""What no single setting shows: references, duplicates, exposures, and settings that contradict each other.

Works on the merged values as far as they are sound, so that one mistake does not hide the others.
"""

from pydantic_core import PydanticCustomError

from gateway.config.caches_semantics import check_caches
from gateway.config.document import Path
from gateway.config.endpoints import Address, parse_address
from gateway.config.faults import did_you_mean
from gateway.config.limits_semantics import PriceKnown, check_limits
from gateway.config.merge import Merged
from gateway.config.routes_semantics import check_routes
from gateway.config.secret import Reference
from gateway.config.upstreams import check_targets

_DEFAULT_ADDRESSES = {"listen": Address("127.0.0.1", 8080), "admin": Address("127.0.0.1", 8081)}

RESERVED = {
    "open": "of callers without a key",
    "shadow": "under which shadows count",
    "judge": "under which judges of the cache count",
    "embedder": "under which embeddings for the cache count",
}
"""Consumers that are no key."""


def check(merged: Merged, price_known: PriceKnown | None = None) -> None:
    """Write into `merged` every error and warning that takes more than one setting to see.

    `price_known` is that of `check_limits`.
    """
    listen, admin = _address(merged, "listen"), _address(merged, "admin")
    _check_listeners(merged, listen, admin)
    _check_default_route(merged)
    _check_keys(merged)
    check_targets(merged, listen)
    check_routes(merged)
    check_limits(merged, price_known)
    check_caches(merged)
    _check_store(merged)
    _check_webhooks(merged)


def _address(merged: Merged, name: str) -> Address | None:
    """An address of `server`; None when it is not one."""
    try:
        return parse_address(merged.section("server").get(name, _DEFAULT_ADDRESSES[name]))
    except PydanticCustomError:
        return None


def _check_listeners(merged: Merged, listen: Address | None, admin: Address | None) -> None:
    token = merged.section("server").get("admin_token")
    if isinstance(token, Reference) and not token.problem and token.value is None:
        advice = "set it; without a token the admin plane stays on loopback"
        merged.fault(("server", "admin_token"), f"{token} is not set", advice)
    if admin is not None and not admin.is_loopback and token is None:
        advice = "add `admin_token: env:GATEWAY_ADMIN_TOKEN`, or listen on 127.0.0.1"
        merged.fault(("server", "admin"), f"the admin plane at {admin} has no token", advice)
    if merged.values.get("keys", "open") == "open" and listen is not None and not listen.is_loopback:
        message = f"without keys anybody who reaches {listen} may call"
        merged.fault(("server", "listen"), message, "list `keys`, or listen on 127.0.0.1")
    if listen is not None and listen == admin and listen.port != 0:
        merged.fault(("server", "admin"), f"both planes listen at {listen}", "give the admin plane another port")


def _check_default_route(merged: Merged) -> None:
    default = merged.section("server").get("default_route")
    models = [str(route["model"]) for _, route in merged.items("routes") if "model" in route]
    if isinstance(default, str) and default not in models:
        advice = did_you_mean(default, models) or "write the `model` of a route as it stands there"
        merged.fault(("server", "default_route"), f"there is no route `{default}`", advice)


def _check_keys(merged: Merged) -> None:
    keys = merged.values.get("keys")
    if not isinstance(keys, tuple):
        return
    if not keys:
        merged.doubt(("keys",), "the list of keys is empty: nobody may call", "add a key")
    ids: dict[str, Path] = {}
    hashes: dict[str, Path] = {}
    for index in range(len(keys)):
        key = merged.section("keys", index)
        name, digest = key.get("id"), key.get("hash")
        if isinstance(name, str) and name in RESERVED:
            merged.fault(("keys", index, "id"), f"`{name}` is the name {RESERVED[name]}", "choose another id")
        if isinstance(name, str):
            merged.once(ids, name, ("keys", index, "id"), f"key `{name}` is given twice")
        if isinstance(digest, str):
            merged.once(hashes, digest.lower(), ("keys", index, "hash"), "two keys have the same hash")


def _check_store(merged: Merged) -> None:
    store = merged.values.get("store")
    redis = merged.section("store").get("redis")
    if isinstance(store, dict) and "redis" not in store:
        merged.fault(("store",), "`redis` is missing", "write redis: env:REDIS_URL, or `store: memory`")
    if isinstance(redis, Reference) and not redis.problem and redis.value is None:
        advice = "set it, or write `store: memory`"
        merged.fault(("store", "redis"), f"{redis} is not set: limits would count nothing", advice)


def _check_webhooks(merged: Merged) -> None:
    for path, webhook in merged.items("webhooks"):
        secrets = {(*path, "url"): webhook.get("url")}
        secrets |= {(*path, "headers", name): value for name, value in merged.section(*path, "headers").items()}
        for place, secret in secrets.items():
            if isinstance(secret, Reference) and not secret.problem and secret.value is None:
                merged.doubt(place, f"{secret} is not set: this webhook is told nothing", "set it")
