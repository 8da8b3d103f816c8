"""Redis and webhooks, named by URLs that are secrets."""

import pytest
from pydantic import TypeAdapter, ValidationError

from gateway.config.secret import Reference, Secret
from gateway.config.services import RedisUrl, WebhookUrl

REDIS = TypeAdapter(RedisUrl)
WEBHOOK = TypeAdapter(WebhookUrl)


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1",
        "redis://user:p%23ss@127.0.0.1:6379/0",
        "rediss://redis.example.com:6380/2?ssl_cert_reqs=required",
        "redis://[::1]:6379/0",
        "unix:///run/redis.sock",
        "unix://user:pass@/run/redis.sock?db=1",
        "redis+sentinel://:pass@a:26379,b:26379/mymaster",
        "redis+sentinel://a:26379/mymaster/3",
        "redis+cluster://a:7000,b:7001,c",
        "redis+cluster://a:7000/0",
    ],
)
def test_a_redis_may_be_alone_encrypted_watched_or_a_cluster(url: str) -> None:
    secret = REDIS.validate_python(Reference("env:REDIS_URL", url))
    assert secret.reveal() == url
    assert REDIS.dump_python(secret) == "env:REDIS_URL"


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:6379",
        "redis:127.0.0.1",
        "http://canary@h",
        "redis://",
        "redis://h:0",
        "redis://h:99999",
        "redis://h:canary",
        "redis://:canary@h/canary",
        "redis://h/1/2",
        "redis://a,b",
        "redis://a:1,/0",
        "redis://:can#ary@h",
        "redis://:canary#@h",
        "redis://[::1",
        "unix://",
        "redis+sentinel://a",
        "redis+sentinel://a/m/x",
        "redis+cluster://a/1",
    ],
)
def test_what_is_no_redis_is_refused_without_repeating_it(url: str) -> None:
    """F114."""
    with pytest.raises(ValidationError) as refused:
        REDIS.validate_python(Reference("env:REDIS_URL", url))
    assert refused.value.errors()[0]["ctx"]["message"].startswith("env:REDIS_URL ")
    assert "canary" not in refused.value.errors()[0]["msg"]


def test_a_redis_is_not_written_in_the_file() -> None:
    with pytest.raises(ValidationError, match="a secret is not written in the file"):
        REDIS.validate_python("redis://h")
    assert not REDIS.validate_python(Reference("env:REDIS_URL", None)).is_set


def test_a_webhook_is_shown_without_its_path() -> None:
    """F114: with many services the path is the credential."""
    secret = WEBHOOK.validate_python("https://hooks.example.com:8443/services/canary?token=canary")
    assert secret.reveal() == "https://hooks.example.com:8443/services/canary?token=canary"
    assert WEBHOOK.dump_python(secret) == "https://hooks.example.com:8443/***"
    assert "canary" not in repr(secret)


def test_a_webhook_may_be_kept_elsewhere_or_on_this_machine() -> None:
    kept = WEBHOOK.validate_python(Reference("env:HOOK", "https://h/x"))
    assert (kept.source, kept.reveal()) == ("env:HOOK", "https://h/x")
    assert WEBHOOK.validate_python("http://127.0.0.1:9000/x").is_set
    assert WEBHOOK.validate_python(Reference("env:HOOK", None)) == Secret("env:HOOK", None)


@pytest.mark.parametrize(
    "value",
    [
        *("http://h/canary", "https://u:canary@h", "canary", "ftp://h/canary", "https:///canary", "https://h:0/canary"),
        *("https://h/can ary", "https://h/canary\u00e9", "https://[::1/canary", 5, None),
        Reference("env:HOOK", "canary"),
        Reference("file:x", None, "cannot read x"),
    ],
)
def test_what_is_no_webhook_is_refused_without_repeating_it(value: object) -> None:
    """F114."""
    with pytest.raises(ValidationError) as refused:
        WEBHOOK.validate_python(value)
    assert "canary" not in refused.value.errors()[0]["msg"]
