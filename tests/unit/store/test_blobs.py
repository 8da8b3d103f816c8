"""Entries, and the scopes by which they are purged."""

import pytest

from gateway.store.blobs import Entry, entry_scope, key_scope, prompt_scope, purge_scope, route_scope, tag_scope

KEY = bytes(range(32))


def entry(body: bytes = b"secret answer", stored_s: float = 100.0) -> Entry:
    """An entry."""
    return Entry(
        body, b"application/json", stored_s, 60.0, "gpt", None, None, (), None, None, None, "a", "req-1", (), ()
    )


def test_an_entry_does_not_show_its_body() -> None:
    assert "secret" not in repr(entry())


def test_an_entry_takes_more_room_than_its_body() -> None:
    assert entry(b"x" * 1000).size_bytes == 1000 + entry(b"").size_bytes > 1000


def test_an_entry_of_a_machine_whose_clock_is_ahead_is_not_younger_than_new() -> None:
    assert entry().age_s(110.0) == 10.0
    assert entry().age_s(90.0) == 0.0


def test_each_name_leads_to_its_scope() -> None:
    assert purge_scope(key="checkout") == key_scope("checkout")
    assert purge_scope(tag="team=a=b") == tag_scope("team", "a=b")
    assert purge_scope(route="support-*") == route_scope("support-*")
    assert purge_scope(prompt_version="greeting@3") == prompt_scope("greeting", "3")
    assert purge_scope(entry=KEY.hex().upper()) == entry_scope(KEY)
    assert purge_scope(entry=f"{KEY.hex()}-2-9312") == entry_scope(KEY)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give exactly one of key, tag, route, prompt_version, entry"),
        ({"key": ""}, "give exactly one of key, tag, route, prompt_version, entry"),
        ({"key": "a", "route": "b"}, "give exactly one of key, tag, route, prompt_version, entry"),
        ({"tag": "team"}, "a tag is written name=value"),
        ({"tag": "=a"}, "a tag is written name=value"),
        ({"prompt_version": "greeting"}, "a prompt's version is written name@version"),
        ({"entry": "abc"}, "an entry's id is 64 hexadecimal digits"),
        ({"entry": "g" * 64}, "an entry's id is 64 hexadecimal digits"),
    ],
)
def test_a_purge_of_nothing_that_can_be_named_says_what_to_write(given: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        purge_scope(**given)
