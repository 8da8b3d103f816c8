"""List prices, as the library itself calculates with them."""

import gc
import sys
import threading
from datetime import UTC, datetime, time
from decimal import ROUND_CEILING, Decimal
from itertools import product

import pytest
from genai_prices import Usage as TheirUsage
from genai_prices import data_snapshot, update_prices
from genai_prices.types import ConditionalPrice, ModelInfo, ModelPrice, Provider, TieredPrices, TimeOfDateConstraint
from genai_prices.types import Tier as TheirTier

from gateway.core.exchange import Usage
from gateway.core.price import Price, Rates, Tier, cost_nusd
from gateway.providers import prices
from gateway.providers.prices import ModelPrices, context_window, known, lookup
from tests.fakes import FakeClock

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
SNAPSHOT = data_snapshot.get_snapshot()
USAGES = (
    Usage(1000, 500),
    Usage(150_000, 3, cached_input_tokens=149_000),
    Usage(250_001, 7001, cached_input_tokens=1, cache_write_tokens=1000, cache_write_1h_tokens=300),
    Usage(2_000_000, 9, audio_input_tokens=77, audio_output_tokens=5, reasoning_tokens=3),
    Usage(7, 0),
)
# What a reply does not tell apart, or what is counted in no tokens; searches and the like are not used here.
OTHER_UNITS = ("image", "video", "citation", "hours")
KINDS = {"openai": "openai", "anthropic": "anthropic", "azure": "azure", "google": "gemini", "aws": "bedrock"}


def theirs(provider: Provider, model: ModelInfo, usage: Usage, context: dict[str, str] | None = None) -> int:
    """The library's own figure, in nano-USD rounded up."""
    counted = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cached_input_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "cache_write_1h_tokens": usage.cache_write_1h_tokens,
        "input_audio_tokens": usage.audio_input_tokens,
        "output_audio_tokens": usage.audio_output_tokens,
        "output_reasoning_tokens": usage.reasoning_tokens,
    }
    found = model.calc_price(
        TheirUsage(**counted), provider, genai_request_timestamp=NOON, price_context=context
    ).total_price
    return int((found * 10**9).to_integral_value(ROUND_CEILING))


def is_by_the_hour(model: ModelInfo) -> bool:
    return not isinstance(model.prices, ModelPrice) and any(
        isinstance(each.constraint, TimeOfDateConstraint) for each in model.prices
    )


def exact_models(provider: Provider) -> list[ModelInfo]:
    """Models all of whose prices are for classes of tokens that we count."""
    return [
        model
        for model in provider.models
        if "input_mtok" in (listed := vars(model.get_prices(NOON)))
        and not any(unit in key for key in listed for unit in OTHER_UNITS)
        and not is_by_the_hour(model)
    ]


@pytest.mark.parametrize("provider_id", KINDS)
def test_costs_are_the_librarys_own_for_every_model_and_class(provider_id: str) -> None:
    """F57."""
    provider = next(each for each in SNAPSHOT.providers if each.id == provider_id)
    compared = 0
    for model, usage in product(exact_models(provider), USAGES):
        price = prices._price(provider, model, NOON)
        assert price is not None
        assert cost_nusd(price, usage) == theirs(provider, model, usage), (model.id, usage)
        compared += 1
    assert compared >= 100


@pytest.mark.parametrize("provider_id", ["openai", "anthropic", "google"])
def test_another_service_costs_what_the_library_says(provider_id: str) -> None:
    provider = next(each for each in SNAPSHOT.providers if each.id == provider_id)
    compared = 0
    for model in exact_models(provider):
        price = prices._price(provider, model, NOON)
        assert price is not None
        for service in price.services:
            context = {"speed" if provider_id == "anthropic" else "service_tier": service}
            usage = Usage(1000, 500, service_tier=service)
            assert cost_nusd(price, usage) == theirs(provider, model, usage, context), (model.id, service)
            compared += 1
    assert compared > 0


def test_a_request_has_a_price_of_its_own_at_some_providers() -> None:
    perplexity = next(each for each in SNAPSHOT.providers if each.id == "perplexity")
    [sonar] = [model for model in perplexity.models if model.id == "sonar-pro"]
    price = prices._price(perplexity, sonar, NOON)
    assert price is not None
    assert price.request > 0
    assert cost_nusd(price, Usage(1000, 500)) == theirs(perplexity, sonar, Usage(1000, 500))


def dollars(amount: str) -> Decimal:
    return Decimal(amount)


def made(model: ModelInfo, at: datetime = NOON) -> Price | None:
    provider = Provider(id="p", name="P", api_pattern="https://p", models=[model])
    return prices._price(provider, model, at)


def model_with(price: ModelPrice | list[ConditionalPrice]) -> ModelInfo:
    return ModelInfo(id="m", match=SNAPSHOT.providers[0].models[0].match, prices=price)


