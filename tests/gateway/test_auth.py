"""Who may call: keys, their expiry and models, and one answer for everybody else."""

import hashlib
import itertools
import re
import time

import httpx
import pytest

from gateway.core.exchange import Consumer
from gateway.edge import endpoints
from gateway.edge.auth import Keyring
from tests.gateway.harness import CHAT, PLAIN, Gateway, gateway
from tests.gateway.raw import say
from tests.gateway.waiting import until

pytestmark = pytest.mark.anyio

MAIN, NARROW, PINNING, EXPIRED = "gw-main-0123456789", "gw-narrow-0123456789", "gw-pin-0123456789", "gw-old-0123456789"


def entry(name: str, key: str, more: str = "") -> str:
    """A line of `keys:`."""
    return f'  - {{id: {name}, hash: "sha256:{hashlib.sha256(key.encode()).hexdigest()}"{more}}}\n'


KEYS = (
    "keys:\n"
    + entry("main", MAIN)
    + entry("narrow", NARROW, ', models: ["demo-*", "other"]')
    + entry("pinning", PINNING, ", may_pin: true")
    + entry("expired", EXPIRED, ", expires: 2020-01-31")
)
KEYED = (
    PLAIN
    + "  - {model: demo-small, target: mock}\n  - {model: other, target: mock}\n  - {model: 'gpt-*', target: mock}\n"
    + KEYS
)
UNKNOWN = "gw-main-0123456788"


def bearer(key: str) -> dict[str, str]:
    """A key as OpenAI's clients send it."""
    return {"authorization": f"Bearer {key}"}


async def ask(gw: Gateway, headers: dict[str, str], model: str = "demo") -> httpx.Response:
    """A chat request with these credentials."""
    return await gw.client.post("/v1/chat/completions", json=CHAT | {"model": model}, headers=headers)


@pytest.mark.parametrize(
    "headers", [bearer(MAIN), {"authorization": f"bearer   {MAIN}"}, {"x-api-key": MAIN}, {"api-key": MAIN}]
)
async def test_a_key_is_taken_from_each_of_the_three_headers(headers: dict[str, str]) -> None:
    """OpenAI's, Anthropic's and Azure's clients; none of it goes on to the provider."""
    async with gateway(KEYED) as gw:
        for _ in range(2):
            assert (await ask(gw, headers)).status_code == 200
        assert gw.requests()[-1]["key"] == "main"
        assert MAIN not in str(await gw.calls())


BAD: dict[str, dict[str, str]] = {
    "none": {},
    "empty": {"authorization": ""},
    "only a scheme": {"authorization": "Bearer"},
    "no scheme": {"authorization": MAIN},
    "another scheme": {"authorization": f"Basic {MAIN}"},
    "unknown": {"authorization": f"Bearer {UNKNOWN}"},
    "expired": {"authorization": f"Bearer {EXPIRED}"},
    "same beginning": {"authorization": f"Bearer {MAIN}x"},
    "its beginning": {"authorization": f"Bearer {MAIN[:-1]}"},
    "its hash": {"authorization": f"Bearer {hashlib.sha256(MAIN.encode()).hexdigest()}"},
    "its hash as written": {"authorization": f"Bearer sha256:{hashlib.sha256(MAIN.encode()).hexdigest()}"},
    "its id": {"authorization": "Bearer main"},
    "a bearer in x-api-key": {"x-api-key": f"Bearer {MAIN}"},
    "two keys in one": {"authorization": f"Bearer {MAIN} {MAIN}"},
    "a wrong one first": {"authorization": f"Bearer {UNKNOWN}", "x-api-key": MAIN},
    "SQL": {"authorization": "Bearer ' OR 1=1--"},
    "a glob": {"authorization": "Bearer *"},
    "a colon": {"authorization": "Bearer :"},
    "8 kB": {"authorization": "Bearer " + "k" * 8192},
    "9 kB": {"authorization": "Bearer " + "k" * 9000},
    "a template": {"authorization": "Bearer {{7*7}}"},
    "a variable": {"authorization": "Bearer env:PATH"},
}


