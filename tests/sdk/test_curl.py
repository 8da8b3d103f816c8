"""curl, as the documentation shows it and as shell scripts use it."""

import hashlib
import json
from pathlib import Path

import pytest

from tests.gateway.calls import events
from tests.gateway.harness import CHAT, Gateway, gateway
from tests.gateway.waiting import until
from tests.sdk.clients import ANSWER, CONFIG, KEY, last_call
from tests.sdk.processes import Finished, program, run

pytestmark = pytest.mark.anyio


async def curl(gw: Gateway, path: str, *options: str, key: str = KEY) -> Finished:
    """One call, with the exit status 22 for an error."""
    return await run(
        program("curl"), "-sS", "--fail-with-body", "-H", f"authorization: Bearer {key}", *options, gw.url + path
    )


def asking(**more: object) -> list[str]:
    """Options of a chat request."""
    return ["-H", "content-type: application/json", "-d", json.dumps(CHAT | more)]


async def test_curl_gets_an_answer_and_a_stream() -> None:
    """F23: `-N` shows events as they come; the last is `[DONE]`."""
    async with gateway(CONFIG) as gw:
        whole = await curl(gw, "/v1/chat/completions", *asking())
        assert whole.code == 0
        assert json.loads(whole.out)["choices"][0]["message"]["content"] == ANSWER
        stream = await curl(gw, "/v1/chat/completions", "-N", *asking(stream=True))
        assert stream.code == 0 and stream.out.endswith(b"data: [DONE]\n\n")
        assert "".join(each["choices"][0]["delta"].get("content") or "" for each in events(stream.out)) == ANSWER
        models = await curl(gw, "/v1/models")
        assert [each["id"] for each in json.loads(models.out)["data"]] == ["demo", "slow"]


async def test_a_large_body_that_waits_for_a_100_continue_arrives(tmp_path: Path) -> None:
    """curl asks before it sends more than a megabyte, and waits a second when nobody answers."""
    body = json.dumps(CHAT | {"user": "x" * 2_000_000}).encode()
    sent = tmp_path / "body.json"
    sent.write_bytes(body)
    asks = ["-v", "-H", "content-type: application/json", "-H", "expect: 100-continue", "--data-binary", f"@{sent}"]
    async with gateway(CONFIG) as gw:
        reply = await curl(gw, "/v1/chat/completions", *asks)
        assert reply.code == 0 and b"100 Continue" in reply.err
        assert last_call(gw)["body_sha256"] == hashlib.sha256(body).hexdigest()


async def test_curls_uploads_and_downloads_are_whole(tmp_path: Path) -> None:
    """F89: a form with a file, and the file's bytes back."""
    sent = tmp_path / "sent.bin"
    sent.write_bytes(hashlib.shake_128(b"file").digest(500_000))
    got = tmp_path / "got.bin"
    async with gateway(CONFIG) as gw:
        made = await curl(gw, "/v1/files", "-F", "purpose=batch", "-F", f"file=@{sent}")
        assert made.code == 0
        path = f"/v1/files/{json.loads(made.out)['id']}/content"
        assert (await curl(gw, path, "-o", str(got))).code == 0
        assert got.read_bytes() == sent.read_bytes()


async def test_curls_exit_status_tells_of_a_refusal_and_of_a_cut() -> None:
    """F113, F133: the body says why; a script that only looks at the status is told too."""
    async with gateway(CONFIG) as gw:
        refused = await curl(gw, "/v1/chat/completions", *asking(), key="wrong")
        assert refused.code == 22 and json.loads(refused.out)["error"]["code"] == "invalid_api_key"
        asked = json.dumps({"model": "demo", "input": "hi", "voice": "alloy"})
        fault = ["-H", "content-type: application/json", "-H", "x-mock: rst_after=3,gap=5ms", "-d", asked]
        cut = await curl(gw, "/v1/audio/speech", "-o", "/dev/null", *fault)
        assert cut.code in (18, 56)


async def test_curl_that_gives_up_stops_the_provider() -> None:
    """F1: `--max-time`."""
    async with gateway(CONFIG) as gw:
        slow = ["-N", "--max-time", "0.3", "-H", "x-mock: tokens=1000,gap=20"]
        assert (await curl(gw, "/v1/chat/completions", *slow, *asking(stream=True))).code == 28
        await until(lambda: last_call(gw)["closed_early"], timeout_s=1)
        assert (await until(gw.requests))[-1]["status"] == 499
