"""Where the Redis is, and one connection to the node of it that is to be asked.

A URL says what kind it is:
- `redis://[USER:PASSWORD@]HOST[:PORT][/DB]`, the same as `rediss://` with TLS, `unix://[USER:PASSWORD@]/PATH`;
- `redis+sentinel://[USER:PASSWORD@]HOST[:PORT],HOST[:PORT]/MASTER[/DB]`: the sentinels are asked for the master;
- `redis+cluster://[USER:PASSWORD@]HOST[:PORT],HOST[:PORT]`: any node is asked who has our slot.

Options follow as a query: `db`; `ssl=true` for sentinels and clusters; `ssl_ca_certs`, `ssl_ca_path`, `ssl_certfile`,
`ssl_keyfile`, `ssl_password`, `ssl_cert_reqs`, `ssl_check_hostname`; `sentinel_username`, `sentinel_password`.

Nothing here tries twice: who is away now is asked again by the next attempt.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

NODE_S = 0.5
"""How long one node is waited for, when another could be asked instead."""

AnyConnection = Connection | UnixDomainSocketConnection
Address = tuple[str, int]
Opening = Callable[[], Awaitable[AnyConnection]]
"""Gives a connection that is ready for commands. Raises RedisError or OSError."""

_PORTS = {"redis": 6379, "rediss": 6379, "redis+sentinel": 26379, "redis+cluster": 6379}
_TEXTS = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password", "ssl_cert_reqs")
_FLAGS = ("ssl", "ssl_check_hostname")
_OTHERS = ("db", "sentinel_username", "sentinel_password")


@dataclass(frozen=True, slots=True)
class Target:
    """What a URL says; never shown, for it may hold a password."""

    kind: Literal["single", "unix", "sentinel", "cluster"]
    hosts: tuple[Address, ...] = ()
    path: str = ""
    master: str = ""
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Of each connection to a Redis."""
    sentinel_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Of each connection to a sentinel."""
    has_tls: bool = False


def parse(url: str) -> Target:
    """Where a URL points to. Raises ValueError, whose text holds nothing of the URL but the name of an option."""
    parts = urlsplit(url)
    tls, options, sentinel_options = _options(parts)
    if parts.scheme == "unix":
        return Target("unix", path=unquote(parts.path), options=options)
    if parts.scheme not in _PORTS:
        raise ValueError("the URL of the Redis begins with no known scheme")
    hosts = _hosts(parts)
    names = [unquote(part) for part in parts.path.split("/") if part]
    master = ""
    if parts.scheme == "redis+sentinel":
        if not names:
            raise ValueError("the URL of the Redis names no master")
        master = names.pop(0)
    if names:
        options["db"] = _number(names[0])
    if parts.scheme == "redis+sentinel":
        return Target("sentinel", hosts, "", master, options, sentinel_options, tls)
    if parts.scheme == "redis+cluster":
        return Target("cluster", hosts, options=options, has_tls=tls)
    return Target("single", hosts[:1], options=options, has_tls=tls or parts.scheme == "rediss")


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError("the database of the Redis is no number")
    return int(text)


def _hosts(parts: SplitResult) -> tuple[Address, ...]:
    found = []
    for each in parts.netloc.rpartition("@")[2].split(","):
        one = urlsplit(f"//{each}")
        if not one.hostname:
            raise ValueError("the URL of the Redis names no host")
        found.append((one.hostname, one.port or _PORTS[parts.scheme]))
    return tuple(found)


def _options(parts: SplitResult) -> tuple[bool, dict[str, Any], dict[str, Any]]:
    """Whether TLS is asked for, the options of a Redis, and those of a sentinel."""
    options: dict[str, Any] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in _FLAGS:
            options[name] = value.lower() not in ("", "0", "false", "no")
        elif name in _TEXTS or name in _OTHERS:
            options[name] = _number(value) if name == "db" else value
        else:
            raise ValueError(f"the URL of the Redis has an option that is not known: {name}")
    tls = options.pop("ssl", False)
    shared = {name: value for name, value in options.items() if name.startswith("ssl_")}
    sentinel_options = dict(shared)
    for name in ("username", "password"):
        if value := options.pop(f"sentinel_{name}", ""):
            sentinel_options[name] = value
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    if user:
        options["username"] = unquote(user)
    if password:
        options["password"] = unquote(password)
    return tls, options, sentinel_options


class Opener:
    """Opens connections to what a URL points to; `key` decides the node of a cluster."""

    def __init__(self, target: Target, key: str, connect_s: float) -> None:
        self._target = target
        self._slot = key_slot(key.encode())
        self._connect_s = connect_s

    async def __call__(self) -> AnyConnection:
        """See Opening."""
        target = self._target
        if target.kind == "single":
            return await self._open(target.hosts[0], target.options)
        if target.kind == "unix":
            local = UnixDomainSocketConnection(path=target.path, **self._terms(target.options))
            await local.connect()  # type: ignore[no-untyped-call]
            return local
        if target.kind == "cluster":
            return await self._open(await self._first(target.options, self._owner), target.options)
        # A sentinel may not know yet that its master is none any more: then the first write is refused.
        return await self._open(await self._first(target.sentinel_options, self._master), target.options)

    def _terms(self, options: Mapping[str, Any]) -> dict[str, Any]:
        # No timeout for an answer: the batch has a deadline of its own. No CLIENT SETINFO: a user of an ACL may not.
        return {
            **options,
            "socket_timeout": None,
            "socket_connect_timeout": self._connect_s,
            "protocol": 2,
            "driver_info": None,
        }

    async def _open(self, address: Address, options: Mapping[str, Any]) -> Connection:
        kind = SSLConnection if self._target.has_tls else Connection
        connection = kind(host=address[0], port=address[1], **self._terms(options))
        await connection.connect()  # type: ignore[no-untyped-call]
        return connection

    async def _first(
        self, options: Mapping[str, Any], ask: Callable[[Connection, Address], Awaitable[Address]]
    ) -> Address:
        """What the first of the hosts says that answers."""
        fault: BaseException = RedisConnectionError("no host of the URL answers")
        for host in self._target.hosts:
            try:
                async with asyncio.timeout(NODE_S):
                    connection = await self._open(host, options)
                    try:
                        return await ask(connection, host)
                    finally:
                        await connection.disconnect(nowait=True)
            except (RedisError, OSError) as error:
                fault = error
        raise fault

    async def _master(self, connection: Connection, _asked: Address) -> Address:
        found = await command(connection, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._target.master)
        if not found:
            raise RedisConnectionError("the sentinel does not know that master")
        return found[0].decode(), int(found[1])

    async def _owner(self, connection: Connection, asked: Address) -> Address:
        for first, last, master, *_ in await command(connection, "CLUSTER", "SLOTS"):
            if first <= self._slot <= last:
                # A node that does not know its own name answers none: it is the one that was asked.
                return (master[0] or b"").decode() or asked[0], master[1]
        raise RedisConnectionError("no node of the cluster has our slot")


async def command(connection: AnyConnection, *words: str | bytes | int) -> Any:
    """The answer to one command. Raises RedisError; a connection whose command was cut short is closed."""
    await connection.send_command(*words)
    return await connection.read_response()
