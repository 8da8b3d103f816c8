"""What no single setting shows: references, duplicates, exposures, and settings that contradict each other.

Works on the merged values as far as they are sound, so that one mistake does not hide the others.
"""

import re
from collections.abc import Iterator, Mapping

from pydantic_core import PydanticCustomError

from gateway.config.document import Path, Value
from gateway.config.endpoints import Address, parse_address
from gateway.config.faults import did_you_mean
from gateway.config.merge import Merged
from gateway.config.secret import Reference
from gateway.config.upstreams import check_targets

_DEFAULT_ADDRESSES = {"listen": Address("127.0.0.1", 8080), "admin": Address("127.0.0.1", 8081)}


def check(merged: Merged) -> None:
    """Write into `merged` every error and warning that takes more than one setting to see."""
    listen, admin = _address(merged, "listen"), _address(merged, "admin")
    _check_listeners(merged, listen, admin)
    _check_default_route(merged)
    _check_keys(merged)
    check_targets(merged, listen)
    _check_routes(merged)


def canonical(pattern: str) -> str:
    """One text for all globs that match the same names: `*?` and `?**` are both `?*`."""
    return re.sub(r"[*?]+", lambda run: "?" * run[0].count("?") + "*" * ("*" in run[0]), pattern)


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
    models = [str(route["model"]) for _, route in _routes(merged) if "model" in route]
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
        if name == "open":
            merged.fault(("keys", index, "id"), "`open` is the name of callers without a key", "choose another id")
        if isinstance(name, str):
            _once(merged, ids, name, ("keys", index, "id"), f"key `{name}` is given twice")
        if isinstance(digest, str):
            _once(merged, hashes, digest.lower(), ("keys", index, "hash"), "two keys have the same hash")


def _check_routes(merged: Merged) -> None:
    if merged.values.get("routes", ()) == ():
        merged.doubt(("routes",), "there are no routes: every request is answered 404", "add `routes`")
    seen: dict[str, Path] = {}
    for path, route in _routes(merged):
        model = route.get("model")
        if isinstance(model, str):
            _once(merged, seen, canonical(model), (*path, "model"), f"route `{model}` is given twice")
        if "target" in route and "split" in route:
            merged.fault_at_key((*path, "split"), "`target` and `split` exclude each other", "keep one")
        elif "target" not in route and "split" not in route:
            merged.fault(path, "the route has neither `target` nor `split`", "add target: NAME")
        target = route.get("target")
        targets = merged.section("targets")
        if isinstance(target, str) and target not in targets:
            merged.fault((*path, "target"), f"there is no target `{target}`", _closest(target, targets))
        _check_split(merged, (*path, "split"))


def _check_split(merged: Merged, path: Path) -> None:
    split, targets = merged.section(*path), merged.section("targets")
    for name in split:
        if name not in targets:
            merged.fault_at_key((*path, name), f"there is no target `{name}`", _closest(name, targets))
    if isinstance(merged.section(*path[:-1]).get("split"), dict) and not any(split.values()):
        merged.fault(path, "the weights of `split` add up to 0", "give one target more than 0")
    providers = {merged.section("targets", name).get("provider") for name in split}
    if "anthropic" in providers and providers & {"openai", "azure"}:
        message = "`split` mixes dialects: a request in one is answered 400 by a target of the other"
        merged.doubt(path, message, "split between targets of one dialect")


def _closest(name: str, known: Mapping[str, Value]) -> str:
    return did_you_mean(name, known) or "define it in `targets`"


def _once(merged: Merged, seen: dict[str, Path], name: str, path: Path, message: str) -> None:
    if name not in seen:
        seen[name] = path
        return
    first = merged.place(seen[name])
    merged.fault(path, message, f"first at {first.file}:{first.line}; keep one")


def _routes(merged: Merged) -> Iterator[tuple[Path, Mapping[str, Value]]]:
    """The routes that are mappings, each with its path."""
    routes = merged.values.get("routes")
    for index, route in enumerate(routes if isinstance(routes, tuple) else ()):
        if isinstance(route, dict):
            yield ("routes", index), route
