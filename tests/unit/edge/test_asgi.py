"""The data plane: one exchange in, one reply out."""

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.core.errors import ClientGone, Headers, RequestTimeout, ShuttingDown, UpstreamTruncated
from tests.fakes import Client, FakeResponse
from tests.unit.edge.house import ANSWER, ASK, JSON, SSE, House, host

pytestmark = pytest.mark.anyio

CHUNK = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
FINISH = b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'

KEYED = f"""\
apiVersion: gateway/v1
required_tags: [service]
server: {{default_route: demo}}
keys:
  - {{id: all, hash: "sha256:{hashlib.sha256(b"sk-all").hexdigest()}", tags: {{service: s}}, may_pin: true}}
  - {{id: few, hash: "sha256:{hashlib.sha256(b"sk-few").hexdigest()}", models: ["demo*"]}}
targets:
  mock: {{provider: mock}}
  other: {{provider: mock}}
routes:
  - {{model: demo, target: mock}}
  - {{model: secret, split: {{mock: 1, other: 1}}}}
  - {{model: "gpt-*", target: mock}}
"""


def _key(key: bytes, *more: tuple[bytes, bytes]) -> Headers:
    return host((b"authorization", b"Bearer " + key), *JSON, *more)


def _error(client: Client) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(client.body)["error"]
    return error


def _outcome(house: House) -> Any:
    return house.sightings.recent.latest(1)[0]["outcome"]


async def test_a_request_is_answered_by_its_routes_target() -> None:
    house = await House.serving()
    client = await house.call()
    assert (client.status, client.body) == (200, ANSWER)
    assert client.headers[b"x-gateway-route"] == b"demo"
    assert client.headers[b"x-gateway-target"] == b"mock"
    assert client.headers[b"x-gateway-attempts"] == b"1"
    assert house.upstream.requests[0].target == b"/v1/chat/completions"
    assert house.upstream.response.closed == 1
    assert house.running.inflight == set()
    assert house.connection.on_gone is None
    assert _outcome(house) == "ok"


@pytest.mark.parametrize("path", [b"/livez", b"/readyz", b"/healthz"])
async def test_health_answers_on_the_data_plane_without_host_or_key(path: bytes) -> None:
    house = await House.serving(KEYED)
    client = await house.call(method="GET", path=path, headers=[])
    assert (client.status, client.body) == (200, b"ok\n")


@pytest.mark.parametrize(("path", "status"), [(b"/livez", 200), (b"/readyz", 503), (b"/healthz", 503)])
async def test_a_drain_is_no_longer_ready_but_alive(path: bytes, status: int) -> None:
    """F82."""
    house = await House.serving()
    house.running.is_draining = True
    assert (await house.call(method="GET", path=path)).status == status
    assert (await house.call()).headers[b"connection"] == b"close"


@pytest.mark.parametrize(
    ("headers", "path", "status", "code"),
    [
        ([], b"/v1/chat/completions", 400, "invalid_request_error"),
        (host((b"host", b"x")), b"/v1/chat/completions", 400, "invalid_request_error"),
        ([(b"host", b"evil.example"), *JSON], b"/v1/chat/completions", 400, "host_not_allowed"),
        (host(*JSON, (b"x-gateway-hops", b"4")), b"/v1/chat/completions", 508, "loop_detected"),
        (host(*JSON, (b"x-gateway-prompt", b"a")), b"/v1/chat/completions", 400, "invalid_request_error"),
        (host(*JSON, (b"x-gateway-tags", b"a")), b"/v1/chat/completions", 400, "invalid_request_error"),
        (host(*JSON, (b"x-gateway-timeout", b"5")), b"/v1/chat/completions", 400, "invalid_request_error"),
        (host(*JSON, (b"x-gateway-target", b"mock")), b"/v1/chat/completions", 403, "pin_not_allowed"),
        (host(*JSON, (b"content-encoding", b"gzip")), b"/v1/chat/completions", 415, "unsupported_media_type"),
        (host((b"content-type", b"text/plain")), b"/v1/chat/completions", 415, "unsupported_media_type"),
        (host(), b"/v1/chat/completions", 415, "unsupported_media_type"),
        (
            host((b"content-type", b"application/json; charset=utf-8"), (b"content-length", b"99999999")),
            b"/v1/chat/completions",
            413,
            "request_too_large",
        ),
        (host(*JSON), b"/v1/nothing", 404, "not_found"),
        (host(*JSON), b"/admin/v1/config", 404, "not_found"),
        (host(*JSON), b"/admin%2fv1/config", 404, "not_found"),
    ],
)
async def test_a_head_that_cannot_be_served_is_refused(headers: Headers, path: bytes, status: int, code: str) -> None:
    """F87, F89, F95-F97, F107."""
    house = await House.serving()
    client = await house.call(headers=headers, path=path)
    assert (client.status, _error(client)["code"]) == (status, code)
    assert house.upstream.requests == []


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b'{"messages":[]}', 400, "invalid_request_error"),
        (b'{"model":"unknown"}', 404, "model_not_found"),
        (b'{"model":"demo","model":"x"}', 400, "invalid_request_error"),
    ],
)
async def test_a_body_that_cannot_be_served_is_refused(body: bytes, status: int, code: str) -> None:
    """F98, F99."""
    client = await (await House.serving()).call(body)
    assert client.status == status
    assert _error(client)["code"] in (code, "duplicate_key", "invalid_json")


