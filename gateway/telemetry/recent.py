"""The last requests, for `gateway why` and `GET /admin/v1/requests/{id}`."""

from collections import deque
from itertools import islice
from typing import Any

from msgspec import Struct, to_builtins

from gateway.core.exchange import Attempt, Decision
from gateway.telemetry.access import AccessRecord

CAPACITY = 1024
"""Requests that are remembered unless told otherwise; about 2 KB each."""


class Recorded(Struct, gc=False):
    """A finished request: its log line, and why it went the way it did. Holds no header and no body."""

    line: AccessRecord
    decisions: list[Decision]
    attempts: list[Attempt]


class Recent:
    """A ring of finished requests: the oldest makes room for the newest."""

    __slots__ = ("_records", "add")

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._records: deque[Recorded] = deque(maxlen=capacity)
        self.add = self._records.append
        """Remember a finished request."""

    def __len__(self) -> int:
        return len(self._records)

    def find(self, request_id: str) -> dict[str, Any] | None:
        """The newest request of this id: the log line's fields, `decisions` and `upstream_attempts`.

        None when it is not (or no longer) remembered.
        """
        for record in reversed(self._records):
            if record.line.request_id == request_id:
                return _shown(record)
        return None

    def select(self, kind: str, subject: str, n: int) -> list[dict[str, Any]]:
        """The last `n` requests of a `key`, a `target` or a `tag` (`name=value`), newest first."""
        found = (record for record in reversed(self._records) if _concerns(record.line, kind, subject))
        return [_shown(record) for record in islice(found, n)]

    def latest(self, n: int) -> list[dict[str, Any]]:
        """The last `n` requests, newest first, each as `find` shows it."""
        return [_shown(record) for record in islice(reversed(self._records), n)]


def _concerns(line: AccessRecord, kind: str, subject: str) -> bool:
    if kind == "tag":
        name, _, value = subject.partition("=")
        return line.tags.get(name) == value
    return (line.key if kind == "key" else line.target) == subject


def _shown(record: Recorded) -> dict[str, Any]:
    shown: dict[str, Any] = to_builtins(record.line)
    shown["decisions"] = to_builtins(record.decisions)
    shown["upstream_attempts"] = [_attempt(attempt) for attempt in record.attempts]
    return shown


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "target": attempt.target,
        "status": attempt.status,
        "waited_ms": round(attempt.waited_s * 1000, 3),
        "traceparent": attempt.traceparent.decode("ascii"),
        "upstream_request_id": attempt.upstream_request_id,
    }
