"""What all sections of the configuration share, and how a word may stand in place of a section."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from gateway.config.fields import refuse


class Section(BaseModel):
    """Frozen, strict types, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class OrWord:
    """Lets `word` stand where a section could; `meaning` is what is read instead of it."""

    word: str
    meaning: Mapping[str, Any] | None
    advice: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._read, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        described = handler(schema)
        branches = [branch for branch in described.get("anyOf", [described]) if branch.get("type") != "null"]
        return {"anyOf": [{"const": self.word}, *branches]}

    def _read(self, value: Any) -> Any:
        if value == self.word:
            return None if self.meaning is None else dict(self.meaning)
        if value is not None and not isinstance(value, dict | Section):
            raise refuse(f"must be {self.word}, or a mapping", self.advice)
        return value
