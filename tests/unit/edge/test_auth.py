"""Who calls."""

import hashlib

import pytest

from gateway.core.errors import InvalidApiKey
from gateway.core.exchange import Consumer
from gateway.edge.auth import OPEN, Keyring, token_matches
from gateway.edge.inbound import Found
from tests.fakes import FakeClock

KEY = b"sk-gw-1"
CONSUMER = Consumer("checkout")


def _ring(consumer: Consumer = CONSUMER, clock: FakeClock | None = None) -> Keyring:
    return Keyring({hashlib.sha256(KEY).digest(): consumer}, clock or FakeClock())


@pytest.mark.parametrize(
    "found",
    [
        {b"authorization": b"Bearer sk-gw-1"},
        {b"authorization": b"bearer  sk-gw-1 "},
        {b"x-api-key": KEY},
        {b"api-key": KEY},
        {b"authorization": b"", b"x-api-key": KEY},
    ],
)
def test_a_key_is_taken_in_every_dialects_header(found: Found) -> None:
    ring = _ring()
    assert ring.identify(found) is CONSUMER
    assert ring.identify(found) is CONSUMER, "remembered"


@pytest.mark.parametrize(
    "found",
    [
        {},
        {b"authorization": b""},
        {b"authorization": b"Bearer "},
        {b"authorization": b"Bearer"},
        {b"authorization": b"Basic sk-gw-1"},
        {b"authorization": KEY},
        {b"x-api-key": b"Bearer sk-gw-1"},
        {b"authorization": b"Bearer sk-gw-2"},
        {b"authorization": b"Bearer \xff\xfe"},
        {b"x-api-key": b"a" * 8193},
        {b"authorization": b"Bearer wrong", b"x-api-key": KEY},
    ],
)
def test_everything_else_has_one_answer(found: Found) -> None:
    """F112, F113."""
    with pytest.raises(InvalidApiKey) as caught:
        _ring().identify(found)
    assert str(caught.value) == str(InvalidApiKey())


def test_a_header_is_remembered_for_its_own_name_alone() -> None:
    ring = _ring()
    ring.identify({b"x-api-key": KEY})
    with pytest.raises(InvalidApiKey):
        ring.identify({b"authorization": KEY})


def test_a_key_is_refused_from_its_expiry_on_although_it_was_accepted_before() -> None:
    """F81."""
    clock = FakeClock(wall_s=99.0)
    ring = _ring(Consumer("a", expires_at=100.0), clock)
    found = {b"x-api-key": KEY}
    assert ring.identify(found).id == "a"
    clock.advance(1.0)
    with pytest.raises(InvalidApiKey):
        ring.identify(found)


def test_guesses_are_not_remembered_and_good_headers_boundedly() -> None:
    """F127."""
    ring = _ring()
    for spaces in range(4200):
        assert ring.identify({b"authorization": b"Bearer " + b" " * spaces + KEY}) is CONSUMER
        with pytest.raises(InvalidApiKey):
            ring.identify({b"authorization": b"Bearer guess%d" % spaces})
    remembered = [value for value in vars(ring).values() if isinstance(value, dict)]
    assert all(len(value) <= 4096 for value in remembered)


def test_without_keys_anybody_may_call() -> None:
    ring = Keyring(None, FakeClock())
    assert ring.is_open
    assert ring.identify({}) is OPEN
    assert OPEN.id == "open"


def test_a_gateway_whose_keys_are_all_gone_is_not_open() -> None:
    ring = Keyring({}, FakeClock())
    assert not ring.is_open
    with pytest.raises(InvalidApiKey):
        ring.identify({b"x-api-key": KEY})


@pytest.mark.parametrize(
    ("authorization", "matches"),
    [
        (b"Bearer t-1", True),
        (b"bearer t-1", True),
        (b"Bearer t-2", False),
        (b"t-1", False),
        (b"", False),
        (None, False),
    ],
)
def test_an_admin_token_is_compared_whole(authorization: bytes | None, matches: bool) -> None:
    assert token_matches(authorization, "t-1") is matches
