"""Each try's bill."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.core.errors import (
    ClientGone,
    GatewayError,
    InvalidRequest,
    UpstreamAccountError,
    UpstreamConnectError,
    UpstreamError,
    UpstreamTimeout,
    UpstreamTruncated,
)
from gateway.core.exchange import Attempt, Exchange, Operation, Reply, RequestHead, Usage
from gateway.core.price import Price
from gateway.policies.billing import Billed
from gateway.policies.calibration import Calibration
from tests.fakes import exchange, request

pytestmark = pytest.mark.anyio

PRICE = Price(input=1_000_000, output=10_000_000, request=3)
"""One nano-USD an input token, ten an output token, three a request."""
BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
GUESS = -(-len(BODY) // 4)


class Target:
    """Answers with this usage and status, and then fails with `after`; or fails before it answers."""

    def __init__(
        self,
        usage: Usage | None = None,
        *,
        status: int = 200,
        before: BaseException | None = None,
        after: BaseException | None = None,
    ) -> None:
        self.usage = usage
        self.status = status
        self.before = before
        self.after = after

    @asynccontextmanager
    async def __call__(self, asked: Exchange) -> AsyncIterator[Reply]:
        if self.before is not None:
            raise self.before
        yield Reply(self.status, [], body=b"{}")
        if self.usage is not None:
            asked.usage = self.usage
        if self.after is not None:
            raise self.after


def asking(operation: Operation = "chat") -> Exchange:
    asked = exchange(request(head=RequestHead(model="m"), body=BODY, operation=operation))
    asked.attempts.append(Attempt(1, "mock"))
    return asked


async def billed(
    asked: Exchange, target: Target, price: Price | None = PRICE, learn: Calibration | None = None
) -> None:
    """One try, to its end."""
    try:
        async with Billed(price, learn or Calibration())(asked, target):
            pass
    except (GatewayError, GeneratorExit):
        return


async def test_what_the_provider_reports_is_billed() -> None:
    asked = asking()
    await billed(asked, Target(Usage(7, 5, source="provider")))
    assert (asked.attempts[0].cost_nusd, asked.cost_nusd) == (3 + 7 + 50, 60)
    assert asked.attempts[0].usage == Usage(7, 5, source="provider")


async def test_every_try_is_billed_for_itself_and_the_exchange_for_all() -> None:
    """F31."""
    asked = asking()
    await billed(asked, Target(Usage(7, 5, source="provider"), after=UpstreamTruncated("cut")))
    asked.attempts.append(Attempt(2, "mock"))
    await billed(asked, Target(Usage(1, 1, source="provider")))
    assert [attempt.cost_nusd for attempt in asked.attempts] == [60, 14]
    assert asked.cost_nusd == 74
    assert asked.usage == Usage(1, 1, source="provider")


@pytest.mark.parametrize(
    "fault",
    [
        UpstreamConnectError("refused"),
        UpstreamError("429", upstream_status=429),
        UpstreamError("500", upstream_status=500),
        UpstreamAccountError("401", upstream_status=401),
        InvalidRequest("not spoken here"),
    ],
    ids=lambda fault: type(fault).__name__,
)
async def test_what_was_refused_costs_nothing(fault: GatewayError) -> None:
    asked = asking()
    await billed(asked, Target(before=fault))
    assert (asked.attempts[0].usage, asked.attempts[0].cost_nusd, asked.cost_nusd) == (None, 0, None)


async def test_a_refusal_that_is_passed_on_costs_nothing() -> None:
    asked = asking()
    await billed(asked, Target(status=400))
    assert (asked.attempts[0].usage, asked.cost_nusd) == (None, None)


@pytest.mark.parametrize(
    "fault",
    [
        UpstreamTimeout("slow", phase="first_token"),
        UpstreamError("the connection was reset"),
        UpstreamTruncated("cut"),
        ClientGone("left"),
    ],
    ids=lambda fault: type(fault).__name__,
)
async def test_what_may_have_been_worked_on_is_billed_by_estimate(fault: GatewayError) -> None:
    """F31, F55."""
    asked = asking()
    await billed(asked, Target(before=fault))
    assert asked.attempts[0].usage == Usage(GUESS, 0, source="estimated")
    assert asked.cost_nusd == 3 + GUESS


async def test_an_aborted_stream_is_billed_what_was_relayed() -> None:
    """F55."""
    asked = asking()
    await billed(asked, Target(Usage(7, 5, source="estimated"), after=ClientGone("left")))
    assert asked.cost_nusd == 60


async def test_without_a_price_the_cost_is_unknown_and_not_nothing() -> None:
    asked = asking()
    await billed(asked, Target(Usage(7, 5, source="provider")), price=None)
    assert (asked.attempts[0].cost_nusd, asked.cost_nusd) == (None, None)
    assert asked.attempts[0].usage is not None


async def test_counting_tokens_is_free() -> None:
    asked = asking("count_tokens")
    await billed(asked, Target())
    assert (asked.attempts[0].cost_nusd, asked.cost_nusd) == (0, None)


@pytest.mark.parametrize(("method", "cost"), [("POST", 3)])
async def test_a_relayed_call_costs_its_price_per_request(method: str, cost: int) -> None:
    asked = asking("relay")
    asked.request.method = method
    await billed(asked, Target())
    assert (asked.attempts[0].cost_nusd, asked.cost_nusd) == (cost, cost)


async def test_the_calibration_learns_from_what_providers_report_alone() -> None:
    learned = Calibration()
    await billed(asking(), Target(Usage(7, 5, source="provider")), learn=learned)
    await billed(asking(), Target(Usage(7, 5, source="estimated")), learn=learned)
    await billed(asking(), Target(before=ClientGone("left")), learn=learned)
    assert learned.seen == 1
