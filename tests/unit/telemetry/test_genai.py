"""Names of attributes: those of the published model."""

import re
from pathlib import Path
from typing import get_args

from gateway.core.exchange import Operation
from gateway.telemetry import genai

OUR_OWN = {"count_tokens", "relay"}


def ids(text: str) -> set[str]:
    """Every `id:` and every `value:` of a YAML model."""
    return set(re.findall(r"(?:\bid|value):\s*[\"']?([a-z_.]+)", text))


def test_every_operation_has_a_name() -> None:
    assert set(genai.OPERATIONS) == set(get_args(Operation))


def test_attribute_names_are_those_of_the_published_model(shared_data: Path) -> None:
    published = ids((shared_data / "otel-genai" / "model_gen-ai_registry.yaml").read_text(encoding="utf-8"))
    used = {value for value in vars(genai).values() if isinstance(value, str) and value.startswith("gen_ai.")}
    assert used
    assert used <= published
    assert set(genai.OPERATIONS.values()) - OUR_OWN <= published
    assert set(genai.PROVIDERS.values()) <= published


def test_span_attributes_are_those_that_the_published_model_gives_an_inference_span(shared_data: Path) -> None:
    spans = (shared_data / "otel-genai" / "model_gen-ai_spans.yaml").read_text(encoding="utf-8")
    referenced = set(re.findall(r"ref:\s*([a-z_.]+)", spans))
    used = {value for value in vars(genai).values() if isinstance(value, str) and value.startswith("gen_ai.")}
    assert used <= referenced
