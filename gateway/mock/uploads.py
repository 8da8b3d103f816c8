"""Files and batches that were sent to the mock, kept in memory within bounds."""

import hashlib
import re
from collections import OrderedDict
from dataclasses import dataclass, field

from gateway.core.errors import InvalidRequest

MAX_FILES = 100
MAX_STORED_BYTES = 256 * 1024 * 1024
MAX_BATCHES = 1000
_BOUNDARY = re.compile(rb'boundary="?([^";,]+)"?', re.IGNORECASE)
_PARAMETER = re.compile(rb'\b(name|filename)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class FormPart:
    """One field of a multipart form."""

    name: str
    filename: str | None
    value: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One uploaded file."""

    id: str
    filename: str
    purpose: str
    created: int
    content: bytes = field(repr=False)

    def describe(self) -> dict[str, object]:
        """OpenAI's file object."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": len(self.content),
            "created_at": self.created,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
            "expires_at": None,
            "status_details": None,
        }


class Shelf:
    """What was uploaded; the oldest goes when there is too much."""

    def __init__(self) -> None:
        self.files: OrderedDict[str, StoredFile] = OrderedDict()
        self.batches: OrderedDict[str, dict[str, object]] = OrderedDict()

    def keep(self, stored: StoredFile) -> None:
        """Keep a file. Raises InvalidRequest when it alone is too large."""
        if len(stored.content) > MAX_STORED_BYTES:
            raise InvalidRequest(f"The mock keeps files up to {MAX_STORED_BYTES} bytes.", param="file")
        self.files[stored.id] = stored
        while len(self.files) > MAX_FILES or self._bytes() > MAX_STORED_BYTES:
            self.files.popitem(last=False)

    def keep_batch(self, batch_id: str, batch: dict[str, object]) -> None:
        """Keep a batch."""
        self.batches[batch_id] = batch
        while len(self.batches) > MAX_BATCHES:
            self.batches.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self.files.clear()
        self.batches.clear()

    def _bytes(self) -> int:
        return sum(len(stored.content) for stored in self.files.values())


def read_form(content_type: bytes, body: bytes) -> list[FormPart]:
    """The fields of a `multipart/form-data` body (RFC 7578). Raises InvalidRequest when it is none."""
    boundary = _BOUNDARY.search(content_type)
    if not content_type.lower().startswith(b"multipart/form-data") or boundary is None:
        raise InvalidRequest("This endpoint takes multipart/form-data with a boundary.")
    marker = b"--" + boundary[1].strip()
    parts: list[FormPart] = []
    for raw in (b"\r\n" + body).split(b"\r\n" + marker)[1:]:
        if raw.startswith(b"--"):
            return parts
        head, separator, value = raw.partition(b"\r\n\r\n")
        named = {key: value.decode("utf-8", "replace") for key, value in _PARAMETER.findall(head)}
        if not separator or b"name" not in named:
            raise InvalidRequest("A part of the multipart form has no name.")
        parts.append(FormPart(named[b"name"], named.get(b"filename"), value))
    raise InvalidRequest("The multipart form ends before its closing boundary.")


def form_text(parts: list[FormPart], name: str) -> str | None:
    """The text of the field `name`, None without one."""
    for part in parts:
        if part.name == name:
            return part.value.decode("utf-8", "replace")
    return None


def form_file(parts: list[FormPart], name: str) -> FormPart:
    """The file in the field `name`. Raises InvalidRequest without one."""
    for part in parts:
        if part.name == name and part.filename is not None:
            return part
    raise InvalidRequest(f"Missing required parameter: '{name}'.", param=name)


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()
