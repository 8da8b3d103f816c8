"""Error bodies and events in both dialects."""

import json

import pytest

from gateway.core.errors import InvalidRequest, NotFound
from gateway.mock.complaints import anthropic_error_frame, fault_body, html_page, openai_error_frame, status_body


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 418, 429, 500, 503, 529, 599])
def test_an_openai_error_has_all_four_keys(status: int) -> None:
    """F133."""
    error = json.loads(status_body("openai", status, "req_1"))["error"]
    assert set(error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
        (418, "invalid_request_error"),
        (599, "api_error"),
    ],
)
def test_an_anthropic_error_has_the_type_of_its_status(status: int, kind: str) -> None:
    body = json.loads(status_body("anthropic", status, "req_1"))
    assert (body["type"], body["error"]["type"], body["request_id"]) == ("error", kind, "req_1")


def test_a_fault_of_the_request_is_told_in_the_dialect() -> None:
    fault = InvalidRequest("no", code="unknown_directive", param="x-mock")
    assert json.loads(fault_body("openai", fault, "req_1")) == {
        "error": {"message": "no", "type": "invalid_request_error", "param": "x-mock", "code": "unknown_directive"}
    }
    assert json.loads(fault_body("openai", InvalidRequest("no"), "req_1"))["error"]["code"] is None
    assert json.loads(fault_body("anthropic", NotFound("no"), "req_1"))["error"] == {
        "type": "not_found_error",
        "message": "no",
    }


def test_error_events_end_with_a_blank_line() -> None:
    assert openai_error_frame(500, named=False).startswith(b'data: {"error":{')
    assert openai_error_frame(500, named=True).startswith(b'event: error\ndata: {"error":{')
    assert anthropic_error_frame(529).startswith(b'event: error\ndata: {"type":"error"')
    assert anthropic_error_frame(529).endswith(b"}\n\n")


def test_the_page_of_a_middle_box_names_the_status() -> None:
    assert b"<h1>502</h1>" in html_page(502)
