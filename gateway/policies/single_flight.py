"""One of several equal requests asks the model; the others wait for what it brings.

Theory of operation. Whoever finds nothing stored under a key *leads*, and whoever comes after it, while
it is under way, *follows*. When the leader has its whole reply, it lands, and everyone has it. What is
shared is an answer, never a failure: when a leader fails, or its client leaves, the first of its
followers to notice leads, and the others follow that one. A leader whose reply must not be shared says
so, and everybody goes alone. A leader lives and dies with its own client: its call is not carried on for the
followers' sake, for it is that client's request that is admitted, held and billed.

Flights are of one process. Between processes a lease in the store does the same (`Blobs.find`).
"""

import asyncio
from typing import Literal

from gateway.store.blobs import Entry

Epochs = tuple[int, ...] | None


class Flight:
    """One call of the model, and who waits for it."""

    __slots__ = ("_flights", "_key", "_landed", "epochs", "followers")

    def __init__(self, flights: "Flights", key: bytes, epochs: Epochs) -> None:
        self._flights = flights
        self._key = key
        self._landed: asyncio.Future[Entry | Literal["failed", "declined"]] | None = None
        self.epochs = epochs
        """In force when it began: what was purged since then is not to be had from it."""
        self.followers = 0

    async def wait(self, timeout_s: float) -> Entry | Literal["failed", "declined", "late"]:
        """What the leader brings, or that it failed, must not share, or takes longer than `timeout_s`.

        A follower that is cancelled disturbs nobody.
        """
        if self._landed is None:
            self._landed = asyncio.get_running_loop().create_future()
        self.followers += 1
        try:
            done, _ = await asyncio.wait((self._landed,), timeout=timeout_s)
        finally:
            self.followers -= 1
        return self._landed.result() if done else "late"

    def land(self, entry: Entry) -> None:
        """Give all followers the reply."""
        self._end(entry)

    def fail(self) -> None:
        """Have one of the followers lead."""
        self._end("failed")

    def decline(self) -> None:
        """Have every follower go alone: the reply is not one to be shared."""
        self._end("declined")

    def _end(self, outcome: Entry | Literal["failed", "declined"]) -> None:
        self._flights.forget(self._key, self)
        if self._landed is not None and not self._landed.done():
            self._landed.set_result(outcome)


class Flights:
    """The calls under way in this process, over all routes."""

    def __init__(self) -> None:
        self._flights: dict[bytes, Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def __contains__(self, key: bytes) -> bool:
        """Whether one is under way for `key`, whenever it began."""
        return key in self._flights

    def find(self, key: bytes, epochs: Epochs) -> Flight | None:
        """The flight for `key`, if it began under these epochs."""
        flight = self._flights.get(key)
        return flight if flight is not None and flight.epochs == epochs else None

    def lead(self, key: bytes, epochs: Epochs) -> Flight:
        """A new flight, which others find from now on, until it ends. Whoever gets it must end it."""
        flight = self._flights[key] = Flight(self, key, epochs)
        return flight

    def forget(self, key: bytes, flight: Flight) -> None:
        """No longer let others find `flight`; another one under the same key stays."""
        if self._flights.get(key) is flight:
            del self._flights[key]
