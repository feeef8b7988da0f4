"""gateway/engines/facts.py: what is found on this machine."""

import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.build import resolve
from gateway.engines.facts import look
from gateway.engines.plan import Adapter, Facts
from gateway.settings.load import load
from tests.settings.writing import GOOD, wrote


def looked(folder: Path, *, path: str = "", **engine: Any) -> Facts:
    text = GOOD + f"engines: {json.dumps({'base': {'model': 'm', 'device': 'cpu', **engine}})}\n"
    loaded = load(wrote(folder, text), {})
    return look(loaded.settings, partial(resolve, loaded.folder), {"PATH": path})


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_folders_are_found_from_the_file(tmp_path: Path) -> None:
    """Relative ones against the configuration's folder; what is no folder has no entry."""
    (tmp_path / "models" / "m").mkdir(parents=True)
    assert looked(tmp_path, model="models/m").folders == {"models/m": str(tmp_path / "models" / "m")}
    assert looked(tmp_path, model="models/n").folders == {}


@pytest.mark.parametrize(
    ("told", "rank"),
    [
        ({"r": 16}, 16),
        ({"r": 8, "rank_pattern": {"q_proj": 64}}, 64),
        ({"r": "8"}, None),
        ([], None),
        (None, None),
    ],
)
def test_the_rank_of_an_adapter(tmp_path: Path, told: Any, rank: int | None) -> None:
    """The largest that peft wrote; without a readable file there is none."""
    (tmp_path / "a").mkdir()
    if told is not None:
        (tmp_path / "a" / "adapter_config.json").write_text(json.dumps(told))
    assert looked(tmp_path, adapters={"x": "./a", "y": "./b"}).adapters == {"./a": Adapter(str(tmp_path / "a"), rank)}


def test_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As written; without: beside this Python, else on PATH."""
    there = program(tmp_path / "bin" / "vllm")
    given = looked(tmp_path, command=["./bin/vllm", "x"])
    assert given.programs == {("./bin/vllm", "x"): str(there)}
    assert looked(tmp_path, command=["vllm"], path=str(there.parent)).programs == {("vllm",): str(there)}
    assert looked(tmp_path, command=["./nope"]).programs == {}
    monkeypatch.setattr(sys, "executable", str(tmp_path / "own" / "python"))
    assert looked(tmp_path, path=str(there.parent)).programs == {(): str(there)}
    beside = program(tmp_path / "own" / "vllm")
    assert looked(tmp_path, path=str(there.parent)).programs == {(): str(beside)}


def test_gpus_are_asked_for_when_they_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """nvidia-smi's numbers and sizes; nobody asks for an engine on the CPU; without a driver nothing is known."""
    smi = program(tmp_path / "bin" / "nvidia-smi")
    smi.write_text("#!/bin/sh\necho 0, 81920\necho 1, 24576\n")
    monkeypatch.setenv("PATH", f"{smi.parent}{os.pathsep}{os.environ['PATH']}")
    assert looked(tmp_path, device="gpu").gpus == {0: 80 * 2**30, 1: 24 * 2**30}
    assert looked(tmp_path).gpus == {}
    smi.write_text("#!/bin/sh\nexit 9\n")
    assert looked(tmp_path, device="gpu").gpus == {}


def test_memory(tmp_path: Path) -> None:
    """Of this machine."""
    assert looked(tmp_path).memory > 2**28
