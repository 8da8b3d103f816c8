"""How sure one may be that few enough of the served hits are wrong: pure statistics, valid at every look.

Every label is a pair of questions whose answers were compared: wrong or not. Labels are grouped by *kind* (what is
known of the pair beside its similarity) and by similarity. A *zone* is one kind from one threshold up. A zone may be
served while the upper bound of its wrong share is at most `max_wrong`.

The bound is a confidence sequence, the beta-binomial mixture: with n labels, s of them wrong, and a Beta(a, b) prior

    M(p) = B(a + s, b + n - s) / B(a, b) / (p^s (1 - p)^(n - s))

is, at the true share, a test martingale that starts at 1. By Ville's inequality it ever exceeds 1/m with probability at
most m; so the shares with M(p) < 1/m cover the true one at all times at once, and looking after every label is allowed.
(Robbins, Ann. Math. Stat. 41 (1970); Howard, Ramdas, McAuliffe, Sekhon, Ann. Stat. 49 (2021); betting: Waudby-Smith,
Ramdas, JRSS B 86 (2024).) It needs no independence and no constant share: since log(1 + x) is concave, it holds for the
running mean of the shares that each label had given everything before it. `m` is the error allowed for the table
divided by the number of zones that may be opened (Bonferroni), since each of them is looked at.

What the bound is: with the given confidence, in each zone the mean chance of being wrong, over the labels of the epoch,
is below `max_wrong`. Zones of different kinds are each below it, so any mixture of them is.
What it is not: it says nothing of one answer; nothing of hits that are unlike the labelled ones (labels grow old, so
there are epochs and `Drift`); nothing of pairs that could not be judged (a zone with too many of them stays closed);
and a judge that errs counts as the truth. Below an open zone every candidate is labelled and inside it a few, so labels
of a wider zone lean to its riskier edge, which is the safe side while risk falls with similarity.
"""

from math import lgamma, log

Prior = tuple[float, float]

JEFFREYS: Prior = (0.5, 0.5)
"""The prior that prefers no share."""


def prior_near(share: float) -> Prior:
    """Half an error, as Jeffreys has it, in so many labels that the mean is near `share` (above 0).

    Any prior is valid; one that does not spend itself on shares of no interest needs a quarter fewer labels.
    """
    return 0.5, 0.5 / share


def evidence(labels: int, wrong: int, share: float, prior: Prior) -> float:
    """Natural logarithm of M(share), 0 < share < 1: how badly `share` explains the labels."""
    a, b = prior
    mixed = _log_beta(a + wrong, b + labels - wrong) - _log_beta(a, b)
    return mixed - wrong * log(share) - (labels - wrong) * log(1 - share)


def is_below(labels: int, wrong: int, share: float, miss: float, prior: Prior) -> bool:
    """Whether the upper bound is at most `share`; `miss` is the chance allowed to be wrong about it, ever."""
    return wrong < share * labels and evidence(labels, wrong, share, prior) >= -log(miss)


def upper_bound(labels: int, wrong: int, miss: float, prior: Prior) -> float:
    """The largest share the labels leave possible, at most 1; 1 without labels."""
    return _edge(labels, wrong, miss, prior, 1.0)


def lower_bound(labels: int, wrong: int, miss: float, prior: Prior) -> float:
    """The smallest share the labels leave possible, at least 0; 0 without labels."""
    return _edge(labels, wrong, miss, prior, 0.0)


def needed_labels(labels: int, wrong: int, share: float, miss: float, prior: Prior) -> int:
    """The fewest further labels, all of them right, after which the upper bound is at most `share`."""
    if is_below(labels, wrong, share, miss, prior):
        return 0
    step = 1
    while not is_below(labels + step, wrong, share, miss, prior):
        step *= 2
    low, high = step // 2, step
    while high - low > 1:
        middle = (low + high) // 2
        if is_below(labels + middle, wrong, share, miss, prior):
            high = middle
        else:
            low = middle
    return high


def _edge(labels: int, wrong: int, miss: float, prior: Prior, end: float) -> float:
    # log M falls from the end to the observed share and is convex, so halving the interval finds the one crossing.
    inside = wrong / labels if labels else 1 - end
    if inside == end:
        return end
    outside = end
    for _ in range(50):
        middle = (inside + outside) / 2
        if middle in (inside, outside):
            break  # as near to 1 as a float comes
        if evidence(labels, wrong, middle, prior) < -log(miss):
            inside = middle
        else:
            outside = middle
    return outside


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)


class Drift:
    """Notices soon that the share of wrong ones has risen above `share`, where a bound over many old labels is slow.

    A likelihood ratio of three times the share against the share that starts again whenever it falls below 1 (Page's
    CUSUM, Biometrika 41 (1954); as an e-detector: Shin, Ramdas, Rinaldo, 2023). Without a rise it takes at least
    `patience` labels on average until it reports one; a rise from below 2 % to 10 % takes some eighty.
    """

    __slots__ = ("_limit", "_ratio", "_right", "_wrong")

    def __init__(self, share: float, patience: float = 400.0) -> None:
        worse = min(3 * share, (1 + share) / 2)
        self._wrong = log(worse / share)
        self._right = log((1 - worse) / (1 - share))
        self._limit = log(patience)
        self._ratio = 0.0

    def note(self, wrong: bool) -> bool:
        """Whether the share has risen, as far as the labels up to this one tell; then it starts anew."""
        self._ratio = max(0.0, self._ratio) + (self._wrong if wrong else self._right)
        if self._ratio < self._limit:
            return False
        self._ratio = 0.0
        return True
