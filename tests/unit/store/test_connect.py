"""Where a URL points to, and connections to every kind of Redis."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from gateway.core.errors import StoreUnavailable
from gateway.store.connect import Opener, Target, command, parse
from gateway.store.redis import RedisStore
from tests.redis_servers import (
    RedisServer,
    free_port,
    needs_redis,
    redis_cluster,
    redis_sentinel,
    redis_server,
    until_answered,
)
from tests.unit.store.redis_bench import a_store, ask, money, running, spent_and_held, until


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("redis://one", Target("single", (("one", 6379),))),
        ("redis://one:1/2", Target("single", (("one", 1),), options={"db": 2})),
        ("redis://[::1]:7", Target("single", (("::1", 7),))),
        ("redis://u%40:p%2F@one", Target("single", (("one", 6379),), options={"username": "u@", "password": "p/"})),
        ("redis://:p@one?db=3", Target("single", (("one", 6379),), options={"password": "p", "db": 3})),
        ("rediss://one", Target("single", (("one", 6379),), has_tls=True)),
        (
            "rediss://one?ssl_ca_certs=/ca.pem&ssl_check_hostname=false",
            Target(
                "single",
                (("one", 6379),),
                options={"ssl_ca_certs": "/ca.pem", "ssl_check_hostname": False},
                has_tls=True,
            ),
        ),
        ("unix:///run/redis.sock?db=1", Target("unix", path="/run/redis.sock", options={"db": 1})),
        ("redis+cluster://a,b:7?ssl=true", Target("cluster", (("a", 6379), ("b", 7)), has_tls=True)),
        (
            "redis+sentinel://u:p@a,b:7/main/4?sentinel_username=s&sentinel_password=t",
            Target(
                "sentinel",
                (("a", 26379), ("b", 7)),
                master="main",
                options={"username": "u", "password": "p", "db": 4},
                sentinel_options={"username": "s", "password": "t"},
            ),
        ),
        (
            "redis+sentinel://a/main?ssl=1&ssl_ca_certs=/c",
            Target(
                "sentinel",
                (("a", 26379),),
                master="main",
                options={"ssl_ca_certs": "/c"},
                sentinel_options={"ssl_ca_certs": "/c"},
                has_tls=True,
            ),
        ),
    ],
)
def test_a_url_says_where_redis_is(url: str, target: Target) -> None:
    assert parse(url) == target


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://sesame@one", "no known scheme"),
        ("redis://:sesame@", "no host"),
        ("redis+cluster://:sesame@a,,b", "no host"),
        ("redis+sentinel://:sesame@a", "no master"),
        ("redis://:sesame@one/x", "no number"),
        ("redis://:sesame@one?db=x", "no number"),
        ("redis://:sesame@one?retry_on_timeout=yes", "not known: retry_on_timeout"),
    ],
)
def test_what_is_wrong_with_a_url_is_said_without_showing_it(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        parse(url)
    assert "sesame" not in str(caught.value)


def test_a_target_does_not_show_its_password() -> None:
    assert "sesame" not in repr(parse("redis+sentinel://u:sesame@a/main?sentinel_password=sesame"))


async def answer(url: str, *words: str) -> Any:
    """Of what the URL points to."""
    connection = await Opener(parse(url), "{gw}", 2.0)()
    try:
        return await command(connection, *words)
    finally:
        await connection.disconnect()


@needs_redis
@pytest.mark.anyio
async def test_a_single_redis_by_address_and_by_socket() -> None:
    async with redis_server() as server:
        assert await answer(server.url, "PING") == b"PONG"
        assert await answer(f"unix://{server.socket_path}", "PING") == b"PONG"
        with pytest.raises(RedisError):
            await answer(server.url, "NOPE")


@pytest.mark.anyio
async def test_nobody_there_is_an_error_at_once() -> None:
    with pytest.raises(RedisConnectionError):
        await answer(f"redis://127.0.0.1:{free_port()}", "PING")
    with pytest.raises(RedisConnectionError):
        await answer(f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{free_port()}/main", "PING")


@needs_redis
@pytest.mark.anyio
async def test_tls_with_an_authority_of_its_own(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    port = free_port()
    options = ["--tls-port", str(port), "--tls-auth-clients", "no", "--tls-ca-cert-file", str(tmp_path / "ca.pem")]
    options += ["--tls-cert-file", str(tmp_path / "cert.pem"), "--tls-key-file", str(tmp_path / "key.pem")]
    async with redis_server(*options):
        assert await answer(f"rediss://127.0.0.1:{port}?ssl_ca_certs={tmp_path / 'ca.pem'}", "PING") == b"PONG"
        with pytest.raises(RedisConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
            await answer(f"rediss://127.0.0.1:{port}", "PING")
        async with running(a_store(f"rediss://127.0.0.1:{port}?ssl_ca_certs={tmp_path / 'ca.pem'}")) as store:
            assert (await ask(store, money(1, 10)))[1].granted
        async with running(a_store(f"rediss://127.0.0.1:{port}?ssl_ca_certs=/nowhere")) as store:
            assert not store.is_up


@needs_redis
@pytest.mark.anyio
async def test_a_cluster_is_asked_where_the_slot_is() -> None:
    """F75: any node may be named; the one with the slot may be another, and may change."""
    async with redis_cluster() as servers:
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
        async with running(a_store(f"redis+cluster://127.0.0.1:{free_port()},{hosts}")) as store:
            hold, verdict = await ask(store, money(5, 10))
            assert verdict.granted
            (owner,) = [server for server in servers if await server.run("DBSIZE")]
            store.ledger.settle(hold, (5,))
            assert await spent_and_held(store) == (5, 0)
            slot = await owner.run("CLUSTER", "KEYSLOT", "{gw}")
            other = servers[0] if owner is not servers[0] else servers[1]
            await move_slot(slot, owner, other, servers)
            await ask_until_granted(store)
            assert await other.run("DBSIZE")
            assert await spent_and_held(store) == (5, 1)


async def move_slot(slot: int, owner: RedisServer, other: RedisServer, servers: list[RedisServer]) -> None:
    """Give a slot, with its keys, to another node."""
    name = (await other.run("CLUSTER", "MYID")).decode()
    from_name = (await owner.run("CLUSTER", "MYID")).decode()
    await other.run("CLUSTER", "SETSLOT", slot, "IMPORTING", from_name)
    await owner.run("CLUSTER", "SETSLOT", slot, "MIGRATING", name)
    while keys := await owner.run("CLUSTER", "GETKEYSINSLOT", slot, 100):
        await owner.run("MIGRATE", "127.0.0.1", other.port, "", 0, 5000, "KEYS", *keys)
    for server in (other, owner, *servers):
        await server.run("CLUSTER", "SETSLOT", slot, "NODE", name)


async def ask_until_granted(store: RedisStore) -> None:
    """A hold of one, once the store is up again."""
    async with asyncio.timeout(5.0):
        while True:
            await until(lambda: store.is_up, 5.0)
            try:
                assert (await ask(store, money(1, 10)))[1].granted
            except StoreUnavailable:
                continue
            return


@needs_redis
@pytest.mark.anyio
async def test_sentinels_are_asked_who_is_the_master() -> None:
    """F71: the old master is killed; the new one has what was written."""
    async with AsyncExitStack() as stack:
        master = await stack.enter_async_context(redis_server())
        replica = await stack.enter_async_context(redis_server("--replicaof", "127.0.0.1", str(master.port)))
        async with redis_sentinel(master, "main") as port:
            url = f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{port}/main/0"
            async with running(a_store(url)) as store:
                hold, _ = await ask(store, money(60, 100))
                store.ledger.settle(hold, (60,))
                assert await spent_and_held(store) == (60, 0)
                await until_replicated(master)
                await until_known(port)
                master.kill()
                await until(lambda: not store.is_up)
                await until(lambda: store.is_up, 15.0)
                assert await spent_and_held(store) == (60, 0)
                assert not (await ask(store, money(41, 100)))[1].granted
                assert (await replica.run("ROLE"))[0] == b"master"
            with pytest.raises(RedisConnectionError, match="does not know"):
                await answer(f"redis+sentinel://127.0.0.1:{port}/nobody", "PING")


async def until_replicated(master: RedisServer) -> None:
    """Return when the replica has all."""
    async with asyncio.timeout(10.0):
        while not await master.run("WAIT", 1, 100):
            await asyncio.sleep(0.02)


async def until_known(sentinel_port: int) -> None:
    """Return when the sentinel has found the replica."""
    await until_answered(sentinel_port)
    sentinel = RedisServer(port=sentinel_port)
    async with asyncio.timeout(15.0):
        while not await sentinel.run("SENTINEL", "REPLICAS", "main"):
            await asyncio.sleep(0.1)
    sentinel.remove()
