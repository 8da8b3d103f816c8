"""What a target costs: as the configuration says, else as genai-prices knows it."""

from collections.abc import Callable

from gateway.config.targets import Target
from gateway.core.clock import Clock
from gateway.core.price import Price
from gateway.providers.prices import ModelPrices, lookup


def price_of(config: Target) -> Price | None:
    """The price of a target; None when nobody says."""
    declared = config.price
    if declared is None:
        return None if config.model is None else lookup(config.provider, config.model, config.base_url)
    return Price(
        input=declared.input or 0,
        output=declared.output or 0,
        cached_input=declared.cached_input,
        cache_write=declared.cache_write,
        audio_input=declared.audio_input,
        audio_output=declared.audio_output,
        reasoning=declared.reasoning,
        request=declared.request or 0,
    )


def by_model(config: Target, clock: Clock) -> Callable[[str], Price | None] | None:
    """Prices by the name of the model that answered, for a target that passes the client's model name on."""
    if config.price is not None or config.model is not None or config.provider == "mock":
        return None
    prices = ModelPrices(config.provider, config.base_url, clock)
    if config.out_of_service is None:
        prices.load()
    return prices


def is_known(provider: str, model: str | None, base_url: str | None) -> bool:
    """Whether the price of a model is known without being declared; for `gateway check`."""
    return model is not None and lookup(provider, model, base_url) is not None
