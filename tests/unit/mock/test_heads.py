"""Status lines, headers and dates."""

from gateway.mock.directives import Directives
from gateway.mock.heads import Dates, render_head, retry_lines, vendor_lines
from tests.fakes import FakeClock


def test_a_complete_answer_declares_its_length() -> None:
    head = render_head(200, b"application/json", b"a: b\r\n", [(b"c", b"d")], length=5, framing=b"")
    assert head == (b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 5\r\na: b\r\nc: d\r\n\r\n")


def test_a_streamed_answer_has_its_framing_instead() -> None:
    head = render_head(529, b"text/event-stream", b"", (), length=None, framing=b"transfer-encoding: chunked\r\n")
    assert head == b"HTTP/1.1 529 Mock\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def test_an_answer_that_may_have_no_body_declares_none() -> None:
    assert render_head(304, b"text/html", b"", (), length=9, framing=b"") == b"HTTP/1.1 304 Not Modified\r\n\r\n"


def test_each_vendor_has_its_ids_and_rate_limits() -> None:
    """F134: a request id in every dialect."""
    dates = Dates(FakeClock())
    openai = vendor_lines("openai", 200, b"req_1", dates, 0.05)
    assert b"x-request-id: req_1\r\n" in openai
    assert b"openai-processing-ms: 50\r\n" in openai
    assert b"x-ratelimit-remaining-requests: 9999\r\n" in openai
    assert b"date: Tue, 14 Nov 2023 22:13:20 GMT\r\n" in openai
    azure = vendor_lines("azure", 200, b"req_1", dates, 0.0)
    assert b"apim-request-id: req_1\r\n" in azure
    assert b"x-request-id: req_1\r\n" in azure
    anthropic = vendor_lines("anthropic", 200, b"req_1", dates, 0.0)
    assert b"request-id: req_1\r\n" in anthropic
    assert b"anthropic-ratelimit-requests-reset: 2023-11-14T22:13:20Z\r\n" in anthropic
    assert vendor_lines("none", 200, b"", dates, 0.0) == dates.line


def test_a_429_leaves_nothing_of_the_rate_limits() -> None:
    dates = Dates(FakeClock())
    assert b"x-ratelimit-remaining-requests: 0\r\n" in vendor_lines("openai", 429, b"r", dates, 0.0)
    assert b"anthropic-ratelimit-requests-remaining: 0\r\n" in vendor_lines("anthropic", 429, b"r", dates, 0.0)


def test_dates_follow_the_clock() -> None:
    clock = FakeClock()
    dates = Dates(clock)
    assert dates.refresh() == 1_700_000_000
    clock.advance(1.5)
    assert dates.refresh() == 1_700_000_001
    assert dates.line == b"date: Tue, 14 Nov 2023 22:13:21 GMT\r\n"


def test_retry_headers_go_out_as_they_were_written() -> None:
    """F28: seconds, milliseconds and a date, and nonsense too."""
    assert retry_lines(Directives(retry_after="soon", retry_after_ms="43"), 0.0) == [
        (b"retry-after", b"soon"),
        (b"retry-after-ms", b"43"),
    ]
    assert retry_lines(Directives(retry_date=3.0), 1_700_000_000.0) == [
        (b"retry-after", b"Tue, 14 Nov 2023 22:13:23 GMT")
    ]
