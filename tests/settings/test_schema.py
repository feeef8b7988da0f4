"""gateway/settings/schema.py"""

from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from gateway.settings.document import read_document
from gateway.settings.schema import DIALECT, json_schema
from tests.settings.writing import KINDS, swap
from wire.kinds import kinds

SHIPPED = Path(__file__).parent.parent.parent / "deploy" / "weir.yaml"


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return json_schema()


def errors(schema: dict[str, Any], text: str) -> list[str]:
    """Where `text` does not fit, as dotted paths."""
    found = read_document(text, "f")
    assert found.mistakes == []
    return sorted({".".join(map(str, error.instance_path)) for error in jsonschema_rs.iter_errors(schema, found.table)})


def test_it_is_a_valid_schema(schema: dict[str, Any]) -> None:
    """Draft 2020-12, as it says of itself, and every reference leads somewhere."""
    assert schema["$schema"] == DIALECT
    jsonschema_rs.meta.validate(schema)
    jsonschema_rs.validator_for(schema)


def test_the_shipped_configuration_fits(schema: dict[str, Any]) -> None:
    """What an editor says of deploy/weir.yaml: nothing."""
    assert errors(schema, SHIPPED.read_text()) == []


def test_every_shipped_kind_is_described(schema: dict[str, Any]) -> None:
    """One branch for each kind, told apart by a constant `kind`, and one for kinds from elsewhere."""
    for name, package in (("BackendConfig", "backends"), ("RouterConfig", "routers")):
        branches = schema["$defs"][name]["oneOf"]
        refs = [branch["$ref"].rpartition("/")[2] for branch in branches if "$ref" in branch]
        assert [schema["$defs"][ref]["properties"]["kind"]["const"] for ref in refs] == kinds(package)
        assert len(branches) == len(refs) + 1


@pytest.mark.parametrize(
    "more",
    [
        "",
        "access: open\n",
        "access: {keys: []}\n",
        "server: {port: '${PORT:-8080}', watch: '${W}'}\n",
        "include: conf.d/*.yaml\n",
        "include: [a.yaml]\n",
        "limits: {in_flight: 5}\n",
    ],
)
def test_what_is_allowed_fits(schema: dict[str, Any], more: str) -> None:
    """Words for tables, references for numbers, includes, foreign kinds."""
    text = swap("{kind: rules}", "{kind: cascade, of: [{kind: rules, name: a}, {kind: embedding}]}")
    text = swap("{risk: 0.01}", "{validators: [finished, {kind: fits_schema}]}", text)
    text = swap("mode: enforce", "mode: ${MODE:-enforce}", text)
    assert errors(schema, text + more) == []


def test_with_an_include_the_tables_may_be_elsewhere(schema: dict[str, Any]) -> None:
    """A main file may consist of includes; without any, all three tables are required."""
    assert errors(schema, "include: conf.d/*.yaml\n") == []
    assert errors(schema, "models: {}\n") == [""]


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("    mode: enforce", "    mod: enforce", "routes.small"),
        ("    mode: enforce", "    mode: enforced", "routes.small.mode"),
        ("[slm, cloud]", "slm", "routes.small.ladder"),
        ("{risk: 0.01}", "{risk: 2}", "routes.small.accept.risk"),
        ("{kind: rules}", "{kind: rulez}", "router.use"),
        ("{kind: rules}", "{kind: rules, x: 1}", "router.use"),
        (f"{KINDS}:Local", "openai\n    nokey: 1", "backends.slm"),
        ("  slm:", "  SLM:", "backends"),
        ("weir: routed", "weir: roted", "models.weir"),
        ("models:", "access: opne\nmodels:", "access"),
        ("models:", "bogus: 1\nmodels:", ""),
    ],
)
def test_what_is_wrong_does_not_fit(schema: dict[str, Any], old: str, new: str, where: str) -> None:
    """An editor marks what `weir check` would refuse, as far as one file's shape shows it."""
    assert errors(schema, swap(old, new)) == [where]
