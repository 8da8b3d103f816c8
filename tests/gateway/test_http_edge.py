"""The HTTP edge, attacked with bytes: framing, paths, headers, ids, slow clients, sizes."""

import asyncio
import gzip
import hashlib
import json
import time

import pytest

from tests.gateway.harness import CHAT, PLAIN, gateway
from tests.gateway.raw import COMPLETION, hang_up, reply, say, upstream
from tests.gateway.waiting import until

pytestmark = pytest.mark.anyio

BODY = json.dumps(CHAT).encode()
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
LENGTH = b"content-length: %d\r\n" % len(BODY)
CHUNKED = b"transfer-encoding: chunked\r\n"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
SECOND = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n"

SMUGGLING = {
    "length and chunks": HEAD + LENGTH + CHUNKED + b"\r\n" + CHUNKS,
    "chunks and length": HEAD + CHUNKED + b"content-length: 4\r\n\r\n" + CHUNKS,
    "two lengths": HEAD + LENGTH + b"content-length: 3\r\n\r\n" + BODY,
    "a length twice": HEAD + LENGTH + LENGTH + b"\r\n" + BODY,
    "a list of lengths": HEAD + b"content-length: %d, %d\r\n\r\n" % (len(BODY), len(BODY)) + BODY,
    "a length with a sign": HEAD + b"content-length: +%d\r\n\r\n" % len(BODY) + BODY,
    "an unknown coding": HEAD + b"transfer-encoding: xchunked\r\n\r\n" + CHUNKS,
    "chunked not last": HEAD + b"transfer-encoding: chunked, identity\r\n\r\n" + CHUNKS,
    "two codings": HEAD + CHUNKED + b"transfer-encoding: identity\r\n\r\n" + CHUNKS,
    "space before the colon": HEAD + b"transfer-encoding : chunked\r\n\r\n" + CHUNKS,
    "a folded line": HEAD + b"x-a: b\r\n c\r\n" + LENGTH + b"\r\n" + BODY,
    "bare line feeds": HEAD.replace(b"\r\n", b"\n") + LENGTH.replace(b"\r\n", b"\n") + b"\n" + BODY,
    "a bare carriage return": HEAD + b"x-a: b\rx-c: d\r\n" + LENGTH + b"\r\n" + BODY,
    "a NUL": HEAD + b"x-a: b\x00c\r\n" + LENGTH + b"\r\n" + BODY,
    "garbage after a chunk": HEAD + CHUNKED + b"\r\n%x\r\n%bXX0\r\n\r\n" % (len(BODY), BODY),
    "chunks ended by line feeds": HEAD + CHUNKED + b"\r\n%x\n%b\n0\n\n" % (len(BODY), BODY),
    "a negative chunk": HEAD + CHUNKED + b"\r\n-1\r\n" + BODY,
    "a chunk beyond 64 bits": HEAD + CHUNKED + b"\r\nffffffffffffffffff\r\n" + BODY,
    "a chunk size with 0x": HEAD + CHUNKED + b"\r\n0x%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
    "a tunnel": b"CONNECT localhost:443 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "HTTP/2 in clear": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("shape", SMUGGLING)
async def test_a_message_that_two_parsers_could_read_differently_is_refused_and_the_connection_closed(
    shape: str,
) -> None:
    """F87: what follows on the connection is never read as a request."""
    async with gateway() as gw:
        heard = await say(gw.address, SMUGGLING[shape] + SECOND)
        assert heard.is_closed
        assert heard.only.status == 400
        assert set(json.loads(heard.only.body)["error"]) == {"message", "type", "param", "code"}
        assert await gw.calls() == []


async def test_a_trailer_is_no_header() -> None:
    """F87: a trailer field passes none of the checks that headers pass, so it is dropped."""
    async with gateway() as gw:
        last = b"0\r\ncontent-type: text/evil\r\nuser-agent: evil\r\n\r\n"
        pieces = (HEAD + CHUNKED + b"\r\n", b"%x\r\n%b\r\n" % (len(BODY), BODY), last)
        heard = await say(gw.address, *pieces, pause_s=0.05, timeout_s=0.3)
        assert heard.only.status == 200
        sent = (await gw.calls())[-1]["headers"]
        assert [value for name, value in sent if name == "content-type"] == ["application/json"]
        assert "evil" not in str(sent)


@pytest.mark.parametrize(
    "filler", [b"0\r\n" + b"x-t: v\r\n" * 64_000, b"1;" + b"x" * 600_000, b"0\r\nx: " + b"y" * 600_000]
)
async def test_trailers_and_chunk_extensions_without_end_are_cut(filler: bytes) -> None:
    """F95, F97: what belongs to no body counts towards no body limit, and is bounded all the same."""
    async with gateway() as gw:
        pieces = [filler[start : start + 32_768] for start in range(0, len(filler), 32_768)]
        heard = await say(gw.address, HEAD + CHUNKED + b"\r\n", *pieces, pause_s=0.002)
        assert heard.is_closed
        assert heard.only.status == 431
        assert await gw.calls() == []


async def test_a_request_to_upgrade_is_served_as_it_is() -> None:
    """Java's HTTP client asks for h2c with every first request; its body must be read, and the next request too."""
    upgrade = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEA\r\n"
    async with gateway() as gw:
        whole = HEAD + upgrade + LENGTH + b"\r\n" + BODY
        heard = await say(gw.address, whole, HEAD + LENGTH + b"\r\n" + BODY, pause_s=0.05, timeout_s=0.3)
        assert [answer.status for answer in heard.answers] == [200, 200]
        cut = len(whole) - 10
        heard = await say(gw.address, whole[:cut], whole[cut:], pause_s=0.05, timeout_s=0.3)
        assert heard.only.status == 200


@pytest.mark.parametrize(
    "host", [b"x/v1/models?a=", b"a b", b"user@localhost", b"localhost:99999999", b"", b"h\xc3\xa9"]
)
async def test_a_malformed_host_is_refused_on_both_planes(host: bytes) -> None:
    """F88: a Host that holds a path cannot make any check look at another path."""
    async with gateway() as gw:
        for address, path in ((gw.address, b"/v1/models"), (gw.served.admin.address, b"/admin/v1/config")):
            heard = await say(address, b"GET %b HTTP/1.1\r\nhost: %b\r\nconnection: close\r\n\r\n" % (path, host))
            assert heard.only.status == 400


@pytest.mark.parametrize("head", [b"", b"host: localhost\r\nhost: other\r\n"])
async def test_no_host_and_two_hosts_are_refused(head: bytes) -> None:
    """F88: which of two names is meant, nobody can know."""
    async with gateway() as gw:
        heard = await say(gw.address, b"GET /v1/models HTTP/1.1\r\n%bconnection: close\r\n\r\n" % head)
        assert heard.only.status == 400


STRANGE_PATHS = [
    b"/v1/files/../admin",
    b"/v1/files/..",
    b"/v1/files/.",
    b"/v1/files/%2e%2e/admin",
    b"/v1/files/%2e%2e%2fadmin",
    b"/v1/files/a%2fb",
    b"/v1/files/a/../../chat/completions",
    b"/v1//files",
    b"//v1/files",
    b"/v1/files/",
    b"/v1/files;x=1",
    b"/v1/files/a;x",
    b"/v1/files/a%00b",
    b"/v1/files/a%0d%0ahost:x",
    b"/v1/files/a\\..\\b",
    b"/V1/files",
    b"/v1/organization/admin_api_keys",
    b"/v1/unknown",
    b"/openai/deployments/../x/chat/completions",
    b"/openai/deployments/a%2fb/chat/completions",
    b"/openai/v1/../admin",
    b"http://localhost/v1/files/../admin",
    b"/v1/files/\xc3\xa9",
    b"/v1/files/a b",
    b"*",
    b"/",
]


@pytest.mark.parametrize("path", STRANGE_PATHS)
async def test_a_path_that_is_not_on_the_list_never_reaches_a_provider(path: bytes) -> None:
    """F89: no `..`, no encoded slash, no doubled slash, no parameter."""
    async with gateway(PLAIN.replace("drain: 5s", "drain: 5s, default_route: demo")) as gw:
        for method in (b"GET", b"POST", b"DELETE"):
            heard = await say(
                gw.address, method + b" %b HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n" % path
            )
            assert heard.only.status in (400, 404, 405)
        assert await gw.calls() == []


async def test_the_absolute_form_is_served_by_its_path_alone() -> None:
    """F89: the host in the request line chooses nothing."""
    async with gateway() as gw:
        line = HEAD.replace(b"/v1", b"http://elsewhere.example/v1", 1)
        heard = await say(gw.address, line + LENGTH + b"connection: close\r\n\r\n" + BODY)
        assert heard.only.status == 200
        assert [call["path"] for call in await gw.calls()] == ["/v1/chat/completions"]


def _echo(text: str, **more: object) -> bytes:
    body = json.dumps(CHAT | {"messages": [{"role": "user", "content": text}], **more}).encode()
    return HEAD + b"x-mock: echo,gap=5ms\r\ncontent-length: %d\r\n\r\n" % len(body) + body


async def test_pipelined_requests_are_answered_in_turn_each_with_its_own_body() -> None:
    """F87: also when the first one streams, and when something broken follows."""
    async with gateway() as gw:
        heard = await say(gw.address, _echo("first") + _echo("second", stream=True) + _echo("third"), timeout_s=0.5)
        assert [answer.status for answer in heard.answers] == [200, 200, 200]
        assert b'"content":"first"' in heard.answers[0].body
        assert b'"content":"third"' in heard.answers[2].body
        assert heard.answers[1].body.endswith(b"data: [DONE]\n\n")
        upload = b"--B\r\ncontent-disposition: form-data; name=file; filename=a\r\n\r\nx\r\n--B--\r\n"
        head = b"POST /v1/audio/transcriptions HTTP/1.1\r\nhost: localhost\r\nx-gateway-route: demo\r\n"
        head += b"content-type: multipart/form-data; boundary=B\r\ncontent-length: %d\r\n\r\n" % len(upload)
        await say(gw.address, head + upload + _echo("second"), timeout_s=0.5)
        assert (await gw.calls())[-2]["body_sha256"] == hashlib.sha256(upload).hexdigest()
        heard = await say(gw.address, _echo("first") + _echo("second") + b"garbage\r\n\r\n")
        assert heard.is_closed
        assert {answer.status for answer in heard.answers} <= {200, 400}


FORWARDED = {"host", "content-type", "content-length", "accept", "accept-encoding", "traceparent", "user-agent"} | {
    "x-gateway-hops"
}


async def test_only_listed_headers_go_to_the_provider() -> None:
    """F90, F92, F96: hop-by-hop and `Connection`-listed headers, credentials, cookies and forwarded-fors stay here."""
    canaries = [
        "authorization", "cookie", "x-api-key", "api-key", "proxy-authorization", "x-forwarded-for", "forwarded",
        "x-forwarded-host", "x-real-ip", "x-internal-user", "x-gateway-tags", "x-goog-api-key", "baggage", "tracestate",
        "keep-alive", "te", "x-secret", "openai-organization", "openai-project", "x-stainless-lang", "referer",
        "origin", "via", "x-mock-not", "x-gateway-timeouts", "proxy-connection",
    ]  # fmt: skip
    headers = {name: "canary=1" for name in canaries} | {"connection": "keep-alive, x-secret, te"}
    async with gateway() as gw:
        assert (await gw.client.post("/v1/chat/completions", json=CHAT, headers=headers)).status_code == 200
        sent = (await gw.calls())[-1]["headers"]
        assert {name.lower() for name, _ in sent} <= FORWARDED
        assert "canary" not in str(sent)


async def test_only_listed_headers_come_back_from_the_provider() -> None:
    """F90, F92: no cookie, no hop-by-hop header, no unknown one; framing is the gateway's own."""
    lines = (
        b"set-cookie: canary=1", b"connection: keep-alive, x-secret", b"keep-alive: timeout=9", b"x-secret: canary",
        b"server: canary", b"x-internal: canary", b"access-control-allow-origin: *", b"www-authenticate: canary",
        b"x-gateway-target: canary", b"x-request-id: canary", b"openai-processing-ms: 12",
        b"x-ratelimit-remaining-requests: 7", b"trailer: canary", b"location: http://canary", b"alt-svc: canary",
    )  # fmt: skip
    async with upstream(reply(COMPLETION, *lines)) as provider, gateway(to(provider.url)) as gw:
        answer = await gw.client.post("/v1/chat/completions", json=CHAT)
        assert answer.status_code == 200
        assert answer.headers["openai-processing-ms"] == "12"
        assert answer.headers["x-ratelimit-remaining-requests"] == "7"
        assert "canary" not in str(answer.headers.raw)
        assert not {"set-cookie", "keep-alive", "server", "access-control-allow-origin"} & set(answer.headers)
        assert answer.headers["x-gateway-target"] == "it"


def to(url: str, more: str = "") -> str:
    """One route to one OpenAI look-alike at `url`."""
    return (
        PLAIN.replace("drain: 5s", f"drain: 5s{more}")
        .replace(
            "mock: {breaker: off, provider: mock, base_url: MOCK_URL}", f"it: {{provider: openai, base_url: {url}/v1}}"
        )
        .replace("target: mock", "target: it")
    )


@pytest.mark.parametrize("accepted", ["gzip", "identity"])
async def test_a_compressed_reply_is_passed_on_plain_with_its_own_length(accepted: str) -> None:
    """F91: neither content-encoding nor a stale content-length is left."""
    async with gateway() as gw:
        headers = {"accept-encoding": accepted, "x-mock": "gzip"}
        answer = await gw.client.post("/v1/chat/completions", json=CHAT, headers=headers)
        assert "content-encoding" not in answer.headers
        assert answer.json()["object"] == "chat.completion"
        assert int(answer.headers["content-length"]) == len(answer.content)
        stream = await gw.client.post("/v1/chat/completions", json=CHAT | {"stream": True}, headers=headers)
        assert "content-encoding" not in stream.headers
        assert stream.text.endswith("data: [DONE]\n\n")
        assert all(dict(call["headers"])["accept-encoding"] == "identity" for call in await gw.calls())


async def test_a_compressed_file_is_passed_on_plain() -> None:
    """F91: on relayed paths too, where the body is passed on piece by piece."""
    content = b"a,b\n" * 50_000
    packed = reply(gzip.compress(content), b"content-encoding: gzip", content_type=b"text/csv")
    async with upstream(packed) as provider, gateway(to(provider.url, ", default_route: demo")) as gw:
        answer = await gw.client.get("/v1/files/file-1/content")
        assert answer.content == content
        assert "content-encoding" not in answer.headers


@pytest.mark.parametrize(
    "given", [b"a%0d%0ab", b"x" * 10_000, "\N{GRINNING FACE}".encode(), b"a b", b"", b'a"b', b"a{b"]
)
async def test_a_harmful_correlation_id_is_replaced(given: bytes) -> None:
    """F93: what is not `[A-Za-z0-9._-]{1,128}` comes back nowhere."""
    async with gateway() as gw:
        heard = await say(
            gw.address, HEAD + b"x-request-id: %b\r\nconnection: close\r\n" % given + LENGTH + b"\r\n" + BODY
        )
        assert heard.only.status == 200
        fresh = heard.only.values(b"x-request-id")
        assert len(fresh) == 1
        assert fresh[0].startswith(b"req-")
        assert gw.requests()[-1]["request_id"] == fresh[0].decode()


async def test_a_harmless_correlation_id_is_kept() -> None:
    """F93."""
    async with gateway() as gw:
        answer = await gw.client.post("/v1/chat/completions", json=CHAT, headers={"x-request-id": "a-B_9." * 21})
        assert answer.headers["x-request-id"] == "a-B_9." * 21


HASTY = PLAIN.replace(
    "drain: 5s", "drain: 5s, header_timeout: 300ms, body_timeout: 300ms, write_timeout: 300ms, keepalive_timeout: 1s"
)


async def test_slow_heads_are_refused_and_disturb_nobody() -> None:
    """F94: a byte now and then keeps no connection."""
    async with gateway(HASTY) as gw:
        slow = [
            asyncio.ensure_future(say(gw.address, *(bytes([byte]) for byte in HEAD), pause_s=0.05)) for _ in range(50)
        ]
        await until(lambda: len(gw.served.data.connections) >= 50)
        began_s = time.monotonic()
        assert (await gw.client.post("/v1/chat/completions", json=CHAT)).status_code == 200
        assert time.monotonic() - began_s < 1.0
        for heard in await asyncio.gather(*slow):
            assert heard.is_closed
            assert [answer.status for answer in heard.answers] in ([408], [])


async def test_an_empty_line_holds_no_idle_connection() -> None:
    """F94: the idle timer ends with the first byte, so the head's own has to begin with it."""
    async with gateway(HASTY) as gw:
        heard = await say(gw.address, HEAD + LENGTH + b"\r\n" + BODY, b"\r\n", pause_s=0.1)
        assert heard.is_closed
        assert [answer.status for answer in heard.answers] == [200, 408]


async def test_a_body_that_trickles_is_ended_with_408() -> None:
    """F94: a byte now and then is not progress."""
    async with gateway(HASTY) as gw:
        heard = await say(gw.address, HEAD + b"content-length: 5000\r\n\r\n", *([b"x"] * 60), pause_s=0.05)
        assert heard.is_closed
        assert heard.only.status == 408
        assert json.loads(heard.only.body)["error"]["code"] == "request_timeout"
        assert (await until(gw.requests))[-1]["outcome"] == "client_error"


async def test_a_reader_that_stops_is_cut_and_the_provider_with_it() -> None:
    """F94, F24: a client that reads nothing holds a reply only for the write timeout."""
    async with gateway(HASTY) as gw:
        body = json.dumps(CHAT | {"stream": True}).encode()
        reader, writer = await asyncio.open_connection(*gw.address, limit=1024)
        writer.write(HEAD + b"x-mock: tokens=4000,bigchunk=64KiB\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await until(lambda: gw.mock.log.entries())
        await until(lambda: gw.mock.log.entries()[0]["closed_early"], timeout_s=5)
        assert (await until(gw.requests))[-1]["outcome"] == "client_gone"
        await hang_up(writer)
        del reader


async def test_there_is_a_cap_on_connections() -> None:
    """F94: more than `max_connections` are told so at once; those that are open go on."""
    async with gateway(PLAIN.replace("drain: 5s", "drain: 5s, max_connections: 5")) as gw:
        opened = [await asyncio.open_connection(*gw.address) for _ in range(5)]
        await until(lambda: len(gw.served.data.connections) == 5)
        heard = await say(gw.address)
        assert heard.only.status == 503
        assert heard.only.values(b"retry-after") == [b"1"]
        opened[0][1].write(HEAD + LENGTH + b"\r\n" + BODY)
        assert (await opened[0][0].readline()).startswith(b"HTTP/1.1 200")
        for _, writer in opened:
            await hang_up(writer)


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (HEAD + b"x-big: " + b"a" * 200_000 + b"\r\n\r\n", 431),
        (HEAD + b"".join(b"x-%d: a\r\n" % number for number in range(1000)) + b"\r\n", 431),
        (HEAD + b"a" * 200_000, 431),
        (b"GET /" + b"a" * 200_000, 431),
        (b"GET /v1/models?" + b"a" * 20_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n", 414),
    ],
)
async def test_a_head_that_is_too_large_is_refused(request_head: bytes, status: int) -> None:
    """F95: one header, many headers, one that never ends, a long URL; on both planes."""
    async with gateway() as gw:
        for address in (gw.address, gw.served.admin.address):
            heard = await say(address, request_head)
            assert heard.is_closed
            assert heard.only.status == status
        assert await gw.calls() == []


async def test_what_the_gateway_sets_itself_cannot_be_set_by_a_client() -> None:
    """F96: hops, attempts and targets are told to nobody by a header; a broken traceparent starts a new trace."""
    headers = {
        "x-gateway-attempts": "9",
        "x-gateway-cache": "hit",
        "traceparent": "00-" + "0" * 32 + "-" + "1" * 16 + "-01",
    }
    async with gateway() as gw:
        answer = await gw.client.post("/v1/chat/completions", json=CHAT, headers=headers)
        assert answer.headers["x-gateway-attempts"] == "1"
        assert answer.headers["x-gateway-cache"] == "bypass"
        assert gw.requests()[-1]["trace_id"] != "0" * 32
