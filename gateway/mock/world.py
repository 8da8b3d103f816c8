"""What all connections of one mock share."""

from collections import Counter

from gateway.core.clock import Clock
from gateway.mock.calls import CallLog, Stats
from gateway.mock.content import luck
from gateway.mock.directives import Directives
from gateway.mock.heads import Dates
from gateway.mock.uploads import Shelf


class World:
    """Log, counters, files and the numbering of calls. One event loop only."""

    def __init__(self, clock: Clock, *, log_calls: bool) -> None:
        self.clock = clock
        self.log_calls = log_calls
        self.log = CallLog()
        self.stats = Stats()
        self.shelf = Shelf()
        self.dates = Dates(clock)
        self._calls = 0
        self._connections = 0
        self._turns: Counter[tuple[str, str]] = Counter()

    def next_call(self) -> int:
        """A number for a call, from 1; ids of answers are made of it."""
        self._calls += 1
        return self._calls

    def next_connection(self) -> int:
        """A number for a connection, from 1."""
        self._connections += 1
        return self._connections

    def failing_status(self, directives: Directives, model: str) -> int | None:
        """The status that the directives want for this call of `model`, None for a good answer.

        Each call takes the next of `seq`, whose last repeats. `fail_rate` fails that share of the
        calls, with `status` or 500, by a draw that depends on seed, model and the call's turn.
        """
        if directives.seq:
            turn = self._turn(model, f"seq={directives.seq}")
            return directives.seq[min(turn, len(directives.seq) - 1)]
        if directives.fail_rate:
            turn = self._turn(model, f"fail_rate={directives.fail_rate}")
            failing = luck("fail_rate", directives.seed, model, turn) < directives.fail_rate
            return (directives.status or 500) if failing else None
        return directives.status

    def draw(self, directives: Directives, model: str) -> float:
        """This call's share of luck for `quality`, 0 ≤ x < 1."""
        if directives.quality is None:
            return 0.0
        return luck("quality", directives.seed, model, self._turn(model, f"quality={directives.quality}"))

    def reset(self) -> None:
        """Forget calls, files, totals and turns; what is under way goes on."""
        self.log.clear()
        self.shelf.clear()
        self.stats.reset()
        self._turns.clear()

    def _turn(self, model: str, purpose: str) -> int:
        # Bounded: every new model name or setting would otherwise stay for ever.
        if len(self._turns) > 100_000:
            self._turns.clear()
        key = (model, purpose)
        turn = self._turns[key]
        self._turns[key] = turn + 1
        return turn
