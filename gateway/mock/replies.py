"""The JSON endpoints that the mock understands: a read body in, a plan out."""

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote

import msgspec

from gateway.core.exchange import Dialect
from gateway.mock.anthropic import AnthropicMessage
from gateway.mock.bodies import Body, require
from gateway.mock.content import Content, compose_content
from gateway.mock.directives import Directives
from gateway.mock.openai import Chat, Reckoning, TextCompletion
from gateway.mock.plan import Grammar, Plan, Stream
from gateway.mock.responses import Response
from gateway.mock.vectors import embeddings_body
from gateway.mock.world import World

JSON = b"application/json"
EVENT_STREAM = b"text/event-stream; charset=utf-8"
DEFAULT_MODELS = ("demo", "demo-large", "demo-embedding")
_MODELS_CREATED = 1_700_000_000


@dataclass(slots=True)
class Ask:
    """One request to a JSON endpoint, read and found usable."""

    world: World
    body: Body
    directives: Directives
    model: str
    """The model's name without directives."""
    number: int


Answer = Callable[[Ask], Plan]


def _give(ask: Ask, content: Content, grammar: Grammar, whole: Callable[[], bytes], choices: int = 1) -> Plan:
    if ask.body.stream:
        return Plan(200, EVENT_STREAM, stream=Stream(grammar, content.pieces, choices))
    return Plan(200, JSON, whole(), tokens=len(content.pieces) * choices)


def _compose(ask: Ask) -> Content:
    return compose_content(ask.body, ask.directives, ask.world.draw(ask.directives, ask.model))


def _chat(ask: Ask) -> Plan:
    require("messages", ask.body.messages)
    return _completion(ask, Chat)


def _text_completion(ask: Ask) -> Plan:
    require("prompt", ask.body.prompt)
    ask.body.tools = None
    return _completion(ask, TextCompletion)


def _completion(ask: Ask, shape: type[Chat]) -> Plan:
    body, content, choices = ask.body, _compose(ask), ask.body.choices
    reply = shape(
        content,
        Reckoning(body.input_tokens(), len(content.pieces) * choices, ask.directives),
        number=ask.number,
        created=ask.world.dates.refresh(),
        model=ask.model,
        choices=choices,
        include_usage=body.include_usage,
    )
    return _give(ask, content, reply, reply.whole, choices)


def _response(ask: Ask) -> Plan:
    require("input", ask.body.input)
    content = _compose(ask)
    reckoning = Reckoning(ask.body.input_tokens(), len(content.pieces), ask.directives)
    created = ask.world.dates.refresh()
    reply = Response(content, reckoning, number=ask.number, created=created, model=ask.model)
    return _give(ask, content, reply, reply.whole)


def _message(ask: Ask) -> Plan:
    require("messages", ask.body.messages)
    content = _compose(ask)
    reckoning = Reckoning(ask.body.input_tokens(), len(content.pieces), ask.directives)
    reply = AnthropicMessage(content, reckoning, number=ask.number, model=ask.model)
    return _give(ask, content, reply, reply.whole)


def _count_tokens(ask: Ask) -> Plan:
    require("messages", ask.body.messages)
    return Plan(200, JSON, b'{"input_tokens":%d}' % ask.body.input_tokens())


def _embeddings(ask: Ask) -> Plan:
    require("input", ask.body.input)
    count = 0 if ask.directives.zero_usage else ask.body.input_tokens()
    usage = None if ask.directives.nousage else (count, count)
    return Plan(200, JSON, embeddings_body(ask.body, ask.model, seed=ask.directives.seed, usage=usage))


def list_models(suffix: str, dialect: Dialect) -> Plan:
    """The list, or any single model: the mock plays whatever name it is given."""
    wanted = unquote(suffix[len("models/") :])
    names = (wanted,) if wanted else DEFAULT_MODELS
    rows: list[dict[str, object]]
    if dialect == "anthropic":
        rows = [
            {"type": "model", "id": name, "display_name": name, "created_at": "2023-11-14T22:13:20Z"} for name in names
        ]
        page: dict[str, object] = {"data": rows, "has_more": False, "first_id": names[0], "last_id": names[-1]}
    else:
        rows = [{"id": name, "object": "model", "created": _MODELS_CREATED, "owned_by": "mock"} for name in names]
        page = {"object": "list", "data": rows}
    return Plan(200, JSON, msgspec.json.encode(rows[0] if wanted else page))


ENDPOINTS: dict[str, Answer] = {
    "chat/completions": _chat,
    "completions": _text_completion,
    "embeddings": _embeddings,
    "responses": _response,
    "messages": _message,
    "messages/count_tokens": _count_tokens,
}
"""By the path below the API's version. Each raises InvalidRequest for a body it cannot use."""
