"""Streams on their way: the same bytes, at once, no more in memory than the reader takes, and the usage as asked."""

import asyncio
import gzip
import json
import random
import re
import socket
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.gateway.calls import (
    AZURE,
    CHATS,
    COMPLETIONS,
    EVENT_STREAMS,
    SPEECH,
    STREAMS,
    WHOLE,
    Way,
    events,
    form,
    frames,
    plain,
    request,
    same,
    scripted,
    settled,
    streamed,
    wire,
)
from tests.gateway.harness import CHAT, PLAIN, Gateway, gateway
from tests.gateway.waiting import until

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}
# Characters that text tools take for line ends, of two, three and four bytes.
ODD = "a\u2028b\u2029c\u0085d \u00e4\u00f6 \u4f60\u597d \U0001f600\u200d\U0001f680 \ud7ff\ufeff e\u0301 \u000b\u001e"

SCRIPTED = PLAIN.replace("provider: mock, base_url: MOCK_URL", "provider: openai, base_url: UPSTREAM/v1")
SCRIPTED_ANTHROPIC = PLAIN.replace("provider: mock, base_url: MOCK_URL", "provider: anthropic, base_url: UPSTREAM")


async def both(gw: Gateway, way: Way, body: bytes, order: str) -> tuple[bytes, bytes]:
    """The bodies that the mock gives a direct caller and a caller of the gateway."""
    headers = JSON | {"x-mock": order, "accept-encoding": "identity"}
    async with httpx.AsyncClient() as direct_client:
        direct = await direct_client.post(gw.mock.url + way.path, content=body, headers=headers)
    through = await gw.client.post(way.path, content=body, headers=headers)
    assert (direct.status_code, through.status_code) == (200, 200), through.text
    return same(direct.content), same(through.content)


@pytest.mark.parametrize("order", ["", "split=1", "split=7,crlf", "comment", "crlf,comment,split=3", "badjson_after=2"])
@pytest.mark.parametrize("way", STREAMS, ids=str)
async def test_a_stream_is_relayed_byte_for_byte(way: Way, order: str) -> None:
    """F20, F22, F136: frames cut anywhere, CRLF, comments, and frames that are no JSON."""
    async with gateway() as gw:
        # Asked for here, for without its usage chunk a stream keeps the comment before that chunk.
        asked = {"stream_options": {"include_usage": True}} if "comment" in order else {}
        direct, through = await both(gw, way, way.body(stream=True, **asked), f"tokens=12,{order}")
        assert through == direct
        await settled(gw)


@pytest.mark.parametrize("way", [way for way in EVENT_STREAMS if way is not AZURE], ids=str)
async def test_text_of_any_script_is_relayed_byte_for_byte(way: Way) -> None:
    """F20, F21: U+2028, U+0085 and emoji, one byte at a time."""
    messages = [{"role": "user", "content": ODD}]
    asked = {"prompt": ODD} if way is COMPLETIONS else {"input": ODD} if way.name == "responses" else {}
    body = json.dumps(way.fields | {"messages": messages, "stream": True} | asked, ensure_ascii=False).encode()
    async with gateway() as gw:
        for order in ("echo,split=1", "echo,crlf"):
            direct, through = await both(gw, way, body, order)
            assert through == direct
            assert "\u2028".encode() in through and "\U0001f600".encode() in through


@pytest.mark.parametrize("way", WHOLE, ids=str)
async def test_a_whole_reply_is_relayed_byte_for_byte(way: Way) -> None:
    """F20, F136: and one that comes compressed although nobody asked is given decoded (F91)."""
    async with gateway() as gw:
        for order in ("", "split=1"):
            direct, through = await both(gw, way, way.body(stream=False), order)
            assert through == direct
        _, decoded = await both(gw, way, way.body(stream=False), "gzip")
        assert decoded == through


@pytest.mark.parametrize("way", STREAMS, ids=str)
async def test_a_compressed_stream_is_given_decoded_and_event_by_event(way: Way) -> None:
    """F23: upstream compresses against our wish; the client gets what it said, at once."""
    async with gateway() as gw:
        whole = await gw.client.post(way.path, content=way.body(stream=True), headers=JSON)
        headers = JSON | {"x-mock": "gzip,gap=10", "accept-encoding": "gzip"}
        async with gw.client.stream("POST", way.path, content=way.body(stream=True), headers=headers) as reply:
            assert "content-encoding" not in reply.headers and "content-length" not in reply.headers
            pieces = [piece async for piece in reply.aiter_raw()]
        assert same(b"".join(pieces)) == same(whole.content)
        assert len(pieces) > 5


