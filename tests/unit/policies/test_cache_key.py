"""What makes two requests the same. F116: nothing that differs shares a key."""

import copy
import json
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from gateway.core.exchange import Consumer, Exchange, Operation, RequestHead
from gateway.policies.cache_key import Keys, Last, Members, Share, last_message, read_members, share_of
from tests.fakes import exchange, request

PAIRS = 100_000


def members(body: bytes | str) -> Members:
    """The members of a body that can be read."""
    found = read_members(body.encode() if isinstance(body, str) else body)
    assert found is not None
    return found


def asked(
    body: bytes = b"{}", *, key: str = "checkout", tags: dict[str, str] | None = None, **changes: Any
) -> Exchange:
    """An exchange of a key with these tags of its own."""
    consumer = Consumer(key, tags or {})
    of_request = {name: changes.pop(name) for name in ("headers", "query", "dialect", "operation") if name in changes}
    head = RequestHead(model=changes.pop("model", "support"))
    return exchange(request(head=head, body=body, **of_request), consumer=consumer, **changes)


def key_of(
    body: dict[str, Any] | bytes,
    *,
    place: tuple[str, str, str] = ("support-*", "gpt", "r1"),
    share: Share = "key",
    **changes: Any,
) -> bytes:
    """The key of a request."""
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return Keys(share, *place).exact(asked(raw, **changes), members(raw))


BASE: dict[str, Any] = {
    "model": "support",
    "messages": [
        {"role": "system", "content": "You are terse."},
        {"role": "user", "content": "What is 2 + 2?"},
    ],
    "temperature": 0.5,
}


@pytest.mark.parametrize(
    "same",
    [
        json.dumps(BASE),
        json.dumps(BASE, indent=4),
        json.dumps(dict(reversed(BASE.items())), separators=(",", ":")),
        json.dumps({**BASE, "messages": [dict(reversed(each.items())) for each in BASE["messages"]]}),
        json.dumps({**BASE, "stream": True}),
        json.dumps({**BASE, "stream": False, "stream_options": {"include_usage": True}}),
        json.dumps(BASE).replace("terse", "t\\u0065rse"),
        json.dumps(BASE).replace("2 + 2", "2 \\u002B 2"),
    ],
)
def test_what_cannot_matter_is_not_in_the_key(same: str) -> None:
    assert key_of(same.encode()) == key_of(BASE)


@pytest.mark.parametrize(
    "other",
    [
        {**BASE, "temperature": "0.5"},
        {**BASE, "temperature": None},
        {**BASE, "user": "u1"},
        {**BASE, "n": 1},
        {**BASE, "messages": list(reversed(BASE["messages"]))},
        {**BASE, "messages": BASE["messages"][1:]},
        {**BASE, "nobody": {"has": ["heard", "of", "this"]}},
        {**BASE, "Stream": True},
        {**BASE, "messages": [{**BASE["messages"][0], "stream": True}, BASE["messages"][1]]},
    ],
)
def test_everything_else_in_the_body_is(other: dict[str, Any]) -> None:
    assert key_of(other) != key_of(BASE)


def test_fractions_keep_their_text() -> None:
    keys = {
        key_of(f'{{"a":{text}}}'.encode()) for text in ("1", "1.0", "1.00", "1e0", "10e-1", "1E0", "1e400", '"1.0"')
    }
    assert len(keys) == 8


def test_large_integers_are_not_rounded() -> None:
    assert key_of(b'{"a":9007199254740993}') != key_of(b'{"a":9007199254740992}')
    assert key_of(b'{"a":123456789012345678901}') != key_of(b'{"a":123456789012345678902}')


@pytest.mark.parametrize(
    "changes",
    [
        {"place": ("other", "gpt", "r1")},
        {"place": ("support-*", "other", "r1")},
        {"place": ("support-*", "gpt", "r2")},
        {"place": ("support-*gpt", "", "r1")},
        {"key": "other"},
        {"prompt_name": "greeting", "prompt_version": "3"},
        {"model": "other"},
        {"query": b"api-version=2024-06-01"},
        {"dialect": "anthropic"},
        {"operation": "text_completion"},
        {"max_tokens_sent": 100},
        {"headers": [(b"anthropic-beta", b"thinking")]},
        {"headers": [(b"anthropic-version", b"2023-06-01")]},
        {"headers": [(b"x-mock", b"tokens=3")]},
    ],
)
def test_everything_else_that_decides_the_answer_is_in_the_key(changes: dict[str, Any]) -> None:
    assert key_of(BASE, **changes) != key_of(BASE)


