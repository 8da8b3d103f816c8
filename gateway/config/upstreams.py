"""What is wrong or doubtful about targets as a whole, and about the secrets that are not set."""

import re
import ssl
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

from pydantic_core import PydanticCustomError

from gateway.config.document import Path, Value
from gateway.config.endpoints import Address, is_loopback, looks_secret, parse_url
from gateway.config.faults import Place, warning
from gateway.config.merge import Merged
from gateway.config.secret import Reference
from gateway.config.targets import Breaker
from gateway.config.units import UnitError, parse_duration, show_duration

_BASE_URLS = {
    "openai": "https://api.openai.com/v1, or where the server is",
    "azure": "https://RESOURCE.openai.azure.com",
    "anthropic": "https://api.anthropic.com",
}
_OPENAI_ENDS = re.compile(r"/v[0-9]+(beta|alpha)?[0-9]*$|/openai$")


def check_targets(merged: Merged, listen: Address | None) -> None:
    """Write into `merged` what is wrong with the targets; `listen` is where the gateway itself will be."""
    for name in merged.section("targets"):
        target, path = merged.section("targets", name), ("targets", name)
        if not target:
            continue
        _check_provider(merged, path, target)
        _check_url(merged, path, target, listen)
        _check_headers(merged, path)
        _check_timeouts(merged, path)
        _check_price(merged, path, target)
        _check_bounds(merged, path, target)
        _check_coalesce(merged, path, target)
    _check_unset(merged)


