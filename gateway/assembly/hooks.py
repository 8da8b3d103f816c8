"""Webhooks, from the configuration to the calls that tell them."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping

from gateway.config.schema import Config
from gateway.core.clock import Clock
from gateway.policies.waits import jittered_waits
from gateway.telemetry.tracing import Tracer
from gateway.telemetry.webhooks import Webhook, Webhooks
from gateway.transport.control_client import Post, control_client, poster

_CALL_S = 5.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 10.0


class Caller:
    """Makes the gateway's own calls, by a client that is made for the first one: it loads certificates for 30 ms."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._post: Post | None = None
        self._close: Callable[[], Awaitable[None]] | None = None

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """Post `body`; the status of the answer. Raises ConnectionError when there is none."""
        if self._post is None:
            client = control_client(_CALL_S, self._tracer.watch_calls)
            self._post, self._close = poster(client), client.aclose
        return await self._post(url, headers, body)

    async def aclose(self) -> None:
        """Close the client, if there is one."""
        if self._close is not None:
            await self._close()


def open_webhooks(caller: Caller, clock: Clock, rng: random.Random) -> Webhooks:
    """Webhooks that nobody wants yet."""
    return Webhooks(caller.post, jittered_waits(_FIRST_WAIT_S, _LONGEST_WAIT_S, rng), clock, asyncio.sleep)


def wanted(config: Config) -> list[Webhook]:
    """Those of the configuration whose secrets are there."""
    return [
        Webhook(
            hook.url.reveal(),
            frozenset(hook.events),
            {name: secret.reveal() for name, secret in hook.headers.items()},
        )
        for hook in config.webhooks
        if hook.out_of_service is None
    ]
