"""A client says that a stored reply was wrong: what is taken, what is refused, and in which words."""

import json
import re
from typing import Any

import pytest

from gateway.core.errors import InvalidRequest, NotFound, StoreUnavailable
from gateway.core.exchange import Consumer, Exchange
from gateway.edge.feedback import feedback
from tests.fakes import exchange

pytestmark = pytest.mark.anyio

ENTRY = "ab" * 32
RECEIPT = f"{ENTRY}-0-9000"
ANN = Consumer("ann", {"tenant": "x"})


class Desk:
    """Takes complaints about one entry."""

    def __init__(self, *, is_there: bool = True) -> None:
        self.is_there = is_there
        self.heard: list[tuple[str, str, str]] = []

    async def complain(self, receipt: str, consumer: Consumer, request_id: str) -> bool:
        if receipt[:64] != ENTRY:
            raise ValueError("a secret of the desk")
        self.heard.append((receipt, consumer.id, request_id))
        return self.is_there


class Away:
    """A store that does not answer."""

    async def complain(self, receipt: str, consumer: Consumer, request_id: str) -> bool:
        raise StoreUnavailable("away", retry_after_s=1)


def asking() -> Exchange:
    """What Ann asks."""
    return exchange(consumer=ANN)


def body(**said: Any) -> bytes:
    """The JSON of a complaint."""
    return json.dumps(said).encode()


async def test_what_is_wrong_is_removed_and_the_client_is_told_so() -> None:
    desk, asked = Desk(), asking()
    reply = await feedback(asked, body(entry=RECEIPT, wrong=True), desk)
    assert reply.status == 200 and reply.body is not None
    assert json.loads(reply.body) == {"entry": ENTRY, "removed": True}
    assert desk.heard == [(RECEIPT, "ann", asked.request_id)]
    assert any(ENTRY in decision.detail for decision in asked.decisions)


@pytest.mark.parametrize("desk", [Desk(is_there=False), None], ids=["not there", "no cache"])
async def test_what_is_not_there_and_what_is_somebody_elses_are_told_in_the_same_words(desk: Desk | None) -> None:
    with pytest.raises(NotFound, match="no such stored reply"):
        await feedback(asking(), body(entry=RECEIPT, wrong=True), desk)


GARBAGE = [
    b"",
    b"x",
    b"null",
    b"[]",
    b"[" * 4096,
    b'{"entry":' * 400,
    b'{"entry": "\xff", "wrong": true}',
    b'{"entry": "\\ud800", "wrong": true}',
    body(entry=RECEIPT),
    body(wrong=True),
    body(entry=RECEIPT, wrong="yes"),
    body(entry=RECEIPT, wrong=1),
    body(entry=RECEIPT, wrong=None),
    body(entry=7, wrong=True),
    body(entry=[RECEIPT], wrong=True),
    body(entry=RECEIPT, wrong=True, why="a word that nobody knows"),
    body(entry=RECEIPT, wrong=True) + b"{}",
]


@pytest.mark.parametrize("sent", GARBAGE, ids=repr)
async def test_what_is_no_complaint_is_refused_with_an_example_of_one(sent: bytes) -> None:
    desk = Desk()
    with pytest.raises(InvalidRequest, match=re.escape('Send {"entry": "...", "wrong": true}')):
        await feedback(asking(), sent, desk)
    assert desk.heard == []


async def test_praise_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="wrong: true") as refused:
        await feedback(asking(), body(entry=RECEIPT, wrong=False), Desk())
    assert refused.value.param == "wrong"


async def test_what_is_no_receipt_is_refused_without_saying_more_than_where_it_stands() -> None:
    with pytest.raises(InvalidRequest, match="x-gateway-cache-entry") as refused:
        await feedback(asking(), body(entry="x", wrong=True), Desk())
    assert "secret" not in str(refused.value)
    assert refused.value.param == "entry"


async def test_a_store_that_is_away_is_told_to_the_client() -> None:
    with pytest.raises(StoreUnavailable):
        await feedback(asking(), body(entry=RECEIPT, wrong=True), Away())
