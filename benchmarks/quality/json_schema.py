"""The JSON Schema test suite through the validator of the way in: `jsonschema.*`.

Every test of data/json_schema_test_suite is judged by what `fits_schema` compiles (gateway.validators.fits_schema.compiled): the same
schemas as canonical bytes, the same judge, the same limits. Two things differ from serving: `format` is an annotation, as the suite's
required tests have it (serving asserts it by configuration), and the suite's `remotes` are a registry that only this module hands over
(serving knows no document but the schema, and fetches nothing).

    jsonschema.required_failed      required draft 2020-12 tests that came out otherwise than the suite says
    jsonschema.refused_too_wide     schemas of the suite, optional ones included, that wire.expansion would refuse
    jsonschema.draft7_failed        required draft 7 tests; a schema without `$schema` gets the draft's, as a caller has to send it
    jsonschema.optional_failed      optional draft 2020-12 tests but for `format/`, which assert what is off here; information only
"""

import tarfile
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import jsonschema_rs
import orjson
from msgspec import Struct

from benchmarks.quality.parts import Part
from benchmarks.report import ROOT
from gateway.validators.fits_schema import SchemaError, compiled
from wire import expansion
from wire.hashing import canonical

SUITE = ROOT / "data" / "json_schema_test_suite" / "json_schema_test_suite_draft7_2020-12.tar.gz"
HOST = "http://localhost:1234/"
"""Where the suite says its remotes are served."""
DRAFTS = {
    "draft2020-12": ("https://json-schema.org/draft/2020-12/schema", jsonschema_rs.Draft202012),
    "draft7": ("http://json-schema.org/draft-07/schema#", jsonschema_rs.Draft7),
}
GOALS = {"jsonschema.required_failed": "0", "jsonschema.refused_too_wide": "0", "jsonschema.draft7_failed": "0"}


class Case(Struct, frozen=True):
    """One test of the suite."""

    file: str
    """Below the draft's folder."""
    schema: Any
    data: Any
    valid: bool
    name: str

    @property
    def required(self) -> bool:
        return not self.file.startswith("optional/")

    @property
    def of_formats(self) -> bool:
        return self.file.startswith(("optional/format/", "optional/format-assertion"))


@lru_cache(maxsize=1)
def documents() -> Mapping[str, Any]:
    """Path in the archive > JSON document."""
    with tarfile.open(SUITE) as archive:
        members = [member for member in archive if member.isfile() and member.name.endswith(".json")]
        files = ((member.name, archive.extractfile(member)) for member in members)
        return {name: orjson.loads(file.read()) for name, file in files if file is not None}


def cases(draft: str) -> Iterator[Case]:
    """All tests of a draft; a schema that names no draft gets this one."""
    uri, _ = DRAFTS[draft]
    place = f"tests/{draft}/"
    for path, groups in documents().items():
        if not path.startswith(place):
            continue
        for group in groups:
            schema = group["schema"]
            if isinstance(schema, dict):
                schema = {"$schema": uri, **schema}
            for test in group["tests"]:
                name = f"{group['description']}: {test['description']}"
                yield Case(path.removeprefix(place), schema, test["data"], test["valid"], name)


def registry(draft: str) -> jsonschema_rs.Registry:
    """The suite's remotes for this draft and for every draft. Those of other drafts only the optional cross-draft tests would need."""
    _, number = DRAFTS[draft]
    remotes = []
    for path, document in documents().items():
        top, _, rest = path.partition("/")
        folder = rest.partition("/")[0]
        if top == "remotes" and (folder == draft or not folder.startswith(("draft", "v1"))):
            remotes.append((HOST + rest, document))
    return jsonschema_rs.Registry(remotes, draft=number)


def wrong(case: Case, known: jsonschema_rs.Registry) -> str:
    """ "" when our judge says what the suite says; else what it said."""
    try:
        judge = compiled(canonical(case.schema), False, known)
    except SchemaError as exc:
        return f"refused: {exc}"
    fits = judge.first_break(orjson.loads(orjson.dumps(case.data))) is None
    return "" if fits == case.valid else f"said {'valid' if fits else 'invalid'}"


def too_wide(draft: str) -> int:
    """How many schemas of the draft are refused because they double the work with every level."""
    return sum(
        expansion.too_wide(schema) for schema in {canonical(case.schema): case.schema for case in cases(draft)}.values()
    )


def run(quick: bool = False) -> Part:
    """All of it, always: it takes a second."""
    figures: dict[str, float] = {}
    failures: dict[str, dict[str, str]] = {}
    rows = [("draft", "tests", "count", "failed")]
    for draft in DRAFTS:
        known = registry(draft)
        groups = {
            "required": [case for case in cases(draft) if case.required],
            "optional": [case for case in cases(draft) if not case.required and not case.of_formats],
        }
        for group, members in groups.items():
            failed = {f"{case.file}: {case.name}": said for case in members if (said := wrong(case, known))}
            rows.append((draft, group, str(len(members)), str(len(failed))))
            failures[f"{draft} {group}"] = failed
            prefix = {"draft2020-12": group, "draft7": "draft7" if group == "required" else "draft7_optional"}[draft]
            figures |= {f"jsonschema.{prefix}": len(members), f"jsonschema.{prefix}_failed": len(failed)}
    figures["jsonschema.refused_too_wide"] = sum(too_wide(draft) for draft in DRAFTS)
    return Part(figures, rows, {"failed": failures, "formats": "an annotation, as the suite's required tests have it"})
