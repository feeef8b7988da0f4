"""What the benchmark needs beside Python: Debian's packages, the kit's programs, the peers. Everything is cached under `.venv-peers/` and
`.node-peers/`; versions are pinned here. Whatever cannot be had is reported as not run."""

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.metadata import distributions
from pathlib import Path

import orjson
from msgspec import Struct

from benchmarks.quality.parts import NotRun
from benchmarks.report import ROOT
from benchmarks.speed import _python

KIT = Path(__file__).parent / "kit"
PYTHONS = ROOT / ".venv-peers"
NODE = ROOT / ".node-peers"
LITELLM = "1.106.2"
_LITELLM = (f"litellm[proxy]=={LITELLM}", "prometheus-client==0.26.0")
PORTKEY = "1.15.2"
HONO = "1.13.8"
"""Portkey as npm resolves it cannot stream ("TypeError: immutable"); with this version of its server it can."""
PY_SPY = "0.4.3"
INSTALL_SECONDS = 900

COMPILER = {"gcc": "gcc", "/usr/include/openssl/ssl.h": "libssl-dev", "/usr/include/stdio.h": "libc6-dev"}
NGINX = {"nginx": "nginx-light"}
WRK = {"wrk": "wrk"}


def debian(wanted: Mapping[str, str]) -> None:
    """Have these (program on PATH, or file > Debian's package). Installs them where it may (root, apt-get). Raises NotRun."""
    packages = _absent(wanted)
    if not packages:
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        # Runlevel 1: a server that comes with its package is not started.
        environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        for words in (["update", "-qq"], ["install", "-qq", "--no-install-recommends", *packages]):
            _run(["apt-get", *words], environ)
    if still := _absent(wanted):
        raise NotRun(f"needs {', '.join(still)} (Debian: apt-get install {' '.join(still)})")


def _absent(wanted: Mapping[str, str]) -> list[str]:
    return sorted(package for what, package in wanted.items() if not (Path(what).exists() or shutil.which(what)))


def _run(command: Sequence[str], environ: Mapping[str, str] | None = None) -> str:
    """Its error output when it failed, else ""."""
    try:
        done = subprocess.run(
            command, env=environ, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return str(exc)
    return (done.stderr or done.stdout or "it failed").strip()[-500:] if done.returncode else ""


@functools.cache
def compiled(name: str) -> Path:
    """A program of the kit, compiled once per version of its source. Raises NotRun."""
    source = KIT / f"{name}.c"
    text = source.read_bytes()
    made = PYTHONS / "kit" / f"{name}-{sha256(text).hexdigest()[:12]}"
    if made.exists():
        return made
    debian(COMPILER)
    made.parent.mkdir(parents=True, exist_ok=True)
    draft = made.with_suffix(".new")
    libraries = ["-lssl", "-lcrypto", "-lm"] if b"openssl/ssl.h" in text else []
    if wrong := _run(["gcc", "-O2", "-w", "-o", str(draft), str(source), *libraries]):
        raise NotRun(f"{source.name} cannot be compiled: {wrong}")
    draft.replace(made)
    return made


class Pythons(Struct, frozen=True):
    """interpreter: what Weir and the peers written in Python run on, each in an environment of its own. weir: Weir's. said: of both."""

    interpreter: Path
    weir: Path
    said: str


@functools.cache
def pythons() -> Pythons:
    """The fastest interpreter where both LiteLLM and what Weir imports, in the versions of this environment, can be had for it; else that
    which runs the benchmark. Raises NotRun."""
    own = Path(sys.executable)
    interpreter, said = _python.fastest()
    if interpreter != own:
        pinned = PYTHONS / "pinned.txt"
        names = {str(found.metadata["Name"]): found.version for found in distributions() if found.metadata["Name"]}
        versions = "".join(f"{name}=={names[name]}\n" for name in sorted(names) if name != "weir")
        try:
            PYTHONS.mkdir(exist_ok=True)
            pinned.write_text(versions)
            weir = _environment(interpreter, "weir", ["-c", str(pinned), "-e", str(ROOT)], versions)
            _environment(interpreter, "litellm", _LITELLM)
            return Pythons(interpreter, weir / "bin/python", said)
        except (NotRun, OSError) as exc:
            print(f"  {exc}; the gateways run on what runs the benchmark", flush=True)
            said = f"what ran the benchmark: {exc}"
    return Pythons(own, own, said)


def python_tool(name: str, requirements: Sequence[str], program: str) -> Path:
    """`program` of pinned PyPI packages, in an environment of its own. Raises NotRun."""
    return _environment(pythons().interpreter, name, requirements) / "bin" / program


def _environment(interpreter: Path, name: str, words: Sequence[str], more: str = "") -> Path:
    """An environment in which `pip install` has been told `words`, made once. more: what else it hangs on. Raises NotRun."""
    folder = PYTHONS / name
    stamp = folder / ".requirement"
    wanted = " ".join([*words, "on", str(interpreter.resolve()), more])
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"  setting up {name} (once) ...", flush=True)
        for command in _python.making(interpreter, folder, words):
            if wrong := _run(command):
                raise NotRun(f"{name} cannot be installed on {interpreter.name}: {wrong}")
        stamp.write_text(wanted)
    return folder


def litellm() -> Path:
    """The `litellm` command. Raises NotRun."""
    return python_tool("litellm", _LITELLM, "litellm")


def py_spy() -> Path:
    """Raises NotRun."""
    return python_tool("py-spy", [f"py-spy=={PY_SPY}"], "py-spy")


def portkey() -> Path:
    """Portkey's `start-server.js`. Raises NotRun."""
    program = NODE / "portkey/node_modules/@portkey-ai/gateway/build/start-server.js"
    manifest = {
        "private": True,
        "dependencies": {"@portkey-ai/gateway": PORTKEY},
        "overrides": {"@hono/node-server": HONO},
    }
    written = orjson.dumps(manifest)
    place = NODE / "portkey/package.json"
    stamp = NODE / "portkey/.installed"
    if not program.exists() or not stamp.exists() or stamp.read_bytes() != written:
        if not shutil.which("npm"):
            raise NotRun("needs Node.js and npm")
        print(f"  setting up @portkey-ai/gateway {PORTKEY} (once) ...", flush=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(written)
        if wrong := _run(["npm", "install", "--silent", "--prefix", str(place.parent)]):
            raise NotRun(f"@portkey-ai/gateway cannot be installed: {wrong}")
        stamp.write_bytes(written)
    return program
