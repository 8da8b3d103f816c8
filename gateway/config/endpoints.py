"""The types of settings that reach outside: listeners, base URLs, headers, secrets."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, PlainSerializer, PlainValidator, WithJsonSchema

from gateway.config.fields import matching, refuse
from gateway.config.secret import Reference, Secret, is_reference

SECRET_PATTERN = r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)$"
HEADER_PATTERN = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$"
CREDENTIAL_HEADERS = frozenset({"authorization", "x-api-key", "api-key", "x-goog-api-key", "proxy-authorization"})
_OWN_HEADERS = frozenset(
    {
        "connection", "content-encoding", "content-length", "content-type", "expect", "host", "keep-alive",
        "proxy-authenticate", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
        "accept-encoding", "traceparent", "tracestate", "baggage", "x-request-id",
    }
)  # fmt: skip
_SECRET_WORD = re.compile(r"auth|cookie|credential|key|password|secret|token", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. Port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        """`host:port`, IPv6 in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine, without asking DNS."""
    if host.casefold() in {"localhost", "localhost."} or host.casefold().endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse_address(value: object) -> Address:
    """`host:port`, with IPv6 in brackets. Raises PydanticCustomError."""
    if isinstance(value, Address):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        raise refuse(f"{value} is not an address", f"write 127.0.0.1:{value}")
    if not isinstance(value, str):
        raise refuse("must be an address", "write host:port, such as 127.0.0.1:8080")
    host, colon, port = value.rpartition(":")
    if not colon:
        raise refuse(f'"{value}" has no port', f"write {value}:8080")
    if not host:
        raise refuse(f'"{value}" has no host', f"write 127.0.0.1:{port}, or 0.0.0.0:{port} for every interface")
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise refuse(f'"{port}" is not a port', "write 0 to 65535")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if ":" in host and bare == host:
        raise refuse(f'"{value}" is ambiguous', f"write IPv6 in brackets: [{host}]:{port}")
    if not re.fullmatch(r"[A-Za-z0-9._:%-]+", bare):
        raise refuse(f'"{host}" is not a host')
    return Address(bare, int(port))


ListenAddress = Annotated[
    Address,
    PlainValidator(parse_address),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["127.0.0.1:8080"]}),
]


def _host(value: str) -> str:
    if re.fullmatch(r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_.])?|\[[0-9A-Fa-f:.]+\]", value) is None:
        raise refuse(
            f'"{value[:80]}" is not a host name', "write api.example.com or *.example.com, without scheme or port"
        )
    return value.lower()


HostPattern = Annotated[
    str, AfterValidator(_host), WithJsonSchema({"type": "string", "examples": ["llm.example.com", "*.example.com"]})
]
"""A host name in lower case, or `*.` and a domain."""


def to_secret(value: object) -> Secret:
    """The secret that a reference names. Raises PydanticCustomError for one written in the file; never repeats it."""
    if not isinstance(value, Reference):
        advice = "use env:NAME or file:PATH"
        if isinstance(value, str) and (found := re.fullmatch(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?", value)):
            advice = f"use env:{found[1]}"
        raise refuse("a secret is not written in the file", advice)
    if value.problem:
        raise refuse(value.problem)
    return Secret(str(value), value.value)


SecretText = Annotated[
    Secret, PlainValidator(to_secret), PlainSerializer(lambda secret: secret.source, return_type=str),
    WithJsonSchema({"type": "string", "pattern": SECRET_PATTERN, "examples": ["env:OPENAI_API_KEY"]}),
]  # fmt: skip


def _header_name(value: str) -> str:
    name = matching(HEADER_PATTERN, "a header's name", "use letters, digits and dashes")(value).lower()
    if name in _OWN_HEADERS or name.startswith(("x-gateway-", "proxy-", "sec-")):
        raise refuse(f"`{name}` is set by the gateway itself", "remove it")
    return name


def _target_header_name(value: str) -> str:
    name = _header_name(value)
    if name in CREDENTIAL_HEADERS:
        raise refuse(f"`{name}` carries the target's credential", "use `api_key`")
    return name


_header_json = WithJsonSchema({"type": "string", "pattern": HEADER_PATTERN})
HeaderName = Annotated[str, AfterValidator(_header_name), _header_json]
TargetHeaderName = Annotated[str, AfterValidator(_target_header_name), _header_json]


def _header_value(value: object) -> str | Secret:
    if is_reference(value):
        return to_secret(value)
    if not isinstance(value, str):
        raise refuse("a header's value is text", f'write "{value}"' if isinstance(value, int | float) else "")
    if not value.isascii() or not value.isprintable():
        raise refuse("a header's value is printable ASCII on one line")
    return value


HeaderValue = Annotated[
    str | Secret,
    PlainValidator(_header_value),
    PlainSerializer(lambda value: value if isinstance(value, str) else value.source, return_type=str),
    WithJsonSchema({"type": "string"}),
]


def looks_secret(header: str) -> bool:
    """Whether a header of this name likely carries a credential, which may not be written in the file."""
    return _SECRET_WORD.search(header) is not None


def parse_url(value: object) -> str:
    """A base URL without the slash at its end. Raises PydanticCustomError."""
    if not isinstance(value, str):
        raise refuse("must be a URL", "write https://host")
    text = value.strip()
    try:
        parts = urlsplit(text)
        port_is_valid = parts.port != 0
    except ValueError:
        raise refuse("not a URL", "write https://host, IPv6 in brackets") from None
    # Said before anything that repeats the URL: what stands there is a password.
    if "@" in parts.netloc:
        raise refuse("a URL holds no user name or password", "use `api_key`")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise refuse(f'"{text[:80]}" is not an http or https URL', "write https://host")
    if parts.query or "?" in text:
        raise refuse("a base URL has no query", "remove everything from the ? on")
    if parts.fragment or "#" in text:
        raise refuse("a base URL has no fragment", "remove everything from the # on")
    if not port_is_valid or not text.isascii() or not re.fullmatch(r"[!-~]+", text) or ".." in parts.path:
        raise refuse(f'"{text[:80]}" is not a usable URL')
    return text.rstrip("/")


BaseUrl = Annotated[
    str, PlainValidator(parse_url), WithJsonSchema({"type": "string", "format": "uri", "pattern": "^https?://"})
]
"""An http or https URL without a slash at its end, user, query or fragment."""


def _endpoint(value: object) -> str | None:
    if isinstance(value, Reference):
        if value.problem:
            raise refuse(value.problem)
        return None if value.value is None else parse_url(value.value)
    return parse_url(value)


Endpoint = Annotated[
    str | None, PlainValidator(_endpoint), WithJsonSchema({"type": "string", "examples": ["http://127.0.0.1:4318"]})
]
"""A URL, written here or kept in `env:NAME`; None when that is not set."""
