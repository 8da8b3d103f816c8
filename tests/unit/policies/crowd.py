"""Requests that stay at a bulkhead until they are told to go."""

import asyncio

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.core.errors import TargetBusy
from gateway.core.exchange import Priority
from gateway.policies.bulkhead import Bulkhead, BulkheadSettings
from tests.fakes import FakeClock, exchange
from tests.unit.policies.scripted import Scripted


class Crowd:
    """Requests that stay until they are told to go."""

    def __init__(self, bulkhead: Bulkhead) -> None:
        self.bulkhead = bulkhead
        self.inside: list[str] = []
        self.refused: list[str] = []
        self.priorities: dict[str, Priority] = {}
        self.go: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def send(self, name: str, priority: Priority = "normal") -> None:
        """One request more, as far as it comes."""
        self.priorities[name] = priority
        self.go[name] = asyncio.Event()
        self.tasks[name] = asyncio.ensure_future(self._stay(name, priority))
        await asyncio.sleep(0)

    async def _stay(self, name: str, priority: Priority) -> None:
        try:
            async with self.bulkhead(exchange(priority=priority), Scripted()):
                self.inside.append(name)
                try:
                    await self.go[name].wait()
                finally:
                    self.inside.remove(name)
        except TargetBusy:
            self.refused.append(name)

    async def leave(self, name: str) -> None:
        """Let one end."""
        self.go[name].set()
        await self.settled()

    async def cancel(self, name: str) -> None:
        """Let one's client leave."""
        self.tasks[name].cancel()
        await self.settled()

    def waiting(self) -> list[str]:
        """Who is in the queue."""
        return [name for name, task in self.tasks.items() if not task.done() and name not in self.inside]

    async def settled(self) -> None:
        """Until nothing moves."""
        for _ in range(6):
            await asyncio.sleep(0)

    async def end(self) -> None:
        """Cancel all of them."""
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


class Traffic(RuleBasedStateMachine):
    """Requests of all priorities that come, end and are given up, while time passes (F6, F7, F48)."""

    @initialize(
        max_inflight=st.sampled_from([20, 21, 6, 5, 4, 2, 1]),
        queue_size=st.sampled_from([40, 6, 2, 0]),
        crowded=st.integers(0, 6),
    )
    def begin(self, max_inflight: int, queue_size: int, crowded: int) -> None:
        """A full target, with so many who wait and, in front of them, one of high priority."""
        self.runner = asyncio.Runner()
        self.clock = FakeClock()
        self.crowd = Crowd(Bulkhead(BulkheadSettings(max_inflight, queue_size, 60.0), "a", self.clock))
        self.queue_size = queue_size
        self.count = 0
        self.come("normal", max_inflight + crowded)
        if crowded:
            self.come("high", 1)

    @rule(priority=st.sampled_from(["low", "normal", "high"]), times=st.integers(1, 8))
    def come(self, priority: Priority, times: int) -> None:
        async def send() -> None:
            for _ in range(times):
                self.count += 1
                await self.crowd.send(f"{priority}{self.count}", priority)

        self.runner.run(send())

    @rule(one=st.integers(0, 1000), times=st.integers(1, 12))
    def end(self, one: int, times: int) -> None:
        """Some of those inside end, in the same moment."""
        for name in self._chosen(self.crowd.inside, one, times):
            self.crowd.go[name].set()

    @rule(one=st.integers(0, 1000), times=st.integers(1, 2))
    def give_up(self, one: int, times: int) -> None:
        for name in self._chosen(list(self.crowd.tasks), one, times):
            self.crowd.tasks[name].cancel()

    @rule(one=st.integers(0, 1000), turns=st.integers(0, 4), newcomer=st.sampled_from(["normal", "high", None]))
    def give_up_as_a_slot_comes(self, one: int, turns: int, newcomer: Priority | None) -> None:
        """One inside ends; the first who waits leaves so many turns of the loop later, as somebody else comes."""
        waiting = self.crowd.waiting()

        async def happen() -> None:
            for name in self._chosen(self.crowd.inside, one, 1):
                self.crowd.go[name].set()
            for _ in range(turns):
                await asyncio.sleep(0)
            for name in waiting[:1]:
                self.crowd.tasks[name].cancel()
            if newcomer is not None:
                self.count += 1
                await self.crowd.send(f"{newcomer}{self.count}", newcomer)

        self.runner.run(happen())

    def _chosen(self, names: list[str], one: int, times: int) -> list[str]:
        """Up to `times` of the names, from one on."""
        at = one % len(names) if names else 0
        return names[at : at + times]

    @rule(seconds=st.sampled_from([0.1, 2.0, 4.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(one=st.integers(0, 1000), crowded=st.integers(1, 6), ends=st.integers(1, 6))
    def slots_become_short(self, one: int, crowded: int, ends: int) -> None:
        """Everything is full, and one of high priority comes; then some end, and others wait for what is kept."""
        self.come("normal", self.crowd.bulkhead.max_inflight - len(self.crowd.inside) + crowded)
        self.come("high", 1)
        self.end(one, ends)

    @rule()
    def high_stays_away(self) -> None:
        """Then the timer, which is set whenever somebody waits for what is kept, leaves nothing kept."""
        self._settle()
        self.clock.advance(5.0)
        bulkhead = self.crowd.bulkhead
        if not self.crowd.waiting() or bulkhead.inflight == bulkhead.max_inflight:
            return
        assert bulkhead._look is not None
        bulkhead._look.cancel()
        self.runner.run(self._looked())
        assert bulkhead.shared == bulkhead.max_inflight
        assert not self.crowd.waiting() or bulkhead.inflight == bulkhead.max_inflight

    async def _looked(self) -> None:
        self.crowd.bulkhead.look_again()
        await self.crowd.settled()

    def _settle(self) -> None:
        self.runner.run(self.crowd.settled())

    @invariant()
    def nobody_waits_for_a_slot_that_is_free_and_may_be_had(self) -> None:
        if not hasattr(self, "crowd"):
            return
        self._settle()
        crowd, bulkhead = self.crowd, self.crowd.bulkhead
        waiting = crowd.waiting()
        assert len(crowd.inside) == bulkhead.inflight <= bulkhead.max_inflight
        assert len(waiting) == bulkhead.waiting <= self.queue_size
        assert bulkhead.max_inflight - bulkhead.shared <= max(1, bulkhead.max_inflight // 10)
        assert bulkhead.max_inflight >= 5 or bulkhead.shared == bulkhead.max_inflight
        assert not waiting or bulkhead.inflight >= bulkhead.shared
        if any(crowd.priorities[name] == "high" for name in waiting):
            assert bulkhead.inflight == bulkhead.max_inflight

    def teardown(self) -> None:
        """Everybody who waits gets in as those before them leave, whatever is kept."""
        if not hasattr(self, "crowd"):
            return
        self._settle()
        while self.crowd.inside:
            for name in list(self.crowd.inside):
                self.crowd.go[name].set()
            self._settle()
        assert self.crowd.waiting() == []
        assert (self.crowd.bulkhead.inflight, self.crowd.bulkhead.waiting) == (0, 0)
        self.runner.run(self.crowd.end())
        self.runner.close()
