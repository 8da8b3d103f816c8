"""Error bodies and error events as OpenAI and Anthropic write them."""

import msgspec

from gateway.core.errors import GatewayError
from gateway.core.exchange import Dialect

_OPENAI: dict[int, tuple[str, str | None, str]] = {
    400: ("invalid_request_error", None, "The mock was told to refuse this request."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    402: ("insufficient_quota", "credit_balance_exhausted", "Your credit balance is exhausted."),
    403: ("invalid_request_error", "unsupported_country_region_territory", "You may not use this model."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist or you do not have access to it."),
    408: ("invalid_request_error", "request_timeout", "The request took too long to arrive."),
    409: ("invalid_request_error", "conflict", "The resource was changed by another request."),
    413: ("invalid_request_error", "request_too_large", "The request is too large."),
    422: ("invalid_request_error", "unprocessable_entity", "The request cannot be processed."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached for requests. Please try again later."),
    500: ("server_error", None, "The server had an error while processing your request."),
    502: ("server_error", "bad_gateway", "Bad gateway."),
    503: ("service_unavailable_error", "server_is_overloaded", "The engine is currently overloaded."),
    504: ("server_error", "gateway_timeout", "The model did not answer in time."),
    529: ("service_unavailable_error", "server_is_overloaded", "The engine is currently overloaded."),
}
_ANTHROPIC: dict[int, tuple[str, str]] = {
    400: ("invalid_request_error", "The mock was told to refuse this request."),
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "Your credit balance is too low."),
    403: ("permission_error", "Your API key does not have permission to use this resource."),
    404: ("not_found_error", "The requested resource could not be found."),
    409: ("conflict_error", "The resource was changed by another request."),
    413: ("request_too_large", "Request exceeds the maximum allowed number of bytes."),
    429: ("rate_limit_error", "This request would exceed your rate limit."),
    500: ("api_error", "Internal server error"),
    504: ("timeout_error", "The request timed out."),
    529: ("overloaded_error", "Overloaded"),
}


def openai_error(status: int) -> dict[str, object]:
    """The `error` object of OpenAI for a status, with all four keys."""
    kind, code, message = _OPENAI.get(status, _OPENAI[500 if status >= 500 else 400])
    return {"message": message, "type": kind, "param": None, "code": code}


def anthropic_error(status: int) -> dict[str, object]:
    """The `error` object of Anthropic for a status."""
    kind, message = _ANTHROPIC.get(status, _ANTHROPIC[500 if status >= 500 else 400])
    return {"type": kind, "message": message}


def status_body(dialect: Dialect, status: int, request_id: str) -> bytes:
    """The body of an answer that the directives made fail with `status`."""
    if dialect == "anthropic":
        return _anthropic_body(anthropic_error(status), request_id)
    return msgspec.json.encode({"error": openai_error(status)})


def fault_body(dialect: Dialect, fault: GatewayError, request_id: str) -> bytes:
    """The body of an answer to a request that the mock itself could not serve."""
    if dialect == "anthropic":
        kind = _ANTHROPIC.get(fault.status, ("invalid_request_error", ""))[0]
        return _anthropic_body({"type": kind, "message": fault.message}, request_id)
    code = None if fault.code == "invalid_request_error" else fault.code
    return msgspec.json.encode(
        {
            "error": {
                "message": fault.message,
                "type": "invalid_request_error",
                "param": fault.param,
                "code": code,
            }
        }
    )


def openai_error_frame(status: int, *, named: bool) -> bytes:
    """The event by which an OpenAI stream breaks off; `named` adds the `event:` line of some look-alikes."""
    data = msgspec.json.encode({"error": openai_error(status)})
    return (b"event: error\n" if named else b"") + b"data: " + data + b"\n\n"


def anthropic_error_frame(status: int) -> bytes:
    """The event by which an Anthropic stream breaks off."""
    return b"event: error\ndata: " + msgspec.json.encode({"type": "error", "error": anthropic_error(status)}) + b"\n\n"


def html_page(status: int) -> bytes:
    """What a middle box says instead of the provider."""
    return (
        b"<html>\r\n<head><title>%d</title></head>\r\n<body>\r\n<center><h1>%d</h1></center>\r\n"
        b"<hr><center>mock</center>\r\n</body>\r\n</html>\r\n" % (status, status)
    )


def _anthropic_body(error: dict[str, object], request_id: str) -> bytes:
    return msgspec.json.encode({"type": "error", "error": error, "request_id": request_id})
