"""Sets up an environment for `kind: local`, CPU only: `python deploy/local_cpu.py .venv-local` (or `make local`).

The newest torch pulls CUDA's libraries; so a CPU build comes first and is then held, whatever the extra `[local]` asks for. Weir itself is
not installed: only the worker process lives here (`python:` of the backend), and it needs nothing of Weir but its own files.
"""

import subprocess
import sys
import tomllib
from pathlib import Path

TORCH = "torch==2.13.0"
STAMP = ".local"
PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def main(folder: Path) -> None:
    needs = wanted(PYPROJECT.read_text())
    stamp = "\n".join([TORCH, *needs])
    if (folder / STAMP).exists() and (folder / STAMP).read_text() == stamp:
        return
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, TORCH], check=True)
    subprocess.run([*pip, TORCH, *needs], check=True)
    (folder / STAMP).write_text(stamp)


def wanted(pyproject: str) -> list[str]:
    """The extra `[local]`, but for torch."""
    extra: list[str] = tomllib.loads(pyproject)["project"]["optional-dependencies"]["local"]
    return [need for need in extra if not need.startswith("torch")]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
