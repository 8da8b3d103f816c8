"""Whose replies are never given to whom, by similarity (F116): 100,000 pairs by the scopes, hundreds by a gateway."""

import asyncio
import copy
import random
from itertools import product
from typing import Any, get_args

import msgspec
import numpy
import pytest

from gateway.core.exchange import Consumer, Exchange, RequestHead
from gateway.policies.cache_key import Keys, Share, last_message, read_members, share_of
from gateway.policies.cache_rules import refuse_similar
from gateway.semantic.log import Seen
from gateway.semantic.rows import Room, packed_vector
from gateway.semantic.scopes import Mode, Rules, Scopes
from gateway.semantic.verified import Decision
from tests.fakes import FakeClock, exchange, request
from tests.gateway.harness import Gateway, gateway
from tests.gateway.semantic_changes import BASES, CHANGES, ELSEWHERE, PAIRS_OF_EACH, TEXT, Ask, pairs
from tests.gateway.semantic_world import AGAIN, FIRST, said, similar, told
from tests.gateway.test_cache import keyed

VECTOR = numpy.eye(1, 8, dtype=numpy.float32)[0]


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
        others = [change for change in CHANGES if change not in ELSEWHERE]
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
