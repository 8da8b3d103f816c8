"""The health of one target, as its own failures tell it: closed, open, half-open; and ejected by hand.

Theory of operation. pybreaker holds the circuit (its states, its storage, its listeners); when it turns
is decided here: pybreaker counts cancelled calls as failures, knows no rate, and lets every call that
comes while half-open through at once. Failures in a row, or their share of a window, open the circuit
for `open_for_s` times the number of openings in succession. Then exactly one request is let through as a
probe, under a lease that the whole fleet shares where there is a store (F33). Its success closes the
circuit; its failure opens it again; if its client leaves there is no verdict, and the next one probes
(F34). Once closed, those who choose among targets send it a growing share of requests.

Beside the circuit a target may be *cooling* (its provider asked for a pause: no fault, but it is left
alone until then, F38) or *ejected* by an operator. `epoch` goes up with every turn: a request that
began under another one has no say.

State lives in this process and is believed at once (F39); only the right to probe is shared.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

from pybreaker import (
    STATE_CLOSED,
    STATE_HALF_OPEN,
    STATE_OPEN,
    CircuitBreaker,
    CircuitBreakerListener,
    CircuitBreakerState,
    CircuitMemoryStorage,
)

from gateway.core.clock import Clock
from gateway.policies.failure_window import FailureWindow
from gateway.policies.open_times import OpenTimes
from gateway.policies.probe import Pass, ProbeRight
from gateway.policies.slow_start import SlowStart
from gateway.store.base import Leases

Event = Literal["opened", "half_open", "closed", "account", "ejected", "restored"]

_STATES = {STATE_CLOSED: 0, STATE_HALF_OPEN: 1, STATE_OPEN: 2}
_EVENTS: dict[str, Event] = {STATE_CLOSED: "closed", STATE_HALF_OPEN: "half_open", STATE_OPEN: "opened"}
_TRICKLE_S = 1.0
# uvloop's clock counts milliseconds: who waits until a moment may come that much early.
_TIMER_SLACK_S = 0.005


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """When a target is left alone, and for how long. `error_rate` is 0 to 1."""

    consecutive: int
    error_rate: float
    min_requests: int
    window_s: float
    open_for_s: float
    max_open_for_s: float
    slow_start_s: float


@dataclass(frozen=True, slots=True)
class Change:
    """Something that happened to a target's health. `account` is one to wake somebody for."""

    name: str
    event: Event
    reason: str


OnChange = Callable[[Change], None]


class _Turns(CircuitBreakerListener):
    def __init__(self, turned: Callable[[str], None]) -> None:
        self._turned = turned

    def state_change(
        self, cb: CircuitBreaker, old_state: CircuitBreakerState | None, new_state: CircuitBreakerState
    ) -> None:
        self._turned(new_state.name)