def test_tokens_that_no_reply_tells_apart_cost_the_dearest_of_their_class() -> None:
    price = made(
        model_with(
            ModelPrice(
                input_mtok=dollars("1"),
                input_image_mtok=dollars("2"),
                output_mtok=dollars("3"),
                output_image_mtok=dollars("0.5"),
                output_video_mtok=dollars("40"),
            )
        )
    )
    assert price == Price(input=2_000_000_000, output=40_000_000_000)


def test_a_price_by_the_hour_is_the_dearest_hours() -> None:
    night = TimeOfDateConstraint(start_time=time(20, 0, tzinfo=UTC), end_time=time(2, 30, tzinfo=UTC))
    model = model_with(
        [
            ConditionalPrice(prices=ModelPrice(input_mtok=dollars("2"), output_mtok=dollars("5"))),
            ConditionalPrice(
                constraint=night,
                prices=ModelPrice(
                    input_mtok=TieredPrices(base=dollars("1"), tiers=[]),
                    cache_read_mtok=dollars("0.5"),
                    output_mtok=dollars("6"),
                ),
            ),
        ]
    )
    assert made(model) == Price(input=2_000_000_000, output=6_000_000_000, cached_input=2_000_000_000)


def test_a_price_by_the_hour_may_depend_on_the_prompts_length_too() -> None:
    night = TimeOfDateConstraint(start_time=time(20, 0, tzinfo=UTC), end_time=time(2, 30, tzinfo=UTC))
    tiered = TieredPrices(base=dollars("1"), tiers=[TheirTier(start=100, price=dollars("3"))])
    model = model_with(
        [
            ConditionalPrice(prices=ModelPrice(input_mtok=dollars("2"))),
            ConditionalPrice(constraint=night, prices=ModelPrice(input_mtok=tiered)),
        ]
    )
    assert made(model) == Price(input=2_000_000_000, output=0, tiers=(Tier(100, Rates(input=3_000_000_000, output=0)),))


def test_what_is_not_sold_by_tokens_has_no_price() -> None:
    assert made(model_with(ModelPrice(audio_hours=dollars("0.1")))) is None


def test_a_price_below_a_nano_dollar_is_rounded_up() -> None:
    price = made(model_with(ModelPrice(input_mtok=dollars("0.0000000001"))))
    assert price == Price(input=1, output=0)


def test_the_kind_or_the_address_tells_the_provider() -> None:
    openai = lookup("openai", "gpt-4.1", None)
    assert openai is not None
    assert openai.input == 2_000_000_000
    assert lookup("openai", "gpt-4.1", "https://api.openai.com/v1") == openai
    azure = lookup("azure", "gpt-4.1", "https://models.example.com")
    assert azure is not None
    assert azure.input > 0
    assert lookup("openai", "deepseek-reasoner", "https://api.deepseek.com/v1") is not None
    assert known("anthropic", "claude-sonnet-4-5", None)
    assert known("bedrock", "anthropic.claude-opus-4-5", "https://bedrock-mantle.eu-west-1.api.aws/v1")
    assert known("gemini", "gemini-2.5-pro", None)


def test_what_nobody_knows_has_no_price() -> None:
    """F57: unknown is None, not zero."""
    assert lookup("openai", "gpt-4.1", "https://models.example.com/v1") is None
    assert lookup("openai", "no-such-model", None) is None
    assert lookup("openai", "", None) is None
    assert lookup("mock", "gpt-4.1", None) is None
    assert lookup("oci", "gpt-4.1", None) is None
    assert not known("openai", None, None)


def test_the_context_window_is_known_where_the_data_is_consistent() -> None:
    assert context_window("openai", "gpt-4o", None) == 128_000
    assert context_window("openai", "no-such-model", None) is None
    assert context_window("openai", "no-such-model", "https://models.example.com/v1") is None
    for model in SNAPSHOT.providers[0].models:
        window = context_window("anthropic", model.id, None)
        price = lookup("anthropic", model.id, None)
        assert window is None or price is None or all(tier.above_input_tokens < window for tier in price.tiers)


def test_prices_by_name_are_remembered_for_a_day_and_not_without_end() -> None:
    """F125: names come from clients."""
    clock = FakeClock()
    by_name = ModelPrices("openai", None, clock)
    by_name.load()
    first = by_name("gpt-4.1")
    assert first is not None
    assert by_name("gpt-4.1") is first
    clock.advance(86_400)
    assert by_name("gpt-4.1") == first
    for number in range(3000):
        assert by_name(f"invented-{number}") is None
    assert len(by_name._prices) <= 1024


def test_nothing_is_fetched_and_nothing_runs_beside() -> None:
    assert update_prices._shared_updater.ref_count == 0
    assert not [thread for thread in threading.enumerate() if "price" in thread.name.lower()]
    assert not [each for each in gc.get_objects() if isinstance(each, update_prices.UpdatePrices)]
    assert not SNAPSHOT.from_auto_update
    assert "genai_prices._cli" not in sys.modules
