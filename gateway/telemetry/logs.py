"""What the process itself logs, as JSON lines: uvicorn's, the libraries' and our own `logging` calls.

Texts of exceptions are left out unless they are known to be harmless, because an exception may
quote what it failed on, and that may be a prompt or a key. Type and place are kept.
"""

import logging
import re
import time
import traceback
from functools import lru_cache
from typing import Literal

from msgspec import Struct
from msgspec.json import Encoder

from gateway.core.errors import GatewayFault, UpstreamConnectError
from gateway.telemetry.sink import LogSink

Level = Literal["debug", "info", "warning", "error", "critical"]

MAX_MESSAGE = 4096
"""Characters of a message."""

SECRET = re.compile(
    r"""( \b (?: bearer | basic ) \s+ | \b sk- | \b (?: x-)? api[-_]?key ["']? \s* [=:] \s* ["']? ) [\w.~+/=-]{8,}""",
    re.IGNORECASE | re.VERBOSE,
)
"""What looks like a credential in somebody else's message. The last net: nothing of ours logs one."""

FIRST_LINE_ONLY = frozenset({"asyncio"})
"""Loggers whose further lines are the `repr` of tasks, and so of whatever those were holding."""

QUIET = ("httpx", "httpcore")
"""Loggers that tell every URL at `info` or `debug`; one of a webhook may be a credential."""

MILLISECONDS = tuple(f".{millisecond:03d}Z" for millisecond in range(1000))
"""Formatted once: a request's line needs one of them, and formatting is a fifth of its cost."""

_encode = Encoder().encode


class LogRecord(Struct, omit_defaults=True):
    """A log line that is not a request."""

    ts: str
    level: Level
    event: str
    message: str
    logger: str
    exception: str | None = None


class JsonHandler(logging.Handler):
    """Sends records of the standard library's loggers to the same place as the requests' lines."""

    def __init__(self, sink: LogSink) -> None:
        super().__init__()
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, whatever newlines the message holds."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError):
            # A wrong format string elsewhere must not take a request down with it.
            message = str(record.msg)
        if record.name in FIRST_LINE_ONLY:
            message = message.partition("\n")[0]
        line = LogRecord(
            rfc3339(record.created),
            level_of(record.levelno),
            "log",
            redacted(message),
            record.name,
            described(record.exc_info[1]) if record.exc_info and record.exc_info[1] is not None else None,
        )
        self._sink.write(_encode(line) + b"\n")


def configure_logging(level: str, sink: LogSink | None) -> None:
    """Make every logger of the process write JSON lines to `sink`; None silences all below critical.

    `level` is `debug`, `info`, `warning` or `error`. uvicorn's access log is off: requests have
    a line of their own. May be called again.
    """
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, (JsonHandler, logging.NullHandler)) or type(handler) is logging.StreamHandler:
            root.removeHandler(handler)
    root.addHandler(JsonHandler(sink) if sink is not None else logging.NullHandler())
    root.setLevel(level.upper() if sink is not None else logging.CRITICAL)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.getLogger("uvicorn.access").addHandler(logging.NullHandler())
    logging.captureWarnings(True)


def redacted(message: str) -> str:
    """A message without what looks like a credential, and not longer than `MAX_MESSAGE` characters."""
    text = SECRET.sub(r"\1***", message[:MAX_MESSAGE])
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def described(error: BaseException) -> str:
    """An exception and its causes: types and places, and a text only where it cannot quote a request."""
    parts: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        frames = traceback.extract_tb(current.__traceback__)
        places = [f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
        parts.append("\n".join([f"{type(current).__qualname__}{_harmless_text(current)}", *places]))
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\n".join(parts)


def _harmless_text(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f": {error.strerror}"
    if isinstance(error, (GatewayFault, UpstreamConnectError)):
        return f": {redacted(error.message)}"
    return ""


def level_of(levelno: int) -> Level:
    """The name for a level of the `logging` module."""
    if levelno >= logging.CRITICAL:
        return "critical"
    if levelno >= logging.ERROR:
        return "error"
    if levelno >= logging.WARNING:
        return "warning"
    return "info" if levelno >= logging.INFO else "debug"


def rfc3339(wall_s: float) -> str:
    """A Unix time as `2026-01-31T23:59:59.999Z`, milliseconds cut off."""
    second = int(wall_s)
    return _second(second) + MILLISECONDS[int((wall_s - second) * 1000)]


@lru_cache(maxsize=4)
def _second(second: int) -> str:
    # Most lines share their second with the line before them.
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
