"""Requests made from OpenAI's own specification by schemathesis: the document that is given to it, and what its report counts.

Four things are changed in the document: one path is kept; `model` is a name that the gateway knows (nearly all of the others would
be a 404, and nothing behind the front door would be reached); vectors are asked for as numbers (base64 is not in the answer's schema);
and what names things that a server keeps (stored prompts, conversations, earlier responses) is null; legacy
completions have a prompt of text, and no stream, which is not documented for them.
Only 200 and 429 are documented there, so other statuses are not judged.
"""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CHECKS = "not_a_server_error,content_type_conformance,response_schema_conformance"
_KEPT: Mapping[str, Any] = {
    **{name: {"type": "null"} for name in ("prompt", "conversation", "previous_response_id")},
    "background": {"enum": [False, None]},
}
NARROWED: Mapping[str, Mapping[str, Any]] = {
    "conversation": _KEPT,  # in a schema with this property, of the Responses API
    "previous_response_id": _KEPT,
    "best_of": {"prompt": {"type": "string"}, "stream": {"enum": [False, None]}},  # of legacy completions
}
"""What hardly a request would be without, and is refused."""
LEAST_ANSWERED = 20
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
            part["required"] = sorted({"model", *part.get("required", ())})
            if "encoding_format" in properties:
                properties["encoding_format"] = {"type": "string", "enum": ["float"]}
        for mark, narrow in NARROWED.items():
            if isinstance(properties, dict) and mark in properties:
                properties.update({name: narrow[name] for name in narrow.keys() & properties.keys()})
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
                if check.get("status") == "failure" and not _mistaken(check):
                    failures[f"{case} {check.get('name')}"] = _told(check, recorder["interactions"].get(case) or {})
    return asked, answered, broken, failures


def _mistaken(check: Mapping[str, Any]) -> bool:
    """A stream's schema is held against the event around the data, where no stream can fit it: OpenAI's own neither."""
    failure = (check.get("failure_info") or {}).get("failure") or {}
    return str(failure.get("title", "")).startswith("SSE event")


def _told(check: Mapping[str, Any], interaction: Mapping[str, Any]) -> str:
    """What was wrong, and the answer that it was wrong about."""
    wrong = (check.get("failure_info") or {}).get("failure") or {}
    answer = interaction.get("response") or {}
    body = base64.b64decode((answer.get("content") or {}).get("$base64", "")).decode(errors="replace")
    return f"{wrong.get('title')}: {str(wrong.get('message'))[:200]} in {answer.get('status_code')} {body[:600]}"
