"""What the gateway answers itself on the data plane: the lists of models, and that there is no such path."""

from gateway.core.errors import MethodNotAllowed, NotFound
from gateway.core.exchange import Exchange, Reply
from gateway.edge.feedback import PATH as FEEDBACK_PATH
from gateway.edge.serving import Serving
from gateway.wire.models import model_body, models_body


def local_reply(generation: Serving, exchange: Exchange, allowed: frozenset[str] | None) -> Reply:
    """The reply. `allowed`: the methods of a path that is known with another. Raises NotFound, MethodNotAllowed."""
    path, method = exchange.request.path, exchange.request.method
    if path == "/v1/models" or path.startswith("/v1/models/"):
        if method != "GET":
            raise MethodNotAllowed(f"{path} takes GET.", "GET")
        return _models(generation, exchange, path[len("/v1/models/") :])
    if path == FEEDBACK_PATH:
        raise MethodNotAllowed(f"{path} takes POST.", "POST")
    if allowed:
        methods = ", ".join(sorted(allowed))
        raise MethodNotAllowed(f"This path takes {methods}, not {method}.", methods)
    raise NotFound(f"No such path: {path[:200]!r}.", code="not_found")


def _models(generation: Serving, exchange: Exchange, name: str) -> Reply:
    consumer, dialect = exchange.consumer, exchange.request.dialect
    assert consumer is not None
    headers = [(b"content-type", b"application/json")]
    if not name:
        names = [model for model in generation.listed_models if generation.allows(consumer, model)]
        return Reply(200, headers, body=models_body(dialect, names, generation.created_s))
    if not generation.allows(consumer, name) or generation.routes.find(name) is None:
        raise NotFound(f"The model {name!r} does not exist.", param="model")
    return Reply(200, headers, body=model_body(dialect, name, generation.created_s))
