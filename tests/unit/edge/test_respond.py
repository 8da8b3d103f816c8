"""One reply to one client."""

import json
from typing import Any

import pytest

from gateway.core.errors import (
    BudgetExceeded,
    ClientGone,
    Headers,
    InvalidRequest,
    Overloaded,
    ProviderReply,
    RateLimited,
    UpstreamError,
    UpstreamReplyError,
    UpstreamTruncated,
)
from gateway.core.exchange import Attempt, Exchange, LimitState, Reply
from gateway.edge.respond import Responder
from tests.fakes import Client, FakeClock, event_frame, events_of, exchange, request

pytestmark = pytest.mark.anyio


class Desk:
    """A responder and everything around it."""

    def __init__(self, asked: Exchange | None = None, *, closing: bool = False, at_s: float = 1000.0) -> None:
        self.asked = asked if asked is not None else exchange()
        self.client = Client()
        self.clock = FakeClock(at_s)
        self.responder = Responder(self.asked, self.client, self.clock, closing)


async def test_a_whole_reply_has_its_length_and_the_gateways_headers() -> None:
    asked = exchange(attempts=2, route="demo", target="mock")
    asked.attempts[0].waited_s = 0.2
    desk = Desk(asked, at_s=1000.25)
    await desk.responder.reply(Reply(201, [(b"content-type", b"application/json")], body=b'{"a":1}'))
    assert (desk.client.status, desk.client.body, desk.client.is_complete) == (201, b'{"a":1}', True)
    assert desk.client.headers == {
        b"content-type": b"application/json",
        b"x-request-id": b"req-1",
        b"x-gateway-attempts": b"2",
        b"x-gateway-config": b"abc123",
        b"x-gateway-cache": b"bypass",
        b"server-timing": b"gateway;dur=50.00, upstream;dur=200.0",
        b"x-gateway-route": b"demo",
        b"x-gateway-target": b"mock",
        b"content-length": b"7",
    }
    assert asked.status == 201
    assert asked.overhead_s == pytest.approx(0.05)


async def test_an_anthropic_client_gets_its_request_id_under_its_name() -> None:
    desk = Desk(exchange(request(dialect="anthropic")))
    await desk.responder.reply(Reply(200, [], body=b""))
    assert desk.client.headers[b"request-id"] == b"req-1"
    assert b"x-gateway-route" not in desk.client.headers


async def test_the_gateways_overhead_is_never_negative() -> None:
    asked = exchange()
    asked.attempts.append(Attempt(1, "mock", waited_s=9.0))
    desk = Desk(asked)
    await desk.responder.reply(Reply(200, [], body=b""))
    assert asked.overhead_s == 0.0


async def test_events_go_out_one_by_one_and_unbuffered() -> None:
    """F23."""
    asked = exchange()
    desk = Desk(asked, at_s=1003.0)
    seen: list[bytes] = []
    reply = Reply(200, [], events=events_of(b"data: 1\n\n", b"data: 2\n\n"), error_event=event_frame)
    reply.watch(seen.append)
    await desk.responder.reply(reply)
    bodies = [message["body"] for message in desk.client.sent[1:]]
    assert bodies == [b"data: 1\n\n", b"data: 2\n\n", b""]
    assert seen == [b"data: 1\n\n", b"data: 2\n\n"]
    assert (desk.client.headers[b"cache-control"], desk.client.headers[b"x-accel-buffering"]) == (b"no-cache", b"no")
    assert b"content-length" not in desk.client.headers
    assert asked.first_event_s == 1003.0
    assert desk.client.is_complete


async def test_a_file_in_pieces_is_no_event_stream() -> None:
    desk = Desk()
    desk.client.is_congested = True
    reply = Reply(200, [], events=events_of(b"a", b"b"))
    reply.length = 2
    await desk.responder.reply(reply)
    assert desk.client.body == b"ab"
    assert desk.client.headers[b"content-length"] == b"2"
    assert not desk.client.is_congested, "F24: it waited for the client"
    assert b"x-accel-buffering" not in desk.client.headers


async def test_a_watcher_of_a_whole_reply_sees_it_before_it_is_sent() -> None:
    desk = Desk()

    def refuse(piece: bytes) -> None:
        raise InvalidRequest(f"saw {len(piece)}")

    reply = Reply(200, [], body=b"abc")
    reply.watch(refuse)
    with pytest.raises(InvalidRequest, match="saw 3") as caught:
        await desk.responder.reply(reply)
    assert desk.client.sent == []
    desk.responder.fail(caught.value)
    assert desk.client.status == 400


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
async def test_an_error_before_the_reply_is_a_reply_in_the_clients_dialect(dialect: Any) -> None:
    """F17."""
    desk = Desk(exchange(request(dialect=dialect)), at_s=1000.5)
    desk.responder.fail(InvalidRequest("bad n", param="n"))
    assert (desk.client.status, desk.asked.status, desk.asked.overhead_s) == (400, 400, 0.5)
    body = json.loads(desk.client.body)
    assert body["error"]["message"] == "bad n"
    assert (body.get("request_id") == "req-1") is (dialect == "anthropic")
    assert desk.client.headers[b"content-type"] == b"application/json"
    assert int(desk.client.headers[b"content-length"]) == len(desk.client.body)


