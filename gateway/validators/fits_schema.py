"""`fits_schema`: the answer has the form that was asked for. jsonschema-rs is the one judge.

Measured on one core for a 1.6 kB document: jsonschema-rs 6.2 us, fastjsonschema 125 us (and it accepts documents that break
`unevaluatedProperties`), jsonschema 1,302 us. `offline=True`: all three fetch remote `$ref`s by default, which would let a
caller's schema make us send requests. Regular expressions have a step limit, so a hostile pattern ends as "does not fit".
Only the first error is asked for: collecting all of them takes seconds where many branches lead to the same `$ref`.

A verdict's detail names places by the schema's own property names and by positions. Other keys were chosen by the model, so they
are part of the answer: they show as `*`.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import jsonschema_rs
import orjson
from pydantic import Field

from gateway.validators.base import PASS, Ask, ValidatorConfig, Verdict
from wire import expansion
from wire.hashing import canonical
from wire.types import Constraint, Draft

BACKTRACK_LIMIT = 10_000


class SchemaError(ValueError):
    """The schema itself cannot be used. The message says why."""


class FitsSchema:
    """Hard check of `response_format` and of constraints that a route imposes."""

    class Config(ValidatorConfig):
        formats: bool = Field(True, description="`format` is asserted, not only an annotation")

    def __init__(self, config: Config) -> None:
        self.config = config
        self._formats = config.formats

    def check(self, draft: Draft, ask: Ask) -> Verdict:
        """FAIL with the place and the rule that was broken, never with the value. The reason is `schema`; `truncated` where the token
        limit cut the answer, which is then no fault of its form."""
        wanted = ask.constraint
        if wanted is None or draft.tool_calls or draft.refusal or draft.finish in (None, "content_filter"):
            return PASS
        broken = misfit(draft.text, wanted, formats=self._formats)
        if not broken:
            return PASS
        return Verdict("fail", "truncated" if draft.finish == "length" else "schema", "fits_schema", broken)


def misfit(text: str, wanted: Constraint, *, formats: bool = True) -> str:
    """Why `text` does not fit `wanted`; "" when it does (or when this kind is not checked: grammar). Raises SchemaError."""
    if wanted.kind == "choice":
        return "" if text.strip() in wanted.value else f"not one of the {len(wanted.value)} choices"
    if wanted.kind == "regex":
        return "" if _matches(wanted.value, text) else "does not match the regular expression"
    if wanted.kind == "grammar":
        return ""
    try:
        # orjson refuses NaN, Infinity and trailing text. Duplicate keys: the last one counts, as for every client.
        document = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        return f"not one JSON document: {exc.msg} at character {exc.pos}"
    if wanted.kind == "json":
        return "" if isinstance(document, dict) else "not a JSON object"
    broken = validator(wanted.written or canonical(wanted.value), formats).first_break(document)
    return "/{}: breaks the schema at /{}".format(*broken) if broken else ""


def compile_constraint(wanted: Constraint) -> None:
    """Raises SchemaError when `wanted` is a schema or a regular expression that no answer could be checked against."""
    if wanted.kind == "schema":
        compile_schema(wanted.value)
    elif wanted.kind == "regex":
        validator(_whole_text(wanted.value), False)


def compile_schema(schema: Any, *, formats: bool = True) -> None:
    """Raises SchemaError when `schema` is no JSON Schema or refers to something outside of itself."""
    validator(canonical(schema), formats)


class Compiled:
    """A schema, ready to check documents."""

    __slots__ = ("_declared", "_validator")

    def __init__(self, compiled: Any, schema: Any) -> None:
        self._validator = compiled
        self._declared = frozenset(_property_names(schema))

    def first_break(self, document: Any) -> tuple[str, str] | None:
        """Place in the document and place in the schema of the first error, as JSON pointers without the first slash; None when it fits."""
        try:
            self._validator.validate(document)
        except jsonschema_rs.ValidationError as error:
            place = (str(key) if isinstance(key, int) or key in self._declared else "*" for key in error.instance_path)
            return "/".join(place), "/".join(map(str, error.schema_path))
        except ValueError:  # it looks about 255 levels deep, and not at text that is no UTF-8
            return "", " (nested too deeply to be checked)"
        return None


@lru_cache(maxsize=512)
def validator(schema: bytes, formats: bool) -> Compiled:
    """The compiled schema; `schema` is canonical JSON. Compiling costs 0.1-0.6 ms, so up to 512 are kept. Raises SchemaError."""
    return compiled(schema, formats)


def compiled(schema: bytes, formats: bool, registry: jsonschema_rs.Registry | None = None) -> Compiled:
    """As `validator`, nothing kept. registry: documents that a $ref may name, known beforehand; nothing is fetched either way, and no
    request ever brings one (the JSON Schema test suite does). Raises SchemaError."""
    parsed = orjson.loads(schema)
    if not isinstance(parsed, (dict, bool)):
        raise SchemaError("a JSON Schema is an object")
    if expansion.too_wide(parsed):
        raise SchemaError(
            f"more than {expansion.MOST} subschemas apply to one place of a document: share fewer $refs between branches"
        )
    try:
        judge = jsonschema_rs.validator_for(
            parsed,
            offline=True,
            registry=registry,
            validate_formats=formats,
            pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=BACKTRACK_LIMIT),
        )
    except ValueError as exc:  # jsonschema_rs.ValidationError and ReferencingError are ValueErrors
        told = str(exc).partition("\n")[0]
        if "Retrieval is disabled" in told:
            raise SchemaError(f"a $ref points outside of the schema, and nothing is ever fetched: {told}") from exc
        raise SchemaError(f"not a valid JSON Schema: {told}") from exc
    return Compiled(judge, parsed)


def _property_names(schema: Any) -> Iterator[str]:
    """Every name that stands under a `properties` anywhere in `schema`."""
    open_ends = [schema]
    while open_ends:
        value = open_ends.pop()
        if isinstance(value, dict):
            if isinstance(named := value.get("properties"), dict):
                yield from named
            open_ends.extend(value.values())
        elif isinstance(value, list):
            open_ends.extend(value)


def _matches(pattern: str, text: str) -> bool:
    """Not Python's `re`, which has no step limit: `(a+)+$` would hold the event loop for minutes."""
    return validator(_whole_text(pattern), False).first_break(text) is None


def _whole_text(pattern: str) -> bytes:
    return canonical({"type": "string", "pattern": f"^(?:{pattern})$"})
