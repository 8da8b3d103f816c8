"""Addresses, URLs, headers and secrets as settings."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from gateway.config import endpoints
from gateway.config.endpoints import Address, is_loopback, looks_secret, parse_address, parse_url, to_secret
from gateway.config.secret import Reference, Secret


def read(kind: Any, value: object) -> Any:
    """`value` as a setting of type `kind`."""
    return TypeAdapter(kind).validate_python(value, strict=True)


@pytest.mark.parametrize("text", ["127.0.0.1:8080", "[::1]:0", "localhost:65535", "0.0.0.0:80"])
def test_an_address_is_shown_as_it_was_written(text: str) -> None:
    assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    "value", [8080, True, "localhost", ":8080", "::1:80", "h:http", "h:70000", "h:٣", "a b:1", None]
)
def test_what_is_no_address_is_refused(value: object) -> None:
    with pytest.raises(PydanticCustomError):
        parse_address(value)


def test_an_address_that_was_read_already_is_left_alone() -> None:
    assert parse_address(Address("::1", 80)) == Address("::1", 80)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("LOCALHOST", True), ("a.localhost", True),
        ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("localhost.example.com", False),
    ],
)  # fmt: skip
def test_loopback_is_known_without_asking_dns(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_a_base_url_loses_the_slash_at_its_end() -> None:
    assert parse_url("https://api.example.com/v1/") == "https://api.example.com/v1"


@pytest.mark.parametrize(
    "value",
    [
        None, "api.example.com", "ftp://h", "https://", "https://h?", "https://h/#", "https://h:0", "https://h:99999",
        "https://[::1", "https://h/a b", "https://h/../x", "https://é.example.com", "env:URL",
    ],
)  # fmt: skip
def test_what_is_no_base_url_is_refused(value: object) -> None:
    with pytest.raises(PydanticCustomError):
        parse_url(value)


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(PydanticCustomError) as refused:
        parse_url("https://user:canary@example.com")
    assert "canary" not in str(refused.value)


def test_a_secret_is_what_a_reference_names() -> None:
    assert to_secret(Reference("env:KEY", "value")) == Secret("elsewhere", "value")


def test_a_secret_written_in_the_file_is_refused_and_not_repeated() -> None:
    with pytest.raises(PydanticCustomError) as refused:
        to_secret("sk-canary")
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("text", ["$OPENAI_API_KEY", "${OPENAI_API_KEY}"])
def test_a_shell_variable_in_place_of_a_secret_gets_its_own_advice(text: str) -> None:
    with pytest.raises(PydanticCustomError) as refused:
        to_secret(text)
    assert refused.value.context is not None
    assert refused.value.context["advice"] == "use env:OPENAI_API_KEY"


def test_a_reference_that_cannot_be_used_is_refused() -> None:
    with pytest.raises(PydanticCustomError):
        to_secret(Reference("file:x", None, "cannot read x"))


@pytest.mark.parametrize("name", ["Host", "Transfer-Encoding", "traceparent", "X-Gateway-Route", "a b", ""])
def test_headers_that_the_gateway_sets_itself_are_refused(name: str) -> None:
    """F90."""
    with pytest.raises(ValidationError):
        read(endpoints.HeaderName, name)


def test_a_header_name_is_kept_in_lower_case() -> None:
    assert read(endpoints.HeaderName, "X-Team") == "x-team"
    assert read(endpoints.HeaderName, "Authorization") == "authorization"


@pytest.mark.parametrize("name", ["Authorization", "X-API-Key", "api-key"])
def test_a_target_has_its_credential_in_api_key_alone(name: str) -> None:
    with pytest.raises(ValidationError):
        read(endpoints.TargetHeaderName, name)


def test_a_header_value_is_text_or_a_secret() -> None:
    assert read(endpoints.HeaderValue, "plain") == "plain"
    assert read(endpoints.HeaderValue, Reference("env:X", "hidden")).reveal() == "hidden"


@pytest.mark.parametrize("value", [5, "a\r\nb: c", "é", ["a"]])
def test_a_header_value_cannot_break_out_of_its_line(value: object) -> None:
    with pytest.raises(ValidationError):
        read(endpoints.HeaderValue, value)


def test_names_of_headers_that_sound_like_credentials_are_known() -> None:
    assert looks_secret("X-Auth-Token")
    assert looks_secret("cookie")
    assert not looks_secret("x-team")


@pytest.mark.parametrize("host", ["llm.example.com", "*.example.com", "localhost", "127.0.0.1", "[::1]"])
def test_an_allowed_host_is_a_name_or_a_wildcard(host: str) -> None:
    assert read(endpoints.HostPattern, host.upper()) == host


@pytest.mark.parametrize("host", ["*", "https://h", "h:80", "a.*.b", ""])
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(ValidationError):
        read(endpoints.HostPattern, host)


def test_a_trace_endpoint_may_be_kept_in_a_variable() -> None:
    assert read(endpoints.Endpoint, "http://127.0.0.1:4318/") == "http://127.0.0.1:4318"
    assert read(endpoints.Endpoint, Reference("env:X", "http://127.0.0.1:4318")) == "http://127.0.0.1:4318"
    assert read(endpoints.Endpoint, Reference("env:X", None)) is None
    with pytest.raises(ValidationError):
        read(endpoints.Endpoint, Reference("env:X", None, "no such thing"))
