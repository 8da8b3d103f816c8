"""Answers played by a clock that the test moves."""

import socket

import pytest

from gateway.mock.calls import Call, Stats
from gateway.mock.delivery import Delivery
from gateway.mock.plan import Plan
from tests.fakes import FakeClock
from tests.unit.mock.raw import FakeTimers, FakeWire, chat, texts


class Stage:
    """One delivery with everything around it."""

    def __init__(self, plan: Plan, *, keep_alive: bool = True, starts_paused: bool = False) -> None:
        self.timers = FakeTimers()
        self.wire = FakeWire(self.timers)
        self.stats = Stats()
        self.ends: list[bool] = []
        self.call = Call(
            id=1, connection=1, t=0.0, method="POST", target=b"/", headers=(), body_bytes=0, body_sha256=""
        )
        self.delivery = Delivery(
            plan,
            self.call,
            self.wire,
            timers=self.timers,
            stats=self.stats,
            clock=FakeClock(),
            on_end=self.ends.append,
        )
        if starts_paused:
            self.delivery.pause()
        self.delivery.start(keep_alive=keep_alive, is_http_10=False)

    @property
    def sent(self) -> bytes:
        """Everything that was written."""
        return b"".join(data for _, data in self.wire.writes)

    @property
    def moments(self) -> list[float]:
        """When something was written."""
        return [when for when, _ in self.wire.writes]


def test_a_healthy_answer_goes_out_at_once_in_one_write() -> None:
    stage = Stage(chat())
    assert stage.moments == [0.0]
    assert (stage.call.status, stage.call.completed, stage.call.tokens_sent) == (200, True, 16)
    assert stage.call.t_completed == 1000.0
    assert stage.ends == [True]
    assert (stage.stats.inflight, stage.stats.completed_total, stage.stats.tokens_total) == (0, 1, 16)


def test_latency_and_ttfb_add_up_for_a_complete_answer() -> None:
    stage = Stage(chat("latency=50ms,ttfb=100ms"))
    stage.timers.run_until(0.149)
    assert (stage.moments, stage.call.status, stage.stats.inflight) == ([], None, 1)
    stage.timers.run_until(0.2)
    assert stage.moments == [0.15]
    assert stage.ends == [True]


def test_a_stream_has_its_head_after_latency_its_first_event_after_ttfb_and_then_a_gap_each() -> None:
    """F23: evenly, from the first moment, however late single timers are."""
    stage = Stage(chat("latency=50ms,ttfb=100ms,gap=200ms,tokens=4", stream=True))
    stage.timers.run_until(10)
    assert stage.moments == [0.05, 0.15, 0.35, 0.55, 0.75]
    assert stage.wire.writes[0][1].endswith(b"\r\n\r\n")
    assert stage.ends == [True]
    assert stage.call.completed


def test_a_stream_without_gaps_is_one_write() -> None:
    stage = Stage(chat("tokens=100", stream=True))
    assert stage.moments == [0.0]
    assert stage.call.tokens_sent == 100


def test_a_long_stream_lets_others_have_their_turn() -> None:
    stage = Stage(chat("tokens=100,bigchunk=20KiB", stream=True))
    assert stage.ends == []
    stage.timers.run_until(0)
    assert stage.ends == [True]
    assert max(len(data) for _, data in stage.wire.writes) < 100_000


def test_a_slow_reader_stops_the_stream_until_it_reads_again() -> None:
    """F24."""
    stage = Stage(chat("tokens=100,bigchunk=64KiB", stream=True))
    stage.delivery.pause()
    stage.timers.run_until(1)
    written = len(stage.wire.writes)
    assert written < 3
    stage.delivery.resume()
    stage.timers.run_until(2)
    assert len(stage.wire.writes) > written
    assert stage.ends == [True]


def test_a_reader_that_catches_up_in_time_is_not_noticed() -> None:
    stage = Stage(chat("tokens=3,gap=100ms", stream=True))
    stage.delivery.pause()
    stage.delivery.resume()
    stage.timers.run_until(1)
    assert stage.moments == [0.0, 0.1, 0.2]


def test_a_connection_that_is_still_full_delays_even_the_head() -> None:
    stage = Stage(chat("tokens=2", stream=True), starts_paused=True)
    assert stage.moments == []
    stage.delivery.resume()
    stage.timers.run_until(0)
    assert stage.sent.startswith(b"HTTP/1.1 200 OK\r\n")
    assert stage.ends == [True]


