"""What a provider's failure means to the client."""

import gzip
from datetime import UTC, datetime

import pytest

from gateway.core.errors import Headers, UpstreamAccountError, UpstreamError, UpstreamReplyError
from gateway.providers.failures import MAX_RETRY_AFTER_S, failed, first_event_failed, retry_after_s
from tests.fakes import FakeResponse, exchange

JSON: Headers = [(b"content-type", b"application/json; charset=utf-8")]
BODY = b'{"error": {"message": "no", "type": "t", "param": null, "code": null}}'


@pytest.mark.anyio
@pytest.mark.parametrize("status", [400, 404, 409, 413, 422])
async def test_the_callers_own_mistake_is_passed_on_byte_for_byte(status: int) -> None:
    """F36: it is a reply, so that no breaker counts it."""
    headers: Headers = [*JSON, (b"set-cookie", b"a=b"), (b"x-should-retry", b"false")]
    asked = exchange()
    reply = await failed(asked, FakeResponse(status, headers, [BODY[:9], BODY[9:]]))
    assert (reply.status, reply.body) == (status, BODY)
    assert reply.headers == [*JSON, (b"x-should-retry", b"false")]
    assert reply.usage is asked.usage


@pytest.mark.anyio
@pytest.mark.parametrize("status", [301, 302, 307, 308, 304, 101])
async def test_a_redirect_is_never_followed(status: int) -> None:
    """F108."""
    response = FakeResponse(status, [(b"location", b"http://elsewhere/")])
    with pytest.raises(UpstreamError, match="follows no redirect") as caught:
        await failed(exchange(), response)
    assert (caught.value.status, caught.value.upstream_status) == (502, status)
    assert "elsewhere" not in caught.value.message


@pytest.mark.anyio
@pytest.mark.parametrize("status", [401, 402, 403])
async def test_a_refused_account_is_told_without_the_providers_text(status: int) -> None:
    """F37, F114: the text may quote the gateway's credential."""
    body = b'{"error": {"message": "Incorrect API key provided: sk-pro...1234"}}'
    with pytest.raises(UpstreamAccountError) as caught:
        await failed(exchange(), FakeResponse(status, JSON, [body]))
    assert (caught.value.status, caught.value.upstream_status, caught.value.retryable) == (502, status, False)
    assert "sk-" not in caught.value.message


@pytest.mark.anyio
@pytest.mark.parametrize("status", [429, 500, 503, 529])
async def test_a_json_failure_keeps_its_status_and_body(status: int) -> None:
    """F42."""
    headers: Headers = [*JSON, (b"retry-after", b"2"), (b"retry-after-ms", b"1500"), (b"x-ratelimit-limit", b"1")]
    with pytest.raises(UpstreamError) as caught:
        await failed(exchange(), FakeResponse(status, headers, [BODY]))
    error = caught.value
    assert (error.status, error.upstream_status, error.retry_after_s) == (status, status, 1.5)
    assert error.reply is not None
    assert error.reply.body == BODY
    assert error.reply.headers == [*JSON, (b"x-ratelimit-limit", b"1")], "waiting times are written anew, clamped"


@pytest.mark.anyio
@pytest.mark.parametrize(("status", "shown"), [(502, 502), (503, 502), (520, 502), (429, 429)])
async def test_html_of_a_middle_box_never_reaches_the_client(status: int, shown: int) -> None:
    """F43."""
    response = FakeResponse(status, [(b"content-type", b"text/html")], [b"<html>bad gateway</html>"])
    with pytest.raises(UpstreamError) as caught:
        await failed(exchange(), response)
    assert (caught.value.status, caught.value.upstream_status, caught.value.reply) == (shown, status, None)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "response",
    [
        FakeResponse(400, [(b"content-type", b"text/html")], [b"<html>"]),
        FakeResponse(400, JSON, [b"<html>"]),
        FakeResponse(404, [], [BODY]),
        FakeResponse(400, JSON, []),
        FakeResponse(400, JSON, [b'"text"']),
    ],
)
async def test_a_4xx_that_is_no_json_object_is_the_upstreams_fault(response: FakeResponse) -> None:
    status = response.status
    with pytest.raises(UpstreamError, match="not a JSON object") as caught:
        await failed(exchange(), response)
    assert (caught.value.status, caught.value.upstream_status) == (502, status)


