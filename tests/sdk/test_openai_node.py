"""The official npm client of OpenAI, run by Node beside the gateway: one run of `node/driver.mjs`, told apart here."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.calls import settled
from tests.gateway.harness import Gateway, gateway
from tests.gateway.waiting import until
from tests.sdk.clients import ANSWER, CONFIG, KEY
from tests.sdk.processes import program, run

pytestmark = pytest.mark.anyio

HERE = Path(__file__).parent / "node"
MANIFEST = HERE / "package.json"
MIN_NODE = 20
_INSTALL_OPTIONS = ("--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")


async def installed() -> Path:
    """A folder with the client in its node_modules, kept from run to run; skips when it cannot be had."""
    node, npm = program("node"), program("npm")
    version = (await run(node, "--version")).out.decode().strip().removeprefix("v")
    if int(version.partition(".")[0]) < MIN_NODE:
        pytest.skip(f"Node {version}; the client needs {MIN_NODE} or newer")
    wanted = json.loads(MANIFEST.read_text())["dependencies"]["openai"]
    caches = Path.home() / ".cache" / "llm-gateway-tests"
    kept = caches / f"openai-node-{wanted}"
    if not kept.is_dir():
        caches.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=caches))
        (fresh / MANIFEST.name).write_text(MANIFEST.read_text())
        done = await run(npm, "install", *_INSTALL_OPTIONS, cwd=fresh, timeout_s=100)
        if done.code:
            shutil.rmtree(fresh)
            pytest.skip(f"npm could not install openai {wanted}: {done.err[-300:]!r}")
        _keep(fresh, kept)
    return kept


def _keep(fresh: Path, kept: Path) -> None:
    """Put `fresh` into its place in one step, unless another test run was faster."""
    try:
        fresh.rename(kept)
    except OSError:
        shutil.rmtree(fresh)


async def drive(gw: Gateway) -> dict[str, Any]:
    """What the driver saw, scenario by scenario."""
    folder = await installed()
    done = await run(program("node"), str(HERE / "driver.mjs"), str(folder), gw.url, KEY, timeout_s=60)
    assert done.code == 0, done.err[-2000:]
    seen: dict[str, Any] = json.loads(done.out)
    assert {name: each for name, each in seen.items() if isinstance(each, dict) and "unexpected" in each} == {}
    return seen


async def test_the_npm_client_works_as_it_is() -> None:
    """F1, F26, F27, F133 to F138: every scenario of the driver, and what the log says of the whole run."""
    async with gateway(CONFIG) as gw:
        seen = await drive(gw)
        assert_answers(seen)
        assert_errors(seen)
        ids = {line["request_id"] for line in gw.requests()}
        assert seen["chat"]["id"] in ids and seen["server_error"]["requestID"] in ids
        left = [call for call in gw.mock.log.entries() if call["closed_early"]]
        assert len(left) == 1 and isinstance(left[0]["tokens_sent"], int) and left[0]["tokens_sent"] < 200
        assert (await until(lambda: [line for line in gw.requests() if line["status"] == 499]))[0]["key"] == "app"
        await settled(gw)


def assert_answers(seen: dict[str, Any]) -> None:
    """Assert what the calls that work gave."""
    assert seen["chat"]["content"] == ANSWER and seen["chat"]["usage"]["completion_tokens"] == 16
    assert seen["stream"] == {"content": ANSWER, "usages": 0}
    assert seen["stream_with_usage"]["content"] == ANSWER
    assert seen["stream_with_usage"]["usage"]["completion_tokens"] == 16
    assert seen["tools"] == seen["streamed_tools"] == {"name": "get_time", "arguments": "{}"}
    assert seen["vision"] == seen["azure"] == ANSWER
    assert seen["embeddings"] == [True, True]
    assert seen["responses"] == {"text": ANSWER, "first": "response.created", "last": "response.completed"}
    assert seen["models"] == ["demo", "slow"]
    assert seen["files"] == {"bytes": 5, "content": "line\n"}
    assert seen["left_stream"] == "left"
    assert seen["retried"]["content"] == ANSWER and seen["retried"]["waited"] >= 200


def assert_errors(seen: dict[str, Any]) -> None:
    """Assert what the calls that fail threw."""
    expected = {
        "wrong_key": ("AuthenticationError", 401, "invalid_api_key"),
        "forbidden": ("PermissionDeniedError", 403, "model_not_allowed"),
        "unknown_model": ("NotFoundError", 404, "model_not_found"),
        "bad_request": ("BadRequestError", 400, None),
        "rate_limit": ("RateLimitError", 429, "rate_limit_exceeded"),
        "server_error": ("InternalServerError", 500, None),
        "first_event": ("InternalServerError", 502, "server_error"),
        "broken_stream": ("APIError", None, None),
        "cut_stream": ("APIError", None, "upstream_error"),
    }
    for name, (kind, status, code) in expected.items():
        error = seen[name]
        assert error and error["isApiError"], name
        assert (error["name"], error["status"], error["code"]) == (kind, status, code), name
        assert error["message"] and error["type"], name
        # An error inside a stream has no headers of its own.
        assert status is None or error["requestID"], name
