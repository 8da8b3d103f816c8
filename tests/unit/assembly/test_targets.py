"""From the targets of the configuration to what answers for them."""

import ssl
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from gateway.assembly.pools import PoolKey
from gateway.assembly.targets import CoalesceMeter, origin_of, pool_key, pool_maker
from gateway.config.load import load, read
from gateway.telemetry.metrics import Registry
from gateway.transport.base import Origin
from gateway.transport.pool import PoolTransport
from gateway.transport.stock import StockTransport
from tests.unit.assembly.test_build import Works

pytestmark = pytest.mark.anyio

KEY = PoolKey("a", Origin("http", "127.0.0.1", 1), "native", None, 10, None, 300.0)
LIMITED = """\
apiVersion: gateway/v1
targets:
  a: {provider: mock, price: {input: $1.00, output: $2.00}, max_inflight: 3, breaker: off}
  b: {provider: mock, price: {input: $1.00, output: $2.00}}
routes:
  - {model: demo, split: {a: 1, b: 1}}
"""


def test_an_origin_has_the_port_of_its_scheme() -> None:
    assert origin_of("https://api.example/v1") == Origin("https", "api.example", 443)
    assert origin_of("http://[::1]:8000") == Origin("http", "::1", 8000)


async def test_a_breaker_is_there_unless_it_is_off_and_outlives_a_reload() -> None:
    """F79."""
    works = Works()
    first, second = works.build(LIMITED), works.build(LIMITED + "# changed\n")
    assert first.targets["a"].breaker is None
    assert first.targets["b"].breaker is not None
    assert first.targets["b"].breaker is second.targets["b"].breaker


async def test_the_transport_is_ours_unless_the_target_asks_for_the_stock_one() -> None:
    make = pool_maker()
    for transport, kind in (("native", PoolTransport), ("httpx", StockTransport)):
        for scheme in ("http", "https"):
            upstream = make(replace(KEY, transport=transport, origin=Origin(scheme, "127.0.0.1", 1)))
            assert isinstance(upstream, kind)
            await upstream.aclose()


async def test_a_target_trusts_the_authority_of_its_own_file(tmp_path: Path) -> None:
    authority = trustme.CA()
    pem = authority.cert_pem.bytes()
    (tmp_path / "ca.pem").write_bytes(pem)
    path = tmp_path / "gateway.yaml"
    path.write_text(
        "apiVersion: gateway/v1\n"
        "targets:\n  up: {provider: openai, base_url: 'https://localhost/v1', ca_file: ca.pem}\n"
        "routes: [{model: demo, target: up}]\n"
    )
    configured = load(read(path, {}))
    key = pool_key("up", configured.config.targets["up"], "https://localhost/v1", configured)
    assert key.ca_pem == pem
    upstream = pool_maker()(key)
    contexts = [value for value in _values(upstream) if isinstance(value, ssl.SSLContext)]
    trusted = {der for context in contexts for der in context.get_ca_certs(binary_form=True)}
    assert ssl.PEM_cert_to_DER_cert(pem.decode()) in trusted
    await upstream.aclose()


def _values(thing: object) -> list[object]:
    names = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    return [*vars(thing).values(), *(getattr(thing, name, None) for name in names if hasattr(thing, name))]


async def test_what_goes_together_is_counted_by_target() -> None:
    registry = Registry()
    registry.configure([], ["a"])
    meter = CoalesceMeter(registry, "a")
    meter.call("together", 3)
    meter.batch("ok")
    assert registry.counter("gateway_coalesced_calls_total", "a", "together").value == 3
    assert registry.counter("gateway_coalesced_batches_total", "a", "ok").value == 1
