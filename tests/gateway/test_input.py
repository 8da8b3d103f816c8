"""Bodies: too large, too deep, ambiguous, absurd; and what passes untouched."""

import asyncio
import hashlib
import json
import resource
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.gateway.harness import CHAT, PLAIN, Gateway, gateway
from tests.gateway.raw import COMPLETION, reply, say, upstream
from tests.gateway.test_http_edge import HEAD
from tests.gateway.waiting import until

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}
SMALL = PLAIN.replace("drain: 5s", "drain: 5s, max_body: 1MiB, default_route: demo")
CHUNKED = b"host: localhost\r\ntransfer-encoding: chunked\r\n"
_MIB = 1024 * 1024


async def post(gw: Gateway, body: bytes, path: str = "/v1/chat/completions", **headers: str) -> httpx.Response:
    """The answer to a body as it is."""
    return await gw.client.post(path, content=body, headers=JSON | headers)


def rss_bytes() -> int:
    """Memory of this process, and so of the gateway in it."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b"POST /v1/chat/completions", b"application/json"),
        (b"POST /v1/messages", b"application/json"),
        (b"POST /v1/files", b"multipart/form-data; boundary=x"),
        (b"POST /v1/batches", b"application/json"),
    ],
)
async def test_a_body_without_end_is_refused_at_the_limit(line: bytes, kind: bytes) -> None:
    """F97: in chunks, without a length, whether it is read or passed on; memory stays where it was."""
    async with gateway(SMALL) as gw:
        chunk = b"%x\r\n" % 65536 + b"a" * 65536 + b"\r\n"
        before = rss_bytes()
        head = line + b" HTTP/1.1\r\n" + CHUNKED + b"content-type: " + kind + b"\r\n\r\n"
        heard = await say(gw.address, head, *([chunk] * 4000))
        assert heard.is_closed
        assert rss_bytes() - before < 20 * _MIB
        assert heard.only.status == 413
        line_of_it = gw.requests()[-1]
        assert (line_of_it["status"], line_of_it["outcome"]) == (413, "client_error")


async def test_a_declared_length_over_the_limit_is_refused_before_the_body() -> None:
    """F97: in the dialect of the path."""
    async with gateway(SMALL) as gw:
        for path, shape in (("/v1/chat/completions", "openai"), ("/v1/messages", "anthropic"), ("/v1/files", "openai")):
            head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            head += f"content-length: {2 * _MIB}"
            heard = await say(gw.address, head.encode() + b"\r\n\r\n")
            assert heard.only.status == 413
            assert heard.is_closed
            error = json.loads(heard.only.body)["error"]
            assert error.get("code" if shape == "openai" else "type") == "request_too_large"


async def test_a_client_that_sends_on_hears_the_refusal_all_the_same() -> None:
    """F97: a connection closed with bytes unread is reset, and the answer lost; so they are read, for a while."""
    async with gateway(SMALL) as gw:
        for _ in range(10):
            answer = await post(gw, b"x" * 12 * _MIB)
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")
        await until(lambda: not gw.served.data.connections)


async def test_a_body_of_exactly_the_limit_passes() -> None:
    """F97."""
    async with gateway(SMALL) as gw:
        bare = json.dumps(CHAT | {"pad": ""}).encode()
        body = bare.replace(b'"pad": ""', b'"pad": "%b"' % (b"x" * (_MIB - len(bare))))
        assert len(body) == _MIB
        assert (await post(gw, body)).status_code == 200
        assert (await post(gw, body + b" ")).status_code == 413


def _huge() -> dict[str, bytes]:
    messages = b'"model":"demo","messages":[{"role":"user","content":"hi"}]'
    return {
        "100,000 lists": b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"," + messages + b"}",
        "100,000 objects": b'{"x":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"," + messages + b"}",
        "lists that never close": b"[" * 1_000_000,
        "5,000 digits in a field": b'{"seed":' + b"9" * 5000 + b"," + messages + b"}",
    }


@pytest.mark.parametrize("case", _huge())
async def test_absurd_json_is_refused(case: str) -> None:
    """F98: a 400 that says why, never a 500."""
    async with gateway() as gw:
        answer = await post(gw, _huge()[case])
        assert answer.status_code == 400
        assert answer.json()["error"]["type"] == "invalid_request_error"
        assert await gw.calls() == []


async def test_a_large_body_does_not_keep_others_waiting() -> None:
    """F98: two million keys, and /livez answers meanwhile."""
    body = b'{"model":"none",' + b",".join(b'"k%d":%d' % (number, number) for number in range(2_000_000)) + b"}"
    async with gateway() as gw:
        await gw.client.get("/livez")
        sending = asyncio.ensure_future(post(gw, body))
        slowest_s = 0.0
        while not sending.done():
            began_s = time.monotonic()
            assert (await gw.client.get("/livez")).status_code == 200
            slowest_s = max(slowest_s, time.monotonic() - began_s)
        assert (await sending).status_code in (404, 413)
        # The specification says 100 ms; client, mock and gateway share one loop and one core here.
        assert slowest_s < 0.4


@pytest.mark.parametrize(
    "field", [b'"temperature":NaN', b'"temperature":Infinity', b'"top_p":-Infinity', b'"x":NaN', b'"temperature":1e400']
)
async def test_numbers_that_are_none_are_refused(field: bytes) -> None:
    """F99."""
    async with gateway() as gw:
        answer = await post(gw, b'{"model":"demo","messages":[],' + field + b"}")
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "invalid_json"
        assert await gw.calls() == []


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"demo","messages":[],"model":"dear"}',
        b'{"model":"demo","messages":[],"mod\\u0065l":"dear"}',
        b'{"mod\\u0065l":"dear","messages":[],"model":"demo"}',
        b'{"model":"demo","stream":false,"messages":[],"stream":true}',
        b'{"model":"demo","max_tokens":1,"messages":[],"max_tokens":100000}',
    ],
)
async def test_a_field_that_stands_twice_is_refused(body: bytes) -> None:
    """F100: what is checked is what is sent."""
    async with gateway() as gw:
        answer = await post(gw, body)
        assert answer.status_code == 400
        assert "duplicate" in answer.json()["error"]["message"]
        assert await gw.calls() == []


async def test_a_name_in_escapes_is_the_same_name() -> None:
    """F100: the model that was checked is the one that is rewritten."""
    config = PLAIN.replace("base_url: MOCK_URL}", "base_url: MOCK_URL, model: served}")
    async with gateway(config) as gw:
        body = b'{"mod\\u0065l":"demo","messages":[{"role":"user","content":"hi","model":"demo"}]}'
        assert (await post(gw, body)).status_code == 200
        assert (await gw.calls())[-1]["model"] == "served"


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(CHAT).encode("utf-16"),
        json.dumps(CHAT).encode("utf-16-le"),
        json.dumps(CHAT).encode("utf-32"),
        b"\xef\xbb\xbf" + json.dumps(CHAT).encode(),
        b'{"model":"demo","messages":[{"role":"user","content":"\xff"}]}',
        b'{"model":"demo","messages":[{"role":"user","content":"\xed\xa0\x80"}]}',
        b'{"model":"demo","messages":[{"role":"user","content":"\xc0\xaf"}]}',
        b'{"model":"demo","messages":[{"role":"user","content":"\\ud800"}]}',
        json.dumps(CHAT, ensure_ascii=False).replace("hi", "h\xe9").encode("latin-1"),
    ],
)
async def test_only_utf8_is_json(body: bytes) -> None:
    """F101."""
    async with gateway() as gw:
        answer = await post(gw, body)
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "invalid_json"
        assert await gw.calls() == []


@pytest.mark.parametrize(
    "body", [b"", b" ", b"[]", b"null", b'"x"', b"1", b"true", b"{", b"{}", b'{"model":null}', b"{'a':1}"]
)
@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/messages", "/v1/embeddings", "/v1/responses", "/v1/completions"]
)
async def test_a_body_that_is_no_request_is_refused_in_the_dialect(path: str, body: bytes) -> None:
    """F102: never a 500, in the dialect's own shape."""
    async with gateway() as gw:
        answer = await post(gw, body, path)
        assert answer.status_code == 400
        if path == "/v1/messages":
            assert answer.json()["type"] == "error"
            assert answer.json()["error"]["type"] == "invalid_request_error"
        else:
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    "kind",
    [
        "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain",
        "text/plain;application/json", "application/jsonp", "application/xml", "",
    ],
)  # fmt: skip
async def test_json_endpoints_take_json_only(kind: str) -> None:
    """F102: what a web page's form can send drives no gateway."""
    async with gateway() as gw:
        for path in ("/v1/chat/completions", "/v1/messages", "/openai/deployments/demo/chat/completions"):
            answer = await gw.client.post(path, content=json.dumps(CHAT), headers={"content-type": kind})
            assert answer.status_code == 415
        assert await gw.calls() == []


