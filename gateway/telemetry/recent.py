"""The last requests, for `gateway why` and `GET /admin/v1/requests/{id}`."""

from collections import deque
from itertools import islice
from typing import Any

from msgspec import Struct, to_builtins
from msgspec.json import Decoder, Encoder, decode

from gateway.core.exchange import Attempt, Decision
from gateway.core.money import usd

CAPACITY = 1024
"""Requests that are remembered unless told otherwise; about 2 KB each."""


class Recorded(Struct, gc=False):
    """A finished request: its log line, and why it went the way it did. Holds no header and no body.

    Both as JSON: what is kept is cold when it is freed a thousand requests later, so it should be little
    and in few pieces (4 µs a request less than the objects themselves).
    """

    line: bytes
    why: bytes


class _Why(Struct, gc=False):
    decisions: list[Decision]
    attempts: list[Attempt]


_encode = Encoder().encode
_decode_why = Decoder(_Why).decode


class Recent:
    """A ring of finished requests: the oldest makes room for the newest."""

    __slots__ = ("_records",)

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._records: deque[Recorded] = deque(maxlen=capacity)

    def __len__(self) -> int:
        return len(self._records)

    def add(self, line: bytes, decisions: list[Decision], attempts: list[Attempt]) -> None:
        """Remember a finished request by its log line."""
        self._records.append(Recorded(line, _encode(_Why(decisions, attempts))))

    def find(self, request_id: str) -> dict[str, Any] | None:
        """The newest request of this id: the log line's fields, `decisions` and `upstream_attempts`.

        None when it is not (or no longer) remembered.
        """
        # First as bytes, which is quick; an id could also stand elsewhere in a line.
        wanted = _encode(request_id)
        for record in reversed(self._records):
            if wanted in record.line:
                shown = _shown(record)
                if shown["request_id"] == request_id:
                    return shown
        return None

    def select(self, kind: str, subject: str, n: int) -> list[dict[str, Any]]:
        """The last `n` requests of a `key`, a `target` or a `tag` (`name=value`), newest first."""
        wanted = _encode(subject.partition("=")[2] if kind == "tag" else subject)
        shown = (_shown(record) for record in reversed(self._records) if wanted in record.line)
        return list(islice((each for each in shown if _concerns(each, kind, subject)), n))

    def latest(self, n: int) -> list[dict[str, Any]]:
        """The last `n` requests, newest first, each as `find` shows it."""
        return [_shown(record) for record in islice(reversed(self._records), n)]


def _concerns(line: dict[str, Any], kind: str, subject: str) -> bool:
    if kind == "tag":
        name, _, value = subject.partition("=")
        return bool(line["tags"].get(name) == value)
    return bool(line[kind] == subject)


def _shown(record: Recorded) -> dict[str, Any]:
    shown: dict[str, Any] = decode(record.line)
    why = _decode_why(record.why)
    shown["decisions"] = to_builtins(why.decisions)
    shown["upstream_attempts"] = [_attempt(attempt) for attempt in why.attempts]
    return shown


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "target": attempt.target,
        "status": attempt.status,
        "waited_ms": round(attempt.waited_s * 1000, 3),
        "traceparent": attempt.traceparent.decode("ascii"),
        "upstream_request_id": attempt.upstream_request_id,
        "usage": None if attempt.usage is None else to_builtins(attempt.usage),
        "cost_usd": None if attempt.cost_nusd is None else usd(attempt.cost_nusd),
        "retry_of": attempt.retry_of,
    }
