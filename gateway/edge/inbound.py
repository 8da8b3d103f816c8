"""What the data plane reads from a request's head: one pass over the headers, then strict small parsers."""

import random
import re
from collections.abc import Sequence

from gateway.core.errors import Headers, InvalidRequest, LoopDetected
from gateway.core.exchange import Exchange

MAX_HOPS = 4
"""Gateways in a row that are still taken for a chain; more are a loop (F45)."""

_ONCE = frozenset({b"host", b"authorization", b"x-api-key", b"api-key", b"content-type", b"content-length"})

Found = dict[bytes, bytes]
TWICE = b":twice"
"""In `Found`, where a header stands that came more than once; no header has a colon in its name."""

_USUAL_NAMES = (
    b"accept accept-encoding accept-language anthropic-beta anthropic-version api-key authorization cache-control "
    b"connection content-length content-type cookie host http-referer idempotency-key openai-beta origin referer "
    b"traceparent tracestate user-agent x-api-key x-forwarded-for x-forwarded-host x-forwarded-proto "
    b"x-gateway-prompt x-gateway-tags x-real-ip x-request-id x-stainless-arch x-stainless-async x-stainless-helper "
    b"x-stainless-lang x-stainless-os x-stainless-package-version x-stainless-read-timeout x-stainless-retry-count "
    b"x-stainless-runtime x-stainless-runtime-version x-stainless-timeout x-title"
).split()
KNOWN_NAMES = {spelling: name for name in _USUAL_NAMES for spelling in (name, name.title(), name.upper())}
"""Usual names as they come, to their lower case: one object for all requests, whose hash is known."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_PROMPT = re.compile(rb"([A-Za-z0-9._/-]{1,128})@([A-Za-z0-9._-]{1,64})")
_TAG = re.compile(r"\s*([A-Za-z][A-Za-z0-9_.-]{0,63})\s*=\s*([^\x00-\x1f\x7f,]{0,128}?)\s*")
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
_LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
_MAX_TAGS = 16
_REMEMBERED_HOSTS = 1024


def pick(headers: Headers) -> Found:
    """The headers by name; of repeated ones the last.

    `TWICE` names one that must not be repeated; two of `traceparent` are none, several of `tracestate` a list (F128).
    """
    found: Found = dict(headers)
    if len(found) != len(headers):
        found.clear()
        for name, value in headers:
            found[name] = _again(found, name, value) if name in found else value
    return found


def _again(found: Found, name: bytes, value: bytes) -> bytes:
    """What stands for a header that comes once more with `value`."""
    if name in _ONCE:
        found[TWICE] = name
    elif name == b"traceparent":
        # Two parents are none: the trace begins anew (Trace Context, 2.2).
        return b""
    elif name == b"tracestate":
        return found[name] + b"," + value
    return value


def require_sound(found: Found) -> None:
    """Raise InvalidRequest for a head that two parsers could read differently: no Host, or one header twice."""
    if b"host" not in found:
        raise InvalidRequest("The request has no Host header.")
    if TWICE in found:
        raise InvalidRequest(f"The header {found[TWICE].decode()} was sent more than once.")


class HostGate:
    """Which Host values are served. `None` allows any well-formed one.

    A gateway that asks for no key on loopback serves loopback names only: a web page whose name was
    re-bound to 127.0.0.1 must not drive it.
    """

    def __init__(self, allowed: frozenset[str] | None) -> None:
        self._allowed = allowed
        self.known: set[bytes] = set()
        """Values that were let in before; not many."""

    def require(self, host: bytes) -> None:
        """Raise InvalidRequest unless `host` is well-formed and allowed."""
        match = _HOST.fullmatch(host.decode("latin-1"))
        if match is None:
            raise InvalidRequest("The Host header is malformed.")
        if self._allowed is not None and not self._is_allowed(match.group(1).lower()):
            raise InvalidRequest(
                f"The Host {match.group(1)!r} is not served here. Add it to server.allowed_hosts to allow it.",
                code="host_not_allowed",
            )
        if len(self.known) < _REMEMBERED_HOSTS:
            self.known.add(host)

    def _is_allowed(self, name: str) -> bool:
        allowed = self._allowed or frozenset()
        return name in allowed or f"*.{name.partition('.')[2]}" in allowed


def host_gate(allowed_hosts: Sequence[str], is_open: bool) -> HostGate:
    """The gate for a listener: the configured names, else loopback names if anybody may call, else any."""
    if allowed_hosts:
        return HostGate(frozenset(host.lower() for host in allowed_hosts) | _LOOPBACK_HOSTS)
    return HostGate(_LOOPBACK_HOSTS if is_open else None)


def request_id(found: Found, rng: random.Random) -> str:
    """The client's own correlation id when it is harmless (F93), else a fresh one."""
    given = found.get(b"x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given.decode("ascii")
    return f"req-{rng.getrandbits(96):024x}"


def read_optional(exchange: Exchange, found: Found) -> None:
    """Fill in prompt, time limit and hops. Raises InvalidRequest and LoopDetected."""
    exchange.request.hops = read_hops(found)
    read_prompt(exchange, found)
    timeout_s = read_timeout(found)
    if timeout_s is not None:
        exchange.client_deadline_s = exchange.started_s + timeout_s


def read_prompt(exchange: Exchange, found: Found) -> None:
    """Fill in prompt name and version. Raises InvalidRequest when the header is not NAME@VERSION."""
    given = found.get(b"x-gateway-prompt")
    if given is None:
        return
    match = _PROMPT.fullmatch(given)
    if match is None:
        raise InvalidRequest("x-gateway-prompt must be NAME@VERSION, of letters, digits and . _ - /.")
    exchange.prompt_name = match.group(1).decode("ascii")
    exchange.prompt_version = match.group(2).decode("ascii")


def read_tags(found: Found, fixed: dict[str, str]) -> dict[str, str]:
    """The request's tags; those that are `fixed` by the key win. Raises InvalidRequest for a malformed header."""
    given = found.get(b"x-gateway-tags")
    if given is None:
        return fixed
    tags: dict[str, str] = {}
    for part in given.decode("latin-1").split(","):
        match = _TAG.fullmatch(part)
        if match is None:
            raise InvalidRequest("x-gateway-tags must be name=value pairs with commas between them.")
        tags[match.group(1)] = match.group(2)
    if len(tags) > _MAX_TAGS:
        raise InvalidRequest(f"x-gateway-tags has {len(tags)} tags; {_MAX_TAGS} are allowed.")
    return tags | fixed


def require_tags(tags: dict[str, str], required: Sequence[str]) -> None:
    """Raise InvalidRequest `missing_tag` unless every required tag has a value."""
    missing = [name for name in required if not tags.get(name)]
    if missing:
        names = ", ".join(missing)
        raise InvalidRequest(
            f"Required tags are missing: {names}. Send them as x-gateway-tags: name=value,… or set them on the key.",
            code="missing_tag",
            param=missing[0],
        )


def read_timeout(found: Found) -> float | None:
    """The client's own time limit in seconds. Raises InvalidRequest when it has no unit or is 0."""
    given = found.get(b"x-gateway-timeout")
    if given is None:
        return None
    match = _DURATION.fullmatch(given.decode("latin-1").strip())
    if match is None or float(match.group(1)) == 0:
        raise InvalidRequest("x-gateway-timeout must be a duration such as 500ms, 20s or 2m.")
    return float(match.group(1)) * _SECONDS[match.group(2)]


def read_hops(found: Found) -> int:
    """How many gateways the request has passed. Raises LoopDetected at the limit."""
    given = found.get(b"x-gateway-hops")
    if given is None:
        return 0
    hops = int(given) if given.isdigit() and len(given) <= 4 else 0
    if hops >= MAX_HOPS:
        raise LoopDetected(
            f"The request has passed through {hops} gateways: a target's base_url points back at one of them.",
            retry_after_s=60.0,
        )
    return hops


def is_json(content_type: bytes | None) -> bool:
    """Whether a Content-Type says JSON, with or without parameters."""
    if content_type == b"application/json":
        return True
    return content_type is not None and content_type.split(b";", 1)[0].strip().lower() == b"application/json"
