"""What is believed of a runner's report, and when environments are made again."""

import subprocess
from pathlib import Path

import orjson
import pytest

from tests.clients import generated, manners, setup
from tests.clients.answers import answer, fill
from tests.clients.environments import Environment
from tests.clients.suites import SUITES, Counts, read

REPORT = """<testsuites><testsuite><testcase classname="c" name="good"/><testcase classname="c" name="not run"><skipped/></testcase>
<testcase classname="c" name="bad"><failure message="no">more</failure></testcase></testsuite></testsuites>"""


def test_a_report_is_counted() -> None:
    """Passed, failed and skipped apart; one failure and the suite is not fine."""
    counts = read(REPORT)
    assert (counts.passed, counts.total, counts.skipped) == (1, 2, 1)
    assert counts.failures == {"c.bad": "no more"}
    assert not counts.fine


@pytest.mark.parametrize("report", ["", "<testsuites/>", "<testsuites><testcase><skipped/></testcase></testsuites>"])
def test_nothing_counted_is_a_failure(report: str) -> None:
    """A runner that tried nothing proved nothing."""
    assert not read(report).fine
    assert Counts(1, 1).fine


def scenario(status: int, title: str = "") -> str:
    failed = [{"name": "n", "status": "failure", "failure_info": {"failure": {"title": title, "message": "m"}}}]
    recorder = {"interactions": {"a": {"response": {"status_code": status}}}, "checks": {"a": failed if title else []}}
    return orjson.dumps({"ScenarioFinished": {"recorder": recorder}}).decode()


def test_generated_requests_are_counted() -> None:
    """Answers, server errors (no answer is one), failed checks; a stream's event around its data is no failure."""
    report = "\n".join([scenario(200), scenario(503), scenario(200, "SSE event violates schema"), scenario(400, "x")])
    asked, answered, broken, failures = generated.counted(report)
    assert (asked, answered, broken) == (4, 2, 1)
    assert list(failures) == ["a n"]
    silent = {"ScenarioFinished": {"recorder": {"interactions": {"a": {"response": None}}}}}
    assert generated.counted(orjson.dumps(silent).decode())[2] == 1


def test_suites_have_names_of_their_own() -> None:
    """Folders, ids and rows of the table are told apart by name."""
    names = [suite.name for suite in SUITES]
    assert len(set(names)) == len(names) > 20


def environment(tmp_path: Path) -> Environment:
    pins = tmp_path / "pins.txt"
    pins.write_text("a==1\n")
    return Environment(str(tmp_path / "made"), "python", (pins,))


def test_an_environment_is_made_once_and_again_when_its_pins_change(tmp_path: Path) -> None:
    """The stamp holds the pins: no second making without a change."""
    one = environment(tmp_path)
    commands: list[list[str]] = []

    def made() -> int:
        assert setup.main({"one": one}, run=lambda command, _: commands.append(command), say=lambda _: None) == 0
        return len(commands)

    assert (made(), made()) == (2, 2)
    one.inputs[0].write_text("a==2\n")
    assert (made(), made()) == (4, 4)


def test_what_cannot_be_made_is_said_and_fails_in_ci(tmp_path: Path) -> None:
    """Without a registry the suites are named as not run; with CI=true the set-up fails, and no stamp is left."""

    def refuse(command: list[str], _: Path) -> None:
        raise subprocess.CalledProcessError(1, command, stderr=b"no registry")

    one = environment(tmp_path)
    said: list[str] = []
    assert setup.main({"one": one}, run=refuse, ci=False, say=said.append) == 0
    assert "not run" in "".join(said)
    assert "no registry" in "".join(said)
    assert setup.main({"one": one}, run=refuse, ci=True, say=said.append) == 1
    assert not one.ready()


def test_the_clients_texts_meet_every_manner() -> None:
    """The texts of `cases/` reach the small model's tidy, untidy and spoiled answers, with and without a system message."""
    for first, count in (("what is the weather in 'Oslo' on day", 6), ("the weather in 'Oslo' on day", 4)):
        texts = [f"{first} {day}" for day in range(1, count + 1)]
        for extra in ([], [{"role": "system", "content": "x"}]):
            bodies = [{"messages": [*extra, {"role": "user", "content": text}]} for text in texts]
            assert {manners.manner(body) for body in bodies} == set(manners.MANNERS)


def test_the_scripted_model_answers_what_was_asked() -> None:
    """Tools by name, by force, and not after their result; values that fit; limits and stops."""
    tool = {
        "type": "function",
        "function": {"name": "get_weather", "parameters": {"properties": {"city": {"type": "string"}}}},
    }
    user = {"role": "user", "content": "the weather in 'Oslo'"}
    (call,) = answer({"messages": [user], "tools": [tool]}).calls
    assert (call.name, orjson.loads(call.arguments)) == ("get_weather", {"city": "Oslo"})
    assert not answer({"messages": [{"role": "user", "content": "hello"}], "tools": [tool]}).calls
    assert not answer({"messages": [user, {"role": "tool", "content": "rain"}], "tools": [tool]}).calls
    assert answer({"messages": [user], "max_tokens": 1}).finish == "length"
    assert answer({"messages": [{"role": "user", "content": "a b"}], "stop": "b"}).text == "You said: a "
    assert fill({"properties": {"n": {"type": "integer"}}}, "take 3") == {"n": 3}
