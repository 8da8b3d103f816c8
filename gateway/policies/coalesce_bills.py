"""What each of several requests pays for the one call that was made for them."""

from collections.abc import Callable

from msgspec import structs

from gateway.core.price import Price
from gateway.policies.billing import Billing


def bills(price: Price | None, by_model: Callable[[str], Price | None] | None) -> Callable[[int, int], Billing]:
    """Bills for one's place among so many requests in a call, whose price per request they share to the last nano-USD.

    Nothing is learned of them: a share by weight says nothing of how one request's bytes become tokens.
    """

    def bill(place: int, count: int) -> Billing:
        def part(whole: Price | None) -> Price | None:
            if whole is None or not whole.request:
                return whole
            return structs.replace(whole, request=whole.request * (place + 1) // count - whole.request * place // count)

        known = by_model
        return Billing(part(price), None, None if known is None else lambda model: part(known(model)))

    return bill
