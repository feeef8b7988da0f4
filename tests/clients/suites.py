"""The suites: which client, in which environment, how its own runner is called, and what its report counts.

A new client is a file in `cases/` and a row here. Every runner writes JUnit XML; what it counts is all that is believed, and a suite
that counts nothing has failed.
"""

import json
import os
import re
import shutil
import subprocess
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import distributions
from pathlib import Path

import msgspec

from tests.clients.environments import ENVIRONMENTS, NODES, PYTHONS, ROOT, node
from tests.clients.house import House

CASES = Path(__file__).parent / "cases"
SPECIFICATION = ROOT / "data" / "openai_openapi" / "openapi_subset.json"
MODEL = "gpt-4.1"
SECONDS = 400


class Counts(msgspec.Struct, frozen=True):
    """What a runner reported. failures: name > the beginning of its message."""

    passed: int
    total: int
    skipped: int = 0
    failures: Mapping[str, str] = {}
    seconds: float = 0.0

    @property
    def fine(self) -> bool:
        return 0 < self.passed == self.total


class Place(msgspec.Struct, frozen=True):
    """Where a suite runs: the server under test, a folder of its own, and where its report goes."""

    url: str
    folder: Path
    report: Path


class Suite(msgspec.Struct, frozen=True):
    """client, package: as people call it, and where its version stands. api: what it speaks. least: fewer passed is a failure."""

    name: str
    client: str
    package: str
    environment: str
    api: str
    command: Callable[["Suite", Place], list[str]]
    least: int = 1
    modes: Sequence[str] = ("enforce",)
    arguments: Sequence[str] = ()
    needs: Sequence[str] = ()
    note: str = ""

    def lacks(self) -> list[str]:
        """Environments that are not there."""
        return [name for name in (self.environment, *self.needs) if not ENVIRONMENTS[name].ready()]

    def version(self) -> str:
        if ENVIRONMENTS[self.environment].kind == "node":
            path = NODES / self.environment / "node_modules" / self.package / "package.json"
            return str(json.loads(path.read_text())["version"]) if path.exists() else ""
        folders = [str(path) for path in (PYTHONS / self.environment).glob("lib/python*/site-packages")]
        return next((one.version for one in distributions(name=self.package, path=folders)), "")


def run(suite: Suite, house: House, mode: str) -> Counts:
    """Run it against the gateway in `mode` (`bare`: against the scripted model itself). Never raises for what the suite does."""
    folder = house.folder / f"{suite.name}-{mode}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    place = Place(house.url(mode), folder, folder / "report.xml")
    started = time.monotonic()
    try:
        done = subprocess.run(
            suite.command(suite, place),
            cwd=folder,
            env=environ(place),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            check=False,
        )
        told = done.stdout.decode(errors="replace")
    except subprocess.TimeoutExpired:
        told = f"no end after {SECONDS} s"
    seconds = time.monotonic() - started
    if not place.report.exists():
        return Counts(0, 1, failures={"no report": told[-2000:]}, seconds=seconds)
    return msgspec.structs.replace(read(place.report.read_text()), seconds=seconds)


def environ(place: Place) -> dict[str, str]:
    """Of a client's process: a home of its own, nothing of ours, and nobody to tell about us."""
    kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TZ") if name in os.environ}
    return {
        **kept,
        "PATH": f"{node().parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "HOME": str(place.folder),
        "OPENAI_BASE_URL": f"{place.url}/v1",
        "TEST_API_BASE_URL": f"{place.url}/v1",
        "OPENAI_API_KEY": "none",
        "ANTHROPIC_BASE_URL": place.url,
        "ANTHROPIC_API_KEY": "none",
        "WEIR_TEST_MODEL": MODEL,
        "OPENAI_AGENTS_DISABLE_TRACING": "1",
        "LANGSMITH_TRACING": "false",
        "DO_NOT_TRACK": "1",
        "PYTHONDONTWRITEBYTECODE": "",
    }


def read(report: str) -> Counts:
    """JUnit XML of pytest, node's runner or schemathesis. A report that cannot be read counts as one failure."""
    try:
        cases = list(ET.fromstring(report).iter("testcase"))
    except ET.ParseError as exc:
        return Counts(0, 1, failures={"report": str(exc)})
    skipped, failures = 0, {}
    for case in cases:
        wrong = [part for kind in ("failure", "error") for part in case.findall(kind)]
        if wrong:
            text = f"{wrong[0].get('message') or ''} {wrong[0].text or ''}"
            failures[f"{case.get('classname', '')}.{case.get('name', '')}"] = re.sub(r"\s+", " ", text)[:600]
        elif case.find("skipped") is not None:
            skipped += 1
    total = len(cases) - skipped
    return Counts(total - len(failures), total, skipped, failures)


def _pytest(suite: Suite, place: Place) -> list[str]:
    """A file of `cases/` in the suite's Python."""
    python = PYTHONS / suite.environment / "bin" / "python"
    words = ["-m", "pytest", "-q", "-c", str(CASES / "pytest.ini"), "--rootdir", str(place.folder)]
    where, *more = suite.arguments
    return [str(python), *words, "-p", "no:cacheprovider", f"--junitxml={place.report}", str(CASES / where), *more]


