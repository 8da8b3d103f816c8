"""List prices of models, from the data that the installed genai-prices package carries.

Nothing is ever fetched: the library would do that only through `UpdatePrices`, which is not used here.
A newer version of the package is newer prices. What its data has and a reply does not tell apart is
charged at the dearest of its class (image and video tokens), as are hours of the day with different
prices: no cost comes out too low. Searches, storage and other tools that are priced by the call are
not part of a price here.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from operator import attrgetter
from typing import Any

from genai_prices.data_snapshot import find_provider_by_id, get_snapshot
from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices, TimeOfDateConstraint

from gateway.core.clock import Clock
from gateway.core.money import NUSD_PER_USD
from gateway.core.price import Price, Rates, Tier, rates_above

# Kinds of providers that are who they say, whatever the address is (a private link, a regional endpoint).
_BY_KIND = {"azure": "azure", "gemini": "google", "bedrock": "aws"}
# Kinds that others imitate: known by their address alone, which may be somebody else's with prices of their own.
_BY_ADDRESS = {"openai": "https://api.openai.com/v1", "anthropic": "https://api.anthropic.com"}
_PARTS_OF_INPUT = ("cached_input", "cache_write", "cache_write_1h", "audio_input")
_PARTS_OF_OUTPUT = ("audio_output", "reasoning")
_input_rate: Callable[[Rates], int] = attrgetter("input")
_output_rate: Callable[[Rates], int] = attrgetter("output")
_SERVICE_KEYS = ("service_tier", "speed")
_USUAL_SERVICES = ("default", "standard")
_DAY_S = 86_400
_REMEMBERED_MODELS = 1024
_REQUESTS_PER = 1000


def lookup(provider_kind: str, model: str, base_url: str | None, at: datetime | None = None) -> Price | None:
    """The price of `model` at `at` (default: now), or None when it is not known.

    `base_url` is the target's; None is the provider's own. The mock has no price, nor has a
    look-alike at an address that the data does not know.
    """
    found = _find(provider_kind, model, base_url)
    return None if found is None else _price(*found, at or datetime.now(UTC))


def known(provider_kind: str, model: str | None, base_url: str | None) -> bool:
    """Whether `lookup` knows a price. A target that passes the client's model through (None) has none of its own."""
    return model is not None and lookup(provider_kind, model, base_url) is not None


def context_window(provider_kind: str, model: str, base_url: str | None) -> int | None:
    """The longest prompt that `model` takes, in tokens; None when it is not known.

    Also where the data contradicts itself: a price for prompts longer than the window means that it
    was widened since.
    """
    found = _find(provider_kind, model, base_url)
    if found is None or found[1].context_window is None:
        return None
    window = found[1].context_window
    price = _price(*found, datetime.now(UTC))
    tiers = () if price is None else price.tiers
    return None if any(tier.above_input_tokens >= window for tier in tiers) else window


