"""How long to wait between tries of the gateway's own calls."""

import random
from collections.abc import Callable

from tenacity import RetryCallState, Retrying

from gateway.policies.retry import FullJitter


def jittered_waits(first_s: float, longest_s: float, rng: random.Random) -> Callable[[int], float]:
    """Seconds to wait after so many failed tries: anything up to `first_s`, doubled with each, at most `longest_s`."""
    strategy = FullJitter(first_s, longest_s, rng)

    def wait_s(failed: int) -> float:
        state = RetryCallState(Retrying(), None, (), {})
        state.attempt_number = failed
        return strategy(state)

    return wait_s
