"""Requests with the same last message that differ in something else, one way or another, for the tests of F116."""

import copy
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from gateway.core.exchange import Dialect, Operation

BASES = 1_000
PAIRS_OF_EACH = 100
TEXT = "How do I reset my password?"

Messages = list[dict[str, Any]]


@dataclass
class Ask:
    """One request, and who makes it."""

    body: dict[str, Any]
    key: str = "ann"
    tags: dict[str, str] = field(default_factory=lambda: {"tenant": "x", "team": "red"})
    operation: Operation = "chat"
    dialect: Dialect = "openai"
    query: bytes = b""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    prompt: tuple[str | None, str | None] = (None, None)
    place: tuple[str, str, str] = ("demo", "gpt", "r1")

    @property
    def messages(self) -> Messages:
        """The body's, to be changed."""
        found: Messages = self.body["messages"]
        return found


def word(rng: random.Random) -> str:
    return f"w{rng.getrandbits(40):x}"


def _base(rng: random.Random) -> Ask:
    messages: Messages = []
    if rng.random() < 0.8:
        messages.append({"role": "system", "content": f"You are {word(rng)}."})
    if rng.random() < 0.3:
        messages += [{"role": "user", "content": word(rng)}, {"role": "assistant", "content": word(rng)}]
    content: Any = TEXT if rng.random() < 0.7 else [{"type": "text", "text": TEXT}]
    messages.append({"role": "user", "content": content})
    body = {"model": "demo", "messages": messages, "temperature": rng.choice([0, 0.5, 1]), "seed": rng.getrandbits(30)}
    return Ask(body)


def _another_tenant(rng: random.Random, ask: Ask) -> None:
    ask.key, ask.tags = rng.choice(["bob", "tenant=x", "key=ann"]), {"tenant": rng.choice(["y", "x ", "X", "ann"])}


def _no_tenant(rng: random.Random, ask: Ask) -> None:
    ask.key, ask.tags = rng.choice(["x", "tenant=x", "bob"]), rng.choice([{}, {"team": "x"}, {"Tenant": "x"}])


def _system(rng: random.Random, ask: Ask) -> None:
    ask.messages.insert(0, {"role": "system", "content": rng.choice([word(rng), "", TEXT])})


def _longer_system(rng: random.Random, ask: Ask) -> None:
    first = ask.messages[0]
    if first["role"] == "system":
        first["content"] = rng.choice([first["content"] + " ", first["content"][:-1], first["content"].upper(), None])
    else:
        _system(rng, ask)


def _turns(rng: random.Random, ask: Ask) -> None:
    said = rng.choice(["user", "assistant"])
    ask.messages.insert(-1, {"role": said, "content": rng.choice([word(rng), TEXT, ""])})


def _merged(rng: random.Random, ask: Ask) -> None:
    """What stood apart stands together."""
    merged = "\n".join(str(each["content"]) for each in ask.messages[:-1])
    ask.messages[:-1] = [{"role": "system", "content": merged + rng.choice(["", "\n", "\x00"])}]
    ask.body["seed"] += len(ask.messages) == 2


def _role(rng: random.Random, ask: Ask) -> None:
    if len(ask.messages) > 1:
        ask.messages[0]["role"] = rng.choice(["developer", "tool", "System"])
    else:
        ask.messages[-1]["name"] = word(rng)


def _tools(rng: random.Random, ask: Ask) -> None:
    name = rng.choice(["tools", "functions"])
    ask.body[name] = [{"type": "function", "function": {"name": word(rng)}}]


def _no_tools(rng: random.Random, ask: Ask) -> None:
    ask.body["tools"] = rng.choice([[], None])
    ask.body["tool_choice"] = rng.choice(["none", "auto"])


def _format(rng: random.Random, ask: Ask) -> None:
    kinds: list[Any] = [
        {"type": "json_object"},
        {"type": "text"},
        {"type": "json_schema", "json_schema": {"name": "a"}},
    ]
    ask.body["response_format"] = rng.choice(kinds)


def _parameter(rng: random.Random, ask: Ask) -> None:
    name = rng.choice(["temperature", "top_p", "max_tokens", "presence_penalty", "stop", "reasoning_effort", "user"])
    values: list[Any] = [0.25, 1.5, 7, "7", True, False, None, [], {}, "", [7], 2**60]
    before = ask.body.get(name, "missing")
    ask.body[name] = rng.choice([each for each in values if repr(each) != repr(before)])


def _unknown(rng: random.Random, ask: Ask) -> None:
    place: dict[str, Any] = rng.choice([ask.body, ask.messages[-1], ask.messages[0]])
    place[word(rng)] = rng.choice([1, None, {"a": [TEXT]}, "", False])


def _part(rng: random.Random, ask: Ask) -> None:
    """Another form, or a mark, of the last message."""
    last = ask.messages[-1]
    if isinstance(last["content"], str):
        last["content"] = [{"type": "text", "text": TEXT}]
    else:
        last["content"][0][rng.choice(["cache_control", "annotations"])] = {"type": "ephemeral"}


def _model(rng: random.Random, ask: Ask) -> None:
    ask.body["model"] = rng.choice(["demo ", "Demo", "demo2", ""])


def _prompt(rng: random.Random, ask: Ask) -> None:
    ask.prompt = rng.choice([("p", "1"), ("p", "2"), ("p@1", ""), ("", "p@1"), ("p", None)])


def _place(rng: random.Random, ask: Ask) -> None:
    ask.place = rng.choice(
        [("demo2", "gpt", "r1"), ("demo", "gpt2", "r1"), ("demo", "gpt", "r2"), ("demogpt", "", "r1")]
    )


def _beside(rng: random.Random, ask: Ask) -> None:
    if rng.random() < 0.5:
        ask.query = rng.choice([b"api-version=1", b"beta=true", b"&"])
    else:
        ask.headers = [(rng.choice([b"openai-beta", b"anthropic-beta"]), word(rng).encode())]


def _dialect(rng: random.Random, ask: Ask) -> None:
    ask.operation, ask.dialect = "messages", "anthropic"


CHANGES: list[Callable[[random.Random, Ask], None]] = [
    *(_another_tenant, _no_tenant, _system, _longer_system, _turns, _merged, _role, _tools, _no_tools, _format),
    *(_parameter, _unknown, _part, _model, _prompt, _place, _beside, _dialect),
]
ELSEWHERE = (_another_tenant, _no_tenant, _place, _model)
"""Those that only who holds another key, or asks another route, can make."""


def pairs(rng: random.Random) -> Iterator[tuple[Ask, Ask]]:
    """Requests that differ in one place, or in several, but for their last message's text."""
    for _ in range(BASES):
        base = _base(rng)
        for number in range(PAIRS_OF_EACH):
            other = replace(
                base, body=copy.deepcopy(base.body) if number else msgspec.json.decode(msgspec.json.encode(base.body))
            )
            for change in rng.sample(CHANGES, rng.choice([1, 1, 1, 2])):
                change(rng, other)
            yield base, other
