"""Complaints of the schema, in our words."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.config.document import Value, parse
from gateway.config.load import ConfigError, Sources, load
from gateway.config.merge import merge
from gateway.config.unknown import SECTIONS, keys_of
from gateway.config.validate import validate

KEYS = sorted({key for section in SECTIONS.values() for key in keys_of(section)} | {"open", "limits", "x-token", "a"})
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(
        [
            *KEYS,
            *("", "30s", "1MiB", "5%", "mock", "openai", "azure", "anthropic", "https://h/v1", "env:A", "*"),
            *("600/min", "$5/day", "$2.00", "memory", "off", "tag.a", "429", "header:a", "high", "p95"),
        ]
    ),
    st.text(max_size=5),
)
VALUES: st.SearchStrategy[Value] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple), st.dictionaries(st.sampled_from(KEYS), inner, max_size=6)
    ),
    max_leaves=20,
)


def yaml_of(value: Value) -> str:
    """The value as YAML in flow style."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {yaml_of(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(yaml_of, value)) + "]"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return "null" if value is None else str(value).lower()


def complaints(text: str) -> list[str]:
    """What the schema says of a text."""
    merged = merge([parse("a.yaml", text.encode())])
    assert (validate(merged) is None) == bool(merged.faults)
    return [str(fault) for fault in merged.faults]


@given(st.dictionaries(st.sampled_from(keys_of(SECTIONS[()])), VALUES))
def test_whatever_a_file_holds_gives_faults_and_no_crash(values: dict[str, Value]) -> None:
    """F76: a reload must survive any file."""
    text = "".join(f"{key}: {yaml_of(value)}\n" for key, value in values.items())
    try:
        loaded = load(Sources.of_text(text))
    except ConfigError as reason:
        assert any(fault.severity == "error" for fault in reason.faults)
        assert all(fault.line > 0 for fault in reason.faults)
    else:
        assert loaded.revision


def shaped(position: tuple[str, ...]) -> st.SearchStrategy[Value]:
    """Values in the shape of the section at `position`, with some of another shape anywhere."""
    keys: dict[str, st.SearchStrategy[Value]] = {key: SCALARS for key in keys_of(SECTIONS[position])}
    for below in SECTIONS:
        if below[: len(position)] != position or len(below) == len(position):
            continue
        if len(below) == len(position) + 1:
            keys[below[-1]] = shaped(below) | SCALARS
        elif len(below) == len(position) + 2 and below[-1] == "*":
            many = st.lists(shaped(below) | SCALARS, max_size=3).map(tuple)
            named = st.dictionaries(st.sampled_from("abm"), shaped(below), max_size=3)
            keys[below[-2]] = named if below[-2] == "targets" else many
    return st.fixed_dictionaries({}, optional=keys)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(shaped(()))
def test_whatever_stands_where_something_belongs_gives_faults_and_no_crash(values: dict[str, Value]) -> None:
    """F76."""
    text = "".join(f"{key}: {yaml_of(value)}\n" for key, value in values.items())
    try:
        loaded = load(Sources.of_text(text, {"A": "redis://h"}), lambda provider, model, base_url: model == "a")
    except ConfigError as reason:
        assert any(fault.severity == "error" for fault in reason.faults)
        assert all(fault.line > 0 for fault in reason.faults)
    else:
        assert loaded.revision


@given(st.binary(max_size=200))
def test_whatever_bytes_a_file_has_give_faults_and_no_crash(content: bytes) -> None:
    """F76."""
    try:
        loaded = load(Sources("a.yaml", {"a.yaml": content}))
    except ConfigError as reason:
        assert reason.faults
    else:
        assert loaded.revision


def test_a_sound_file_has_no_complaint() -> None:
    assert complaints("apiVersion: gateway/v1\n") == []


def test_what_was_written_is_repeated_except_where_a_secret_belongs() -> None:
    text = "apiVersion: gateway/v1\nserver: {max_inflight: many, admin_token: canary}\nenvironment: [a]\n"
    assert complaints(text) == [
        "a.yaml:3:1: `environment` must be text, not a list (put it in quotes)",
        "a.yaml:2:43: `admin_token`: a secret is not written in the file (use env:NAME or file:PATH)",
        'a.yaml:2:24: `max_inflight` must be a whole number, not "many"',
    ]


def test_items_of_a_list_are_numbered() -> None:
    assert complaints("apiVersion: gateway/v1\ninclude: [a, true, {}]\n") == [
        "a.yaml:2:14: `include[1]` must be text, not true (put it in quotes)",
        "a.yaml:2:20: `include[2]` must be text, not a mapping (put it in quotes)",
    ]


def test_a_target_that_extends_nothing_is_not_asked_for_what_it_would_have_got() -> None:
    assert complaints("apiVersion: gateway/v1\ntargets: {a: {extends: b}}\n") == [
        "a.yaml:2:24: there is no target `b` (name a target that exists)"
    ]