async def test_every_failure_has_one_and_the_same_answer() -> None:
    """F109, F110, F111, F113: nothing in status, headers or body tells one cause from another."""
    async with gateway(KEYED) as gw:
        # What was once accepted is remembered; that must open no other way in.
        assert (await ask(gw, bearer(MAIN))).status_code == 200
        assert (await ask(gw, {"x-api-key": MAIN})).status_code == 200
        for path in ("/v1/chat/completions", "/v1/messages", "/v1/models", "/v1/files", "/nowhere", "/v1/models/demo"):
            seen = set()
            for headers in BAD.values():
                more = {"content-type": "application/json", "x-request-id": "same"}
                answer = await gw.client.request("POST", path, content=b"{}", headers={**more, **headers})
                kept = [item for item in answer.headers.raw if item[0] not in (b"date", b"server-timing")]
                seen.add((answer.status_code, tuple(kept), answer.content))
            assert [status for status, _, _ in seen] == [401]
        assert len(await gw.calls()) == 2
        raw = (
            b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer \xff\xfe\r\n\r\n"
        )
        heard = await say(gw.address, raw)
        assert (heard.only.status, heard.only.body) == (401, answer.content)


async def test_a_key_that_was_accepted_in_one_header_is_no_bearer_without_a_scheme() -> None:
    """F111: what is remembered is remembered for one header only."""
    async with gateway(KEYED) as gw:
        assert (await ask(gw, {"x-api-key": MAIN})).status_code == 200
        assert (await ask(gw, {"authorization": MAIN})).status_code == 401
        assert (await ask(gw, bearer(MAIN))).status_code == 200
        assert (await ask(gw, {"x-api-key": f"Bearer {MAIN}"})).status_code == 401


async def test_keys_are_looked_up_by_their_digest() -> None:
    """F109, F112: no key is compared with another; a digest is the only way to a consumer."""
    digest = hashlib.sha256(MAIN.encode()).digest()

    class Digests(dict[bytes, Consumer]):
        asked: list[bytes] = []  # noqa: RUF012 - one dictionary in one test

        def get(self, key: bytes, default: object = None) -> Consumer | None:  # type: ignore[override]
            self.asked.append(key)
            return super().get(key)

    class Wall:
        def monotonic(self) -> float:
            return 0.0

        def wall(self) -> float:
            return 0.0

    digests = Digests({digest: Consumer(id="main")})
    keyring = Keyring(digests, Wall())
    assert keyring.identify({b"authorization": b"Bearer " + MAIN.encode()}).id == "main"
    assert digests.asked == [digest]


def _example(template: str) -> list[str]:
    """Paths of a template: each of its alternatives, with an id for each `_ID`."""
    parts = re.split(r"\(\?:([^)]*)\)", template.replace(endpoints._ID, "id-1"))
    choices = [part.split("|") if index % 2 else [part] for index, part in enumerate(parts)]
    return ["/v1/" + "".join(choice) for choice in itertools.product(*choices)]


PATHS = sorted(
    {path.decode() for path, _ in endpoints._FIXED}
    | {path for template, _, _ in endpoints._RELAYED for path in _example(template)}
    | {f"/openai/deployments/demo/{suffix}" for suffix in endpoints._AZURE}
    | {"/openai/v1/chat/completions", "/openai/v1/files", "/v1/models", "/v1/models/demo"}
    | {
        "/",
        "/v1",
        "/docs",
        "/openapi.json",
        "/metrics",
        "/admin/v1/config",
        "/admin/v1/reload",
        "/favicon.ico",
        "/v1/x",
    }
    | {
        "/LIVEZ",
        "/livez/",
        "/livez/x",
        "/readyz;x",
        "/healthz%2f..%2fv1%2fmodels",
        "/%6civez",
        "//livez",
        "/v1/proxy/x",
    }
)
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")


async def test_without_a_key_only_health_answers() -> None:
    """F107, F121: every path that there is, and many that there are not, by every method."""
    assert len(PATHS) > 60
    async with gateway(KEYED) as gw:
        for path, method in itertools.product(PATHS, METHODS):
            answer = await gw.client.request(method, path, content=b"{}", headers={"content-type": "application/json"})
            assert (method, path, answer.status_code) == (method, path, 401)
        for path in ("/livez", "/readyz", "/healthz"):
            assert (await gw.client.get(path)).status_code == 200
        assert await gw.calls() == []


