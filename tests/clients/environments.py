"""The environments that clients live in: one for each set of pins that can stand together, made once, kept by a stamp.

    .venv-clients/NAME    from envs/NAME.txt: every package pinned (`envs/NAME.in` says which were chosen, the rest is what they need)
    .node-clients/NAME    from envs/NAME/package.json and package-lock.json, with the Node that `.venv-clients/node` holds

openai-python's own tests are not in its wheel: the source distribution is unpacked beside the environment, pinned by its hash.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PYTHONS = ROOT / ".venv-clients"
NODES = ROOT / ".node-clients"
SECONDS = 900
"""For one command: registries may be slow on a bad day."""

Run = Callable[[list[str], Path], None]


class Environment(NamedTuple):
    """kind: python, node, or source (a source distribution, unpacked). inputs: what its stamp depends on."""

    name: str
    kind: str
    inputs: tuple[Path, ...]

    @property
    def folder(self) -> Path:
        return (NODES if self.kind == "node" else PYTHONS) / self.name

    @property
    def stamp(self) -> Path:
        return self.folder / ".stamp"

    def wanted(self) -> str:
        """What the stamp must say: the pins, and the Python that they were installed for."""
        digest = hashlib.sha256(sys.version.encode())
        for path in self.inputs:
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def ready(self) -> bool:
        try:
            return self.stamp.read_text() == self.wanted()
        except OSError:
            return False


def _python(name: str) -> Environment:
    return Environment(name, "python", (HERE / "envs" / f"{name}.txt",))


def _node(name: str) -> Environment:
    folder = HERE / "envs" / name
    return Environment(name, "node", (folder / "package.json", folder / "package-lock.json"))


ENVIRONMENTS: Mapping[str, Environment] = {
    one.name: one
    for one in (
        _python("openai3"),
        _python("openai2"),
        _python("schemathesis"),
        Environment("openai-source", "source", (HERE / "envs" / "openai-source.txt",)),
        _python("node"),
        _node("agents"),
        _node("codex"),
    )
}
"""In the order in which they are made: the node ones need `node`."""


def make(one: Environment, run: Run) -> None:
    """Make it from nothing. Raises OSError and subprocess.SubprocessError; what was half made has no stamp."""
    shutil.rmtree(one.folder, ignore_errors=True)
    one.folder.mkdir(parents=True)
    {"python": _make_python, "node": _make_node, "source": _make_source}[one.kind](one, run)
    one.stamp.write_text(one.wanted())


def _make_python(one: Environment, run: Run) -> None:
    run([sys.executable, "-m", "venv", str(one.folder)], ROOT)
    # Everything is pinned: nothing to resolve. Compiled when first imported: most of it never is.
    run(_pip(one.folder / "bin" / "python", "install", "--no-deps", "--no-compile", "-r", str(one.inputs[0])), ROOT)


def _make_node(one: Environment, run: Run) -> None:
    for path in one.inputs:
        shutil.copy(path, one.folder / path.name)
    command = [str(node("npm")), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    run(command, one.folder)


def _make_source(one: Environment, run: Run) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wanted = ["download", "--no-deps", "--no-binary", "openai", "--require-hashes", "-d", name]
        run(_pip(PYTHONS / "openai3" / "bin" / "python", *wanted, "-r", str(one.inputs[0])), ROOT)
        (archive,) = folder.glob("*.tar.gz")
        with tarfile.open(archive) as packed:
            packed.extractall(one.folder, filter="data")


def _pip(python: Path, *words: str) -> list[str]:
    return [str(python), "-m", "pip", words[0], "--quiet", "--disable-pip-version-check", "--no-input", *words[1:]]


def node(program: str = "node") -> Path:
    return PYTHONS / "node" / "bin" / program


def run(command: list[str], cwd: Path) -> None:
    path = f"{node().parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environ = {**os.environ, "PATH": path, "npm_config_update_notifier": "false"}
    subprocess.run(
        command,
        cwd=cwd,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=SECONDS,
        check=True,
    )