def _own_tests(suite: Suite, place: Place) -> list[str]:
    """openai-python's own tests: their configuration wants plugins that parallelize and format; nothing of it matters here."""
    (source,) = (PYTHONS / "openai-source").glob("openai-*")
    python = PYTHONS / suite.environment / "bin" / "python"
    words = ["-m", "pytest", "-q", "-c", str(CASES / "pytest.ini"), "--rootdir", str(source), "-p", "no:cacheprovider"]
    where, *more = suite.arguments
    return [
        "env",
        f"PYTHONPATH={source}",
        str(python),
        *words,
        f"--junitxml={place.report}",
        str(source / "tests" / "api_resources" / where),
        *more,
    ]


def _node(suite: Suite, place: Place) -> list[str]:
    """A file of `cases/`, copied to where its imports are found."""
    copied = NODES / suite.environment / suite.arguments[0]
    copied.write_bytes((CASES / suite.arguments[0]).read_bytes())
    report = ["--test-reporter=junit", f"--test-reporter-destination={place.report}"]
    return [str(node()), "--test", f"--test-name-pattern=^{suite.api}", *report, str(copied)]


def _schemathesis(suite: Suite, place: Place) -> list[str]:
    """Cases made from OpenAI's specification, cut to one path. Only 200 and 429 are documented: other statuses are not judged."""
    whole = json.loads(SPECIFICATION.read_text())
    (path,) = suite.arguments
    kept = {path: {"post": whole["paths"][path]["post"]}}
    document = place.folder / "openapi.json"
    document.write_text(json.dumps({**whole, "paths": kept}))
    checks = "not_a_server_error,content_type_conformance"
    options = ["--checks", checks, "--phases", "coverage,fuzzing", "--max-examples", "50", "--seed", "1"]
    reports = ["--report", "junit", "--report-junit-path", str(place.report)]
    return [
        str(PYTHONS / suite.environment / "bin" / "schemathesis"),
        "run",
        str(document),
        *("--url", f"{place.url}/v1", "--continue-on-failure", "--no-color", "-H", "Authorization: Bearer none"),
        *options,
        *reports,
    ]


IMAGES = "not test_image_inputs and not test_anthropic_inputs"
"""These two fetch pictures from the internet."""

SUITES: Sequence[Suite] = (
    Suite(
        "openai-python",
        "openai-python",
        "openai",
        "openai3",
        "chat",
        _pytest,
        arguments=("openai_chat.py",),
        modes=("enforce", "observe"),
    ),
    Suite(
        "openai-python-own-chat",
        "openai-python, its own tests",
        "openai",
        "openai3",
        "chat",
        _own_tests,
        least=32,
        modes=("enforce", "observe"),
        arguments=("chat/test_completions.py", "-k", "_create and not aiohttp"),
        needs=("openai-source",),
    ),
    Suite(
        "langchain-chat",
        "langchain-openai, langchain-tests",
        "langchain-openai",
        "openai3",
        "chat",
        _pytest,
        least=43,
        arguments=("langchain_standard.py", "-k", f"TestChat and {IMAGES}"),
        note="two tests that fetch pictures from the internet are left out",
    ),
    Suite(
        "langgraph", "LangGraph, prebuilt agent", "langgraph", "openai3", "chat", _pytest, arguments=("langgraph_agent.py",)
    ),
    Suite(
        "agents-chat",
        "OpenAI Agents SDK",
        "openai-agents",
        "openai3",
        "chat",
        _pytest,
        arguments=("agents_sdk.py", "-k", "chat"),
    ),
    Suite(
        "pydantic-ai-chat",
        "PydanticAI `openai-chat:`",
        "pydantic-ai-slim",
        "openai3",
        "chat",
        _pytest,
        arguments=("pydantic_ai_agent.py", "-k", "chat"),
    ),
    Suite("instructor", "instructor", "instructor", "openai2", "chat", _pytest, arguments=("instructor_modes.py",)),
    Suite("smolagents", "smolagents", "smolagents", "openai2", "chat", _pytest, arguments=("smolagents_agent.py",)),
    Suite(
        "llama-index",
        "LlamaIndex OpenAILike",
        "llama-index-llms-openai-like",
        "openai2",
        "chat",
        _pytest,
        arguments=("llama_index_like.py",),
    ),
    Suite(
        "openai-node", "openai-node", "openai", "agents", "chat", _node, arguments=("openai_node.test.mjs",), needs=("node",)
    ),
    Suite("ai-sdk", "Vercel AI SDK", "ai", "agents", "chat", _node, arguments=("ai_sdk.test.mjs",), needs=("node",)),
    Suite(
        "schemathesis-chat",
        "schemathesis on OpenAI's specification",
        "schemathesis",
        "schemathesis",
        "chat",
        _schemathesis,
        arguments=("/chat/completions",),
        note="no 5xx, no wrong content type",
    ),
)


def lines(counts: Mapping[str, str]) -> str:
    return "\n".join(f"  {name}: {text}" for name, text in counts.items())
