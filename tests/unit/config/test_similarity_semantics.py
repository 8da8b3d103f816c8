"""What is wrong or doubtful about look-ups by similarity."""

import pytest

from gateway.config.document import parse
from gateway.config.merge import merge
from gateway.config.similarity_semantics import check_embedder, check_semantic

BASE = """\
targets: {mock: {provider: mock}, nameless: {provider: openai}, claude: {provider: anthropic}}
routes: [{model: demo, target: mock}]
"""
LONG_ANSWERS = (
    "warning: without a `judge` only short answers can be compared: with long ones nothing is ever given"
    " (add judge: {model: NAME}, if answers are long)"
)
UNBOUNDED = (
    "warning: nothing bounds the share of wrong replies in mode static"
    " (use mode: verified with max_wrong: 1%, if one has to)"
)


def found(semantic: str) -> list[str]:
    """The faults of a route's section, without their places."""
    merged = merge([parse("f", (BASE + f"s: {semantic}\n").encode())])
    check_semantic(merged, ("s",), merged.values["s"])
    return [str(fault).partition(": ")[2] for fault in merged.faults]


def found_of_cache(cache: str) -> list[str]:
    """The faults of the room's embedder."""
    merged = merge([parse("f", (BASE + f"cache: {cache}\n").encode())])
    check_embedder(merged)
    return [str(fault).partition(": ")[2] for fault in merged.faults]


@pytest.mark.parametrize(
    "semantic",
    [
        "{max_wrong: 1%, judge: {model: mock}}",
        "{mode: shadow, judge: {model: demo, calls_per_hour: 5}, ttl: 1h}",
        "{mode: verified, max_wrong: 1%, judge: {model: mock}}",
        "{mode: off}",
    ],
)
def test_usual_settings_are_sound(semantic: str) -> None:
    assert found(semantic) == []


@pytest.mark.parametrize("semantic", ["{}", "{ttl: 1h}", "{max_wrong: null}", "{mode: null, judge: null}"])
def test_a_section_without_a_mode_does_nothing(semantic: str) -> None:
    advice = "(add mode: shadow, or max_wrong: 1%)"
    assert found(semantic) == [f"warning: `semantic` does nothing without a `mode` {advice}"]


@pytest.mark.parametrize("mode", ["verified", "shadow"])
def test_without_a_judge_long_answers_teach_nothing(mode: str) -> None:
    assert found(f"{{mode: {mode}}}") == [LONG_ANSWERS]
    assert found("{max_wrong: 1%}") == [LONG_ANSWERS]


def test_static_is_not_bounded() -> None:
    assert found("{mode: static, threshold: 0.95}") == [UNBOUNDED]


@pytest.mark.parametrize("name", ["max_wrong: 1%", "judge: {model: mock}"])
@pytest.mark.parametrize("mode", ["static", "off"])
def test_what_only_learning_modes_need_means_nothing_elsewhere(name: str, mode: str) -> None:
    first = name.partition(":")[0]
    message = f"warning: `{first}` means nothing in mode {mode} (remove it, or use mode: verified)"
    assert message in found(f"{{mode: {mode}, {name}}}")


@pytest.mark.parametrize(
    ("mode", "named"), [("mode: shadow", "shadow"), ("max_wrong: 1%", "verified"), ("mode: off", "off")]
)
def test_a_threshold_is_for_static(mode: str, named: str) -> None:
    message = f"warning: `threshold` means nothing in mode {named} (remove it, or use mode: static)"
    assert message in found(f"{{{mode}, threshold: 0.9}}")


def test_a_judge_has_to_exist() -> None:
    assert found("{max_wrong: 1%, judge: {model: moc}}") == [
        "there is no target and no route `moc` (did you mean `mock`?)"
    ]
    assert found("{max_wrong: 1%, judge: {model: xyz}}") == [
        "there is no target and no route `xyz` (name a target, or a route)"
    ]


@pytest.mark.parametrize(
    "semantic", ["5", "[]", "text", "{mode: 5}", "{mode: [a]}", "{mode: {a: b}}", "{max_wrong: [1], judge: 5}"]
)
def test_broken_parts_do_not_stop_the_check(semantic: str) -> None:
    assert all("there is no" not in each for each in found(semantic))


def test_a_judge_whose_model_is_no_text_is_somebody_elses_fault() -> None:
    assert found("{max_wrong: 1%, judge: {model: 5}}") == []


@pytest.mark.parametrize(
    "cache", ["{}", "{embedder: minilm, model_dir: /m}", "{embedder: 'target:mock'}", "{embedder: 5}"]
)
def test_an_embedder_that_exists_is_sound(cache: str) -> None:
    assert found_of_cache(cache) == []


def test_a_target_that_embeds_has_to_exist_and_to_embed() -> None:
    assert found_of_cache("{embedder: 'target:moc'}") == ["there is no target `moc` (did you mean `mock`?)"]
    assert found_of_cache("{embedder: 'target:xyz'}") == ["there is no target `xyz` (define it in `targets`)"]
    assert found_of_cache("{embedder: 'target:claude'}") == ["`claude` has no embeddings (name a target that has)"]


def test_a_target_needs_no_folder() -> None:
    assert found_of_cache("{embedder: 'target:mock', model_dir: /m}") == [
        "warning: `model_dir` means nothing with another embedder (remove it)"
    ]


def test_a_model_that_nobody_names_is_doubtful() -> None:
    """The gateway itself asks, so no client says which."""
    doubt = (
        "warning: target `nameless` has no `model`, so its provider is asked for a model called `nameless`"
        " (add a model to target `nameless`)"
    )
    assert found("{max_wrong: 1%, judge: {model: nameless}}") == [doubt]
    assert found_of_cache("{embedder: 'target:nameless'}") == [doubt]
