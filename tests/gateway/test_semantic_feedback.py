"""Complaints about stored replies, by a running gateway: who may, what they do, who hears of it (F116, F118)."""

import httpx
import pytest

from tests.gateway.harness import Gateway, gateway
from tests.gateway.semantic_world import (
    AGAIN,
    ENTRY,
    FIRST,
    ask,
    by,
    complain,
    said,
    similar,
    taught,
    told,
    why,
    world,
)
from tests.gateway.test_cache import keyed
from tests.gateway.waiting import until

pytestmark = pytest.mark.anyio

PATH = "/v1/cache/feedback"
SHARED = similar(cached="exact: 1h, share: tenant")


async def test_a_reply_that_was_wrong_is_given_to_nobody_again_and_the_complaint_is_audited() -> None:
    async with gateway(keyed(SHARED)) as gw:
        await ask(gw, FIRST, key="ann")
        given = await ask(gw, AGAIN, key="bob")
        assert told(given) == "semantic static"
        entry = given.headers[ENTRY]
        answer = await complain(gw, entry, key="bob")
        assert (answer.status_code, answer.json()) == (200, {"entry": entry, "removed": True})
        assert told(await ask(gw, AGAIN, key="bob", cache_control="max-stale=1")) == "miss none"
        assert told(await ask(gw, FIRST, key="ann"))[:4] != "hit"
        [line] = [
            line for line in (await gw.admin.get("/admin/v1/audit")).json()["audit"] if line["action"] == "feedback"
        ]
        assert (line["actor"], line["subject"], line["reason"]) == ("key:bob", f"cache/entry:{entry}", "wrong")
        assert line["detail"]["filled_by"] == "ann"
        assert line["detail"]["request_id"] == answer.headers["x-request-id"]
        assert "is wrong, says the client" in await why(gw, answer)
        again = await complain(gw, entry, key="bob")
        assert (again.status_code, again.json()["error"]["code"]) == (404, "not_found")
        assert len((await gw.admin.get("/admin/v1/audit")).json()["audit"]) == 1


async def test_an_exact_hit_has_a_receipt_too() -> None:
    async with gateway(keyed(SHARED)) as gw:
        await ask(gw, FIRST, key="ann")
        entry = (await ask(gw, FIRST, key="bob")).headers[ENTRY]
        assert (await complain(gw, entry, key="bob")).status_code == 200
        for key in ("bob", "ann"):
            assert told(await ask(gw, FIRST, key=key)) in ("miss none", "hit")
        assert await gw.metric("gateway_cache_requests_total", route="demo", result="miss") == 2


async def test_only_who_shares_a_reply_may_complain_and_others_are_told_what_is_told_of_none() -> None:
    """F116: whether there is such a reply is nobody else's business."""
    async with gateway(keyed(SHARED)) as gw:
        await ask(gw, FIRST, key="ann")
        entry = (await ask(gw, AGAIN, key="bob")).headers[ENTRY]
        answers = [await complain(gw, each, key="eve") for each in (entry, entry[:64], "0" * 64)]
        assert {answer.status_code for answer in answers} == {404}
        assert len({_without_id(answer) for answer in answers}) == 1
        assert told(await ask(gw, AGAIN, key="bob")) == "semantic static"
        assert (await gw.admin.get("/admin/v1/audit")).json()["audit"] == []
        with_tag = await gw.client.post(
            PATH,
            json={"entry": entry, "wrong": True},
            headers={"authorization": "Bearer eve", "x-gateway-tags": "tenant=x"},
        )
        assert with_tag.status_code == 404, "a header makes nobody a member"
    alone = similar()
    async with gateway(keyed(alone)) as gw:
        await ask(gw, FIRST, key="ann")
        entry = (await ask(gw, AGAIN, key="ann")).headers[ENTRY]
        assert (await complain(gw, entry, key="bob")).status_code == 404, "the same tenant, and share: key"
        assert (await complain(gw, entry, key="ann")).status_code == 200


