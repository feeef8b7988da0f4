"""The house's own rules, as far as neither ruff, mypy nor import-linter can see them."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.setup import PARTS
from wire.kinds import kinds

ROOT = Path(__file__).parent.parent
PACKAGES = ("gateway", "routers", "backends", "wire", "embed")
HEAVY = (
    "torch",
    "transformers",
    "sentence_transformers",
    "model2vec",
    "sklearn",
    "scipy",
    "onnxruntime",
    "matplotlib",
    "openai",
)
HTTP_ALLOWED = ("backends.http", "gateway.app", "gateway.cli")
"""Who may bring the HTTP client along: the place that holds it, and who puts everything together."""

TASK_OWNERS = {
    "gateway/app.py",  # the lifespan
    "embed/client.py",  # a model's worker: started and closed by the lifespan, cancels and awaits its one task itself
    "backends/_local_client.py",  # as embed/client.py
    "gateway/serving.py",  # connections that are being opened: the server waits for them before it ends
    "gateway/surface/connection.py",  # a request each, in the set that uvicorn waits for before it ends
}

IMPORT_ALL = """
import importlib, sys, threading
for name in sys.argv[2:]:
    before = set(sys.modules)
    importlib.import_module(name)
    heavy = sorted({new.partition(".")[0] for new in set(sys.modules) - before} & set(sys.argv[1].split(",")))
    if heavy:
        sys.exit(f"importing {name} imports {', '.join(heavy)}")
    if threading.active_count() > 1:
        sys.exit(f"importing {name} starts a thread")
"""


def sources(*packages: str) -> Iterator[Path]:
    for package in packages:
        yield from sorted((ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def import_all(forbidden: tuple[str, ...], modules: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", IMPORT_ALL, ",".join(forbidden), *modules]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.timeout(240)
def test_importing_is_free() -> None:
    """No module imports a model library or starts a thread just by being imported; the HTTP client stays in its place."""
    modules = [name for name in map(module_name, sources(*PACKAGES)) if not name.endswith("__main__")]
    assert len(modules) > 10
    light = [name for name in modules if not name.startswith(HTTP_ALLOWED)]
    done = import_all((*HEAVY, "aiohttp"), light)
    assert done.returncode == 0, done.stderr
    done = import_all(HEAVY, modules)
    assert done.returncode == 0, done.stderr


def test_the_import_check_sees_what_it_forbids() -> None:
    """The check above finds a forbidden import: it would be worth nothing otherwise."""
    done = import_all(("aiohttp",), ["gateway.record", "backends.http.base", "aiohttp"])
    assert done.returncode != 0
    assert "imports aiohttp" in done.stderr


def test_how_long_the_application_takes_to_import(capsys: pytest.CaptureFixture[str]) -> None:
    """`gateway.app` can be imported; how long that takes is printed, never asserted."""
    code = "import time; s = time.perf_counter(); import gateway.app; print(f'{time.perf_counter() - s:.2f}')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    with capsys.disabled():
        print(f" [import gateway.app: {done.stdout.strip()} s]", end="")  # noqa: T201


@pytest.mark.parametrize("package", ["routers", "backends", "gateway.validators"])
def test_every_extension_has_its_test(package: str) -> None:
    """One file with one class, one mirrored test file: routers/rules.py > tests/routers/test_rules.py."""
    folder = ROOT / "tests" / package.removeprefix("gateway.")
    assert kinds(package)
    lacking = [kind for kind in kinds(package) if not (folder / f"test_{kind}.py").exists()]
    assert not lacking, f"no test file in {folder.relative_to(ROOT)} for: {', '.join(lacking)}"


def stray_tasks(source: str) -> Iterator[int]:
    """Lines that start a task outside a TaskGroup: `asyncio.create_task`, `ensure_future`, `loop.create_task`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "asyncio":
            if {alias.name for alias in node.names} & {"create_task", "ensure_future"}:
                yield node.lineno
        elif isinstance(node, ast.Attribute) and node.attr in ("create_task", "ensure_future"):
            owner = ast.unparse(node.value)
            if owner == "asyncio" or "loop" in owner:
                yield node.lineno


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import asyncio\nasyncio.create_task(x())", [2]),
        ("from asyncio import ensure_future", [1]),
        ("self._loop.create_task(x())", [1]),
        ("asyncio.get_running_loop().create_task(x())", [1]),
        ("group.create_task(x())", []),
    ],
)
def test_stray_tasks_are_seen(source: str, found: list[int]) -> None:
    """A TaskGroup's own `create_task` is fine, the others are not."""
    assert list(stray_tasks(source)) == found


