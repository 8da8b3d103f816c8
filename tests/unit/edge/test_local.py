"""What the gateway answers itself on the data plane."""

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.core.errors import MethodNotAllowed, NotFound
from gateway.core.exchange import Consumer, Exchange
from gateway.edge.local import local_reply
from gateway.edge.serving import Serving
from tests.fakes import exchange, request

ALLOWED = {"ann": {"support", "faq"}, "bob": {"faq"}}


def generation() -> Serving:
    """One that has two models, and a rule who may ask which."""
    known = {"support", "faq"}
    made = SimpleNamespace(
        listed_models=sorted(known),
        created_s=1_700_000_000,
        allows=lambda consumer, model: model in ALLOWED[consumer.id],
        routes=SimpleNamespace(find=lambda name: object() if name in known else None),
    )
    return cast("Serving", made)


def asked(path: str, method: str = "GET", key: str = "ann") -> Exchange:
    """A request without an endpoint of a model."""
    return exchange(request(path=path, method=method), consumer=Consumer(key))


def answer(path: str, key: str = "ann") -> Any:
    """The JSON of an answer."""
    reply = local_reply(generation(), asked(path, key=key), None)
    assert reply.status == 200 and reply.body is not None
    return json.loads(reply.body)


def test_a_list_has_the_models_that_the_key_may_ask() -> None:
    assert [row["id"] for row in answer("/v1/models")["data"]] == ["faq", "support"]
    assert [row["id"] for row in answer("/v1/models", key="bob")["data"]] == ["faq"]


def test_one_model_is_told_to_who_may_ask_it() -> None:
    assert answer("/v1/models/support")["id"] == "support"
    for key, name in (("bob", "support"), ("ann", "nothing")):
        with pytest.raises(NotFound, match="does not exist"):
            local_reply(generation(), asked(f"/v1/models/{name}", key=key), None)


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/support"])
def test_models_are_only_read(path: str) -> None:
    with pytest.raises(MethodNotAllowed, match="takes GET") as refused:
        local_reply(generation(), asked(path, "POST"), None)
    assert refused.value.allow == "GET"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
def test_feedback_is_only_posted(method: str) -> None:
    with pytest.raises(MethodNotAllowed, match="takes POST") as refused:
        local_reply(generation(), asked("/v1/cache/feedback", method), None)
    assert refused.value.allow == "POST"


def test_a_known_path_says_which_methods_it_takes() -> None:
    with pytest.raises(MethodNotAllowed, match="takes DELETE, POST, not GET"):
        local_reply(generation(), asked("/v1/files"), frozenset({"POST", "DELETE"}))


def test_an_unknown_path_is_named_and_not_at_any_length() -> None:
    with pytest.raises(NotFound, match="No such path: '/nothing'"):
        local_reply(generation(), asked("/nothing"), None)
    with pytest.raises(NotFound) as refused:
        local_reply(generation(), asked("/" + "x" * 5000), None)
    assert len(str(refused.value)) < 300
