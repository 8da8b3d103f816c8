"""Requests, exchanges and replies."""

import pytest

from gateway.core.exchange import Attempt, Consumer, Reply, RequestHead, Usage
from tests.fakes import event_frame, events_of, exchange, request


def test_a_request_shows_no_header_and_no_body_in_its_repr() -> None:
    """F125: prompts and keys appear nowhere."""
    shown = repr(request(headers=[(b"authorization", b"Bearer sk-1")], body=b"a prompt"))
    assert "sk-1" not in shown
    assert "a prompt" not in shown
    assert "chat/completions" in shown


def test_usage_tells_not_reported_from_zero() -> None:
    assert Usage().input_tokens is None
    assert Usage(input_tokens=0).input_tokens == 0
    assert Usage().source is None


def test_a_consumer_may_use_every_model_unless_told_otherwise() -> None:
    assert Consumer("a").models == ("*",)
    assert not Consumer("a").may_pin


@pytest.mark.parametrize(
    ("frozen", "name"), [(RequestHead(), "model"), (Consumer("a"), "id")], ids=lambda value: type(value).__name__
)
def test_what_a_client_sent_cannot_be_changed(frozen: RequestHead | Consumer, name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(frozen, name, "other")


def test_the_wait_for_upstream_is_summed_over_all_attempts() -> None:
    asked = exchange()
    assert asked.waited_s == 0
    asked.attempts += [Attempt(1, "a", waited_s=0.25), Attempt(2, "b", waited_s=0.5)]
    assert asked.waited_s == 0.75


def test_decisions_are_kept_in_order() -> None:
    asked = exchange()
    asked.decide("split", "a by weight 1 of 2")
    asked.decide("pin", "b")
    assert [(decision.step, decision.detail) for decision in asked.decisions] == [
        ("split", "a by weight 1 of 2"),
        ("pin", "b"),
    ]


def test_a_reply_has_either_a_body_or_events() -> None:
    with pytest.raises(AssertionError):
        Reply(200, [])
    with pytest.raises(AssertionError):
        Reply(200, [], body=b"", events=events_of())


def test_a_whole_reply_is_no_event_stream() -> None:
    reply = Reply(200, [], body=b"{}")
    assert not reply.is_event_stream
    assert reply.usage == Usage()


def test_only_a_reply_that_can_say_errors_is_an_event_stream() -> None:
    assert Reply(200, [], events=events_of(), error_event=event_frame).is_event_stream
    assert not Reply(200, [], events=events_of()).is_event_stream


def test_a_reply_keeps_the_usage_that_is_filled_elsewhere() -> None:
    usage = Usage()
    reply = Reply(200, [], body=b"", usage=usage)
    usage.output_tokens = 3
    assert reply.usage.output_tokens == 3


def test_watchers_are_kept_in_order() -> None:
    reply = Reply(200, [], body=b"")
    seen: list[bytes] = []
    reply.watch(seen.append)
    reply.watch(lambda piece: seen.append(piece.upper()))
    for tap in reply.taps:
        tap(b"a")
    assert seen == [b"a", b"A"]


def test_a_wait_for_an_equal_request_is_a_wait_for_upstream() -> None:
    """It counts as none of the gateway's own time."""
    asked = exchange(coalesced_s=4.0)
    asked.attempts = [Attempt(1, "a", waited_s=1.0), Attempt(2, "a", waited_s=2.0)]
    assert asked.waited_s == 7.0
    assert exchange(coalesced_s=4.0).waited_s == 4.0


def test_a_stored_reply_is_one_that_no_target_was_asked_for() -> None:
    states = ("hit", "semantic", "miss", "bypass")
    assert [exchange(cache=cache).is_stored for cache in states] == [True, True, False, False]