def _without_id(answer: httpx.Response) -> str:
    return answer.text.replace(answer.headers["x-request-id"], "")


async def test_who_has_no_key_or_is_isolated_cannot_complain() -> None:
    """F118."""
    async with gateway(keyed(SHARED)) as gw:
        await ask(gw, FIRST, key="ann")
        entry = (await ask(gw, AGAIN, key="ann")).headers[ENTRY]
        assert [(await complain(gw, entry, key=key)).status_code for key in ("", "mallory")] == [401, 401]
        await gw.admin.post("/admin/v1/isolate", json={"key": "bob", "reason": "leak"})
        refused = await complain(gw, entry, key="bob")
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "isolated")
        assert told(await ask(gw, AGAIN, key="ann")) == "semantic static"
        await gw.admin.delete("/admin/v1/isolate?key=bob")
        await gw.admin.post("/admin/v1/isolate", json={"tag": "team=blue", "reason": "leak"})
        refused = await complain(gw, entry, key="bob")
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "isolated")
        assert told(await ask(gw, AGAIN, key="ann")) == "semantic static"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", 400),
        (b"null", 400),
        (b"[" * 4000, 400),
        (b'{"entry": "\xff", "wrong": true}', 400),
        (b'{"entry": "x", "wrong": true}', 400),
        (b'{"entry": "%b", "wrong": false}' % (b"a" * 64), 400),
        (b'{"entry": "%b", "wrong": true, "a": 1}' % (b"a" * 64), 400),
        (b'{"entry": "%b-9-9000", "wrong": true}' % (b"a" * 64), 400),
        (b'{"entry": "%b", "wrong": true}' % (b"a" * 64), 404),
        (b'{"entry": "%b", "wrong": true}' % (b"a" * 5000), 413),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_garbage_is_refused(sent: bytes, status: int) -> None:
    async with gateway(similar()) as gw:
        answer = await gw.client.post(PATH, content=sent, headers={"content-type": "application/json"})
        assert answer.status_code == status, answer.text
        assert answer.json()["error"]["message"]
        assert not [line for line in gw.lines() if line.get("level") == "error"]


async def test_another_method_or_type_is_refused() -> None:
    async with gateway(similar()) as gw:
        got = await gw.client.get(PATH)
        assert (got.status_code, got.headers["allow"]) == (405, "POST")
        assert (await gw.client.post(PATH, content=b"entry=1")).status_code == 415


async def test_without_any_cache_there_is_no_such_reply() -> None:
    async with gateway() as gw:
        assert (await complain(gw, "a" * 64)).status_code == 404


async def test_a_complaint_counts_as_a_wrong_label_of_its_kind() -> None:
    """Of thirty-four right ones, one wrong is too many at 20 %: the scope closes."""
    async with world() as found, gateway(by(found, "{max_wrong: 20%}")) as gw:
        given = await taught(gw)
        assert given.headers[ENTRY].count("-") == 2
        assert await _open(gw) == 1
        assert (await complain(gw, given.headers[ENTRY])).status_code == 200

        async def is_closed() -> bool:
            return await _open(gw) == 0

        await until(is_closed)


async def test_a_receipt_that_was_tampered_with_does_no_more_than_a_complaint() -> None:
    """Whoever may complain can close a scope that is theirs, and touch no other."""
    async with world() as found, gateway(by(found, "{max_wrong: 20%}")) as gw:
        given = await taught(gw)
        other = said("how do I reset my bicycle", temperature=0.1)
        assert (await gw.client.post("/v1/chat/completions", json=other)).status_code == 200
        entry = given.headers[ENTRY]
        forged = [entry[:64] + tail for tail in ("-0-10000", "-3-99999", "")]
        assert [(await complain(gw, each)).status_code for each in forged] == [200, 404, 404]
        assert (await gw.client.post("/v1/chat/completions", json=other)).headers["x-gateway-cache"] == "hit"


async def _open(gw: Gateway) -> float:
    return await gw.metric("gateway_cache_scopes", route="demo", state="open")
