"""The paths that are passed on as they are: uploads that stream, downloads, files, batches, speech."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.gateway.harness import PLAIN, gateway
from tests.gateway.raw import hang_up, reply, upstream
from tests.gateway.test_http_edge import to
from tests.gateway.test_input import rss_bytes
from tests.gateway.waiting import until

pytestmark = pytest.mark.anyio

RELAYED = PLAIN.replace("drain: 5s", "drain: 5s, default_route: demo, max_body: 256MiB")
_MIB = 1024 * 1024


def form(content: bytes, **fields: str) -> tuple[dict[str, str], bytes]:
    """A multipart body with a file, and its content type."""
    parts = [
        f'--B\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()
    ]
    head = '--B\r\ncontent-disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
    body = "".join(parts).encode() + head.encode() + content + b"\r\n--B--\r\n"
    return {"content-type": "multipart/form-data; boundary=B"}, body


async def test_a_file_goes_up_comes_back_and_is_deleted() -> None:
    """Every step with the bytes that were sent; F89: the id is one segment of the path."""
    content = bytes(range(256)) * 4096
    async with gateway(RELAYED) as gw:
        headers, body = form(content, purpose="batch")
        made = (await gw.client.post("/v1/files", content=body, headers=headers)).json()
        assert made["bytes"] == len(content)
        sent = (await gw.calls())[-1]
        assert sent["body_sha256"] == hashlib.sha256(body).hexdigest()
        assert dict(sent["headers"])["content-type"] == headers["content-type"]
        path = f"/v1/files/{made['id']}"
        got = await gw.client.get(f"{path}/content")
        assert got.content == content
        assert got.headers["content-type"] == "application/octet-stream"
        assert int(got.headers["content-length"]) == len(content)
        assert (await gw.client.get(path)).json()["id"] == made["id"]
        assert (await gw.client.get("/v1/files?limit=2&after=x%20y")).json()["data"][0]["id"] == made["id"]
        assert (await gw.calls())[-1]["query"] == "limit=2&after=x%20y"
        assert (await gw.client.delete(path)).json()["deleted"] is True
        gone = await gw.client.get(path)
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "not_found")
        line = gw.requests()[-1]
        assert (line["route"], line["model_requested"], line["outcome"]) == ("demo", None, "client_error")


async def test_an_upload_in_chunks_arrives_whole() -> None:
    """Without a length, as a pipe has none."""
    headers, body = form(b"x" * 3 * _MIB)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 100_000):
            yield body[start : start + 100_000]

    async with gateway(RELAYED) as gw:
        answer = await gw.client.post("/v1/audio/transcriptions", content=pieces(), headers=headers)
        assert answer.json()["body_sha256"] == hashlib.sha256(body).hexdigest()
        sent = dict((await gw.calls())[-1]["headers"])
        assert sent["transfer-encoding"] == "chunked"
        assert "content-length" not in sent


async def test_an_upload_waits_for_a_provider_that_does_not_read() -> None:
    """F24, F97: back-pressure reaches the client; the gateway holds next to nothing, and nothing is lost."""
    size = 96 * _MIB
    async with upstream(reply(b'{"id":"file-1"}')) as busy:
        busy.may_read.clear()
        async with gateway(to(busy.url, ", default_route: demo, max_body: 256MiB")) as gw:
            before = rss_bytes()
            reader, writer = await asyncio.open_connection(*gw.address)
            writer.write(
                b"POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=B\r\n"
            )
            writer.write(b"content-length: %d\r\n\r\n" % size)
            sent = 0

            async def upload() -> None:
                nonlocal sent
                while sent < size:
                    writer.write(b"a" * 65536)
                    sent += 65536
                    await writer.drain()

            uploading = asyncio.ensure_future(upload())
            await until(lambda: busy.heads, timeout_s=5)
            seen = -1
            while sent != seen:
                seen = sent
                await asyncio.sleep(0.1)
            # What is sent lies in the kernel's buffers of two connections, and no more.
            assert sent < 48 * _MIB
            assert rss_bytes() - before < 20 * _MIB
            busy.may_read.set()
            assert (await asyncio.wait_for(reader.readline(), 20)).startswith(b"HTTP/1.1 200")
            await uploading
            assert busy.body_bytes == size
            assert rss_bytes() - before < 20 * _MIB
            await hang_up(writer)


async def test_an_upload_that_the_client_gives_up_is_given_up_above() -> None:
    """F1 on relayed paths: the provider sees no complete upload, and soon."""
    async with gateway(RELAYED) as gw:
        _, writer = await asyncio.open_connection(*gw.address)
        writer.write(b"POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=B\r\n")
        writer.write(b"content-length: 1000000\r\n\r\n" + b"a" * 500_000)
        await writer.drain()
        await until(lambda: gw.mock.stats.connections)
        writer.transport.abort()
        await until(lambda: not gw.mock.stats.connections, timeout_s=1)
        assert (await until(gw.requests))[-1]["outcome"] == "client_gone"
        assert await gw.calls() == []


async def test_a_provider_that_answers_before_the_upload_ends_is_heard() -> None:
    """A 413 of the provider's own comes back as it is, not as a broken connection."""
    refusal = b'{"error":{"message":"too large","type":"invalid_request_error","param":null,"code":null}}'
    early = reply(refusal, b"connection: close", status=b"413 Too Large")

    async def hasty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(early)
        await writer.drain()
        writer.write_eof()
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                pass
        await hang_up(writer)

    server = await asyncio.start_server(hasty, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    async with gateway(to(f"http://{host}:{port}", ", default_route: demo")) as gw:
        headers, body = form(b"x" * 4 * _MIB)
        answer = await gw.client.post("/v1/files", content=body, headers=headers)
        assert (answer.status_code, answer.content) == (413, refusal)
    server.close()
    await server.wait_closed()


async def test_speech_is_passed_on_as_it_comes() -> None:
    """Binary, in pieces, byte for byte; the first before the last is made."""
    async with gateway() as gw:
        asked = {"model": "demo", "input": "hello", "voice": "alloy"}
        slow = {"x-mock": "tokens=20,gap=20ms,bigchunk=4KiB"}
        async with gw.client.stream("POST", "/v1/audio/speech", json=asked, headers=slow) as answer:
            assert answer.headers["content-type"] == "audio/mpeg"
            pieces = [piece async for piece in answer.aiter_raw()]
        assert len(pieces) >= 5
        async with httpx.AsyncClient() as direct:
            expected = await direct.post(
                f"{gw.mock.url}/v1/audio/speech", json=asked, headers={"x-mock": "tokens=20,bigchunk=4KiB"}
            )
        assert b"".join(pieces) == expected.content
        assert gw.requests()[-1]["route"] == "demo"


async def test_a_download_that_breaks_is_cut_and_never_looks_whole() -> None:
    """F19: no dialect has an error inside a file."""
    async with gateway() as gw:
        asked = {"model": "demo", "input": "hello", "voice": "alloy"}
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await gw.client.post("/v1/audio/speech", json=asked, headers={"x-mock": "rst_after=3,gap=5ms"})
        assert (await until(gw.requests))[-1]["outcome"] == "truncated"


async def test_batches_and_moderations_are_passed_on() -> None:
    """JSON without a model goes to the default route, JSON with one to its own."""
    async with gateway(RELAYED) as gw:
        asked = {"input_file_id": "file-1", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        made = (await gw.client.post("/v1/batches", json=asked)).json()
        assert (await gw.client.get(f"/v1/batches/{made['id']}")).json() == made
        assert (await gw.client.post(f"/v1/batches/{made['id']}/cancel")).json()["status"] == "cancelling"
        assert len((await gw.client.get("/v1/batches")).json()["data"]) == 1
        verdict = await gw.client.post("/v1/moderations", json={"input": "violence", "model": "demo"})
        assert verdict.json()["results"][0]["flagged"] is True
        picture = await gw.client.post("/v1/images/generations", json={"prompt": "a dot", "model": "demo"})
        assert picture.json()["data"][0]["b64_json"]
        assert gw.requests()[-1]["model_requested"] == "demo"


async def test_a_request_without_a_model_needs_a_route() -> None:
    """A 400 that says so; the header names one that exists, and that the key may use."""
    async with gateway() as gw:
        lost = await gw.client.get("/v1/files")
        assert lost.status_code == 400
        assert "x-gateway-route" in lost.json()["error"]["message"]
        assert "default_route" in lost.json()["error"]["message"]
        assert (await gw.client.get("/v1/files", headers={"x-gateway-route": "demo"})).status_code == 200
        assert (await gw.client.get("/v1/files", headers={"x-gateway-route": "nowhere"})).status_code == 404
        assert "x-gateway-route" not in dict((await gw.calls())[-1]["headers"])


async def test_a_method_that_a_path_does_not_take_is_told_which_it_takes() -> None:
    """F107: and nothing is passed on."""
    async with gateway(RELAYED) as gw:
        for method, path, allow in (
            ("PUT", "/v1/files", "GET, POST"),
            ("POST", "/v1/files/a/content", "GET"),
            ("GET", "/v1/audio/speech", "POST"),
            ("GET", "/v1/chat/completions", "POST"),
            ("PATCH", "/v1/batches/b/cancel", "POST"),
        ):
            answer = await gw.client.request(method, path)
            assert (answer.status_code, answer.headers["allow"]) == (405, allow)
        assert await gw.calls() == []


async def test_relayed_json_is_passed_on_byte_for_byte() -> None:
    """F103: on every relayed path too; only the model is rewritten."""
    async with gateway(RELAYED.replace("base_url: MOCK_URL}", "base_url: MOCK_URL, model: served}")) as gw:
        body = json.dumps(
            {"prompt": "\u00e9", "model": "demo", "x": [1.50, {"model": "demo"}]}, indent=2, ensure_ascii=False
        )
        answer = await gw.client.post(
            "/v1/images/generations", content=body, headers={"content-type": "application/json"}
        )
        assert answer.status_code == 200
        expected = body.replace('"model": "demo"', '"model": "served"', 1).encode()
        assert (await gw.calls())[-1]["body_sha256"] == hashlib.sha256(expected).hexdigest()
