"""One attempt at one target."""

import asyncio
import gzip
import json
import traceback
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.errors import (
    DeadlineExceeded,
    Headers,
    InvalidRequest,
    Overloaded,
    UpstreamAccountError,
    UpstreamError,
    UpstreamTimeout,
    UpstreamTruncated,
)
from gateway.core.exchange import Exchange, Operation, Request, RequestHead, Usage
from gateway.providers.kinds import KINDS, Addressing
from gateway.providers.target import Target, TargetSettings
from tests.fakes import FakeClock, FakeResponse, FakeUpstream, events_of, exchange, request

pytestmark = pytest.mark.anyio

JSON: Headers = [(b"content-type", b"application/json")]
SSE: Headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
ANSWER = (
    b'{"id":"c-1","model":"served-1","choices":[{"index":0,"finish_reason":"stop",'
    b'"message":{"role":"assistant","content":"hi"}}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}'
)
CHUNK = b'data: {"id":"c-1","model":"served-1","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
FINISH = b'data: {"id":"c-1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"id":"c-1","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}}\n\n'
DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error":{"message":"boom","type":"rate_limit_error","code":"rate_limit_exceeded"}}\n\n'
BODY = b'{"model": "demo",  "messages": [], "x": 1}'


def _settings(kind: str = "openai", **changes: Any) -> TargetSettings:
    settings = TargetSettings(
        name="mock",
        kind=KINDS[kind],
        addressing=Addressing("/v1" if kind == "openai" else ""),
        connect_s=1.0,
        first_token_s=2.0,
        idle_s=3.0,
        total_s=60.0,
        headers=[(b"authorization", b"Bearer sk-up")],
    )
    return replace(settings, **changes)


def _target(upstream: FakeUpstream, clock: FakeClock | None = None, kind: str = "openai", **changes: Any) -> Target:
    return Target(_settings(kind, **changes), upstream, clock or FakeClock())


def _asked(**changes: Any) -> Exchange:
    given: dict[str, Any] = {"head": RequestHead(model="demo", body_model="demo"), "body": BODY}
    return exchange(request(**(given | changes)), attempts=1)


def _streaming(**changes: Any) -> Exchange:
    return _asked(head=RequestHead(model="demo", body_model="demo", stream=True, **changes))


async def _answer(target: Target, asked: Exchange) -> bytes:
    async with target(asked) as reply:
        if reply.body is not None:
            return reply.body
        assert reply.events is not None
        return b"".join([block async for block in reply.events])


# What goes up


async def test_a_request_goes_up_to_the_fixed_path_with_the_gateways_credential() -> None:
    """F89, F90."""
    upstream = FakeUpstream(FakeResponse(200, JSON, [ANSWER]))
    asked = _asked(
        headers=[
            (b"authorization", b"Bearer sk-client"),
            (b"content-type", b"application/json"),
            (b"accept-encoding", b"gzip"),
            (b"cookie", b"a=b"),
            (b"connection", b"x-hop"),
            (b"x-hop", b"1"),
            (b"x-mock", b"status=500"),
            (b"openai-beta", b"assistants=v2"),
        ],
        query=b"api-version=1",
        hops=2,
    )
    await _answer(_target(upstream), asked)
    [sent] = upstream.requests
    assert (sent.method, sent.target, sent.body) == (b"POST", b"/v1/chat/completions", BODY)
    assert sent.headers == [
        (b"content-type", b"application/json"),
        (b"openai-beta", b"assistants=v2"),
        (b"authorization", b"Bearer sk-up"),
        (b"accept-encoding", b"identity"),
        (b"traceparent", b"00-trace-span-00"),
        (b"x-gateway-hops", b"3"),
    ]


async def test_the_body_is_relayed_untouched_where_nothing_must_change() -> None:
    upstream = FakeUpstream(FakeResponse(200, JSON, [ANSWER]))
    asked = _asked()
    await _answer(_target(upstream), asked)
    assert upstream.requests[0].body is asked.request.body


async def test_the_model_is_renamed_without_touching_the_rest() -> None:
    upstream = FakeUpstream(FakeResponse(200, JSON, [ANSWER]))
    await _answer(_target(upstream, model="gpt-4.1"), _asked())
    assert upstream.requests[0].body == b'{"model": "gpt-4.1",  "messages": [], "x": 1}'


