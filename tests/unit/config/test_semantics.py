"""Faults that take more than one setting to see."""

import pytest

from gateway.config.document import parse
from gateway.config.merge import merge
from gateway.config.secret import Reference
from gateway.config.semantics import check

BASE = "targets: {a: {provider: mock}, b: {provider: mock}}\nroutes: [{model: demo, target: a}]\n"


def found(text: str) -> list[str]:
    """What the check says of a text, without its places."""
    merged = merge([parse("f", text.encode())])
    check(merged)
    return [str(fault).split(": ", 1)[1] for fault in merged.faults]


def test_a_sound_file_has_no_fault() -> None:
    assert found(BASE) == []


@pytest.mark.parametrize("address", ["0.0.0.0:8080", "'[::]:8080'", "10.0.0.1:8080"])
def test_a_gateway_without_keys_listens_on_loopback_only(address: str) -> None:
    advice = "(list `keys`, or listen on 127.0.0.1)"
    message = f"without keys anybody who reaches {address.strip(chr(39))} may call {advice}"
    assert found(BASE + f"server: {{listen: {address}}}\n") == [message]
    assert found(BASE + f"server: {{listen: {address}}}\nkeys: open\n") == [message]
    assert found(BASE + f"server: {{listen: {address}}}\nkeys: [{{id: a}}]\n") == []


def test_an_admin_plane_without_token_listens_on_loopback_only() -> None:
    """F121."""
    assert len(found(BASE + "server: {admin: 0.0.0.0:8081}\n")) == 1
    assert found(BASE + "server: {admin: 0.0.0.0:8081, admin_token: env:X}\n") == []
    assert found(BASE + "server: {admin: 127.0.0.2:8081}\n") == []


def test_an_admin_token_that_is_not_set_is_an_error() -> None:
    merged = merge([parse("f", (BASE + "server: {admin_token: env:X}\n").encode())])
    merged.values["server"] = {"admin_token": Reference("env:X", None)}
    check(merged)
    assert [fault.severity for fault in merged.faults] == ["error"]


def test_both_planes_may_take_a_free_port() -> None:
    assert found(BASE + "server: {listen: 127.0.0.1:0, admin: 127.0.0.1:0}\n") == []
    assert len(found(BASE + "server: {listen: 127.0.0.1:81, admin: 127.0.0.1:81}\n")) == 1


def test_a_default_route_is_one_of_the_routes() -> None:
    assert found(BASE + "server: {default_route: demo}\n") == []
    assert found(BASE + "server: {default_route: dmo}\n") == ["there is no route `dmo` (did you mean `demo`?)"]


def test_an_empty_list_of_keys_is_doubtful() -> None:
    assert found(BASE + "keys: []\n") == ["warning: the list of keys is empty: nobody may call (add a key)"]


def test_broken_parts_do_not_stop_the_check() -> None:
    assert found("server: 5\nkeys: 5\ntargets: 5\nroutes: [5, {model: [a], target: [b], split: 7}]\n") == [
        "`target` and `split` exclude each other (keep one)"
    ]
    assert found(BASE + "store: 5\nwebhooks: [5, {headers: 5}]\nlimits: 5\non_store_failure: 5\n") == []


def test_a_redis_that_is_not_set_is_an_error() -> None:
    """A gateway with limits does not run silently without its store."""
    merged = merge([parse("f", (BASE + "store: {redis: env:X}\n").encode())])
    merged.values["store"] = {"redis": Reference("env:X", None)}
    check(merged)
    assert [(fault.severity, fault.message) for fault in merged.faults] == [
        ("error", "env:X is not set: limits would count nothing")
    ]


def test_a_store_is_memory_or_has_a_redis() -> None:
    assert found(BASE + "store: memory\n") == []
    assert found(BASE + "store: {prefix: a}\n") == [
        "`redis` is missing (write redis: env:REDIS_URL, or `store: memory`)"
    ]


def test_a_webhook_that_is_not_set_is_doubtful() -> None:
    merged = merge([parse("f", (BASE + "webhooks: [{url: env:X, headers: {x-a: env:Y}}]\n").encode())])
    merged.values["webhooks"] = ({"url": Reference("env:X", None), "headers": {"x-a": Reference("env:Y", None)}},)
    check(merged)
    assert [(fault.severity, fault.message) for fault in merged.faults] == [
        ("warning", "env:X is not set: this webhook is told nothing"),
        ("warning", "env:Y is not set: this webhook is told nothing"),
    ]
