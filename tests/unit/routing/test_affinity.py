"""What a provider keeps stays with the target that made it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.core.errors import NoHealthyTarget, UpstreamTruncated
from gateway.core.exchange import Attempt, Exchange, Operation, Reply
from gateway.core.pipeline import Handler, compose
from gateway.routing.affinity import MAX_REPLY_BYTES, Affinity, LocalMemory, made, named
from tests.fakes import Answering, FakeClock, event_frame, events_of, exchange, request

pytestmark = pytest.mark.anyio

JSON = [(b"content-type", b"application/json; charset=utf-8")]


class _Provider:
    """A target that makes things: each reply has the id a test gives it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.response_id: str | None = None
        self.reply: Reply | None = None
        self.fault: BaseException | None = None
        self.served = 0

    @asynccontextmanager
    async def __call__(self, asked: Exchange) -> AsyncIterator[Reply]:
        self.served += 1
        asked.attempts.append(Attempt(len(asked.attempts) + 1, self.name))
        asked.target = self.name
        yield self.reply if self.reply is not None else Reply(200, JSON, body=b"{}")
        # As providers do: the id is known when the stream is over.
        asked.response_id = self.response_id
        if self.fault is not None:
            raise self.fault


class _Route:
    def __init__(self, *, ttl_s: float = 100.0) -> None:
        self.clock = FakeClock()
        self.memory = LocalMemory(self.clock, capacity=100, ttl_s=ttl_s)
        self.a, self.b = _Provider("a"), _Provider("b")
        self.usual: Handler = self.a
        self.arms: dict[str, Handler | None] = {"a": self.a, "b": self.b}

    async def serve(self, asked: Exchange) -> Exchange:
        """`asked`, served: read as the edge reads."""
        affinity = Affinity(self.arms, self.memory)

        def usual(each: Exchange) -> Any:
            return self.usual(each)

        async with compose([affinity], usual)(asked) as reply:
            pieces = [reply.body] if reply.body is not None else []
            if reply.events is not None:
                pieces = [piece async for piece in reply.events]
            for piece in pieces:
                for tap in reply.taps:
                    tap(piece or b"")
        return asked


def _asked(operation: Operation = "responses", suffix: str = "responses", **body: Any) -> Exchange:
    return exchange(request(operation=operation, suffix=suffix, body=json.dumps(body).encode() if body else b""))


async def test_a_response_is_continued_where_it_was_made() -> None:
    route = _Route()
    route.usual, route.b.response_id = route.b, "resp_1"
    await route.serve(_asked(model="m", input="hi"))
    route.usual = route.a
    asked = await route.serve(_asked(model="m", input="more", previous_response_id="resp_1"))
    assert asked.target == "b"
    assert asked.pinned_target == "b", "so that no fallback takes it elsewhere"
    assert [(d.step, d.detail) for d in asked.decisions] == [("affinity", "b made what previous_response_id names")]


async def test_a_response_is_remembered_even_if_its_stream_broke() -> None:
    route = _Route()
    route.a.response_id, route.a.fault = "resp_1", UpstreamTruncated("cut")
    with pytest.raises(UpstreamTruncated):
        await route.serve(_asked(model="m"))
    assert await route.memory.get("resp_1") == "a"


async def test_an_id_that_is_not_known_takes_the_ordinary_way() -> None:
    route = _Route()
    asked = await route.serve(_asked(model="m", previous_response_id="resp_elsewhere"))
    assert (asked.target, asked.pinned_target, asked.decisions) == ("a", None, [])


async def test_files_and_batches_follow_the_target_that_has_them() -> None:
    route = _Route()
    route.usual = route.b
    route.b.reply = Reply(200, JSON, body=b'{"id":"file-1","object":"file","filename":"x.jsonl"}')
    await route.serve(_asked("relay", "files"))
    route.usual = route.a
    route.b.reply = Reply(200, JSON, body=b'{"id":"batch_1","input_file_id":"file-1","output_file_id":"file-2"}')
    batch = await route.serve(_asked("relay", "batches", input_file_id="file-1"))
    assert batch.target == "b"
    for suffix in ("files/file-1", "files/file-2/content", "batches/batch_1", "batches/batch_1/cancel"):
        asked = await route.serve(_asked("relay", suffix))
        assert asked.target == "b", suffix
        assert asked.decisions[0].detail == "b made what the path names"
    assert (await route.serve(_asked("relay", "files/file-9"))).target == "a"