class Breaker:
    """One target's health. Shared by all routes to it, and outlives a reload."""

    def __init__(
        self,
        name: str,
        settings: BreakerSettings,
        clock: Clock,
        rng: random.Random,
        leases: Leases | None,
        on_change: OnChange,
    ) -> None:
        """`name` is the same in every process of the fleet: the probe's lease goes by it."""
        self.name = name
        self.clock = clock
        self.window = FailureWindow(settings.consecutive, settings.error_rate, settings.min_requests, settings.window_s)
        self.epoch = 0
        self.is_clear = True
        """Whether requests may pass without a question; when False `turn` may find that they may again."""
        self.since_s = clock.monotonic()
        self.opened_s = 0.0
        """Monotonic, when the circuit was first opened, with no closing since."""
        self.until_s = 0.0
        self.is_account = False
        self.cooling_until_s = 0.0
        self._on_change = on_change
        self._circuit = CircuitBreaker(
            name=name, state_storage=CircuitMemoryStorage(STATE_CLOSED), listeners=[_Turns(self._turned)]
        )
        self._reason = ""
        self._last_error = ""
        self._open_times = OpenTimes(settings.open_for_s, settings.max_open_for_s, settings.window_s, rng)
        self._slow_start = SlowStart(settings.slow_start_s, rng)
        self._ejected_until_s = 0.0
        self._ejected_reason = ""
        self._probing = ProbeRight(name, leases, rng)
        self._trickle_at_s = 0.0

    @property
    def state(self) -> int:
        """0 closed, 1 half-open, 2 open or ejected; as `gateway_breaker_state`."""
        return 2 if self.is_ejected else _STATES[self._circuit.current_state]

    @property
    def is_ejected(self) -> bool:
        """Whether an operator keeps requests away."""
        return self._ejected_until_s > self.clock.monotonic()

    @property
    def is_forced_out(self) -> bool:
        """Out for a reason that trying does not mend: by hand, or because of the account."""
        return self.is_ejected or (self.is_account and self.is_open)

    @property
    def is_open(self) -> bool:
        """Whether the circuit is open or half-open."""
        return self._circuit.current_state != STATE_CLOSED

    def is_cooling(self, now_s: float) -> bool:
        """Whether the provider has asked for a pause that is not over."""
        return now_s < self.cooling_until_s - _TIMER_SLACK_S

    def is_trickle_due(self, now_s: float) -> bool:
        """Whether the last request of the trickle is a second ago."""
        return now_s >= self._trickle_at_s

    def is_probe_due(self, now_s: float) -> bool:
        """Whether the next request would be let through as the probe."""
        return (
            self.is_open
            and now_s >= self.until_s
            and self._probing.is_free(now_s)
            and not self.is_ejected
            and not self.is_cooling(now_s)
        )

    @property
    def available(self) -> bool:
        """Whether a chooser should send a request here now. While it starts slowly: by chance, growing with time."""
        if self.is_clear and self._slow_start.is_over:
            return True
        now_s = self.clock.monotonic()
        if self.turn(now_s):
            return self._slow_start.admits(now_s)
        return self.is_probe_due(now_s)

    def turn(self, now_s: float) -> bool:
        """Let what is over be over; whether the target is clear now."""
        if self.is_clear:
            return True
        if 0.0 < self._ejected_until_s <= now_s:
            self._ejected_until_s = 0.0
            self._slow_start.begin(now_s)
            self._tell("restored", "the time is over")
        if self.is_open and self._probing.is_proven(now_s):
            self._recovered("the probe's reply streams well")
        self.is_clear = self._ejected_until_s == 0.0 and not self.is_open and not self.is_cooling(now_s)
        return self.is_clear

    def left_s(self, now_s: float) -> float:
        """Seconds until the target is next worth asking for."""
        until_s = max(self.until_s if self.is_open else 0.0, self.cooling_until_s, self._ejected_until_s)
        return until_s - now_s

    def describe(self) -> str:
        """Why the target takes no requests, for people."""
        if self.is_ejected:
            return f"ejected: {self._ejected_reason}"
        if self.is_open:
            return f"open: {self._reason}"
        return "its provider asked for a pause"

    async def probe(self, now_s: float) -> Pass | None:
        """The right to try the target, for one request; None when another one of the fleet has it."""
        taken = await self._probing.take(now_s)
        if taken is not None and self._circuit.current_state == STATE_OPEN:
            self._circuit.half_open()
        return taken

    def trickle(self, now_s: float) -> Pass:
        """The right to try a target of a route that has nothing better; once a second."""
        self._trickle_at_s = now_s + _TRICKLE_S
        return Pass("trickle")

    def give_back(self, taken: Pass) -> None:
        """End a pass, whatever came of it."""
        self._probing.give_back(taken)

    def succeeded(self, epoch: int, taken: Pass | None) -> None:
        """Count a reply that came to its end."""
        if epoch != self.epoch:
            return
        if taken is None:
            self.window.succeeded(self.clock.monotonic())
        elif taken.kind != "spared":
            # One success of a target that takes everything proves little; its probe will tell.
            self._recovered(f"a {taken.kind} succeeded")

    def failed(self, epoch: int, taken: Pass | None, told: str) -> None:
        """Count a fault of the target; `told` says which, without the provider's words."""
        self._last_error = told
        if epoch != self.epoch:
            return
        now_s = self.clock.monotonic()
        if taken is None:
            reason = self.window.failed(now_s)
            if reason is not None:
                self._open(reason, now_s)
        elif taken.kind == "probe":
            self._open(f"the probe failed: {told}", now_s)

    def refused_account(self, epoch: int, told: str) -> None:
        """Leave the target alone for as long as may be, at once: the provider refuses the gateway's account (F37)."""
        self._last_error = told
        if epoch == self.epoch:
            self._open(told, self.clock.monotonic(), is_account=True)

    def throttled(self, epoch: int, taken: Pass | None, wait_s: float | None) -> None:
        """Leave the target alone for the pause it asked for, or a longer one that it has asked for before (F38)."""
        if epoch == self.epoch and taken is not None and taken.kind == "probe":
            self._recovered("the probe was answered: 429")
        if wait_s is not None and wait_s > 0:
            self.cooling_until_s = max(self.cooling_until_s, self.clock.monotonic() + wait_s)
            self.is_clear = False
            self._trickle_at_s = max(self._trickle_at_s, self.clock.monotonic() + _TRICKLE_S)

    def eject(self, reason: str, until_s: float | None) -> None:
        """Keep requests away by hand, until Unix second `until_s` or, with None, until `restore`."""
        left_s = inf if until_s is None else until_s - self.clock.wall()
        if left_s <= 0:
            return
        was_ejected = self.is_ejected
        self._ejected_reason = reason
        self._ejected_until_s = self.clock.monotonic() + left_s
        self.is_clear = False
        if not was_ejected:
            self.epoch += 1
            self._tell("ejected", reason)

    def restore(self, reason: str) -> None:
        """Let requests in again, a growing share of them, whatever kept them away."""
        self.is_account = False
        self._ejected_until_s = self.cooling_until_s = 0.0
        self._open_times.forget()
        self._recovered(reason)
        self._tell("restored", reason)

    @property
    def detail(self) -> dict[str, Any]:
        """What the admin plane shows; moments are Unix seconds."""
        now_s = self.clock.monotonic()
        to_wall_s = self.clock.wall() - now_s
        successes, failures = self.window.totals(now_s)
        ends_s = {"until": self.until_s if self.is_open else 0.0, "cooling_until": self.cooling_until_s}
        ends_s |= {"ejected_until": self._ejected_until_s, "slow_start_until": self._slow_start.until_s}
        return {
            "state": ("closed", "half_open", "open")[self.state],
            "since": self.since_s + to_wall_s,
            "reason": self.describe() if not self.turn(now_s) else "",
            "requests": successes + failures,
            "failures": failures,
            "failures_in_a_row": self.window.in_a_row,
            "openings": self._open_times.in_succession,
            "ejected": self.is_ejected,
            "account": self.is_account,
            "last_error": self._last_error,
            **{name: end_s + to_wall_s if now_s < end_s < inf else None for name, end_s in ends_s.items()},
        }

    def _open(self, reason: str, now_s: float, *, is_account: bool = False) -> None:
        was_closed = not self.is_open
        if was_closed:
            self.opened_s = now_s
        self.until_s = now_s + self._open_times.opened(now_s, was_closed=was_closed, is_longest=is_account)
        self._trickle_at_s = now_s + _TRICKLE_S
        self._reason = reason
        self.is_account = is_account
        self._circuit.open()
        if is_account:
            self._tell("account", reason)

    def _recovered(self, reason: str) -> None:
        now_s = self.clock.monotonic()
        self.is_account = False
        self.cooling_until_s = 0.0
        self._reason = reason
        if self.is_open:
            self._open_times.closed(now_s)
            self._circuit.close()
        self._slow_start.begin(now_s)
        self.is_clear = self._ejected_until_s == 0.0

    def _turned(self, state: str) -> None:
        """The circuit has a new state; pybreaker calls it, by its listener."""
        self.epoch += 1
        self.since_s = self.clock.monotonic()
        self.window.clear()
        self.is_clear = False
        self._tell(_EVENTS[state], self._reason)

    def _tell(self, event: Event, reason: str) -> None:
        self._on_change(Change(self.name, event, reason))
