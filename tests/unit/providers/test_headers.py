"""Which headers pass, both ways."""

import pytest

from gateway.core.errors import Headers
from gateway.providers.headers import FORWARDED_DOWN, FORWARDED_UP, Layouts, Sieve, down, first


@pytest.mark.parametrize(
    "name",
    [
        b"authorization",
        b"x-api-key",
        b"api-key",
        b"cookie",
        b"connection",
        b"transfer-encoding",
        b"content-length",
        b"host",
        b"te",
        b"x-forwarded-for",
        b"forwarded",
        b"x-gateway-tags",
        b"x-gateway-hops",
        b"traceparent",
        b"openai-organization",
        b"openai-project",
        b"x-mock",
    ],
)
def test_no_credential_cookie_or_hop_by_hop_header_goes_up(name: bytes) -> None:
    """F90."""
    assert name not in FORWARDED_UP


def test_what_changes_the_providers_answer_goes_up() -> None:
    assert {b"anthropic-beta", b"anthropic-version", b"openai-beta", b"idempotency-key"} <= FORWARDED_UP


def test_only_listed_headers_come_down_in_order_and_with_duplicates() -> None:
    """F92."""
    sent: Headers = [
        (b"content-type", b"application/json"),
        (b"set-cookie", b"a=b"),
        (b"content-encoding", b"gzip"),
        (b"content-length", b"3"),
        (b"transfer-encoding", b"chunked"),
        (b"connection", b"close"),
        (b"server", b"nginx"),
        (b"x-request-id", b"provider's"),
        (b"x-ratelimit-remaining-tokens", b"1"),
        (b"anthropic-ratelimit-requests-limit", b"2"),
        (b"retry-after", b"1"),
        (b"retry-after", b"2"),
        (b"openai-processing-ms", b"12"),
    ]
    assert down(sent) == [
        (b"content-type", b"application/json"),
        (b"x-ratelimit-remaining-tokens", b"1"),
        (b"anthropic-ratelimit-requests-limit", b"2"),
        (b"retry-after", b"1"),
        (b"retry-after", b"2"),
        (b"openai-processing-ms", b"12"),
    ]


def test_a_sieve_chooses_the_same_the_second_time_and_forgets_without_bound() -> None:
    sieve = Sieve(lambda name: name.startswith(b"y"))
    for number in range(1000):
        headers: Headers = [(b"n%d" % number, b""), (b"yes", b"%d" % number), (b"y", b"")]
        assert sieve(headers) == sieve(headers) == headers[1:]
    long: Headers = [(b"y", b"%d" % number) for number in range(100)]
    assert sieve(long) == long


def test_framing_never_comes_down() -> None:
    assert not FORWARDED_DOWN & {b"content-length", b"transfer-encoding", b"content-encoding", b"connection"}


def test_the_first_of_repeated_headers_counts() -> None:
    assert first([(b"a", b"1"), (b"b", b"2"), (b"b", b"3")], b"b") == b"2"
    assert first([], b"a") is None


@pytest.mark.parametrize("name", [b"x-request-id", b"request-id", b"apim-request-id", b"opc-request-id"])
def test_a_providers_request_id_is_read_under_each_of_its_names(name: bytes) -> None:
    headers = [(b"date", b"now"), (name, b"abc")]
    assert Layouts()(headers).request_id(headers) == "abc"


def test_a_providers_request_id_is_bounded_and_may_be_any_bytes() -> None:
    headers = [(b"request-id", b"\xff" * 1000)]
    assert Layouts()(headers).request_id(headers) == "\xff" * 128
    assert Layouts()([]).request_id([]) is None


def test_a_layout_says_what_a_reply_is_and_what_of_it_goes_down() -> None:
    layouts = Layouts()
    headers = [(b"date", b"now"), (b"content-type", b"text/plain"), (b"retry-after", b"1"), (b"content-type", b"a/b")]
    layout = layouts(headers)
    assert (layout.content_type(headers), layout.is_encoded) == (b"a/b", False)
    assert layout.down(headers) == headers[1:] == down(headers)
    other = [(name, value * 2) for name, value in headers]
    assert layouts(other) is layout
    assert layout.down(other) == other[1:]
    assert layouts([(b"content-encoding", b"gzip")]).is_encoded
    assert layouts([(b"date", b"now")]).content_type([(b"date", b"now")]) == b""


def test_few_layouts_are_remembered() -> None:
    layouts = Layouts()
    first_one = layouts([(b"a", b"")])
    for number in range(300):
        layouts([(b"%d" % number, b"")])
    assert layouts([(b"a", b"")]) is not first_one
    many = [(b"x-%d" % number, b"") for number in range(100)]
    assert layouts(many) is not layouts(many)
