"""The paths of the data plane: a fixed list. A path that is not here never reaches a provider (F89, F107).

Paths are matched raw, before any percent-decoding: an encoded slash or dot can only miss. The ids
in relayed paths are one segment of a narrow alphabet.
"""

import re
from dataclasses import dataclass
from typing import Literal

from gateway.core.exchange import Dialect, Operation

BodyKind = Literal["json", "any", "none"]
"""`json` is read whole and parsed; `any` is JSON when its type says so, else passed on as it comes."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation of one path."""

    dialect: Dialect
    operation: Operation
    suffix: str
    """The provider's path below its API version, without a leading slash."""
    body: BodyKind
    model: str | None = None
    """The model, where the path names it (Azure's deployments)."""


_JSON: tuple[tuple[str, Dialect, Operation], ...] = (
    ("chat/completions", "openai", "chat"),
    ("completions", "openai", "text_completion"),
    ("embeddings", "openai", "embeddings"),
    ("responses", "openai", "responses"),
    ("messages", "anthropic", "messages"),
    ("messages/count_tokens", "anthropic", "count_tokens"),
)
_FIXED: dict[tuple[bytes, str], Endpoint] = {
    (b"/v1/" + suffix.encode(), "POST"): Endpoint(dialect, operation, suffix, "json")
    for suffix, dialect, operation in _JSON
}

_ID = r"[A-Za-z0-9][A-Za-z0-9._:-]{0,255}"
# OpenAI's other paths (API reference, November 2026): template, methods, kind of body.
_RELAYED: tuple[tuple[str, str, BodyKind], ...] = (
    ("audio/(?:speech|transcriptions|translations)", "POST", "any"),
    ("images/(?:generations|edits|variations)", "POST", "any"),
    ("moderations", "POST", "any"),
    ("files", "GET POST", "any"),
    (f"files/{_ID}", "GET DELETE", "none"),
    (f"files/{_ID}/content", "GET", "none"),
    ("uploads", "POST", "any"),
    (f"uploads/{_ID}/(?:parts|complete|cancel)", "POST", "any"),
    ("batches", "GET POST", "any"),
    (f"batches/{_ID}", "GET", "none"),
    (f"batches/{_ID}/cancel", "POST", "any"),
    (f"responses/{_ID}", "GET DELETE", "none"),
    (f"responses/{_ID}/cancel", "POST", "any"),
    (f"responses/{_ID}/input_items", "GET", "none"),
    ("responses/(?:compact|input_tokens)", "POST", "any"),
    ("conversations", "POST", "any"),
    (f"conversations/{_ID}", "GET POST DELETE", "any"),
    (f"conversations/{_ID}/items", "GET POST", "any"),
    (f"conversations/{_ID}/items/{_ID}", "GET DELETE", "none"),
    ("vector_stores", "GET POST", "any"),
    (f"vector_stores/{_ID}", "GET POST DELETE", "any"),
    (f"vector_stores/{_ID}/search", "POST", "any"),
    (f"vector_stores/{_ID}/(?:files|file_batches)", "GET POST", "any"),
    (f"vector_stores/{_ID}/files/{_ID}", "GET POST DELETE", "any"),
    (f"vector_stores/{_ID}/files/{_ID}/content", "GET", "none"),
    (f"vector_stores/{_ID}/file_batches/{_ID}", "GET", "none"),
    (f"vector_stores/{_ID}/file_batches/{_ID}/cancel", "POST", "any"),
    (f"vector_stores/{_ID}/file_batches/{_ID}/files", "GET", "none"),
    ("containers", "GET POST", "any"),
    (f"containers/{_ID}", "GET DELETE", "none"),
    (f"containers/{_ID}/files", "GET POST", "any"),
    (f"containers/{_ID}/files/{_ID}", "GET DELETE", "none"),
    (f"containers/{_ID}/files/{_ID}/content", "GET", "none"),
    ("videos", "GET POST", "any"),
    ("videos/(?:edits|extensions)", "POST", "any"),
    (f"videos/{_ID}", "GET DELETE", "none"),
    (f"videos/{_ID}/content", "GET", "none"),
    (f"videos/{_ID}/remix", "POST", "any"),
    ("fine_tuning/jobs", "GET POST", "any"),
    (f"fine_tuning/jobs/{_ID}", "GET", "none"),
    (f"fine_tuning/jobs/{_ID}/(?:cancel|pause|resume)", "POST", "any"),
    (f"fine_tuning/jobs/{_ID}/(?:events|checkpoints)", "GET", "none"),
)
_RELAYED_PATTERNS = [
    (re.compile(rf"/v1/({template})".encode()), frozenset(methods.split()), body)
    for template, methods, body in _RELAYED
]

_AZURE: dict[str, tuple[Operation, BodyKind]] = {
    "chat/completions": ("chat", "json"),
    "completions": ("text_completion", "json"),
    "embeddings": ("embeddings", "json"),
    "audio/speech": ("relay", "any"),
    "audio/transcriptions": ("relay", "any"),
    "audio/translations": ("relay", "any"),
    "images/generations": ("relay", "any"),
}
_AZURE_PATH = re.compile(rf"/openai/deployments/({_ID})/([a-z/]+)".encode())
# The newer Azure surface has OpenAI's own paths below /openai/v1.
_AZURE_V1 = b"/openai/v1/"


def find(method: str, raw_path: bytes) -> Endpoint | frozenset[str] | None:
    """The endpoint of a request; the methods that the path has, when it is another; None for no such path."""
    endpoint = _FIXED.get((raw_path, method))
    if endpoint is not None:
        return endpoint
    if raw_path.startswith(_AZURE_V1):
        raw_path = raw_path[len(b"/openai") :]
        endpoint = _FIXED.get((raw_path, method))
        if endpoint is not None:
            return endpoint
    return _find_azure(method, raw_path) or _find_relayed(method, raw_path)


def _find_azure(method: str, raw_path: bytes) -> Endpoint | frozenset[str] | None:
    match = _AZURE_PATH.fullmatch(raw_path)
    if match is None:
        return None
    deployment, suffix = match.group(1).decode(), match.group(2).decode()
    known = _AZURE.get(suffix)
    if known is None:
        return None
    if method != "POST":
        return frozenset({"POST"})
    operation, body = known
    return Endpoint("openai", operation, suffix, body, model=deployment)


def _find_relayed(method: str, raw_path: bytes) -> Endpoint | frozenset[str] | None:
    methods: set[str] = {"POST"} if (raw_path, "POST") in _FIXED else set()
    for pattern, allowed, body in _RELAYED_PATTERNS:
        match = pattern.fullmatch(raw_path)
        if match is None:
            continue
        if method in allowed:
            kind: BodyKind = body if method == "POST" else "none"
            return Endpoint("openai", "relay", match.group(1).decode(), kind)
        methods |= allowed
    return frozenset(methods) or None
