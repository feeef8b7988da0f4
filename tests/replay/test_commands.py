"""`weir why` and `weir replay`: what they read, what they print, and how they fail."""

import json
from pathlib import Path

import pytest
import typer
from msgspec.structs import replace
from typer.testing import CliRunner, Result

from gateway.app import build
from gateway.cli.records import files_in, find, kinds_of, register, stored, terms_of
from gateway.record import Record, encode
from gateway.recorder import FILE
from gateway.settings.load import load
from routers.cascade import CascadeConfig
from routers.rules import RulesConfig
from tests.replay.made import escalated, record, rejected, top, tried

CONFIG = """
backends:
  small: {kind: openai, base_url: "http://127.0.0.1:9/v1", model: s, price: {input: 1, output: 1}}
  large: {kind: openai, base_url: "http://127.0.0.1:9/v1", model: l, cloud: true, price: {input: 10, output: 10}}
router:
  use: {kind: cascade, of: [{kind: rules}]}
  default: general
routes:
  intents: {match: {schema_name: intent}, ladder: [small, large], mode: enforce, min_score: MIN}
  general: {ladder: [large], mode: enforce}
models:
  "*": {use: routed}
server: {state_dir: STATE}
"""


def config(tmp_path: Path, min_score: float = 0.5, text: str = CONFIG) -> Path:
    path = tmp_path / "weir.yaml"
    path.write_text(text.replace("STATE", str(tmp_path / "state")).replace("MIN", str(min_score)))
    return path


def write(tmp_path: Path, *records: Record, name: str = FILE) -> Path:
    folder = tmp_path / "state"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"".join(encode(one) + b"\n" for one in records))
    return folder


def weir(*words: object) -> Result:
    app = typer.Typer()
    register(app)
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "160"})


def test_why_tells_the_whole_story(tmp_path: Path) -> None:
    """Outcome, facts, scores, every attempt with its verdicts, money, hashes and the turning points."""
    first = replace(rejected(), agrees=True)
    write(tmp_path, escalated(first, id="req-1", config="c0ffee", router_hash="beef"), record(id="req-2"))
    told = weir("why", "req-1", "--config", config(tmp_path)).output
    for part in (
        "escalated: route 'intents' (matched, enforce), served by 'large'",
        "gpt-5",
        "0.8000",
        "low_confidence (the second agreed)",
        "small · fits_schema: pass",
        "small · sure_enough: fail low_confidence a detail",
        "11.000000 USD, 1.000000 more than",
        "c0ffee",
        "beef",
        "what would have changed it",
        "'small' was 0.5000 sure (the second model said the same) and needed 0.9000",
    ):
        assert part in told
    assert "req-2" not in told


def test_why_as_json(tmp_path: Path) -> None:
    """--json is the Record and the turning points, for programs."""
    write(tmp_path, record(id="req-1"))
    told = json.loads(weir("why", "req-1", "--json", "--config", config(tmp_path)).stdout)
    assert told["record"]["id"] == "req-1"
    assert told["what_would_have_changed_it"]


def test_why_of_an_unknown_request_says_so(tmp_path: Path) -> None:
    """No Record is an error with its name on stderr, not an empty table."""
    write(tmp_path, record(id="req-1"))
    result = weir("why", "req", "--config", config(tmp_path))
    assert result.exit_code == 1
    assert "no Record of 'req'" in result.stderr


def test_why_needs_no_state_directory(tmp_path: Path) -> None:
    """A server that has not written anything yet is no crash."""
    assert weir("why", "x", "--config", config(tmp_path)).exit_code == 1


def test_what_looks_like_markup_is_printed_as_it_is(tmp_path: Path) -> None:
    """Nothing in a Record colours or hides anything: an upstream's message is text."""
    odd = tried(outcome="error", reason="backend_error", error="[red]no[/red] [/] [link=x]", verdicts=())
    write(tmp_path, escalated(odd, id="req-1"))
    assert "[red]no[/red] [/] [link=x]" in weir("why", "req-1", "--config", config(tmp_path)).output


def test_files_are_read_newest_first(tmp_path: Path) -> None:
    """The file without a number is the newest, then .1, .2 ... .10; what is no file of Records is left out."""
    folder = write(tmp_path, record(id="new"))
    for name in (f"{FILE}.10", f"{FILE}.2", f"{FILE}.1", f"{FILE}.tmp", "other"):
        write(tmp_path, record(id=name), name=name)
    assert [path.name for path in files_in(folder)] == [FILE, f"{FILE}.1", f"{FILE}.2", f"{FILE}.10"]


