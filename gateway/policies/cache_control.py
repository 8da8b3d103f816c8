"""The client's own word on the cache: its header `cache-control` (RFC 9111, 5.2.1)."""

from typing import NamedTuple

from gateway.core.errors import Headers


class CacheControl(NamedTuple):
    """What one request allows."""

    looks_up: bool = True
    stores: bool = True
    only_if_cached: bool = False
    max_age_s: float | None = None
    """None: as old as may be."""


ANY = CacheControl()
_MOST_DIGITS = 10


def read_cache_control(headers: Headers) -> CacheControl:
    """What the request's headers say; directives that are not known mean nothing.

    `no-cache`: not looked up, but stored; `no-store`: neither; `max-age=N`: not older than N seconds (an N that
    is no number allows nothing, as a stale answer would be worse than a slow one); `only-if-cached`.
    """
    for name, _ in headers:
        if name == b"cache-control":
            return _read(b",".join([value for name, value in headers if name == b"cache-control"]))
    return ANY


def _read(value: bytes) -> CacheControl:
    looks_up, stores, only_if_cached = True, True, False
    max_age_s: float | None = None
    for part in value.decode("latin-1").lower().split(","):
        directive, _, argument = part.strip().partition("=")
        directive = directive.strip()
        if directive == "no-cache":
            looks_up = False
        elif directive == "no-store":
            looks_up = stores = False
        elif directive == "only-if-cached":
            only_if_cached = True
        elif directive == "max-age":
            age_s = _seconds(argument)
            max_age_s = age_s if max_age_s is None else min(age_s, max_age_s)
    if max_age_s == 0:
        looks_up = False
    return CacheControl(looks_up, stores, only_if_cached, max_age_s)


def _seconds(argument: str) -> float:
    digits = argument.strip().strip('"')
    return float(digits) if digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS else 0.0
