"""Whose replies are never given to whom, by similarity (F116): 100,000 pairs by the scopes, hundreds by a gateway."""

import asyncio
import copy
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, get_args

import msgspec
import numpy
import pytest

from gateway.core.exchange import Consumer, Dialect, Exchange, Operation, RequestHead
from gateway.policies.cache_key import Keys, Share, last_message, read_members, share_of
from gateway.policies.cache_rules import refuse_similar
from gateway.semantic.log import Seen
from gateway.semantic.rows import Room, packed_vector
from gateway.semantic.scopes import Mode, Rules, Scopes
from gateway.semantic.verified import Decision
from tests.fakes import FakeClock, exchange, request
from tests.gateway.harness import Gateway, gateway
from tests.gateway.semantic_world import AGAIN, FIRST, said, similar, told
from tests.gateway.test_cache import keyed

BASES = 1_000
PAIRS_OF_EACH = 100
TEXT = "How do I reset my password?"
VECTOR = numpy.eye(1, 8, dtype=numpy.float32)[0]

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


def _word(rng: random.Random) -> str:
    return f"w{rng.getrandbits(40):x}"


def _base(rng: random.Random) -> Ask:
    messages: Messages = []
    if rng.random() < 0.8:
        messages.append({"role": "system", "content": f"You are {_word(rng)}."})
    if rng.random() < 0.3:
        messages += [{"role": "user", "content": _word(rng)}, {"role": "assistant", "content": _word(rng)}]
    content: Any = TEXT if rng.random() < 0.7 else [{"type": "text", "text": TEXT}]
    messages.append({"role": "user", "content": content})
    body = {"model": "demo", "messages": messages, "temperature": rng.choice([0, 0.5, 1]), "seed": rng.getrandbits(30)}
    return Ask(body)


def _another_tenant(rng: random.Random, ask: Ask) -> None:
    ask.key, ask.tags = rng.choice(["bob", "tenant=x", "key=ann"]), {"tenant": rng.choice(["y", "x ", "X", "ann"])}


def _no_tenant(rng: random.Random, ask: Ask) -> None:
    ask.key, ask.tags = rng.choice(["x", "tenant=x", "bob"]), rng.choice([{}, {"team": "x"}, {"Tenant": "x"}])


def _system(rng: random.Random, ask: Ask) -> None:
    ask.messages.insert(0, {"role": "system", "content": rng.choice([_word(rng), "", TEXT])})


def _longer_system(rng: random.Random, ask: Ask) -> None:
    first = ask.messages[0]
    if first["role"] == "system":
        first["content"] = rng.choice([first["content"] + " ", first["content"][:-1], first["content"].upper(), None])
    else:
        _system(rng, ask)


def _turns(rng: random.Random, ask: Ask) -> None:
    said = rng.choice(["user", "assistant"])
    ask.messages.insert(-1, {"role": said, "content": rng.choice([_word(rng), TEXT, ""])})


def _merged(rng: random.Random, ask: Ask) -> None:
    """What stood apart stands together."""
    merged = "\n".join(str(each["content"]) for each in ask.messages[:-1])
    ask.messages[:-1] = [{"role": "system", "content": merged + rng.choice(["", "\n", "\x00"])}]
    ask.body["seed"] += len(ask.messages) == 2


def _role(rng: random.Random, ask: Ask) -> None:
    if len(ask.messages) > 1:
        ask.messages[0]["role"] = rng.choice(["developer", "tool", "System"])
    else:
        ask.messages[-1]["name"] = _word(rng)


def _tools(rng: random.Random, ask: Ask) -> None:
    name = rng.choice(["tools", "functions"])
    ask.body[name] = [{"type": "function", "function": {"name": _word(rng)}}]


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
    place[_word(rng)] = rng.choice([1, None, {"a": [TEXT]}, "", False])


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
        ask.headers = [(rng.choice([b"openai-beta", b"anthropic-beta"]), _word(rng).encode())]


def _dialect(rng: random.Random, ask: Ask) -> None:
    ask.operation, ask.dialect = "messages", "anthropic"


CHANGES: list[Callable[[random.Random, Ask], None]] = [
    *(_another_tenant, _no_tenant, _system, _longer_system, _turns, _merged, _role, _tools, _no_tools, _format),
    *(_parameter, _unknown, _part, _model, _prompt, _place, _beside, _dialect),
]


def _exchange(ask: Ask, raw: bytes) -> Exchange:
    head = RequestHead(model=ask.body["model"])
    made = request(
        head=head, body=raw, query=ask.query, headers=ask.headers, dialect=ask.dialect, operation=ask.operation
    )
    found = exchange(made, consumer=Consumer(ask.key, ask.tags))
    found.prompt_name, found.prompt_version = ask.prompt
    return found


def scope_of(ask: Ask, share: Share = "tenant") -> bytes | None:
    """The scope in which a request's last message is looked up; None when it is not looked up at all."""
    raw = msgspec.json.encode(ask.body)
    members = read_members(raw)
    assert members is not None
    last = last_message(ask.operation, members.values)
    if last is None or refuse_similar(last) is not None:
        return None
    assert last.text == TEXT
    return Keys(share, *ask.place).context(_exchange(ask, raw), last)


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


def _seen(scope: bytes, number: int) -> Seen:
    packed = packed_vector(VECTOR)
    return Seen(scope, "tenant=x", "demo", "m", f"{number:064x}", 1e12, TEXT, packed, ("key:ann",), 0.01)


