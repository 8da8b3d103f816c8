"""An ordinary httpx.AsyncClient on a pool of ours."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from gateway.transport.base import Origin
from gateway.transport.pool import Limits, PoolTransport
from tests.unit.transport.loopback import CHUNKED, Call, answer_ok, serve

pytestmark = pytest.mark.anyio


def client_of(origin: Origin, limits: Limits | None = None, timeout_s: float = 5.0) -> httpx.AsyncClient:
    pool = PoolTransport(origin, ssl_context=None, limits=limits if limits is not None else Limits())
    base = f"http://{origin.host}:{origin.port}"
    return httpx.AsyncClient(transport=pool, base_url=base, timeout=timeout_s)


async def test_a_client_reads_a_whole_reply_and_reuses_the_connection() -> None:
    async with serve(answer_ok) as server, client_of(server.origin) as client:
        for _ in range(3):
            reply = await client.post("/v1/x", params={"y": "1"}, json={"a": 1})
            assert (reply.status_code, reply.text, reply.http_version) == (200, "ok", "HTTP/1.1")
        assert len(server.calls) == 1
        call = server.calls[0]
        assert call.head.startswith(b"post /v1/x?y=1 http/1.1\r\nhost: 127.0.0.1:")
        assert call.head.count(b"host:") == call.head.count(b"content-length:") == 1
        assert call.body == b'{"a":1}'


async def test_a_client_streams_both_ways() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    async with serve(answer_ok) as server, client_of(server.origin) as client:
        async with client.stream("POST", "/", content=body()) as reply:
            assert [piece async for piece in reply.aiter_raw()] == [b"ok"]
        assert server.calls[0].body == b"ab"
        assert (await client.post("/", content=body(), headers={"content-length": "2"})).text == "ok"
        assert len(server.calls) == 1


async def test_another_origin_is_refused() -> None:
    async with serve(answer_ok) as server, client_of(server.origin) as client:
        with pytest.raises(httpx.UnsupportedProtocol):
            await client.get("http://127.0.0.2:1/")
        assert server.calls == []


async def test_leaving_a_stream_early_closes_the_connection() -> None:
    gone = asyncio.Event()

    async def script(call: Call) -> None:
        await call.request()
        await call.send(CHUNKED + b"1\r\nx\r\n")
        await call.gone()
        gone.set()

    async with serve(script) as server, client_of(server.origin) as client:
        async with client.stream("GET", "/") as reply:
            assert reply.status_code == 200
        await gone.wait()


async def silent(call: Call) -> None:
    await call.gone()


async def cut(call: Call) -> None:
    await call.request()
    await call.send(CHUNKED + b"1\r\nx\r\n")


async def not_http(call: Call) -> None:
    await call.request()
    await call.send(b"SSH-2.0\r\n")


@pytest.mark.parametrize(
    ("script", "raised"),
    [(silent, httpx.ReadTimeout), (cut, httpx.RemoteProtocolError), (not_http, httpx.RemoteProtocolError)],
)
async def test_faults_are_httpxs_own(script: object, raised: type[httpx.TransportError]) -> None:
    assert callable(script)
    async with serve(script) as server, client_of(server.origin, timeout_s=0.05) as client:
        with pytest.raises(raised) as caught:
            await client.post("/", content=b"{}")
        assert caught.value.__cause__ is not None
        assert caught.value.request.method == "POST"


async def test_a_refused_connection_is_a_connect_error_and_a_full_pool_a_pool_timeout() -> None:
    async with serve(silent) as server:
        async with client_of(server.origin, Limits(max_connections=0), timeout_s=0.01) as client:
            with pytest.raises(httpx.PoolTimeout):
                await client.get("/")
        port = server.port
    async with client_of(Origin("http", "127.0.0.1", port)) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("/")


async def test_a_client_without_timeouts_works() -> None:
    async with serve(answer_ok) as server:
        pool = PoolTransport(server.origin, ssl_context=None, limits=Limits())
        async with httpx.AsyncClient(transport=pool, timeout=None) as client:
            assert (await client.get(f"http://127.0.0.1:{server.port}/")).text == "ok"
