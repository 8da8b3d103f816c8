"""The relayed endpoints: small shapes that SDKs can read."""

import hashlib

import pytest

from gateway.mock.endpoints import answer
from gateway.mock.plan import Plan
from gateway.mock.world import World
from tests.unit.mock.raw import beats, decoded, new_world, request

FORM_TYPE = "multipart/form-data; boundary=xx"


def form(file: bytes, **fields: str) -> bytes:
    parts = [
        f'--xx\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()
    ]
    head = '--xx\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
    return "".join(parts).encode() + head.encode() + file + b"\r\n--xx--\r\n"


def post(path: str, body: object, world: World | None = None, **headers: str) -> Plan:
    kind = FORM_TYPE if isinstance(body, bytes) else "application/json"
    return answer(world or new_world(), request(path, body, content_type=kind, **headers))


def get(path: str, world: World, method: str = "GET") -> Plan:
    return answer(world, request(path, method=method))


def test_moderations_answer_each_input() -> None:
    results = decoded(post("/v1/moderations", {"input": ["kind words", "violence"]}))["results"]
    assert [result["flagged"] for result in results] == [False, True]
    assert results[1]["categories"]["violence"] is True
    parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    assert len(decoded(post("/v1/moderations", {"input": parts}))["results"]) == 2
    assert decoded(post("/v1/moderations", {"model": "m:seed=1", "input": "x"}))["model"] == "m"


def test_speech_is_streamed_in_blocks() -> None:
    plan = post("/v1/audio/speech", {"model": "tts", "voice": "alloy", "input": "hi"}, x_mock="tokens=3")
    assert plan.content_type == b"audio/mpeg"
    assert [len(beat) for beat in beats(plan)] == [1024, 1024, 1024]
    plan = post("/v1/audio/speech", {"model": "tts", "input": "hi", "response_format": "wav"}, x_mock="bigchunk=3KiB")
    assert plan.content_type == b"audio/wav"
    assert sum(len(beat) for beat in beats(plan)) == 16 * 3072


def test_speech_can_break_in_the_middle() -> None:
    plan = post("/v1/audio/speech", {"model": "tts", "input": "hi"}, x_mock="tokens=3,error_after=2")
    assert sum(len(beat) for beat in beats(plan)) == 2 * 1024
    plan = post("/v1/audio/speech", {"model": "tts", "input": "hi"}, x_mock="tokens=2,badjson_after=1")
    assert b"broken" in b"".join(beats(plan))


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/v1/audio/translations"])
def test_a_transcript_reports_what_arrived(path: str) -> None:
    sent = form(b"\x00" * 100, model="whisper-1")
    body = decoded(post(path, sent))
    assert body["text"] == "A sound of 100 bytes."
    assert (body["body_bytes"], body["file_bytes"]) == (len(sent), 100)
    assert body["body_sha256"] == hashlib.sha256(sent).hexdigest()
    assert post(path, form(b"x", response_format="text")).body == b"A sound of 1 bytes.\n"


def test_images_are_one_pixel_each() -> None:
    body = decoded(post("/v1/images/generations", {"model": "m", "prompt": "a cat", "n": 2}))
    assert len(body["data"]) == 2
    assert body["usage"]["total_tokens"] == 4
    sent = form(b"x", prompt="a cat")
    for path in ("/v1/images/edits", "/v1/images/variations"):
        assert decoded(post(path, sent))["body_bytes"] == len(sent)


def test_a_file_is_kept_until_it_is_deleted() -> None:
    world = new_world()
    made = decoded(post("/v1/files", form(b"\xff\x00", purpose="batch"), world))
    assert (made["object"], made["bytes"], made["purpose"], made["filename"]) == ("file", 2, "batch", "a.bin")
    path = f"/v1/files/{made['id']}"
    assert decoded(get("/v1/files", world))["data"] == [made]
    assert decoded(get(path, world)) == made
    assert get(f"{path}/content", world).body == b"\xff\x00"
    assert decoded(get(path, world, "DELETE")) == {"id": made["id"], "object": "file", "deleted": True}
    assert get(path, world).status == 404
    assert decoded(get("/v1/files", world))["data"] == []


def test_a_batch_is_made_listed_and_cancelled() -> None:
    world = new_world()
    asked = {"input_file_id": "file-1", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    made = decoded(post("/v1/batches", asked, world))
    assert (made["object"], made["status"]) == ("batch", "in_progress")
    path = f"/v1/batches/{made['id']}"
    assert decoded(get("/v1/batches", world))["first_id"] == made["id"]
    assert decoded(get(path, world))["id"] == made["id"]
    assert decoded(post(f"{path}/cancel", {}, world))["status"] == "cancelling"
    assert get("/v1/batches/none", world).status == 404


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/v1/batches", {"endpoint": "/v1/x"}, "input_file_id"),
        ("/v1/moderations", {"model": "m"}, "input"),
        ("/v1/audio/speech", {"model": "m"}, "input"),
        ("/v1/images/generations", {"model": "m"}, "prompt"),
        ("/v1/files", b"--xx--\r\n", "file"),
    ],
)
def test_what_is_missing_is_named(path: str, body: object, named: str) -> None:
    plan = post(path, body)
    assert (plan.status, decoded(plan)["error"]["param"]) == (400, named)


@pytest.mark.parametrize("raw", [b"{", b"[]", b'{"a":"\xff"}'])
def test_a_batch_that_is_no_json_object_is_refused(raw: bytes) -> None:
    plan = answer(new_world(), request("/v1/batches", raw))
    assert (plan.status, decoded(plan)["error"]["code"]) == (400, "invalid_json")
