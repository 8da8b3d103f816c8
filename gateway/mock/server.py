"""The mock as a server: in a test, inside the gateway, or as a process of its own."""

import asyncio
import re
import signal
import sys
from collections.abc import Callable

from gateway.core.clock import Clock, SystemClock
from gateway.mock.calls import CallLog, Stats
from gateway.mock.connection import Connection
from gateway.mock.world import World

BACKLOG = 4096
DEFAULT_LISTEN = "127.0.0.1:9000"
_LISTEN = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]*)):([0-9]{1,5})")


class MockServer:
    """A scriptable model server on the running loop, asyncio's or uvloop's.

    `log_calls=False` leaves `/__log` empty and saves a hash for each request, for load tests.
    """

    def __init__(self, *, clock: Clock | None = None, log_calls: bool = True) -> None:
        self._world = World(SystemClock() if clock is None else clock, log_calls=log_calls)
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._address = ("", 0)

    @property
    def log(self) -> CallLog:
        """The calls so far."""
        return self._world.log

    @property
    def stats(self) -> Stats:
        """Counters of connections, calls and tokens."""
        return self._world.stats

    @property
    def port(self) -> int:
        """The port that it listens on. Only after `start`."""
        assert self._server is not None
        return self._address[1]

    @property
    def url(self) -> str:
        """`http://host:port`, without a path. Only after `start`."""
        host, port = self._address[0], self.port
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0 takes a free one. Raises OSError when the address cannot be had."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self._world, loop, self._connections), host, port, backlog=BACKLOG
        )
        self._address = self._server.sockets[0].getsockname()[:2]

    async def aclose(self) -> None:
        """Stop listening and cut what is open. May be called twice."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for connection in list(self._connections):
            connection.abort()
        await server.wait_closed()

    def reset(self) -> None:
        """Forget calls, files, totals and the turns of `seq`, as `DELETE /__log` does."""
        self._world.reset()


def parse_listen(listen: str) -> tuple[str, int]:
    """Host and port of `H:P`, `:P` (loopback) or `[v6]:P`. Raises ValueError that says what is wrong."""
    match = _LISTEN.fullmatch(listen)
    if match is None or int(match[3]) > 65535:
        raise ValueError(f"{listen!r} is no listen address; write host:port, such as {DEFAULT_LISTEN}")
    return match[1] or match[2] or "127.0.0.1", int(match[3])


async def serve(listen: str, *, log_calls: bool = True) -> None:
    """Serve until SIGTERM or SIGINT; the address goes to stderr once. Raises ValueError, OSError."""
    host, port = parse_listen(listen)
    server = MockServer(log_calls=log_calls)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    try:
        await server.start(host, port)
        sys.stderr.write(f"mock model server on {server.url}\n")
        sys.stderr.flush()
        await stop.wait()
    finally:
        await server.aclose()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(signum)


def run(
    listen: str = DEFAULT_LISTEN,
    *,
    log_calls: bool = True,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> int:
    """Exit code of a mock in this process: 0 after a signal, 1 when it cannot listen.

    `loop_factory` is `uvloop.new_event_loop` where speed matters; None is asyncio's own loop.
    """
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(serve(listen, log_calls=log_calls))
    except (OSError, ValueError) as fault:
        sys.stderr.write(f"mock: {fault}\n")
        return 1
    return 0
