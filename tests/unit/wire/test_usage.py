"""Tokens in our way of counting, and estimates."""

import pytest

from gateway.core.exchange import Usage
from gateway.wire.usage import AnthropicUsage, fill_usage, piece_tokens, read_openai_usage, service_tier


def read(reported: object) -> Usage:
    usage = Usage()
    read_openai_usage(usage, reported)
    return usage


def test_chat_usage_with_its_details() -> None:
    """F57."""
    assert read(
        {
            "prompt_tokens": 12,
            "completion_tokens": 100,
            "total_tokens": 112,
            "prompt_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 2, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 64, "audio_tokens": 5},
        }
    ) == Usage(12, 100, 8, 2, 64, "provider", audio_input_tokens=0, audio_output_tokens=5)


def test_responses_usage_with_its_details() -> None:
    """F57."""
    assert read(
        {
            "input_tokens": 5,
            "input_tokens_details": {"cached_tokens": 1},
            "output_tokens": 6,
            "output_tokens_details": {"reasoning_tokens": 2},
            "total_tokens": 11,
        }
    ) == Usage(5, 6, 1, None, 2, "provider")


def test_what_is_not_reported_stays_none_and_zero_stays_zero() -> None:
    assert read({"prompt_tokens": 3, "total_tokens": 3}) == Usage(3, None, None, None, None, "provider")
    assert read({"prompt_tokens": 0, "completion_tokens": 0}) == Usage(0, 0, None, None, None, "provider")
    assert read({"prompt_tokens": 4, "completion_tokens": 1, "prompt_tokens_details": None}) == Usage(
        4, 1, None, None, None, "provider"
    )


@pytest.mark.parametrize(
    "junk",
    [None, [], "x", 5, {}, {"prompt_tokens": "5"}, {"prompt_tokens": True}, {"prompt_tokens": -1}, {"x": {}}],
)
def test_what_is_no_usage_is_ignored(junk: object) -> None:
    assert read(junk) == Usage()


def test_whole_floats_are_counts() -> None:
    assert read({"prompt_tokens": 5.0, "completion_tokens": 1.5}).input_tokens == 5
    assert read({"prompt_tokens": 5.0, "completion_tokens": 1.5}).output_tokens is None


def test_reasoning_that_a_provider_leaves_out_of_the_completion_is_added() -> None:
    usage = read(
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 35,
            "completion_tokens_details": {"reasoning_tokens": 20},
        }
    )
    assert (usage.output_tokens, usage.reasoning_tokens) == (25, 20)


def test_cached_tokens_by_another_name_are_read() -> None:
    assert read({"prompt_tokens": 10, "prompt_cache_hit_tokens": 4}).cached_input_tokens == 4


def test_the_last_report_wins_without_forgetting_the_rest() -> None:
    """F54."""
    usage = read({"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 3}})
    read_openai_usage(usage, {"completion_tokens": 7})
    assert usage == Usage(10, 7, 3, None, None, "provider")


def test_anthropic_cache_tokens_are_input() -> None:
    """F57."""
    usage = Usage()
    AnthropicUsage(usage).read(
        {"input_tokens": 5, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 20, "output_tokens": 1}
    )
    assert usage == Usage(125, 1, 100, 20, None, "provider")


def test_anthropic_cache_writes_for_an_hour_are_told_apart() -> None:
    """F57."""
    usage = Usage()
    reported = AnthropicUsage(usage)
    reported.read(
        {
            "input_tokens": 5,
            "cache_creation_input_tokens": 30,
            "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
        }
    )
    reported.read({"output_tokens": 4, "cache_creation": {}})
    assert usage == Usage(35, 4, None, 30, None, "provider", cache_write_1h_tokens=20)


def test_a_service_of_another_price_is_told() -> None:
    usage = Usage()
    reported = AnthropicUsage(usage)
    reported.read({"input_tokens": 5, "service_tier": "standard", "speed": "standard"})
    assert usage.service_tier is None
    reported.read({"input_tokens": 5, "service_tier": "standard", "speed": "fast"})
    reported.read({"output_tokens": 5})
    assert usage.service_tier == "fast"


@pytest.mark.parametrize("said", [None, "", "auto", "default", "standard", 5, "x" * 33])
def test_the_usual_service_and_junk_are_none(said: object) -> None:
    assert service_tier(said) is None


def test_anthropic_parts_are_put_together() -> None:
    usage = Usage()
    reported = AnthropicUsage(usage)
    reported.read({"input_tokens": 5, "cache_read_input_tokens": 100, "output_tokens": 1})
    reported.read(None)
    reported.read({"output_tokens": 40, "output_tokens_details": {"thinking_tokens": 30}})
    assert usage == Usage(105, 40, 100, None, 30, "provider")
    reported.read({"input_tokens": 6, "output_tokens": 41})
    assert usage == Usage(106, 41, 100, None, 30, "provider")


def test_anthropic_usage_without_input_or_counts() -> None:
    usage = Usage()
    reported = AnthropicUsage(usage)
    reported.read({"service_tier": "standard"})
    assert usage == Usage()
    reported.read({"output_tokens": 3})
    assert usage == Usage(None, 3, None, None, None, "provider")


@pytest.mark.parametrize(
    ("piece", "tokens"),
    [
        (None, 0),
        ("", 0),
        ([], 0),
        (" a", 1),
        ("0123456789abcdef", 1),
        ("0123456789abcdefg", 5),
        ("你好世界你好", 5),
        ([{"type": "text"}], 5),
    ],
)
def test_a_short_piece_is_one_token(piece: object, tokens: int) -> None:
    assert piece_tokens(piece) == tokens


@pytest.mark.parametrize(
    ("reported", "relayed", "final", "output", "source"),
    [
        (None, 5, True, 5, "estimated"),
        (None, 0, True, 0, "estimated"),
        (0, 5, True, 5, "estimated"),
        (0, 0, True, 0, "provider"),
        (100, 316, True, 100, "provider"),
        (100, 317, True, 317, "estimated"),
        (100, 5, True, 100, "provider"),
        (1, 5, False, 5, "estimated"),
        (7, 5, False, 7, "provider"),
    ],
)
def test_output_that_was_relayed_but_not_reported_is_counted(
    reported: int | None, relayed: int, final: bool, output: int, source: str
) -> None:
    """F53, F55, F56."""
    usage = Usage(input_tokens=3, output_tokens=reported, source="provider")
    fill_usage(usage, prompt_bytes=1000, relayed_tokens=relayed, output_is_final=final)
    assert (usage.input_tokens, usage.output_tokens, usage.source) == (3, output, source)


def test_a_prompt_that_was_not_counted_is_estimated_by_its_size() -> None:
    """F53."""
    usage = Usage(output_tokens=3, source="provider")
    fill_usage(usage, prompt_bytes=1001, relayed_tokens=1)
    assert usage == Usage(251, 3, None, None, None, "estimated")
