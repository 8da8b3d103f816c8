"""Several requests for embeddings as one call upstream.

Theory of operation. A batch is *gathering* until somebody says `go`. If one request is all there is, it goes
alone, as if nothing had been. Otherwise the batch has a task of its own, since it belongs to none of its
members: it waits for a place at the target, and then gives everybody the `turn`. Each begins its try now (who
has left by then has none, and pays nothing), and says that it is `there`; so the call is made of those who
are. What the call comes to *lands* with each of them. Who leaves meanwhile disturbs nobody; when the last has
left the task is cancelled, and with it the call.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from gateway.core.clone import branch
from gateway.core.errors import GatewayError, InternalError, UpstreamError
from gateway.core.exchange import Attempt, Exchange, Priority, Reply, Usage
from gateway.core.pipeline import compose, spawn
from gateway.policies.coalesce_faults import is_refusal, own_copy
from gateway.policies.coalesce_inputs import Inputs, write_body
from gateway.policies.coalesce_member import Dispatch, Landed, Member, Result
from gateway.policies.coalesce_reply import read_members, read_rows, split_reported, split_usage, write_part

_RANKS: dict[Priority, int] = {"high": 0, "normal": 1, "low": 2}
_LARGE_BYTES = 256 * 1024


class Batch:
    """Requests that ask the same of the same target, but for their inputs. See the module."""

    __slots__ = (
        "_all_there",
        "_missing",
        "_sent_s",
        "_shared",
        "_task",
        "dispatch",
        "inputs",
        "members",
        "sent",
        "tokens",
    )

    def __init__(self, dispatch: Dispatch) -> None:
        self.dispatch = dispatch
        self.members: list[Member] = []
        """Those who have not left."""
        self.inputs = self.tokens = 0
        self.sent: Sequence[Member] = ()
        """Those whom the call was made for, in the order of their inputs; empty until then."""
        self._shared: Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self._all_there: asyncio.Future[None] | None = None
        self._missing = 0
        self._sent_s = 0.0

    def add(self, exchange: Exchange, inputs: Inputs) -> Member:
        """One more, while it is gathering."""
        member = Member(self, exchange, inputs)
        self.members.append(member)
        self.inputs += len(inputs.items)
        self.tokens += inputs.tokens
        return member

    def go(self) -> None:
        """End the gathering."""
        if len(self.members) > 1:
            self._task = spawn(self._run(), f"batch at {self.dispatch.name}")
        for member in self.members if self._task is None else ():
            member.begin("alone")

    def leave(self, member: Member) -> None:
        """See Company."""
        if member not in self.members:
            return
        self.members.remove(member)
        if not self.sent:
            self.inputs -= len(member.inputs.items)
            self.tokens -= member.inputs.tokens
        if self._all_there is not None and not member.is_there:
            self._count_in()
        if not self.members and self._task is not None:
            self._task.cancel()

    def arrived(self, member: Member) -> None:
        """See Company."""
        member.is_there = True
        self._count_in()

    def tell(self, member: Member) -> None:
        """See Company."""
        shared, exchange = self._shared, member.exchange
        if shared is None or not self.sent:
            return
        ours, theirs = shared.attempts[-1], exchange.attempts[-1]
        theirs.status, theirs.upstream_request_id = ours.status, ours.upstream_request_id
        theirs.waited_s = self.dispatch.clock.monotonic() - self._sent_s
        exchange.model_served, exchange.response_id = shared.model_served, shared.response_id
        if member.usage is not None:
            exchange.usage = member.usage
        exchange.decide(
            "coalesce",
            f"{self.dispatch.name}: {len(member.inputs.items)} of {self.inputs} inputs, "
            f"in one call for {len(self.sent)} requests",
        )

    def _count_in(self) -> None:
        self._missing -= 1
        if self._missing <= 0 and self._all_there is not None and not self._all_there.done():
            self._all_there.set_result(None)

    async def _run(self) -> None:
        result: Result = "cancelled"
        try:
            self._shared = self._make_shared()
            async with compose(self.dispatch.queue, self._open)(self._shared) as reply:
                result = await self._land(reply)
        except GatewayError as error:
            result = self._fail(error)
        finally:
            # Nobody waits for ever, even if there is a bug here.
            for member in self.members:
                member.begin(InternalError())
                member.land(InternalError())
            if self.sent:
                self.dispatch.meter.batch(result)

    def _make_shared(self) -> Exchange:
        """The exchange of the call itself. Of its members' it has what is the same in all; its time is the longest."""
        exchanges = [member.exchange for member in self.members]
        shared = branch(exchanges[0])
        shared.consumer, shared.tags, shared.admission = None, {}, None
        shared.client_deadline_s = None
        shared.started_s = max(exchange.started_s for exchange in exchanges)
        shared.priority = min((exchange.priority for exchange in exchanges), key=_RANKS.__getitem__)
        return shared

    @asynccontextmanager
    async def _open(self, shared: Exchange) -> AsyncIterator[Reply]:
        """The call, now that there is a place for it."""
        self._all_there = asyncio.get_running_loop().create_future()
        self._missing = len(self.members)
        for member in self.members:
            member.begin("together")
        await self._all_there
        sent = tuple(self.members)
        first = sent[0]
        shared.request.body = write_body(first.inputs.others, [item for each in sent for item in each.inputs.items])
        self._sent_s = self.dispatch.clock.monotonic()
        # The call is one; it bears the trace of the first of those whom it is for.
        traceparent = first.exchange.attempts[-1].traceparent
        shared.attempts.append(Attempt(1, self.dispatch.name, traceparent, self._sent_s))
        for place, member in enumerate(sent):
            member.place = place
        self.sent = sent
        self.dispatch.meter.call("together", len(sent))
        async with self.dispatch.target(shared) as reply:
            yield reply

    async def _land(self, reply: Reply) -> Result:
        assert self._shared is not None
        if reply.status >= 400:
            return self._refuse()
        if reply.body is None:
            raise UpstreamError("The provider's reply to several requests at once is a stream.")
        weights = self._share_out(self._shared.usage)
        members = read_members(reply.body)
        if len(reply.body) > _LARGE_BYTES:
            # A megabyte takes a millisecond: let others in between.
            await asyncio.sleep(0)
        rows = read_rows(members["data"], self.inputs)
        self._choose_speaker()
        reported = split_reported(members, weights)
        first = 0
        for place, member in enumerate(self.sent):
            after = first + len(member.inputs.items)
            if member in self.members:
                body = write_part(members, rows[first:after], None if reported is None else reported[place])
                member.land(Landed(reply.status, list(reply.headers), body))
            first = after
        return "ok"

    def _share_out(self, usage: Usage) -> list[int]:
        """Give everybody a share of what the call took, by weight; the weights."""
        weights = [member.inputs.tokens for member in self.sent]
        for member, share in zip(self.sent, split_usage(usage, weights), strict=True):
            member.usage = share
        return weights

    def _refuse(self) -> Result:
        for member in self.members:
            member.is_refused = True
            member.land(Landed(400, [], b""))
        return "refused"

    def _choose_speaker(self) -> None:
        """Have the first who is still there tell the breaker what came of the call; for the others it is an echo."""
        for member in self.members[1:]:
            member.exchange.attempts[-1].is_echo = True

    def _fail(self, error: GatewayError) -> Result:
        if self.sent and is_refusal(error):
            return self._refuse()
        if self.sent:
            self._choose_speaker()
        for member in self.members:
            if not self.sent and self._shared is not None:
                member.exchange.target = self.dispatch.name
                member.exchange.decisions += self._shared.decisions
            member.begin(own_copy(error))
            member.land(own_copy(error))
        return "error"
