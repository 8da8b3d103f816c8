"""What comes with a stored reply, so that a client can say which one was wrong: `x-gateway-cache-entry`."""

import re

from gateway.semantic.verified import KINDS, Decision

_RECEIPT = re.compile(r"([0-9a-f]{64})(?:-([0-9])-([0-9]{1,5}))?")


def receipt(decision: Decision) -> str:
    """Of a reply that was given for a similar question: the entry, and by what kind of pair it was found.

    Of one that was given for the very same question, the entry alone is the receipt.
    """
    assert decision.entry is not None
    if not decision.kind:
        return decision.entry
    return f"{decision.entry}-{KINDS.index(decision.kind)}-{round(decision.similarity * 10_000)}"


def read_receipt(text: str) -> tuple[str, str, float]:
    """The entry, and the kind ("" for none) and similarity of the pair. Raises ValueError for what is none."""
    match = _RECEIPT.fullmatch(text)
    if match is None or (match[2] is not None and int(match[2]) >= len(KINDS)):
        raise ValueError("no receipt")
    if match[2] is None:
        return match[1], "", 0.0
    return match[1], KINDS[int(match[2])], int(match[3]) / 10_000
