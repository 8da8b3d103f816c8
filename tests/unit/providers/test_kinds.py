"""What differs between providers."""

import pytest

from gateway.core.errors import InvalidRequest
from gateway.core.exchange import Operation
from gateway.providers.kinds import KINDS, Addressing, chat_bound, relayed_query
from tests.fakes import request

BASE = Addressing("/base", "2024-10-21")


def _path(kind: str, suffix: str, *, model: str = "m", query: bytes = b"", base: Addressing = BASE) -> str:
    return KINDS[kind].path(base, request(suffix=suffix, query=query), model)


@pytest.mark.parametrize(
    ("kind", "suffix", "path"),
    [
        ("openai", "chat/completions", "/base/chat/completions"),
        ("anthropic", "messages", "/base/v1/messages"),
        ("mock", "messages/count_tokens", "/base/v1/messages/count_tokens"),
        ("azure", "chat/completions", "/base/openai/deployments/m/chat/completions?api-version=2024-10-21"),
        ("azure", "images/edits", "/base/openai/deployments/m/images/edits?api-version=2024-10-21"),
        ("azure", "files/file-1", "/base/openai/files/file-1?api-version=2024-10-21"),
        ("azure", "responses", "/base/openai/responses?api-version=2024-10-21"),
    ],
)
def test_each_kind_has_its_own_paths(kind: str, suffix: str, path: str) -> None:
    assert _path(kind, suffix) == path


@pytest.mark.parametrize("model", ["../admin", "a/b", "a?b=c", "a#b", "a%2fb", "a b", "ä"])
def test_a_model_enters_a_path_as_one_encoded_segment(model: str) -> None:
    """F89: the client cannot choose the provider's path."""
    path, _, query = _path("azure", "embeddings", model=model).partition("?")
    assert path.isascii()
    assert path.count("/") == "/base/openai/deployments/m/embeddings".count("/")
    assert query == "api-version=2024-10-21"


@pytest.mark.parametrize(
    ("query", "version"),
    [
        (b"api-version=2025-01-01-preview", "2025-01-01-preview"),
        (b"a=b&api-version=v1&c=d", "v1"),
        (b"", "2024-10-21"),
        (b"xapi-version=v1", "2024-10-21"),
        (b"api-version=a%0d%0ab", "2024-10-21"),
        (b"api-version=" + b"a" * 33, "2024-10-21"),
    ],
)
def test_azures_version_is_the_clients_if_it_is_sound(query: bytes, version: str) -> None:
    assert _path("azure", "embeddings", query=query).endswith(f"?api-version={version}")


def test_an_azure_path_without_a_deployment_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="set `model` on the target") as caught:
        _path("azure", "audio/speech", model="")
    assert caught.value.param == "model"


@pytest.mark.parametrize(
    ("kind", "headers"),
    [
        ("openai", [(b"authorization", b"Bearer sk-1")]),
        ("mock", [(b"authorization", b"Bearer sk-1")]),
        ("azure", [(b"api-key", b"sk-1")]),
        ("anthropic", [(b"x-api-key", b"sk-1")]),
    ],
)
def test_each_kind_sends_its_credential_in_its_own_way(kind: str, headers: list[tuple[bytes, bytes]]) -> None:
    assert KINDS[kind].credential("sk-1") == headers


def test_anthropics_version_is_a_default_where_anthropic_is_spoken() -> None:
    assert KINDS["anthropic"].default_headers("2023-06-01") == [(b"anthropic-version", b"2023-06-01")]
    assert KINDS["openai"].default_headers("2023-06-01") == []


def test_only_the_mock_is_sent_directives() -> None:
    assert {name: kind.forwards for name, kind in KINDS.items() if kind.forwards} == {"mock": {b"x-mock"}}


@pytest.mark.parametrize("operation", ["chat", "text_completion", "embeddings", "responses", "relay"])
def test_openais_operations_are_openais_and_azures(operation: Operation) -> None:
    assert [name for name, kind in KINDS.items() if operation in kind.operations] == ["openai", "azure", "mock"]


@pytest.mark.parametrize("operation", ["messages", "count_tokens"])
def test_anthropics_operations_are_anthropics(operation: Operation) -> None:
    assert [name for name, kind in KINDS.items() if operation in kind.operations] == ["anthropic", "mock"]


@pytest.mark.parametrize(
    ("query", "relayed"),
    [
        (b"", ""),
        (b"limit=2&after=file-1", "?limit=2&after=file-1"),
        (b"api-version=v1", ""),
        (b"limit=2&api-version=v1&&order=asc", "?limit=2&order=asc"),
        (b"include[]=a%20b", "?include[]=a%20b"),
    ],
)
def test_a_query_is_relayed_without_the_version(query: bytes, relayed: str) -> None:
    assert relayed_query(query, "?") == relayed


@pytest.mark.parametrize("query", [b"a b", b"a\r\nhost: x", b"a#b", b"\xc3\xa4", b'"', b"a" * 8193])
def test_a_query_that_is_none_is_refused(query: bytes) -> None:
    """F94: nothing of it may end the request line."""
    with pytest.raises(InvalidRequest, match="percent-encoded"):
        relayed_query(query, "?")


@pytest.mark.parametrize(
    ("kind", "host", "name"),
    [
        ("openai", "api.openai.com", "max_completion_tokens"),
        ("openai", "eu.api.openai.com", "max_completion_tokens"),
        ("azure", "models.example.com", "max_completion_tokens"),
        ("openai", "models.example.com", "max_tokens"),
        ("mock", "127.0.0.1", "max_tokens"),
    ],
)
def test_a_chat_is_bounded_by_the_field_that_the_provider_knows(kind: str, host: str, name: str) -> None:
    assert chat_bound(kind, host) == name
