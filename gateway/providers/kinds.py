"""What differs between providers: the path of each operation, how a credential is sent, which dialects they speak."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from gateway.core.errors import Headers, InvalidRequest
from gateway.core.exchange import Dialect, Operation, Request
from gateway.wire.strict_json import BoundName

_OPENAI_OPERATIONS: frozenset[Operation] = frozenset({"chat", "text_completion", "embeddings", "responses", "relay"})
_ANTHROPIC_OPERATIONS: frozenset[Operation] = frozenset({"messages", "count_tokens"})

# Azure addresses these by deployment (learn.microsoft.com, "Azure OpenAI REST API reference").
_AZURE_DEPLOYMENT_SUFFIXES = frozenset(
    {
        "chat/completions",
        "completions",
        "embeddings",
        "audio/speech",
        "audio/transcriptions",
        "audio/translations",
        "images/generations",
        "images/edits",
    }
)


_QUERY = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:@/?%\[\]-]{0,8192}")
_API_VERSION = re.compile(rb"(?:^|&)api-version=([A-Za-z0-9-]{1,32})(?:&|$)")


@dataclass(frozen=True, slots=True)
class Addressing:
    """What a path is made of besides the operation: the base URL's path, and Azure's api-version."""

    base_path: str
    api_version: str = ""


PathOf = Callable[[Addressing, Request, str], str]


@dataclass(frozen=True, slots=True)
class ProviderKind:
    """One kind of provider.

    `path` gives the path and query of a request, from fixed templates only: what the client sent
    enters as one percent-encoded segment at most (F89). `credential` gives the headers that carry
    the API key.
    """

    name: str
    dialects: frozenset[Dialect]
    operations: frozenset[Operation]
    path: PathOf
    credential: Callable[[str], Headers]
    forwards: frozenset[bytes] = frozenset()
    """Request headers that only this kind is sent."""

    def default_headers(self, anthropic_version: str) -> Headers:
        """Headers that are sent when the client sent none of that name."""
        return [(b"anthropic-version", anthropic_version.encode("ascii"))] if "anthropic" in self.dialects else []


def chat_bound(kind: str, host: str) -> BoundName:
    """The field by which a chat completion is bounded there.

    OpenAI's reasoning models refuse `max_tokens` (400, unsupported_parameter); many look-alikes know nothing else,
    and ignore the newer field.
    """
    return "max_completion_tokens" if kind == "azure" or host.endswith("api.openai.com") else "max_tokens"


def relayed_query(query: bytes, separator: str) -> str:
    """The client's query for a relayed path, after `separator`; empty when nothing of it is left.

    `api-version` is the provider kind's own matter. Raises InvalidRequest for anything that is not
    a plain query (RFC 3986, 3.4).
    """
    if _QUERY.fullmatch(query) is None:
        raise InvalidRequest("The query of the URL has characters that must be percent-encoded.")
    kept = "&".join(part for part in query.decode("ascii").split("&") if part and not part.startswith("api-version="))
    return separator + kept if kept else ""


def _openai_path(addressing: Addressing, request: Request, model: str) -> str:
    return f"{addressing.base_path}/{request.suffix}"


def _azure_path(addressing: Addressing, request: Request, model: str) -> str:
    asked = _API_VERSION.search(request.query)
    version = f"?api-version={asked.group(1).decode() if asked else quote(addressing.api_version, safe='')}"
    if request.suffix not in _AZURE_DEPLOYMENT_SUFFIXES:
        return f"{addressing.base_path}/openai/{request.suffix}{version}"
    if not model:
        raise InvalidRequest(
            f"An Azure target needs a deployment for {request.suffix}: set `model` on the target.", param="model"
        )
    return f"{addressing.base_path}/openai/deployments/{quote(model, safe='')}/{request.suffix}{version}"


def _anthropic_path(addressing: Addressing, request: Request, model: str) -> str:
    return f"{addressing.base_path}/v1/{request.suffix}"


def _mock_path(addressing: Addressing, request: Request, model: str) -> str:
    return f"{addressing.base_path}/v1/{request.suffix}"


def _bearer(key: str) -> Headers:
    return [(b"authorization", b"Bearer " + key.encode("utf-8"))]


def _azure_key(key: str) -> Headers:
    return [(b"api-key", key.encode("utf-8"))]


def _anthropic_key(key: str) -> Headers:
    return [(b"x-api-key", key.encode("utf-8"))]


KINDS: dict[str, ProviderKind] = {
    kind.name: kind
    for kind in (
        ProviderKind("openai", frozenset({"openai"}), _OPENAI_OPERATIONS, _openai_path, _bearer),
        ProviderKind("azure", frozenset({"openai"}), _OPENAI_OPERATIONS, _azure_path, _azure_key),
        ProviderKind(
            "anthropic",
            frozenset({"anthropic"}),
            _ANTHROPIC_OPERATIONS,
            _anthropic_path,
            _anthropic_key,
        ),
        ProviderKind(
            "mock",
            frozenset({"openai", "anthropic"}),
            _OPENAI_OPERATIONS | _ANTHROPIC_OPERATIONS,
            _mock_path,
            _bearer,
            forwards=frozenset({b"x-mock"}),
        ),
    )
}
