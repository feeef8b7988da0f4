"""gateway/cli: every command of the configuration, through its front door."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from gateway import cli
from gateway.settings import bypass
from gateway.settings.schema import json_schema
from tests.settings.writing import GOOD, KINDS, swap, wrote

Weir = Callable[..., Result]


@pytest.fixture
def weir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weir:
    """`weir ARGUMENTS` in an empty folder, without a key in the environment; `--config` is added where a file was written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WEIR_TEST_KEY", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("WEIR_CONFIG", str(tmp_path / "weir.yaml"))

    def run(*arguments: str, text: str | bytes = "") -> Result:
        return CliRunner().invoke(cli.application(), list(arguments), input=text, catch_exceptions=False)

    return run


def state(folder: Path, text: str = GOOD) -> Path:
    return wrote(folder, f"{text}server: {{state_dir: {folder}/state}}\n")


# --- the tree of commands ---------------------------------------------------------------------------------------------------------


def test_help_imports_no_server() -> None:
    """`weir --help` is fast because nothing that serves, asks or computes is imported for it."""
    code = (
        "import sys; from gateway import cli\n"
        "try: cli.application()(['--help'], standalone_mode=False)\n"
        "finally: print(sorted({'gateway.app', 'aiohttp', 'uvicorn', 'fastapi', 'onnxruntime', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_command_is_listed(weir: Weir) -> None:
    """And has a line that says what it does."""
    shown = weir("--help").stdout
    assert [name for name in ("serve", "check", "explain", "bypass", "key", "schema") if name not in shown] == []


def test_a_group_that_is_not_there_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands of other parts come with their module, and go with it."""
    monkeypatch.setattr(cli, "GROUPS", ("schema", "keys", "nothing_here"))
    group: Any = typer.main.get_command(cli.application())
    assert sorted(group.commands) == ["key", "schema"]


def test_wrong_usage_is_exit_code_2(weir: Weir) -> None:
    """An unknown command, an unknown option, a value out of range."""
    codes = [
        weir(*words).exit_code
        for words in (["nope"], ["check", "--nope"], ["serve", "--port", "70000"], ["bypass", "maybe"])
    ]
    assert codes == [2, 2, 2, 2]


def test_the_version(weir: Weir) -> None:
    """`weir --version` needs no configuration."""
    assert weir("--version").stdout.startswith("weir ")


# --- check ------------------------------------------------------------------------------------------------------------------------


def test_check_says_what_a_good_file_comes_to(weir: Weir, tmp_path: Path) -> None:
    """Routes with their ladders and what is missing on stdout, warnings with lines on stderr, exit code 0."""
    path = state(tmp_path)
    done = weir("check")
    assert done.exit_code == 0
    assert "slm > cloud" in done.stdout
    assert "cloud needs WEIR_TEST_KEY" in done.stdout
    assert "general (default)" in done.stdout
    assert f"warning: {path}:4: backends.cloud: cloud is unavailable until WEIR_TEST_KEY is set" in done.stderr
    assert "is valid, 2 warnings" in done.stdout
    assert "warning" not in done.stdout.replace("2 warnings", "")


def test_check_names_every_mistake(weir: Weir, tmp_path: Path) -> None:
    """On stderr, each on a line of its own; exit code 1; nothing on stdout."""
    path = wrote(tmp_path, swap("[slm, cloud]", "[slm, clod]", swap("default: general", "default: x")))
    done = weir("check")
    assert done.exit_code == 1
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert f"error: {path}:15: routes.small.ladder.1: no backend named 'clod' (did you mean 'cloud'?)" in lines
    assert [line for line in lines if line.startswith(f"error: {path}:11: router.default: no route named 'x'")]
    assert lines[-1] == f"{path}: 2 mistakes"


def test_check_finds_what_only_building_finds(weir: Weir, tmp_path: Path) -> None:
    """A calibration file that is not there stands in no reference: it is found by building, and has its line."""
    path = state(tmp_path, swap("{risk: 0.01}", "{risk: 0.01, calibration: none.json}"))
    done = weir("check")
    assert done.exit_code == 1
    assert f"error: {path}:16: routes.small.accept.calibration" in done.stderr


def test_check_for_machines(weir: Weir, tmp_path: Path) -> None:
    """`--json`: the same facts, whether it is good or not."""
    state(tmp_path)
    done = weir("check", "--json")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["ok"], told["default"]) == (0, True, "general")
    assert told["routes"][0]["ladder"] == ["slm", "cloud"]
    assert told["routes"][0]["missing"] == {"cloud": "WEIR_TEST_KEY"}
    assert told["backends"][1]["price"] == {"input": 1.0, "cached_input": 1.0, "output": 2.0}
    assert [mistake["line"] for mistake in told["mistakes"]] == [4]
    wrote(tmp_path, swap("[slm, cloud]", "[slm, clod]"))
    done = weir("check", "--json")
    told = json.loads(done.stdout)
    errors = [mistake for mistake in told["mistakes"] if mistake["severity"] == "error"]
    assert (done.exit_code, told["ok"], errors[0]["where"]) == (1, False, "routes.small.ladder.1")


def test_check_of_no_file(weir: Weir, tmp_path: Path) -> None:
    """A mistake like any other."""
    done = weir("check", "--config", "none.yaml")
    assert (done.exit_code, done.stderr.splitlines()[0]) == (1, "error: none.yaml: No such file or directory")


# --- schema, key, serve -----------------------------------------------------------------------------------------------------------


def test_schema_prints_the_schema(weir: Weir) -> None:
    """As JSON, and nothing else."""
    assert json.loads(weir("schema").stdout) == json_schema()


def test_a_key_and_the_lines_that_let_it_in(weir: Weir, tmp_path: Path) -> None:
    """The printed lines can be pasted as they are; only the key's hash is in them; no key is made twice."""
    path = state(tmp_path)
    done = weir("key", "bob", "--admin")
    key = done.stdout.splitlines()[0].removeprefix("# ")
    path.write_text(path.read_text() + "".join(done.stdout.splitlines(keepends=True)[1:]))
    assert weir("check").exit_code == 0
    assert key not in path.read_text()
    assert f"sha256:{hashlib.sha256(key.encode()).hexdigest()}" in path.read_text()
    assert len(key) > 30
    assert key != weir("key", "bob").stdout.splitlines()[0].removeprefix("# ")


def test_a_key_for_machines(weir: Weir) -> None:
    """`--json`: name, key, hash."""
    told = json.loads(weir("key", "bob", "--json").stdout)
    assert told["hash"] == f"sha256:{hashlib.sha256(told['key'].encode()).hexdigest()}"


@pytest.mark.parametrize("name", ["Bob", "", "a b", "bob\n"])
def test_a_key_needs_a_name_that_can_be_a_label(weir: Weir, name: str) -> None:
    """What could not stand in the configuration is refused here already."""
    done = weir("key", name)
    assert (done.exit_code, done.stdout) == (2, "")


def test_serve_refuses_what_check_refuses(weir: Weir, tmp_path: Path) -> None:
    """The same lines, exit code 1, before anything is bound."""
    path = wrote(tmp_path, swap("[slm, cloud]", "[slm, clod]"))
    done = weir("serve", "--port", "0")
    assert done.exit_code == 1
    assert f"error: {path}:15: routes.small.ladder.1" in done.stderr


# --- bypass -----------------------------------------------------------------------------------------------------------------------


def test_bypass_on_and_off(weir: Weir, tmp_path: Path) -> None:
    """Writes what the server watches; status only reads."""
    state(tmp_path)
    assert weir("bypass", "status").stdout == "bypass is off\n"
    assert weir("bypass", "on", "--route", "small").stdout == "bypass is on for small\n"
    assert bypass.read(tmp_path / "state").bypass == bypass.Bypass(False, ("small",))
    assert weir("bypass", "on").stdout == "bypass is on for everything\n"
    assert json.loads(weir("bypass", "status", "--json").stdout) == {"all": True, "routes": ["small"]}
    assert weir("bypass", "off").stdout == "bypass is off\n"
    assert bypass.read(tmp_path / "state").bypass == bypass.Bypass()


def test_bypass_of_an_unknown_route(weir: Weir, tmp_path: Path) -> None:
    """A switch that would switch nothing is wrong usage."""
    state(tmp_path)
    done = weir("bypass", "on", "--route", "smal")
    assert (done.exit_code, done.stderr) == (2, "no route named 'smal' (did you mean 'small'?)\n")
    assert not (tmp_path / "state").exists()


def test_bypass_works_while_the_file_is_broken(weir: Weir, tmp_path: Path) -> None:
    """An emergency switch does not wait for an editor: state_dir and route names are read as far as they go."""
    state(tmp_path, swap("[slm, cloud]", "[slm, clod]"))
    done = weir("bypass", "on", "--route", "small")
    assert (done.exit_code, done.stdout) == (0, "bypass is on for small\n")
    assert "has mistakes" in done.stderr
    assert bypass.read(tmp_path / "state").bypass.routes == ("small",)


def test_bypass_says_when_the_switch_is_broken(weir: Weir, tmp_path: Path) -> None:
    """What the server takes for off is shown as off, with a warning; writing repairs it; no configuration is a failure."""
    state(tmp_path)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / bypass.FILE).write_text("{")
    done = weir("bypass", "status")
    assert done.stdout == "bypass is off\n"
    assert "warning: " in done.stderr
    weir("bypass", "on")
    assert weir("bypass", "status").stderr == ""
    assert weir("bypass", "on", "--config", "none.yaml").exit_code == 1


