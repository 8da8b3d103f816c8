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
    assert describe.routes(loaded().config) == [
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
