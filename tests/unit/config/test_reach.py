"""Which targets a route may send to."""

from gateway.config.document import Value, parse
from gateway.config.reach import named_targets, own_targets


def route(text: str) -> dict[str, Value]:
    """The route that a text is."""
    return parse("f", text.encode()).values


def test_every_place_that_names_a_target_is_found() -> None:
    text = """\
split: {a: 1, b: 0}
fallback: [c, {to: d}, {when: [429]}, 5]
tiers: [{to: e}, f]
shadow: {target: g}
"""
    assert [(named.path, named.target) for named in named_targets(route(text))] == [
        (("split", "a"), "a"),
        (("split", "b"), "b"),
        (("fallback", 0), "c"),
        (("fallback", 1, "to"), "d"),
        (("tiers", 0, "to"), "e"),
        (("shadow", "target"), "g"),
    ]


def test_a_route_chooses_among_those_that_have_weight() -> None:
    assert own_targets(route("split: {a: 1, b: 0, c: x}")) == ["a", "c"]
    assert own_targets(route("pool: [a, b, a, 5]")) == ["a", "b"]
    assert own_targets(route("target: a\nfallback: [b]")) == ["a"]
    assert own_targets(route("model: m")) == []
