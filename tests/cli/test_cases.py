"""`weir test`: the user's own cases, asked of the whole line."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from gateway import cli
from gateway.cli.cases import Said, Score, Unusable, best, comparator, of_request, read
from gateway.cli.test import summed
from tests.serving import serving
from wire.types import ToolCall

SCHEMA = {
    "type": "object",
    "properties": {"label": {"enum": ["a", "b"]}, "n": {"type": "number", "default": 1}},
    "required": ["label"],
    "additionalProperties": False,
}
FORM = {"type": "json_schema", "json_schema": {"name": "label", "schema": SCHEMA}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CONFIG = """
backends:
  small:
    kind: scripted
    script: {one: '{"label": "a"}', two: '{"label": "z"}', wrong: '{"label": "b"}', text: "Hello  there"}
  cloud: {kind: scripted, cloud: true, price: {input: 1, output: 2}, script: {two: '{"n": 1.0, "label": "a"}'}}
  keyless: {kind: openai, base_url: "https://example.com/v1", model: big, api_key: "${WEIR_TEST_UNSET}", cloud: true}
router: {use: {kind: rules}, default: general}
routes:
  general: {ladder: [small, cloud]}
  lonely: {ladder: [keyless], mode: enforce}
access: {keys: [{name: me, hash: "sha256:%s"}]}
server: {state_dir: var}
""" % ("0" * 64)

Weir = Callable[..., Result]


@pytest.fixture
def weir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weir:
    """`weir test general --cases cases.jsonl ARGUMENTS` in a folder with a configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WEIR_KEY", raising=False)
    monkeypatch.delenv("WEIR_TEST_UNSET", raising=False)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("WEIR_CONFIG", str(tmp_path / "weir.yaml"))
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "weir.yaml").write_text(CONFIG)

    def run(*arguments: str, route: str = "general") -> Result:
        command = ["test", route, "--cases", "cases.jsonl", *arguments]
        return CliRunner().invoke(cli.application(), command, catch_exceptions=False)

    return run


def case(text: str, expected: Any, form: bool = True, **more: Any) -> dict[str, Any]:
    request: dict[str, Any] = {"messages": [{"role": "user", "content": text}]}
    if form:
        request["response_format"] = FORM
    return {"request": request, "expected": expected, **more}


def write(*cases: Any, name: str = "cases.jsonl") -> None:
    Path(name).write_text("\n".join(one if isinstance(one, str) else json.dumps(one) for one in cases))


GOOD = (
    case("one", {"label": "a"}, name="accepted"),
    case("two", {"label": "a", "n": 1}, name="escalated"),
    case("text", "Hello there", form=False),
)


# --- the whole line -----------------------------------------------------------------------------------------------------------------


def test_enough_passed(weir: Weir) -> None:
    """Every case is asked of the real ladder, enforced although the route only observes and without a key; compared in canonical form;
    who answered and what it cost is told."""
    write(*GOOD)
    done = weir("--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert [(one["name"], one["rung"], one["outcome"], one["passed"]) for one in told["cases"]] == [
        ("accepted", "small", "accepted", True),
        ("escalated", "cloud", "escalated", True),
        ("line 3", "small", "accepted", True),
    ]
    assert told["cases"][0]["cost_usd"] == 0 < told["cases"][1]["cost_usd"]
    assert told["summary"]["cost_usd"] == told["cases"][1]["cost_usd"]
    assert told["summary"] | {"cost_usd": 0} == {
        "cases": 3, "passed": 3, "pass_rate": 1, "score": 1, "local": 2, "local_pass_rate": 1, "llm_share": 1 / 3, "cost_usd": 0,
    }  # fmt: skip
    assert not Path("var").exists()  # Records of a test are nobody's traffic


def test_too_few_passed(weir: Weir) -> None:
    """Exit code 1, the failed case with what was expected and what came; with a lower `--min` it is enough."""
    write(*GOOD, case("wrong", {"label": "a"}, name="mistaken"))
    done = weir()
    assert done.exit_code == 1
    line = next(line for line in done.stdout.splitlines() if "mistaken" in line)
    assert "FAILED" in line
    assert 'expected {"label":"a"}, got {"label":"b"}' in line
    assert "3 of 4 passed: 75.0%" in done.stdout
    assert "3 answered by a small rung, of those passed: 66.7%" in done.stdout
    assert "LLM share: 25.0%" in done.stdout
    assert weir("--min", "0.75").exit_code == 0
    assert weir("--min", "0.76").exit_code == 1


def test_a_further_right_answer_counts(weir: Weir) -> None:
    """`also` holds whatever else is right."""
    write(case("wrong", {"label": "a"}, also=[{"label": "c"}, {"label": "b"}]))
    assert weir().exit_code == 0


def test_the_model_and_stream_of_a_case_do_not_matter(weir: Weir) -> None:
    """Requests may be taken as they were logged: the route is the one that was named, the answer is read whole."""
    one = case("one", {"label": "a"})
    one["request"] |= {"model": "gpt-5", "stream": True, "stream_options": {"include_usage": True}}
    write(one)
    assert weir().exit_code == 0


