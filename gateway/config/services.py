"""The types of settings that name services beside the models: Redis and webhooks."""

from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from gateway.config.endpoints import SECRET_PATTERN, is_loopback, to_secret
from gateway.config.fields import refuse
from gateway.config.secret import Reference, Secret

_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "redis+cluster")
_REDIS_ADVICE = "write redis://HOST:6379/0, rediss://, unix://PATH, redis+sentinel:// or redis+cluster://"


def _redis_url(value: object) -> Secret:
    secret = to_secret(value)
    if secret.is_set:
        _check_redis(secret)
    return secret


def _check_redis(secret: Secret) -> None:
    # The URL holds a password: what is wrong is said without it.
    try:
        url = urlsplit(secret.reveal())
    except ValueError:
        raise refuse(f"{secret.source} is not a URL", _REDIS_ADVICE) from None
    if url.scheme not in _SCHEMES or "://" not in secret.reveal():
        raise refuse(f"{secret.source} is not the URL of a Redis", _REDIS_ADVICE)
    if url.fragment or "#" in secret.reveal():
        raise refuse(f"{secret.source} has a #", "write it as %23 in a password")
    parts = [part for part in url.path.split("/") if part]
    if problem := _redis_problem(url, parts):
        raise refuse(f"{secret.source} {problem[0]}", problem[1])


def _redis_problem(url: SplitResult, parts: list[str]) -> tuple[str, str] | None:
    hosts = url.netloc.rpartition("@")[2].split(",")
    if url.scheme == "unix":
        return None if parts else ("names no socket", "write unix:///run/redis.sock")
    if not all(hosts):
        return "names no host", f"write {url.scheme}://HOST:PORT"
    for host in hosts:
        port = host.rpartition("]")[2].rpartition(":")[2] if ":" in host.rpartition("]")[2] else "1"
        if not (port.isascii() and port.isdigit() and 0 < int(port) <= 65535):
            return "has a port that is none", "write 1 to 65535"
    if len(hosts) > 1 and url.scheme in {"redis", "rediss"}:
        return "names several hosts", "write redis+cluster:// or redis+sentinel://"
    if url.scheme == "redis+sentinel":
        if not parts:
            return "names no master", "write redis+sentinel://HOST:26379/MASTER"
        parts = parts[1:]
    if parts and not (len(parts) == 1 and parts[0].isascii() and parts[0].isdigit()):
        return "has no such database", "the path is a number, such as /0"
    if parts and int(parts[0]) and url.scheme == "redis+cluster":
        return "names a database", "a cluster has only number 0"
    return None


RedisUrl = Annotated[
    Secret, PlainValidator(_redis_url), PlainSerializer(lambda secret: secret.source, return_type=str),
    WithJsonSchema({"type": "string", "pattern": SECRET_PATTERN, "examples": ["env:REDIS_URL"]}),
]  # fmt: skip
"""A URL with scheme redis, rediss, unix, redis+sentinel or redis+cluster, kept elsewhere."""


def _webhook_url(value: object) -> Secret:
    if isinstance(value, Reference):
        secret = to_secret(value)
        if secret.is_set:
            _origin(secret.reveal(), secret.source)
        return secret
    if not isinstance(value, str):
        raise refuse("must be a URL", "write https://host/path, or env:NAME")
    return Secret(f"{_origin(value, 'this')}/***", value)


def _origin(text: str, source: str) -> str:
    """Scheme and host of a webhook's URL. The path is left out: with many services it is the credential."""
    try:
        url = urlsplit(text)
        is_valid = url.port != 0
    except ValueError:
        raise refuse(f"{source} is not a URL", "write https://host/path") from None
    if "@" in url.netloc:
        raise refuse(f"{source} holds a user name or password", "use `headers`")
    if url.scheme not in {"http", "https"} or not url.hostname or not is_valid or " " in text or not text.isascii():
        raise refuse(f"{source} is not an https URL", "write https://host/path")
    if url.scheme == "http" and not is_loopback(url.hostname):
        raise refuse(f"{source} is unencrypted", "use https")
    return f"{url.scheme}://{url.netloc}"


WebhookUrl = Annotated[
    Secret, PlainValidator(_webhook_url), PlainSerializer(lambda secret: secret.source, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["env:WEBHOOK_URL", "https://hooks.example.com/llm"]}),
]  # fmt: skip
"""An https URL (http on loopback), written here or kept elsewhere; shown without its path in either case."""
