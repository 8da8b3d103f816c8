"""Recorded spans on their way to a collector: the OpenTelemetry SDK, fenced in.

The SDK's batch processor exports from a thread of its own, so a collector that is slow or silent
never stops the event loop. Three things it does not do are added here: it counts no lost span, its
`shutdown` waits up to 30 s for an export in progress, and `force_flush` has no limit at all (never
called). So spans are counted in and out, and shutdown happens in a daemon thread that is left
behind when its time is over.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Tracer

TRACES_PATH = "/v1/traces"
SCHEDULE_DELAY_MS = 1000
MAX_BATCH = 512


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """Where spans go, and how many. `endpoint` is the collector's base URL; None records nothing.

    `sample` is the share of traces begun here that are recorded, 0 to 1; a caller's own decision wins.
    """

    endpoint: str | None
    sample: float
    service_name: str
    service_version: str
    environment: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    export_timeout_s: float = 2.0
    max_queue: int = 2048


class CountingExporter(SpanExporter):
    """An exporter that counts what passes, and refuses everything once it is closed."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._closed = False
        self.taken = 0
        """Spans that left the queue; written by the exporting thread alone."""
        self.failed = 0
        """Spans that left the queue and reached no collector."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch; blocks at most for the export timeout. A batch that fails is lost."""
        self.taken += len(spans)
        result = SpanExportResult.FAILURE if self._closed else self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self.failed += len(spans)
        return result

    def close(self) -> None:
        """From now on, batches are lost at once, so that the exporting thread comes to its end."""
        self._closed = True

    def shutdown(self) -> None:
        """Let go of the connection."""
        self._closed = True
        self._exporter.shutdown()


class CountingProcessor(BatchSpanProcessor):
    """The SDK's batch processor, which drops and counts a span when its queue is full."""

    def __init__(self, exporter: CountingExporter, max_queue: int) -> None:
        super().__init__(
            exporter,
            max_queue_size=max_queue,
            schedule_delay_millis=SCHEDULE_DELAY_MS,
            max_export_batch_size=min(MAX_BATCH, max_queue),
        )
        self._counting = exporter
        self._max_queue = max_queue
        self._offered = 0
        self._refused = 0

    @property
    def pending(self) -> int:
        """Spans in the queue."""
        return self._offered - self._counting.taken

    @property
    def dropped(self) -> int:
        """Spans lost so far: the queue was full, or an export failed."""
        return self._refused + self._counting.failed

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span that has ended. Never blocks."""
        # The SDK would log a warning for each, and throw away the oldest.
        if self.pending >= self._max_queue:
            self._refused += 1
            return
        self._offered += 1
        super().on_end(span)

    def abandon(self) -> None:
        """Give up what is in the queue; it counts as dropped."""
        self._refused += self.pending
        self._offered = self._counting.taken
        self._counting.close()


class RandomIds(IdGenerator):
    """Trace and span ids from the given source of randomness."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng

    def generate_trace_id(self) -> int:
        """128 bits, not zero."""
        return self._rng.getrandbits(128) or 1

    def generate_span_id(self) -> int:
        """64 bits, not zero."""
        return self._rng.getrandbits(64) or 1


class Pipeline:
    """The SDK's tracer and everything behind it. Made only when there is an endpoint."""

    def __init__(self, settings: TraceSettings, rng: Random) -> None:
        assert settings.endpoint is not None
        base = settings.endpoint.rstrip("/")
        exporter = CountingExporter(
            OTLPSpanExporter(
                endpoint=base if base.endswith(TRACES_PATH) else base + TRACES_PATH,
                headers=dict(settings.headers),
                timeout=settings.export_timeout_s,
            )
        )
        resource = Resource.create(
            {
                "service.name": settings.service_name,
                "service.version": settings.service_version,
                "deployment.environment.name": settings.environment,
            }
        )
        # Sampling is decided before the SDK is asked; at exit nobody waits for it.
        self._provider = TracerProvider(
            sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False, id_generator=RandomIds(rng)
        )
        self._processor = CountingProcessor(exporter, settings.max_queue)
        self._provider.add_span_processor(self._processor)
        self.tracer: Tracer = self._provider.get_tracer("gateway", settings.service_version)

    @property
    def dropped(self) -> int:
        """Spans lost so far."""
        return self._processor.dropped

    @property
    def provider(self) -> TracerProvider:
        """For libraries that make spans of their own. All of them are recorded."""
        return self._provider

    async def shutdown(self, timeout_s: float) -> None:
        """Send what is queued, for at most `timeout_s`; what is left then is dropped."""
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def run() -> None:
            self._provider.shutdown()
            _tell(loop, done.set)

        threading.Thread(target=run, name="otlp-shutdown", daemon=True).start()
        try:
            async with asyncio.timeout(timeout_s):
                await done.wait()
        except TimeoutError:
            self._processor.abandon()


def _tell(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        # The loop has been closed meanwhile: nobody is waiting any more.
        return