@pytest.mark.anyio
async def test_a_compressed_error_is_decoded() -> None:
    """F91."""
    response = FakeResponse(400, [*JSON, (b"content-encoding", b"gzip")], [gzip.compress(BODY)])
    reply = await failed(exchange(), response)
    assert (reply.body, reply.headers) == (BODY, JSON)
    plain = FakeResponse(400, [*JSON, (b"content-encoding", b"Identity")], [BODY])
    assert (await failed(exchange(), plain)).body == BODY


@pytest.mark.anyio
async def test_an_error_body_is_read_under_the_idle_timeout() -> None:
    response = FakeResponse(400, JSON, [BODY])
    await failed(exchange(), response)
    assert response.has_begun


@pytest.mark.anyio
async def test_a_refused_account_is_one_whatever_the_coding_of_its_text() -> None:
    response = FakeResponse(401, [*JSON, (b"content-encoding", b"br")], [b"\x00"])
    with pytest.raises(UpstreamAccountError):
        await failed(exchange(), response)


def test_an_error_instead_of_the_first_event_keeps_its_body_for_the_client() -> None:
    """F26."""
    error = UpstreamReplyError("slow down", status=429, code="rate_limit_exceeded")
    failure = first_event_failed(error, body=BODY, headers=JSON)
    assert isinstance(failure, UpstreamError)
    assert (failure.status, failure.code, failure.message) == (429, "rate_limit_exceeded", "slow down")
    assert failure.upstream_status == 200
    assert failure.reply is not None
    assert (failure.reply.headers, failure.reply.body) == (JSON, BODY)


def test_a_refused_account_in_a_200_is_one_and_its_body_stays_here() -> None:
    """F42, F114: such a body may quote the credential."""
    failure = first_event_failed(UpstreamReplyError("refused", is_account=True), body=b"s3cret")
    assert isinstance(failure, UpstreamAccountError)
    assert (failure.status, failure.upstream_status, failure.message) == (502, 200, "refused")


def test_an_error_event_has_no_body_to_pass_on() -> None:
    failure = first_event_failed(UpstreamReplyError("no"))
    assert isinstance(failure, UpstreamError)
    assert (failure.status, failure.code, failure.reply) == (502, "upstream_error", None)
    bare = first_event_failed(UpstreamReplyError("no"), body=b"{}")
    assert isinstance(bare, UpstreamError)
    assert bare.reply is not None
    assert bare.reply.headers == []


NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], None),
        ([(b"retry-after", b"2")], 2.0),
        ([(b"retry-after", b"1.5")], 1.5),
        ([(b"retry-after-ms", b"43"), (b"retry-after", b"7")], 0.043),
        ([(b"retry-after-ms", b"soon"), (b"retry-after", b"7")], 7.0),
        ([(b"retry-after", b"1e9")], MAX_RETRY_AFTER_S),
        ([(b"retry-after-ms", b"1e9")], MAX_RETRY_AFTER_S),
        ([(b"retry-after", b"-5")], 0.0),
        ([(b"retry-after-ms", b"-5")], 0.0),
        ([(b"retry-after", b"nan")], None),
        ([(b"retry-after", b"inf")], None),
        ([(b"retry-after", b"soon")], None),
        ([(b"retry-after", b"")], None),
        ([(b"retry-after", b"\xff")], None),
        ([(b"retry-after", b"Sat, 21 Nov 2026 12:00:03 GMT")], 3.0),
        ([(b"retry-after", b"Sat, 21 Nov 2026 12:00:03 -0000")], 3.0),
        ([(b"retry-after", b"Sat, 21 Nov 2026 13:00:03 +0100")], 3.0),
        ([(b"retry-after", b"Sat, 21 Nov 2020 12:00:00 GMT")], 0.0),
        ([(b"retry-after", b"Sat, 21 Nov 2099 12:00:00 GMT")], MAX_RETRY_AFTER_S),
        ([(b"retry-after", b"Sat, 99 Nov 2026 12:00:00 GMT")], None),
    ],
)
def test_every_form_of_a_waiting_time_is_read_and_clamped(headers: Headers, seconds: float | None) -> None:
    """F28."""
    assert retry_after_s(headers, NOW) == pytest.approx(seconds)


def test_a_date_counts_from_now() -> None:
    assert retry_after_s([(b"retry-after", b"Sat, 21 Nov 2020 12:00:00 GMT")]) == 0.0