async def test_no_content_type_is_no_json() -> None:
    """F102."""
    async with gateway() as gw:
        body = json.dumps(CHAT).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body)
        assert (await say(gw.address, head + body, timeout_s=0.2)).only.status == 415


async def test_a_compressed_body_is_refused() -> None:
    """F97: a small body cannot become a large one here."""
    async with gateway() as gw:
        for path in ("/v1/chat/completions", "/v1/files"):
            answer = await post(gw, b"\x1f\x8b", path, **{"content-encoding": "gzip"})
            assert answer.status_code == 415


STRANGE: dict[str, Any] = {
    "extra_body": {"api_base": "http://127.0.0.1:9/", "nested": [{"api_key": "x"}]},
    "metadata": {"a": "\u2028\u0085", "model": "other"},
    "unknown_field": [1.0, 1e3, 12345678901234567890, None, {"": ""}],
    "temperature": 0.70,
}


async def test_unknown_fields_pass_byte_for_byte() -> None:
    """F103: order, spaces, escapes and digits as well."""
    async with gateway() as gw:
        body = (json.dumps(CHAT | STRANGE, indent=3) + "\n").encode().replace(b"0.7", b"0.700e0")
        assert (await post(gw, body)).status_code == 200
        assert (await gw.calls())[-1]["body_sha256"] == hashlib.sha256(body).hexdigest()


