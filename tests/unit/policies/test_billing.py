"""Each try's bill."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.core.errors import (
    ClientGone,
    DeadlineExceeded,
    GatewayError,
    InvalidRequest,
    ShuttingDown,
    TargetBusy,
    UpstreamAccountError,
    UpstreamConnectError,
    UpstreamError,
    UpstreamTimeout,
    UpstreamTruncated,
)
from gateway.core.exchange import Exchange, Operation, Reply, RequestHead, Usage
from gateway.core.price import Price
from gateway.policies.attempt import Attempted
from gateway.policies.billing import Billing
from gateway.policies.calibration import Calibration
from gateway.telemetry.tracing import Destination
from tests.fakes import FakeClock, Sightings, exchange, request

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
    return exchange(request(head=RequestHead(model="m"), body=BODY, operation=operation))


def billing_by(billing: Billing) -> Attempted:
    """What makes a try, and has `billing` write its bill."""
    clock = FakeClock()
    return Attempted("mock", Destination("mock", None, "127.0.0.1", 9000), Sightings(clock).observer, clock, billing)


async def billed(
    asked: Exchange, target: Target, price: Price | None = PRICE, learn: Calibration | None = None
) -> None:
    """One try, to its end."""
    try:
        async with billing_by(Billing(price, learn or Calibration()))(asked, target):
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
        TargetBusy("full"),
        UpstreamTimeout("no connection", phase="connect"),
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
        DeadlineExceeded("the client's time is over"),
        ShuttingDown("the drain is over"),
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


@pytest.mark.parametrize(
    ("method", "suffix", "price", "cost", "total"),
    [
        ("POST", "moderations", PRICE, 3, 3),
        ("GET", "files", PRICE, 0, None),
        ("POST", "files", Price(input=1, output=1), 0, None),
        ("POST", "images/generations", Price(input=1, output=1), None, None),
        ("POST", "audio/speech", None, None, None),
        ("POST", "images/generations", PRICE, 3, 3),
    ],
)
async def test_a_relayed_call_costs_its_price_per_request_or_nobody_knows(
    method: str, suffix: str, price: Price | None, cost: int | None, total: int | None
) -> None:
    asked = asking("relay")
    asked.request.method, asked.request.suffix = method, suffix
    await billed(asked, Target(), price)
    assert (asked.attempts[0].cost_nusd, asked.cost_nusd) == (cost, total)
    assert asked.attempts[0].usage is None


async def test_a_deadline_that_passed_before_there_was_a_connection_costs_nothing() -> None:
    asked = asking()
    late = DeadlineExceeded("over")
    late.__cause__ = UpstreamTimeout("no connection", phase="connect")
    await billed(asked, Target(before=late))
    assert (asked.attempts[0].usage, asked.attempts[0].cost_nusd) == (None, 0)


@pytest.mark.parametrize("unknown_first", [True, False])
async def test_a_sum_with_an_unknown_cost_is_unknown(unknown_first: bool) -> None:
    asked = asking()
    await billed(asked, Target(Usage(7, 5, source="provider")), None if unknown_first else PRICE)
    await billed(asked, Target(Usage(1, 1, source="provider")), PRICE if unknown_first else None)
    assert asked.cost_nusd is None
    assert [attempt.cost_nusd for attempt in asked.attempts] == ([None, 14] if unknown_first else [60, None])


async def test_a_refused_try_changes_nothing_of_what_is_billed() -> None:
    asked = asking()
    await billed(asked, Target(before=UpstreamError("503", upstream_status=503)))
    await billed(asked, Target(Usage(1, 1, source="provider")))
    await billed(asked, Target(before=UpstreamConnectError("refused")))
    assert asked.cost_nusd == 14


@pytest.mark.parametrize(("served", "cost"), [("dear", 100), ("m", 10), (None, 10), ("unheard-of", 10)])
async def test_a_target_without_a_price_has_the_models_that_answered(served: str | None, cost: int) -> None:
    """The name that the reply gives comes first; a deployment may be called anything."""
    prices = {"dear": Price(input=100_000_000, output=0), "m": Price(input=10_000_000, output=0)}
    asked = asking()
    asked.model_served = served
    target = Target(Usage(1, 1, source="provider"))
    async with billing_by(Billing(None, None, lambda name: prices.get(name)))(asked, target):
        pass
    assert asked.cost_nusd == cost


async def test_a_model_that_nobody_knows_has_no_cost() -> None:
    asked = asking()
    target = Target(Usage(1, 1, source="provider"))
    async with billing_by(Billing(None, None, lambda name: None))(asked, target):
        pass
    assert asked.attempts[0].cost_nusd is None


async def test_a_cancelled_try_is_billed_and_stays_cancelled() -> None:
    """F55."""
    asked = asking()
    with pytest.raises(asyncio.CancelledError):
        async with billing_by(Billing(PRICE, None))(asked, Target(before=asyncio.CancelledError())):
            pass
    assert asked.cost_nusd == 3 + GUESS


async def test_the_calibration_learns_from_what_providers_report_alone() -> None:
    learned = Calibration()
    await billed(asking(), Target(Usage(7, 5, source="provider")), learn=learned)
    await billed(asking(), Target(Usage(7, 5, source="estimated")), learn=learned)
    await billed(asking(), Target(before=ClientGone("left")), learn=learned)
    assert learned.seen == 1


async def test_the_calibration_learns_from_plain_text_alone() -> None:
    learned = Calibration()
    asked = asking()
    asked.request.body = b'{"messages":[{"content":[{"type":"image_url","image_url":{"url":"https://x"}}]}]}'
    await billed(asked, Target(Usage(7000, 5, source="provider")), learn=learned)
    assert learned.seen == 0
