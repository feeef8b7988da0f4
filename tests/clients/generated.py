"""Requests made from OpenAI's own specification by schemathesis: the document that is given to it, and what its report counts.

Two things are changed in the document: one path is kept, and `model` is a name that the gateway knows (nearly all of the others would
be a 404, and nothing behind the front door would be reached). Only 200 and 429 are documented there, so other statuses are not judged.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CHECKS = "not_a_server_error,content_type_conformance,response_schema_conformance"
LEAST_ANSWERED = 5
"""Requests that must have been answered with 200: otherwise nothing was tried but the front door."""


def document(specification: Path, path: str, model: str) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads(specification.read_text())
    _name_models(whole["components"], model)
    return {**whole, "paths": {path: {"post": whole["paths"][path]["post"]}}}


def _name_models(part: Any, model: str) -> None:
    """Every request's `model`: a response has an `object` beside it."""
    if isinstance(part, dict):
        properties = part.get("properties")
        if isinstance(properties, dict) and "model" in properties and "object" not in properties:
            properties["model"] = {"type": "string", "enum": [model]}
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            _name_models(inner, model)


def counted(report: str) -> tuple[int, int, int, Mapping[str, str]]:
    """Of an NDJSON report: requests, answers with 200, answers with 5xx, and failed checks by name."""
    asked = answered = broken = 0
    failures: dict[str, str] = {}
    for line in report.splitlines():
        recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder", {})
        for found in recorder.get("interactions", {}).values():
            status = (found.get("response") or {}).get("status_code", 599)
            asked, answered, broken = asked + 1, answered + (status == 200), broken + (status >= 500)
        for case, checks in recorder.get("checks", {}).items():
            for check in checks:
                if check.get("status") == "failure":
                    failures[f"{case} {check.get('name')}"] = json.dumps(check)[:600]
    return asked, answered, broken, failures