async def test_only_the_model_is_rewritten() -> None:
    """F103: every other byte stays."""
    async with gateway(PLAIN.replace("base_url: MOCK_URL}", "base_url: MOCK_URL, model: served}")) as gw:
        body = json.dumps(STRANGE | CHAT, indent=3).encode()
        assert (await post(gw, body)).status_code == 200
        expected = body.replace(b'"model": "demo"', b'"model": "served"')
        assert (await gw.calls())[-1]["body_sha256"] == hashlib.sha256(expected).hexdigest()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", "100000"), ("n", "0"), ("n", "-1"), ("n", '"2"'), ("max_tokens", "-1"), ("max_tokens", "true"),
        ("max_tokens", "1e308"), ("max_tokens", "99999999999"), ("max_tokens", "0"), ("max_tokens", "1.5"),
        ("max_completion_tokens", "-5"), ("temperature", '"hot"'), ("stream", "1"), ("stream", '"yes"'),
        ("stream_options", "3"), ("model", "7"), ("model", '""'), ("model", '"' + "m" * 300 + '"'), ("seed", "1.5"),
    ],
)  # fmt: skip
async def test_an_absurd_value_is_refused_with_the_name_of_its_field(field: str, value: str) -> None:
    """F104."""
    async with gateway() as gw:
        parts = {"model": '"demo"', "messages": "[]"} | {field: value}
        body = "{" + ",".join(f'"{name}":{text}' for name, text in parts.items()) + "}"
        answer = await post(gw, body.encode())
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == field
        assert await gw.calls() == []


async def test_an_image_is_never_fetched() -> None:
    """F105: a URL in a message is the provider's business."""
    async with upstream(reply(COMPLETION)) as metadata_server, gateway() as gw:
        urls = [metadata_server.url + "/latest/meta-data", "http://169.254.169.254/", "file:///etc/passwd"]
        content = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        answer = await post(gw, json.dumps(CHAT | {"messages": [{"role": "user", "content": content}]}).encode())
        assert answer.status_code == 200
        assert metadata_server.connections == 0


async def test_a_client_that_leaves_while_it_sends_is_noted() -> None:
    """F97, F3: half a body is no request."""

    async def half() -> AsyncIterator[bytes]:
        yield b'{"model":'
        raise OSError("gone")

    async with gateway() as gw:
        with pytest.raises(OSError, match="gone"):
            await gw.client.post("/v1/chat/completions", content=half(), headers=JSON)
        await until(gw.requests)
        assert (gw.requests()[-1]["status"], gw.requests()[-1]["outcome"]) == (499, "client_gone")
        assert await gw.calls() == []


async def _expects(gw: Gateway, length: int) -> list[int]:
    body = b"x" * length
    heard = await say(
        gw.address,
        HEAD + b"expect: 100-continue\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % length,
        body,
        pause_s=0.1,
    )
    return [answer.status for answer in heard.answers]


async def test_a_client_that_asks_first_is_told_first() -> None:
    """F97: with `Expect: 100-continue` a body that is too large is never sent."""
    async with gateway(PLAIN.replace("drain: 5s", "drain: 5s, max_body: 1KiB")) as gw:
        assert await _expects(gw, 1000) == [100, 400]
        assert await _expects(gw, 2000) == [413]
