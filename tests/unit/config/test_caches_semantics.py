"""What is doubtful about caches as a whole."""

from gateway.config.caches_semantics import check_caches
from gateway.config.document import parse
from gateway.config.merge import merge

KEYS = "keys: [{id: a, tags: {team: x}}, {id: b}]\n"


def found(text: str) -> list[str]:
    """The faults of a file's caches, without their places."""
    merged = merge([parse("f", text.encode())])
    check_caches(merged)
    return [str(fault).partition(": ")[2] for fault in merged.faults]


def routes(*caches: str) -> str:
    """Routes with these caches."""
    return "routes:\n" + "".join(f"  - {{model: m{number}, cache: {each}}}\n" for number, each in enumerate(caches))


def test_a_usual_cache_is_sound() -> None:
    assert found(routes("{exact: 1h}")) == []
    assert found(KEYS + routes("{exact: 1h, share: team}") + "cache: {max_bytes: 2MiB, persist: true}\n") == []


def test_replies_that_nobody_could_share_are_doubtful() -> None:
    """F116: by the tags of keys alone, for those of a request's header prove nothing."""
    assert found(KEYS + routes("{exact: 1h, share: tenant}", "{exact: 1h, share: team}")) == [
        "warning: no key has the tag `tenant`: every key has its own replies, as with `share: key`"
        " (add tenant to the `tags` of keys)"
    ]
    assert found("keys: [{id: a, tags: {taem: x}}]\n" + routes("{exact: 1h, share: team}")) == [
        "warning: no key has the tag `team`: every key has its own replies, as with `share: key` (did you mean `taem`?)"
    ]
    assert len(found("keys: open\n" + routes("{exact: 1h, share: team}"))) == 1


def test_a_reply_has_to_fit_into_the_room() -> None:
    advice = "(write a smaller `max_entry`, or more room)"
    assert found("cache: {max_bytes: 1MiB}\n" + routes("{exact: 1h}")) == [
        f"a reply of 1MiB does not fit into `cache.max_bytes`, 1MiB {advice}"
    ]
    assert found(routes("{exact: 1h, max_entry: 64MiB}")) == [
        f"a reply of 64MiB does not fit into `cache.max_bytes`, 64MiB {advice}"
    ]


def test_room_that_nobody_uses_is_doubtful() -> None:
    assert found("cache: {max_bytes: 2MiB}\nroutes: [{model: m}]\n") == [
        "warning: no route has a cache: this room stays empty (add cache: {exact: 1h} to a route)"
    ]


def test_a_redis_needs_no_file() -> None:
    text = "store: {redis: env:URL}\ncache: {persist: true}\n" + routes("{exact: 1h}")
    assert found(text) == ["warning: `persist` means nothing with a Redis, which keeps the replies itself (remove it)"]


def test_broken_parts_do_not_stop_the_check() -> None:
    assert found("cache: 5\nkeys: 5\nroutes: [5, {cache: 5}, {cache: {share: 7, max_entry: x}}]\n") == []
