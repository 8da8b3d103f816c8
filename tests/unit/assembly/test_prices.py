"""What a target costs."""

from gateway.assembly.prices import by_model, is_known, price_of
from gateway.core.price import Price
from tests.fakes import FakeClock, loaded

TEXT = """\
apiVersion: gateway/v1
targets:
  declared:
    {provider: openai, base_url: "https://api.openai.com/v1", model: gpt-4.1, price: {input: $7.00, request: $0.01}}
  known: {provider: openai, base_url: "https://api.openai.com/v1", model: gpt-4.1}
  passed-on: {provider: openai, base_url: "https://api.openai.com/v1"}
  own: {provider: openai, base_url: "http://127.0.0.1:8000/v1", model: my-model}
routes:
  - {model: demo, target: known}
"""
TARGETS = loaded(TEXT).config.targets


def test_what_the_file_says_counts() -> None:
    assert price_of(TARGETS["declared"]) == Price(input=7_000_000_000, output=0, request=10_000_000)
    assert by_model(TARGETS["declared"], FakeClock()) is None


def test_else_what_is_known_of_the_model() -> None:
    price = price_of(TARGETS["known"])
    assert price is not None
    assert 0 < price.input < price.output
    assert by_model(TARGETS["known"], FakeClock()) is None


def test_a_target_that_passes_models_on_costs_what_the_model_costs() -> None:
    assert price_of(TARGETS["passed-on"]) is None
    look_up = by_model(TARGETS["passed-on"], FakeClock(wall_s=1_790_000_000.0))
    assert look_up is not None
    found, known = look_up("gpt-4.1"), price_of(TARGETS["known"])
    assert found is not None and known is not None
    assert (found.input, found.output) == (known.input, known.output)
    assert look_up("no-such-model") is None


def test_of_a_model_of_ones_own_nobody_knows_the_price() -> None:
    assert price_of(TARGETS["own"]) is None
    assert not is_known("openai", "my-model", "http://127.0.0.1:8000/v1")
    assert is_known("openai", "gpt-4.1", "https://api.openai.com/v1")
    assert not is_known("openai", None, "https://api.openai.com/v1")
