"""One request looks into the cache: what is stored, what an equal request brings, or the model has to be asked."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

from gateway.core.clock import Clock
from gateway.core.exchange import Exchange
from gateway.core.pipeline import spawn
from gateway.policies.cache_checks import Terms
from gateway.policies.cache_control import CacheControl
from gateway.policies.cache_key import Share
from gateway.policies.cache_reply import Forms
from gateway.policies.single_flight import Flight, Flights
from gateway.store.blobs import Blobs, Entry

JITTER = 0.1
"""Of a TTL, either way: entries of one moment must not all end in one."""
FIRST_POLL_S, MOST_POLL_S = 0.02, 0.25
"""How long another process's reply is waited for before it is looked for again: from, growing by half, to."""

Sleep = Callable[[float], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """One route's cache."""

    ttl_s: float
    share: Share = "key"
    terms: Terms = field(default_factory=Terms)
    wait_s: float = 60.0
    """Longest wait for the equal request that asks the model already."""
    similar_ttl_s: float = 0.0
    """How long a reply may be given for a question in other words; 0 where it never is."""

    @property
    def keep_s(self) -> float:
        """How long a reply is of use."""
        return max(self.ttl_s, self.similar_ttl_s)


@dataclass(frozen=True, slots=True)
class Shelf:
    """What all caches of a process share, for as long as it lives."""

    blobs: Blobs
    flights: Flights
    forms: Forms
    clock: Clock
    rng: random.Random
    sleep: Sleep


class Look:
    """What one request knows of its key. Until `landed` or `abandon`, which may come at any time, others may wait."""

    __slots__ = ("_control", "_exchange", "_has_lease", "_key", "_settings", "_shelf", "epochs", "flight", "scopes")

    def __init__(
        self,
        settings: CacheSettings,
        shelf: Shelf,
        exchange: Exchange,
        control: CacheControl,
        key: bytes,
        scopes: tuple[str, ...],
    ) -> None:
        self._settings = settings
        self._shelf = shelf
        self._exchange = exchange
        self._control = control
        self._key = key
        self._has_lease = False
        self.scopes = scopes
        self.epochs: tuple[int, ...] | None = None
        """To be stored with the reply; None when the store does not answer."""
        self.flight: Flight | None = None
        """This request's own, where others may wait for what it brings."""

    async def find(self) -> Entry | None:
        """What may be served; None when the model has to be asked. Waits, within bounds, for who asks already."""
        if not self._control.looks_up:
            self.epochs = (await self._shelf.blobs.find(self._key, self.scopes)).epochs
            return None
        shelf, settings = self._shelf, self._settings
        blobs, flights, clock = shelf.blobs, shelf.flights, shelf.clock
        lease_s = 0.0 if self._control.only_if_cached else settings.wait_s
        deadline_s = self._deadline_s(clock.monotonic())
        while True:
            # Whoever is cancelled there may have got it.
            self._has_lease = lease_s > 0
            found = await blobs.find(self._key, self.scopes, lease_s)
            self.epochs = found.epochs
            entry = found.entry
            self._has_lease = found.leads and entry is None and lease_s > 0
            if entry is not None and self._is_fresh(entry):
                return entry
            if self._control.only_if_cached:
                return None
            flight = flights.find(self._key, found.epochs)
            if flight is None:
                self.flight = flights.lead(self._key, found.epochs)
                if found.leads or entry is not None:
                    return None
                began_s = clock.monotonic()
                try:
                    return await self._from_elsewhere(self.flight, deadline_s)
                finally:
                    self._exchange.coalesced_s += clock.monotonic() - began_s
            left_s = deadline_s - clock.monotonic()
            outcome = await self._follow(flight, left_s) if left_s > 0 else "late"
            if isinstance(outcome, Entry):
                self._exchange.decide("cache", f"waited for the equal request {outcome.request_id}")
                return outcome
            if outcome != "failed":
                self._exchange.decide("cache", f"waited for an equal request in vain: {outcome}")
                return None

    async def _follow(self, flight: Flight, left_s: float) -> Entry | Literal["failed", "declined", "late"]:
        """What a flight of this process brings. The wait is for upstream, not the gateway's own doing."""
        clock = self._shelf.clock
        began_s = clock.monotonic()
        try:
            return await flight.wait(left_s)
        finally:
            self._exchange.coalesced_s += clock.monotonic() - began_s

    async def _from_elsewhere(self, flight: Flight, deadline_s: float) -> Entry | None:
        """What another process brings, which asks the model already; None when it does not in time, or has failed."""
        shelf = self._shelf
        pause_s = FIRST_POLL_S
        while (left_s := deadline_s - shelf.clock.monotonic()) > 0:
            await shelf.sleep(min(pause_s, left_s))
            pause_s = min(pause_s * 1.5, MOST_POLL_S)
            self._has_lease = True
            found = await shelf.blobs.find(self._key, self.scopes, self._settings.wait_s)
            self._has_lease = found.leads and found.entry is None
            self.epochs = flight.epochs = found.epochs
            if found.entry is not None and self._is_fresh(found.entry):
                self.flight = None
                flight.land(found.entry)
                return found.entry
            if found.leads:
                break
        return None

    def _deadline_s(self, now_s: float) -> float:
        latest_s = now_s + self._settings.wait_s
        theirs_s = self._exchange.client_deadline_s
        return latest_s if theirs_s is None else min(latest_s, theirs_s)

    def _is_fresh(self, entry: Entry) -> bool:
        """Whether it is young enough for this client, and for the configuration, which may have been changed."""
        age_s = entry.age_s(self._shelf.clock.wall())
        max_age_s = self._control.max_age_s
        return age_s <= self._settings.ttl_s * (1 + JITTER) and (max_age_s is None or age_s <= max_age_s)

    def landed(self) -> Flight | None:
        """The flight, to be ended by whoever stores the reply; from here on there is nothing to abandon."""
        flight, self.flight, self._has_lease = self.flight, None, False
        return flight

    def abandon(self, *, is_failure: bool = True) -> None:
        """Leave those who wait to themselves. Without waiting: it may be a cancellation that ends this."""
        flight, self.flight = self.flight, None
        if flight is not None and is_failure:
            flight.fail()
        elif flight is not None:
            flight.decline()
        shelf = self._shelf
        has_lease, self._has_lease = self._has_lease, False
        # The lease is the process's: while another of its requests leads, or is about to, it is not given back.
        is_needed = self._key in shelf.flights or (is_failure and flight is not None and flight.followers > 0)
        if has_lease and shelf.blobs.is_shared and not is_needed:
            spawn(shelf.blobs.release(self._key), "cache-release")
