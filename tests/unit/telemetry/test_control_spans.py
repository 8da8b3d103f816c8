"""Spans of the gateway's own calls."""

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway.telemetry.control_spans import instrument

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://hooks.example.com/services/T0/SECRET?token=SECRET", "https://hooks.example.com/***"),
        ("http://127.0.0.1:9000/SECRET", "http://127.0.0.1:9000/***"),
        ("https://user:SECRET@hooks.example.com/", "https://hooks.example.com/***"),
    ],
)
async def test_a_call_has_a_span_that_shows_no_path(url: str, origin: str) -> None:
    """F114: the path of a webhook is a credential."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(204)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        instrument(client, provider)
        await client.post(url, content=b"{}")
    [span] = exporter.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["url.full"] == span.attributes["http.url"] == origin
    assert "SECRET" not in span.to_json()
    assert "traceparent" in sent[0].headers
    provider.shutdown()
