"""The paths of the data plane."""

import pytest

from gateway.core.exchange import Operation
from gateway.edge.endpoints import BodyKind, Endpoint, find


@pytest.mark.parametrize(
    ("path", "operation", "suffix"),
    [
        (b"/v1/chat/completions", "chat", "chat/completions"),
        (b"/v1/completions", "text_completion", "completions"),
        (b"/v1/embeddings", "embeddings", "embeddings"),
        (b"/v1/responses", "responses", "responses"),
        (b"/openai/v1/chat/completions", "chat", "chat/completions"),
        (b"/openai/v1/responses", "responses", "responses"),
    ],
)
def test_openais_paths_are_read_as_json(path: bytes, operation: Operation, suffix: str) -> None:
    assert find("POST", path) == Endpoint("openai", operation, suffix, "json")


@pytest.mark.parametrize(
    ("path", "operation"), [(b"/v1/messages", "messages"), (b"/v1/messages/count_tokens", "count_tokens")]
)
def test_anthropics_paths_are_anthropics(path: bytes, operation: Operation) -> None:
    assert find("POST", path) == Endpoint("anthropic", operation, path.decode()[4:], "json")


@pytest.mark.parametrize(
    ("suffix", "operation", "body"),
    [
        ("chat/completions", "chat", "json"),
        ("completions", "text_completion", "json"),
        ("embeddings", "embeddings", "json"),
        ("audio/transcriptions", "relay", "any"),
        ("images/generations", "relay", "any"),
    ],
)
def test_azures_paths_name_the_model(suffix: str, operation: Operation, body: BodyKind) -> None:
    path = f"/openai/deployments/gpt-4.1/{suffix}".encode()
    assert find("POST", path) == Endpoint("openai", operation, suffix, body, model="gpt-4.1")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", b"/v1/audio/speech", "any"),
        ("POST", b"/v1/files", "any"),
        ("GET", b"/v1/files", "none"),
        ("DELETE", b"/v1/files/file-1", "none"),
        ("GET", b"/v1/files/file-1/content", "none"),
        ("POST", b"/v1/batches/batch_1/cancel", "any"),
        ("GET", b"/v1/responses/resp_1", "none"),
        ("POST", b"/v1/responses/compact", "any"),
        ("POST", b"/v1/vector_stores/vs_1/search", "any"),
        ("GET", b"/v1/vector_stores/vs_1/files/file-1/content", "none"),
        ("POST", b"/v1/vector_stores/vs_1/file_batches/b_1/cancel", "any"),
        ("GET", b"/v1/vector_stores/vs_1/file_batches/b_1/files", "none"),
        ("POST", b"/v1/containers/c_1/files", "any"),
        ("GET", b"/v1/containers/c_1/files/f_1/content", "none"),
        ("POST", b"/v1/videos", "any"),
        ("POST", b"/v1/videos/edits", "any"),
        ("GET", b"/v1/videos/video_1/content", "none"),
        ("DELETE", b"/v1/conversations/conv_1/items/msg_1", "none"),
        ("GET", b"/openai/v1/files", "none"),
    ],
)
def test_other_openai_paths_are_relayed_from_a_fixed_list(method: str, path: bytes, body: BodyKind) -> None:
    suffix = path.decode().split("/v1/", 1)[1]
    assert find(method, path) == Endpoint("openai", "relay", suffix, body)


@pytest.mark.parametrize(
    "path",
    [
        b"/",
        b"",
        b"/v1",
        b"/v1/",
        b"/v2/chat/completions",
        b"/v1/chat/completions/",
        b"//v1/chat/completions",
        b"/v1/chat%2fcompletions",
        b"/v1/../admin/v1/config",
        b"/v1/files/..",
        b"/v1/files/../batches",
        b"/v1/files/a%2fb",
        b"/v1/files/a/b",
        b"/v1/files/" + b"a" * 257,
        b"/v1/files/file-1\n",
        b"/v1/organization/admin_api_keys",
        b"/openai/deployments/a/b/chat/completions",
        b"/openai/deployments/../chat/completions",
        b"/openai/deployments/gpt-4.1/fine_tune",
        b"/openai/v1/../v1/files",
        b"/metrics",
        b"/admin/v1/config",
    ],
)
def test_a_path_that_is_not_listed_does_not_exist(path: bytes) -> None:
    """F89, F107."""
    assert find("POST", path) is None
    assert find("GET", path) is None


@pytest.mark.parametrize(
    ("method", "path", "methods"),
    [
        ("GET", b"/v1/chat/completions", {"POST"}),
        ("PUT", b"/v1/files", {"GET", "POST"}),
        ("GET", b"/openai/deployments/m/embeddings", {"POST"}),
        ("PATCH", b"/v1/batches/b", {"GET"}),
        ("post", b"/v1/embeddings", {"POST"}),
        ("PUT", b"/openai/v1/responses", {"POST"}),
    ],
)
def test_another_method_is_told_which_there_are(method: str, path: bytes, methods: set[str]) -> None:
    assert find(method, path) == frozenset(methods)


def test_every_method_of_a_path_with_two_patterns_is_told() -> None:
    assert find("PUT", b"/v1/responses/compact") == frozenset({"GET", "DELETE", "POST"})