async def test_a_model_that_only_the_path_named_is_put_into_the_body() -> None:
    upstream = FakeUpstream(FakeResponse(200, JSON, [ANSWER]))
    asked = _asked(head=RequestHead(model="demo", body_model=None), body=b'{"messages": []}')
    await _answer(_target(upstream), asked)
    body = upstream.requests[0].body
    assert isinstance(body, bytes)
    assert json.loads(body) == {"model": "demo", "messages": []}


@pytest.mark.parametrize(
    ("kind", "operation", "changes", "name"),
    [
        ("openai", "chat", {}, b"max_tokens"),
        ("openai", "chat", {"chat_bound": "max_completion_tokens"}, b"max_completion_tokens"),
        ("openai", "text_completion", {"chat_bound": "max_completion_tokens"}, b"max_tokens"),
        ("openai", "responses", {}, b"max_output_tokens"),
        ("anthropic", "messages", {}, b"max_tokens"),
    ],
)
async def test_the_bound_that_is_held_is_sent(
    kind: str, operation: Operation, changes: dict[str, Any], name: bytes
) -> None:
    """F52."""
    upstream = FakeUpstream(FakeResponse(200, JSON, [ANSWER]))
    asked = _asked(operation=operation, dialect="anthropic" if kind == "anthropic" else "openai")
    asked.max_tokens_sent = 512
    await _answer(_target(upstream, kind=kind, **changes), asked)
    assert upstream.requests[0].body == BODY.replace(b"{", b'{"%s":512,' % name, 1)


async def test_the_clients_own_bound_stays_and_what_has_no_output_gets_none() -> None:
    bounded = _asked(head=RequestHead(model="demo", body_model="demo", max_tokens=7))
    embedding = _asked(operation="embeddings")
    for asked in (bounded, embedding):
        asked.max_tokens_sent = 512
        upstream = FakeUpstream(FakeResponse(200, JSON, [ANSWER]))
        await _answer(_target(upstream), asked)
        assert upstream.requests[0].body == BODY


async def test_a_request_without_a_model_gets_none() -> None:
    upstream = FakeUpstream(FakeResponse(200, JSON, [b"{}"]))
    asked = _asked(operation="relay", suffix="batches", head=RequestHead(), body=b'{"input_file_id": "f"}')
    await _answer(_target(upstream, model="gpt-4.1"), asked)
    assert upstream.requests[0].body == b'{"input_file_id": "f"}'


async def test_usage_is_asked_for_in_streams_and_stripped_again() -> None:
    """F51."""
    upstream = FakeUpstream(FakeResponse(200, SSE, [CHUNK, FINISH, USAGE, DONE]))
    asked = _streaming()
    assert await _answer(_target(upstream), asked) == CHUNK + FINISH + DONE
    body = upstream.requests[0].body
    assert isinstance(body, bytes)
    assert json.loads(body)["stream_options"] == {"include_usage": True}
    assert (asked.usage.input_tokens, asked.usage.output_tokens, asked.usage.source) == (3, 5, "provider")


async def test_usage_that_the_client_asked_for_stays() -> None:
    upstream = FakeUpstream(FakeResponse(200, SSE, [CHUNK, FINISH, USAGE, DONE]))
    assert await _answer(_target(upstream), _streaming(include_usage=True)) == CHUNK + FINISH + USAGE + DONE
    assert upstream.requests[0].body == BODY


async def test_usage_is_not_asked_for_where_the_target_does_not_take_it() -> None:
    upstream = FakeUpstream(FakeResponse(200, SSE, [CHUNK, FINISH, DONE]))
    await _answer(_target(upstream, inject_usage=False), _streaming())
    assert upstream.requests[0].body == BODY


async def test_a_default_header_yields_to_the_clients_own() -> None:
    answer = b'{"id":"m","type":"message","model":"m","content":[],"usage":{"input_tokens":1,"output_tokens":1}}'
    for headers, version in (([], b"2023-06-01"), ([(b"anthropic-version", b"2024-01-01")], b"2024-01-01")):
        upstream = FakeUpstream(FakeResponse(200, JSON, [answer]))
        target = _target(upstream, kind="anthropic", default_headers=[(b"anthropic-version", b"2023-06-01")])
        asked = _asked(dialect="anthropic", operation="messages", suffix="messages", headers=headers)
        await _answer(target, asked)
        sent = upstream.requests[0].headers
        assert [value for name, value in sent if name == b"anthropic-version"] == [version]


