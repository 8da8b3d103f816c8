"""Which answer a request gets: paths, directives and faults, without a socket."""

import gzip
from urllib.parse import unquote

from gateway.core.errors import GatewayError, InvalidRequest, MethodNotAllowed, NotFound
from gateway.core.exchange import Dialect
from gateway.mock import relays
from gateway.mock.bodies import Body, read_body, require
from gateway.mock.complaints import fault_body, html_page, status_body
from gateway.mock.directives import Directives, parse_directives
from gateway.mock.heads import Vendor, retry_lines, vendor_lines
from gateway.mock.plan import MockRequest, Plan
from gateway.mock.replies import ENDPOINTS, JSON, Ask, list_models
from gateway.mock.world import World


def answer(world: World, request: MockRequest) -> Plan:
    """What to send for `request`. Faults of the request become error answers in its dialect."""
    path, _, _ = request.target.partition(b"?")
    vendor, suffix, deployment = _locate(path.decode("latin-1"))
    if vendor == "none":
        return _inspect(world, request, suffix)
    if suffix not in _OPENAI_ONLY and (suffix.startswith("messages") or request.header(b"anthropic-version")):
        vendor = "anthropic"
    dialect: Dialect = "anthropic" if vendor == "anthropic" else "openai"
    number = world.next_call()
    try:
        plan = _plan(world, request, suffix, deployment, number, dialect)
    except GatewayError as fault:
        plan = Plan(fault.status, JSON, fault_body(dialect, fault, _request_id(number)))
        if isinstance(fault, MethodNotAllowed):
            plan.lines = ((b"allow", fault.allow.encode()),)
    plan.dialect = dialect
    plan.number = number
    wait_s = plan.directives.latency + plan.directives.ttfb
    plan.vendor_lines = vendor_lines(vendor, plan.status, b"req_%024x" % number, world.dates, wait_s)
    return plan


def _locate(path: str) -> tuple[Vendor, str, str | None]:
    """Vendor, path below the API's version, and Azure's deployment. The suffix is empty for a path of no API."""
    if path.startswith("/v1/"):
        return "openai", path[4:].rstrip("/"), None
    if path.startswith("/openai/v1/"):
        return "azure", path[11:].rstrip("/"), None
    if path.startswith("/openai/deployments/"):
        deployment, _, suffix = path[20:].partition("/")
        if suffix in ("chat/completions", "completions", "embeddings"):
            return "azure", suffix, unquote(deployment)
        return "azure", "", None
    if path in ("/__log", "/__stats"):
        return "none", path[1:], None
    return "openai", "", None


def _plan(
    world: World,
    request: MockRequest,
    suffix: str,
    deployment: str | None,
    number: int,
    dialect: Dialect,
) -> Plan:
    endpoint = ENDPOINTS.get(suffix)
    relay, rest = (None, "") if endpoint is not None else _find_relay(suffix)
    if endpoint is None and relay is None and not _is_model_path(suffix):
        raise NotFound(f"Invalid URL ({request.method} {request.target.decode('latin-1')})", code="unknown_url")
    _check_method(request.method, suffix, rest)
    body = _read(request, deployment, is_required=endpoint is not None)
    asked = body.model
    model, _, words = (asked or "").partition(":")
    directives = parse_directives(_orders(request), words)
    status = _failing_status(world, directives, model)
    if status is not None and status >= 300:
        plan = Plan(status, JSON, status_body(dialect, status, _request_id(number)))
        if status < 400:
            plan.lines = ((b"location", b"/redirected"),)
    else:
        if endpoint is not None:
            plan = endpoint(Ask(world, body, directives, model, number))
        elif relay is not None:
            plan = relay(world, request, directives, rest)
        else:
            plan = list_models(suffix, dialect)
        plan.status = status or plan.status
        if plan.stream is None and _has_error_event(directives):
            plan.body = status_body(dialect, _event_status(directives, dialect), _request_id(number))
    plan.model = asked
    plan.directives = directives
    if directives.retry_after or directives.retry_after_ms or directives.retry_date is not None:
        plan.lines = (*plan.lines, *retry_lines(directives, world.clock.wall()))
    return _disguise(plan)


