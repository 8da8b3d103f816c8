"""Lists of models in both dialects."""

import json

from gateway.wire.models import model_body, models_body

CREATED_S = 1_767_323_045


def test_openai_lists_models() -> None:
    assert json.loads(models_body("openai", ["a", "b"], CREATED_S)) == {
        "object": "list",
        "data": [
            {"id": "a", "object": "model", "created": CREATED_S, "owned_by": "gateway"},
            {"id": "b", "object": "model", "created": CREATED_S, "owned_by": "gateway"},
        ],
    }


def test_anthropic_lists_models_on_one_page() -> None:
    entry = {"type": "model", "created_at": "2026-01-02T03:04:05Z"}
    assert json.loads(models_body("anthropic", ["a", "b"], CREATED_S)) == {
        "data": [{**entry, "id": "a", "display_name": "a"}, {**entry, "id": "b", "display_name": "b"}],
        "has_more": False,
        "first_id": "a",
        "last_id": "b",
    }


def test_no_models_are_an_empty_list() -> None:
    assert json.loads(models_body("openai", [], CREATED_S)) == {"object": "list", "data": []}
    assert json.loads(models_body("anthropic", [], CREATED_S)) == {
        "data": [],
        "has_more": False,
        "first_id": None,
        "last_id": None,
    }


def test_one_model_is_an_entry_of_the_list() -> None:
    assert json.loads(model_body("openai", "a", CREATED_S))["id"] == "a"
    assert json.loads(model_body("anthropic", "a/b é", CREATED_S))["display_name"] == "a/b é"
