"""One listening socket served by uvicorn, with a start and an end that belong to us."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from gateway.core.pipeline import spawn
from gateway.edge.protocol import SWEEP_INTERVAL_S, EdgeLimits, EdgeProtocol, bounded

_POLL_S = 0.02
BACKLOG = 2048


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: signals mean more here than `exit`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Listener:
    """Serves an ASGI application on a bound socket until it is drained."""

    def __init__(self, app: Any, sock: socket.socket, limits: EdgeLimits, keepalive_timeout_s: float) -> None:
        config = uvicorn.Config(
            app,
            http=bounded(limits),
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            # Annotated as whole seconds, used as seconds.
            timeout_keep_alive=keepalive_timeout_s,  # type: ignore[arg-type]
            backlog=BACKLOG,
        )
        self._server = _Server(config)
        self._socket = sock
        self._tasks: list[asyncio.Task[Any]] = []

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it is bound to."""
        host, port = self._socket.getsockname()[:2]
        return str(host), int(port)

    @property
    def connections(self) -> set[EdgeProtocol]:
        """Client connections that are open."""
        return self._server.server_state.connections  # type: ignore[return-value]

    async def start(self) -> None:
        """Accept connections from now on."""
        server = self._server
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        await server.startup(sockets=[self._socket])
        # uvicorn's own loop renews the date header; it ends by `should_exit`.
        self._tasks = [spawn(server.main_loop(), "uvicorn ticks"), spawn(self._sweep(), "connection deadlines")]

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            now_s = loop.time()
            for connection in list(self.connections):
                connection.sweep(now_s)

    def stop_accepting(self) -> None:
        """Close the listening socket and idle connections; replies that run are the last of theirs."""
        for server in self._server.servers:
            server.close()
        self._socket.close()
        for connection in list(self.connections):
            connection.shutdown()

    async def wait_idle(self, timeout_s: float, hurried: asyncio.Event | None = None) -> bool:
        """Wait until no connection is left, at most `timeout_s` and until `hurried`; whether that was so."""
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + timeout_s
        state = self._server.server_state
        while state.connections or state.tasks:
            if loop.time() >= give_up_s or (hurried is not None and hurried.is_set()):
                return False
            await asyncio.sleep(_POLL_S)
        return True

    async def close(self) -> None:
        """Cut what is left and end the listener's own tasks."""
        for connection in list(self.connections):
            connection.abort()
        self._server.should_exit = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A bound, not yet listening TCP socket. `shared`: several processes bind the same port (SO_REUSEPORT).

    Raises OSError, whose `strerror` is a sentence for the operator, when the address is taken or not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_UNSPEC
    try:
        info = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise _refusal(error, host, port) from error
    # With its protocol named: asyncio sets TCP_NODELAY on accepted connections only then (else 40 ms a reply).
    sock = socket.socket(info[0], socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(info[4])
    except OSError as error:
        sock.close()
        raise _refusal(error, host, port) from error
    sock.setblocking(False)
    sock.set_inheritable(True)
    return sock


def _refusal(error: OSError, host: str, port: int) -> OSError:
    reason = (error.strerror or str(error)).lower()
    return OSError(error.errno, f"cannot listen on {host}:{port}: {reason}")
