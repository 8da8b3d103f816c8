"""What each pays for a call that was made for several."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Usage
from gateway.core.price import Price
from gateway.policies.coalesce_bills import bills
from tests.fakes import exchange, request


def cost(price: Price | None, place: int, count: int, by_model: dict[str, Price] | None = None) -> int | None:
    """What one of so many pays for two tokens."""
    asked = exchange(request(operation="embeddings", suffix="embeddings", body=b"{}"), attempts=1)
    asked.usage = Usage(2, 0, source="provider")
    asked.model_served = "served"
    bill = bills(price, None if by_model is None else by_model.get)
    bill(place, count).settle(asked, asked.attempts[-1], 200, None)
    return asked.cost_nusd


@given(st.integers(0, 10**9), st.integers(1, 200))
def test_the_price_of_the_request_is_split_to_the_last_nano_dollar(fee: int, count: int) -> None:
    """F57."""
    found = [cost(Price(input=1_000_000, output=0, request=fee), place, count) for place in range(count)]
    parts = [(each or 0) - 2 for each in found]
    assert sum(parts) == fee
    assert max(parts) - min(parts) <= 1


def test_a_price_that_is_known_by_the_models_name_is_split_too() -> None:
    price = Price(input=1_000_000, output=0, request=10)
    assert [cost(None, place, 3, {"served": price}) for place in range(3)] == [5, 5, 6]
    assert cost(None, 0, 3, {}) is None
    assert cost(None, 0, 3) is None
