"""What targets are, what they cost, and when they rest."""

from gateway.config.load import Sources, load
from gateway.config.schema import Breaker, Coalesce, Config, Target


def test_a_target_without_its_secret_is_out_of_service() -> None:
    text = """\
apiVersion: gateway/v1
targets:
  a: {provider: openai, base_url: https://h/v1, api_key: env:UNSET}
  b: {provider: openai, base_url: https://h/v1, headers: {x-token: env:UNSET, x-team: t}}
  c: {provider: openai, base_url: https://h/v1, api_key: env:SET}
  d: {provider: mock}
"""
    targets = load(Sources.of_text(text, {"SET": "value"})).config.targets
    assert {name: target.out_of_service for name, target in targets.items()} == {
        "a": "UNSET is not set",
        "b": "UNSET is not set",
        "c": None,
        "d": None,
    }


def test_targets_know_the_dialects_that_they_answer() -> None:
    dialects = {
        provider: Target.model_validate({"provider": provider}).dialects
        for provider in ("openai", "azure", "anthropic", "mock")
    }
    assert dialects["openai"] == dialects["azure"] == {"openai"}
    assert dialects["anthropic"] == {"anthropic"}
    assert dialects["mock"] == {"openai", "anthropic"}


def test_prices_are_nano_usd() -> None:
    price = Target.model_validate({"provider": "mock", "price": {"input": "$2.00", "cached_input": "$0.075"}}).price
    assert price is not None
    assert (price.input, price.cached_input, price.output) == (2_000_000_000, 75_000_000, None)


def test_a_breaker_is_on_unless_it_is_turned_off() -> None:
    assert Target.model_validate({"provider": "mock"}).breaker == Breaker()
    assert Target.model_validate({"provider": "mock", "breaker": "off"}).breaker is None
    custom = Target.model_validate({"provider": "mock", "breaker": {"consecutive": 3}}).breaker
    assert custom == Breaker(consecutive=3)


def test_the_breaker_rests_as_envoy_does() -> None:
    """F32, F35: five in a row, or half of at least twenty in 30 s; 30 s times the ejections, at most 300 s."""
    breaker = Breaker()
    assert (breaker.consecutive, breaker.error_rate, breaker.min_requests, breaker.window) == (5, 0.5, 20, 30.0)
    assert (breaker.open_for, breaker.max_open_for, breaker.slow_start) == (30.0, 300.0, 10.0)


def test_a_target_takes_single_settings_of_another() -> None:
    text = """\
apiVersion: gateway/v1
targets:
  a: {provider: mock, price: {input: $1, output: $2}, breaker: {window: 1m}, max_inflight: 5, queue: {size: 1}}
  b: {extends: a, price: {output: $3}, breaker: off, queue: {wait: 2s}}
  c: {extends: b, breaker: {consecutive: 1}}
"""
    targets: dict[str, Target] = load(Sources.of_text(text)).config.targets
    b, c = targets["b"], targets["c"]
    assert b.price is not None
    assert (b.price.input, b.price.output) == (10**9, 3 * 10**9)
    assert (b.breaker, b.max_inflight, b.queue.size, b.queue.wait) == (None, 5, 1, 2.0)
    assert c.breaker == Breaker(consecutive=1)


def test_a_queue_has_a_hundred_places_for_a_second() -> None:
    config = Config.model_validate({"apiVersion": "gateway/v1", "targets": {"a": {"provider": "mock"}}})
    target = config.targets["a"]
    assert (target.max_inflight, target.queue.size, target.queue.wait) == (None, 100, 1.0)


def test_embeddings_go_together_where_it_is_written_and_not_where_it_is_taken_back() -> None:
    text = """\
apiVersion: gateway/v1
targets:
  a: {provider: mock, coalesce: {wait: 3ms}}
  b: {extends: a, coalesce: {max_inputs: 5}}
  c: {extends: a, coalesce: off}
  d: {provider: mock}
"""
    targets = load(Sources.of_text(text, {})).config.targets
    assert targets["a"].coalesce == Coalesce.model_validate({"wait": "3ms"})
    assert targets["b"].coalesce == Coalesce.model_validate({"wait": "3ms", "max_inputs": 5})
    assert targets["c"].coalesce is None
    assert targets["d"].coalesce is None