async def test_chat_with_a_file_goes_where_the_file_is() -> None:
    route = _Route()
    route.memory.put("file-1", "b")
    part = {"type": "file", "file": {"file_id": "file-1"}}
    asked = _asked("chat", "chat/completions", messages=[{"role": "user", "content": [part]}])
    assert (await route.serve(asked)).target == "b"


async def test_chat_without_a_file_passes_by() -> None:
    route = _Route()
    affinity = Affinity(route.arms, route.memory)
    asked = _asked("chat", "chat/completions", messages=[{"role": "user", "content": "hi"}])
    answering = Answering()
    async with affinity(asked, answering.handler) as reply:
        assert reply is answering.reply
    assert len(route.memory) == 0


async def test_a_target_out_of_service_keeps_what_it_has() -> None:
    route = _Route()
    route.memory.put("resp_1", "b")
    route.arms["b"] = None
    with pytest.raises(NoHealthyTarget, match="What previous_response_id names is kept by target b") as caught:
        await route.serve(_asked(previous_response_id="resp_1"))
    assert caught.value.retry_after_s == 5.0, "F29"
    assert route.a.served == 0


async def test_a_target_that_the_route_has_no_more_is_no_way() -> None:
    route = _Route()
    route.memory.put("resp_1", "gone")
    asked = await route.serve(_asked(previous_response_id="resp_1"))
    assert asked.target == "a"
    assert asked.decisions[0].detail == "previous_response_id was made by gone, which is no target of this route"


async def test_a_pin_of_the_clients_own_is_obeyed() -> None:
    route = _Route()
    route.memory.put("resp_1", "b")
    asked = _asked(previous_response_id="resp_1")
    asked.pinned_target = "a"
    assert (await route.serve(asked)).target == "a"
    assert asked.pinned_target == "a"


async def test_a_relayed_reply_in_pieces_is_read_along() -> None:
    route = _Route()
    route.a.reply = Reply(200, JSON, events=events_of(b'{"id":"vs', b'_1"}'))
    await route.serve(_asked("relay", "vector_stores"))
    assert await route.memory.get("vs_1") == "a"


async def test_content_is_not_taken_for_a_description() -> None:
    route = _Route()
    text = b'{"id":"file-evil"}'
    for reply in (
        Reply(200, [(b"content-type", b"application/octet-stream")], events=events_of(text)),
        Reply(200, JSON, events=events_of(text[:-1] + b" " * MAX_REPLY_BYTES, b"}")),
        Reply(200, JSON, body=text[:-1] + b" " * MAX_REPLY_BYTES + b"}"),
        Reply(404, JSON, body=text),
        Reply(200, [], events=events_of(text), error_event=event_frame),
    ):
        route.a.reply = reply
        await route.serve(_asked("relay", "files/file-1/content"))
    route.a.reply = Reply(200, JSON, body=text)
    await route.serve(_asked("relay", "moderations"))
    assert len(route.memory) == 0


async def test_what_a_client_chose_cannot_lead_others_astray() -> None:
    """A file name, metadata or an echoed input is no id that the provider gave."""
    route = _Route()
    route.memory.put("file-victim", "b")
    body = {
        "id": "batch_mine",
        "input_file_id": "file-victim",
        "metadata": {"id": "file-victim", "output_file_id": "file-victim"},
        "filename": '"id":"file-victim"',
    }
    route.a.reply = Reply(200, JSON, body=json.dumps(body).encode())
    await route.serve(_asked("relay", "batches"))
    assert await route.memory.get("file-victim") == "b"
    assert await route.memory.get("batch_mine") == "a"


