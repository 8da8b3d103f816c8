"""The most that a request may cost."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Operation, Request, RequestHead
from gateway.core.price import Price, Quote, Tier
from gateway.policies.calibration import Calibration
from gateway.policies.quote import (
    IMAGE_TOKENS,
    TEMPLATE_TOKENS,
    TOOL_TOKENS,
    WINDOW_TOKENS,
    TargetQuote,
    is_plain_text,
    plain,
)
from tests.fakes import request

PRICE = Price(input=1_000_000, output=10_000_000)
"""One nano-USD an input token, ten an output token."""
QUOTE = TargetQuote(PRICE, None, None)


def ask(value: object, operation: Operation = "chat", n: int = 1) -> Request:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return request(operation=operation, head=RequestHead(model="m", n=n), body=body)


def saying(*parts: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": list(parts)}], **members}


HELLO = ask({"model": "m", "messages": [{"role": "user", "content": "hello"}]})
IMAGE = {"type": "image_url", "image_url": {"url": "https://x"}}
TEXT = {"type": "text", "text": "hi"}


def tokens(value: object, operation: Operation = "chat", strict: bool = True) -> int:
    return QUOTE.worst_case(ask(value, operation), 0, strict).input_tokens


def test_every_byte_may_be_a_token_and_the_template_has_its_own() -> None:
    """F50, F52."""
    size = len(HELLO.body) + TEMPLATE_TOKENS
    assert QUOTE.worst_case(HELLO, 100, strict=True) == Quote(size, 100, size + 1000)
    frugal = TargetQuote(PRICE, None, None, template_tokens=0)
    assert frugal.worst_case(HELLO, 100, strict=True).input_tokens == len(HELLO.body)


def test_each_choice_may_be_as_long_as_the_bound() -> None:
    """F52, F104."""
    assert QUOTE.worst_case(ask(saying(TEXT), n=5), 100, strict=True).output_tokens == 500


def test_a_price_per_request_is_part_of_it() -> None:
    priced = TargetQuote(Price(input=0, output=0, request=7), None, None)
    assert priced.worst_case(HELLO, 100, strict=True).cost_nusd == 7
    assert priced.worst_case(ask(saying(IMAGE)), 100, strict=True).cost_nusd == 7


def test_an_unknown_price_is_not_zero() -> None:
    """F57."""
    unknown = TargetQuote(None, None, None)
    assert unknown.worst_case(HELLO, 100, strict=True).cost_nusd is None
    assert unknown.worst_case(ask(saying(IMAGE)), 100, strict=True).cost_nusd is None
    assert unknown.worst_case(ask(b"", "count_tokens"), 100, strict=True) == Quote(0, 0, None)


def test_a_free_model_is_free() -> None:
    """F59."""
    assert TargetQuote(Price(input=0, output=0), None, None).worst_case(HELLO, 100, strict=True).cost_nusd == 0


def test_a_prompt_is_never_longer_than_the_window() -> None:
    small = TargetQuote(PRICE, 50, None)
    assert small.worst_case(HELLO, 1, strict=True).input_tokens == 50
    assert small.worst_case(ask(saying(IMAGE)), 1, strict=True).input_tokens == 50


def test_what_has_no_output_has_none() -> None:
    embedding = ask({"model": "m", "input": ["a", "b"]}, "embeddings")
    assert QUOTE.worst_case(embedding, 100, strict=True).output_tokens == 0
    assert QUOTE.worst_case(ask(HELLO.body, "count_tokens"), 100, strict=True) == Quote(0, 0, 0)


def test_of_a_relayed_operation_only_the_price_per_request_is_known() -> None:
    priced = TargetQuote(Price(input=9, output=9, request=7), None, None)
    made = request(operation="relay", suffix="images/generations", body=b"{}")
    looked_up = request(operation="relay", suffix="files", method="GET")
    assert priced.worst_case(made, 100, strict=True) == Quote(0, 0, 7)
    assert priced.worst_case(looked_up, 100, strict=True) == Quote(0, 0, 0)


def test_each_image_has_its_allowance() -> None:
    for count in (1, 3):
        body = saying(TEXT, *[IMAGE] * count)
        assert tokens(body) == len(json.dumps(body)) + TEMPLATE_TOKENS + TOOL_TOKENS + count * IMAGE_TOKENS


@pytest.mark.parametrize(
    ("operation", "part"),
    [
        ("messages", {"type": "image", "source": {"type": "url", "url": "https://x"}}),
        ("responses", {"type": "input_image", "image_url": "https://x"}),
        ("responses", {"type": "input_image", "file_id": "file-1"}),
    ],
)
def test_each_dialects_images_count_once(operation: Operation, part: dict[str, Any]) -> None:
    assert IMAGE_TOKENS <= tokens(saying(part), operation) < 2 * IMAGE_TOKENS


def test_a_text_about_images_is_no_image() -> None:
    assert tokens(saying({"type": "text", "text": 'my "image_url" is nice, image and input_image too'})) < IMAGE_TOKENS


def test_tools_have_the_text_that_providers_add_to_them() -> None:
    body = {"model": "m", "messages": [], "tools": [{"type": "function", "function": {"name": "f"}}]}
    assert tokens(body) == len(json.dumps(body)) + TEMPLATE_TOKENS + TOOL_TOKENS


@pytest.mark.parametrize(
    ("operation", "members"),
    [
        ("chat", saying({"type": "file", "file": {"file_id": "f"}})),
        ("chat", saying({"type": "video_url", "video_url": {"url": "https://x"}})),
        ("chat", saying({"type": "audio_url", "audio_url": {"url": "https://x"}})),
        ("messages", saying({"type": "document", "source": {"type": "file", "file_id": "f"}})),
        ("messages", saying(TEXT, tools=[{"type": "web_search_20250305", "name": "web_search"}])),
        ("messages", saying(TEXT, mcp_servers=[{"type": "url", "url": "https://x"}])),
        ("responses", {"model": "m", "input": "hi", "previous_response_id": "resp_1"}),
        ("responses", {"model": "m", "input": "hi", "conversation": {"id": "conv_1"}}),
        ("responses", {"model": "m", "prompt": {"id": "pmpt_1"}}),
        ("responses", {"model": "m", "input": [{"type": "item_reference", "id": "x"}]}),
        ("responses", {"model": "m", "input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}),
        ("responses", {"model": "m", "input": "hi", "tools": [{"type": "web_search_preview"}]}),
        ("responses", {"model": "m", "input": "hi", "tools": [{"type": "file_search", "vector_store_ids": ["v"]}]}),
        ("responses", {"model": "m", "input": "hi", "tools": [{"type": "mcp", "server_url": "https://x"}]}),
    ],
)
def test_what_the_provider_puts_in_is_bounded_by_the_window_alone(
    operation: Operation, members: dict[str, Any]
) -> None:
    assert tokens(members, operation) == WINDOW_TOKENS
    assert TargetQuote(PRICE, 9000, None).worst_case(ask(members, operation), 1, strict=False).input_tokens == 9000
    assert not is_plain_text(ask(members, operation))


def test_a_null_is_no_earlier_answer() -> None:
    assert tokens({"model": "m", "input": "hi", "previous_response_id": None}, "responses") < 1000


@pytest.mark.parametrize("disguised", [b'"image\\u005furl"', b'"\\u0069mage_url"', b'"image_u\\u0072l"'])
def test_no_escape_hides_a_part(disguised: bytes) -> None:
    body = json.dumps(saying(IMAGE)).encode().replace(b'"image_url": {', disguised + b": {")
    assert json.loads(body) == saying(IMAGE)
    assert tokens(body) > IMAGE_TOKENS


def test_escapes_of_other_letters_stay() -> None:
    assert plain(b"caf\\u00e9 \\u0041\\u0022\\u005c\\u005C") == b"caf\\u00e9 A\\u0022\\u005c\\u005C"


def test_the_dearest_class_is_taken_where_it_may_come() -> None:
    """F57."""
    price = Price(
        input=1_000_000,
        output=1_000_000,
        cache_write=2_000_000,
        cache_write_1h=3_000_000,
        audio_input=4_000_000,
        audio_output=5_000_000,
        services={"priority": Price(input=6_000_000, output=6_000_000, request=1)},
    )
    quote = TargetQuote(price, None, None)

    def cost(**members: Any) -> tuple[int, int]:
        found = quote.worst_case(ask({"messages": [], **members}, "messages"), 1_000_000, strict=True)
        assert found.cost_nusd is not None
        return found.cost_nusd - found.output_tokens, found.input_tokens

    spent, size = cost()
    assert spent == 2 * size
    spent, size = cost(cache_control={"type": "ephemeral", "ttl": "1h"})
    assert spent == 3 * size
    spent, size = cost(modalities=["audio"], audio={"voice": "x"})
    assert spent == 4 * size + 4_000_000
    spent, size = cost(service_tier="priority")
    assert spent == 6 * size + 5_000_000 + 1


def test_a_prompt_that_may_be_long_has_the_long_prompts_rate() -> None:
    price = Price(input=1_000_000, output=0, tiers=(Tier(500, Price(input=3_000_000, output=0)),))
    long = ask(b'{"messages":"' + b"x" * 600 + b'"}')
    quoted = TargetQuote(price, None, None).worst_case(long, 1, strict=True)
    assert quoted.cost_nusd == 3 * quoted.input_tokens


def test_a_wrong_prediction_is_output() -> None:
    body = saying(TEXT, prediction={"type": "content", "content": "abc"})
    assert QUOTE.worst_case(ask(body), 10, strict=True).output_tokens == 10 + len(json.dumps(body))


@pytest.mark.parametrize(
    ("body", "n", "least"),
    [
        ({"prompt": "x"}, 1, 100),
        ({"prompt": "x", "best_of": 3}, 1, 300),
        ({"prompt": "x", "best_of": 3}, 2, 300),
        ({"prompt": "x", "best_of": 1}, 2, 200),
        ({"prompt": ["x", "y"]}, 1, 200),
        ({"prompt": [[1, 2], [3]]}, 1, 200),
    ],
)
def test_an_old_completion_may_make_several(body: dict[str, Any], n: int, least: int) -> None:
    assert QUOTE.worst_case(ask(body, "text_completion", n), 100, strict=True).output_tokens >= least


def test_one_prompt_makes_no_more_than_its_choices() -> None:
    assert QUOTE.worst_case(ask({"prompt": "x"}, "text_completion", 2), 100, strict=True).output_tokens == 200


def calibrated(ratio: float) -> Calibration:
    calibration = Calibration(0.1)
    for _ in range(20):
        calibration.observe(1000, round(ratio * 1000))
    return calibration


def test_plain_text_costs_what_was_learned_unless_it_is_strict() -> None:
    quote = TargetQuote(PRICE, None, calibrated(0.25))
    size = len(HELLO.body)
    assert size * 0.25 <= quote.worst_case(HELLO, 1, strict=False).input_tokens <= size * 0.26 + 1
    assert quote.worst_case(HELLO, 1, strict=True).input_tokens == size + TEMPLATE_TOKENS
    assert quote.worst_case(ask(saying(IMAGE)), 1, strict=False).input_tokens > IMAGE_TOKENS


def test_what_is_learned_never_exceeds_the_strict_bound() -> None:
    quote = TargetQuote(PRICE, None, calibrated(50.0))
    assert quote.worst_case(HELLO, 1, strict=False) == quote.worst_case(HELLO, 1, strict=True)


def test_nothing_learned_is_strict() -> None:
    quote = TargetQuote(PRICE, None, Calibration())
    assert quote.worst_case(HELLO, 1, strict=False) == quote.worst_case(HELLO, 1, strict=True)


def test_only_text_teaches_what_a_byte_is() -> None:
    assert is_plain_text(HELLO)
    assert is_plain_text(ask(saying(TEXT, tools=[])))
    assert not is_plain_text(ask(saying(IMAGE)))
    assert not is_plain_text(ask(saying({"type": "input_audio", "input_audio": {"data": "x"}})))
    assert not is_plain_text(request(operation="relay"))


@given(text=st.text(), escaped=st.booleans(), roles=st.lists(st.sampled_from(["user", "assistant"]), max_size=5))
def test_no_vocabulary_of_bytes_makes_more_tokens(text: str, escaped: bool, roles: list[str]) -> None:
    """F50: a token for each byte of the text, six for each message, and a long text of the template."""
    messages = [{"role": role, "content": text} for role in roles]
    body = json.dumps({"messages": messages}, ensure_ascii=escaped, separators=(",", ":"))
    encoded = body.encode("utf-8", "surrogatepass")
    most = sum(len(text.encode("utf-8", "surrogatepass")) + 6 for _ in roles) + 100
    assert tokens(encoded) >= most


def test_where_the_way_of_counting_is_known_the_quote_is_exact() -> None:
    quote = TargetQuote(Price(input=1_000_000, output=2_000_000), None, None, count=lambda body: 7)
    assert quote.worst_case(request(head=RequestHead(model="m", max_tokens=5), body=b'{"a":1}'), 5, True) == Quote(
        7, 5, 17
    )
    unsure = TargetQuote(None, None, None, count=lambda body: None, template_tokens=0)
    assert unsure.worst_case(request(head=RequestHead(model="m"), body=b'{"a":1}'), 5, True).input_tokens == 7
