"""What tokens cost (F57)."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Usage
from gateway.core.price import PER_TOKENS, Ceiling, Price, Rates, Tier, ceilings, cost_nusd, most_nusd, request_ceiling

GPT = Price(input=2_000_000_000, output=8_000_000_000, cached_input=500_000_000)
EVERYTHING = Price(
    input=1_000_000,
    output=2_000_000,
    cached_input=100_000,
    cache_write=1_250_000,
    cache_write_1h=3_000_000,
    audio_input=5_000_000,
    audio_output=7_000_000,
    reasoning=4_000_000,
)


def test_tokens_cost_their_rate_to_the_nano_dollar() -> None:
    assert cost_nusd(GPT, Usage(1_000_000, 500_000)) == 6_000_000_000
    assert cost_nusd(GPT, Usage(7, 5)) == 7 * 2000 + 5 * 8000


def test_each_class_has_its_rate_and_no_token_counts_twice() -> None:
    """F57."""
    usage = Usage(
        input_tokens=100,
        cached_input_tokens=20,
        cache_write_tokens=30,
        cache_write_1h_tokens=10,
        audio_input_tokens=5,
        output_tokens=50,
        reasoning_tokens=15,
        audio_output_tokens=25,
    )
    expected_in = 20 * 100_000 + 20 * 1_250_000 + 10 * 3_000_000 + 5 * 5_000_000 + 45 * 1_000_000
    expected_out = 15 * 4_000_000 + 25 * 7_000_000 + 10 * 2_000_000
    assert cost_nusd(EVERYTHING, usage) == (expected_in + expected_out) // PER_TOKENS


def test_a_class_without_a_rate_costs_what_the_class_around_it_costs() -> None:
    plain = Price(input=3_000_000, output=5_000_000)
    detailed = Usage(10, 10, 4, 3, 6, cache_write_1h_tokens=2, audio_input_tokens=1, audio_output_tokens=2)
    assert cost_nusd(plain, detailed) == cost_nusd(plain, Usage(10, 10)) == 80
    hourly = Price(input=1_000_000, output=0, cache_write=2_000_000)
    assert cost_nusd(hourly, Usage(10, cache_write_tokens=4, cache_write_1h_tokens=4)) == 14


def test_parts_that_exceed_their_whole_are_charged_dearest_first_up_to_the_whole() -> None:
    audio_from_the_cache = Usage(10, 0, cached_input_tokens=10, audio_input_tokens=4)
    assert cost_nusd(EVERYTHING, audio_from_the_cache) == -(-(4 * 5_000_000 + 6 * 100_000) // PER_TOKENS)


def test_nothing_reported_costs_nothing_but_the_request() -> None:
    assert cost_nusd(GPT, Usage()) == 0
    assert cost_nusd(Price(input=1, output=1, request=12_000_000), Usage()) == 12_000_000


def test_a_fraction_of_a_nano_dollar_is_rounded_up_once() -> None:
    """0.4 + 0.4 nano-USD are one, not two."""
    assert cost_nusd(Price(input=400_000, output=400_000), Usage(1, 1)) == 1
    assert cost_nusd(Price(input=1, output=0), Usage(1)) == 1


def test_a_long_prompt_changes_the_rate_of_all_its_tokens() -> None:
    price = Price(
        input=1_000_000,
        output=2_000_000,
        cached_input=500_000,
        tiers=(
            Tier(200, Rates(input=2_000_000, output=3_000_000, cached_input=1_000_000)),
            Tier(400, Rates(input=4_000_000, output=3_000_000)),
        ),
    )
    assert cost_nusd(price, Usage(200, 10)) == 220
    assert cost_nusd(price, Usage(201, 10)) == 432
    assert cost_nusd(price, Usage(201, 10, cached_input_tokens=101)) == 331
    assert cost_nusd(price, Usage(401, 0)) == 1604


def test_another_service_has_another_price_and_an_unknown_one_the_usual() -> None:
    price = Price(input=1_000_000, output=1_000_000, services={"priority": Price(input=2_000_000, output=3_000_000)})
    assert cost_nusd(price, Usage(1, 1, service_tier="priority")) == 5
    assert cost_nusd(price, Usage(1, 1, service_tier="turbo")) == cost_nusd(price, Usage(1, 1)) == 2


def test_ceilings_hold_only_what_may_happen() -> None:
    assert ceilings(EVERYTHING, audio=False, hourly=False, services=True) == (Ceiling(0, 1_250_000, 4_000_000),)
    assert ceilings(EVERYTHING, audio=False, hourly=True, services=True) == (Ceiling(0, 3_000_000, 4_000_000),)
    assert ceilings(EVERYTHING, audio=True, hourly=False, services=True) == (Ceiling(0, 5_000_000, 7_000_000),)


def test_ceilings_never_fall_with_the_length_of_the_prompt() -> None:
    falling = Price(input=9, output=9, tiers=(Tier(10, Rates(input=1, output=20)),))
    assert ceilings(falling, audio=False, hourly=False, services=False) == (Ceiling(10, 9, 20), Ceiling(0, 9, 9))


def test_a_service_of_another_price_raises_the_ceiling() -> None:
    price = Price(input=1, output=1, request=1, services={"fast": Price(input=5, output=6, request=3)})
    assert ceilings(price, audio=False, hourly=False, services=False) == (Ceiling(0, 1, 1),)
    assert ceilings(price, audio=False, hourly=False, services=True) == (Ceiling(0, 5, 6),)
    assert request_ceiling(price, services=True) == 3
    assert request_ceiling(price, services=False) == 1


def test_no_prompt_costs_its_answer_alone() -> None:
    assert most_nusd((Ceiling(5, 9, 9), Ceiling(0, 1_000_000, 2_000_000)), 0, 3) == 6


RATE = st.integers(min_value=0, max_value=10**13)
MAYBE = st.none() | RATE
RATES = st.builds(
    Rates,
    input=RATE,
    output=RATE,
    cached_input=MAYBE,
    cache_write=MAYBE,
    cache_write_1h=MAYBE,
    audio_input=MAYBE,
    audio_output=MAYBE,
    reasoning=MAYBE,
)
COUNT = st.integers(min_value=0, max_value=2_000_000)
COUNTED = st.none() | COUNT


@st.composite
def prices(draw: st.DrawFn, services: bool = True) -> Price:
    rates = draw(RATES)
    starts = sorted(draw(st.sets(COUNT, max_size=3)))
    return Price(
        **{name: getattr(rates, name) for name in Rates.__struct_fields__},
        request=draw(RATE),
        tiers=tuple(Tier(start, draw(RATES)) for start in starts),
        services={"fast": draw(prices(services=False))} if services and draw(st.booleans()) else {},
    )


USAGES = st.builds(
    Usage,
    input_tokens=COUNTED,
    output_tokens=COUNTED,
    cached_input_tokens=COUNTED,
    cache_write_tokens=COUNTED,
    cache_write_1h_tokens=COUNTED,
    audio_input_tokens=COUNTED,
    audio_output_tokens=COUNTED,
    reasoning_tokens=COUNTED,
    service_tier=st.sampled_from([None, "fast", "other"]),
)


@given(price=prices(), usage=USAGES, more_in=COUNT, more_out=COUNT)
def test_no_usage_costs_more_than_the_ceiling_of_at_least_as_many_tokens(
    price: Price, usage: Usage, more_in: int, more_out: int
) -> None:
    """F50: what is held covers what is settled, whatever the classes of the tokens turn out to be."""
    highest = ceilings(price, audio=True, hourly=True, services=True)
    most = most_nusd(highest, (usage.input_tokens or 0) + more_in, (usage.output_tokens or 0) + more_out)
    assert cost_nusd(price, usage) <= request_ceiling(price, services=True) + most


@given(price=prices(services=False), usage=USAGES)
def test_the_cost_lies_between_the_cheapest_and_the_dearest_class(price: Price, usage: Usage) -> None:
    """F57: every token is charged once, neither dropped nor doubled."""
    rates: Rates = price
    for tier in price.tiers:
        if (usage.input_tokens or 0) > tier.above_input_tokens:
            rates = tier.rates
    inward = [rates.input, rates.cached_input, rates.cache_write, rates.cache_write_1h, rates.audio_input]
    outward = [rates.output, rates.reasoning, rates.audio_output]
    exact = cost_nusd(price, usage) - price.request
    bounds = [
        Fraction((usage.input_tokens or 0) * choose(rate for rate in inward if rate is not None), PER_TOKENS)
        + Fraction((usage.output_tokens or 0) * choose(rate for rate in outward if rate is not None), PER_TOKENS)
        for choose in (min, max)
    ]
    assert bounds[0] <= exact < bounds[1] + 1


@pytest.mark.parametrize("tokens", [0, 1, 10**9])
def test_a_free_model_is_free(tokens: int) -> None:
    """F59."""
    assert cost_nusd(Price(input=0, output=0), Usage(tokens, tokens)) == 0