async def test_a_fixed_header_replaces_the_clients() -> None:
    upstream = FakeUpstream(FakeResponse(200, JSON, [ANSWER]))
    target = _target(upstream, headers=[(b"user-agent", b"gateway")])
    await _answer(target, _asked(headers=[(b"user-agent", b"client")]))
    assert [value for name, value in upstream.requests[0].headers if name == b"user-agent"] == [b"gateway"]


async def test_the_mock_is_sent_its_directives() -> None:
    upstream = FakeUpstream(FakeResponse(200, JSON, [ANSWER]))
    await _answer(_target(upstream, kind="mock"), _asked(headers=[(b"x-mock", b"tokens=1")]))
    assert (b"x-mock", b"tokens=1") in upstream.requests[0].headers


async def test_an_upload_is_streamed_and_its_query_relayed() -> None:
    upstream = FakeUpstream(FakeResponse(200, JSON, [b"{}"]))
    body = events_of(b"a", b"b")
    asked = _asked(
        operation="relay",
        suffix="files",
        body=b"",
        body_stream=body,
        content_length=2,
        query=b"purpose=batch",
    )
    await _answer(_target(upstream), asked)
    [sent] = upstream.requests
    assert (sent.target, sent.content_length) == (b"/v1/files?purpose=batch", 2)
    assert sent.body is body


async def test_a_relayed_query_goes_behind_azures_version() -> None:
    upstream = FakeUpstream(FakeResponse(200, JSON, [b"{}"]))
    target = _target(upstream, kind="azure", addressing=Addressing("", "v1"))
    asked = _asked(operation="relay", suffix="files", method="GET", body=b"", query=b"limit=2&api-version=v9")
    await _answer(target, asked)
    assert upstream.requests[0].target == b"/openai/files?api-version=v9&limit=2"


@pytest.mark.parametrize(
    ("kind", "asked", "code", "text"),
    [
        ("openai", request(dialect="anthropic", operation="messages"), "dialect_not_supported", "speaks the openai"),
        ("anthropic", request(), "dialect_not_supported", "came in the openai dialect"),
    ],
)
async def test_another_dialect_is_refused_before_anything_is_sent(
    kind: str, asked: Request, code: str, text: str
) -> None:
    upstream = FakeUpstream()
    with pytest.raises(InvalidRequest, match=text) as caught:
        await _answer(_target(upstream, kind=kind), exchange(asked, attempts=1))
    assert caught.value.code == code
    assert upstream.requests == []


async def test_an_operation_that_a_provider_lacks_is_refused() -> None:
    kind = replace(KINDS["openai"], operations=frozenset({"chat"}))
    with pytest.raises(InvalidRequest, match="has no embeddings endpoint") as caught:
        await _answer(
            Target(replace(_settings(), kind=kind), FakeUpstream(), FakeClock()),
            _asked(operation="embeddings", suffix="embeddings"),
        )
    assert caught.value.code == "operation_not_supported"


# Time


async def test_a_stream_has_a_first_token_limit_and_a_whole_reply_only_the_total() -> None:
    for asked, first_event_s in ((_streaming(), 2.0), (_asked(), None)):
        upstream = FakeUpstream(FakeResponse(200, SSE, [CHUNK, FINISH, DONE]))
        await _answer(_target(upstream), asked)
        [timeouts] = upstream.timeouts
        assert (timeouts.connect_s, timeouts.first_event_s, timeouts.idle_s) == (1.0, first_event_s, 3.0)
        assert timeouts.deadline_s == 1060.0


async def test_the_deadline_counts_from_the_requests_start_and_the_client_can_only_shorten_it() -> None:
    """F44: every attempt has the same deadline."""
    clock = FakeClock(1030.0)
    for theirs_s, deadline_s in ((None, 1060.0), (1040.0, 1040.0), (2000.0, 1060.0)):
        upstream = FakeUpstream(FakeResponse(200, JSON, [ANSWER]))
        asked = _asked()
        asked.client_deadline_s = theirs_s
        await _answer(_target(upstream, clock), asked)
        assert upstream.timeouts[0].deadline_s == deadline_s


