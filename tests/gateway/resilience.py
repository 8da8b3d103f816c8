"""What the tests of routing and resilience share: targets that behave as their model's name says, and who was asked."""

from collections import Counter

import httpx

from tests.gateway.calls import CHATS
from tests.gateway.harness import CHAT, Gateway

HEAD = """
apiVersion: gateway/v1
server: {listen: "127.0.0.1:0", admin: "127.0.0.1:0", drain: 5s}
"""


def config(targets: dict[str, str], route: str, more: str = "") -> str:
    """A configuration of mock targets and the route `demo`. A target's text is what its model is told, and settings.

    `{"a": "status=500; breaker: off"}` is a target whose every call fails, and which no breaker takes out.
    """
    lines = []
    for name, text in targets.items():
        directives, _, settings = text.partition(";")
        model = f"{name}:{directives}" if directives else name
        tail = f", {settings.strip()}" if settings.strip() else ""
        lines.append(f'  {name}: {{provider: mock, base_url: MOCK_URL, model: "{model}"{tail}}}')
    return f"{HEAD}{more}\ntargets:\n" + "\n".join(lines) + f"\nroutes:\n  - {{model: demo, {route}}}\n"


async def ask(
    gw: Gateway, *, stream: bool = False, body: dict[str, object] | None = None, **headers: str
) -> httpx.Response:
    """One chat request; `_` in a header's name stands for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await gw.client.post(CHATS.path, json=CHAT | {"stream": stream} | (body or {}), headers=named)


async def asked(gw: Gateway) -> Counter[str]:
    """How many calls each target's model has had."""
    return Counter(str(call["model"]).partition(":")[0] for call in await gw.calls())


async def why(gw: Gateway, reply: httpx.Response) -> list[str]:
    """The decisions of a request, each as `step: detail`."""
    found = (await gw.admin.get(f"/admin/v1/requests/{reply.headers['x-request-id']}")).json()
    return [f"{each['step']}: {each['detail']}" for each in found["decisions"]]
