"""The endpoints that a gateway only relays: speech, transcripts, images, moderations, files, batches."""

import base64
from collections.abc import Callable

import msgspec

from gateway.core.errors import InvalidRequest, NotFound
from gateway.mock.bodies import read_body, require
from gateway.mock.directives import Directives
from gateway.mock.plan import MockRequest, Plan, Stream
from gateway.mock.uploads import StoredFile, digest, form_file, form_text, read_form
from gateway.mock.world import World

Relay = Callable[[World, MockRequest, Directives, str], Plan]
"""The last argument is what stands in the path after the endpoint's own name."""

JSON = b"application/json"
SPEECH_BLOCK_BYTES = 1024
_PIXEL = base64.b64encode(
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"
    b"\x00\x00\x00\rIDATx\x9cc\xf8\xff\xff?\x00\x05\xfe\x02\xfe\xa75\x81\x84\x00\x00\x00\x00IEND\xaeB`\x82"
).decode()
_CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)
_AUDIO_TYPES = {"opus": b"audio/opus", "aac": b"audio/aac", "flac": b"audio/flac", "wav": b"audio/wav"}


class _Sound:
    """Speech: blocks of bytes, without frames."""

    def opening(self) -> list[bytes]:
        return []

    def piece(self, text: bytes) -> bytes:
        return text

    def closing(self) -> list[bytes]:
        return []

    def error(self, status: int) -> bytes:
        return b""


def moderations(world: World, request: MockRequest, directives: Directives, rest: str) -> Plan:
    """One result for each input; a text with the word `violence` is flagged."""
    body = read_body(request.body)
    require("input", body.input)
    inputs = [body.input] if isinstance(body.input, str) else list(body.input or ())
    results = []
    for given in inputs:
        flagged = isinstance(given, str) and "violence" in given
        categories = {name: flagged and name == "violence" for name in _CATEGORIES}
        results.append(
            {
                "flagged": flagged,
                "categories": categories,
                "category_scores": {name: 0.98 if hit else 0.0001 for name, hit in categories.items()},
                "category_applied_input_types": {name: ["text"] for name in _CATEGORIES},
            }
        )
    model = (body.model or "omni-moderation-latest").partition(":")[0]
    return _json({"id": f"modr-{world.next_call():024x}", "model": model, "results": results})


def speech(world: World, request: MockRequest, directives: Directives, rest: str) -> Plan:
    """Bytes instead of sound, block by block; a block is a token to the directives."""
    body = read_body(request.body)
    require("input", body.input)
    blocks = 16 if directives.tokens is None else directives.tokens
    size = directives.bigchunk or SPEECH_BLOCK_BYTES
    block = (b"\xff\xfb\x90\x00" + bytes(range(256)) * (size // 256 + 1))[:size]
    content_type = _AUDIO_TYPES.get(str(body.response_format), b"audio/mpeg")
    return Plan(200, content_type, stream=Stream(_Sound(), [block] * blocks, is_event_stream=False))


def transcription(world: World, request: MockRequest, directives: Directives, rest: str) -> Plan:
    """A text, with the number of bytes and the SHA-256 of the body as it arrived, and of the file in it."""
    parts = read_form(request.header(b"content-type") or b"", request.body)
    sound = form_file(parts, "file")
    text = f"A sound of {len(sound.value)} bytes."
    if form_text(parts, "response_format") == "text":
        return Plan(200, b"text/plain; charset=utf-8", text.encode() + b"\n")
    return _json(
        {
            "text": text,
            "usage": {"type": "duration", "seconds": 1},
            "body_bytes": len(request.body),
            "body_sha256": digest(request.body),
            "file_bytes": len(sound.value),
            "file_sha256": digest(sound.value),
        }
    )


def images(world: World, request: MockRequest, directives: Directives, rest: str) -> Plan:
    """One white pixel for each image that is wanted; of an upload, its size and SHA-256 as well."""
    answer: dict[str, object] = {"created": world.dates.refresh()}
    wanted = 1
    if rest == "generations":
        body = read_body(request.body)
        require("prompt", body.prompt)
        wanted = body.choices
        answer["usage"] = {
            "input_tokens": body.input_tokens(),
            "output_tokens": wanted,
            "total_tokens": body.input_tokens() + wanted,
            "input_tokens_details": {"text_tokens": body.input_tokens(), "image_tokens": 0},
        }
    else:
        read_form(request.header(b"content-type") or b"", request.body)
        answer |= {"body_bytes": len(request.body), "body_sha256": digest(request.body)}
    answer["data"] = [{"b64_json": _PIXEL} for _ in range(wanted)]
    return _json(answer)


def files(world: World, request: MockRequest, directives: Directives, rest: str) -> Plan:
    """Upload, list, read, content and deletion of files."""
    shelf = world.shelf
    if not rest:
        if request.method == "POST":
            parts = read_form(request.header(b"content-type") or b"", request.body)
            sent = form_file(parts, "file")
            stored = StoredFile(
                id=f"file-{world.next_call():024x}",
                filename=sent.filename or "upload",
                purpose=form_text(parts, "purpose") or "user_data",
                created=world.dates.refresh(),
                content=sent.value,
            )
            shelf.keep(stored)
            return _json(stored.describe())
        return _json(_page([stored.describe() for stored in shelf.files.values()]))
    file_id, _, part = rest.partition("/")
    found = shelf.files.get(file_id)
    if found is None or part not in ("", "content"):
        raise NotFound(f"No such File object: {file_id}", code="not_found", param="id")
    if request.method == "DELETE":
        del shelf.files[file_id]
        return _json({"id": file_id, "object": "file", "deleted": True})
    if part == "content":
        return Plan(200, b"application/octet-stream", found.content)
    return _json(found.describe())


def batches(world: World, request: MockRequest, directives: Directives, rest: str) -> Plan:
    """Creation, list, reading and cancelling of batches, which never finish."""
    shelf = world.shelf
    if not rest:
        if request.method == "POST":
            batch = _new_batch(world, request.body)
            shelf.keep_batch(str(batch["id"]), batch)
            return _json(batch)
        return _json(_page(list(shelf.batches.values())))
    batch_id, _, verb = rest.partition("/")
    found = shelf.batches.get(batch_id)
    if found is None or verb not in ("", "cancel"):
        raise NotFound(f"No batch found with id '{batch_id}'.", code="not_found", param="id")
    if verb == "cancel":
        found |= {"status": "cancelling", "cancelling_at": world.dates.refresh()}
    return _json(found)


def _new_batch(world: World, raw: bytes) -> dict[str, object]:
    try:
        asked = msgspec.json.decode(raw, type=dict[str, object])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as fault:
        raise InvalidRequest(
            f"We could not parse the JSON body of your request: {fault}", code="invalid_json"
        ) from fault
    for name in ("input_file_id", "endpoint", "completion_window"):
        require(name, asked.get(name))
    now = world.dates.refresh()
    return {
        "id": f"batch_{world.next_call():024x}",
        "object": "batch",
        "endpoint": asked["endpoint"],
        "errors": None,
        "input_file_id": asked["input_file_id"],
        "completion_window": asked["completion_window"],
        "status": "in_progress",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": now,
        "in_progress_at": now,
        "expires_at": now + 86_400,
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "metadata": asked.get("metadata"),
    }


def _page(items: list[dict[str, object]]) -> dict[str, object]:
    return {
        "object": "list",
        "data": items,
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
        "has_more": False,
    }


def _json(answer: dict[str, object]) -> Plan:
    return Plan(200, JSON, msgspec.json.encode(answer))
