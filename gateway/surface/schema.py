"""A request's own schema: one that no one could check is refused before anything is asked."""

from gateway.dialects import fields
from gateway.setup import Edge
from gateway.validators.fits_schema import SchemaError, compile_schema
from wire import strict
from wire.errors import BadRequest
from wire.types import Constraint


def check_constraint(wanted: Constraint, edge: Edge, param: str) -> None:
    """param: where the caller wrote it. Raises BadRequest."""
    if wanted.kind != "schema":
        return
    written = wanted.written or fields.written(wanted.value, param)
    found = (written, wanted.strict, edge.schema_depth, edge.schema_bytes)
    if found in _well:
        return
    _check(wanted, written, edge, param)
    if len(written) <= _KEPT:
        if len(_well) >= _MOST_KEPT:
            del _well[next(iter(_well))]
        _well[found] = None


_KEPT = 2**15
"""Bytes of a schema that is remembered to be well."""
_MOST_KEPT = 256
_well: dict[tuple[bytes, bool, int, int], None] = {}
"""Schemas and the limits that they were within, the oldest first: a task sends the same one each time (0.3 us instead of 4.3)."""


def _check(wanted: Constraint, written: bytes, edge: Edge, param: str) -> None:
    depth, most = edge.schema_depth, edge.schema_bytes
    if deeper(wanted.value, depth):
        raise BadRequest(f"the schema is nested deeper than {depth} levels (limits.schema_depth)", param=param)
    if len(written) > most:
        raise BadRequest(f"the schema is larger than {most} bytes (limits.schema_bytes)", param=param)
    if wanted.strict and (why := strict.outside(wanted.value)):
        raise BadRequest(
            f"invalid schema for strict mode: {why} (field: {param})", param=param, code="invalid_json_schema"
        )
    try:
        compile_schema(wanted.value)
    except SchemaError as exc:
        raise BadRequest(f"{exc} (field: {param})", param=param, code="invalid_json_schema") from exc


def deeper(value: object, levels: int) -> bool:
    """Is `value` nested deeper than `levels`?"""
    layer: list[object] = [value]
    for _ in range(levels):
        layer = [
            inner
            for outer in layer
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not layer:
            return False
    return any(isinstance(rest, (dict, list)) for rest in layer)
