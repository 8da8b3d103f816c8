"""Where the policies of admission ask for holds."""

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.core.errors import GatewayError
from gateway.store.base import Claim, Hold, Ledger, Verdict


class HoldIds:
    """Names for holds, like no other of the fleet: a client may send the same x-request-id twice."""

    __slots__ = ("_numbers", "_prefix")

    def __init__(self, rng: random.Random) -> None:
        """`rng`: unlike in every process."""
        self._prefix = f"{rng.getrandbits(64):016x}-"
        self._numbers = itertools.count()

    def __call__(self) -> str:
        """The next one."""
        return f"{self._prefix}{next(self._numbers):x}"


@dataclass(frozen=True, slots=True)
class Desk:
    """What all admissions of a process share."""

    ledger: Ledger
    ids: HoldIds
    now_s: Callable[[], float]
    """Unix seconds, by the store's clock: it says which day of a budget it is (F62)."""

    async def take(self, claims: Sequence[Claim]) -> tuple[Hold, Verdict]:
        """A hold on `claims` and the verdict on it; if nobody waits for the verdict, it is given back.

        Raises StoreUnavailable.
        """
        ledger = self.ledger
        hold = Hold(self.ids(), tuple(claims))
        try:
            return hold, await ledger.hold(hold.id, hold.claims)
        except GatewayError:
            raise
        except BaseException:
            # The caller is gone. The store may have granted it, or may yet: nobody else would ever give it back.
            ledger.settle(hold, [0] * len(hold.claims))
            raise
