"""Things that happened which somebody may want to be told of: a log line each, and a call to who asked for it.

Names: `budget_alert`, `breaker_opened`, `breaker_closed`, `account_refused`, `store_down`, `store_up`,
`config_rejected`. The fields are configured names and numbers; never a prompt, a reply or a key.
"""

from collections.abc import Callable
from typing import Any

from msgspec.json import Encoder

from gateway.core.clock import Clock
from gateway.telemetry.logs import Level, rfc3339
from gateway.telemetry.sink import LogSink

Notify = Callable[[str, dict[str, Any]], None]
"""Takes an event's name and fields, to tell webhooks; never blocks."""

_encode = Encoder().encode


class Events:
    """Where the parts of the gateway tell what happened."""

    def __init__(self, sink: LogSink | None, clock: Clock, notify: Notify | None = None) -> None:
        """`sink` None writes no log lines."""
        self._sink = sink
        self._clock = clock
        self.notify = notify

    def tell(self, event: str, level: Level, **fields: Any) -> None:
        """Write one event down and pass it on."""
        if self._sink is not None:
            line = {"ts": rfc3339(self._clock.wall()), "level": level, "event": event, **fields}
            self._sink.write(_encode(line) + b"\n")
        if self.notify is not None:
            self.notify(event, fields)