def _read(request: MockRequest, deployment: str | None, *, is_required: bool) -> Body:
    """The JSON body; an empty one where another kind of body is expected."""
    if not is_required:
        is_json = request.method == "POST" and (request.header(b"content-type") or b"").startswith(JSON)
        return read_body(request.body) if is_json and request.body else Body()
    if not request.body:
        raise InvalidRequest("We could not parse the JSON body of your request: it is empty.", code="invalid_json")
    body = read_body(request.body)
    if deployment is not None:
        body.model = deployment
    require("model", body.model)
    return body


def _failing_status(world: World, directives: Directives, model: str) -> int | None:
    status = world.failing_status(directives, model)
    if _has_error_event(directives) and not directives.seq and not directives.fail_rate:
        # `status` then says which error the event reports, inside an answer that began well.
        return None
    return status


def _has_error_event(directives: Directives) -> bool:
    return directives.error_after is not None or directives.event_error


def _request_id(number: int) -> str:
    return f"req_{number:024x}"


def _orders(request: MockRequest) -> str:
    """All `x-mock` headers as one list."""
    values = [value for name, value in request.headers if len(name) == 6 and name.lower() == b"x-mock"]
    return b",".join(values).decode("latin-1") if values else ""


def _disguise(plan: Plan) -> Plan:
    """The plan with its complete body as HTML, broken, or compressed, where the directives want it."""
    directives = plan.directives
    if directives.html:
        plan.stream, plan.content_type, plan.body = None, b"text/html", html_page(plan.status)
    if plan.stream is not None:
        return plan
    if directives.badjson_after is not None:
        plan.body = plan.body[: len(plan.body) * 2 // 3]
    if directives.gzip:
        plan.body = gzip.compress(plan.body, mtime=0)
        plan.lines = (*plan.lines, (b"content-encoding", b"gzip"))
    return plan


def _event_status(directives: Directives, dialect: Dialect) -> int:
    return directives.status or (529 if dialect == "anthropic" else 500)


def error_frame(plan: Plan) -> bytes:
    """The error event of a stream, of the kind that the directives want."""
    assert plan.stream is not None
    return plan.stream.grammar.error(_event_status(plan.directives, plan.dialect))


def _check_method(method: str, suffix: str, rest: str) -> None:
    if suffix in ENDPOINTS:
        allowed: tuple[str, ...] = ("POST",)
    elif suffix in ("files", "batches"):
        allowed = ("GET", "POST")
    elif suffix.startswith("files/"):
        allowed = ("GET",) if rest.endswith("/content") else ("GET", "DELETE")
    elif suffix.startswith("batches/"):
        allowed = ("POST",) if rest.endswith("/cancel") else ("GET",)
    else:
        allowed = ("GET",) if _is_model_path(suffix) else ("POST",)
    if method not in allowed:
        raise MethodNotAllowed(f"Not allowed to {method} on /v1/{suffix}.", ", ".join(allowed))


def _is_model_path(suffix: str) -> bool:
    return suffix == "models" or suffix.startswith("models/")


def _find_relay(suffix: str) -> tuple[relays.Relay | None, str]:
    exact = _RELAYS.get(suffix)
    if exact is not None:
        return exact, suffix.rpartition("/")[2] if suffix.startswith("images/") else ""
    name, _, rest = suffix.partition("/")
    return _SHELVES.get(name), rest


def _inspect(world: World, request: MockRequest, name: str) -> Plan:
    plan = Plan(200, JSON, vendor_lines=vendor_lines("none", 200, b"", world.dates, 0.0), is_logged=False)
    if request.method == "DELETE" and name == "__log":
        world.reset()
        plan.body = b'{"reset":true}'
    elif request.method == "GET":
        plan.body = world.log.dump() if name == "__log" else world.stats.dump()
    else:
        plan.status, plan.body = 405, b'{"error":"use GET, or DELETE for /__log"}'
    return plan


_OPENAI_ONLY = frozenset(name for name in ENDPOINTS if not name.startswith("messages"))
_RELAYS: dict[str, relays.Relay] = {
    "moderations": relays.moderations,
    "audio/speech": relays.speech,
    "audio/transcriptions": relays.transcription,
    "audio/translations": relays.transcription,
    "images/generations": relays.images,
    "images/edits": relays.images,
    "images/variations": relays.images,
}
_SHELVES: dict[str, relays.Relay] = {"files": relays.files, "batches": relays.batches}
