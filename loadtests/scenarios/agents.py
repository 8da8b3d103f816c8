"""Agents against a budget and a limit on tokens that are both reached: nothing over, and hardly any false refusal."""

import asyncio
import json
import random
from collections import Counter
from dataclasses import dataclass, field

from loadtests.agents import INPUT_NUSD, OUTPUT_NUSD, TEAMS, WORDS, Call, Use, oracle, workload
from loadtests.client import Answer, Connection, Fleet
from loadtests.configs import KEY, Setting
from loadtests.figures import Figure
from loadtests.processes import BenchFailure
from loadtests.rig import Gateway, Rig

PER_SECOND = 160.0
BUDGET_SHARE = 0.80
"""The budget, as a share of what all calls would cost together."""
TEAM_SHARE = 0.40
"""The tokens of a team, as a share of all tokens: only the first team wants more."""
WINDOW_S = 60.0


@dataclass(slots=True)
class Outcome:
    """What became of the calls."""

    statuses: dict[int, int] = field(default_factory=dict)
    """By the call's number; 0 for one that was left before its answer began."""
    uses: dict[int, Use] = field(default_factory=dict)
    """What the gateway has written down for those that it admitted."""
    codes: Counter[str] = field(default_factory=Counter)


async def run(rig: Rig) -> list[Figure]:
    """False refusals against the oracle, and what was spent or used beyond what was allowed."""
    calls = workload(random.Random(rig.options.seed), rig.options.calls, PER_SECOND)
    if calls[-1].at_s > WINDOW_S - 10:
        raise BenchFailure(f"{len(calls):,} calls take longer than the window of the token limit; use fewer")
    total = sum(call.truth.cost_nusd for call in calls)
    # To the cent, as it is written in the file.
    budget_nusd = round(total * BUDGET_SHARE / 1e7) * 10**7
    team_tokens = round(sum(call.truth.tokens for call in calls) * TEAM_SHARE)
    async with rig.mock() as mock:
        setting = agents_setting(mock.port, budget_nusd, team_tokens)
        async with rig.gateway(setting) as gateway:
            outcome = await _play(rig, gateway, calls)
            await asyncio.sleep(1)
            spent = await gateway.metric("gateway_budget_spent_usd", limit="all") * 1e9
            outcome.uses = uses(gateway.child.output.read_text(), {"ok", "client_gone"})
    return _figures(rig, calls, outcome, (budget_nusd, team_tokens), spent)


def agents_setting(mock_port: int, budget_nusd: int, team_tokens: int) -> Setting:
    """The gateway: the client's own model name goes to the mock, with its directives."""
    return Setting(
        mock_port,
        "",
        state="state-agents",
        target=f"    price: {{input: ${INPUT_NUSD / 1e3:.2f}, output: ${OUTPUT_NUSD / 1e3:.2f}}}\n    breaker: off\n",
        route='{model: "bench*", target: upstream}',
        sections=f"limits:\n  - {{name: all, budget: ${budget_nusd / 1e9:.2f}/day}}\n"
        f"  - {{name: team, per: [tag.team], tokens: {team_tokens}/min}}\n",
    )


def request(call: Call) -> bytes:
    """The whole HTTP request of a call."""
    prompt = " ".join(WORDS[position % len(WORDS)] for position in range(call.words))
    directives = f"tokens={call.tokens},gap={call.gap_ms}ms,latency=30ms" + (",status=500" if call.fails else "")
    stream = call.leaves_after_s is not None
    body = json.dumps(
        {
            "model": f"bench:{directives}",
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": call.max_tokens,
            "stream": stream,
        }
    ).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {KEY}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"x-request-id: call-{call.number}\r\nx-gateway-tags: team={call.team}\r\n\r\n"
    )
    return head.encode() + body


