"""Secrets are never shown (F114)."""

import copy
import pickle

import pytest
from pydantic import BaseModel

from gateway.config.secret import Reference, Secret, is_reference


class Holder(BaseModel):
    """Something with a secret in it."""

    secret: Secret


def test_a_secret_is_only_revealed_on_request() -> None:
    secret = Secret("env:KEY", "canary")
    assert secret.reveal() == "canary"
    holder = Holder(secret=secret)
    shown = [repr(secret), str(secret), f"{secret}", repr(holder), holder.model_dump_json(), str(holder.model_dump())]
    assert not any("canary" in text for text in shown)
    assert holder.model_dump() == {"secret": "env:KEY"}


def test_a_secret_is_not_pickled() -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(Secret("env:KEY", "canary"))
    with pytest.raises(TypeError, match="not pickled"):
        copy.copy(Secret("env:KEY", "canary"))


def test_secrets_are_equal_when_their_values_are() -> None:
    assert Secret("env:A", "x") == Secret("file:b", "x")
    assert hash(Secret("env:A", "x")) == hash(Secret("file:b", "x"))
    assert Secret("env:A", "x") != Secret("env:A", "y")
    assert Secret("env:A", "") != Secret("env:A", None)
    assert Secret("env:A", "x") != "x"


def test_a_secret_that_is_not_set_says_why() -> None:
    assert not Secret("env:KEY", None).is_set
    assert Secret("env:KEY", None).unset_reason == "KEY is not set"
    assert Secret("file:a/b", None).unset_reason == "a/b is empty"


def test_a_reference_is_still_the_text_that_was_written() -> None:
    reference = Reference("env:KEY", "canary")
    assert reference == "env:KEY"
    assert "canary" not in repr(reference)


def test_references_are_told_from_other_texts() -> None:
    assert is_reference("env:A")
    assert is_reference("file:a")
    assert not is_reference("sk-abc")
    assert not is_reference(5)
