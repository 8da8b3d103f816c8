"""The one table of what is never stored and never looked up. F117."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.core.exchange import RequestHead
from gateway.policies.cache_checks import Answered, Terms
from gateway.policies.cache_key import Last, Members
from gateway.policies.cache_rules import (
    LARGEST_REQUEST_BYTES,
    LONGEST_SIMILAR_TOKENS,
    OPERATIONS,
    Rule,
    markdown,
    refuse_reply,
    refuse_request,
    refuse_similar,
    table,
)
from tests.fakes import events_of, request

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
TERMS = Terms()
GOOD = Answered(200, b"{}", frozenset(), ("stop",), "chat", True, TERMS)


def refused(body: dict[str, Any] | bytes = b"", terms: Terms = TERMS, **changes: Any) -> str | None:
    """The rule that refuses a request."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = refuse_request(request(body=raw, **changes), terms)
    return found.name if isinstance(found, Rule) else None


def test_an_ordinary_request_has_its_members() -> None:
    found = refuse_request(request(body=json.dumps(CHAT).encode()), TERMS)
    assert isinstance(found, Members)
    assert found.values == CHAT


def test_every_operation_that_can_be_stored_may_be_asked() -> None:
    assert sorted(OPERATIONS) == ["chat", "embeddings", "messages", "responses", "text_completion"]
    assert refused({"model": "m", "input": "a"}, operation="embeddings") is None
    assert refused({"model": "m", "input": "a", "store": False}, operation="responses") is None


@pytest.mark.parametrize(
    ("rule", "body", "changes"),
    [
        ("operation", CHAT, {"operation": "count_tokens"}),
        ("operation", CHAT, {"operation": "relay"}),
        ("operation", b"", {"body_stream": events_of()}),
        ("large_request", b"x" * (LARGEST_REQUEST_BYTES + 1), {}),
        ("ambiguous", b'{"a":1,"a":2}', {}),
        ("temperature", CHAT, {"head": RequestHead(temperature=1.5)}),
        ("choices", CHAT, {"head": RequestHead(n=2)}),
        ("media", {**CHAT, "modalities": ["audio"]}, {}),
        ("hosted_tools", {**CHAT, "web_search_options": {}}, {}),
        ("stateful", {**CHAT, "store": True}, {}),
    ],
)
def test_each_rule_of_requests_applies(rule: str, body: Any, changes: dict[str, Any]) -> None:
    assert refused(body, **changes) == rule


def test_the_highest_temperature_is_the_routes_own() -> None:
    head = RequestHead(temperature=0.1)
    assert refused(CHAT, Terms(max_temperature=0.0), head=head) == "temperature"


def test_a_reply_that_is_as_it_should_be_is_stored() -> None:
    assert refuse_reply(GOOD) is None


@pytest.mark.parametrize(
    ("rule", "answered"),
    [
        ("status", replace(GOOD, status=400)),
        ("incomplete", replace(GOOD, body=None)),
        ("other_origin", replace(GOOD, is_own=False)),
        ("filtered", replace(GOOD, finish_reasons=("content_filter",))),
        ("filtered", replace(GOOD, traits=frozenset({"refusal"}))),
        ("tool_calls", replace(GOOD, traits=frozenset({"tool_calls"}), finish_reasons=("tool_calls",))),
        ("unfinished", replace(GOOD, finish_reasons=("length",))),
        ("unfinished", replace(GOOD, finish_reasons=())),
        ("hosted_reply", replace(GOOD, traits=frozenset({"hosted_tools"}))),
        ("unknown", replace(GOOD, traits=frozenset({"unknown"}))),
        ("unknown", replace(GOOD, traits=frozenset({"media"}))),
        ("empty", replace(GOOD, traits=frozenset({"empty"}))),
        ("large_reply", replace(GOOD, body=bytes(TERMS.max_entry_bytes + 1))),
    ],
)
def test_each_rule_of_replies_applies(rule: str, answered: Answered) -> None:
    found = refuse_reply(answered)
    assert found is not None
    assert found.name == rule


def test_tool_calls_are_stored_where_that_is_wanted() -> None:
    calls = replace(GOOD, traits=frozenset({"tool_calls"}), finish_reasons=("tool_calls",))
    assert refuse_reply(replace(calls, terms=Terms(tool_calls=True))) is None


PLAIN = Last("How do I reset my password?", {"messages": []}, 0)


def test_a_plain_question_may_be_looked_up_by_similarity() -> None:
    assert refuse_similar(PLAIN) is None


@pytest.mark.parametrize(
    ("rule", "last"),
    [
        ("no_last_message", None),
        ("tools", PLAIN._replace(context={"tools": [{}]})),
        ("tools", PLAIN._replace(context={"functions": [{}]})),
        ("deictic", PLAIN._replace(text="What does this mean?")),
        ("timed", PLAIN._replace(text="Who won the match yesterday?")),
        ("short", PLAIN._replace(text="go on")),
        ("long", PLAIN._replace(text="word " * (LONGEST_SIMILAR_TOKENS + 1))),
        ("conversation", PLAIN._replace(earlier=3)),
        ("foreign", PLAIN._replace(text="Как мне сбросить пароль?")),
    ],
)
def test_each_rule_of_similarity_applies(rule: str, last: Last | None) -> None:
    assert refuse_similar(last) == rule


def test_every_rule_has_a_name_of_its_own_and_a_reason() -> None:
    rows = list(table())
    names = [name for _, name, _, _ in rows]
    assert len(set(names)) == len(names) == 26
    assert all(what and reason for _, _, what, reason in rows)
    assert [stage for stage, *_ in rows] == ["request"] * 8 + ["reply"] * 10 + ["similar"] * 8


def test_the_documentation_has_a_line_for_each() -> None:
    text = markdown()
    assert text in (Path(__file__).parents[3] / "docs" / "caching.md").read_text("utf-8")
    assert text.startswith("| stage | rule | what | why |\n| --- | --- | --- | --- |\n| request | `operation` |")
    assert text.count("\n") == 28
    assert all(line.count("|") == 5 for line in text.splitlines())
