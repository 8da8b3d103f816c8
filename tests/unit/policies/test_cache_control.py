"""The client's own word on the cache."""

import pytest

from gateway.core.errors import Headers
from gateway.policies.cache_control import ANY, CacheControl, read_cache_control


@pytest.mark.parametrize(
    ("value", "control"),
    [
        (b"no-cache", CacheControl(looks_up=False)),
        (b"no-store", CacheControl(looks_up=False, stores=False)),
        (b"No-Store , max-age=5", CacheControl(False, False, False, 5.0)),
        (b"max-age=60", CacheControl(max_age_s=60.0)),
        (b'max-age="60"', CacheControl(max_age_s=60.0)),
        (b"max-age=60, max-age=10", CacheControl(max_age_s=10.0)),
        (b"max-age=0", CacheControl(looks_up=False, max_age_s=0.0)),
        (b"max-age=soon", CacheControl(looks_up=False, max_age_s=0.0)),
        (b"max-age=99999999999", CacheControl(looks_up=False, max_age_s=0.0)),
        (b"only-if-cached", CacheControl(only_if_cached=True)),
        (b"only-if-cached, max-age=3", CacheControl(only_if_cached=True, max_age_s=3.0)),
        (b"private, max-stale=3, min-fresh=1", ANY),
        (b"", ANY),
    ],
)
def test_each_directive_means_what_the_standard_says(value: bytes, control: CacheControl) -> None:
    assert read_cache_control([(b"host", b"a"), (b"cache-control", value)]) == control


def test_without_the_header_all_is_allowed() -> None:
    assert read_cache_control([(b"host", b"a")]) is ANY


def test_several_headers_are_one() -> None:
    headers: Headers = [(b"cache-control", b"no-cache"), (b"accept", b"*/*"), (b"cache-control", b"no-store")]
    assert read_cache_control(headers) == CacheControl(looks_up=False, stores=False)
