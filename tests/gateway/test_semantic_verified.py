"""`verified` in a running gateway: how a scope opens and closes, who judges, and who pays for that."""

import asyncio

import pytest

from tests.gateway.harness import Gateway, gateway
from tests.gateway.semantic_world import World, ask, by, complain, settled, taught, told, wordings, world
from tests.gateway.waiting import until

pytestmark = pytest.mark.anyio

JUDGED = "{max_wrong: 20%, judge: {model: judge, calls_per_hour: 1000}}"
LONG = "whatever it takes to have more words than a short answer has, " * 6


def longwinded(found: World) -> None:
    """Have every answer be long, and another one."""
    found.answer = lambda text: f"To {text}: {LONG}"


async def compared(gw: Gateway, **labels: str) -> float:
    """How many pairs of answers were compared."""
    return await gw.metric("gateway_cache_comparisons_total", route="demo", **labels)


async def test_a_scope_opens_after_enough_equal_answers_and_not_before() -> None:
    async with world() as found, gateway(by(found, "{max_wrong: 20%}")) as gw:
        given = await taught(gw)
        assert 34 <= len(found.asked) <= 50
        assert await compared(gw, verdict="equal", step="same") == await compared(gw) >= 34
        assert float(given.headers["x-gateway-similarity"]) > 0.9
        assert given.headers["x-gateway-cache-entry"].count("-") == 2
        assert await gw.metric("gateway_cache_scopes", route="demo", state="open") == 1
        assert (await ask(gw, "how do I reset my bicycle")).headers["x-gateway-cache-reason"] == "far"


async def test_another_scope_learns_for_itself() -> None:
    async with world() as found, gateway(by(found, "{max_wrong: 20%}")) as gw:
        await taught(gw)
        for text, reason in zip(wordings(), ("none", "closed", "closed"), strict=False):
            assert told(await ask(gw, text, body={"temperature": 0.3})) == f"miss {reason}"
            await settled(gw)


async def test_audits_that_find_a_reply_wrong_close_a_scope() -> None:
    """A twentieth of the hits goes to the model all the same; nobody can tell beforehand which."""
    async with world() as found, gateway(by(found, "{max_wrong: 20%}")) as gw:
        asked = (await taught(gw)).request
        found.answer = lambda text: f"No, never, not {len(found.asked)}"

        async def is_audited() -> bool:
            answer = await gw.client.post("/v1/chat/completions", content=asked.content, headers=asked.headers)
            await settled(gw)
            return "audit" in told(answer)

        await until(is_audited, 20.0)
        assert await compared(gw, verdict="different") == 1
        assert await gw.metric("gateway_cache_scopes", route="demo", state="open") == 0
        assert await gw.metric("gateway_cache_requests_total", route="demo", result="audit") >= 1
        assert await gw.metric("gateway_cache_wrong_share", route="demo", bound="estimate") > 0
        fresh = [text for text in wordings() if text not in found.asked]
        assert [told(await ask(gw, text)) for text in fresh[:5]] == ["miss closed"] * 5


async def test_answers_that_differ_never_open_a_scope() -> None:
    async with world() as found, gateway(by(found, "{max_wrong: 20%}")) as gw:
        found.answer = lambda text: f"It costs {len(found.asked)} euros"
        for text in wordings()[:60]:
            assert told(await ask(gw, text)) in ("miss none", "miss closed")
            await settled(gw)
        assert await compared(gw, verdict="different") == await compared(gw) == 59


async def test_a_judge_is_asked_about_long_answers_and_paid_as_a_consumer() -> None:
    rules = "limits:\n  - {name: money, per: [key], budget: $100/day}\n"
    async with world() as found, gateway(by(found, JUDGED, more=rules)) as gw:
        longwinded(found)
        given = await taught(gw)
        assert len(found.judged) == await compared(gw, verdict="equal", step="model") >= 34
        assert "x-gateway-cache-entry" in given.headers
        budgets = (await gw.admin.get("/admin/v1/budgets")).json()["budgets"]
        spent = {row["scope"]: row["spent_usd"] for row in budgets}
        assert spent["key=judge"] == pytest.approx(0.01 * len(found.judged))
        assert spent["key=embedder"] == pytest.approx(0.001 * len(found.embedded))
        assert spent["key=open"] == pytest.approx(0.1 * len(found.asked))
        lines = [line for line in gw.requests() if line["key"] == "judge"]
        assert len(lines) == len(found.judged)
        assert all(line["request_id"].startswith("judge-") for line in lines)
        assert not [line for line in gw.lines() if "password" in str(line)]


async def test_a_judge_that_finds_answers_different_keeps_a_scope_closed() -> None:
    async with world() as found, gateway(by(found, JUDGED)) as gw:
        longwinded(found)
        found.verdict = lambda _: "different"
        for text in wordings()[:45]:
            assert told(await ask(gw, text)) in ("miss none", "miss closed")
            await settled(gw)
        assert await compared(gw, verdict="different", step="model") == 44


@pytest.mark.parametrize("word", ["I would say that they are equal, mostly", "", "EQUALLY", "different or equal"])
async def test_whatever_else_a_judge_says_is_no_label(word: str) -> None:
    async with world() as found, gateway(by(found, JUDGED)) as gw:
        longwinded(found)
        found.verdict = lambda _: word
        for text in wordings()[:4]:
            assert told(await ask(gw, text)) in ("miss none", "miss closed")
            await settled(gw)
        assert await compared(gw, verdict="unsure", step="model") == await compared(gw) == 3