@pytest.mark.parametrize(
    ("phase", "theirs_s", "now_s", "expected"),
    [
        ("total", 1005.0, 1005.0, DeadlineExceeded),
        ("total", 1005.0, 1004.996, DeadlineExceeded),
        ("connect", 1005.0, 1006.0, DeadlineExceeded),
        ("connect", 1005.0, 1004.0, UpstreamTimeout),
        ("first_token", 1005.0, 1006.0, UpstreamTimeout),
        ("total", 1090.0, 1091.0, UpstreamTimeout),
        ("total", None, 1060.0, UpstreamTimeout),
    ],
)
async def test_a_deadline_is_the_clients_only_when_it_was_the_clients(
    phase: Any, theirs_s: float | None, now_s: float, expected: type[Exception]
) -> None:
    """F36: a caller's own tiny timeout is no failure of the target."""
    clock = FakeClock(1000.0)
    fault = UpstreamTimeout("late", phase=phase)
    upstream = FakeUpstream(fault=fault, clock=clock, opening_takes_s=now_s - 1000.0)
    asked = _asked()
    asked.client_deadline_s = theirs_s
    with pytest.raises(expected):
        await _answer(_target(upstream, clock), asked)
    assert asked.attempts[0].waited_s == pytest.approx(now_s - 1000.0)


async def test_a_clients_deadline_in_the_middle_of_a_stream_is_the_clients_too() -> None:
    clock = FakeClock(1000.0)
    response = FakeResponse(
        200, SSE, [CHUNK], fault=UpstreamTimeout("late", phase="total"), clock=clock, piece_takes_s=3.0
    )
    asked = _streaming()
    asked.client_deadline_s = 1005.0
    with pytest.raises(DeadlineExceeded):
        await _answer(_target(FakeUpstream(response), clock), asked)
    assert response.closed == 1


async def test_the_wait_for_a_stream_ends_with_its_first_event() -> None:
    clock = FakeClock()
    response = FakeResponse(200, SSE, [CHUNK, FINISH, DONE], clock=clock, piece_takes_s=0.5)
    asked = _streaming()
    await _answer(_target(FakeUpstream(response, clock=clock, opening_takes_s=0.25), clock), asked)
    assert asked.attempts[0].waited_s == 0.75


async def test_the_wait_for_a_whole_reply_ends_with_its_last_byte() -> None:
    clock = FakeClock()
    response = FakeResponse(200, JSON, [ANSWER[:9], ANSWER[9:]], clock=clock, piece_takes_s=0.5)
    asked = _asked()
    await _answer(_target(FakeUpstream(response), clock), asked)
    assert asked.waited_s == 1.5


@pytest.mark.parametrize("fault", [Overloaded("full"), UpstreamTruncated("closed")])
async def test_a_fault_of_the_transport_goes_up_as_it_is(fault: Exception) -> None:
    with pytest.raises(type(fault)) as caught:
        await _answer(_target(FakeUpstream(fault=fault)), _asked())
    assert caught.value is fault


# What comes down


async def test_a_whole_reply_is_relayed_with_its_facts() -> None:
    headers: Headers = [*JSON, (b"x-request-id", b"up-1"), (b"set-cookie", b"a=b"), (b"openai-version", b"1")]
    response = FakeResponse(200, headers, [ANSWER])
    asked = _asked()
    async with _target(FakeUpstream(response))(asked) as reply:
        assert (reply.status, reply.body) == (200, ANSWER)
        assert reply.headers == [*JSON, (b"openai-version", b"1")]
        assert response.has_begun
        assert response.closed == 0
    assert response.closed == 1
    assert (asked.model_served, asked.response_id, asked.finish_reasons) == ("served-1", "c-1", ["stop"])
    assert (asked.usage.input_tokens, asked.usage.source) == (3, "provider")
    assert reply.usage is asked.usage
    [attempt] = asked.attempts
    assert (attempt.status, attempt.upstream_request_id) == (200, "up-1")


async def test_usage_that_was_not_reported_is_estimated() -> None:
    """F53."""
    asked = _asked()
    await _answer(_target(FakeUpstream(FakeResponse(200, JSON, [b'{"choices":[]}']))), asked)
    assert asked.usage.source == "estimated"
    assert asked.model_served == "demo"


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'"text"', b"", b'{"cut": '])
async def test_a_200_that_is_no_json_object_is_the_upstreams_fault(body: bytes) -> None:
    """F43."""
    with pytest.raises(UpstreamError, match="not a JSON object") as caught:
        await _answer(_target(FakeUpstream(FakeResponse(200, JSON, [body]))), _asked())
    assert (caught.value.status, caught.value.upstream_status) == (502, 200)


