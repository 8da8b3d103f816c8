"""All workers as one: what a supervisor asks of them, tells them, and does when one ends or goes silent.

Nothing here waits long for a worker. One that does not answer is shown with what it last told, is
told of a reload all the same (it reads that when it comes to itself), and is replaced in the end.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any

import msgspec

from gateway.core.errors import StoreUnavailable
from gateway.core.pipeline import spawn
from gateway.edge.channel import CallFailed, ChannelClosed
from gateway.edge.desired import Desired
from gateway.edge.fleet import EVIDENCE, TargetState, refresh_budgets, worse
from gateway.edge.process import happens
from gateway.edge.slot import WorkerProcess
from gateway.store.base import BudgetState, Grant, Spend, Store
from gateway.store.blobs import Receipt
from gateway.telemetry.metrics import Registry
from gateway.telemetry.snapshot import Snapshot, merge, retire

logger = logging.getLogger(__name__)

_LOOK_S = 1.0
"""How long a scrape waits for a worker, and how often workers are looked at: what a killed one takes with it."""
_APPLY_WAIT_S = 2.0
_PURGE_S = 8.0
"""Longer than a purge may take in Redis, shorter than the command line waits."""
_HANG_S = 30.0
_START_S = 30.0
_RESTART_MIN_S, _RESTART_MAX_S = 0.2, 5.0
_STABLE_S = 10.0
_EXIT_GRACE_S = 10.0
_HURRY_GRACE_S = 8.0


class WorkerFleet:
    """Every worker, as the admin plane sees them. Implements `Fleet`."""

    def __init__(self, workers: Sequence[WorkerProcess], desired: Desired, registry: Registry, store: Store) -> None:
        """`registry` and `store` are the supervisor's own; `desired` is what workers start with."""
        self._workers = workers
        self._store = store
        self._desired = desired
        self._dumped = desired.dump()
        self._registry = registry
        # What workers that have ended had counted: no sum may fall because one was replaced (F126).
        self._former = Snapshot()
        self._all_serving = asyncio.Event()
        self._hurried = asyncio.Event()
        self.is_draining = False

    @property
    def is_ready(self) -> bool:
        """Whether at least one worker serves. A worker that is being replaced is no reason to leave."""
        return not self.is_draining and any(worker.is_serving for worker in self._workers)

    async def apply(self, desired: Desired) -> None:
        """Have every worker serve with `desired`. Returns when all do, or after 2 s.

        A worker that starts meanwhile takes it before it counts as serving, one that dies is replaced
        by one that begins with it, and one that fails or is silent is told again once it answers.
        """
        self._desired, self._dumped = desired, desired.dump()
        telling = {
            spawn(worker.apply(desired.id, self._dumped), f"worker {worker.number} reload"): worker.number
            for worker in self._serving()
        }
        if not telling:
            return
        _, late = await asyncio.wait(telling, timeout=_APPLY_WAIT_S)
        for task in late:
            logger.error("worker %d has not applied configuration %s yet", telling[task], desired.id)

    async def snapshots(self) -> list[Snapshot]:
        """The metrics of every worker, of those that have ended, and the supervisor's own.

        A worker that does not answer within a second counts with what it told last.
        """
        await asyncio.gather(*(self._count(worker) for worker in self._serving()))
        if self._store.is_shared:
            await refresh_budgets(self._registry, self._store, self._desired.loaded.config)
        # No await from here on: a worker that ends is either among the living or among the former.
        return [self._registry.snapshot(), self._former, *(worker.counted for worker in self._workers)]

    async def targets(self) -> dict[str, TargetState]:
        """Each target, over all workers."""
        total: dict[str, TargetState] = {}
        for answer in await self._ask_all("targets"):
            for name, state in answer.items():
                total[name] = worse(total[name], state) if name in total else state
        return total

    async def evidence(self, kind: str, subject: str) -> list[dict[str, Any]]:
        """Records of the last requests of a key, a target or a tag's value, of every worker."""
        found = [record for answer in await self._ask_all("evidence", [kind, subject]) for record in answer]
        return sorted(found, key=itemgetter("ts"), reverse=True)[:EVIDENCE]

    async def restore(self, target: str) -> None:
        """Close a target's breaker, in every worker."""
        await self._ask_all("restore", target)

    async def budgets(self) -> list[BudgetState]:
        """Every budget counter: the shared store's, or the sum of what the workers count apart."""
        if self._store.is_shared:
            return await self._store.ledger.budgets()
        answers = await self._ask_all("budgets")
        return sum_budgets(msgspec.convert(state, BudgetState) for answer in answers for state in answer)

    async def grant(self, grant: Grant) -> None:
        """Enlarge a budget: in the shared store, or in every worker."""
        if self._store.is_shared:
            await self._store.ledger.grant(grant)
        else:
            await self._ask_all("grant", msgspec.to_builtins(grant))

    async def spend(self, first_day: str, last_day: str) -> list[Spend]:
        """The totals of these days, over all workers; one line for each worker that counts apart."""
        if self._store.is_shared:
            return await self._store.ledger.spend(first_day, last_day)
        answers = await self._ask_all("spend", [first_day, last_day])
        return [msgspec.convert(row, Spend) for answer in answers for row in answer]

    async def purge(self, scope: str) -> Receipt:
        """Remove stored replies: in the store that all share, by one worker; else in every worker.

        A worker that starts may be reading its file, so it has to be asked again once it serves.
        """
        if self._store.is_shared:
            return await self._purge_shared(scope)
        answers = await asyncio.gather(*(self._purge(worker, scope) for worker in self._workers))
        receipts = [answer for answer in answers if isinstance(answer, Receipt)]
        failures = [answer for answer in answers if isinstance(answer, str)]
        if failures:
            raise StoreUnavailable(
                f"Purged by {len(receipts)} of {len(answers)} workers ({failures[0]}). Ask again.", retry_after_s=1.0
            )
        return Receipt(
            scope,
            max(receipt.epoch for receipt in receipts),
            sum(receipt.matched for receipt in receipts),
            all(receipt.is_complete for receipt in receipts),
        )

    async def _purge_shared(self, scope: str) -> Receipt:
        failure = "no worker serves"
        for worker in self._serving():
            answer = await self._purge(worker, scope)
            if isinstance(answer, Receipt):
                return answer
            failure = answer
        raise StoreUnavailable(f"Nothing was purged ({failure}). Ask again.", retry_after_s=1.0)

    async def _purge(self, worker: WorkerProcess, scope: str) -> Receipt | str:
        """What one worker has done, or why it has not."""
        if not worker.is_serving:
            return f"worker {worker.number} does not serve now"
        try:
            answer = await worker.call("purge", scope, timeout_s=_PURGE_S)
        except (ChannelClosed, CallFailed, TimeoutError) as error:
            return f"worker {worker.number}: {error!r}"
        return answer if isinstance(answer, str) else msgspec.convert(answer, Receipt)

    async def find_request(self, request_id: str) -> dict[str, Any] | None:
        """The record of one of the last requests, from whichever worker served it."""
        for answer in await self._ask_all("find", request_id):
            if answer is not None:
                found: dict[str, Any] = answer
                return found
        return None

    async def watch(self) -> None:
        """Look at every worker once a second, for ever: keep its counts, and bring it up to date if it lags."""
        while True:
            await asyncio.sleep(_LOOK_S)
            await self.snapshots()
            for worker in self._serving():
                if worker.asked_revision != self._desired.id and worker.silent_since_s is None:
                    spawn(worker.apply(self._desired.id, self._dumped), f"worker {worker.number} reload")

    async def wait_ready(self) -> None:
        """Wait until every worker serves."""
        await self._all_serving.wait()

    async def keep(self, worker: WorkerProcess) -> None:
        """Keep a worker running until the drain: replace it when it ends."""
        pause_s = _RESTART_MIN_S
        loop = asyncio.get_running_loop()
        while not self.is_draining:
            started_s = loop.time()
            await self._live(worker)
            if self._has_left():
                return
            status = await worker.reap(_EXIT_GRACE_S)
            self._former = merge([self._former, retire(worker.counted)])
            worker.counted = Snapshot()
            pause_s = _RESTART_MIN_S if loop.time() - started_s > _STABLE_S else min(pause_s * 2, _RESTART_MAX_S)
            logger.error("worker %d ended with %d; starting another in %.1f s", worker.number, status, pause_s)
            await asyncio.sleep(pause_s)

    async def drain(self, delay_s: float, drain_s: float) -> None:
        """Have every worker drain, and wait until all have ended."""
        self.is_draining = True
        draining = [spawn(self._drain(worker, delay_s, drain_s), "drain") for worker in self._workers]
        await happens(self._hurried, delay_s)
        # As long as one process holds them open, the kernel takes connections that nobody will serve.
        for worker in self._workers:
            worker.listening.close()
        await asyncio.gather(*draining)

    def hurry(self) -> None:
        """Cut a drain short: replies end now, with an error of their dialect."""
        self._hurried.set()
        for worker in self._workers:
            spawn(self._hurry(worker), f"worker {worker.number} hurry")

    def _serving(self) -> list[WorkerProcess]:
        return [worker for worker in self._workers if worker.is_serving]

    def _has_left(self) -> bool:
        return self.is_draining

    async def _live(self, worker: WorkerProcess) -> None:
        """One process's life, from its start to its end."""
        try:
            gone = await worker.start(self._desired.id, self._dumped)
            while worker.revision != self._desired.id:
                # There was a reload while it started.
                if not await worker.apply(self._desired.id, self._dumped):
                    raise ChannelClosed
            worker.is_serving = True
            if all(each.is_serving for each in self._workers):
                self._all_serving.set()
            await gone
        except (ChannelClosed, CallFailed, OSError) as error:
            if not self._has_left():
                logger.error("worker %d did not start: %r", worker.number, error)
            worker.kill()
        worker.is_serving = False

    async def _count(self, worker: WorkerProcess) -> None:
        incarnation = worker.incarnation
        try:
            answer = await worker.call("metrics", timeout_s=_LOOK_S)
        except TimeoutError:
            if worker.incarnation == incarnation:
                self._note_silence(worker)
            return
        except (ChannelClosed, CallFailed) as error:
            logger.warning("worker %d told no metrics: %r", worker.number, error)
            return
        if worker.incarnation == incarnation and worker.is_serving:
            worker.counted = msgspec.msgpack.decode(answer, type=Snapshot)
        if worker.silent_since_s is not None:
            logger.warning("worker %d answers again", worker.number)
            worker.silent_since_s = None

    def _note_silence(self, worker: WorkerProcess) -> None:
        now_s = asyncio.get_running_loop().time()
        if worker.silent_since_s is None:
            worker.silent_since_s = now_s
            logger.error("worker %d does not answer", worker.number)
        elif now_s - worker.silent_since_s > _HANG_S and not self.is_draining:
            # Its share of the connections waits for it in vain: what it serves is lost already.
            logger.error("worker %d has not answered for %.0f s; killing it", worker.number, _HANG_S)
            worker.kill()

    async def _drain(self, worker: WorkerProcess, delay_s: float, drain_s: float) -> None:
        try:
            await worker.call("drain", [delay_s, drain_s], timeout_s=delay_s + drain_s + _EXIT_GRACE_S)
        except (ChannelClosed, CallFailed, TimeoutError) as error:
            if worker.is_serving:
                logger.error("worker %d did not drain: %r", worker.number, error)
            worker.kill()
        await worker.reap(_EXIT_GRACE_S)

    async def _hurry(self, worker: WorkerProcess) -> None:
        try:
            await worker.call("hurry", timeout_s=_LOOK_S)
        except (ChannelClosed, CallFailed, TimeoutError) as error:
            logger.warning("worker %d was not hurried: %r", worker.number, error)
        await asyncio.sleep(_HURRY_GRACE_S)
        worker.kill()

    async def _ask_all(self, name: str, payload: Any = None) -> list[Any]:
        serving = self._serving()
        answers = await asyncio.gather(
            *(worker.call(name, payload, timeout_s=_LOOK_S) for worker in serving), return_exceptions=True
        )
        good = []
        for worker, answer in zip(serving, answers, strict=True):
            if isinstance(answer, BaseException):
                logger.error("worker %d did not answer %s: %r", worker.number, name, answer)
            else:
                good.append(answer)
        return good


def sum_budgets(states: Iterable[BudgetState]) -> list[BudgetState]:
    """The counters of processes that count apart, as one of each: spent and held add up, grants are everybody's."""
    total: dict[tuple[str, str, str], BudgetState] = {}
    for state in states:
        name = (state.rule, state.scope, state.period)
        known = total.get(name)
        if known is not None:
            state = msgspec.structs.replace(
                known,
                spent_nusd=known.spent_nusd + state.spent_nusd,
                held_nusd=known.held_nusd + state.held_nusd,
                granted_nusd=max(known.granted_nusd, state.granted_nusd),
            )
        total[name] = state
    return list(total.values())