async def test_a_limit_on_the_judge_stops_it_and_costs_clients_nothing() -> None:
    rules = "limits:\n  - {name: judges, match: {key: judge}, requests: 3/h}\n"
    async with world() as found, gateway(by(found, JUDGED, more=rules)) as gw:
        longwinded(found)
        for text in wordings()[:45]:
            assert told(await ask(gw, text)) in ("miss none", "miss closed")
            await settled(gw)
        assert len(found.judged) == 3
        assert await compared(gw, verdict="unsure", step="failed") == 41
        assert await compared(gw, verdict="equal") == 3


async def test_once_the_calls_of_an_hour_are_spent_nothing_is_compared_not_even_what_is_easy() -> None:
    semantic = "{max_wrong: 20%, judge: {model: judge, calls_per_hour: 3}}"
    async with world() as found, gateway(by(found, semantic)) as gw:
        longwinded(found)
        texts = wordings()
        for text in texts[:5]:
            await ask(gw, text)
            await settled(gw)
        found.answer = lambda _: "yes"
        for text in texts[5:50]:
            assert told(await ask(gw, text)) == "miss closed"
            await settled(gw)
        assert len(found.judged) == 3
        assert await compared(gw) == 3


async def test_a_judge_that_is_down_leaves_pairs_unsure_and_clients_alone() -> None:
    async with world() as found, gateway(by(found, JUDGED)) as gw:
        longwinded(found)
        found.judge_fails = True
        for text in wordings()[:10]:
            assert told(await ask(gw, text)) in ("miss none", "miss closed")
            await settled(gw)
        assert await compared(gw, verdict="unsure", step="failed") == await compared(gw) == 9
        assert await gw.metric("gateway_cache_index_rows") == 10, "the questions are remembered all the same"


async def test_without_a_judge_long_answers_are_not_compared_and_nothing_opens() -> None:
    async with world() as found, gateway(by(found, "{max_wrong: 20%}")) as gw:
        longwinded(found)
        for text in wordings()[:45]:
            assert told(await ask(gw, text)) in ("miss none", "miss closed")
            await settled(gw)
        assert await compared(gw, verdict="unsure", step="long") == 44


async def test_a_client_never_waits_for_a_judge() -> None:
    async with world() as found, gateway(by(found, JUDGED)) as gw:
        longwinded(found)
        found.judging.clear()
        for text in wordings()[:10]:
            answer = await asyncio.wait_for(ask(gw, text), 5)
            assert answer.headers["x-gateway-cache"] == "miss"
        assert await compared(gw) == 0
        found.judging.set()
        await settled(gw)
        # Only the first had been told when the others came: the rest have met it, and it alone.
        assert await compared(gw, verdict="equal", step="model") == 9


async def test_a_gateway_ends_while_answers_are_being_compared() -> None:
    async with world() as found:
        async with gateway(by(found, JUDGED)) as gw:
            longwinded(found)
            found.judging.clear()
            for text in wordings()[:3]:
                await ask(gw, text)
            await until(lambda: len(found.judged) == 2)
        assert not [each for each in asyncio.all_tasks() if each.get_name() == "cache-lesson"]


async def test_a_purge_while_answers_are_being_compared_leaves_nothing_behind() -> None:
    async with world() as found, gateway(by(found, JUDGED)) as gw:
        longwinded(found)
        found.judging.clear()
        for text in wordings()[:3]:
            await ask(gw, text)
        await until(lambda: len(found.judged) == 2)
        await gw.admin.delete("/admin/v1/cache", params={"route": "demo"})
        assert await gw.metric("gateway_cache_index_rows") == 0
        found.judging.set()
        await settled(gw)
        assert await gw.metric("gateway_cache_index_rows") == 0
        assert told(await ask(gw, wordings()[1])) == "miss none"


async def test_the_bound_of_a_reload_judges_what_was_learned_before() -> None:
    async with world() as found, gateway(by(found, "{max_wrong: 20%}")) as gw:
        await taught(gw)
        assert (await gw.reload(by(found, "{max_wrong: 1%}")))["changed"]
        fresh = [text for text in wordings() if text not in found.asked]
        assert told(await ask(gw, fresh[0])) == "miss closed"
        assert (await gw.reload(by(found, "{mode: shadow, max_wrong: 20%}")))["changed"]
        assert told(await ask(gw, fresh[1])) == "miss shadow"
        assert (await gw.reload(by(found, "{max_wrong: 20%}")))["changed"]

        # One in twenty is an audit, and then an exact hit: each is asked once.
        assert "semantic open" in [told(await ask(gw, text)) for text in fresh[2:12]]


async def test_who_only_wants_what_is_stored_is_never_made_an_audit() -> None:
    """There is no fresh answer to compare with, so a 504 would be for nothing."""
    async with world() as found, gateway(by(found, "{max_wrong: 20%}")) as gw:
        text = str((await taught(gw)).request.content, "utf-8")
        before = await gw.metric("gateway_cache_requests_total", result="audit")
        headers = {"cache-control": "only-if-cached", "content-type": "application/json"}
        for _ in range(200):
            answer = await gw.client.post("/v1/chat/completions", content=text, headers=headers)
            assert told(answer) == "semantic open"
        assert await gw.metric("gateway_cache_requests_total", result="audit") == before


async def test_complaints_close_what_labels_have_opened() -> None:
    async with world() as found, gateway(by(found, "{max_wrong: 20%}")) as gw:
        given = await taught(gw)
        assert (await complain(gw, given.headers["x-gateway-cache-entry"])).status_code == 200
        fresh = [text for text in wordings() if text not in found.asked]
        assert [told(await ask(gw, text))[:4] for text in fresh[:3]] == ["miss"] * 3
