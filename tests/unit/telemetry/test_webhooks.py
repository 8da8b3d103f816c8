"""Events told to webhooks."""

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import Any

import pytest

from gateway.telemetry.webhooks import MAX_QUEUE, Webhook, Webhooks, payload
from tests.fakes import FakeClock

pytestmark = pytest.mark.anyio

HOOK = Webhook("https://hooks.example.com/services/SECRET", frozenset({"budget"}), {"authorization": "Bearer SECRET"})
OTHER = Webhook("https://other.example.com/SECRET", frozenset({"budget", "store"}))


class Receivers:
    """Answers posts by URL, from a list of statuses or faults; 200 once the list is over."""

    def __init__(self, **answers: list[int | str]) -> None:
        self.answers = answers
        self.posts: list[tuple[str, Mapping[str, str], dict[str, Any]]] = []
        self.slept: list[float] = []
        self.gate: asyncio.Event | None = None

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """One post."""
        if self.gate is not None:
            await self.gate.wait()
        self.posts.append((url, headers, json.loads(body)))
        host = url.split("/")[2].split(".")[0]
        answers = self.answers.get(host, [])
        answer = answers.pop(0) if answers else 200
        if isinstance(answer, str):
            raise ConnectionError(answer)
        return answer

    async def sleep(self, seconds: float) -> None:
        """Remember the wait."""
        self.slept.append(seconds)

    @property
    def events(self) -> list[str]:
        """What has arrived or was tried, in order."""
        return [body["event"] for _, _, body in self.posts]


def telling(receivers: Receivers, *hooks: Webhook) -> Webhooks:
    webhooks = Webhooks(receivers.post, float, FakeClock(), receivers.sleep)
    webhooks.configure("prod", hooks)
    return webhooks


async def test_an_event_is_posted_to_who_asked_for_its_kind() -> None:
    receivers = Receivers()
    webhooks = telling(receivers, HOOK, OTHER)
    webhooks.notify("budget_alert", {"limit": "team-day", "at": "80%", "spent": "$160.00"})
    webhooks.notify("store_down", {"reason": "timeout"})
    webhooks.notify("shadow_compared", {"route": "x"})
    await webhooks.aclose(1.0)
    assert sorted((url.split("/")[2], body["event"]) for url, _, body in receivers.posts) == [
        ("hooks.example.com", "budget_alert"),
        ("other.example.com", "budget_alert"),
        ("other.example.com", "store_down"),
    ]
    headers = next(headers for url, headers, _ in receivers.posts if url == HOOK.url)
    assert headers == {"content-type": "application/json", "authorization": "Bearer SECRET"}
    assert webhooks.counts == {"sent": 3, "failed": 0, "dropped": 0}


def test_a_payload_says_what_when_and_where_and_has_a_text_for_people() -> None:
    fields = {"limit": "team-day", "scope": "", "spent": "$160.00", "event": "forged"}
    assert payload("budget_alert", fields, environment="prod", at_s=1_700_000_000.0) == {
        "event": "budget_alert",
        "at": "2023-11-14T22:13:20.000Z",
        "environment": "prod",
        "text": "budget alert [prod]: limit team-day, spent $160.00, event forged",
        "limit": "team-day",
        "scope": "",
        "spent": "$160.00",
    }
    assert payload("store_up", {}, environment="", at_s=0.0)["text"] == "store up"


async def test_a_receiver_in_trouble_is_tried_three_times() -> None:
    receivers = Receivers(hooks=[503, "ConnectTimeout", 200])
    webhooks = telling(receivers, HOOK)
    webhooks.notify("budget_alert", {})
    await webhooks.aclose(1.0)
    assert len(receivers.posts) == 3
    assert receivers.slept == [1.0, 2.0]
    assert webhooks.counts == {"sent": 1, "failed": 0, "dropped": 0}


@pytest.mark.parametrize(
    ("answers", "posts", "reason"),
    [([500, 429, 408], 3, "status 408"), (["ConnectError"] * 3, 3, "ConnectError"), ([404], 1, "status 404")],
)
async def test_what_does_not_arrive_is_given_up_counted_and_logged_without_the_url(
    answers: list[int | str], posts: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """F114."""
    receivers = Receivers(hooks=list(answers))
    webhooks = telling(receivers, HOOK)
    webhooks.notify("budget_alert", {})
    await webhooks.aclose(1.0)
    assert len(receivers.posts) == posts
    assert webhooks.counts["failed"] == 1
    [record] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert record.getMessage() == f"webhook https://hooks.example.com/*** was not told of budget_alert: {reason}"
    assert "SECRET" not in caplog.text + repr(HOOK)


async def test_a_webhook_that_is_away_delays_no_other_and_its_queue_is_bounded() -> None:
    receivers = Receivers()
    stuck = Receivers()
    stuck.gate = asyncio.Event()

    async def post(url: str, headers: Mapping[str, str], body: bytes) -> int:
        return await (stuck if url == HOOK.url else receivers).post(url, headers, body)

    webhooks = Webhooks(post, float, FakeClock(), receivers.sleep)
    webhooks.configure("prod", [HOOK, OTHER])
    for _ in range(MAX_QUEUE + 5):
        webhooks.notify("budget_alert", {})
        if len(receivers.posts) < 900:
            await asyncio.sleep(0)
    assert webhooks.counts["dropped"] == 5
    while len(receivers.posts) < MAX_QUEUE + 5:
        await asyncio.sleep(0)
    await webhooks.aclose(0.01)
    assert webhooks.counts == {"sent": MAX_QUEUE + 5, "failed": 0, "dropped": 5 + MAX_QUEUE}
    assert stuck.posts == []


async def test_events_arrive_in_their_order() -> None:
    receivers = Receivers(hooks=[503])
    webhooks = telling(receivers, HOOK)
    for number in range(5):
        webhooks.notify(f"budget_{number}", {})
    await webhooks.aclose(1.0)
    assert receivers.events == ["budget_0", *(f"budget_{number}" for number in range(5))]


async def test_a_reload_keeps_what_waits() -> None:
    receivers = Receivers()
    receivers.gate = asyncio.Event()
    webhooks = telling(receivers, HOOK)
    webhooks.notify("budget_0", {})
    await asyncio.sleep(0)
    webhooks.configure("staging", [Webhook(HOOK.url, HOOK.kinds, {"x-new": "1"}), OTHER])
    webhooks.notify("budget_1", {})
    webhooks.configure("staging", [])
    webhooks.notify("budget_2", {})
    receivers.gate.set()
    await webhooks.aclose(1.0)
    assert sorted(receivers.events) == ["budget_0", "budget_1", "budget_1"]
    assert {body["environment"] for _, _, body in receivers.posts} == {"prod", "staging"}
    assert any("x-new" in headers for _, headers, _ in receivers.posts)


async def test_nobody_to_tell_costs_nothing() -> None:
    webhooks = telling(Receivers())
    webhooks.notify("budget_alert", {})
    await webhooks.aclose(1.0)
    assert webhooks.counts == {"sent": 0, "failed": 0, "dropped": 0}
