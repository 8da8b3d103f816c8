"""The bodies of `GET /v1/models` and `GET /v1/models/{id}`."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from gateway.core.exchange import Dialect

_OWNER = "gateway"


def models_body(dialect: Dialect, names: Sequence[str], created_s: int) -> bytes:
    """The list of all models that a consumer may use, in the order given, on one page.

    `created_s` is Unix seconds; routes have no date of their own, so the configuration's stands for all.
    """
    entries = [_entry(dialect, name, created_s) for name in names]
    if dialect == "anthropic":
        page = {
            "data": entries,
            "has_more": False,
            "first_id": names[0] if names else None,
            "last_id": names[-1] if names else None,
        }
        return msgspec.json.encode(page)
    return msgspec.json.encode({"object": "list", "data": entries})


def model_body(dialect: Dialect, name: str, created_s: int) -> bytes:
    """One model; as an entry of `models_body`."""
    return msgspec.json.encode(_entry(dialect, name, created_s))


def _entry(dialect: Dialect, name: str, created_s: int) -> dict[str, Any]:
    if dialect == "anthropic":
        created = datetime.fromtimestamp(created_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"type": "model", "id": name, "display_name": name, "created_at": created}
    return {"id": name, "object": "model", "created": created_s, "owned_by": _OWNER}