async def test_an_error_in_a_200_is_an_error() -> None:
    """F42."""
    body = b'{"error":{"message":"slow down","type":"x","code":"rate_limit_exceeded"}}'
    response = FakeResponse(200, JSON, [body])
    with pytest.raises(UpstreamError) as caught:
        await _answer(_target(FakeUpstream(response)), _asked())
    assert (caught.value.status, caught.value.code) == (429, "rate_limit_exceeded")
    assert caught.value.reply is not None
    assert caught.value.reply.body == body
    assert response.closed == 1


async def test_a_compressed_reply_is_decoded() -> None:
    """F91."""
    response = FakeResponse(200, [*JSON, (b"content-encoding", b"gzip")], [gzip.compress(ANSWER)])
    assert await _answer(_target(FakeUpstream(response)), _asked()) == ANSWER
    plain = FakeResponse(200, [*JSON, (b"content-encoding", b" identity")], [ANSWER])
    assert await _answer(_target(FakeUpstream(plain)), _asked()) == ANSWER


async def test_a_callers_mistake_is_a_reply() -> None:
    body = b'{"error":{"message":"bad"}}'
    clock = FakeClock()
    response = FakeResponse(422, JSON, [body])
    asked = _asked()
    target = _target(FakeUpstream(response, clock=clock, opening_takes_s=0.5), clock)
    async with target(asked) as reply:
        assert (reply.status, reply.body) == (422, body)
    assert (asked.attempts[0].status, asked.attempts[0].waited_s) == (422, 0.5)
    assert response.closed == 1


async def test_a_refused_credential_gives_the_connection_back() -> None:
    """F37."""
    response = FakeResponse(401, JSON, [b"{}"])
    with pytest.raises(UpstreamAccountError):
        await _answer(_target(FakeUpstream(response)), _asked())
    assert response.closed == 1


async def test_a_stream_is_an_event_stream_with_its_facts_at_the_end() -> None:
    response = FakeResponse(200, [*SSE, (b"server", b"x")], [CHUNK, FINISH, USAGE, DONE])
    asked = _streaming(include_usage=True)
    async with _target(FakeUpstream(response))(asked) as reply:
        assert reply.is_event_stream
        assert reply.headers == SSE
        assert reply.usage is asked.usage
        assert reply.events is not None
        assert [block async for block in reply.events] == [CHUNK, FINISH, USAGE, DONE]
    assert (asked.model_served, asked.response_id, asked.finish_reasons) == ("served-1", "c-1", ["stop"])
    assert asked.usage.output_tokens == 5
    assert response.closed == 1


@pytest.mark.parametrize("pushes", [True, False])
async def test_a_stream_is_pushed_where_the_transport_can(pushes: bool) -> None:
    response = FakeResponse(200, SSE, [CHUNK, FINISH, DONE], pushes=pushes)
    async with _target(FakeUpstream(response))(_streaming(include_usage=True)) as reply:
        assert (reply.pour is not None) is pushes
        assert reply.events is not None


async def test_an_error_before_the_first_event_still_has_a_status() -> None:
    """F26."""
    response = FakeResponse(200, SSE, [ERROR])
    asked = _streaming()
    with pytest.raises(UpstreamError, match="boom") as caught:
        await _answer(_target(FakeUpstream(response)), asked)
    assert (caught.value.status, caught.value.code) == (429, "rate_limit_exceeded")
    assert response.closed == 1
    assert asked.usage == Usage(), "what was refused cost nothing"


async def test_a_stream_without_a_model_name_was_served_by_the_model_asked_for() -> None:
    response = FakeResponse(200, SSE, [b'data: {"choices":[{"index":0,"finish_reason":"stop"}]}\n\n', DONE])
    asked = _streaming()
    await _answer(_target(FakeUpstream(response), model="gpt-4.1"), asked)
    assert asked.model_served == "gpt-4.1"


@pytest.mark.parametrize("read", [0, 1])
async def test_a_client_that_leaves_cuts_the_upstream_and_its_tokens_are_counted(read: int) -> None:
    """F1, F2, F57."""
    response = FakeResponse(200, SSE, [CHUNK, CHUNK, FINISH, DONE])
    asked = _streaming()
    streaming = asyncio.Event()

    async def serve() -> None:
        async with _target(FakeUpstream(response))(asked) as reply:
            assert reply.events is not None
            for _ in range(read):
                await anext(aiter(reply.events))
            streaming.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(serve())
    await streaming.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert response.closed == 1
    assert asked.usage.source == "estimated"
    assert asked.usage.output_tokens


