"""One answer on its way out: timers play its script onto a transport, without a task.

`_play` takes the next beat. With a gap it sets a timer for the one after; without one it goes on
until 64 KiB are together or the socket is full. Whoever closes first cancels the one timer there is.
"""

import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from gateway.core.clock import Clock
from gateway.mock.calls import Call, Stats
from gateway.mock.plan import Plan
from gateway.mock.script import Ending, Script

BATCH_BYTES = 64 * 1024
RESET_DELAY_S = 0.002
"""Long enough for the peer to read what was written before the reset."""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Cancellable(Protocol):
    """A callback that has not run yet."""

    def cancel(self) -> None:
        """It will not run."""
        ...


class Timers(Protocol):
    """What is needed of an event loop."""

    def time(self) -> float:
        """Seconds, never going back."""
        ...

    def call_at(self, when: float, callback: Callable[..., object], *args: Any) -> Cancellable:
        """Run `callback` at a moment of `time()`."""
        ...

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> Cancellable:
        """Run `callback` after `delay` seconds."""
        ...

    def call_soon(self, callback: Callable[..., object], *args: Any) -> Cancellable:
        """Run `callback` in the next turn."""
        ...


class Wire(Protocol):
    """What is needed of a transport."""

    def write(self, data: bytes) -> None:
        """Send, or keep until it can be sent."""
        ...

    def abort(self) -> None:
        """Close at once; what was not sent is lost."""
        ...

    def get_extra_info(self, name: str) -> Any:
        """The socket, by the name `socket`."""
        ...


class Delivery:
    """Sends one Plan. `on_end(keep_alive)` is called once, unless the peer leaves or a reset comes first."""

    __slots__ = (
        "_beats",
        "_call",
        "_clock",
        "_head",
        "_is_paused",
        "_is_waiting",
        "_next_at",
        "_on_end",
        "_plan",
        "_script",
        "_stats",
        "_timer",
        "_timers",
        "_wire",
        "is_over",
    )

    def __init__(
        self,
        plan: Plan,
        call: Call,
        wire: Wire,
        *,
        timers: Timers,
        stats: Stats,
        clock: Clock,
        on_end: Callable[[bool], None],
    ) -> None:
        self._plan = plan
        self._call = call
        self._wire = wire
        self._timers = timers
        self._stats = stats
        self._clock = clock
        self._on_end = on_end
        self._timer: Cancellable | None = None
        self._beats: Iterator[list[bytes]] = iter(())
        self._head = b""
        self._is_paused = False
        self._is_waiting = False
        self._next_at = 0.0
        self.is_over = False

    def start(self, *, keep_alive: bool, is_http_10: bool) -> None:
        """Send the answer, now or when the directives want it."""
        plan, directives = self._plan, self._plan.directives
        self._script = script = Script(plan, keep_alive=keep_alive, is_http_10=is_http_10)
        self._stats.inflight += 1
        if plan.stream is None and directives.is_plain:
            self._wire.write(script.whole())
            self._call.status = plan.status
            self._end("complete")
            return
        wait_s = directives.latency + (directives.ttfb if plan.stream is None else 0.0)
        self._next_at = self._timers.time() + wait_s
        if wait_s:
            self._timer = self._timers.call_at(self._next_at, self._begin)
        else:
            self._begin()

    def pause(self) -> None:
        """The peer does not read: write nothing more for now."""
        self._is_paused = True

    def resume(self) -> None:
        """The peer reads again."""
        self._is_paused = False
        if self._is_waiting:
            self._is_waiting = False
            self._timer = self._timers.call_soon(self._play)

    def peer_closed(self) -> None:
        """The peer is gone; what was still to come is dropped at once."""
        if not self.is_over:
            self._call.closed_early = True
            self._stats.closed_early_total += 1
            self.cancel()

    def cancel(self) -> None:
        """Send nothing more."""
        if self._timer is not None:
            self._timer.cancel()
        if not self.is_over:
            self._settle()

    def _begin(self) -> None:
        plan, directives = self._plan, self._plan.directives
        if directives.rst_after == 0:
            self._reset()
            return
        self._call.status = plan.status
        if plan.stream is None:
            self._beats = self._script.whole_beats()
            self._play()
            return
        self._beats = self._script.stream_beats(plan.stream)
        self._head = self._script.stream_head()
        # Silence from the start, and a late first event, come after a status line that went out in time.
        if directives.ttfb or directives.stall_after == 0:
            self._wire.write(self._head)
            self._head = b""
        if directives.ttfb:
            self._next_at = self._timers.time() + directives.ttfb
            self._timer = self._timers.call_at(self._next_at, self._play)
        else:
            self._play()

    def _play(self) -> None:
        """Write the next beat, or as many as fit when no time lies between them."""
        if self._is_paused:
            self._is_waiting = True
            return
        script, directives = self._script, self._plan.directives
        ready = [self._head]
        size = 0
        self._head = b""
        for writes in self._beats:
            if directives.split is not None:
                self._trickle([*ready, *writes], 0)
                return
            ready += writes
            size += len(writes[0])
            if script.is_last:
                break
            if directives.gap or size >= BATCH_BYTES:
                self._write(b"".join(ready))
                self._schedule()
                return
        self._write(b"".join(ready))
        self._end(script.ending)

    def _trickle(self, writes: list[bytes], index: int) -> None:
        """Write the pieces of one beat, each in a turn of the loop of its own."""
        if self._is_paused:
            self._timer = self._timers.call_later(RESET_DELAY_S, self._trickle, writes, index)
            return
        if index < len(writes):
            self._write(writes[index])
            self._timer = self._timers.call_soon(self._trickle, writes, index + 1)
        elif self._script.is_last:
            self._end(self._script.ending)
        else:
            self._schedule()

    def _schedule(self) -> None:
        gap = self._plan.directives.gap
        if gap:
            # From the last moment, not from now: lateness must not add up over a long stream.
            self._next_at += gap
            self._timer = self._timers.call_at(self._next_at, self._play)
        else:
            self._timer = self._timers.call_soon(self._play)

    def _write(self, data: bytes) -> None:
        if data:
            self._wire.write(data)
            self._call.tokens_sent = self._script.tokens_sent

    def _end(self, ending: Ending) -> None:
        if ending == "silent":
            return
        if ending == "reset":
            self._timer = self._timers.call_later(RESET_DELAY_S, self._reset)
            return
        if ending == "complete":
            self._call.completed = True
            self._call.t_completed = self._clock.monotonic()
            self._stats.completed_total += 1
        self._settle()
        self._on_end(self._script.keep_alive)

    def _reset(self) -> None:
        """Close with an RST, as when a box on the way dies; unread bytes at the peer may be lost."""
        self.cancel()
        connection = self._wire.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._wire.abort()

    def _settle(self) -> None:
        self.is_over = True
        self._call.tokens_sent = self._script.tokens_sent
        self._stats.inflight -= 1
        self._stats.tokens_total += self._call.tokens_sent