def test_no_answer_is_a_failed_case(weir: Weir) -> None:
    """The error is the reason, and the other cases go on."""
    write(case("one", {"label": "a"}), {"request": {"messages": [{"role": "nobody"}]}, "expected": ""})
    done = weir("--json")
    assert done.exit_code == 1
    told = json.loads(done.stdout)["cases"]
    assert told[0]["passed"]
    assert told[1]["why"].startswith("400 ")
    lonely = weir("--json", route="lonely")
    assert "WEIR_TEST_UNSET" in json.loads(lonely.stdout)["cases"][0]["why"]


# --- what cannot be run ---------------------------------------------------------------------------------------------------------------


def test_every_bad_line_is_named(weir: Weir) -> None:
    """All at once, each with its line; nothing is asked."""
    write(
        *("{", "[]", '{"request": {}, "expected": 1, "more": 1}', "", '{"request": {"messages": []}}'),
        case("one", 1, also=1, name=1),
        case("one", {"tool_calls": [{"arguments": {}}]}),
    )
    done = weir()
    assert done.exit_code == 2
    lines = done.stderr.splitlines()
    assert [line.split(": ")[0] for line in lines] == [f"cases.jsonl:{n}" for n in (1, 2, 3, 3, 5, 6, 6, 7)]
    assert "unknown key 'more'" in done.stderr
    assert "`expected` is missing" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--comparator", "judges"], "is MODULE:FUNCTION"),
        (["--comparator", "no_such_module_here:f"], "cannot be loaded"),
        (["--comparator", "json:nothing"], "cannot be loaded"),
        (["--comparator", "json:__name__"], "is no function"),
        (["--url", "http://127.0.0.1:9"], "does not answer"),
        (["--url", "nonsense"], "does not answer"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["--min", "2"], "--min"),
    ],
)
def test_what_cannot_be_run_is_2(weir: Weir, arguments: list[str], told: str) -> None:
    """Apart from cases that failed: a comparator, a gateway or a configuration that cannot be used."""
    write(*GOOD)
    done = weir(*arguments)
    assert done.exit_code == 2
    assert told in done.stderr


def test_a_route_that_is_not_there(weir: Weir) -> None:
    """The ones there are are named."""
    write(*GOOD)
    done = weir(route="generic")
    assert (done.exit_code, done.stderr.strip()) == (2, "there is no route 'generic': general, lonely")


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_no_case_is_none(weir: Weir, text: str) -> None:
    """An empty file passes nothing."""
    write(text)
    assert weir().exit_code == 2
    Path("cases.jsonl").unlink()
    assert weir().exit_code == 2


# --- the user's own comparator ------------------------------------------------------------------------------------------------------


def test_a_comparator_of_the_user(weir: Weir) -> None:
    """It sees what was expected and the whole answer; what it raises or returns amiss is a failed case that says so."""
    Path("my_judges.py").write_text(
        "def judge(expected, answer):\n"
        "    if expected == 'raise': raise RuntimeError('no idea')\n"
        "    if expected == 'text': return answer['text'].startswith('Hello') and answer['json'] is None\n"
        "    if expected == 'json': return answer['json'] == {'label': 'a'}, 'not a'\n"
        "    if expected == 'rung': return 0.75 if answer['rung'] == 'small' else 0.0\n"
        "    return {'why': 'not', 'low': 0.25, 'many': 7, 'none': None, 'told': (False, 'too long')}[expected]\n"
    )
    write(
        case("text", "text", False), case("one", "json"), case("one", "rung"), case("one", "raise"), case("one", "low"),
        case("one", "many"), case("one", "none"), case("one", "told"),
    )  # fmt: skip
    done = weir("--json", "--comparator", "my_judges:judge")
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert [one["score"] for one in told["cases"]] == [1, 1, 0.75, 0, 0.25, 0, 0, 0]
    assert [one["passed"] for one in told["cases"]] == [True] * 3 + [False] * 5
    assert [one["why"].split(":")[0] for one in told["cases"][3:]] == [
        "the comparator raised RuntimeError",
        "the comparator gave 0.25",
        "the comparator returned 7",
        "the comparator returned None",
        "too long",
    ]
    assert told["summary"]["score"] == pytest.approx(3 / 8)


# --- a gateway that runs --------------------------------------------------------------------------------------------------------------


@contextmanager
def running(config: str, folder: Path) -> Iterator[str]:
    """A gateway in a thread of its own."""
    ready: list[str] = []
    up, down = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def run() -> None:
        loops.append(asyncio.get_running_loop())
        async with serving(config, folder) as served:
            ready.append(served.url)
            up.set()
            await down.wait()

    folder.mkdir()
    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        assert up.wait(60)
        yield ready[0]
    finally:
        loops[0].call_soon_threadsafe(down.set)
        thread.join(30)


