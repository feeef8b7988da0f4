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
from typing import Any

import msgspec

from tests.clients import generated
from tests.clients.environments import ENVIRONMENTS, NODES, PYTHONS, ROOT, node
from tests.clients.house import House

CASES = Path(__file__).parent / "cases"
SPECIFICATION = ROOT / "data" / "openai_openapi" / "openapi_subset.json"
MODEL = "gpt-4.1"
SECONDS = 400


class Counts(msgspec.Struct, frozen=True):
    """What a runner reported. failures: name > the beginning of its message. server_errors,
    answered: answers with 5xx and with 200, where they are counted."""

    passed: int
    total: int
    skipped: int = 0
    failures: Mapping[str, str] = {}
    seconds: float = 0.0
    server_errors: int = 0
    answered: int = 0

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
    report = place.report.read_text()
    counts = _generated(report) if suite.command is _schemathesis else read(report)
    return msgspec.structs.replace(counts, seconds=seconds)


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
    """JUnit XML of pytest or of node's runner. A report that cannot be read counts as one failure."""
    try:
        found = outcomes(report)
    except ET.ParseError as exc:
        return Counts(0, 1, failures={"report": str(exc)})
    failures = {name: outcome for name, outcome in found if outcome not in ("passed", "skipped")}
    passed, skipped = (sum(outcome == state for _, outcome in found) for state in ("passed", "skipped"))
    return Counts(passed, len(found) - skipped, skipped, failures)


def outcomes(report: str) -> list[tuple[str, str]]:
    """(name, outcome) of each test of a JUnit report: `passed`, `skipped`, or how its failure begins. Raises ET.ParseError."""
    found = []
    for case in ET.fromstring(report).iter("testcase"):
        wrong = [part for kind in ("failure", "error") for part in case.findall(kind)]
        outcome = "skipped" if case.find("skipped") is not None else "passed"
        if wrong:
            outcome = re.sub(r"\s+", " ", f"{wrong[0].get('message') or ''} {wrong[0].text or ''}")[:600]
        found.append((f"{case.get('classname', '')}.{case.get('name', '')}", outcome))
    return found


def _generated(report: str) -> Counts:
    asked, answered, broken, failures = generated.counted(report)
    if answered < generated.LEAST_ANSWERED:
        failures = {**failures, "answered": f"only {answered} of {asked} requests were answered with 200"}
    return Counts(max(0, asked - len(failures)), asked, failures=failures, server_errors=broken, answered=answered)


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


def _codex(suite: Suite, place: Place) -> list[str]:
    program = NODES / suite.environment / "node_modules" / ".bin" / "codex"
    inner = msgspec.structs.replace(suite, environment="openai3")
    return ["env", f"WEIR_TEST_CODEX={program}", *_pytest(inner, place)]


def _node(suite: Suite, place: Place) -> list[str]:
    """A file of `cases/`, copied to where its imports are found."""
    copied = NODES / suite.environment / suite.arguments[0]
    copied.write_bytes((CASES / suite.arguments[0]).read_bytes())
    report = ["--test-reporter=junit", f"--test-reporter-destination={place.report}"]
    return [str(node()), "--test", f"--test-name-pattern=^{suite.api}", *report, str(copied)]


def _schemathesis(suite: Suite, place: Place) -> list[str]:
    """Cases made from OpenAI's specification, cut to one path."""
    path, model = suite.arguments
    document = place.folder / "openapi.json"
    document.write_text(json.dumps(generated.document(SPECIFICATION, path, model)))
    program = str(PYTHONS / suite.environment / "bin" / "schemathesis")
    server = ["--url", f"{place.url}/v1", "-H", "Authorization: Bearer none"]
    cases = ["--phases", "coverage,fuzzing", "--max-examples", "50", "--seed", "1", "--continue-on-failure"]
    reports = ["--report", "ndjson", "--report-ndjson-path", str(place.report), "--no-color"]
    return [program, "run", str(document), *server, "--checks", generated.CHECKS, *cases, *reports]


IMAGES = "not test_image_inputs and not test_anthropic_inputs"
"""These two fetch pictures from the internet."""

BOTH = ("enforce", "observe")


def _row(name: str, client: str, package: str, api: str, *arguments: str, **more: Any) -> Suite:
    """A suite of `cases/` in the environment of openai 3.x, unless `more` says otherwise."""
    given: dict[str, Any] = {"environment": "openai3", "command": _pytest, **more}
    return Suite(name, client, package, api=api, arguments=arguments, **given)


