"""The data plane of one process, with a fake provider behind it and a fake client in front."""

import asyncio
import random
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from gateway.assembly.build import Builder
from gateway.assembly.pools import PoolKey, SharedPools
from gateway.core.errors import Headers
from gateway.edge.asgi import DataPlane
from gateway.edge.running import Running
from gateway.telemetry.events import Events
from gateway.transport.base import Upstream
from tests.fakes import MOCK_CONFIG, Client, FakeClock, FakeResponse, FakeUpstream, Sightings, loaded, memory_store

JSON: Headers = [(b"content-type", b"application/json")]
SSE: Headers = [(b"content-type", b"text/event-stream")]
ANSWER = b'{"id":"c-1","model":"m","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
ASK = b'{"model":"demo","messages":[]}'
CHAT = b"/v1/chat/completions"


class House:
    """A `Running` and its `DataPlane`; `call` sends one request through them."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.upstream = FakeUpstream(clock=self.clock)
        self.made: list[PoolKey] = []
        self.mocks_asked_for = 0
        self.sightings = Sightings(self.clock)
        self.store = memory_store(self.clock)
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.events = Events(None, self.clock, lambda event, fields: self.told.append((event, fields)))
        builder = Builder(
            SharedPools(self._make),
            self.sightings.observer,
            self.clock,
            random.Random(7),
            self.store,
            self.events,
            self.sightings.registry,
        )
        self.running = Running(builder, self.sightings.registry, self.sightings.tracer, self._mock, self.clock)
        self.data_plane = DataPlane(self.running, self.clock, random.Random(7))
        self.connection = Client()

    def _make(self, key: PoolKey) -> Upstream:
        self.made.append(key)
        return self.upstream

    async def _mock(self) -> str:
        self.mocks_asked_for += 1
        return "http://127.0.0.1:9"

    @classmethod
    async def serving(cls, text: str = MOCK_CONFIG, environ: Mapping[str, str] | None = None) -> "House":
        """A house with this configuration applied."""
        house = cls()
        await house.running.apply(loaded(text, environ))
        return house

    async def call(
        self,
        *pieces: bytes,
        method: str = "POST",
        path: bytes = CHAT,
        headers: Headers | None = None,
        response: FakeResponse | None = None,
        client: Client | None = None,
    ) -> Client:
        """One request with this body; `host` and the JSON type are sent unless `headers` are given."""
        self.upstream.response = response if response is not None else FakeResponse(200, JSON, [ANSWER])
        if client is None:
            client = Client.sending(*(pieces or (ASK if method == "POST" else b"",)))
        self.connection = client
        client.task = asyncio.current_task()
        raw_path, _, query = path.partition(b"?")
        scope = {
            "type": "http",
            "method": method,
            "path": unquote(raw_path.decode("ascii")),
            "raw_path": raw_path,
            "query_string": query,
            "http_version": "1.1",
            "headers": headers if headers is not None else host(*JSON),
            "gateway.connection": client,
        }
        await self.data_plane(scope, None, None)
        return client


def host(*headers: tuple[bytes, bytes]) -> Headers:
    """These headers after a Host."""
    return [(b"host", b"127.0.0.1:8080"), *headers]