@pytest.mark.parametrize("directives", ["tokens=9,gap=100ms", "tokens=9,gap=100ms,split=50"])
def test_a_peer_that_leaves_in_the_middle_stops_everything(directives: str) -> None:
    """F1."""
    stage = Stage(chat(directives, stream=True))
    stage.timers.run_until(0.25)
    stage.delivery.peer_closed()
    written = len(stage.wire.writes)
    stage.timers.run_until(10)
    assert len(stage.wire.writes) == written
    assert (stage.call.closed_early, stage.call.completed, stage.call.tokens_sent) == (True, False, 3)
    assert (stage.stats.inflight, stage.stats.closed_early_total) == (0, 1)
    assert stage.ends == []


@pytest.mark.parametrize("stream", [True, False])
def test_a_peer_that_leaves_before_the_first_byte_stops_everything(stream: bool) -> None:
    """F2, F3."""
    stage = Stage(chat("latency=10s", stream=stream))
    stage.timers.run_until(1)
    stage.delivery.peer_closed()
    stage.timers.run_until(60)
    assert stage.moments == []
    assert (stage.call.closed_early, stage.call.status) == (True, None)


def test_a_peer_that_leaves_afterwards_was_not_early() -> None:
    stage = Stage(chat())
    stage.delivery.peer_closed()
    stage.delivery.cancel()
    assert not stage.call.closed_early
    assert stage.stats.inflight == 0


@pytest.mark.parametrize("stream", [True, False])
def test_a_stall_lasts_for_ever(stream: bool) -> None:
    """F13."""
    stage = Stage(chat("stall_after=2,gap=10ms", stream=stream))
    stage.timers.run_until(3600)
    assert stage.ends == []
    assert (stage.call.status, stage.call.completed, stage.stats.inflight) == (200, False, 1)
    assert len(texts(stage.sent)) == 2 or not stream


def test_a_stall_from_the_start_comes_after_the_head() -> None:
    """F14."""
    stage = Stage(chat("stall_after=0", stream=True))
    stage.timers.run_until(3600)
    assert stage.sent.endswith(b"\r\n\r\n")
    assert b"data:" not in stage.sent


@pytest.mark.parametrize("stream", [True, False])
def test_a_reset_before_the_head_sends_nothing(stream: bool) -> None:
    """F31."""
    stage = Stage(chat("rst_after=0", stream=stream))
    assert stage.moments == []
    assert stage.wire.aborted
    assert stage.wire.socket.options == [(socket.SOL_SOCKET, socket.SO_LINGER)]
    assert stage.call.status is None


def test_a_reset_in_the_middle_lets_what_was_written_arrive() -> None:
    """F19."""
    stage = Stage(chat("rst_after=2", stream=True))
    assert not stage.wire.aborted
    stage.timers.run_until(0.01)
    assert stage.wire.aborted
    assert (stage.call.tokens_sent, stage.call.completed, stage.call.closed_early) == (2, False, False)
    assert stage.stats.inflight == 0


def test_an_early_end_of_a_complete_body_closes_the_connection() -> None:
    stage = Stage(chat("eof_after=1"))
    assert stage.ends == [False]
    assert not stage.call.completed


def test_an_early_end_of_a_stream_leaves_the_connection_usable() -> None:
    stage = Stage(chat("eof_after=1", stream=True))
    assert stage.ends == [True]
    assert (stage.call.completed, stage.stats.completed_total) == (False, 0)


def test_pieces_go_out_one_in_each_turn() -> None:
    """F22."""
    stage = Stage(chat("split=1,tokens=2,gap=50ms", stream=True))
    assert len(stage.wire.writes) == 1
    stage.timers.run_until(1)
    assert len(stage.wire.writes) > 300
    assert sorted(set(stage.moments)) == [0.0, 0.05]
    assert stage.ends == [True]


def test_pieces_wait_for_a_slow_reader() -> None:
    stage = Stage(chat("split=7,tokens=2", stream=True))
    stage.delivery.pause()
    stage.timers.run_until(1)
    written = len(stage.wire.writes)
    stage.delivery.resume()
    stage.timers.run_until(2)
    assert written < 3
    assert len(stage.wire.writes) > written
    assert stage.ends == [True]


def test_the_client_decides_whether_the_connection_stays() -> None:
    assert Stage(chat(), keep_alive=False).ends == [False]
    assert b"connection: close\r\n" in Stage(chat(), keep_alive=False).sent