def check_ca(content: bytes) -> str:
    """Why a file of certificates cannot be used; empty when it can."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=content.decode("ascii"))
    except (ssl.SSLError, UnicodeDecodeError):
        return "holds no usable PEM certificate"
    return ""


def _check_provider(merged: Merged, path: Path, target: Mapping[str, Value]) -> None:
    provider = target.get("provider")
    if provider in _BASE_URLS and "base_url" not in target and not merged.is_orphan(str(path[-1])):
        merged.fault_at_key(path, "`base_url` is missing", f"write {_BASE_URLS[str(provider)]}")
    for setting, owner in (("api_version", "azure"), ("anthropic_version", "anthropic")):
        if setting in target and provider in {"openai", "azure", "anthropic", "mock"} - {owner}:
            place = merged.key_place((*path, setting))
            merged.faults.append(warning(place, f"`{setting}` is only for `provider: {owner}`", "remove it"))
    model = target.get("model")
    if isinstance(model, str) and not re.fullmatch(r"[!-~]+", model):
        merged.fault((*path, "model"), "`model`: a model's name has no spaces, controls or accents")
    elif provider == "azure" and isinstance(model, str) and not re.fullmatch(r"[A-Za-z0-9._-]+", model):
        merged.fault((*path, "model"), f'"{model[:80]}" is not the name of an Azure deployment')


def _check_url(merged: Merged, path: Path, target: Mapping[str, Value], listen: Address | None) -> None:
    place = (*path, "base_url")
    try:
        url = urlsplit(parse_url(target.get("base_url")))
    except PydanticCustomError:
        return
    provider, host = target.get("provider"), url.hostname or ""
    if provider in {"azure", "anthropic"} and url.path:
        if re.search(r"/(v1|openai)(/|$)", url.path):
            advice = f"write {url.scheme}://{url.netloc}"
            merged.fault(place, f"`base_url` of `{provider}` is the host alone, without {url.path}", advice)
        else:
            message = f"requests go below {url.path}; `base_url` of `{provider}` is usually the host alone"
            merged.doubt(place, message, f"{url.scheme}://{url.netloc}")
    if provider == "openai" and not _OPENAI_ENDS.search(url.path):
        message = "`base_url` of `openai` usually ends in /v1"
        merged.doubt(place, message, f"{url.geturl()}/v1")
    if url.scheme == "http" and "api_key" in target and not is_loopback(host):
        merged.doubt(place, f"the API key goes to {host} unencrypted", "use https")
    if listen is not None and _is_own(url, listen):
        merged.fault(place, f"this is the gateway's own address {listen}", "name the provider's")


def _is_own(url: SplitResult, listen: Address) -> bool:
    port = url.port or (443 if url.scheme == "https" else 80)
    host = url.hostname or ""
    is_same_host = host == listen.host or (
        is_loopback(host) and (listen.is_loopback or listen.host in {"0.0.0.0", "::"})
    )
    return is_same_host and port == listen.port


def _check_headers(merged: Merged, path: Path) -> None:
    seen: set[str] = set()
    for name, value in merged.section(*path, "headers").items():
        place = (*path, "headers", name)
        if name.lower() in seen:
            merged.fault_at_key(place, f"header `{name}` is given twice", "upper and lower case are the same; keep one")
        seen.add(name.lower())
        if not isinstance(value, Reference) and looks_secret(name):
            message = f"header `{name}` looks like a secret, and one is not written in the file"
            merged.fault(place, message, "use env:NAME or file:PATH")


def _check_timeouts(merged: Merged, path: Path) -> None:
    timeouts = merged.section(*path, "timeouts")
    try:
        total_s = parse_duration(timeouts.get("total", "600s"))
        for name in ("connect", "first_token", "idle"):
            if name in timeouts and parse_duration(timeouts[name]) > total_s:
                message = f"`{name}` is longer than `total`, and never reached"
                merged.doubt(
                    (*path, "timeouts", name),
                    message,
                    f"shorten it, or lengthen `total` ({timeouts.get('total', '10m')})",
                )
    except UnitError:
        return


def _check_price(merged: Merged, path: Path, target: Mapping[str, Value]) -> None:
    price, place = target.get("price"), (*path, "price")
    if not isinstance(price, dict):
        return
    if not price:
        merged.fault(place, "`price` has no price", "write {input: $2.00, output: $8.00}")
    for one, other in (("input", "output"), ("output", "input")):
        if one in price and other not in price:
            message = f"`price` has no `{other}`: those tokens count as free"
            merged.doubt(place, message, f"add {other}: $8.00, or {other}: $0 if it is so")


def _check_bounds(merged: Merged, path: Path, target: Mapping[str, Value]) -> None:
    if isinstance(target.get("queue"), dict) and "max_inflight" not in target:
        merged.doubt((*path, "queue"), "`queue` means nothing without `max_inflight`", "add max_inflight: 200")
    breaker = merged.section(*path, "breaker")
    try:
        open_for_s = parse_duration(breaker.get("open_for", show_duration(Breaker().open_for)))
        longest_s = parse_duration(breaker.get("max_open_for", show_duration(Breaker().max_open_for)))
    except UnitError:
        return
    if open_for_s > longest_s:
        name = "open_for" if "open_for" in breaker else "max_open_for"
        message = f"`open_for` is longer than `max_open_for`, {show_duration(longest_s)}"
        merged.fault((*path, "breaker", name), message, "shorten it, or lengthen `max_open_for`")


def _check_coalesce(merged: Merged, path: Path, target: Mapping[str, Value]) -> None:
    if isinstance(target.get("coalesce"), dict) and target.get("provider") == "anthropic":
        merged.fault((*path, "coalesce"), "`coalesce` is about embeddings, and `anthropic` has none", "remove it")


def _check_unset(merged: Merged) -> None:
    """One warning for each line whose variable is not set, naming the targets that it keeps out of service."""
    waiting: dict[tuple[Place, str], list[str]] = {}
    for name in merged.section("targets"):
        target = merged.section("targets", name)
        headers = merged.section("targets", name, "headers")
        secrets: list[tuple[Path, Value]] = [(("targets", name, "api_key"), target.get("api_key"))]
        secrets += [(("targets", name, "headers", header), value) for header, value in headers.items()]
        for path, secret in secrets:
            if _is_unset(secret):
                waiting.setdefault((merged.place(path), str(secret)), []).append(name)
    for (place, source), names in waiting.items():
        listed = ", ".join(f"`{name}`" for name in names[:5]) + (
            f" and {len(names) - 5} more" if len(names) > 5 else ""
        )
        stay = "target {} stays" if len(names) == 1 else "targets {} stay"
        merged.faults.append(warning(place, f"{source} is not set: {stay.format(listed)} out of service", "set it"))
    traces = merged.section("telemetry", "traces")
    if _is_unset(traces.get("otlp")):
        merged.doubt(("telemetry", "traces", "otlp"), f"{traces['otlp']} is not set: no traces are exported", "set it")
    for header, value in merged.section("telemetry", "traces", "headers").items():
        if _is_unset(value):
            message = f"{value} is not set: traces are exported without `{header}`"
            merged.doubt(("telemetry", "traces", "headers", header), message, "set it")


def _is_unset(value: Value) -> bool:
    return isinstance(value, Reference) and not value.problem and value.value is None
