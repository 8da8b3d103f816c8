"""The applied configuration for people: in the words and units of the file, with no secret in it."""

from typing import Any

from gateway.config.load import Loaded
from gateway.config.schema import Config

_BOUNDS = {"timeouts", "price", "context_window", "max_inflight", "queue", "breaker", "coalesce"}


def snapshot(loaded: Loaded) -> dict[str, Any]:
    """What is in force: every setting with its value or default; secrets as their source, hashes hidden."""
    config = loaded.config.model_dump(mode="json", by_alias=True)
    if loaded.config.is_open:
        config["keys"] = "open"
    else:
        for key in config["keys"]:
            key["hash"] = "sha256:***"
    return {
        "revision": loaded.revision,
        "files": list(loaded.sources.documents),
        "warnings": [str(warning) for warning in loaded.warnings],
        "config": config,
    }


def routes(config: Config) -> list[dict[str, Any]]:
    """Each route with the share, from 0 to 1, that each of its targets gets, and what is tried when one fails.

    The shares of a `pool` are equal, whatever `balance` makes of them.
    """
    listed = []
    for route in config.routes:
        total = sum(route.weights.values())
        shares = {name: weight / total for name, weight in route.weights.items()}
        in_service = any(weight and config.targets[name].out_of_service is None for name, weight in shares.items())
        settings = route.model_dump(mode="json", exclude={"model", "target", "split"})
        listed.append(
            {"model": route.model, "split": route.weights, "shares": shares, "in_service": in_service} | settings
        )
    return listed


def targets(config: Config) -> list[dict[str, Any]]:
    """Each target: what it is, its bounds and price, and whether and why it is out of service."""
    return [
        {
            "name": name,
            "provider": target.provider,
            "base_url": target.base_url,
            "model": target.model,
            "api_key": None if target.api_key is None else target.api_key.source,
            "tags": target.tags,
            "transport": target.transport,
            "in_service": target.out_of_service is None,
            "reason": target.out_of_service,
        }
        | target.model_dump(mode="json", include=_BOUNDS)
        for name, target in config.targets.items()
    ]
