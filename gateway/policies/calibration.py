"""How many tokens a byte of a request comes to at one target, learned from what the provider has billed.

The bound is distribution-free: of n ratios seen, the k-th smallest with k = ⌈(n + 1)(1 - ε)⌉ is
exceeded by the next one with a probability of at most ε, whatever their distribution is, as long as
the requests come in no particular order (exchangeability; it is the bound of split conformal
prediction: Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005). It says nothing
before about 1/ε requests have been seen: until then callers use the strict bound.

Ratios are kept in a histogram of logarithmic bins, each counted at its upper edge, so the bound is up
to 2 % above the exact one and never below. Now and then all counts are halved, so that a change of
what clients send, or of the provider's vocabulary, is followed. From then on old requests weigh less
than new ones, and the promise is about a mixture of both. Halving rounds up where there is
something, which errs to the safe side: rare high ratios are forgotten last.
"""

from math import ceil, log

_GROWTH = 1.02
_LOG_GROWTH = log(_GROWTH)
_LOWEST = 1e-4
_EACH = 8
_BINS = 700
"""Up to `_LOWEST` · 1.02⁶⁹⁸, about 100 tokens a byte; a vocabulary of bytes makes one."""


class Calibration:
    """The learned ratio of one target. For the event loop's thread.

    `epsilon` is the share of requests that may exceed what `tokens_per_byte` says, 0 < ε < 1. All counts
    are halved when they come to twice `half_life` requests (at least 2/ε).
    """

    __slots__ = ("_counts", "_due", "_epsilon", "_half_life", "_needed", "_seen", "_turn", "_upper")

    def __init__(self, epsilon: float = 0.001, half_life: int = 50_000) -> None:
        assert 0 < epsilon < 1
        self._epsilon = epsilon
        self._needed = ceil(1 / epsilon)
        self._half_life = max(half_life, 2 * self._needed)
        self._counts = [0] * _BINS
        self._seen = 0
        self._turn = 0
        self._due = self._needed
        self._upper: float | None = None

    @property
    def seen(self) -> int:
        """Requests that the bound rests on; those that were halved away are not among them."""
        return self._seen

    @property
    def tokens_per_byte(self) -> float | None:
        """The ratio that the next request exceeds with a probability of at most ε; None while too little is known."""
        return self._upper

    def wants_next(self) -> bool:
        """Whether the request that is over now is one to learn from: each, until a bound is known, then each eighth.

        Chosen by its number, never by what it is, so the promise holds; to look at a request costs a microsecond.
        """
        self._turn += 1
        return self._upper is None or self._turn % _EACH == 0

    def observe(self, n_bytes: int, tokens: int) -> None:
        """Learn from one settled request: its body's size, and the input tokens that the provider reported.

        The bound is computed anew after each hundredth more that was learned. What the requests are
        has no say in when, or the promise would not hold.
        """
        if n_bytes <= 0:
            return
        self._counts[_place(tokens / n_bytes)] += 1
        self._seen += 1
        self._due -= 1
        if self._due > 0:
            return
        if self._seen >= 2 * self._half_life:
            self._counts = [(count + 1) // 2 for count in self._counts]
            self._seen = sum(self._counts)
        self._upper = self._bound()
        self._due = self._seen // 100 + 1

    def _bound(self) -> float | None:
        above = self._seen - ceil((self._seen + 1) * (1 - self._epsilon))
        place = _BINS
        while above >= 0:
            place -= 1
            above -= self._counts[place]
        # With too few, even the highest is not high enough; and of the last bin the upper edge is not known.
        return None if place >= _BINS - 1 else _LOWEST * _GROWTH**place


def _place(ratio: float) -> int:
    """The bin of a ratio: at most `_LOWEST` · 1.02ᵖˡᵃᶜᵉ."""
    if ratio <= _LOWEST:
        return 0
    # At an edge it may come out one too high, which costs 2 %; one too low would break the promise.
    return min(int(log(ratio / _LOWEST) / _LOG_GROWTH) + 1, _BINS - 1)
