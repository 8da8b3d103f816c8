"""A mixed workload of agents, decided beforehand, and an oracle that knows what each call will truly use.

Agents arrive at random (Poisson) and belong to one of four teams; the first sends half of everything. Of 100 agents

- 45 chat: one short prompt, a reply of 20 to 200 tokens;
- 10 read: a prompt of 2,000 to 8,000 words, a reply of 100 to 500 tokens;
- 25 loop over tools: 4 to 10 calls, each with the prompt of the one before and 100 to 400 words more;
- 12 stream, and leave after 50 to 400 ms, in the middle of the reply;
- 8 meet an error of the provider, and send the same again.

Every call allows at least twice the tokens that it gets (`max_tokens`). A call takes 30 to 800 ms, ten to twenty times
less than in life. Against a budget of a day what is in flight weighs here more than it does there; against the tokens
of one minute it weighs less, so a minute's limit that is always exhausted refuses more than is found here.
"""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

INPUT_NUSD, OUTPUT_NUSD = 2_000, 8_000
"""Price of one token, in nano-USD."""
TEAMS = ("red", "green", "blue", "grey")
WORDS = (
    *("the", "agent", "reads", "a", "ticket", "and", "calls", "a", "tool", "to", "look", "up", "an", "order"),
    *("before", "it", "answers", "the", "customer", "with", "summary", "of", "delivery", "dates", "refunds"),
    *("escalation", "paths", "for", "engineers", "warehouse"),
)


@dataclass(frozen=True, slots=True)
class Call:
    """One request of an agent."""

    number: int
    at_s: float
    """From the beginning of the run."""
    team: str
    kind: Literal["chat", "read", "loop", "leave", "retry"]
    words: int
    """Of its prompt; the mock counts each as a token."""
    tokens: int
    """Of its reply."""
    max_tokens: int
    gap_ms: int = 2
    fails: bool = False
    leaves_after_s: float | None = None

    @property
    def truth(self) -> "Use":
        """What it will use; of a stream that is left, all of it."""
        return Use(0, 0) if self.fails else Use(self.words, self.tokens)


@dataclass(frozen=True, slots=True)
class Use:
    """What a call used."""

    input_tokens: int
    output_tokens: int

    @property
    def tokens(self) -> int:
        """Both."""
        return self.input_tokens + self.output_tokens

    @property
    def cost_nusd(self) -> int:
        """At the workload's price."""
        return self.input_tokens * INPUT_NUSD + self.output_tokens * OUTPUT_NUSD


def workload(rng: random.Random, count: int, per_second: float) -> list[Call]:
    """`count` calls in the order of their times, about `per_second` of them a second."""
    calls: list[Call] = []
    at_s = 0.0
    while len(calls) < count:
        # An agent makes about 2.6 calls.
        at_s += rng.expovariate(per_second / 2.6)
        calls += _agent(rng, at_s)
    calls.sort(key=lambda call: call.at_s)
    return [_numbered(call, number) for number, call in enumerate(calls[:count])]


def _numbered(call: Call, number: int) -> Call:
    return Call(
        number,
        call.at_s,
        call.team,
        call.kind,
        call.words,
        call.tokens,
        call.max_tokens,
        call.gap_ms,
        call.fails,
        call.leaves_after_s,
    )


def _agent(rng: random.Random, at_s: float) -> list[Call]:
    """All calls of one agent."""
    team = rng.choices(TEAMS, (50, 20, 20, 10))[0]
    kind = rng.choices(("chat", "read", "loop", "leave", "retry"), (45, 10, 25, 12, 8))[0]
    tokens = rng.randint(20, 200)
    if kind == "read":
        return [Call(0, at_s, team, "read", rng.randint(2_000, 8_000), rng.randint(100, 500), 1_024, 1)]
    if kind == "loop":
        words, calls = rng.randint(200, 800), []
        for _ in range(rng.randint(4, 10)):
            calls.append(Call(0, at_s, team, "loop", words, rng.randint(20, 150), 512))
            words += rng.randint(100, 400)
            at_s += rng.uniform(0.3, 0.8)
        return calls
    if kind == "leave":
        return [Call(0, at_s, team, "leave", rng.randint(30, 300), 400, 800, 2, leaves_after_s=rng.uniform(0.05, 0.4))]
    if kind == "retry":
        words = rng.randint(30, 300)
        again_s = at_s + rng.uniform(0.1, 0.5)
        return [
            Call(0, at_s, team, "retry", words, tokens, 400, fails=True),
            Call(0, again_s, team, "retry", words, tokens, 400),
        ]
    return [Call(0, at_s, team, "chat", rng.randint(30, 150), tokens, 400)]


def oracle(calls: Iterable[Call], truth: Mapping[int, Use], budget_nusd: int, team_tokens: int) -> set[int]:
    """Numbers of the calls that are admitted by who knows beforehand what each will use.

    One after the other, whatever truly fits: into the budget of all, and into the tokens of its team. `truth`: what
    calls were seen to use, where it is known better than from the plan. For a run that is shorter than the window.
    """
    admitted: set[int] = set()
    spent = 0
    used = dict.fromkeys(TEAMS, 0)
    for call in calls:
        use = truth.get(call.number, call.truth)
        if spent + use.cost_nusd <= budget_nusd and used[call.team] + use.tokens <= team_tokens:
            admitted.add(call.number)
            spent += use.cost_nusd
            used[call.team] += use.tokens
    return admitted
