"""The applied configuration for people."""

import json

from gateway.config import describe
from gateway.config.load import Loaded, Sources, load

TEXT = """\
apiVersion: gateway/v1
server: {admin_token: env:TOKEN, drain: 90s}
keys:
  - {id: a, hash: "sha256:abcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcd", expires: 2027-01-31}
targets:
  one: {provider: openai, base_url: https://h/v1, api_key: env:ONE, headers: {x-token: env:TOKEN}}
  two: {provider: mock, tags: {region: eu}}
routes:
  - {model: demo, split: {one: 1, two: 3}}
  - {model: off, target: one}
"""


def loaded(text: str = TEXT) -> Loaded:
    """The configuration above, with one of its secrets set."""
    return load(Sources.of_text(text, {"TOKEN": "canary"}))


def test_the_snapshot_has_the_words_and_units_of_the_file_and_no_secret() -> None:
    """F77, F114."""
    shown = describe.snapshot(loaded())
    text = json.dumps(shown)
    assert "canary" not in text
    assert "abcdabcd" not in text
    config = shown["config"]
    assert config["apiVersion"] == "gateway/v1"
    assert config["server"]["admin_token"] == "env:TOKEN"
    assert (config["server"]["drain"], config["server"]["max_body"]) == ("90s", "32MiB")
    assert config["keys"][0]["hash"] == "sha256:***"
    assert config["keys"][0]["expires"] == "2027-02-01T00:00:00Z"
    assert config["targets"]["one"]["headers"] == {"x-token": "env:TOKEN"}
    assert shown["revision"] == loaded().revision
    assert shown["files"] == ["gateway.yaml"]
    assert shown["warnings"] == [
        "gateway.yaml:6:60: warning: env:ONE is not set: target `one` stays out of service (set it)"
    ]


def test_an_open_gateway_says_so() -> None:
    assert describe.snapshot(loaded("apiVersion: gateway/v1\n"))["config"]["keys"] == "open"


def test_routes_are_shown_with_their_shares() -> None:
    shown = [
        {key: route[key] for key in ("model", "split", "shares", "in_service")}
        for route in describe.routes(loaded().config)
    ]
    assert shown == [
        {
            "model": "demo",
            "split": {"one": 1.0, "two": 3.0},
            "shares": {"one": 0.25, "two": 0.75},
            "in_service": True,
        },
        {"model": "off", "split": {"one": 1.0}, "shares": {"one": 1.0}, "in_service": False},
    ]


def test_targets_are_shown_with_the_reason_for_being_out_of_service() -> None:
    one, two = describe.targets(loaded().config)
    assert (one["name"], one["api_key"], one["in_service"], one["reason"]) == (
        "one",
        "env:ONE",
        False,
        "ONE is not set",
    )
    assert (two["name"], two["api_key"], two["in_service"], two["tags"]) == ("two", None, True, {"region": "eu"})


RULES = """\
apiVersion: gateway/v1
store: {redis: env:REDIS_URL}
webhooks: [{url: https://hooks.example.com/canary}, {url: env:HOOK}]
targets:
  a: {provider: mock, price: {input: $2, request: $0.001}, max_inflight: 5, breaker: off}
  b: {provider: mock}
routes:
  - {model: demo, pool: [a, b], balance: cheapest, retry: {}, fallback: [b], hedge: {after: 1s}, sticky: [header:X-A]}
limits:
  - {name: all, requests: 1.5M/h, budget: "$1,000/month", alert_at: [50%], match: {route: demo}}
"""


def rules() -> Loaded:
    """A configuration of limits and resilience."""
    return load(Sources.of_text(RULES, {"REDIS_URL": "redis://:canary@h", "HOOK": "https://h/canary"}))


def test_limits_and_their_store_are_shown_in_the_words_of_the_file() -> None:
    """F114: neither the Redis' password nor a webhook's path."""
    shown = describe.snapshot(rules())
    assert "canary" not in json.dumps(shown)
    config = shown["config"]
    assert config["store"] == {"redis": "env:REDIS_URL", "timeout": "50ms", "prefix": "gw"}
    assert [webhook["url"] for webhook in config["webhooks"]] == ["https://hooks.example.com/***", "env:HOOK"]
    limit = config["limits"][0]
    assert (limit["requests"], limit["budget"], limit["alert_at"]) == ("1500k/h", "$1,000.00/month", ["50%"])
    assert config["targets"]["a"]["breaker"] == "off"
    assert describe.snapshot(loaded())["config"]["store"] == "memory"


def test_routes_are_shown_with_what_is_tried_when_a_target_fails() -> None:
    route = describe.routes(rules().config)[0]
    assert (route["shares"], route["balance"], route["sticky"]) == ({"a": 0.5, "b": 0.5}, "cheapest", ["header:x-a"])
    assert route["retry"]["budget"] == "20%"
    assert route["hedge"] == {"after": "1s", "max": "10%"}
    assert [fallback["to"] for fallback in route["fallback"]] == ["b"]


def test_targets_are_shown_with_their_bounds_and_price() -> None:
    one, two = describe.targets(rules().config)
    assert (one["price"]["input"], one["price"]["output"], one["price"]["request"]) == ("$2.00", None, "$0.001")
    assert (one["max_inflight"], one["queue"], one["breaker"]) == (5, {"size": 100, "wait": "1s"}, "off")
    assert (two["price"], two["breaker"]["open_for"], two["timeouts"]["connect"]) == (None, "30s", "5s")
