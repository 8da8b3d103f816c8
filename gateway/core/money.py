"""Money as integers of nano-USD (10⁻⁹ of a dollar): sums are exact, in Python, in SQLite and in Lua.

Lua's numbers are exact up to 2⁵³, which is nine million dollars here; no budget may be larger.
"""

from decimal import ROUND_HALF_EVEN, Decimal

NUSD_PER_USD = 1_000_000_000
MAX_NUSD = 2**53 - 1
"""The largest amount that every store can hold exactly: $9,007,199.25."""


def nusd(usd: Decimal | int | str) -> int:
    """Nano-USD of an amount in dollars, rounded half to even. A float is not taken: it is not the amount written."""
    return int((Decimal(usd) * NUSD_PER_USD).quantize(Decimal(1), rounding=ROUND_HALF_EVEN))


def usd(amount_nusd: int) -> float:
    """Dollars, for logs, metrics and people; never to be added up again."""
    return amount_nusd / NUSD_PER_USD


def show_usd(amount_nusd: int) -> str:
    """The exact amount as people write it, at least to the cent: `$12.50`, `$0.000042`."""
    sign = "-" if amount_nusd < 0 else ""
    whole, rest = divmod(abs(amount_nusd), NUSD_PER_USD)
    decimals = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{sign}${whole:,}.{decimals}"
