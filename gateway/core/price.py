"""What tokens cost, in integers: no float touches money, and there is one rounding, at the end and upwards.

Rates are nano-USD per *million* tokens, so that $0.0028 a million is still a whole number. The
classes lie inside each other as in `Usage`: cached, cache-write and audio tokens are part of the
input, reasoning and audio tokens of the output, and a token is charged in one class alone (F57).
"""

from collections.abc import Iterable

from msgspec import Struct, field

from gateway.core.exchange import Usage

PER_TOKENS = 1_000_000
"""Tokens that a rate is for."""


class Rates(Struct, frozen=True):
    """Nano-USD per million tokens of each class. None: charged like the class that it is part of."""

    input: int
    output: int
    cached_input: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None
    """Written to a cache that lasts an hour; part of the cache-write tokens."""
    audio_input: int | None = None
    audio_output: int | None = None
    reasoning: int | None = None


class Tier(Struct, frozen=True):
    """Other rates for *all* tokens of a request whose prompt is longer than `above_input_tokens`."""

    above_input_tokens: int
    rates: Rates


class Price(Rates, frozen=True):
    """What one model costs at one provider."""

    request: int = 0
    """Nano-USD for each request that was answered, besides its tokens."""
    tiers: tuple[Tier, ...] = ()
    """Rising by length; the last one that is passed applies."""
    services: dict[str, "Price"] = field(default_factory=dict)
    """Other prices by the service that the reply says it had (`Usage.service_tier`): `priority`, `flex`, `fast`."""


def cost_nusd(price: Price, usage: Usage) -> int:
    """What `usage` costs, in nano-USD, rounded up. Tokens that were not reported count as none.

    Parts that come to more than their whole (a provider that counts otherwise, or cached audio, which
    is both) are charged dearest first, until the whole is used up.
    """
    if price.services and usage.service_tier is not None:
        price = price.services.get(usage.service_tier, price)
    rates: Rates = price
    tokens_in, tokens_out = usage.input_tokens or 0, usage.output_tokens or 0
    for tier in price.tiers:
        if tokens_in <= tier.above_input_tokens:
            break
        rates = tier.rates
    if usage.cached_input_tokens or usage.cache_write_tokens or usage.audio_input_tokens:
        total = _input(rates, usage, tokens_in)
    else:
        total = tokens_in * rates.input
    if usage.reasoning_tokens or usage.audio_output_tokens:
        total += _output(rates, usage, tokens_out)
    else:
        total += tokens_out * rates.output
    return price.request - (-total // PER_TOKENS)


class Quote(Struct, frozen=True):
    """The most that one request may come to at one target."""

    input_tokens: int
    output_tokens: int
    cost_nusd: int | None
    """None when the price is not known."""


def rates_above(price: Price, input_tokens: int) -> Rates:
    """The rates for prompts that are just longer than `input_tokens`."""
    rates: Rates = price
    for tier in price.tiers:
        if tier.above_input_tokens <= input_tokens:
            rates = tier.rates
    return rates


class Ceiling(Struct, frozen=True):
    """The dearest rates that a request may meet, for prompts longer than `above_input_tokens`."""

    above_input_tokens: int
    input: int
    output: int


def ceilings(price: Price, *, audio: bool, hourly: bool, services: bool) -> tuple[Ceiling, ...]:
    """The dearest input and output rates for each length of prompt, the longest first, the last from 0.

    `audio`, `hourly`, `services`: whether there may be audio tokens, cache writes for an hour, and a
    service other than the usual one. With the ceiling of the longest prompt that is possible, no
    usage of at most so many tokens can cost more, whatever the classes of its tokens are.
    """
    prices = [price, *(price.services.values() if services else ())]
    starts = sorted({0, *(tier.above_input_tokens for each in prices for tier in each.tiers)})
    found: list[Ceiling] = []
    highest_in = highest_out = 0
    for start in starts:
        # A shorter prompt might be the dearer one: nothing forbids it.
        for rates in (rates_above(each, start) for each in prices):
            highest_in = max(highest_in, _dearest_input(rates, audio=audio, hourly=hourly))
            highest_out = max(highest_out, _dearest_output(rates, audio=audio))
        found.append(Ceiling(start, highest_in, highest_out))
    return tuple(reversed(found))


def request_ceiling(price: Price, *, services: bool) -> int:
    """The most that `Price.request` may come to."""
    return max([price.request, *(each.request for each in price.services.values() if services)])


def most_nusd(ceilings_: tuple[Ceiling, ...], input_tokens: int, output_tokens: int) -> int:
    """The most that so many tokens may cost, in nano-USD, rounded up; `ceilings_` as from `ceilings`."""
    for ceiling in ceilings_:
        if input_tokens > ceiling.above_input_tokens:
            return -(-(input_tokens * ceiling.input + output_tokens * ceiling.output) // PER_TOKENS)
    return -(-(output_tokens * ceilings_[-1].output) // PER_TOKENS)


def _input(rates: Rates, usage: Usage, tokens: int) -> int:
    written = usage.cache_write_tokens or 0
    hourly = min(usage.cache_write_1h_tokens or 0, written)
    write = _or(rates.cache_write, rates.input)
    return _in_parts(
        tokens,
        rates.input,
        (
            (usage.cached_input_tokens or 0, _or(rates.cached_input, rates.input)),
            (written - hourly, write),
            (hourly, _or(rates.cache_write_1h, write)),
            (usage.audio_input_tokens or 0, _or(rates.audio_input, rates.input)),
        ),
    )


def _output(rates: Rates, usage: Usage, tokens: int) -> int:
    return _in_parts(
        tokens,
        rates.output,
        (
            (usage.reasoning_tokens or 0, _or(rates.reasoning, rates.output)),
            (usage.audio_output_tokens or 0, _or(rates.audio_output, rates.output)),
        ),
    )


def _in_parts(tokens: int, rate: int, parts: Iterable[tuple[int, int]]) -> int:
    total, left = 0, tokens
    if sum(count for count, _ in parts) > tokens:
        parts = sorted(parts, key=lambda part: part[1], reverse=True)
    for count, part_rate in parts:
        taken = min(count, left)
        total += taken * part_rate
        left -= taken
    return total + left * rate


def _dearest_input(rates: Rates, *, audio: bool, hourly: bool) -> int:
    write = _or(rates.cache_write, rates.input)
    classes = [rates.input, _or(rates.cached_input, rates.input), write]
    if hourly:
        classes.append(_or(rates.cache_write_1h, write))
    if audio:
        classes.append(_or(rates.audio_input, rates.input))
    return max(classes)


def _dearest_output(rates: Rates, *, audio: bool) -> int:
    classes = [rates.output, _or(rates.reasoning, rates.output)]
    if audio:
        classes.append(_or(rates.audio_output, rates.output))
    return max(classes)


def _or(rate: int | None, other: int) -> int:
    return other if rate is None else rate
