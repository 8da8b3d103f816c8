"""The agents' workload, and the oracle that it is judged by."""

import json
import random

from loadtests.agents import TEAMS, Call, Use, oracle, workload
from loadtests.scenarios import agents


def call(number: int, words: int, tokens: int = 0, team: str = "red") -> Call:
    return Call(number, number * 0.1, team, "chat", words, tokens, 2 * tokens)


def test_the_same_seed_gives_the_same_calls_in_the_order_of_their_times() -> None:
    calls = workload(random.Random(7), 500, 100)
    assert calls == workload(random.Random(7), 500, 100)
    assert [each.number for each in calls] == list(range(500))
    assert calls == sorted(calls, key=lambda each: each.at_s)


def test_every_kind_of_agent_is_there_and_may_use_twice_what_it_uses() -> None:
    calls = workload(random.Random(7), 1_000, 100)
    assert {each.kind for each in calls} == {"chat", "read", "loop", "leave", "retry"}
    assert {each.team for each in calls} == set(TEAMS)
    assert all(each.max_tokens >= 2 * each.tokens for each in calls)
    assert all((each.kind == "leave") == (each.leaves_after_s is not None) for each in calls)


def test_the_rate_is_about_what_was_asked_for() -> None:
    assert 80 < 4_000 / workload(random.Random(7), 4_000, 100)[-1].at_s < 125


def test_the_oracle_admits_whatever_truly_fits() -> None:
    calls = [call(0, 60), call(1, 60), call(2, 40), call(3, 1)]
    assert oracle(calls, {}, 10**9, 100) == {0, 2}
    assert oracle(calls, {}, 61 * 2_000, 10**9) == {0, 3}


def test_each_team_has_tokens_of_its_own() -> None:
    assert oracle([call(0, 100), call(1, 100, team="blue"), call(2, 1)], {}, 10**9, 100) == {0, 1}


def test_what_was_seen_counts_before_what_was_planned() -> None:
    assert oracle([call(0, 60), call(1, 60)], {0: Use(40, 0)}, 10**9, 100) == {0, 1}


def test_a_call_that_fails_uses_nothing() -> None:
    failing = Call(0, 0, "red", "retry", 60, 10, 20, fails=True)
    assert failing.truth == Use(0, 0)
    assert b"status=500" in agents.request(failing)


def test_a_request_has_as_many_words_as_the_call_says_and_names_itself() -> None:
    head, _, body = agents.request(call(12, 300, 20)).partition(b"\r\n\r\n")
    assert b"x-request-id: call-12" in head and b"team=red" in head
    assert f"Content-Length: {len(body)}".encode() in head
    sent = json.loads(body)
    assert len(sent["messages"][0]["content"].split()) == 300
    assert (sent["max_tokens"], sent["stream"]) == (40, False)


def test_use_is_read_from_the_log_of_admitted_calls_alone() -> None:
    def line(request_id: str, outcome: str) -> str:
        return json.dumps(
            {"event": "request", "request_id": request_id, "outcome": outcome, "input_tokens": 5, "output_tokens": None}
        )

    log = "\n".join([line("call-3", "ok"), line("call-4", "over_budget"), line("other", "ok"), '{"event":"started"}'])
    assert agents.uses(log, {"ok"}) == {3: Use(5, 0)}
