"""The nouns of the room."""

import pytest

from gateway.transport.base import Origin, UpstreamRequest


@pytest.mark.parametrize(
    ("origin", "authority"),
    [
        (Origin("https", "api.example.com", 443), b"api.example.com"),
        (Origin("http", "api.example.com", 80), b"api.example.com"),
        (Origin("http", "api.example.com", 443), b"api.example.com:443"),
        (Origin("http", "::1", 8000), b"[::1]:8000"),
        (Origin("https", "::1", 443), b"[::1]"),
    ],
)
def test_authority_names_the_port_only_when_it_is_not_the_schemes_own(origin: Origin, authority: bytes) -> None:
    assert origin.authority == authority


def test_a_request_shows_neither_its_headers_nor_its_body() -> None:
    """F114."""
    request = UpstreamRequest(b"POST", b"/", [(b"authorization", b"Bearer canary")], b"a canary prompt")
    assert "canary" not in repr(request)
