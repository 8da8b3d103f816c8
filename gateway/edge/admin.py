"""The admin plane: health, metrics, and what operators ask and tell. Cold code, so it is plain Starlette."""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.config import describe
from gateway.config.load import Loaded
from gateway.core.clock import Clock
from gateway.core.errors import GatewayError
from gateway.edge.admin_changes import Changes
from gateway.edge.auth import token_matches
from gateway.edge.control import Control
from gateway.edge.fleet import Fleet
from gateway.edge.inbound import HostGate, host_gate
from gateway.edge.operations import Operations
from gateway.store.base import Journal
from gateway.telemetry.exposition import render
from gateway.telemetry.snapshot import merge

_OPEN_PATHS = frozenset({"/livez", "/readyz", "/healthz", "/metrics"})


class Guard:
    """Lets health and metrics pass; asks everything else for the admin token, and for a sound Host.

    Decides on the path that Starlette routes by, and lets nothing else through: a path that is not
    exactly an open one needs the token, however it is spelled.
    """

    def __init__(self, app: ASGIApp, control: Control) -> None:
        self._app = app
        self._control = control
        self._gates: dict[str, HostGate] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve or refuse one request."""
        if scope["type"] != "http":
            return
        refusal = self._refusal(scope)
        await (self._app if refusal is None else refusal)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        loaded = self._control.loaded
        headers = dict(scope["headers"])
        token = loaded.config.server.admin_token
        try:
            self._gate(loaded).require(headers.get(b"host", b""))
        except GatewayError as error:
            return _error(400, error.message)
        if scope["method"] != "GET" and _is_from_a_page(headers):
            return _error(
                403, "A change is not taken from a web page. Use the command line, or a client without Origin."
            )
        if scope["path"] in _OPEN_PATHS or token is None:
            return None
        if token_matches(headers.get(b"authorization"), token.reveal()):
            return None
        return _error(401, "Send Authorization: Bearer TOKEN, with the token that server.admin_token names.")

    def _gate(self, loaded: Loaded) -> HostGate:
        gate = self._gates.get(loaded.revision)
        if gate is None:
            server = loaded.config.server
            gate = host_gate(server.allowed_hosts, server.admin_token is None)
            self._gates = {loaded.revision: gate}
        return gate


def admin_app(control: Control, fleet: Fleet, journal: Journal, clock: Clock) -> Starlette:
    """The ASGI application of the admin listener."""
    changes = Changes(control, fleet, Operations(journal, control, clock), journal)
    plane = _Endpoints(control, fleet, changes)
    routes = [
        Route("/livez", plane.livez),
        Route("/readyz", plane.readyz),
        Route("/healthz", plane.readyz),
        Route("/metrics", plane.metrics),
        Route("/admin/v1/config", plane.config),
        Route("/admin/v1/reload", plane.reload, methods=["POST"]),
        Route("/admin/v1/routes", plane.routes),
        Route("/admin/v1/targets", plane.targets),
        Route("/admin/v1/requests/{request_id}", plane.request),
        *changes.routes(),
    ]
    handlers: dict[int, Callable[[Request, Exception], Awaitable[Response]]] = {404: _not_found, 405: _not_allowed}
    return Starlette(routes=routes, middleware=[Middleware(Guard, control=control)], exception_handlers=handlers)


class _Endpoints:
    def __init__(self, control: Control, fleet: Fleet, changes: Changes) -> None:
        self._control = control
        self._fleet = fleet
        self._changes = changes

    async def livez(self, request: Request) -> Response:
        """The process runs its loop."""
        return PlainTextResponse("ok\n")

    async def readyz(self, request: Request) -> Response:
        """New requests are welcome; `?verbose` says why not."""
        ready = self._fleet.is_ready
        if "verbose" in request.query_params:
            detail = {
                "ready": ready,
                "config_revision": self._control.loaded.revision,
                "last_reload_faults": len(self._control.faults),
                "targets_out_of_service": {
                    name: target.out_of_service
                    for name, target in self._control.loaded.config.targets.items()
                    if target.out_of_service
                },
                "store": await self._store(),
            }
            return JSONResponse(detail, status_code=200 if ready else 503)
        return PlainTextResponse("ok\n" if ready else "draining\n", status_code=200 if ready else 503)

    async def _store(self) -> dict[str, Any]:
        """Of which kind the store is, and whether every process reaches it: an outage degrades, and is no readiness."""
        up = merge(await self._fleet.snapshots()).metrics.get("gateway_store_up", [])
        return {"kind": self._control.loaded.config.store.kind, "up": all(sample.value == 1.0 for sample in up)}

    async def metrics(self, request: Request) -> Response:
        """Every process's metrics, summed, in the format that the scraper asks for."""
        merged = merge(await self._fleet.snapshots())
        body, content_type = render(merged, request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    async def config(self, request: Request) -> Response:
        """What is served (not what the file says), and what was wrong with the last reload."""
        loaded = self._control.loaded
        return JSONResponse(
            {
                **describe.snapshot(loaded),
                "overrides": self._changes.overrides(),
                "restart_required": self._control.restart_required,
                "last_reload": {"successful": not self._control.faults, "faults": self._control.faults},
            }
        )

    async def reload(self, request: Request) -> Response:
        """Read the file now."""
        result = await self._control.reload("admin API")
        return JSONResponse(
            {"revision": result.revision, "changed": result.changed, "faults": result.faults},
            status_code=422 if result.faults else 200,
        )

    async def routes(self, request: Request) -> Response:
        """Every route and where it leads."""
        return JSONResponse({"routes": describe.routes(self._control.loaded.config)})

    async def targets(self, request: Request) -> Response:
        """Every target, whether it is in service, its connections and its breaker."""
        states = await self._fleet.targets()
        targets = describe.targets(self._control.loaded.config)
        for target in targets:
            target.update(states.get(target["name"], {}))
        return JSONResponse({"targets": targets})

    async def request(self, request: Request) -> Response:
        """Why one of the last requests went the way it did."""
        request_id = request.path_params["request_id"]
        found = await self._fleet.find_request(request_id)
        if found is None:
            return _error(404, f"No request {request_id!r} among the last ones of this gateway.")
        return JSONResponse(found)


def _is_from_a_page(headers: dict[bytes, bytes]) -> bool:
    """Whether a browser sends this for a page of another origin: it could change what it must not even see (F120)."""
    if b"origin" not in headers:
        return headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin")
    scheme, _, authority = headers[b"origin"].partition(b"://")
    return scheme not in (b"http", b"https") or authority != headers.get(b"host")


def _error(status: int, message: str) -> Response:
    headers = {"www-authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"error": {"message": message}}, status_code=status, headers=headers)


async def _not_found(request: Request, error: Exception) -> Response:
    return _error(404, "No such path. See docs/admin.md.")


async def _not_allowed(request: Request, error: Exception) -> Response:
    return _error(405, f"{request.method} is not for this path. See docs/admin.md.")
