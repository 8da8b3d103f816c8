"""What is read from a request's head."""

import random
import re

import pytest

from gateway.core.errors import Headers, InvalidRequest, LoopDetected
from gateway.edge import inbound
from gateway.edge.inbound import HostGate, host_gate
from tests.fakes import exchange

HOST = (b"host", b"127.0.0.1")


def test_headers_are_found_by_name_and_the_last_of_each() -> None:
    assert inbound.pick([HOST, (b"x-gateway-tags", b"a=1")]) == {b"host": b"127.0.0.1", b"x-gateway-tags": b"a=1"}
    found = inbound.pick([HOST, (b"x-gateway-tags", b"a=1"), (b"x-gateway-tags", b"a=2")])
    assert found == {b"host": b"127.0.0.1", b"x-gateway-tags": b"a=2"}


@pytest.mark.parametrize(
    "name", [b"host", b"authorization", b"x-api-key", b"api-key", b"content-type", b"content-length"]
)
def test_a_header_that_decides_may_come_once_only(name: bytes) -> None:
    """F87, F88."""
    headers: Headers = [HOST, (b"accept", b"*/*"), (name, b"1"), (name, b"1")]
    with pytest.raises(InvalidRequest, match=f"The header {name.decode()} was sent more than once"):
        inbound.require_sound(inbound.pick(headers))


def test_other_headers_may_come_often() -> None:
    headers: Headers = [HOST, (b"accept", b"a"), (b"accept", b"b"), (b"authorization", b"x")]
    inbound.require_sound(inbound.pick(headers))
    assert inbound.pick(headers)[b"authorization"] == b"x"


def test_two_traceparents_are_none_and_tracestates_make_a_list() -> None:
    """F128: W3C Trace Context, 2.2 and 3.3."""
    headers: Headers = [
        (b"traceparent", b"a"),
        (b"traceparent", b"b"),
        (b"tracestate", b"x=1"),
        (b"tracestate", b"y=2"),
    ]
    assert inbound.pick([HOST, *headers]) == {b"host": b"127.0.0.1", b"traceparent": b"", b"tracestate": b"x=1,y=2"}


def test_a_head_without_host_is_refused() -> None:
    """F95."""
    with pytest.raises(InvalidRequest, match="no Host"):
        inbound.require_sound({})


@pytest.mark.parametrize("value", [b"gateway.example", b"a:8080", b"[::1]:80", b"10.0.0.1", b"A_b"])
def test_any_well_formed_host_is_served_where_keys_are_asked_for(value: bytes) -> None:
    gate = host_gate([], is_open=False)
    for _ in range(2):
        gate.require(value)
    with pytest.raises(InvalidRequest, match="malformed"):
        gate.require(value + b"/")


@pytest.mark.parametrize("value", [b"", b"a b", b"a/b", b"a@b", b"a:b", b"a:123456", b"[::1", b"\xff", b"a\x00"])
def test_a_malformed_host_is_refused(value: bytes) -> None:
    """F96."""
    with pytest.raises(InvalidRequest, match="malformed"):
        HostGate(None).require(value)


@pytest.mark.parametrize("value", [b"localhost", b"LOCALHOST:8080", b"127.0.0.1:1", b"[::1]:8080"])
def test_an_open_gateway_serves_loopback_names(value: bytes) -> None:
    gate = host_gate([], is_open=True)
    for _ in range(2):
        gate.require(value)
    with pytest.raises(InvalidRequest, match="not served"):
        gate.require(b"www.example")


@pytest.mark.parametrize("value", [b"evil.example", b"127.0.0.1.evil.example", b"localhost.", b"0.0.0.0"])
def test_an_open_gateway_serves_no_other_name(value: bytes) -> None:
    """F101: a name that was re-bound to loopback must not drive it."""
    with pytest.raises(InvalidRequest) as caught:
        host_gate([], is_open=True).require(value)
    assert caught.value.code == "host_not_allowed"


def test_configured_hosts_are_served_and_loopback_with_them() -> None:
    gate = host_gate(["Gateway.example"], is_open=False)
    gate.require(b"gateway.EXAMPLE:443")
    gate.require(b"localhost")
    with pytest.raises(InvalidRequest, match=r"'other.example' is not served here"):
        gate.require(b"other.example")


def test_a_wildcard_stands_for_one_label_as_in_certificates() -> None:
    gate = host_gate(["*.example.com"], is_open=False)
    gate.require(b"eu.example.com:443")
    for other in (b"example.com", b"a.b.example.com", b"badexample.com", b"example.com.evil"):
        with pytest.raises(InvalidRequest):
            gate.require(other)


def test_remembered_hosts_are_bounded() -> None:
    gate = HostGate(None)
    for number in range(3000):
        gate.require(b"h%d" % number)
    assert all(len(value) <= 1024 for value in vars(gate).values() if isinstance(value, set))


