"""The vectors of a running gateway: when there are none, when they are late, and when nothing is installed."""

import asyncio
import statistics
import sys
import time
from pathlib import Path

import pytest

from tests.gateway.harness import Gateway, gateway
from tests.gateway.processes import ROOT, serving
from tests.gateway.semantic_world import (
    AGAIN,
    BY_MOCK,
    ENTRY,
    FIRST,
    PRICED,
    ask,
    by,
    said,
    similar,
    told,
    wordings,
    world,
)
from tests.gateway.waiting import until

pytestmark = pytest.mark.anyio

STATIC = "{mode: static, threshold: 0.9}"
TIMEOUT_S = 0.1


async def counted(gw: Gateway, result: str) -> float:
    """How many embeddings came to this."""
    return await gw.metric("gateway_cache_embeddings_total", result=result)


async def test_a_target_that_fails_is_a_miss_and_is_not_asked_again_for_a_while() -> None:
    async with world() as found, gateway(by(found, STATIC)) as gw:
        found.failing = 500
        assert {told(await ask(gw, text)) for text in wordings()[:20]} == {"miss embedding_late"}
        assert told(await ask(gw, wordings()[0])) == "hit", "what is equal needs no vector"
        assert len(found.embedded) == 1
        assert (await counted(gw, "failed"), await counted(gw, "refused")) == (1, 19)
        found.failing = 0
        left = iter(wordings()[20:])

        async def is_back() -> bool:
            await asyncio.sleep(0.05)
            return told(await ask(gw, next(left))) == "semantic static"

        await until(is_back, 5.0)


async def test_a_target_that_hangs_costs_no_more_than_the_timeout_and_is_not_asked_without_end() -> None:
    async with world() as found, gateway(by(found, STATIC, timeout="100ms")) as gw:
        found.going.clear()
        taken = []
        for text in wordings()[:5]:
            began_s = time.monotonic()
            assert told(await ask(gw, text)) == "miss embedding_late"
            taken.append(time.monotonic() - began_s)
        assert TIMEOUT_S * 0.9 < statistics.median(taken) < TIMEOUT_S + 0.4
        answers = await asyncio.gather(*[ask(gw, text) for text in wordings("radio")])
        assert {told(answer) for answer in answers} == {"miss embedding_late"}
        assert len(found.embedded) <= 32
        assert await counted(gw, "refused") > 0
        found.going.set()

        async def is_back() -> bool:
            return await counted(gw, "computed") >= 20

        await until(is_back)
        assert told(await ask(gw, "how do I reset my kettle")) in ("miss none", "miss far")


@pytest.mark.parametrize("vector", [[], [0.0, 0.0], "x", ["x"], [1e999], None])
async def test_what_is_no_vector_is_a_miss(vector: object) -> None:
    async with world() as found, gateway(by(found, STATIC)) as gw:
        found.vector = lambda _: vector
        for text in (FIRST, AGAIN):
            assert told(await ask(gw, text)) == "miss embedding_late"


async def test_a_vector_of_another_length_is_a_miss_and_others_go_on() -> None:
    async with world() as found, gateway(by(found, STATIC)) as gw:
        assert told(await ask(gw, wordings()[0])) == "miss none"
        usual, found.vector = found.vector, lambda _: [1.0, 0.0, 0.0]
        assert told(await ask(gw, wordings()[1])) == "miss embedding_unfit"
        found.vector = usual
        assert told(await ask(gw, wordings()[2])) == "semantic static"


async def test_a_target_without_a_model_behind_it_is_a_miss() -> None:
    """Nobody listens there."""
    async with world() as found:
        config = by(found, STATIC).replace(
            f"vectors: {{breaker: off, provider: openai, base_url: {found.url}",
            "vectors: {breaker: off, provider: openai, base_url: http://127.0.0.1:9/v1",
        )
        async with gateway(config) as gw:
            assert [told(await ask(gw, text)) for text in (FIRST, AGAIN)] == ["miss embedding_late"] * 2


async def test_vectors_of_another_model_are_never_compared(tmp_path: Path) -> None:
    """What was kept with the vectors of one is of no use for another, nor in its way."""
    async with world() as found:
        kept = by(found, STATIC, cached="persist: true").replace("drain: 5s", f"drain: 5s, state_dir: {tmp_path}")
        async with serving(kept) as gw:
            assert told(await gw.client.post("/v1/chat/completions", json=said(wordings()[0]))) == "miss none"
        found.vector = lambda text: [1.0, 0.0, float(len(text)) / 1e6]
        async with serving(kept.replace("model: vectors", "model: other")) as gw:
            answers = [await gw.client.post("/v1/chat/completions", json=said(text)) for text in wordings()[1:3]]
            assert [told(answer) for answer in answers] == ["miss none", "semantic static"]