def test_tasks_belong_to_a_task_group() -> None:
    """Nobody starts a task that nobody waits for: but for the owners above, tasks belong to a TaskGroup."""
    strays = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sources(*PACKAGES)
        if path.relative_to(ROOT).as_posix() not in TASK_OWNERS
        for line in stray_tasks(path.read_text())
    ]
    assert not strays


def test_every_module_says_what_it_is() -> None:
    """Each module that holds anything begins with a docstring."""
    silent = [
        str(path.relative_to(ROOT))
        for path in sources(*PACKAGES, "benchmarks", "tests")
        if (tree := ast.parse(path.read_text())).body and not ast.get_docstring(tree)
    ]
    assert not silent


def test_every_test_states_its_rule() -> None:
    """A test's docstring is the rule that it pins."""
    silent = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in sources("tests")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if node.name.startswith("test_")
        if not ast.get_docstring(node)
    ]
    assert not silent


def kept_files() -> list[Path]:
    """Files of the repository: tracked, or new and not ignored. Outside a checkout: those of the packages."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return list(sources(*PACKAGES))
    named = [ROOT / name for name in done.stdout.split("\0") if name]
    return [path for path in named if path.is_file()] or list(sources(*PACKAGES))


def test_no_file_names_the_machine_it_was_written_on() -> None:
    """No absolute path of a working copy or a home, and no package mirror, in any file of the repository."""
    here = [re.escape(f"{ROOT}/"), *(re.escape("/" + name) for name in ("work/main", "work/shared", "tmp/brief"))]
    homes = [r"/(?:home|Users)/[a-z]\w*/", r"/root/\.", r"--(?:extra-)?index-url", r"--trusted-host"]
    pattern = re.compile("|".join((*here, *homes)).encode())
    guilty = [
        str(path.relative_to(ROOT))
        for path in kept_files()
        if path != Path(__file__) and path.stat().st_size < 2**20 and pattern.search(path.read_bytes())
    ]
    assert not guilty


def test_the_readmes_commands_exist() -> None:
    """Every `make X` of the README is a target of the Makefile, every `weir X` a command of the program."""
    readme = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", readme, re.DOTALL))
    named = set(re.findall(r"\bmake ([a-z][a-z-]*)", code))
    assert {"run", "test"} <= named
    assert named <= targets, f"not in the Makefile: {named - targets}"
    commands = set(re.findall(r"(?<![\w/.-])weir ([a-z]+)\b", code))
    if commands:
        done = subprocess.run(
            [sys.executable, "-m", "gateway.cli", "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        known = set(re.findall(r"^\W*([a-z]+)\s", done.stdout, re.MULTILINE))
        assert commands <= known, f"no such command: {commands - known}"


def test_the_makefile_sets_up_first() -> None:
    """`make test` installs what live suites need before it checks anything, and `.ci/run` calls `make test`."""
    makefile = (ROOT / "Makefile").read_text()
    recipe = re.search(r"^test:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe is not None
    assert recipe[1].splitlines()[0].endswith("-m tests.setup")
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def live_names() -> set[str]:
    """Names that tests ask for by `@pytest.mark.live("NAME")`."""
    names: set[str] = set()
    for path in sources("tests"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("mark.live"):
                names |= {str(arg.value) for arg in node.args if isinstance(arg, ast.Constant)}
    return names


def test_only_what_a_live_suite_needs_is_installed() -> None:
    """Every part in `tests/setup.py` is asked for by some test: the table is honest."""
    assert set(PARTS) == live_names()
