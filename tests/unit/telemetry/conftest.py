"""Exchanges as they are when telemetry sees them, and a clock that stands still."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from gateway.core.exchange import Consumer, Exchange, Request, RequestHead, Trace

PROMPT = "canary-prompt-7f3a"
KEY = "sk-canary-key-91bc"


@dataclass(slots=True)
class StillClock:
    """A clock that moves only when told."""

    now_s: float = 1000.0
    wall_s: float = 1_767_225_599.5

    def monotonic(self) -> float:
        """Seconds since an arbitrary start."""
        return self.now_s

    def wall(self) -> float:
        """Seconds since 1970; at first half a second before 2026."""
        return self.wall_s


def chat(model: str = "support-chat", *, stream: bool = False) -> Exchange:
    """A chat request with secrets in its header and body, not yet routed."""
    request = Request(
        method="POST",
        path="/v1/chat/completions",
        query=b"",
        headers=[(b"authorization", b"Bearer " + KEY.encode()), (b"content-type", b"application/json")],
        dialect="openai",
        operation="chat",
        suffix="chat/completions",
        head=RequestHead(model=model, stream=stream, max_tokens=50, temperature=0.5),
        body=PROMPT.encode(),
    )
    return Exchange(
        request=request,
        request_id="req-1",
        trace=Trace("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", False),
        started_s=1000.0,
        received_s=1000.0,
        started_wall_s=1_767_225_599.0,
        config_revision="rev-1",
        consumer=Consumer("checkout", {"service": "checkout"}),
        tags={"service": "checkout", "costCenter": "42"},
    )


@pytest.fixture
def clock() -> StillClock:
    """A clock that stands still."""
    return StillClock()


@pytest.fixture
def make_exchange() -> Callable[..., Exchange]:
    """Makes exchanges; see `chat`."""
    return chat


@pytest.fixture
def canaries() -> tuple[str, str]:
    """What must never be seen: the prompt and the key of every exchange that `make_exchange` makes."""
    return PROMPT, KEY
