"""Included files and inherited targets."""

from gateway.config.document import Path, parse
from gateway.config.faults import Place
from gateway.config.merge import Merged, merge


def merged(*texts: str) -> Merged:
    """The texts as the files `0.yaml`, `1.yaml`, ..., merged."""
    return merge([parse(f"{number}.yaml", text.encode()) for number, text in enumerate(texts)])


def faults(*texts: str) -> list[str]:
    """What merging finds wrong."""
    return [str(fault) for fault in merged(*texts).faults]


def test_keys_targets_and_routes_of_included_files_are_added() -> None:
    found = merged(
        "targets: {a: {provider: mock}}\nroutes: [{model: a}]\n",
        "apiVersion: gateway/v1\ntargets: {b: {provider: mock}}\nkeys: [{id: k}]\nroutes: [{model: b}]\n",
    )
    assert found.faults == []
    assert found.values["targets"] == {"a": {"provider": "mock"}, "b": {"provider": "mock"}}
    assert found.values["routes"] == ({"model": "a"}, {"model": "b"})
    assert found.values["keys"] == ({"id": "k"},)
    assert found.place(("routes", 1, "model")) == Place("1.yaml", 4, 18)
    assert found.key_place(("targets", "b")) == Place("1.yaml", 2, 11)


def test_an_included_file_holds_nothing_else() -> None:
    assert faults("", "server: {drain: 1s}\nlimits: []\nrotes: []\nprompts: {}\napiVersion: gateway/v2\n") == [
        "1.yaml:1:1: `server` in an included file (only keys, targets and routes may be here)",
        "1.yaml:2:1: `limits` in an included file (only keys, targets and routes may be here)",
        "1.yaml:3:1: `rotes` in an included file (only keys, targets and routes may be here)",
        "1.yaml:4:1: `prompts` is not yet known to this version (remove it for now)",
        "1.yaml:5:13: `apiVersion` must be gateway/v1",
    ]


def test_a_target_is_defined_once_over_all_files() -> None:
    assert faults("targets: {a: {}}\n", "targets: {a: {}}\n") == [
        "1.yaml:1:11: target `a` is given twice (first at 0.yaml:1; keep one)"
    ]


def test_open_does_not_mix_with_listed_keys() -> None:
    expected = ["1.yaml:1:1: `keys: open` and listed keys exclude each other (remove `open`, or remove the keys)"]
    assert faults("keys: open\n", "keys: [{id: a}]\n") == expected
    assert faults("keys: [{id: a}]\n", "keys: open\n") == expected


def test_sections_of_the_wrong_shape_are_reported_where_they_stand() -> None:
    assert faults("routes: {}\ntargets: []\n", "targets: 5\nroutes: 5\n") == [
        "1.yaml:1:1: `targets` must be a mapping (write NAME: {provider: ...})",
        "1.yaml:2:1: `routes` must be a list (begin each item with a dash)",
    ]


def test_a_target_gets_what_it_extends() -> None:
    text = """\
targets:
  a: {provider: openai, base_url: u, timeouts: {connect: 1s, idle: 2s}, tags: {x: "1"}}
  b: {extends: a, model: m, timeouts: {idle: 3s}}
  c: {extends: b, tags: {y: "2"}, base_url: v}
"""
    assert merged(text).section("targets", "c") == {
        "extends": "b",
        "provider": "openai",
        "base_url": "v",
        "model": "m",
        "timeouts": {"connect": "1s", "idle": "3s"},
        "tags": {"x": "1", "y": "2"},
    }


def test_the_order_of_targets_is_kept_and_does_not_matter() -> None:
    found = merged("targets: {b: {extends: a}, a: {provider: mock}}\n")
    assert list(found.section("targets")) == ["b", "a"]
    assert found.section("targets", "b")["provider"] == "mock"


def test_what_is_inherited_stands_at_the_parent() -> None:
    found = merged("targets:\n  a: {timeouts: {connect: 5}}\n  b: {extends: a}\n  c: {extends: b}\n")
    assert found.place(("targets", "c", "timeouts", "connect")) == Place("0.yaml", 2, 27)
    assert found.key_place(("targets", "c", "timeouts")) == Place("0.yaml", 2, 7)


def test_a_parent_that_does_not_exist_leaves_an_orphan() -> None:
    found = merged("targets:\n  a: {extends: stabel}\n  stable: {}\n  c: {extends: a}\n")
    assert [str(fault) for fault in found.faults] == [
        "0.yaml:2:16: there is no target `stabel` (did you mean `stable`?)"
    ]
    assert found.is_orphan("a")
    assert found.is_orphan("c")
    assert not found.is_orphan("stable")


def test_a_circle_is_reported_once_whichever_target_comes_first() -> None:
    text = "targets:\n  a: {extends: b}\n  b: {extends: c}\n  c: {extends: a}\n  d: {extends: c}\n"
    assert faults(text) == ["0.yaml:4:16: `extends` goes in a circle: a -> b -> c -> a (remove one of them)"]
    assert merged(text).is_orphan("d")


def test_a_chain_beyond_any_use_is_refused() -> None:
    lines = "".join(f"  t{number}: {{extends: t{number + 1}}}\n" for number in range(5000))
    found = faults(f"targets:\n{lines}  t5000: {{}}\n")
    assert found
    assert "goes over more than 32 targets" in found[0]


def test_a_place_that_is_unknown_is_that_of_what_contains_it() -> None:
    found = merged("a:\n  b: {c: 1}\n")
    assert found.place(("a", "b", "x", "y")) == Place("0.yaml", 2, 3)
    assert found.place(("nothing",)) == Place("0.yaml", 1, 1)


def test_a_section_that_is_no_mapping_reads_as_an_empty_one() -> None:
    found = merged("a: [5, {b: 1}]\n")
    assert found.section("a", 1) == {"b": 1}
    assert found.section("a", 0) == {}
    assert found.section("a") == {}
    assert found.section("x", "y") == {}


def test_items_of_a_list_come_with_their_paths() -> None:
    found = merged("routes: [{tiers: [{to: a}, 5]}, x, {model: b}]\n")
    assert [path for path, _ in found.items("routes")] == [("routes", 0), ("routes", 2)]
    assert list(found.items("routes", 0, "tiers")) == [(("routes", 0, "tiers", 0), {"to": "a"})]
    assert list(found.items("nothing")) == list(found.items("routes", 2, "model")) == []


def test_what_is_given_twice_is_reported_with_its_first_place() -> None:
    found, seen = merged("limits:\n  - {name: a}\n  - {name: a}\n"), dict[str, Path]()
    for path, limit in found.items("limits"):
        found.once(seen, str(limit["name"]), (*path, "name"), "limit `a` is given twice")
    assert [str(fault) for fault in found.faults] == [
        "0.yaml:3:12: limit `a` is given twice (first at 0.yaml:2; keep one)"
    ]
