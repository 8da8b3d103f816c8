"""Paths, dialects, methods and the faults of whole answers."""

import gzip
import json

import pytest

from gateway.mock.endpoints import answer
from gateway.mock.plan import Plan
from tests.unit.mock.raw import HI, chat, decoded, messages, new_world, request

BODY = {"model": "demo", "messages": HI}


def test_azure_takes_the_model_from_its_path() -> None:
    """F138."""
    asked = request("/openai/deployments/gpt%3Atokens=2/chat/completions?api-version=2024-10-21", BODY)
    plan = answer(new_world(), asked)
    assert (plan.status, plan.model) == (200, "gpt:tokens=2")
    assert decoded(plan)["usage"]["completion_tokens"] == 2
    assert b"apim-request-id: " in plan.vendor_lines
    assert answer(new_world(), request("/openai/v1/chat/completions", BODY)).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1/nope",
        "/v2/chat/completions",
        "/openai/deployments/m/images",
        "/v1/__log",
        "/v1/files/x/y",
        "/v1/images/x",
    ],
)
def test_another_path_is_not_found_in_openai_shape(path: str) -> None:
    plan = answer(new_world(), request(path, BODY))
    assert plan.status in (404, 405)
    assert set(decoded(plan)["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(("path", "headers"), [("/v1/messages/batches", {}), ("/v1/nope", {"anthropic_version": "x"})])
def test_another_path_is_not_found_in_anthropic_shape(path: str, headers: dict[str, str]) -> None:
    plan = answer(new_world(), request(path, BODY, **headers))
    assert plan.status == 404
    assert decoded(plan)["error"]["type"] == "not_found_error"
    assert b"\r\nrequest-id: " in plan.vendor_lines


def test_an_openai_endpoint_stays_one_whatever_headers_come() -> None:
    assert answer(new_world(), request("/v1/chat/completions", BODY, anthropic_version="x")).dialect == "openai"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/chat/completions", b"POST"),
        ("POST", "/v1/models", b"GET"),
        ("PUT", "/v1/files", b"GET, POST"),
        ("POST", "/v1/files/x", b"GET, DELETE"),
        ("DELETE", "/v1/files/x/content", b"GET"),
        ("GET", "/v1/batches/x/cancel", b"POST"),
        ("DELETE", "/v1/batches/x", b"GET"),
        ("GET", "/v1/audio/speech", b"POST"),
    ],
)
def test_a_wrong_method_is_told_the_right_one(method: str, path: str, allow: bytes) -> None:
    plan = answer(new_world(), request(path, method=method))
    assert (plan.status, plan.lines) == (405, ((b"allow", allow),))


def test_an_unknown_directive_is_a_400_that_names_it() -> None:
    plan = chat("bogus=1")
    assert (plan.status, decoded(plan)["error"]["code"]) == (400, "unknown_directive")
    assert decoded(messages("bogus=1"))["error"]["type"] == "invalid_request_error"


def test_several_headers_are_one_list() -> None:
    asked = request("/v1/chat/completions", BODY)
    asked.headers += [(b"X-Mock", b"tokens=2"), (b"x-mock", b"nousage")]
    body = decoded(answer(new_world(), asked))
    assert body["choices"][0]["message"]["content"] == "tok1 tok2"
    assert "usage" not in body


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 429, 500, 502, 503, 529])
def test_a_status_is_answered_in_both_dialects(status: int) -> None:
    """F27, F37, F42."""
    assert chat(f"status={status}").status == status
    assert set(decoded(chat(f"status={status}", stream=True))["error"]) == {"message", "type", "param", "code"}
    plan = messages(f"status={status}")
    assert (plan.status, decoded(plan)["type"]) == (status, "error")


def test_a_good_status_keeps_the_answer_and_a_redirect_has_a_place() -> None:
    """F108: a redirect that nobody should follow."""
    assert (chat("status=201").status, decoded(chat("status=201"))["object"]) == (201, "chat.completion")
    assert chat("status=302").lines == ((b"location", b"/redirected"),)


def test_retry_headers_come_with_the_status() -> None:
    """F28."""
    plan = chat("status=429,retry_after=2,retry_after_ms=43")
    assert plan.lines == ((b"retry-after", b"2"), (b"retry-after-ms", b"43"))
    assert chat("status=429,retry_date=3").lines == ((b"retry-after", b"Tue, 14 Nov 2023 22:13:23 GMT"),)


def test_a_sequence_is_counted_for_each_model() -> None:
    """F32."""
    world = new_world()
    statuses = [chat("seq=500|200", world=world).status for _ in range(3)]
    assert statuses == [500, 200, 200]
    assert chat("seq=500|200", model="other", world=world).status == 500


def test_an_html_page_can_stand_for_any_answer() -> None:
    """F43."""
    for plan in (chat("status=502,html"), chat("status=502,html", stream=True), chat("html", stream=True)):
        assert plan.content_type == b"text/html"
        assert plan.body.startswith(b"<html>")
        assert plan.stream is None


def test_a_complete_body_can_be_an_error_although_the_status_is_200() -> None:
    """F42."""
    for directive in ("error_after=1", "event_error"):
        plan = chat(directive)
        assert (plan.status, decoded(plan)["error"]["type"]) == (200, "server_error")
    plan = messages("error_after=1,status=529")
    assert (plan.status, decoded(plan)["error"]["type"]) == (200, "overloaded_error")


def test_a_sequence_decides_the_status_beside_an_error_event() -> None:
    assert chat("error_after=1,seq=503").status == 503


def test_a_complete_body_can_be_broken_json() -> None:
    plan = chat("badjson_after=0")
    with pytest.raises(json.JSONDecodeError):
        decoded(plan)


def test_a_complete_body_can_be_compressed_unasked() -> None:
    """F91."""
    plan = chat("gzip")
    assert json.loads(gzip.decompress(plan.body))["object"] == "chat.completion"
    assert plan.lines == ((b"content-encoding", b"gzip"),)


def test_directives_work_on_relayed_endpoints_too() -> None:
    world = new_world()
    assert answer(world, request("/v1/files", method="GET", x_mock="status=503")).status == 503
    asked = request("/v1/moderations", {"model": "m:status=429", "input": "x"}, content_type="application/json")
    assert answer(world, asked).status == 429


def test_an_empty_body_is_refused() -> None:
    plan = answer(new_world(), request("/v1/chat/completions"))
    assert (plan.status, decoded(plan)["error"]["code"]) == (400, "invalid_json")


def test_the_log_and_the_counters_are_no_calls() -> None:
    world = new_world()
    inspections: list[Plan] = [answer(world, request(path, method="GET")) for path in ("/__log", "/__stats")]
    assert [plan.is_logged for plan in inspections] == [False, False]
    assert decoded(inspections[0]) == []
    assert decoded(inspections[1])["requests_total"] == 0
    assert decoded(answer(world, request("/__log", method="DELETE"))) == {"reset": True}
    assert answer(world, request("/__stats", method="DELETE")).status == 405
