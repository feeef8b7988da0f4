"""Our validator judges every required test of the JSON Schema test suite as the suite does."""

import pytest

from benchmarks.quality import json_schema
from gateway.validators.fits_schema import SchemaError, compile_schema, compiled
from wire.hashing import canonical


@pytest.mark.parametrize(("draft", "tests"), [("draft2020-12", 1299), ("draft7", 927)])
def test_every_required_test(draft: str, tests: int) -> None:
    """All of them, so a test that the loader would lose is missed too."""
    known = json_schema.registry(draft)
    required = [case for case in json_schema.cases(draft) if case.required]
    assert len(required) == tests
    assert {f"{case.file}: {case.name}": said for case in required if (said := json_schema.wrong(case, known))} == {}


@pytest.mark.parametrize("draft", json_schema.DRAFTS)
def test_none_is_refused_as_too_wide(draft: str) -> None:
    """The limit on doubling schemas hits nothing that people wrote to test validators with."""
    assert json_schema.too_wide(draft) == 0


def test_serving_knows_no_registry() -> None:
    """What the suite's registry resolves is refused on the way in: a caller's schema refers to itself only."""
    schema = {"$ref": f"{json_schema.HOST}integer.json"}
    judge = compiled(canonical(schema), False, json_schema.registry("draft2020-12"))
    assert judge.first_break(1) is None
    assert judge.first_break("1") is not None
    with pytest.raises(SchemaError, match="outside of the schema"):
        compile_schema(schema)


def test_a_wrong_verdict_is_seen() -> None:
    """The comparison can fail: a test that claims the opposite of what holds is reported."""
    case = json_schema.Case("x.json", {"type": "integer"}, "1", True, "wrong on purpose")
    assert json_schema.wrong(case, json_schema.registry("draft2020-12")) == "said invalid"
    assert (
        json_schema.wrong(json_schema.Case("x.json", {"type": 1}, "1", True, ""), json_schema.registry("draft7")) != ""
    )