# --- explain ----------------------------------------------------------------------------------------------------------------------

REQUEST: dict[str, Any] = {
    "model": "weir",
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "move twenty dollars"}],
    "response_format": {"type": "json_schema", "json_schema": {"name": "intent", "schema": {"type": "object"}}},
}


def test_explain_shows_facts_scores_decision_and_ladder(weir: Weir, tmp_path: Path) -> None:
    """Without asking a backend (these raise when they are asked), and without the text."""
    state(tmp_path)
    wrote(tmp_path, json.dumps(REQUEST), "request.json")
    done = weir("explain", "request.json")
    assert done.exit_code == 0
    assert "small 1.000" in done.stdout
    assert "decision: small (matched, score 1.000 by rules), enforce" in done.stdout
    assert "1. slm: available" in done.stdout
    assert "2. cloud: unavailable until WEIR_TEST_KEY is set" in done.stdout
    assert "twenty" not in done.stdout


def test_explained_hashes_can_be_pasted(weir: Weir, tmp_path: Path) -> None:
    """`system: "<hash>"` in a route's match is then true of the same request."""
    state(tmp_path)
    text = json.dumps({**REQUEST, "response_format": None})
    told = json.loads(weir("explain", "-", "--json", text=text).stdout)
    assert told["decision"]["route"] == "general"
    state(tmp_path, swap("{schema_name: intent}", f'{{system: "{told["facts"]["system"]}"}}'))
    told = json.loads(weir("explain", "-", "--json", text=text).stdout)
    assert told["decision"]["route"] == "small"


