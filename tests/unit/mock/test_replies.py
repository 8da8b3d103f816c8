"""The JSON endpoints and the fields that they must have."""

import pytest

from gateway.mock.endpoints import answer
from gateway.mock.replies import ENDPOINTS
from tests.unit.mock.raw import HI, decoded, new_world, request

MINIMAL: dict[str, dict[str, object]] = {
    "chat/completions": {"messages": HI},
    "completions": {"prompt": "hi"},
    "embeddings": {"input": "hi"},
    "responses": {"input": "hi"},
    "messages": {"messages": HI},
    "messages/count_tokens": {"messages": HI},
}


@pytest.mark.parametrize("suffix", ENDPOINTS)
def test_every_endpoint_answers_its_smallest_request(suffix: str) -> None:
    plan = answer(new_world(), request(f"/v1/{suffix}", {"model": "demo"} | MINIMAL[suffix]))
    assert plan.status == 200, plan.body
    assert plan.model == "demo"


@pytest.mark.parametrize("suffix", ENDPOINTS)
def test_every_endpoint_names_what_is_missing(suffix: str) -> None:
    """F102."""
    field = next(iter(MINIMAL[suffix]))
    for body, missing in (({"model": "demo"}, field), (MINIMAL[suffix], "model")):
        plan = answer(new_world(), request(f"/v1/{suffix}", body))
        assert plan.status == 400
        assert f"'{missing}'" in decoded(plan)["error"]["message"]


def test_tokens_are_counted() -> None:
    body = {"model": "demo", "system": "a b", "messages": HI}
    assert decoded(answer(new_world(), request("/v1/messages/count_tokens", body))) == {"input_tokens": 3}


def test_embeddings_count_their_words() -> None:
    world = new_world()
    body = {"model": "demo", "input": ["a b", "c"], "dimensions": 4}
    assert decoded(answer(world, request("/v1/embeddings", body)))["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    zero = decoded(answer(world, request("/v1/embeddings", body, x_mock="zero_usage")))
    assert zero["usage"] == {"prompt_tokens": 0, "total_tokens": 0}
    assert "usage" not in decoded(answer(world, request("/v1/embeddings", body, x_mock="nousage")))


def test_text_completions_call_no_tools() -> None:
    body = {"model": "demo", "prompt": "call f", "tools": [{"function": {"name": "f"}}], "tool_choice": "required"}
    assert decoded(answer(new_world(), request("/v1/completions", body)))["choices"][0]["text"].startswith("tok1")


def test_quality_is_drawn_for_each_call() -> None:
    world = new_world()
    body = {"model": "demo:quality=0.8", "messages": [{"role": "user", "content": "2+2? expect: four"}]}
    good = sum(b"four" in answer(world, request("/v1/chat/completions", body)).body for _ in range(500))
    assert 360 <= good <= 440


def test_models_are_listed_in_both_dialects() -> None:
    world = new_world()
    listed = decoded(answer(world, request("/v1/models", method="GET")))
    assert [row["id"] for row in listed["data"]] == ["demo", "demo-large", "demo-embedding"]
    one = decoded(answer(world, request("/v1/models/ft%3Amine", method="GET")))
    assert (one["id"], one["object"]) == ("ft:mine", "model")
    listed = decoded(answer(world, request("/v1/models", method="GET", anthropic_version="2023-06-01")))
    assert (listed["data"][0]["type"], listed["has_more"], listed["first_id"]) == ("model", False, "demo")