async def test_a_client_that_leaves_during_a_whole_reply_gives_the_connection_back() -> None:
    """F3."""

    class Silent(FakeResponse):
        async def read(self) -> bytes:
            """Never comes."""
            waiting.set()
            await asyncio.Event().wait()
            return b""

    waiting = asyncio.Event()
    response = Silent(200, JSON)
    task = asyncio.ensure_future(_answer(_target(FakeUpstream(response)), _asked()))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert response.closed == 1


@pytest.mark.parametrize("phase", ["total", "connect"])
@pytest.mark.parametrize("theirs_s", [None, 1001.0])
async def test_an_attempt_that_fails_leaves_no_cycle_of_references(phase: Any, theirs_s: float | None) -> None:
    """88 objects for each client that left before its answer waited for the collector."""
    clock = FakeClock(1000.0)
    for fault in (UpstreamTimeout("late", phase=phase), asyncio.CancelledError()):
        asked = _asked()
        asked.client_deadline_s = theirs_s
        with pytest.raises((UpstreamTimeout, DeadlineExceeded, asyncio.CancelledError)) as caught:
            upstream = FakeUpstream(fault=fault, clock=clock, opening_takes_s=2.0)
            await _answer(_target(upstream, clock), asked)
        for frame, _ in traceback.walk_tb(caught.value.__traceback__):
            if "/gateway/" in frame.f_code.co_filename:
                assert not any(local is caught.value for local in frame.f_locals.values())


# Relayed operations


def _relay(**changes: Any) -> Exchange:
    return _asked(**({"operation": "relay", "suffix": "files", "body": b"", "head": RequestHead()} | changes))


async def test_a_file_is_passed_on_in_pieces_with_its_length() -> None:
    headers: Headers = [(b"content-type", b"audio/mpeg"), (b"content-length", b"4"), (b"content-disposition", b"a")]
    asked = _relay()
    async with _target(FakeUpstream(FakeResponse(200, headers, [b"\xff\xfb", b"\x00\x01"])))(asked) as reply:
        assert not reply.is_event_stream
        assert reply.headers == [(b"content-type", b"audio/mpeg"), (b"content-disposition", b"a")]
        assert reply.length == 4
        assert reply.events is not None
        assert [piece async for piece in reply.events] == [b"\xff\xfb", b"\x00\x01"]


async def test_a_compressed_file_loses_its_length() -> None:
    headers: Headers = [(b"content-length", b"40"), (b"content-encoding", b"gzip")]
    async with _target(FakeUpstream(FakeResponse(200, headers, [gzip.compress(b"text")])))(_relay()) as reply:
        assert (reply.headers, reply.length) == ([], None)
        assert reply.events is not None
        assert [piece async for piece in reply.events] == [b"text"]


@pytest.mark.parametrize(
    ("headers", "is_whole"),
    [
        ([*JSON, (b"content-length", b"2")], True),
        ([*JSON, (b"content-length", b"4194305")], False),
        (JSON, False),
        ([(b"content-type", b"text/plain"), (b"content-length", b"2")], False),
    ],
)
async def test_small_json_is_relayed_whole(headers: Headers, is_whole: bool) -> None:
    async with _target(FakeUpstream(FakeResponse(200, headers, [b"{}"])))(_relay()) as reply:
        assert (reply.body is not None) is is_whole


async def test_a_relayed_json_reply_is_not_looked_into() -> None:
    asked = _relay()
    body = b'{"id": "x", "error": {"message": "in the batch"}, "usage": {"prompt_tokens": 9}}'
    headers: Headers = [*JSON, (b"content-length", b"80")]
    assert await _answer(_target(FakeUpstream(FakeResponse(200, headers, [body]))), asked) == body
    assert asked.usage.input_tokens is None


async def test_a_relayed_event_stream_is_relayed() -> None:
    response = FakeResponse(200, SSE, [b"event: x\ndata: 1\n\n"])
    assert await _answer(_target(FakeUpstream(response)), _relay()) == b"event: x\ndata: 1\n\n"


def test_a_target_shows_no_credential() -> None:
    assert "sk-up" not in repr(_settings())
