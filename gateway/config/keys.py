"""Client keys: made here, shown once, and kept as a hash alone."""

import hashlib
import secrets

_PREFIX = "sk-gw-"


def new_key() -> tuple[str, str]:
    """A fresh client key of 256 random bits, and the value of `hash` to configure for it."""
    key = _PREFIX + secrets.token_urlsafe(32)
    return key, key_hash(key)


def key_hash(key: str) -> str:
    """`sha256:` and the hex SHA-256 of the key's bytes. Plain SHA-256 suffices: a random key cannot be guessed."""
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()
