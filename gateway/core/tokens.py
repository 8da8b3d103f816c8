"""A guess at tokens where nobody has counted them."""

BYTES_PER_TOKEN = 4
"""English prose in the usual vocabularies comes to 4 to 4.5 bytes a token, code and other scripts to fewer."""


def estimate_tokens(n_bytes: int) -> int:
    """A guess at the tokens in `n_bytes` of UTF-8 text: a quarter, rounded up."""
    return -(-n_bytes // BYTES_PER_TOKEN)