async def test_a_refusal_says_when_to_come_back() -> None:
    """F29."""
    desk = Desk()
    desk.responder.fail(Overloaded("full", retry_after_s=0.2))
    assert desk.client.headers[b"retry-after"] == b"1"
    assert desk.client.headers[b"retry-after-ms"] == b"200"


async def test_the_client_is_told_of_its_own_limits_and_not_of_the_gateways() -> None:
    """F64: on replies and on refusals, in the dialect's names."""
    limits = (LimitState("requests", 10, 3, 0.5),)
    theirs: Headers = [(b"x-ratelimit-remaining-tokens", b"9"), (b"content-type", b"text/x")]
    desk = Desk(exchange(limits=limits))
    await desk.responder.reply(Reply(200, theirs, body=b""))
    assert desk.client.headers[b"x-ratelimit-remaining-requests"] == b"3"
    assert desk.client.headers[b"content-type"] == b"text/x"
    assert b"x-ratelimit-remaining-tokens" not in desk.client.headers
    desk = Desk(exchange(request(dialect="anthropic"), limits=limits))
    desk.responder.fail(RateLimited("no", limit="r", retry_after_s=0.5))
    assert desk.client.headers[b"anthropic-ratelimit-requests-reset"] == b"2023-11-14T22:13:21Z"
    assert (desk.client.status, desk.client.headers[b"retry-after-ms"]) == (429, b"500")


async def test_a_spent_budget_has_no_time_to_come_back_at_for_anthropic() -> None:
    desk = Desk(exchange(request(dialect="anthropic")))
    desk.responder.fail(BudgetExceeded("no", limit="r", retry_after_s=0.5))
    assert b"retry-after" not in desk.client.headers
    assert desk.client.headers[b"x-should-retry"] == b"false"


async def test_a_providers_own_error_is_passed_on_with_our_headers_over_its() -> None:
    headers: Headers = [(b"content-type", b"text/x"), (b"retry-after", b"9"), (b"x-ratelimit-limit", b"1")]
    error = UpstreamError("no", status=429, retry_after_s=2.0, reply=ProviderReply(headers, b'{"error":1}'))
    desk = Desk()
    desk.responder.fail(error)
    assert (desk.client.status, desk.client.body) == (429, b'{"error":1}')
    sent = desk.client.headers
    assert (sent[b"x-request-id"], sent[b"x-ratelimit-limit"], sent[b"retry-after"]) == (b"req-1", b"1", b"2")


async def _broken(desk: Desk, reply: Reply, error: Any) -> None:
    with pytest.raises(type(error)):
        await desk.responder.reply(reply)
    desk.responder.fail(error)


async def test_an_error_inside_a_stream_is_a_frame_of_its_own() -> None:
    """F15, F16."""
    error = UpstreamTruncated("cut")
    desk = Desk()
    events = events_of(b"data: 1\n\n", fault=error)
    await _broken(desk, Reply(200, [], events=events, error_event=event_frame), error)
    assert desk.client.body == b"data: 1\n\nevent: error\ndata: upstream_error req-1\n\n"
    assert desk.client.is_complete
    assert (desk.client.status, desk.asked.status, desk.client.aborted) == (200, 200, 0)


async def test_a_providers_error_event_is_relayed_as_it_was() -> None:
    for relay, body in ((b"data: theirs\n\n", b"data: theirs\n\n"), (None, b"event: error\ndata: c req-1\n\n")):
        error = UpstreamReplyError("no", code="c", relay=relay)
        desk = Desk()
        await _broken(desk, Reply(200, [], events=events_of(fault=error), error_event=event_frame), error)
        assert desk.client.body == body


async def test_a_file_that_breaks_is_cut_so_that_the_client_notices() -> None:
    """F19."""
    error = UpstreamTruncated("cut")
    desk = Desk()
    await _broken(desk, Reply(200, [], events=events_of(b"a", fault=error)), error)
    assert desk.client.aborted == 1
    assert not desk.client.is_complete


async def test_a_client_that_left_is_sent_nothing() -> None:
    """F3."""
    desk = Desk()
    desk.responder.fail(ClientGone("left"))
    assert (desk.client.sent, desk.asked.status) == ([], 499)


async def test_a_drain_asks_the_client_to_reconnect_elsewhere() -> None:
    """F82."""
    desk = Desk(closing=True)
    await desk.responder.reply(Reply(200, [], body=b""))
    assert desk.client.headers[b"connection"] == b"close"


async def test_an_error_over_an_unread_body_closes_the_connection() -> None:
    desk = Desk()
    desk.responder.close_after()
    desk.responder.fail(InvalidRequest("no"))
    assert desk.client.headers[b"connection"] == b"close"


def test_an_error_that_is_answered_keeps_no_frames() -> None:
    """They hold the exchange, which holds the error."""
    desk = Desk()
    with pytest.raises(UpstreamError) as caught:
        try:
            raise UpstreamTruncated("cut")
        except UpstreamTruncated as cut:
            raise UpstreamError("broken") from cut
    error = caught.value
    desk.responder.fail(error)
    assert error.__traceback__ is None
    assert error.__cause__ is not None and error.__cause__.__traceback__ is None