NO_EMBEDDER = PRICED.replace("target: mock}", f"target: mock, cache: {{exact: 1h, semantic: {STATIC}}}}}")


async def works_without(gw: Gateway) -> None:
    """Equal requests are given their reply, others ask the model, and nothing else is said."""
    assert [told(await ask(gw, text)) for text in (FIRST, AGAIN, FIRST)] == ["miss", "miss", "hit"]
    assert ENTRY in (await ask(gw, FIRST)).headers
    assert (await gw.admin.delete("/admin/v1/cache", params={"route": "demo"})).json()["matched"] == 2


async def test_without_the_model_equal_requests_are_answered_and_a_line_says_what_to_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = NO_EMBEDDER + f"cache: {{model_dir: {tmp_path / 'nothing'}}}\n"
    async with gateway(config) as gw:
        await works_without(gw)
        text = (await gw.admin.get("/metrics")).text
        assert "gateway_cache_embedder_up 0" in text
        [line] = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
        assert "no look-ups by similarity" in line and "gateway cache model install" in line


async def test_a_gateway_without_a_semantic_cache_says_nothing_of_an_embedder() -> None:
    """Or it would look as if one were missing."""
    async with gateway() as gw:
        assert "gateway_cache_embedder_up 0" not in (await gw.admin.get("/metrics")).text


@pytest.mark.parametrize("absent", ["numpy", "onnxruntime"])
async def test_without_the_extra_equal_requests_are_answered_and_a_line_says_what_to_do(
    tmp_path: Path, absent: str
) -> None:
    (tmp_path / f"{absent}.py").write_text(f"raise ImportError(\"No module named '{absent}'\")\n")
    async with serving(NO_EMBEDDER, environ={"PYTHONPATH": f"{tmp_path}:{ROOT}"}) as gw:
        answers = [await gw.client.post("/v1/chat/completions", json=said(text)) for text in (FIRST, AGAIN, FIRST)]
        assert [told(answer) for answer in answers] == ["miss", "miss", "hit"]
        assert await gw.metric("gateway_cache_embedder_up") == 0
        [line] = [line for line in gw.run.messages() if "similarity" in line]
        assert "extra `semantic`" in line and absent in line
        assert gw.run.complaints() == ""


async def test_a_reload_can_begin_to_look_up_by_similarity_and_end_it() -> None:
    async with gateway(similar("{mode: off}")) as gw:
        assert [told(await ask(gw, text)) for text in (FIRST, AGAIN)] == ["miss", "miss"]
        assert (await gw.reload(similar()))["changed"]
        assert told(await ask(gw, FIRST, body={"seed": 1})) == "miss none"
        assert told(await ask(gw, AGAIN, body={"seed": 1})) == "semantic static"
        assert (await gw.reload(similar("{mode: off}")))["changed"]
        assert told(await ask(gw, AGAIN, body={"seed": 1})) == "miss"
        assert (await gw.reload(similar()))["changed"]
        other = "How would I reset my password?"
        assert told(await ask(gw, other, body={"seed": 1})) == "semantic static", "what was known stays"


async def test_a_target_that_a_reload_removes_is_a_miss() -> None:
    async with world() as found:
        config = by(found, STATIC)
        async with gateway(config) as gw:
            assert told(await ask(gw, wordings()[0])) == "miss none"
            line = next(line for line in config.splitlines() if "vectors:" in line and "provider" in line)
            changed = config.replace(line + "\n", "").replace("target:vectors", "target:judge")
            assert (await gw.reload(changed))["changed"]
            assert told(await ask(gw, wordings()[1])) == "miss embedding_late"


CHECKED = {
    "{threshold: 0.9}": "does nothing without a `mode`",
    "{mode: static}": "nothing bounds the share of wrong replies",
    "{max_wrong: 1%}": "without a `judge` only short answers",
    "{max_wrong: 1%, threshold: 0.9}": "`threshold` means nothing in mode verified",
    "{mode: static, max_wrong: 1%}": "`max_wrong` means nothing in mode static",
}


async def test_the_check_of_a_configuration_says_what_is_doubtful(tmp_path: Path) -> None:
    base, _, _ = similar().replace("MOCK_URL", "http://127.0.0.1:9").partition("routes:")
    routes = [
        f"  - {{model: r{number}, target: mock, cache: {{exact: 1h, semantic: {semantic}}}}}\n"
        for number, semantic in enumerate(CHECKED)
    ]
    path = tmp_path / "gateway.yaml"
    path.write_text(base + "routes:\n" + "".join(routes) + BY_MOCK)
    done = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "check", str(path)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=ROOT,
    )
    output, _ = await done.communicate()
    assert done.returncode == 0, output
    assert [warning for warning in CHECKED.values() if warning not in output.decode()] == []