async def test_an_upload_and_a_download_are_relayed_byte_for_byte() -> None:
    """F20, F4: bodies that are no JSON, up and down."""
    headers, body = form(300_000)
    async with gateway() as gw:
        told = (await gw.client.post("/v1/audio/transcriptions", content=body, headers=headers)).json()
        assert (told["body_bytes"], told["file_bytes"]) == (len(body), 300_000)
        created = await gw.client.post("/v1/files", content=body, headers=headers)
        path = f"/v1/files/{created.json()['id']}/content"
        content = await gw.client.get(path, headers={"x-gateway-route": "demo"})
        assert content.content == b"s" * 300_000
        await settled(gw)


def recorded_openai(path: Path) -> list[tuple[str, bytes]]:
    """Path and body of each recorded stream in a cassette."""
    found = []
    for interaction in yaml.safe_load(path.read_text("utf-8"))["interactions"]:
        answer = interaction["response"]
        if "event-stream" in str(answer["headers"].get("Content-Type")):
            found.append((str(interaction["request"]["url"]), str(answer["body"]).encode()))
    return found


def pieces_of(body: bytes, rng: random.Random) -> list[bytes]:
    """An HTTP reply with `body` in chunks and segments of any size."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    out, start = [head], 0
    while start < len(body):
        size = rng.randrange(1, 400)
        part = body[start : start + size]
        start += size
        framed = b"%x\r\n%b\r\n" % (len(part), part)
        cut = rng.randrange(len(framed))
        out += [framed[:cut], framed[cut:]]
    return [*out, b"0\r\n\r\n"]


async def replayed(config: str, way: Way, body: bytes, rng: random.Random, **fields: Any) -> tuple[bytes, bytes]:
    """What a client gets of an upstream that sends `body`, and the request that this upstream saw."""
    async with scripted(pieces_of(body, rng)) as upstream, gateway(config.replace("UPSTREAM", upstream.url)) as gw:
        asked = way.body(stream=True, **fields)
        reply = await gw.client.post(way.path, content=asked, headers=JSON)
        assert reply.status_code == 200, reply.text
        line = (await until(gw.requests))[0]
        assert line["outcome"] == "ok" and line["usage_source"] == "provider"
        return reply.content, upstream.requests[0]


async def test_recorded_openai_streams_are_replayed_byte_for_byte(shared_data: Path) -> None:
    """F136, F22: what OpenAI really sends, `obfuscation` and `service_tier` included, cut at random."""
    rng = random.Random(136)
    count = 0
    for path in sorted((shared_data / "cassettes" / "openai").glob("*.yaml")):
        for url, body in recorded_openai(path):
            way = COMPLETIONS if "/chat/" not in url else CHATS
            if b'"usage":{' not in body:
                continue
            got, _ = await replayed(SCRIPTED, way, body, rng, stream_options={"include_usage": True})
            assert got == body, path
            count += 1
    assert count >= 1


async def test_recorded_anthropic_streams_are_replayed_byte_for_byte(shared_data: Path) -> None:
    """F136, F22: what Anthropic really sends, cut at random."""
    rng = random.Random(136)
    count = 0
    for path in sorted((shared_data / "cassettes" / "anthropic").iterdir()):
        body = path.read_bytes()
        if b"message_stop" not in body or b"event: error" in body or not body.endswith(b"\n\n"):
            continue
        way = Way("messages", "/v1/messages", CHAT | {"max_tokens": 100})
        got, _ = await replayed(SCRIPTED_ANTHROPIC, way, body, rng)
        assert got == body, path
        count += 1
    assert count >= 3


async def test_unknown_members_of_chunks_pass_when_usage_is_stripped() -> None:
    """F136, F135: what the gateway takes out of a chunk is the usage that it had asked for, nothing else."""
    chunk = b'data: {"id":"c","new":{"usage":null},"obfuscation":"x","service_tier":"flex","choices":[%s]%s}\n\n'
    first = b'{"index":0,"delta":{"content":"a","reasoning":"r"},"finish_reason":null}'
    last = b'{"index":0,"delta":{},"finish_reason":"stop"}'
    usage = b',"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}'
    sent = chunk % (first, b',"usage":null') + chunk % (last, b',"usage":null') + chunk % (b"", usage)
    kept = chunk % (first, b"") + chunk % (last, b"")
    done = b"data: [DONE]\n\n"
    got, asked = await replayed(SCRIPTED, CHATS, sent + done, random.Random(1))
    assert got == kept + done
    assert b'"stream_options":{"include_usage":true}' in asked.replace(b" ", b"")
    got, _ = await replayed(SCRIPTED, CHATS, sent + done, random.Random(2), stream_options={"include_usage": True})
    assert got == sent + done


@pytest.mark.parametrize("way", [CHATS, COMPLETIONS, AZURE], ids=str)
async def test_usage_is_in_the_stream_exactly_when_asked_for(way: Way) -> None:
    """F135: null on every chunk and one extra chunk without choices; nothing of it otherwise. Accounted both times."""
    async with gateway() as gw:
        plain_body = (await gw.client.post(way.path, content=way.body(stream=True), headers=JSON)).content
        assert b"usage" not in plain_body and plain_body.endswith(b"data: [DONE]\n\n")
        asked = way.body(stream=True, stream_options={"include_usage": True})
        chunks = events((await gw.client.post(way.path, content=asked, headers=JSON)).content)
        assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] == 16
        assert all(chunk["usage"] is None and chunk["choices"] for chunk in chunks[:-1])
        refused = way.body(stream=True, stream_options={"include_usage": False})
        assert b"usage" not in (await gw.client.post(way.path, content=refused, headers=JSON)).content
        lines = await until(lambda: gw.requests() if len(gw.requests()) == 3 else [])
        assert [(line["output_tokens"], line["usage_source"]) for line in lines] == [(16, "provider")] * 3


@pytest.mark.parametrize(
    ("order", "tokens", "source"),
    [
        ("", 16, "provider"),
        ("zero_usage", 16, "estimated"),
        ("usage_in_choice", 16, "provider"),
        ("nousage", 16, "estimated"),
    ],
)
@pytest.mark.parametrize("way", EVENT_STREAMS, ids=str)
async def test_usage_says_where_it_comes_from(way: Way, order: str, tokens: int, source: str) -> None:
    """F135: reported, reported as zero although text came, on the last choice, or not at all."""
    async with gateway() as gw:
        await gw.client.post(way.path, content=way.body(stream=True), headers=JSON | {"x-mock": order})
        line = (await until(gw.requests))[0]
        assert line["usage_source"] == source
        assert line["output_tokens"] == tokens or (source == "estimated" and 8 <= line["output_tokens"] <= 32)
        assert await gw.metric("gateway_usage_estimated_total") == (source == "estimated")


@pytest.mark.parametrize("way", EVENT_STREAMS, ids=str)
async def test_events_arrive_as_they_are_sent(way: Way) -> None:
    """F23: no plugin, proxy or compressor holds them back."""
    loop = asyncio.get_running_loop()
    headers = JSON | {"x-mock": "tokens=6,gap=100", "accept-encoding": "gzip, br"}
    async with gateway() as gw:
        arrivals: dict[bytes, float] = {}
        async with gw.client.stream("POST", way.path, content=way.body(stream=True), headers=headers) as reply:
            assert reply.headers["cache-control"] == "no-cache"
            assert reply.headers["x-accel-buffering"] == "no"
            assert reply.headers["content-type"].startswith("text/event-stream")
            assert "content-encoding" not in reply.headers
            async for piece in reply.aiter_raw():
                for token in re.findall(rb"tok[1-6]", piece):
                    arrivals.setdefault(token, loop.time())
        assert len(arrivals) == 6
        # A machine that is busy lets some come together; held back, all of them would.
        gaps = [later - earlier for earlier, later in pairwise(arrivals.values())]
        assert sum(gap >= 0.05 for gap in gaps) >= 2, gaps


async def test_a_download_arrives_as_it_is_sent() -> None:
    """F23, F4: a relayed file in pieces."""
    async with gateway() as gw:
        headers = JSON | {"x-mock": "tokens=5,gap=60"}
        async with gw.client.stream("POST", SPEECH.path, content=SPEECH.body(stream=False), headers=headers) as reply:
            sizes = []
            async for piece in reply.aiter_raw():
                sizes.append(len(piece))
                if len(sizes) == 1:
                    assert not gw.mock.log.entries()[0]["completed"]
        assert len(sizes) >= 5 and sum(sizes) == 5 * 1024


async def test_no_reply_waits_for_an_acknowledgement() -> None:
    """F23: TCP_NODELAY towards the client; without it, a kept connection costs 40 ms a reply."""
    loop = asyncio.get_running_loop()
    async with gateway() as gw:
        waits = []
        for _ in range(20):
            start_s = loop.time()
            await gw.client.post(CHATS.path, json=CHAT)
            waits.append(loop.time() - start_s)
        assert sorted(waits)[10] < 0.03, waits


@pytest.mark.parametrize("transport", ["native", "httpx"])
@pytest.mark.parametrize("way", [CHATS, SPEECH], ids=str)
async def test_a_slow_reader_slows_the_upstream(way: Way, transport: str) -> None:
    """F24: of 200 MB not more than sockets and bounded buffers hold leaves the upstream while nobody reads."""
    limit = 20 * 1024 * 1024
    async with gateway(plain(target=f"transport: {transport}")) as gw:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, gw.address)
        body = request(way.path, way.body(stream=True), x_mock="tokens=3200,bigchunk=64KiB")
        await loop.sock_sendall(sock, body)
        sent = await until(lambda: gw.mock.log.entries()[-1]["tokens_sent"] if gw.mock.log.entries() else 0)
        # Until nothing has moved for 100 ms: then it is stopped, not slow.
        while True:
            await asyncio.sleep(0.1)
            now = gw.mock.log.entries()[-1]["tokens_sent"]
            if now == sent:
                break
            sent = now
        assert isinstance(sent, int) and 0 < sent * 65536 < limit
        read = 0
        while read < 2 * limit:
            read += len(await loop.sock_recv(sock, 1024 * 1024))
            ahead = gw.mock.log.entries()[-1]["tokens_sent"]
            assert isinstance(ahead, int) and ahead * 65536 - read < limit
        sock.close()
        await settled(gw)


async def test_a_slow_upstream_reader_slows_an_upload() -> None:
    """F24: the other way; a client's file waits in the client when the upstream does not read."""
    headers, body = form(24 * 1024 * 1024)
    async with (
        scripted([], keep_open=True) as upstream,
        gateway(SCRIPTED.replace("UPSTREAM", upstream.url).replace("drain: 5s", "drain: 100ms")) as gw,
        wire(gw) as client,
    ):
        client.writer.write(request("/v1/audio/transcriptions", body, **headers))
        left = 0
        while left != client.writer.transport.get_write_buffer_size():
            left = client.writer.transport.get_write_buffer_size()
            await asyncio.sleep(0.1)
        assert left > 4 * 1024 * 1024
        client.leave("rst")
        # Nobody reads from this client, so no event tells that it left (F1).
        await until(lambda: not gw.served.process.running.inflight, 1.0)
        await settled(gw)


