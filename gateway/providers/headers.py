"""Which headers pass between the client and a provider: allow-lists, both ways (F90, F92)."""

from collections.abc import Callable
from operator import itemgetter

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

_REMEMBERED_NAMES = 64
_REMEMBERED_LISTS = 256
_name_of = itemgetter(0)

_REQUEST_ID_NAMES = (b"x-request-id", b"request-id", b"apim-request-id", b"opc-request-id")


class Sieve:
    """Chooses headers by name. It remembers which places it chose for a list of names: peers repeat theirs.

    A third of the time of looking at each name (OpenAI sends 25 headers with every reply).
    """

    def __init__(self, is_wanted: Callable[[bytes], bool]) -> None:
        self._is_wanted = is_wanted
        self._places: dict[tuple[bytes, ...], tuple[int, ...]] = {}

    def __call__(self, headers: Headers) -> Headers:
        """The wanted ones of `headers`, in their order; a new list."""
        names = tuple(map(_name_of, headers))
        places = self._places.get(names)
        if places is None:
            places = tuple([place for place, name in enumerate(names) if self._is_wanted(name)])
            if len(names) <= _REMEMBERED_NAMES:
                if len(self._places) >= _REMEMBERED_LISTS:
                    self._places.clear()
                self._places[names] = places
        return [headers[place] for place in places]


def _goes_down(name: bytes) -> bool:
    return name in FORWARDED_DOWN or name.startswith(_RATE_LIMIT_PREFIXES)


down = Sieve(_goes_down)
"""The provider's headers that the client is sent; framing and encoding are never among them."""


def first(headers: Headers, name: bytes) -> bytes | None:
    """The first value of `name`, or None."""
    for key, value in headers:
        if key == name:
            return value
    return None


def request_id(by_name: dict[bytes, bytes]) -> str | None:
    """The provider's own id of the request, bounded, or None."""
    for name in _REQUEST_ID_NAMES:
        if name in by_name:
            return by_name[name][:128].decode("latin-1")
    return None