def test_a_gateway_elsewhere(weir: Weir, tmp_path: Path) -> None:
    """`--url`: the same cases, asked over the wire of what runs there, in the mode it runs in; costs are in its Records."""
    write(*GOOD)
    config = CONFIG.replace("ladder: [small, cloud]}", "ladder: [small, cloud], mode: enforce}")
    config = "\n".join(line for line in config.splitlines() if not line.startswith("access:"))
    with running(config, tmp_path / "elsewhere") as url:
        for given in (url, f"{url}/v1/"):
            done = weir("--json", "--url", given)
            assert done.exit_code == 0, done.output
        told = json.loads(done.stdout)
    assert [one["outcome"] for one in told["cases"]] == ["accepted", "escalated", "accepted"]
    assert told["summary"]["cost_usd"] > 0


def test_without_a_key_for_it(weir: Weir, tmp_path: Path) -> None:
    """A gateway that wants a key says so in every case."""
    write(*GOOD)
    with running(CONFIG, tmp_path / "elsewhere") as url:
        done = weir("--json", "--url", url)
    told = json.loads(done.stdout)
    assert done.exit_code == 1
    assert all(one["why"].startswith("401 invalid_api_key") for one in told["cases"])
    assert told["summary"]["llm_share"] is None


# --- comparing ------------------------------------------------------------------------------------------------------------------------


def call(name: str, arguments: str) -> Said:
    return Said(calls=[ToolCall("id", name, arguments)])


@pytest.mark.parametrize(
    ("expected", "said", "right"),
    [
        ({"label": "a", "n": 1}, Said('{ "n":1.0, "label":"a"}'), True),
        ({"label": "a"}, Said('{"label":"a","n":1}'), True),
        ({"label": "a"}, Said('{"label":"a","n":2}'), False),
        ({"label": "a"}, Said("a"), False),
        ([1, 2], Said("[2, 1]"), False),
        (7, Said(" 7.0"), True),
        (True, Said("true"), True),
        (None, Said("null"), True),
        ("Yes, it is.", Said(" Yes,  it is.\n"), True),
        ("Yes", Said("yes"), False),
        ('{"label": "a"}', Said('{"label":"a"}'), True),
        ({"tool_calls": [{"name": "f", "arguments": {"a": 1}}]}, call("f", '{"a": 1.0}'), True),
        ({"tool_calls": [{"name": "f", "arguments": '{"a": 1}'}]}, call("f", '{"a":1}'), True),
        ({"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}, call("f", ""), True),
        ({"tool_calls": [{"name": "f"}]}, call("g", "{}"), False),
        ({"tool_calls": [{"name": "f"}]}, Said("f()"), False),
        ({"tool_calls": []}, Said("Hello"), True),
        ({"tool_calls": []}, call("f", "{}"), False),
        ("Hello", call("f", "{}"), False),
    ],
)  # fmt: skip
def test_what_counts_as_the_same(expected: Any, said: Said, right: bool) -> None:
    """Texts but for white space, JSON in canonical form under its schema, calls by name and arguments."""
    compare = of_request({"response_format": FORM, "tools": [TOOL]})
    score = compare(expected, said)
    assert (score.passed, score.why == "") == (right, right)


def test_a_schema_of_the_route_counts_as_well() -> None:
    """Where the request brings none, defaults are those of the schema that its route imposes."""
    assert of_request({}, SCHEMA)({"label": "a"}, Said('{"label": "a", "n": 1}')).passed
    assert not of_request({})({"label": "a"}, Said('{"label": "a", "n": 1}')).passed


values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(values, st.text(max_size=10))
def test_an_answer_as_expected_always_passes(expected: Any, text: str) -> None:
    """Whatever is expected, saying just that is right, and comparing never raises."""
    if not (isinstance(expected, dict) and "tool_calls" in expected):
        said = Said(expected if isinstance(expected, str) else orjson.dumps(expected).decode())
        assert of_request({})(expected, said).passed
    of_request({})(expected, Said(text))


def test_the_nearest_right_answer_counts(tmp_path: Path) -> None:
    """The best score of all right answers; a failed case tells why of the first."""
    Path(tmp_path / "near_judges.py").write_text("def f(e, a): return (e, f'away from {e}')\n")
    compare = comparator("near_judges:f", tmp_path)
    cases = tmp_path / "cases.jsonl"
    cases.write_bytes(orjson.dumps(case("x", 0.1, also=[0.4, 0.2])))
    assert best(read(cases)[0], Said(), compare) == Score(0.4, "away from 0.1")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """With its name."""
    with pytest.raises(Unusable, match=r"nowhere\.jsonl: No such file"):
        read(tmp_path / "nowhere.jsonl")


def test_nothing_known_is_none() -> None:
    """No Record, no rate: unknown is not zero."""
    told = [{"passed": True, "score": 1.0, "outcome": None, "cost_usd": None}]
    summary = summed(told)
    assert (summary["llm_share"], summary["local_pass_rate"], summary["cost_usd"]) == (None, None, None)
