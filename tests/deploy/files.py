"""The deployment files as they stand, and the published schemas."""

import functools
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson
import yaml

ROOT = Path(__file__).parents[2]
K8S = ROOT / "deploy" / "k8s"
SCHEMAS = Path(__file__).parent / "schemas"
MANIFESTS = sorted(K8S.glob("*.yaml"))


def documents(file: Path) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(file.read_text()) if one is not None]


def everything() -> list[dict[str, Any]]:
    return [one for file in MANIFESTS for one in documents(file)]


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    """By name."""
    return {one["metadata"]["name"]: one for one in everything() if one["kind"] == kind}


def pods() -> dict[str, dict[str, Any]]:
    """Workload > its pod template."""
    return {
        name: one["spec"]["template"] for kind in ("Deployment", "StatefulSet") for name, one in of_kind(kind).items()
    }


@functools.cache
def schema(name: str) -> Any:
    return jsonschema_rs.validator_for(orjson.loads((SCHEMAS / f"{name}.json").read_bytes()))


def faults(name: str, document: Any) -> list[str]:
    """What the schema has against `document`."""
    return [
        f"{'/'.join(map(str, error.instance_path))}: {error.message}" for error in schema(name).iter_errors(document)
    ]