async def test_a_refusal_over_an_unread_body_closes_the_connection() -> None:
    house = await House.serving()
    client = Client.sending(ASK)
    client.has_unread_body = True
    await house.call(headers=host(), client=client)
    assert client.headers[b"connection"] == b"close"


async def test_a_method_that_a_path_lacks_is_told_the_others() -> None:
    house = await House.serving()
    client = await house.call(method="PUT", path=b"/v1/files")
    assert (client.status, client.headers[b"allow"]) == (405, b"GET, POST")
    client = await house.call(method="POST", path=b"/v1/models")
    assert (client.status, client.headers[b"allow"]) == (405, b"GET")


async def test_every_bad_key_has_the_same_answer() -> None:
    """F113."""
    house = await House.serving(KEYED)
    bodies = set()
    for headers in (host(*JSON), _key(b"sk-wrong"), host(*JSON, (b"x-api-key", b""))):
        client = await house.call(headers=[*headers, (b"x-request-id", b"same")])
        assert client.status == 401
        bodies.add(client.body)
    assert len(bodies) == 1


async def test_a_key_may_use_its_models_only() -> None:
    house = await House.serving(KEYED)
    tags = (b"x-gateway-tags", b"service=x")
    for body, status in ((ASK, 200), (b'{"model":"secret"}', 403), (b'{"model":"nothing"}', 403)):
        assert (await house.call(body, headers=_key(b"sk-few", tags))).status == status
    assert (await house.call(b'{"model":"secret"}', headers=_key(b"sk-all"))).status == 200


async def test_a_required_tag_comes_from_the_key_or_the_header() -> None:
    house = await House.serving(KEYED)
    client = await house.call(headers=_key(b"sk-few"))
    assert (client.status, _error(client)["code"], _error(client)["param"]) == (400, "missing_tag", "service")
    assert (await house.call(headers=_key(b"sk-few", (b"x-gateway-tags", b"service=a")))).status == 200
    await house.call(headers=_key(b"sk-all", (b"x-gateway-tags", b"service=evil,more=1")))
    [line] = house.sightings.recent.latest(1)
    assert line["tags"] == {"service": "s", "more": "1"}
    assert line["key"] == "all"


async def test_a_key_that_may_pin_chooses_the_target() -> None:
    house = await House.serving(KEYED)
    for _ in range(5):
        client = await house.call(b'{"model":"secret"}', headers=_key(b"sk-all", (b"x-gateway-target", b"other")))
        assert client.headers[b"x-gateway-target"] == b"other"
    client = await house.call(headers=_key(b"sk-all", (b"x-gateway-target", b"other")))
    assert (client.status, _error(client)["code"]) == (403, "pin_not_allowed")


async def test_a_prompt_and_a_timeout_are_written_down() -> None:
    house = await House.serving()
    await house.call(headers=host(*JSON, (b"x-gateway-prompt", b"greet@3"), (b"x-gateway-timeout", b"5s")))
    [line] = house.sightings.recent.latest(1)
    assert (line["prompt_name"], line["prompt_version"]) == ("greet", "3")
    assert house.upstream.timeouts[0].deadline_s == 1005.0


# Models


async def test_models_are_those_a_key_may_use_without_globs() -> None:
    house = await House.serving(KEYED)
    client = await house.call(method="GET", path=b"/v1/models", headers=_key(b"sk-few"))
    assert [model["id"] for model in json.loads(client.body)["data"]] == ["demo"]
    client = await house.call(method="GET", path=b"/v1/models", headers=_key(b"sk-all"))
    assert [model["id"] for model in json.loads(client.body)["data"]] == ["demo", "secret"]


async def test_one_model_is_shown_if_a_route_has_it_and_the_key_may() -> None:
    house = await House.serving(KEYED)
    for name, key, status in (
        (b"gpt-9", b"sk-all", 200),
        (b"nothing", b"sk-all", 404),
        (b"secret", b"sk-few", 404),
        (b"gpt-a%2Fb", b"sk-all", 200),
    ):
        client = await house.call(method="GET", path=b"/v1/models/" + name, headers=_key(key))
        assert client.status == status
    assert json.loads(client.body)["id"] == "gpt-a/b"


