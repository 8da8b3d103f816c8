"""A second way for one request."""

import pytest

from gateway.core.clone import branch
from gateway.core.errors import InternalError
from gateway.core.exchange import Attempt, Exchange, Usage
from tests.fakes import events_of, exchange, request


def _lived() -> Exchange:
    asked = exchange(request(body=b'{"model":"m"}'), attempts=2, tags={"team": "ml"}, route="r", admission=object())
    asked.decide("route", "r")
    asked.usage = Usage(3, 4)
    asked.cost_nusd = 7
    asked.target = "a"
    asked.model_served = "m-1"
    asked.response_id = "resp_1"
    asked.finish_reasons = ["stop"]
    asked.status = 200
    asked.error = InternalError()
    asked.first_event_s = asked.overhead_s = asked.coalesced_s = 1.0
    return asked


def test_a_branch_asks_the_same_and_has_come_to_nothing() -> None:
    asked = _lived()
    other = branch(asked)
    assert (other.request_id, other.route, other.trace, other.consumer) == ("req-1", "r", asked.trace, asked.consumer)
    assert other.request == asked.request
    assert other.admission is asked.admission
    assert (other.attempts, other.decisions, other.finish_reasons, other.usage) == ([], [], [], Usage())
    assert (other.target, other.model_served, other.response_id, other.cost_nusd) == (None, None, None, None)
    assert (other.status, other.error, other.first_event_s, other.overhead_s) == (None, None, None, None)


def test_what_a_branch_writes_the_other_never_sees() -> None:
    asked = _lived()
    other = branch(asked)
    other.attempts.append(Attempt(1, "b"))
    other.decide("retry", "b")
    other.tags["team"] = "other"
    other.usage.output_tokens = 99
    other.finish_reasons.append("length")
    other.request.body = b"{}"
    assert [attempt.target for attempt in asked.attempts] == ["mock", "mock"]
    assert [decision.step for decision in asked.decisions] == ["route"]
    assert (asked.tags, asked.usage.output_tokens, asked.finish_reasons) == ({"team": "ml"}, 4, ["stop"])
    assert asked.request.body == b'{"model":"m"}'


def test_a_body_that_can_be_read_only_once_is_never_branched() -> None:
    with pytest.raises(AssertionError):
        branch(exchange(request(body_stream=events_of(b"piece"))))


def test_every_field_of_an_exchange_is_either_asked_or_begun_anew() -> None:
    """A field that is added later must be looked at here: is it the question, or what became of it?"""
    asked = _lived()
    other = branch(asked)
    anew = {name for name in Exchange.__struct_fields__ if getattr(asked, name) != getattr(other, name)}
    assert anew == {
        *("attempts", "decisions", "usage", "finish_reasons", "target", "model_served", "response_id"),
        *("cost_nusd", "status", "error", "first_event_s", "overhead_s", "coalesced_s"),
    }