def test_explain_asks_every_tier(weir: Weir, tmp_path: Path) -> None:
    """Also those that a sure one before them makes unnecessary; one that raises is passed over and named."""
    router = (
        f"{{kind: cascade, of: [{{kind: rules, name: one}}, {{kind: rules, name: two}}, {{kind: '{KINDS}:Raising'}}]}}"
    )
    state(tmp_path, swap("{kind: rules}", router))
    told = json.loads(weir("explain", "-", "--json", text=json.dumps(REQUEST)).stdout)
    assert told["tiers"] == [
        {"tier": "one", "scores": {"small": 1.0}, "out_of_scope": None},
        {"tier": "two", "scores": {"small": 1.0}, "out_of_scope": None},
        {"tier": f"{KINDS}:Raising", "error": "raised RuntimeError"},
    ]
    assert told["decision"]["source"] == "one"


def test_explain_knows_headers_and_the_bypass(weir: Weir, tmp_path: Path) -> None:
    """Rules see headers; the switch is read as the server reads it."""
    state(tmp_path, swap("{schema_name: intent}", "{header: {X-Team: billing}}"))
    told = json.loads(weir("explain", "-", "--json", "-H", "x-team: billing", text=json.dumps(REQUEST)).stdout)
    assert told["decision"]["route"] == "small"
    weir("bypass", "on", "--route", "small")
    told = json.loads(weir("explain", "-", "--json", "-H", "X-TEAM: billing", text=json.dumps(REQUEST)).stdout)
    assert (told["decision"]["reason"], told["decision"]["unchecked"]) == ("bypass", True)
    assert [rung["rung"] for rung in told["ladder"]] == ["cloud"]


def test_explain_says_when_nobody_can_answer(weir: Weir, tmp_path: Path) -> None:
    """The variable to set, before the first request fails on it."""
    state(tmp_path)
    done = weir("explain", "-", text=json.dumps({**REQUEST, "model": "route/general"}))
    assert "decision: general (pinned)" in done.stdout
    assert "nobody can answer until WEIR_TEST_KEY is set: 503" in done.stdout


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("{", "400 invalid_json: the request body is not valid JSON"),
        ("[]", "400 "),
        ('{"model": "weir"}', "400 "),
        (json.dumps({**REQUEST, "model": "gpt-9"}), "404 model_not_found"),
    ],
)
def test_explain_refuses_as_the_gateway_would(weir: Weir, tmp_path: Path, body: str, says: str) -> None:
    """The status, the code and the message that a caller would get; exit code 1."""
    state(tmp_path)
    done = weir("explain", "-", text=body)
    assert done.exit_code == 1
    assert says in done.stderr


@pytest.mark.parametrize("words", [["none.json"], ["-", "-H", "x-team billing"], ["-", "--dialect", "klingon"]])
def test_explain_wrongly_used(weir: Weir, tmp_path: Path, words: list[str]) -> None:
    """A file that is not there, a header that is none, a dialect that nobody speaks: exit code 2."""
    state(tmp_path)
    assert weir("explain", *words, text=json.dumps(REQUEST)).exit_code == 2


def test_explain_needs_a_good_configuration(weir: Weir, tmp_path: Path) -> None:
    """Its mistakes are told as `weir check` tells them."""
    wrote(tmp_path, swap("[slm, cloud]", "[slm, clod]"))
    done = weir("explain", "-", text=json.dumps(REQUEST))
    assert done.exit_code == 1
    assert "no backend named 'clod'" in done.stderr