async def _play(rig: Rig, gateway: Gateway, calls: list[Call]) -> Outcome:
    outcome = Outcome()
    fleet = Fleet(gateway.port)
    loop = asyncio.get_running_loop()
    began_s = loop.time()

    async def ask(call: Call) -> None:
        sent = request(call)
        await asyncio.sleep(began_s + call.at_s - loop.time())
        if call.leaves_after_s is None:
            answer = await fleet.ask(sent)
        else:
            answer = await _leave(gateway.port, sent, call.leaves_after_s)
        outcome.statuses[call.number] = answer.status

    try:
        async with asyncio.timeout(WINDOW_S), asyncio.TaskGroup() as tasks:
            for call in calls:
                tasks.create_task(ask(call))
                if call.number % 50 == 0:
                    rig.progress.step(f"{call.number:,} of {len(calls):,} calls, {len(outcome.statuses):,} answered")
                    # Tasks begin a little before their calls, so that there are never thousands of prompts at once.
                    await asyncio.sleep(max(0.0, began_s + call.at_s - 0.5 - loop.time()))
    finally:
        fleet.close()
    return outcome


async def _leave(port: int, sent: bytes, after_s: float) -> Answer:
    """A stream whose client leaves after a while, if it is not over by then."""
    over = asyncio.Event()
    _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
    connection.send(sent, lambda answer: over.set())
    try:
        async with asyncio.timeout(after_s):
            await over.wait()
    except TimeoutError:
        pass
    answer = connection.answer
    connection.abort()
    return answer


def uses(log: str, outcomes: set[str]) -> dict[int, Use]:
    """What the gateway's log says that each call used which ended as one of `outcomes`."""
    found: dict[int, Use] = {}
    for text in log.splitlines():
        line = json.loads(text)
        if line["event"] == "request" and line["outcome"] in outcomes and line["request_id"].startswith("call-"):
            use = Use(line["input_tokens"] or 0, line["output_tokens"] or 0)
            found[int(line["request_id"].removeprefix("call-"))] = use
    return found


def _figures(
    rig: Rig, calls: list[Call], outcome: Outcome, allowed: tuple[int, int], spent_nusd: float
) -> list[Figure]:
    budget_nusd, team_tokens = allowed
    refused = {number for number, status in outcome.statuses.items() if status == 429}
    strange = set(outcome.statuses.values()) - {0, 200, 429, 500, 502}
    if strange or len(outcome.statuses) != len(calls):
        raise BenchFailure(f"{len(outcome.statuses)} of {len(calls)} calls were answered, with {strange} among them")
    would = oracle(calls, outcome.uses, budget_nusd, team_tokens)
    false = would & refused
    billed = sum(use.cost_nusd for use in outcome.uses.values())
    used = dict.fromkeys(TEAMS, 0)
    for call in calls:
        used[call.team] += outcome.uses.get(call.number, Use(0, 0)).tokens
    kinds = Counter(call.kind for call in calls if call.number in false)
    rig.progress.step(
        f"refused {len(refused)}, by the oracle {len(calls) - len(would)}; false {dict(kinds)}; "
        f"spent {spent_nusd / budget_nusd:.2%} of the budget, most of a team {max(used.values()) / team_tokens:.2%}"
    )
    over = max(0.0, billed - budget_nusd, round(spent_nusd) - budget_nusd)
    return [
        Figure("agents: calls", len(calls), "calls", "higher", guarded=False),
        Figure("agents: refused", len(refused) / len(calls) * 100, "%", "lower", guarded=False),
        Figure("agents: refused falsely", len(false) / len(would) * 100, "% of oracle's", "lower", 2.0, slack=1.0),
        Figure("agents: spent over the budget", over, "nano-USD", "lower", 0),
        Figure("agents: tokens over a team's", max(0, max(used.values()) - team_tokens), "tokens", "lower", 0),
        Figure("agents: spent of the budget", billed / budget_nusd * 100, "%", "higher", 97, slack=2),
        Figure("agents: ledger against the log", abs(spent_nusd - billed), "nano-USD", "lower", 1_000),
    ]