def test_of_100_000_pairs_that_differ_in_anything_but_the_text_none_shares_a_reply() -> None:
    """F116: tenants, system prompts, turns, tools, parameters, formats, unknown members, dialects; the same words.

    Also when the text and its vector are the very same, in the mode that asks for the least.
    """
    rng, clock = random.Random(20261121), FakeClock()
    told: list[bytes] = []
    scopes = Scopes("m", Room(), rng, clock, told.append)
    rules = Rules("static", 0.7)
    known: Ask | None = None
    shared = looked = passed_by = 0
    for base, other in pairs(rng):
        if base is not known:
            known, scope = base, scope_of(base)
            assert scope is not None
            assert scopes.look(scope, TEXT, VECTOR, rules) == Decision("pass", "none"), "two bases in one scope"
            scopes.tell(_seen(scope, len(told)))
            scopes.fold([(str(len(told)), told[-1])])
            assert scopes.look(scope, TEXT, VECTOR, rules).action == "serve"
        asking = scope_of(other)
        if asking is None:
            passed_by += 1
            continue
        looked += 1
        shared += scopes.look(asking, TEXT, VECTOR, rules).action == "serve"
    assert shared == 0
    assert looked + passed_by == BASES * PAIRS_OF_EACH
    assert looked > 0.85 * BASES * PAIRS_OF_EACH


@pytest.mark.parametrize("share", get_args(Share))
def test_a_key_named_as_a_tenant_is_not_that_tenant(share: Share) -> None:
    """F116."""
    names = ["x", "tenant=x", "team=x", "key=x"]
    tags: list[dict[str, str]] = [{}, {"tenant": "x"}, {"team": "x"}, {"tenant": "x", "team": "x"}]
    everybody = [Consumer(name, tag) for name in names for tag in tags]
    for one, other in product(everybody, everybody):
        by_tag = [share != "key" and share in each.tags for each in (one, other)]
        is_same = all(by_tag) or (not any(by_tag) and one.id == other.id)
        assert (share_of(one, share) == share_of(other, share)) == is_same


@pytest.mark.parametrize("mode", get_args(Mode))
def test_a_scope_learns_nothing_from_another(mode: Mode) -> None:
    """F116: labels, too."""
    rng = random.Random(1)
    told: list[bytes] = []
    scopes = Scopes("m", Room(), rng, FakeClock(), told.append)
    for number in range(2_000):
        scopes.tell(_seen(number.to_bytes(32), number))
    scopes.fold([(str(number), record) for number, record in enumerate(told)])
    for number in range(2_000):
        found = scopes.look(number.to_bytes(32), TEXT, VECTOR, Rules(mode, 0.7))
        assert (found.entry, found.reason) == (f"{number:064x}", "same")


@pytest.mark.anyio
async def test_of_hundreds_of_requests_that_differ_in_anything_but_the_text_none_is_given_a_reply() -> None:
    """F116: through a running gateway, with a low threshold, and every reply shared by the tenant."""
    rng = random.Random(7)
    config = keyed(similar("{mode: static, threshold: 0.7}", cached="exact: 1h, share: tenant"))
    async with gateway(config) as gw:
        base = said(FIRST, seed=1, temperature=0.5)
        base["messages"].insert(0, {"role": "system", "content": "You are terse."})
        assert told(await _post(gw, base)) == "miss none"
        again = copy.deepcopy(base)
        again["messages"][-1]["content"] = AGAIN
        assert told(await _post(gw, again)) == "semantic static"
        others = [change for change in CHANGES if change not in (_another_tenant, _no_tenant, _place, _model, _role)]
        sent: dict[str, Ask] = {}
        while len(sent) < 300:
            ask = Ask(copy.deepcopy(again))
            rng.choice(others)(rng, ask)
            # Nobody asks the same twice, so nobody may be given anything. A prompt has a name and a version, or none.
            if all(ask.prompt) or not any(ask.prompt):
                sent.setdefault(repr(ask), ask)
        answers = await asyncio.gather(*[_sent(gw, ask) for ask in sent.values()])
        given = [told(answer) for answer in answers if answer.status_code == 200]
        assert len(given) > 200
        assert not [each for each in given if each.startswith(("hit", "semantic"))], given
        for key, path in (("eve", "/v1/chat/completions"), ("ann", "/v1/messages")):
            answer = await _post(gw, again | {"max_tokens": 9} if "mess" in path else again, key=key, path=path)
            assert told(answer).startswith("miss") or answer.status_code == 400
        assert told(await _post(gw, again, key="bob")) == "semantic static"


async def _sent(gw: Gateway, ask: Ask) -> Any:
    if ask.operation == "messages":
        ask.body.setdefault("max_tokens", 100)
    path = "/v1/messages" if ask.operation == "messages" else "/v1/chat/completions"
    path += f"?{ask.query.decode()}" if ask.query else ""
    name, version = ask.prompt
    headers = dict(ask.headers) | ({b"x-gateway-prompt": f"{name}@{version}".encode()} if name and version else {})
    return await _post(gw, ask.body, path=path, headers=headers)


async def _post(
    gw: Gateway,
    body: dict[str, Any],
    *,
    key: str = "ann",
    path: str = "/v1/chat/completions",
    headers: dict[bytes, bytes] | None = None,
) -> Any:
    named = {b"authorization": f"Bearer {key}".encode()} | (headers or {})
    return await gw.client.post(path, json=body, headers=named)