async def test_a_models_name_is_decoded_once() -> None:
    house = await House.serving(KEYED)
    client = await house.call(method="GET", path=b"/v1/models/gpt-a%2541", headers=_key(b"sk-all"))
    assert json.loads(client.body)["id"] == "gpt-a%41"


async def test_an_anthropic_client_gets_models_in_its_dialect() -> None:
    house = await House.serving()
    headers = host((b"anthropic-version", b"2023-06-01"))
    client = await house.call(method="GET", path=b"/v1/models", headers=headers)
    assert json.loads(client.body)["has_more"] is False
    client = await house.call(method="GET", path=b"/v1/other", headers=headers)
    assert json.loads(client.body)["type"] == "error"


# Relayed paths


async def test_an_upload_is_passed_on_as_it_comes_to_the_default_route() -> None:
    house = await House.serving(KEYED)
    taken: list[bytes] = []
    inner = house.upstream.open

    async def taking(sent: Any, timeouts: Any) -> FakeResponse:
        assert not isinstance(sent.body, bytes)
        taken.extend([piece async for piece in sent.body])
        return await inner(sent, timeouts)

    house.upstream.open = taking  # type: ignore[method-assign, assignment]
    headers = host((b"authorization", b"Bearer sk-all"), (b"content-type", b"multipart/form-data; boundary=x"))
    client = await house.call(b"--x", b"--y", path=b"/v1/files?purpose=batch", headers=headers)
    assert client.status == 200
    assert taken == [b"--x", b"--y"]
    assert house.upstream.requests[0].target == b"/v1/files?purpose=batch"


async def test_a_request_without_a_model_needs_a_route() -> None:
    house = await House.serving()
    client = await house.call(method="GET", path=b"/v1/files", headers=host())
    assert (client.status, _error(client)["param"]) == (400, "model")
    assert "x-gateway-route" in _error(client)["message"]
    for name, status in ((b"demo", 200), (b"nothing", 404)):
        client = await house.call(method="GET", path=b"/v1/files", headers=host((b"x-gateway-route", name)))
        assert client.status == status


async def test_a_relayed_json_body_names_its_model() -> None:
    house = await House.serving()
    assert (await house.call(b'{"model":"demo","input":"x"}', path=b"/v1/moderations")).status == 200
    assert (await house.call(b'{"model":"nothing"}', path=b"/v1/moderations")).status == 404


@pytest.mark.parametrize("headers", [host((b"content-length", b"0")), host(*JSON)])
async def test_an_action_without_a_body_is_relayed(headers: Headers) -> None:
    house = await House.serving()
    route = (b"x-gateway-route", b"demo")
    client = await house.call(b"", path=b"/v1/batches/b/cancel", headers=[*headers, route])
    assert client.status == 200
    assert house.upstream.requests[0].body == b""


async def test_azures_deployment_is_the_model_also_of_an_upload() -> None:
    house = await House.serving()
    headers = host((b"content-type", b"multipart/form-data; boundary=x"))
    path = b"/openai/deployments/demo/audio/transcriptions?api-version=2024-10-21"
    client = await house.call(b"--x", path=path, headers=headers)
    assert client.status == 200
    assert client.headers[b"x-gateway-route"] == b"demo"


async def test_a_large_body_is_read_aside() -> None:
    house = await House.serving()
    body = b'{"model":"demo","messages":["' + b"x" * 1_100_000 + b'"]}'
    assert (await house.call(body)).status == 200
    assert house.upstream.requests[0].body == body


# What goes wrong on the way


async def test_more_than_the_allowed_number_at_once_is_refused_before_the_key_is_looked_at() -> None:
    house = await House.serving("server: {max_inflight: 1}\n" + KEYED.replace("server: {default_route: demo}\n", ""))
    house.running.inflight.add(lambda error: None)
    client = await house.call(headers=host())
    assert (client.status, _error(client)["code"]) == (503, "overloaded")
    assert client.headers[b"retry-after"] == b"1"
    assert _outcome(house) == "overloaded"


async def test_a_stream_that_breaks_ends_with_an_error_event() -> None:
    """F18, F19."""
    house = await House.serving()
    ask = b'{"model":"demo","stream":true}'
    client = await house.call(ask, response=FakeResponse(200, SSE, [CHUNK], fault=UpstreamTruncated("cut")))
    assert client.body.startswith(CHUNK)
    assert b'"error"' in client.body.removeprefix(CHUNK)
    assert client.is_complete
    assert _outcome(house) == "truncated"


