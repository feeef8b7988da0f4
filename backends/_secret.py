"""A secret as the configuration names it: `${ENV}` or `${file:PATH}`. Looked up when used, never printed."""

import os
import re
from pathlib import Path
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

_REFERENCE = re.compile(r"^\$\{(file:)?([^}]+)\}$")


class Secret:
    """`reveal()` reads the environment, or the file when it changed since. A literal is taken as it stands."""

    __slots__ = ("_in_file", "_mtime", "_name", "_value", "source")

    def __init__(self, source: str) -> None:
        self.source = source
        found = _REFERENCE.match(source)
        self._name = found[2] if found else ""
        self._in_file = bool(found and found[1])
        self._value = ""
        self._mtime = -1.0

    @property
    def missing(self) -> str:
        """The variable or file that must be set for this secret to have a value; "" when it has one."""
        return "" if self.reveal() else self._name

    def reveal(self) -> str:
        """The secret's value; "" when the variable is unset or the file cannot be read."""
        if not self._name:
            return self.source
        if not self._in_file:
            try:
                return os.environ[self._name]
            except KeyError:
                return ""
        path = Path(self._name)
        try:
            mtime = path.stat().st_mtime
            if mtime != self._mtime:
                self._value, self._mtime = path.read_text().strip(), mtime
        except OSError:
            return ""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({self.source!r})" if self._name else "Secret('***')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.source == other.source

    def __hash__(self) -> int:
        return hash(self.source)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls._parse(value),
            serialization=core_schema.plain_serializer_function_ser_schema(repr),
            json_schema_input_schema=core_schema.str_schema(),
        )

    @classmethod
    def _parse(cls, value: Any) -> "Secret":
        if not isinstance(value, str) or not value:
            raise ValueError("a secret is a string: ${NAME}, ${file:PATH} or the value itself")
        return cls(value)
