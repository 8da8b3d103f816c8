"""Client keys."""

import hashlib

from gateway.config.keys import key_hash, new_key


def test_a_new_key_is_long_random_and_fits_its_hash() -> None:
    key, digest = new_key()
    assert key.startswith("sk-gw-")
    assert len(key) == len("sk-gw-") + 43
    assert digest == "sha256:" + hashlib.sha256(key.encode()).hexdigest()
    assert new_key()[0] != key


def test_a_hash_is_that_of_the_keys_bytes() -> None:
    assert key_hash("abc") == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
