"""`POST /v1/cache/feedback`: a client says that a stored reply was wrong for it, and nobody is given it again."""

from typing import Protocol

import msgspec
from msgspec import Struct

from gateway.core.errors import InvalidRequest, NotFound
from gateway.core.exchange import Consumer, Exchange, Reply

PATH = "/v1/cache/feedback"
MAX_BYTES = 4096


class _Body(Struct, forbid_unknown_fields=True):
    entry: str
    wrong: bool


class Complaints(Protocol):
    """Where a complaint goes; `gateway.assembly.caches.Caches`."""

    async def complain(self, receipt: str, consumer: Consumer, request_id: str) -> bool:
        """Remove the entry that `receipt` names. False when there is none that this consumer may have been given.

        Raises ValueError for what is no receipt, StoreUnavailable.
        """
        ...


async def feedback(exchange: Exchange, body: bytes, complaints: Complaints | None) -> Reply:
    """The answer to a complaint. Raises InvalidRequest, NotFound, StoreUnavailable."""
    try:
        said = msgspec.json.decode(body, type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f'Send {{"entry": "...", "wrong": true}}: {error}.') from error
    if not said.wrong:
        raise InvalidRequest("Only `wrong: true` is known: silence means that a reply was right.", param="wrong")
    assert exchange.consumer is not None
    try:
        is_removed = complaints is not None and await complaints.complain(
            said.entry, exchange.consumer, exchange.request_id
        )
    except ValueError as error:
        message = "`entry` must be what a reply's x-gateway-cache-entry said."
        raise InvalidRequest(message, param="entry") from error
    if not is_removed:
        raise NotFound("There is no such stored reply (any more).", param="entry", code="not_found")
    exchange.decide("cache", f"the stored reply {said.entry[:64]} is wrong, says the client: removed")
    answer = msgspec.json.encode({"entry": said.entry[:64], "removed": True})
    return Reply(200, [(b"content-type", b"application/json")], body=answer)
