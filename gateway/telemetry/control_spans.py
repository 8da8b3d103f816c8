"""Spans for the gateway's own calls, by OpenTelemetry's instrumentation of httpx.

It costs a hundred microseconds a call, which is why requests of clients do without (see `tracing`).
"""

from typing import Any
from urllib.parse import urlsplit

from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import Span, TracerProvider

URL_ATTRIBUTES = ("http.url", "url.full")
"""By OpenTelemetry's old and new names."""


def instrument(client: Any, provider: TracerProvider) -> None:
    """Give every call of an `httpx.AsyncClient` a span. Of its URL only the origin is shown.

    The path of a webhook's URL is a credential with many services.
    """
    HTTPXClientInstrumentor.instrument_client(
        client, tracer_provider=provider, meter_provider=NoOpMeterProvider(), request_hook=_hide_path
    )


async def _hide_path(span: Span, request: Any) -> None:
    url = urlsplit(str(request.url))
    # Without the user and password that may stand in front of it.
    shown = f"{url.scheme}://{url.netloc.rpartition('@')[2]}/***"
    for name in URL_ATTRIBUTES:
        span.set_attribute(name, shown)