async def test_a_bug_is_an_internal_error_that_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    house = await House.serving()
    house.upstream.response = FakeResponse(200, JSON)
    with caplog.at_level(logging.ERROR):
        client = await house.call(response=FakeResponse(200, JSON, fault=ZeroDivisionError("the prompt")))
    assert client.status == 500
    assert b"prompt" not in client.body
    assert "req-" in caplog.text
    assert _outcome(house) == "internal"


class Stalled(FakeResponse):
    """A response that says when somebody waits for it, and never comes."""

    async def read(self) -> bytes:
        """The pieces, then nothing."""
        if self.pieces:
            return self.pieces.pop(0)
        self.waiting.set()
        await asyncio.Event().wait()
        return b""

    @property
    def waiting(self) -> asyncio.Event:
        """Set when the next piece does not come."""
        return self.__dict__.setdefault("_waiting", asyncio.Event())  # type: ignore[no-any-return]


async def _stalled(house: House, response: Stalled, ask: bytes = ASK) -> "tuple[asyncio.Task[Client], Client]":
    client = Client.sending(ask)
    task = asyncio.ensure_future(house.call(response=response, client=client))
    await response.waiting.wait()
    return task, client


async def test_a_client_that_leaves_ends_the_exchange_and_its_upstream() -> None:
    """F1, F2, F3."""
    for response, ask in (
        (Stalled(200, JSON), ASK),
        (Stalled(200, SSE), b'{"model":"demo","stream":true}'),
        (Stalled(200, SSE, [CHUNK]), b'{"model":"demo","stream":true}'),
    ):
        house = await House.serving()
        task, _ = await _stalled(house, response, ask)
        assert len(house.running.inflight) == 1
        assert house.sightings.registry.inflight("demo").value == 1
        house.connection.on_gone(ClientGone("left"))
        await task
        assert response.closed == 1
        assert house.running.inflight == set()
        assert house.sightings.registry.inflight("demo").value == 0
        [line] = house.sightings.recent.latest(1)
        assert (line["outcome"], line["status"]) == ("client_gone", 499)
        assert len(house.running.generations) == 1


async def test_the_first_reason_to_end_an_exchange_counts() -> None:
    house = await House.serving()
    task, client = await _stalled(house, Stalled(200, JSON))
    house.connection.on_gone(RequestTimeout("slow"))
    house.connection.on_gone(ClientGone("left"))
    await task
    assert client.status == 408


async def test_the_end_of_a_drain_ends_a_stream_with_an_error_event() -> None:
    """F83."""
    house = await House.serving()
    task, client = await _stalled(house, Stalled(200, SSE, [CHUNK]), b'{"model":"demo","stream":true}')
    house.running.interrupt_all()
    await task
    assert client.is_complete
    assert b"shutting down" in client.body
    assert ShuttingDown.code.encode() in client.body


async def test_a_cancellation_from_elsewhere_goes_on_up() -> None:
    house = await House.serving()
    response = Stalled(200, JSON)
    task, client = await _stalled(house, response)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (response.closed, client.sent, house.running.inflight) == (1, [], set())


async def test_an_exchange_keeps_the_generation_it_began_with() -> None:
    """F78."""
    house = await House.serving()
    task, client = await _stalled(house, Stalled(200, SSE, [CHUNK]), b'{"model":"demo","stream":true}')
    house.upstream.response = FakeResponse(200, SSE, [FINISH])
    before = house.running.current
    await house.running.apply(before.loaded)
    assert len(house.running.generations) == 2
    house.connection.on_gone(ClientGone("left"))
    await task
    assert len(house.running.generations) == 1
    assert client.headers[b"x-gateway-config"] == before.revision.encode()


async def test_an_exchange_that_settles_late_leaves_the_next_ones_departure_alone() -> None:
    """F1 on a connection that is kept: the next request may begin while this one settles."""
    house = await House.serving()

    def next_exchange(error: Any) -> None:
        """What the next exchange of the connection put there."""

    class Late(FakeResponse):
        def close(self) -> None:
            house.connection.on_gone = next_exchange

    await house.call(response=Late(200, JSON, [ANSWER]))
    assert house.connection.on_gone is next_exchange


async def test_an_upload_whose_client_leaves_is_no_failure_of_the_target() -> None:
    house = await House.serving()

    async def reading(sent: Any, timeouts: Any) -> FakeResponse:
        body: AsyncIterator[bytes] = sent.body
        _ = [piece async for piece in body]
        return FakeResponse()

    house.upstream.open = reading  # type: ignore[method-assign, assignment]
    headers = host((b"content-type", b"audio/mpeg"), (b"x-gateway-route", b"demo"))
    client = Client({"type": "http.request", "body": b"a", "more_body": True})
    await house.call(path=b"/v1/audio/translations", headers=headers, client=client)
    assert client.sent == []
    assert _outcome(house) == "client_gone"
