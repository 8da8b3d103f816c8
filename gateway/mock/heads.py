"""Status lines and headers of the mock's answers, as the three providers send them."""

from email.utils import formatdate
from http import HTTPStatus
from time import gmtime, strftime
from typing import Literal

from gateway.core.clock import Clock
from gateway.mock.directives import Directives
from gateway.mock.plan import Lines

Vendor = Literal["openai", "azure", "anthropic", "none"]

_STATUS_LINES = {status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}
_NO_BODY = frozenset({204, 304})

_OPENAI = (
    b"openai-organization: mock\r\nopenai-version: 2020-10-01\r\nopenai-processing-ms: %d\r\n"
    b"x-ratelimit-limit-requests: 10000\r\nx-ratelimit-limit-tokens: 2000000\r\n"
    b"x-ratelimit-remaining-requests: %d\r\nx-ratelimit-remaining-tokens: %d\r\n"
    b"x-ratelimit-reset-requests: 6ms\r\nx-ratelimit-reset-tokens: 0s\r\nx-request-id: %s\r\n"
)
_AZURE = (
    b"apim-request-id: %s\r\nx-ms-region: Mock Region\r\nx-ms-rai-invoked: false\r\n"
    b"azureml-model-session: mock\r\n" + _OPENAI
)
_ANTHROPIC = (
    b"request-id: %s\r\nanthropic-organization-id: mock\r\n"
    b"anthropic-ratelimit-requests-limit: 4000\r\nanthropic-ratelimit-requests-remaining: %d\r\n"
    b"anthropic-ratelimit-requests-reset: %s\r\n"
    b"anthropic-ratelimit-input-tokens-limit: 2000000\r\nanthropic-ratelimit-input-tokens-remaining: %d\r\n"
    b"anthropic-ratelimit-input-tokens-reset: %s\r\n"
    b"anthropic-ratelimit-output-tokens-limit: 400000\r\nanthropic-ratelimit-output-tokens-remaining: %d\r\n"
    b"anthropic-ratelimit-output-tokens-reset: %s\r\n"
)


class Dates:
    """The current second, written out once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._second = -1
        self.line = b""
        self.rfc3339 = b""

    def refresh(self) -> int:
        """Unix seconds now; `line` (the `date` header) and `rfc3339` follow."""
        second = int(self._clock.wall())
        if second != self._second:
            self._second = second
            self.line = b"date: %s\r\n" % formatdate(second, usegmt=True).encode()
            self.rfc3339 = strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(second)).encode()
        return second


def render_head(
    status: int, content_type: bytes, vendor_lines: bytes, lines: Lines, *, length: int | None, framing: bytes
) -> bytes:
    """The status line and all headers. `length` None: a streamed body, for which `framing` says how it ends."""
    parts = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d Mock\r\n" % status]
    if content_type and status not in _NO_BODY:
        parts.append(b"content-type: %s\r\n" % content_type)
    if length is not None and status not in _NO_BODY:
        parts.append(b"content-length: %d\r\n" % length)
    parts.append(framing)
    parts.append(vendor_lines)
    for name, value in lines:
        parts.append(b"%s: %s\r\n" % (name, value))
    parts.append(b"\r\n")
    return b"".join(parts)


def vendor_lines(vendor: Vendor, status: int, request_id: bytes, dates: Dates, wait_s: float) -> bytes:
    """What the provider puts on every answer: ids, rate limits, the date."""
    dates.refresh()
    if vendor == "none":
        return dates.line
    left = status != 429
    if vendor == "anthropic":
        now = dates.rfc3339
        return dates.line + _ANTHROPIC % (
            request_id,
            3999 * left,
            now,
            1_999_000 * left,
            now,
            399_000 * left,
            now,
        )
    numbers = (int(wait_s * 1000), 9999 * left, 1_999_000 * left, request_id)
    return dates.line + (_AZURE % (request_id, *numbers) if vendor == "azure" else _OPENAI % numbers)


def retry_lines(directives: Directives, now_s: float) -> list[tuple[bytes, bytes]]:
    """The headers that tell a client when to come back, exactly as the directives put them."""
    lines = []
    if directives.retry_after is not None:
        lines.append((b"retry-after", directives.retry_after.encode()))
    if directives.retry_date is not None:
        lines.append((b"retry-after", formatdate(now_s + directives.retry_date, usegmt=True).encode()))
    if directives.retry_after_ms is not None:
        lines.append((b"retry-after-ms", directives.retry_after_ms.encode()))
    return lines
