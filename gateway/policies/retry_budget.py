"""How many retries a target is worth: a share of its requests, so that a storm is not fed (F30)."""

from gateway.policies.failure_window import SlidingCounts

WINDOW_S = 10.0


class RetryBudget:
    """Counts the requests to one target and grants retries in proportion.

    As Envoy's retry budget (20 %, at least 3), counted over a window instead of over what runs at the
    moment, since a failed request is gone in no time. In any ten seconds, as the ring of the window cuts
    them, retries are at most `share` of the requests + `least`; so what reaches a target that fails always is
    at most 1.2 times the requests + 3, whatever `attempts` says, and a quiet target still gets its retries.
    """

    __slots__ = ("_counts", "_least", "_share", "exhausted")

    def __init__(self, share: float, least: int) -> None:
        self._share = share
        self._least = least
        self._counts = SlidingCounts(WINDOW_S)
        self.exhausted = 0
        """Retries that were refused since the start."""

    def requested(self, now_s: float) -> None:
        """Count a request's first try."""
        self._counts.add_first(now_s)

    def allows(self, now_s: float) -> bool:
        """Whether one more retry is within the budget; if so it is taken."""
        counts = self._counts
        counts.age(now_s)
        if counts.second + 1 > self._share * counts.first + self._least:
            self.exhausted += 1
            return False
        counts.add_second(now_s)
        return True
