"""Which headers pass between the client and a provider: allow-lists, both ways (F90, F92)."""

from functools import lru_cache

from gateway.core.errors import Headers

# A credential, a cookie, a forwarded-for or another gateway's header never goes up: what is not
# named here stays. `openai-organization` and `openai-project` choose who pays at the provider, and
# the provider's credential is the gateway's, so they stay too.
FORWARDED_UP = frozenset(
    {
        b"accept",
        b"anthropic-beta",
        b"anthropic-version",
        b"content-type",
        b"idempotency-key",
        b"openai-beta",
        b"user-agent",
        b"x-ms-client-request-id",
    }
)

FORWARDED_DOWN = frozenset(
    {
        b"apim-request-id",
        b"content-disposition",
        b"content-language",
        b"content-type",
        b"openai-model",
        b"openai-processing-ms",
        b"openai-version",
        b"retry-after",
        b"retry-after-ms",
        b"x-ms-region",
        b"x-should-retry",
    }
)
_RATE_LIMIT_PREFIXES = (b"x-ratelimit-", b"anthropic-ratelimit-")

_REQUEST_ID_NAMES = frozenset({b"x-request-id", b"request-id", b"apim-request-id", b"opc-request-id"})


def down(headers: Headers) -> Headers:
    """The provider's headers that the client is sent; framing and encoding are never among them."""
    return [item for item in headers if _goes_down(item[0])]


@lru_cache(maxsize=512)
def _goes_down(name: bytes) -> bool:
    return name in FORWARDED_DOWN or name.startswith(_RATE_LIMIT_PREFIXES)


def first(headers: Headers, name: bytes) -> bytes | None:
    """The first value of `name`, or None."""
    for key, value in headers:
        if key == name:
            return value
    return None


def request_id(headers: Headers) -> str | None:
    """The provider's own id of the request, bounded, or None."""
    for key, value in headers:
        if key in _REQUEST_ID_NAMES:
            return value[:128].decode("latin-1")
    return None