class ModelPrices:
    """Prices at one provider by whatever name a model is asked for; for targets that pass the client's name on.

    Names come from clients: the last thousand are remembered, and none longer than a day of UTC, in
    which a new price may have begun. A name not seen yet costs up to a millisecond, and the very
    first one 0.2 s, when the data is loaded: call `load` before serving.
    """

    __slots__ = ("_base_url", "_clock", "_day", "_kind", "_prices")

    def __init__(self, provider_kind: str, base_url: str | None, clock: Clock) -> None:
        self._kind = provider_kind
        self._base_url = base_url
        self._clock = clock
        self._day = 0
        self._prices: dict[str, Price | None] = {}

    def __call__(self, model: str) -> Price | None:
        """The price of `model` today, or None."""
        now_s = self._clock.wall()
        day = int(now_s // _DAY_S)
        if day != self._day or len(self._prices) >= _REMEMBERED_MODELS:
            self._prices.clear()
            self._day = day
        if model in self._prices:
            return self._prices[model]
        price = self._prices[model] = lookup(self._kind, model, self._base_url, datetime.fromtimestamp(now_s, UTC))
        return price

    def load(self) -> None:
        """Load the data, so that no request has to."""
        get_snapshot()


def _find(kind: str, model: str, base_url: str | None) -> tuple[Provider, ModelInfo] | None:
    provider = _provider(kind, base_url)
    if provider is None or not model:
        return None
    # Not by the snapshot's own `find_provider_model`: it remembers every name for ever.
    found = provider.find_model(model, all_providers=get_snapshot().providers)
    return None if found is None else (provider, found)


def _provider(kind: str, base_url: str | None) -> Provider | None:
    if kind in _BY_KIND:
        return find_provider_by_id(get_snapshot().providers, _BY_KIND[kind])
    if kind not in _BY_ADDRESS:
        return None
    try:
        return get_snapshot().find_provider(None, None, base_url or _BY_ADDRESS[kind])
    except LookupError:
        return None


def _price(provider: Provider, model: ModelInfo, at: datetime) -> Price | None:
    usual = _dearest(model, at, {})
    if usual is None:
        return None
    # The library's own rule: what one provider adds to its prices says nothing of another that sells the same model.
    if not any(model is own for own in provider.models):
        return usual
    services: dict[str, Price] = {}
    for variant in model.price_variants or ():
        for key in _SERVICE_KEYS:
            name = variant.when.get(key)
            if name is not None and name not in _USUAL_SERVICES and len(variant.when) == 1:
                other = _dearest(model, at, {key: name})
                if other is not None and other != usual:
                    services[name] = other
    return _with(usual, request=usual.request, tiers=usual.tiers, services=services)


def _dearest(model: ModelInfo, at: datetime, context: dict[str, str]) -> Price | None:
    """The price at `at`; where it depends on the hour, the dearest of that day, class by class."""
    found = [_converted(model.get_prices(moment, context)) for moment in _moments(model, at)]
    prices = [price for price in found if price is not None]
    if len(prices) <= 1:
        return prices[0] if prices else None
    starts = sorted({tier.above_input_tokens for price in prices for tier in price.tiers})
    return _with(
        _highest(prices),
        request=max(price.request for price in prices),
        tiers=tuple(Tier(start, _highest([rates_above(price, start) for price in prices])) for start in starts),
    )


def _highest(several: Sequence[Rates]) -> Rates:
    def rate(name: str, around: Callable[[Rates], int]) -> int | None:
        listed: list[int | None] = [getattr(rates, name) for rates in several]
        if all(each is None for each in listed):
            return None
        # A class that one of them charges like the one around it may be dearer there.
        return max(around(rates) if each is None else each for rates, each in zip(several, listed, strict=True))

    return Rates(
        max(rates.input for rates in several),
        max(rates.output for rates in several),
        *(rate(name, _input_rate) for name in _PARTS_OF_INPUT),
        *(rate(name, _output_rate) for name in _PARTS_OF_OUTPUT),
    )


def _moments(model: ModelInfo, at: datetime) -> list[datetime]:
    conditions = [] if isinstance(model.prices, ModelPrice) else [each.constraint for each in model.prices]
    hours = [each for each in conditions if isinstance(each, TimeOfDateConstraint)]
    if not hours:
        return [at]
    midnight = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return [midnight + timedelta(minutes=15 * quarter) for quarter in range(96)]


def _converted(price: ModelPrice) -> Price | None:
    """None where it has no price for tokens: by the second, by the page, by the character."""
    listed: dict[str, Decimal | TieredPrices] = {key: value for key, value in vars(price).items() if value is not None}
    if "input_mtok" not in listed and "output_mtok" not in listed:
        return None
    starts = sorted(
        {tier.start for value in listed.values() if isinstance(value, TieredPrices) for tier in value.tiers}
    )
    base = _rates(listed, None)
    tiers = tuple(Tier(start, _rates(listed, start)) for start in starts)
    per_thousand = _value(listed.get("requests_kcount"), None) or Decimal(0)
    request = int((per_thousand * NUSD_PER_USD / _REQUESTS_PER).to_integral_value(ROUND_CEILING))
    return _with(base, request=request, tiers=tiers)


def _with(
    rates: Rates, *, request: int, tiers: tuple[Tier, ...] = (), services: dict[str, Price] | None = None
) -> Price:
    classes: dict[str, Any] = {name: getattr(rates, name) for name in Rates.__struct_fields__}
    return Price(**classes, request=request, tiers=tiers, services=services or {})


def _rates(listed: dict[str, Decimal | TieredPrices], above: int | None) -> Rates:
    def rate(*keys: str) -> int | None:
        found = [value for value in (_value(listed.get(key), above) for key in keys) if value is not None]
        return int((max(found) * NUSD_PER_USD).to_integral_value(ROUND_CEILING)) if found else None

    return Rates(
        input=rate("input_mtok", "input_image_mtok", "input_video_mtok") or 0,
        output=rate("output_mtok", "output_image_mtok", "output_video_mtok", "output_citation_mtok") or 0,
        cached_input=rate("cache_read_mtok", "cache_image_read_mtok"),
        cache_write=rate("cache_write_mtok"),
        cache_write_1h=rate("cache_write_1h_mtok"),
        audio_input=rate("input_audio_mtok"),
        audio_output=rate("output_audio_mtok"),
        reasoning=rate("output_reasoning_mtok"),
    )


def _value(price: Decimal | TieredPrices | None, above: int | None) -> Decimal | None:
    """The price for prompts longer than `above`; None is the price of the shortest."""
    if not isinstance(price, TieredPrices):
        return price
    passed = [tier.price for tier in price.tiers if above is not None and tier.start <= above]
    return passed[-1] if passed else price.base