def _both(name: str, client: str, package: str, *arguments: str, **more: Any) -> Sequence[Suite]:
    """A client that speaks both APIs, its tests told apart by their names."""
    return [
        _row(f"{name}-{api}", client, package, api, *arguments, *_only(api, more), **more)
        for api in ("chat", "responses")
    ]


def _only(api: str, more: Mapping[str, Any]) -> Sequence[str]:
    return () if more.get("command") is _node else ("-k", api)


def _own(where: str, api: str, least: int, only: str = "_create", note: str = "") -> Suite:
    """openai-python's own tests of one resource."""
    return _row(
        f"openai-python-own-{api}",
        "openai-python, its own tests",
        "openai",
        api,
        where,
        "-k",
        f"{only} and not aiohttp",
        command=_own_tests,
        least=least,
        needs=("openai-source",),
        modes=BOTH if api == "chat" else ("enforce",),
        note=note,
    )


def _specified(path: str, model: str = MODEL) -> Suite:
    return _row(
        f"schemathesis-{path.rpartition('/')[2] if path != '/chat/completions' else 'chat'}",
        "schemathesis, OpenAI's specification",
        "schemathesis",
        path.strip("/"),
        path,
        model,
        environment="schemathesis",
        command=_schemathesis,
        note="requests; no 5xx, no wrong content type, no answer out of schema",
    )


NODE: Mapping[str, Any] = {"environment": "agents", "command": _node, "needs": ("node",)}
OLDER: Mapping[str, Any] = {"environment": "openai2"}
NO_NET = "two tests that fetch pictures from the internet are left out"

NO_BASE64 = "its strict tests check the answer before they decode the base64 that they asked for"
NO_ECHO = "the test of all parameters asks for the prompt's log-probabilities, which a chat model cannot tell: 400"

SUITES: Sequence[Suite] = (
    _row("openai-python-chat", "openai-python", "openai", "chat", "openai_chat.py", modes=BOTH),
    _row("openai-python-responses", "openai-python", "openai", "responses", "openai_responses.py", modes=BOTH),
    _row("openai-python-embeddings", "openai-python, LangChain", "openai", "embeddings", "openai_embeddings.py"),
    _own("chat/test_completions.py", "chat", 32),
    _own("test_completions.py", "completions", 24, "_create and not all_params", NO_ECHO),
    _own("test_embeddings.py", "embeddings", 10, "_create and (loose or all_params)", NO_BASE64),
    *(
        _row(
            f"langchain-{api}",
            "langchain-openai, langchain-tests",
            "langchain-openai",
            api,
            "langchain_standard.py",
            "-k",
            f"Test{api.title()} and {IMAGES}",
            least=43 if api == "chat" else 40,
            note=NO_NET,
        )
        for api in ("chat", "responses")
    ),
    _row("langgraph-chat", "LangGraph, prebuilt agents", "langgraph", "chat", "langgraph_agent.py"),
    *_both("agents", "OpenAI Agents SDK", "openai-agents", "agents_sdk.py"),
    *_both("pydantic-ai", "PydanticAI", "pydantic-ai-slim", "pydantic_ai_agent.py"),
    _row("anthropic-messages", "anthropic-python", "anthropic", "messages", "anthropic_messages.py", modes=BOTH),
    _row("instructor-chat", "instructor", "instructor", "chat", "instructor_modes.py", **OLDER),
    _row("smolagents-chat", "smolagents", "smolagents", "chat", "smolagents_agent.py", **OLDER),
    _row("llama-index-chat", "LlamaIndex", "llama-index-llms-openai-like", "chat", "llama_index_like.py", **OLDER),
    *_both("openai-node", "openai-node", "openai", "openai_node.test.mjs", **NODE),
    *_both("ai-sdk", "Vercel AI SDK", "ai", "ai_sdk.test.mjs", **NODE),
    _row(
        "codex-responses",
        "Codex CLI",
        "@openai/codex",
        "responses",
        "codex_exec.py",
        environment="codex",
        command=_codex,
        needs=("openai3", "node"),
    ),
    _specified("/chat/completions"),
    _specified("/responses"),
    _specified("/completions"),
    _specified("/embeddings", "text-embedding-3-small"),
)


def lines(failures: Mapping[str, str]) -> str:
    return "\n".join(f"  {name}: {text}" for name, text in failures.items())
