"""What sections share."""

from typing import Annotated, Any

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from gateway.config.section import OrWord, Section


class Some(Section):
    """A section for these tests."""

    size: int = Field(default=1, description="A number.")


NONE_OF_IT = Annotated[Some | None, OrWord("off", None, "write off")]
ALL_OF_IT = Annotated[Some, OrWord("memory", {"size": 5}, "write memory")]


def read(kind: Any, value: object) -> Any:
    """`value` as a setting of type `kind`."""
    return TypeAdapter(kind).validate_python(value, strict=True)


def test_a_word_stands_for_what_it_means() -> None:
    assert read(NONE_OF_IT, "off") is None
    assert read(ALL_OF_IT, "memory") == Some(size=5)
    assert read(NONE_OF_IT, {"size": 2}) == Some(size=2)
    assert read(ALL_OF_IT, Some(size=3)) == Some(size=3)


@pytest.mark.parametrize("value", ["of", 5, True, ("off",)])
def test_any_other_word_is_refused_with_advice(value: object) -> None:
    with pytest.raises(ValidationError) as refused:
        read(NONE_OF_IT, value)
    assert refused.value.errors()[0]["ctx"] == {"message": "must be off, or a mapping", "advice": "write off"}


def test_editors_are_told_of_the_word_and_of_the_section() -> None:
    described = TypeAdapter(NONE_OF_IT).json_schema()
    assert described["anyOf"] == [{"const": "off"}, {"$ref": "#/$defs/Some"}]
    assert TypeAdapter(ALL_OF_IT).json_schema()["anyOf"][0] == {"const": "memory"}


def test_a_section_is_strict_and_cannot_be_changed() -> None:
    for values in ({"size": "1"}, {"sise": 1}):
        with pytest.raises(ValidationError):
            Some.model_validate(values)
    with pytest.raises(ValidationError, match="frozen"):
        Some().size = 2