def test_what_a_client_sends_of_itself_is_not() -> None:
    headers = [(b"user-agent", b"curl"), (b"x-request-id", b"1"), (b"idempotency-key", b"2")]
    assert key_of(BASE, headers=headers) == key_of(BASE)


def test_versions_of_a_prompt_are_apart() -> None:
    keys = {key_of(BASE, prompt_name=name, prompt_version=version) for name, version in ("a1", "a2", "b1")}
    assert len(keys) == 3


def test_a_team_shares_what_its_keys_have_asked() -> None:
    shared = {key_of(BASE, share="team", key=key, tags={"team": "a"}) for key in ("one", "two")}
    assert len(shared) == 1
    assert key_of(BASE, share="team", key="one", tags={"team": "b"}) not in shared


def test_a_tag_that_the_request_brings_opens_no_teams_replies() -> None:
    """F116: anybody can write x-gateway-tags."""
    theirs = key_of(BASE, share="tenant", key="one", tags={"tenant": "a"})
    mine = key_of(BASE, share="tenant", key="two")
    brought = Keys("tenant", "support-*", "gpt", "r1").exact(
        exchange(
            request(head=RequestHead(model="support"), body=msgspec.json.encode(BASE)),
            consumer=Consumer("two"),
            tags={"tenant": "a"},
        ),
        members(msgspec.json.encode(BASE)),
    )
    assert brought == mine != theirs


def test_a_key_without_the_tag_is_for_itself() -> None:
    assert share_of(Consumer("one"), "team") == "key=one"
    assert share_of(Consumer("one", {"team": ""}), "team") == "key=one"
    assert share_of(Consumer("one", {"team": "a"}), "team") == "team=a"
    assert share_of(Consumer("one", {"team": "a"}), "key") == "key=one"


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"a":1}',
        b'{"messages":[{"content":"planted","content":"asked"}]}',
        b'{"messages":[{"content":"planted","c\\u006fntent":"asked"}]}',
        b'{ "a" : 1 , "a" : 2 }',
        '{"ä":1,"ä":2}'.encode(),
        b"[]",
        b'"a"',
        b"",
        b'{"a":',
        b'{"a":' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
)
def test_a_body_that_two_parsers_may_read_differently_has_no_key(body: bytes) -> None:
    """F116: or one client could plant its answer under another's question."""
    assert read_members(body) is None


def test_the_members_come_without_those_that_only_choose_the_form() -> None:
    assert members('{"a":1,"stream":true,"stream_options":null}') == Members({"a": 1}, b'{"a":1}')
    assert members('{"b":1,"a":"\\u00e4"}').canonical == '{"a":"ä","b":1}'.encode()


def _deeper(rng: random.Random, body: dict[str, Any]) -> None:
    body["messages"].insert(rng.randrange(len(body["messages"])), {"role": "user", "content": _word(rng)})


def _word(rng: random.Random) -> str:
    return "".join(rng.choices('abcdeé "\\{}[]:,0123\n', k=rng.randint(1, 12)))


def _system(rng: random.Random, body: dict[str, Any]) -> None:
    body["messages"][0]["content"] += _word(rng)


def _turn(rng: random.Random, body: dict[str, Any]) -> None:
    turn = rng.choice(body["messages"])
    at = rng.randrange(len(turn["content"]) + 1)
    turn["content"] = turn["content"][:at] + rng.choice('xyz "\\') + turn["content"][at:]


def _tool(rng: random.Random, body: dict[str, Any]) -> None:
    body["tools"][0]["function"]["parameters"][f"p{rng.randrange(10**9)}"] = {"type": "string"}


def _parameter(rng: random.Random, body: dict[str, Any]) -> None:
    name = rng.choice(["temperature", "top_p", "seed", "max_tokens", "presence_penalty"])
    body[name] = rng.random() + 3 if name != "seed" else rng.randrange(10**12) + 10**6


def _unknown(rng: random.Random, body: dict[str, Any]) -> None:
    body[f"x_{rng.randrange(10**12)}"] = rng.choice([None, 0, "", [], {}, False, _word(rng)])


def _swap(rng: random.Random, body: dict[str, Any]) -> None:
    body["messages"][0], body["messages"][1] = body["messages"][1], body["messages"][0]


def _role(rng: random.Random, body: dict[str, Any]) -> None:
    body["messages"][-1]["role"] = "developer"


CHANGES: list[Callable[[random.Random, dict[str, Any]], None]] = [
    _deeper, _system, _turn, _tool, _parameter, _unknown, _swap, _role,
]  # fmt: skip