async def test_a_reply_that_no_target_made_is_not_remembered() -> None:
    route = _Route()
    answering = Answering(Reply(200, JSON, body=b'{"id":"file-1"}'))
    route.usual = answering.handler
    await route.serve(_asked("relay", "files"))
    long = _Provider("a")
    long.response_id = "r" * 300
    route.usual = long
    await route.serve(_asked(model="m"))
    assert len(route.memory) == 0


async def test_the_memory_is_bounded_and_forgets_the_longest_unused() -> None:
    memory = LocalMemory(FakeClock(), capacity=2, ttl_s=100.0)
    memory.put("one", "a")
    memory.put("two", "b")
    assert await memory.get("one") == "a"
    memory.put("three", "c")
    assert [await memory.get(name) for name in ("one", "two", "three")] == ["a", None, "c"]
    assert len(memory) == 2


async def test_the_memory_forgets_in_time_and_the_last_maker_counts() -> None:
    clock = FakeClock()
    memory = LocalMemory(clock, capacity=10, ttl_s=100.0)
    memory.put("one", "a")
    clock.advance(60.0)
    memory.put("one", "b")
    clock.advance(99.0)
    assert await memory.get("one") == "b"
    clock.advance(1.0)
    assert await memory.get("one") is None
    assert len(memory) == 0


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"previous_response_id": "resp_1"}, [("previous_response_id", "resp_1")]),
        ({"previous_response_id": None}, []),
        ({"conversation": "conv_1"}, [("conversation", "conv_1")]),
        ({"conversation": {"id": "conv_1"}}, [("conversation", "conv_1")]),
        ({"conversation": {"object": "x", "id": "conv_1"}}, [("conversation", "conv_1")]),
        ({"conversation": {"type": "object", "properties": {"id": "x"}}}, []),
        ({"input_file_id": "file-1"}, [("input_file_id", "file-1")]),
        ({"input": [{"content": [{"type": "input_file", "file_id": "file-1"}]}]}, [("file_id", "file-1")]),
        ({"file_id": "f", "previous_response_id": "r"}, [("previous_response_id", "r"), ("file_id", "f")]),
        ({"input": 'say "previous_response_id":"resp_1"'}, []),
        ({"previous_response_id": "r" * 257}, []),
        ({"input": "x" * 1_200_000, "previous_response_id": "resp_1"}, [("previous_response_id", "resp_1")]),
        ({}, []),
    ],
)
async def test_ids_are_found_where_the_api_has_them(body: dict[str, Any], found: list[tuple[str, str]]) -> None:
    for separators in ((",", ":"), (", ", ": ")):
        assert named(request(operation="responses", body=json.dumps(body, separators=separators).encode())) == found


@pytest.mark.parametrize(
    ("suffix", "found"),
    [
        ("files/file-1", "file-1"),
        ("files/file-1/content", "file-1"),
        ("responses/resp_1/input_items", "resp_1"),
        ("conversations/conv_1/items/msg_1", "conv_1"),
        ("fine_tuning/jobs/ftjob-1/cancel", "ftjob-1"),
        ("fine_tuning/jobs", None),
        ("files", None),
    ],
)
async def test_ids_are_found_in_paths(suffix: str, found: str | None) -> None:
    assert named(request(operation="relay", suffix=suffix)) == ([("the path", found)] if found else [])


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        (b'{"id":"file-1"}', ["file-1"]),
        (b'{"id":"b","output_file_id":"o","error_file_id":"e"}', ["b", "o", "e"]),
        (b'{"id":"upload_1","file":{"id":"file-1"}}', ["upload_1", "file-1"]),
        (b'{"object":"list","data":[{"id":"file-1"},{"id":"file-2"},{"x":1},7]}', ["file-1", "file-2"]),
        (b'{"id":7,"data":"x"}', []),
        (b'{"id":""}', []),
        (b'["id"]', []),
        (b'{"id":', []),
        (b'{"id":"\xff"}', []),
        (b"", []),
    ],
)
async def test_what_was_made_is_read_from_its_place(body: bytes, ids: list[str]) -> None:
    assert made(body) == ids