@pytest.mark.parametrize("given", [b"a", b"A.b_c-9", b"x" * 128])
def test_a_harmless_request_id_is_kept(given: bytes) -> None:
    assert inbound.request_id({b"x-request-id": given}, random.Random(7)) == given.decode()


@pytest.mark.parametrize("given", [None, b"", b"a b", b"x" * 129, b"a\nb", b"a\n", b"\xe4", b"<script>"])
def test_any_other_request_id_is_replaced(given: bytes | None) -> None:
    """F93."""
    found = {} if given is None else {b"x-request-id": given}
    assert re.fullmatch(r"req-[0-9a-f]{24}", inbound.request_id(found, random.Random(7)))


def test_fresh_request_ids_differ() -> None:
    rng = random.Random(7)
    assert inbound.request_id({}, rng) != inbound.request_id({}, rng)


def test_a_prompt_has_a_name_and_a_version() -> None:
    asked, bare = exchange(), exchange()
    inbound.read_prompt(bare, {})
    assert bare.prompt_name is None
    inbound.read_prompt(asked, {b"x-gateway-prompt": b"team/greeting@1.2-rc"})
    assert (asked.prompt_name, asked.prompt_version) == ("team/greeting", "1.2-rc")


@pytest.mark.parametrize("given", [b"", b"a", b"a@", b"@1", b"a@b@c", b"a b@1", b"a@1\n", b"a" * 129 + b"@1"])
def test_a_prompt_that_is_no_name_at_version_is_refused(given: bytes) -> None:
    with pytest.raises(InvalidRequest, match="NAME@VERSION"):
        inbound.read_prompt(exchange(), {b"x-gateway-prompt": given})


def test_tags_are_read_and_the_keys_own_win() -> None:
    """F117."""
    fixed = {"service": "checkout"}
    assert inbound.read_tags({}, fixed) == fixed
    found = {b"x-gateway-tags": b" costCenter = 42 , service=evil,empty="}
    assert inbound.read_tags(found, fixed) == {"costCenter": "42", "service": "checkout", "empty": ""}
    assert fixed == {"service": "checkout"}


@pytest.mark.parametrize("given", [b"", b"a", b"=1", b"a=1,,b=2", b"1a=1", b"a=\x01", b"a=" + b"x" * 129])
def test_malformed_tags_are_refused(given: bytes) -> None:
    with pytest.raises(InvalidRequest, match="name=value"):
        inbound.read_tags({b"x-gateway-tags": given}, {})


def test_too_many_tags_are_refused() -> None:
    given = b",".join(b"t%d=1" % number for number in range(17))
    with pytest.raises(InvalidRequest, match="17 tags; 16 are allowed"):
        inbound.read_tags({b"x-gateway-tags": given}, {})


def test_all_missing_tags_are_named_at_once() -> None:
    inbound.require_tags({"a": "1"}, ("a",))
    with pytest.raises(InvalidRequest, match="missing: b, c") as caught:
        inbound.require_tags({"a": "1", "b": ""}, ("a", "b", "c"))
    assert (caught.value.code, caught.value.param) == ("missing_tag", "b")


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(None, None), (b"500ms", 0.5), (b"20s", 20.0), (b" 1.5m ", 90.0), (b"2h", 7200.0)],
)
def test_a_clients_timeout_has_a_unit(given: bytes | None, seconds: float | None) -> None:
    found = {} if given is None else {b"x-gateway-timeout": given}
    assert inbound.read_timeout(found) == pytest.approx(seconds)


@pytest.mark.parametrize("given", [b"", b"20", b"0s", b"0.0ms", b"-1s", b"nan s", b"1e9s", b"1d", b"infs", b"1s\n1s"])
def test_a_timeout_without_unit_or_of_zero_is_refused(given: bytes) -> None:
    with pytest.raises(InvalidRequest, match="duration"):
        inbound.read_timeout({b"x-gateway-timeout": given})


@pytest.mark.parametrize(("given", "hops"), [(None, 0), (b"0", 0), (b"3", 3), (b"-1", 0), (b"x", 0), (b"99999", 0)])
def test_hops_are_counted(given: bytes | None, hops: int) -> None:
    assert inbound.read_hops({} if given is None else {b"x-gateway-hops": given}) == hops


@pytest.mark.parametrize("given", [b"4", b"9999"])
def test_a_loop_of_gateways_is_stopped(given: bytes) -> None:
    """F45."""
    with pytest.raises(LoopDetected, match="base_url points back"):
        inbound.read_hops({b"x-gateway-hops": given})


@pytest.mark.parametrize(
    ("content_type", "answer"),
    [
        (b"application/json", True),
        (b"Application/JSON ; charset=utf-8", True),
        (b"text/plain", False),
        (b"application/json-patch", False),
        (b"application/x-www-form-urlencoded", False),
        (b"", False),
        (None, False),
    ],
)
def test_json_is_known_by_its_type(content_type: bytes | None, answer: bool) -> None:
    assert inbound.is_json(content_type) is answer
