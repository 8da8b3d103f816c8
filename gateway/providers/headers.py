"""Which headers pass between the client and a provider: allow-lists, both ways (F90, F92)."""

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

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


Choice = Callable[[Headers], Sequence[tuple[bytes, bytes]]]


def _choice(places: Sequence[int]) -> Choice:
    """What takes the headers at these places, in C."""
    if len(places) == 1:
        # Of a single place `itemgetter` gives no sequence, but of a slice.
        getter: Any = itemgetter(slice(places[0], places[0] + 1))
    else:
        getter = itemgetter(*places) if places else itemgetter(slice(0))
    return getter  # type: ignore[no-any-return]


class Sieve:
    """Chooses headers by name. It remembers which places it chose for a list of names: peers repeat theirs.

    A third of the time of looking at each name (OpenAI sends 25 headers with every reply).
    """

    def __init__(self, is_wanted: Callable[[bytes], bool]) -> None:
        self._is_wanted = is_wanted
        self._choices: dict[tuple[bytes, ...], Choice] = {}

    def __call__(self, headers: Headers) -> Headers:
        """The wanted ones of `headers`, in their order; a new list."""
        names = tuple(map(_name_of, headers))
        choice = self._choices.get(names)
        if choice is None:
            choice = _choice([place for place, name in enumerate(names) if self._is_wanted(name)])
            if len(names) <= _REMEMBERED_NAMES:
                if len(self._choices) >= _REMEMBERED_LISTS:
                    self._choices.clear()
                self._choices[names] = choice
        return list(choice(headers))


def _goes_down(name: bytes) -> bool:
    return name in FORWARDED_DOWN or name.startswith(_RATE_LIMIT_PREFIXES)


down = Sieve(_goes_down)
"""The provider's headers that the client is sent; framing and encoding are never among them."""


class Layout:
    """Where in a reply's headers the few stand that matter. The same for every reply with these names."""

    __slots__ = ("_request_id", "_type", "choose_down", "has_request_id", "is_encoded")

    def __init__(self, names: tuple[bytes, ...]) -> None:
        self.is_encoded = b"content-encoding" in names
        self._type = _last_place(names, b"content-type")
        ids = [place for name in _REQUEST_ID_NAMES if (place := _last_place(names, name)) is not None]
        self._request_id = ids[0] if ids else None
        self.has_request_id = bool(ids)
        self.choose_down = _choice([place for place, name in enumerate(names) if _goes_down(name)])
        """Those that the client is sent, as `down`, but not always a list."""

    def content_type(self, headers: Headers) -> bytes:
        """The content type, or nothing."""
        return b"" if self._type is None else headers[self._type][1]

    def request_id(self, headers: Headers) -> str | None:
        """The provider's own id of the request, bounded, or None."""
        place = self._request_id
        return None if place is None else headers[place][1][:128].decode("latin-1")

    def down(self, headers: Headers) -> Headers:
        """Those that the client is sent; a new list."""
        return list(self.choose_down(headers))


def _last_place(names: tuple[bytes, ...], wanted: bytes) -> int | None:
    places = [place for place, name in enumerate(names) if name == wanted]
    return places[-1] if places else None


class Layouts:
    """The layouts of replies, remembered: a provider repeats its names with every reply."""

    def __init__(self) -> None:
        self._by_names: dict[tuple[bytes, ...], Layout] = {}

    def __call__(self, headers: Headers) -> Layout:
        """The layout of these headers."""
        names = tuple(map(_name_of, headers))
        known = self._by_names.get(names)
        if known is None:
            known = Layout(names)
            if len(names) <= _REMEMBERED_NAMES:
                if len(self._by_names) >= _REMEMBERED_LISTS:
                    self._by_names.clear()
                self._by_names[names] = known
        return known


def first(headers: Headers, name: bytes) -> bytes | None:
    """The first value of `name`, or None."""
    for key, value in headers:
        if key == name:
            return value
    return None