def _body(rng: random.Random) -> dict[str, Any]:
    return {
        "model": "support",
        "messages": [
            {"role": "system", "content": f"system {_word(rng)}"},
            {"role": "user", "content": f"first {_word(rng)}"},
            {"role": "assistant", "content": f"reply {_word(rng)}"},
            {"role": "user", "content": f"last {_word(rng)}"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"q": {"type": "string"}}}}],
        "temperature": rng.choice([0, 0.5, 1.0]),
    }


def test_no_two_of_100_000_pairs_that_differ_anywhere_share_a_key() -> None:
    """F116: tenant, system prompt, tools, parameters, unknown members, earlier turns; seeded."""
    rng = random.Random(20261121)
    keys = Keys("tenant", "support-*", "gpt", "r1")
    tenants = [f"t{number}" for number in range(50)]
    shared = 0
    seen: dict[bytes, bytes] = {}
    for number in range(PAIRS):
        first = _body(rng)
        second = copy.deepcopy(first) if number % 10 else first
        tenant = rng.choice(tenants)
        other_tenant = tenant
        if number % 10 == 0:
            other_tenant = rng.choice([each for each in tenants if each != tenant])
        else:
            rng.choice(CHANGES)(rng, second)
        found = []
        for body, whose in ((first, tenant), (second, other_tenant)):
            raw = msgspec.json.encode(body)
            made = keys.exact(asked(raw, key=whose, tags={"tenant": whose}), members(raw))
            what = whose.encode() + raw
            # And no two of all 200,000 either.
            assert seen.setdefault(made, what) == what
            found.append(made)
        shared += found[0] == found[1]
    assert shared == 0


def last_of(operation: Operation, **body: Any) -> Last | None:
    """The last message of a body."""
    return last_message(operation, members(json.dumps(body)).values)


USER = {"role": "user", "content": "What is a monad?"}


def test_the_last_message_of_the_user_is_apart_from_all_the_rest() -> None:
    found = last_of("chat", messages=[{"role": "system", "content": "s"}, USER], seed=1)
    assert found is not None
    assert (found.text, found.earlier) == ("What is a monad?", 0)
    assert found.context == {
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": None}],
        "seed": 1,
    }


@pytest.mark.parametrize(
    ("operation", "body", "text"),
    [
        ("messages", {"system": "s", "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}, "a"),
        ("responses", {"input": "a"}, "a"),
        ("responses", {"input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}]}]}, "a"),
        ("chat", {"messages": [USER, {"role": "assistant", "content": "x"}, {"role": "user", "content": "a"}]}, "a"),
    ],
)
def test_every_dialect_has_its_last_message(operation: Operation, body: dict[str, Any], text: str) -> None:
    found = last_of(operation, **body)
    assert found is not None
    assert found.text == text
    assert last_of(operation, **json.loads(json.dumps(body).replace('"a"', '"b"'))) == found._replace(text="b")


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("text_completion", {"prompt": "a"}),
        ("embeddings", {"input": "a"}),
        ("chat", {}),
        ("chat", {"messages": []}),
        ("chat", {"messages": ["a"]}),
        ("chat", {"messages": [{"role": "assistant", "content": "a"}]}),
        ("chat", {"messages": [{"role": "user", "content": None}]}),
        ("chat", {"messages": [{"role": "user", "content": ["a"]}]}),
        ("chat", {"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}),
        ("chat", {"messages": [{"role": "user", "content": [{"type": "image_url", "text": "a"}]}]}),
        ("chat", {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}] * 2}]}),
    ],
)
def test_where_there_is_no_single_text_there_is_no_last_message(operation: Operation, body: dict[str, Any]) -> None:
    assert last_of(operation, **body) is None


def test_only_the_last_text_is_left_out_of_the_context() -> None:
    """F116: similarity is asked only below an equal context."""
    keys = Keys("key", "support-*", "gpt", "r1")

    def context(*, key: str = "checkout", **body: Any) -> bytes:
        raw = json.dumps(body).encode()
        found = last_message("chat", members(raw).values)
        assert found is not None
        return keys.context(asked(raw, key=key), found)

    system = {"role": "system", "content": "s"}
    same = context(messages=[system, USER])
    assert context(messages=[system, {"role": "user", "content": "Explain monads."}]) == same
    others = {
        context(messages=[system, USER], key="other"),
        context(messages=[{"role": "system", "content": "t"}, USER]),
        context(messages=[USER]),
        context(messages=[system, USER], seed=1),
        context(messages=[system, {**USER, "name": "a"}]),
        context(messages=[system, {"role": "user", "content": [{"type": "text", "text": "What is a monad?"}]}]),
        keys.exact(asked(json.dumps({"messages": [system, USER]}).encode()), members(json.dumps({"messages": [USER]}))),
    }
    assert len(others) == 7
    assert same not in others
