"""An admin plane on loopback that answers what it is told to, for what talks to one."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Asked(NamedTuple):
    """One request that has come."""

    method: str
    path: str
    headers: dict[str, str]
    """By name in lower case."""
    body: Any
    """The JSON, None without a body."""


class AdminStub(ThreadingHTTPServer):
    """Gives `status` and `answer` to every request, and keeps the requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.answer: Any = {}
        self.asked: list[Asked] = []

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: AdminStub

    def do_GET(self) -> None:
        """Answer."""
        self._answer()

    def do_POST(self) -> None:
        """Answer."""
        self._answer()

    def do_DELETE(self) -> None:
        """Answer."""
        self._answer()

    def _answer(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append(Asked(self.command, self.path, headers, json.loads(raw) if raw else None))
        answer = self.server.answer
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(self.server.status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def admin_stub() -> Iterator[AdminStub]:
    """One that serves until the scope ends."""
    with AdminStub() as stub:
        serving = threading.Thread(target=stub.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            yield stub
        finally:
            stub.shutdown()
            serving.join()
