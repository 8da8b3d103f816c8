"""What a batch failed with, as it concerns each of those in it.

Everybody has a fault of its own (policies write into them), and nobody sees what another one has asked:
a provider's words may quote an input, so of them only plain codes are passed on. For the same reason, and
because one bad input must not spoil the others', a batch that was refused is nobody's fault yet: each is
asked again, alone.
"""

from typing import Any

import msgspec

from gateway.core.errors import GatewayError, ProviderReply, UpstreamError
from gateway.telemetry.access import PLAIN_CODE, plain_code


def is_refusal(error: GatewayError) -> bool:
    """Whether the provider has refused what was asked, so that one input may be what it is about.

    Its 4xx, be it in a reply of status 200 or from something between; not 429, nor the account.
    """
    if not isinstance(error, UpstreamError) or error.upstream_status is None:
        return False
    status = error.upstream_status if error.upstream_status >= 400 else error.status
    return 400 <= status < 500 and status != 429


def own_copy(error: GatewayError) -> GatewayError:
    """The same fault for one of those in the batch, without frames, and without what the provider has said."""
    copied = type(error).__new__(type(error), *error.args)
    copied.__dict__.update(error.__dict__)
    if isinstance(copied, UpstreamError) and copied.reply is not None:
        said = f"The provider answered {copied.status}."
        copied.args, copied.message = (said,), said
        copied.reply = ProviderReply(copied.reply.headers, _plain(copied.reply.body, said))
        copied.code = plain_code(copied)
    return copied


def _plain(body: bytes, said: str) -> bytes:
    """An error body with the codes of `body`, by which clients and policies know what it is."""
    try:
        parsed: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        parsed = None
    error = parsed.get("error") if isinstance(parsed, dict) else None
    found = {name: _word(error.get(name) if isinstance(error, dict) else None) for name in ("type", "code")}
    return msgspec.json.encode(
        {"error": {"message": said, "type": found["type"], "param": None, "code": found["code"]}}
    )


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and PLAIN_CODE.fullmatch(value) else None
