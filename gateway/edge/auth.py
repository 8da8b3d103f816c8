"""Who calls: a client's key against the hashes in the configuration, with one answer for every failure."""

import hashlib
import hmac
from collections.abc import Mapping

from gateway.core.clock import Clock
from gateway.core.errors import InvalidApiKey
from gateway.core.exchange import Consumer
from gateway.edge.inbound import Found

_MAX_REMEMBERED = 4096
_MAX_KEY_BYTES = 8192

OPEN = Consumer(id="open")
"""Everybody, on a gateway that asks for no key."""


class Keyring:
    """The consumers of one generation of the configuration.

    Keys are kept as SHA-256 digests; a header that was once accepted is remembered for speed, with
    the generation, so that a key taken out of the file stops working with the reload (F81).
    """

    def __init__(self, by_digest: Mapping[bytes, Consumer] | None, clock: Clock) -> None:
        """`by_digest`: consumers by SHA-256 digest of their key; None when anybody may call."""
        self._by_digest = by_digest
        self._clock = clock
        # Apart, because the same bytes are a key in one header and none in the other.
        self._accepted_bearers: dict[bytes, Consumer] = {}
        self._accepted_keys: dict[bytes, Consumer] = {}

    @property
    def is_open(self) -> bool:
        """Whether no key is asked for."""
        return self._by_digest is None

    def identify(self, found: Found) -> Consumer:
        """The consumer of a request's credential. Raises InvalidApiKey, the same for every cause (F113)."""
        if self._by_digest is None:
            return OPEN
        authorization = found.get(b"authorization")
        presented = authorization or found.get(b"x-api-key") or found.get(b"api-key")
        if not presented:
            raise InvalidApiKey
        accepted = self._accepted_bearers if authorization else self._accepted_keys
        remembered = accepted.get(presented)
        if remembered is None:
            remembered = self._look_up(_bearer(presented) if authorization else presented)
            if len(accepted) >= _MAX_REMEMBERED:
                accepted.clear()
            accepted[presented] = remembered
        if remembered.expires_at is not None and self._clock.wall() >= remembered.expires_at:
            raise InvalidApiKey
        return remembered

    def _look_up(self, key: bytes) -> Consumer:
        if not key or len(key) > _MAX_KEY_BYTES:
            raise InvalidApiKey
        # The key itself is never compared: a digest says nothing about how near a guess was (F112).
        digest = hashlib.sha256(key).digest()
        consumer = (self._by_digest or {}).get(digest)
        if consumer is None:
            raise InvalidApiKey
        return consumer


def _bearer(authorization: bytes) -> bytes:
    scheme, _, key = authorization.partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else b""


def token_matches(authorization: bytes | None, token: str) -> bool:
    """Whether an Authorization header carries `token` as its bearer, in time that does not depend on the guess."""
    presented = hashlib.sha256(_bearer(authorization or b"")).digest()
    return hmac.compare_digest(presented, hashlib.sha256(token.encode("utf-8")).digest())