@pytest.mark.parametrize("way", EVENT_STREAMS, ids=str)
async def test_done_is_supplied_where_only_that_is_missing(way: Way) -> None:
    """F18: with a finish reason seen the answer is whole. The Responses API's last event is more than a mark."""
    async with gateway() as gw:
        whole = (await gw.client.post(way.path, content=way.body(stream=True), headers=JSON)).content
        reply = await gw.client.post(way.path, content=way.body(stream=True), headers=JSON | {"x-mock": "nodone"})
        line = (await until(lambda: gw.requests()[1:]))[0]
        if way.name == "responses":
            assert events(reply.content)[-1]["type"] == "error" and line["outcome"] == "truncated"
        else:
            assert same(reply.content) == same(whole) and line["outcome"] == "ok"
        await settled(gw)


async def test_the_blank_line_after_the_last_event_may_be_missing() -> None:
    """F22: as some servers end their streams."""
    last = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
    async with scripted([streamed(last)]) as upstream, gateway(SCRIPTED.replace("UPSTREAM", upstream.url)) as gw:
        reply = await gw.client.post(CHATS.path, content=CHATS.body(stream=True), headers=JSON)
        assert len(events(reply.content)) == 1 and reply.content.endswith(b"\n\ndata: [DONE]\n\n")
        assert (await until(gw.requests))[0]["outcome"] == "ok"


