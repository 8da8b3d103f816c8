"""What comes with a stored reply, there and back."""

import pytest

from gateway.policies.receipt import read_receipt, receipt
from gateway.semantic.verified import KINDS, Decision

ENTRY = "0123456789abcdef" * 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("similarity", [0.0, 0.74, 0.81826, 0.99999, 1.0])
def test_a_receipt_tells_the_entry_and_by_what_kind_of_pair_it_was_found(kind: str, similarity: float) -> None:
    made = receipt(Decision("serve", "open", entry=ENTRY, row="1-0", kind=kind, similarity=similarity))
    assert made.startswith(f"{ENTRY}-")
    assert read_receipt(made) == (ENTRY, kind, round(similarity, 4))


def test_the_receipt_of_what_was_given_for_its_own_words_is_the_entry() -> None:
    assert receipt(Decision("serve", "same", entry=ENTRY, similarity=1.0)) == ENTRY
    assert read_receipt(ENTRY) == (ENTRY, "", 0.0)


def test_a_similarity_that_rounding_made_larger_than_one_can_be_told() -> None:
    assert read_receipt(f"{ENTRY}-0-10001") == (ENTRY, KINDS[0], 1.0001)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        ENTRY[:-1],
        ENTRY + "0",
        ENTRY.upper(),
        ENTRY + "\n",
        f" {ENTRY}",
        f"{ENTRY}-",
        f"{ENTRY}-0",
        f"{ENTRY}-0-",
        f"{ENTRY}--9000",
        f"{ENTRY}-{len(KINDS)}-9000",
        f"{ENTRY}-0-900000",
        f"{ENTRY}-0--900",
        f"{ENTRY}-0-9000-1",
        f"{ENTRY}-0-\u0669\u0660\u0660\u0660",
        f"{ENTRY}-\u0660-9000",
    ],
)
def test_what_is_no_receipt_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no receipt"):
        read_receipt(text)


def test_the_order_of_the_kinds_is_part_of_the_receipt() -> None:
    """Clients keep receipts over an update of the gateway."""
    assert KINDS == ("lone-clean", "lone-flagged", "backed-clean", "backed-flagged")