async def test_a_key_has_its_models_and_no_others() -> None:
    """Globs count; what a key may not use is not listed for it."""
    async with gateway(KEYED) as gw:
        assert (await ask(gw, bearer(NARROW), "demo-small")).status_code == 200
        assert (await ask(gw, bearer(NARROW), "other")).status_code == 200
        for model in ("demo", "gpt-4", "nowhere", "Other", "other "):
            refused = await ask(gw, bearer(NARROW), model)
            assert refused.status_code == 403
            assert refused.json()["error"]["code"] == "model_not_allowed"
        missing = await ask(gw, bearer(NARROW), "demo-none")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")
        listed = (await gw.client.get("/v1/models", headers=bearer(NARROW))).json()
        assert [model["id"] for model in listed["data"]] == ["demo-small", "other"]
        assert (await gw.client.get("/v1/models/demo", headers=bearer(NARROW))).status_code == 404
        assert (await gw.client.get("/v1/models/other", headers=bearer(NARROW))).status_code == 200


async def test_only_a_key_that_may_choose_a_target_chooses_one() -> None:
    """F106: `x-gateway-target` from anybody else is a 403."""
    async with gateway(KEYED) as gw:
        refused = await ask(gw, bearer(MAIN) | {"x-gateway-target": "mock"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "pin_not_allowed")
        assert (await ask(gw, bearer(PINNING) | {"x-gateway-target": "mock"})).status_code == 200
        unknown = await ask(gw, bearer(PINNING) | {"x-gateway-target": "http://127.0.0.1:9"})
        assert unknown.status_code == 403
        assert len(await gw.calls()) == 1


async def test_a_key_removed_from_the_file_stops_working_within_a_second() -> None:
    """F81: nobody calls reload; also for a header that was accepted a moment ago."""
    async with gateway(KEYED) as gw:

        async def is_refused() -> bool:
            return (await ask(gw, bearer(MAIN))).status_code == 401

        took_s = []
        for _ in range(3):
            gw.write_config(KEYED)
            await until(lambda: not gw.served.control.faults)
            await gw.reload(KEYED)
            assert not await is_refused()
            began_s = time.monotonic()
            gw.write_config(KEYED.replace(entry("main", MAIN), ""))
            assert await until(is_refused, timeout_s=5)
            took_s.append(time.monotonic() - began_s)
            assert (await ask(gw, bearer(PINNING))).status_code == 200
        # A loaded machine may be late once; the rule is one second.
        assert min(took_s) <= 1.0


async def test_an_expiry_date_counts_to_the_end_of_its_day() -> None:
    """Keys end by themselves, whatever was remembered of them."""
    day = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 86400))
    lasting = KEYED.replace("expires: 2020-01-31", f"expires: {day}")
    async with gateway(lasting) as gw:
        assert (await ask(gw, bearer(EXPIRED))).status_code == 200
        await gw.reload(KEYED)
        assert (await ask(gw, bearer(EXPIRED))).status_code == 401


async def test_a_consumer_shows_no_key() -> None:
    """F115: nothing that describes a consumer or a key holds the key or its hash."""
    async with gateway(KEYED) as gw:
        await ask(gw, bearer(MAIN))
        digest = hashlib.sha256(MAIN.encode()).hexdigest()
        shown = (await gw.admin.get("/admin/v1/config")).text
        found = (await gw.admin.get(f"/admin/v1/requests/{gw.requests()[-1]['request_id']}")).text
        for text in (shown, found):
            assert digest not in text
            assert MAIN not in text


@pytest.mark.parametrize("headers", [{}, bearer("anything"), {"x-api-key": "anything"}])
async def test_an_open_gateway_takes_everybody(headers: dict[str, str]) -> None:
    """`keys: open`, on loopback: SDKs that insist on a key may send any."""
    async with gateway(PLAIN) as gw:
        assert (await ask(gw, headers)).status_code == 200
        assert gw.requests()[-1]["key"] == "open"