async def test_data_over_several_lines_and_without_a_space_is_understood() -> None:
    """F22: the whole grammar of server-sent events, and not a byte of it changed."""
    body = (
        b"\xef\xbb\xbf: hello\n\nid: 1\nretry: 10\ndata:\n\n"
        b'data:{"choices":[\ndata: {"index":0,"delta":{"content":"x"},\ndata: "finish_reason":"stop"}]}\n\n'
        b"data:[DONE]\n\n"
    )
    async with scripted([streamed(body)]) as upstream, gateway(SCRIPTED.replace("UPSTREAM", upstream.url)) as gw:
        reply = await gw.client.post(CHATS.path, content=CHATS.body(stream=True), headers=JSON)
        assert reply.content == body
        assert (await until(gw.requests))[0]["outcome"] == "ok"
        assert len(frames(body)) == 4


async def test_a_compressed_bomb_is_no_stream() -> None:
    """F24: what comes out of a compressed reply is bounded too."""
    bomb = gzip.compress(b"data: " + b"0" * (80 * 1024 * 1024) + b"\n\n")
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n"
    async with (
        scripted([head % len(bomb), bomb]) as upstream,
        gateway(SCRIPTED.replace("UPSTREAM", upstream.url)) as gw,
    ):
        reply = await gw.client.post(CHATS.path, content=CHATS.body(stream=True), headers=JSON)
        assert reply.status_code == 502
        await settled(gw)
