"""What the scenarios write down, and what they conclude from what they saw."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from loadtests import configs
from loadtests.client import Answer, Fleet, Sink
from loadtests.configs import KEY, Setting
from loadtests.openloop import Arrivals
from loadtests.processes import BenchFailure
from loadtests.redis import store_section
from loadtests.scenarios import agents, limits, outage, overload, resilience, soak, storm, switch


def load(folder: Path, setting: Setting) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(configs.gateway(folder, setting))
    return loaded


@pytest.mark.parametrize(
    "setting",
    [
        *resilience.settings(1234, "m"),
        overload.setting(1234),
        agents.agents_setting(1234, 10**9, 5_000),
        Setting(1234, target=limits.PRICE, state="x", sections=limits.LIMITS),
    ],
)
def test_every_scenario_has_its_own_state_and_one_route(tmp_path: Path, setting: Setting) -> None:
    config = load(tmp_path, setting)
    assert config["server"]["state_dir"] == f"{tmp_path}/{setting.state}"
    assert len(config["routes"]) == 1
    assert ("model" in config["targets"]["upstream"]) == bool(setting.model)


def test_the_redis_of_a_rig_stands_beside_the_limits(tmp_path: Path) -> None:
    config = load(tmp_path, Setting(1, sections=store_section(tmp_path) + limits.LIMITS))
    assert config["store"] == {"redis": f"file:{tmp_path}/redis.url"}
    assert config["on_store_failure"] == {"rate_limits": "local", "budgets": "local"}
    assert len(config["limits"]) == 2


def test_only_the_full_route_has_more_than_one_target(tmp_path: Path) -> None:
    bare, full = (load(tmp_path, setting) for setting in resilience.settings(1234, "m"))
    assert list(bare["targets"]) == ["upstream"] and bare["targets"]["upstream"]["breaker"] is False
    assert list(full["targets"]) == ["upstream", "second", "third"]
    assert "breaker" not in full["targets"]["upstream"]


def test_the_second_key_of_an_overload_goes_first(tmp_path: Path) -> None:
    keys = load(tmp_path, overload.setting(1234))["keys"]
    assert [key.get("priority") for key in keys] == [None, "high"]
    assert keys[0]["hash"] != keys[1]["hash"] and overload.HIGH_KEY != KEY


def test_a_timeline_tells_what_a_stretch_of_time_was_like() -> None:
    timeline = outage.Timeline()
    for at, took in ((0.0, 0.001), (1.0, 0.050), (2.0, 0.002)):
        timeline.note(Answer(status=200, complete=True, ended_s=at + took), at)
    timeline.note(Answer(status=503, complete=True, ended_s=9.0), 1.0)
    assert timeline.p99_ms(0.5, 1.5) == pytest.approx(50)
    assert timeline.p99_ms(1.5, 2.5) == pytest.approx(2)


def test_replies_of_an_overload_take_unequal_times(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []

    def send(self: object, request: bytes, sink: Sink) -> None:
        sent.append(request)

    monkeypatch.setattr(Fleet, "send", send)
    fleet = overload.Varied(1, KEY, random.Random(7))
    for _ in range(100):
        fleet.send(b"", lambda answer: None)
    assert len(set(sent)) == len(overload.LATENCIES_MS)


def test_what_is_usual_in_an_overload_is_the_p99_of_everybody_at_half_load() -> None:
    normal, high = Arrivals(latencies_s=[0.05] * 97), Arrivals(latencies_s=[0.05, 0.06, 0.07])
    assert overload.usual_ms(overload.Stretch(normal, high, 1.0)) == pytest.approx(60)


def test_the_two_sides_of_a_switch_differ_by_their_region_alone(tmp_path: Path) -> None:
    setting = switch.setting(tmp_path, 2, [1234, 1235])
    config = load(tmp_path, setting)
    assert list(config["targets"]) == list(switch.SIDES)
    assert config["targets"]["upstream"]["tags"] == {"region": "eu"}
    assert config["targets"]["second"] == {
        "extends": "upstream",
        "base_url": "http://127.0.0.1:1235/v1",
        "tags": {"region": "us"},
    }
    assert config["store"] == {"redis": f"file:{tmp_path}/redis.url"}
    assert config["server"]["state_dir"].endswith("state-switch-2")


def done(number: int, returned_s: float, until_s: float) -> switch.Done:
    return switch.Done(switch.VERBS[number], returned_s - 0.01, returned_s, f"operator-{number}", until_s)


def test_a_switch_is_followed_when_the_last_call_has_come_to_the_side_that_is_left() -> None:
    sides = ([9.0, 9.995, 10.1, 10.25, 13.0], [10.05, 10.3, 12.1])
    assert switch.followed_s(done(0, 10.0, 12.0), sides) == pytest.approx(0.25)
    assert switch.followed_s(done(1, 12.0, 14.0), sides) == pytest.approx(0.1)
    assert switch.followed_s(done(2, 12.0, 12.5), sides) == 0.0
    with pytest.raises(BenchFailure, match="no request went to the other side after switch --to"):
        switch.followed_s(done(0, 20.0, 22.0), sides)


def test_of_several_rounds_the_slowest_counts() -> None:
    seen = switch.Seen(Arrivals(), 1.0, [done(0, 10.0, 12.0), done(0, 12.0, 14.0)], Counter())
    sides = ([10.2, 12.4], [11.0, 13.0])
    took_s = switch.slowest(seen, sides)
    assert took_s == {"switch --to": pytest.approx(0.4)}
    assert "followed after switch --to 400 ms; none lost" in switch.told(seen, took_s)


def test_an_audit_must_name_each_verb_once_and_nothing_else() -> None:
    verbs = [done(0, 10.0, 12.0), done(1, 12.0, 14.0)]
    whole = [{"actor": "operator-0", "action": "switch"}, {"actor": "operator-1", "action": "undo"}]
    seen = switch.Seen(Arrivals(), 1.0, verbs, Counter({23: 5, 22: 1}), [whole, whole])
    assert (seen.missing, seen.short_streams, seen.lost) == (0, 1, 0)
    seen.audits = [whole[:1], [*whole, whole[0]]]
    assert seen.missing == 2


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (Answer(status=200, complete=True, finished=True, events=23), ""),
        (Answer(status=200, complete=True, finished=False, events=4), "stream without its end, 4 events"),
        (Answer(status=200, complete=False, fault="connection lost"), "connection lost"),
        (Answer(status=503, complete=True), ""),
    ],
)
def test_a_stream_without_its_end_is_lost(monkeypatch: pytest.MonkeyPatch, answer: Answer, fault: str) -> None:
    ports: list[Fleet] = []

    def send(self: Fleet, request: bytes, sink: Sink) -> None:
        ports.append(self)
        sink(answer)

    monkeypatch.setattr(Fleet, "send", send)
    monkeypatch.setattr(switch, "STREAM_SHARE", 1.0)
    spread = switch.Spread([1, 2, 3], random.Random(7))
    got: list[Answer] = []
    for _ in range(6):
        spread.send(b"", got.append)
    assert {each.fault for each in got} == {fault}
    assert got[0].ok == (answer.status == 200 and not fault)
    assert spread.streams.total() == (6 if got[0].ok else 0)
    assert Counter(map(id, ports)).most_common(1)[0][1] == 2


def test_memory_is_compared_between_the_second_and_the_last_fifth() -> None:
    samples = [(0, 50), (10, 80), (25, 100), (35, 100), (60, 300), (85, 104), (100, 106)]
    assert round(soak.growth(samples, 100), 3) == 0.05


def test_a_soak_of_few_samples_compares_first_and_last() -> None:
    assert soak.growth([(0, 100), (100, 150)], 100) == 0.5


def test_each_stream_of_a_storm_is_counted_once() -> None:
    seen = storm.Storm()
    for half_sent, ended, answer in [
        (True, False, Answer()),
        (False, False, Answer()),
        (False, False, Answer(status=200)),
        (False, True, Answer(status=200, complete=True)),
        (False, True, Answer(status=503, complete=True)),
        (False, True, Answer(status=200, complete=False)),
    ]:
        storm.count_visit(seen, half_sent=half_sent, ended=ended, answer=answer)
    assert (seen.left_before_sent, seen.left_before_answer, seen.left_in_stream) == (1, 1, 1)
    assert (seen.ended, seen.refused, seen.cancelled) == (1, 2, 3)
