"""Secrets: named in the configuration by where they are kept, never shown."""

import hashlib
import hmac
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema


class Secret:
    """A value kept elsewhere: `source` says where (`env:NAME`, `file:PATH`), the value is only revealed on request.

    Equal when the values are. `repr`, `str` and any serialisation never show the value.
    """

    __slots__ = ("_digest", "_value", "source")

    def __init__(self, source: str, value: str | None) -> None:
        self.source = source
        self._value = value
        self._digest = b"" if value is None else hashlib.sha256(value.encode()).digest()

    @property
    def is_set(self) -> bool:
        """Whether there is a value to reveal."""
        return self._value is not None

    @property
    def unset_reason(self) -> str:
        """Why nothing can be revealed: `OPENAI_API_KEY is not set`."""
        kind, _, name = self.source.partition(":")
        return f"{name} is not set" if kind == "env" else f"{name} is empty"

    def reveal(self) -> str:
        """The value. Only for a secret that is set."""
        assert self._value is not None, self.unset_reason
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._digest, other._digest)

    def __hash__(self) -> int:
        return hash(self._digest)

    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled")

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        shown = core_schema.plain_serializer_function_ser_schema(lambda secret: secret.source)
        return core_schema.is_instance_schema(cls, serialization=shown)


class Reference(str):
    """A scalar of the file that names a secret (`env:NAME`, `file:PATH`), together with what was found there.

    Still the text that was written, for messages. `problem` says why the value cannot be used at all.
    """

    __slots__ = ("problem", "value")

    value: str | None
    problem: str

    def __new__(cls, text: str, value: str | None, problem: str = "") -> "Reference":
        """The scalar `text`, standing for `value` (None: not set)."""
        self = super().__new__(cls, text)
        self.value = value
        self.problem = problem
        return self


def is_reference(text: object) -> bool:
    """Whether a scalar names a secret rather than being one."""
    return isinstance(text, str) and text.startswith(("env:", "file:"))