def test_find_takes_the_newest_and_skips_torn_lines(tmp_path: Path) -> None:
    """The last line of the newest file that names the request counts; a torn line costs itself only."""
    folder = write(tmp_path, record(id="a", time=3.0), record(id="a", time=4.0), record(id="b"))
    with (folder / FILE).open("ab") as file:
        file.write(b'{"id":"a","time":5\n\xff\xfe\n')
    write(tmp_path, record(id="a", time=1.0), record(id="old"), name=f"{FILE}.1")
    files = files_in(folder)
    found = find("a", files)
    assert found is not None
    assert found.time == 4.0
    assert find("old", files) is not None
    assert find("nothing", files) is None
    last = find("last", files)
    assert last is not None
    assert last.id == "b"
    assert [one.id for one in stored(files)] == ["a", "a", "b", "a", "old"]


def test_find_reads_the_id_not_what_contains_it(tmp_path: Path) -> None:
    """An id that is part of another, or stands elsewhere in a line, is another request."""
    folder = write(tmp_path, record(id="req-12", served="req-1"), record(id='say "ü"'))
    assert find("req-1", files_in(folder)) is None
    assert find('say "ü"', files_in(folder)) is not None


def test_replay_prints_what_would_change(tmp_path: Path) -> None:
    """Counts on both sides, moves, and what the figures rest on."""
    write(
        tmp_path, record(), escalated(), record(top(0), outcome="direct", route="general", scores={}, reason="default")
    )
    result = weir("replay", "--config", config(tmp_path))
    assert result.exit_code == 0, result.output
    for part in ("3 requests", "LLM share", "escalation rate", "intents", "general", "direct"):
        assert part in result.output


def test_replay_as_json(tmp_path: Path) -> None:
    """--json is the Report: with rules alone and no schema, every request goes the default way."""
    write(tmp_path, record(), escalated())
    told = json.loads(weir("replay", "--json", "--config", config(tmp_path)).stdout)
    assert told["records"] == 2
    assert told["after"]["routes"] == {"general": {"direct": 2}}
    assert told["moves"] == {"accepted > direct": 1, "escalated > direct": 1}


def test_replay_reads_the_files_that_are_named(tmp_path: Path) -> None:
    """--records instead of the state directory, several of them."""
    folder = write(tmp_path, record())
    one, two = folder / "one", folder / "two"
    write(tmp_path, record(), record(), name="one")
    write(tmp_path, record(), name="two")
    told = weir("replay", "--json", "--records", one, "--records", two, "--config", config(tmp_path)).stdout
    assert json.loads(told)["records"] == 3


def test_a_file_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    """A mistyped --records is not silently an empty one."""
    result = weir("replay", "--records", tmp_path / "nope", "--config", config(tmp_path))
    assert result.exit_code == 2
    assert "nope" in result.stderr


def test_replay_without_records_says_so(tmp_path: Path) -> None:
    """Nothing to replay is an error, not a table of zeros."""
    result = weir("replay", "--config", config(tmp_path))
    assert result.exit_code == 1
    assert "no Records" in result.stderr


@pytest.mark.parametrize("command", [["replay"], ["why", "x"]])
def test_a_broken_configuration_is_told_whole(tmp_path: Path, command: list[str]) -> None:
    """Every mistake with its line, and exit code 1."""
    path = config(tmp_path, text=CONFIG.replace("default: general", "default: nowhere\n  nope: 1"))
    result = weir(*command, "--config", path)
    assert result.exit_code == 1
    assert "nowhere" in result.stderr
    assert "nope" in result.stderr


def test_the_terms_of_a_setup(tmp_path: Path) -> None:
    """Routes, rules, prices and which kinds of tier the router has come from the configuration."""
    found = terms_of(build(load(config(tmp_path))))
    assert set(found.routes) == {"intents", "general"}
    assert found.default == "general"
    assert [match.schema_name for match in found.matches["intents"]] == ["intent"]
    assert found.prices["large"].input == 10
    assert (found.rules, found.readers) == (True, False)


def test_a_tier_that_reads_the_text_is_noticed() -> None:
    """Of a cascade its tiers count, however deep; a router that is none counts itself."""
    inner = {"kind": "cascade", "of": [{"kind": "embedding"}]}
    assert set(kinds_of(CascadeConfig.model_validate({"of": [{"kind": "rules"}, inner]}))) == {"rules", "embedding"}
    assert set(kinds_of(RulesConfig())) == {"rules"}
