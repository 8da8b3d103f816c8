"""Requests as they were read."""

from gateway.mock.plan import MockRequest, Plan
from tests.unit.mock.raw import request


def test_a_header_is_found_whatever_its_case() -> None:
    asked = MockRequest("GET", b"/", [(b"X-Mock", b"a"), (b"x-mock", b"b")], b"", keep_alive=True)
    assert asked.header(b"x-mock") == b"a"
    assert asked.header(b"x-other") is None


def test_neither_headers_nor_bodies_are_shown() -> None:
    """F114: what a client sends stays out of tracebacks."""
    asked = request("/v1/x", {"secret": "canary"}, authorization="Bearer canary")
    assert "canary" not in repr(asked)
    assert "canary" not in repr(Plan(200, b"text/plain", b"canary"))
