"""A route's validators over an answer."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import judge as judging
from gateway.judge import THREADS, WAITING, judge
from gateway.validators.base import PASS, Ask, Tool, Validator, Verdict
from gateway.validators.finished import Finished
from gateway.validators.fits_schema import FitsSchema, SchemaError
from gateway.validators.not_refused import NotRefused
from gateway.validators.sure_enough import SureEnough
from gateway.validators.tool_arguments import ToolArguments
from tests.core.checks import Foreign, Hanging
from tests.waiting import PATIENCE, until
from wire.types import Constraint, Draft, ToolCall

FINISHED = Finished(Finished.Config(kind="finished"))
FITS = FitsSchema(FitsSchema.Config.model_validate({"kind": "fits_schema"}))
SURE = SureEnough(SureEnough.Config(kind="sure_enough"))
HOUSE: Sequence[Validator] = (FITS, FINISHED, SURE)
ASK = Ask(constraint=Constraint("schema", {"required": ["a"]}), threshold=0.9)
GOOD = Draft(text='{"a": 1}', finish="stop", probability=0.95)


def judged(validators: Sequence[Validator], *drafts: Draft, ask: Ask = ASK) -> tuple[Verdict, list[Verdict]]:
    return asyncio.run(judge(validators, drafts, ask))


@pytest.mark.parametrize(
    ("draft", "opinion", "reason", "asked"),
    [
        (GOOD, "pass", None, 3),
        (Draft(text="{}", finish="stop", probability=0.1), "fail", "schema", 1),
        (Draft(text='{"a": 1}', finish="length", probability=0.1), "fail", "truncated", 2),
        (Draft(text='{"a": 1}', finish="stop", probability=0.1), "fail", "low_confidence", 3),
        (Draft(text='{"a": 1}', finish="stop"), "undecided", "low_confidence", 3),
    ],
)
def test_the_first_failure_decides(draft: Draft, opinion: str, reason: str | None, asked: int) -> None:
    """In order, hard before soft; after a failure nobody is asked any more, and every single verdict is told."""
    verdict, told = judged(HOUSE, draft)
    assert (verdict.opinion, verdict.reason) == (opinion, reason)
    assert len(told) == asked
    assert [one.validator for one in told if not one.passed] == ([] if opinion == "pass" else [verdict.validator])


def test_all_or_nothing() -> None:
    """One bad choice among several spoils the answer; undecided counts only where nothing fails."""
    bad, unsure = Draft(1, text="{}", finish="stop"), Draft(2, text='{"a": 1}', finish="stop")
    assert judged(HOUSE, GOOD, bad, unsure)[0].reason == "schema"
    assert judged(HOUSE, unsure, GOOD)[0].opinion == "undecided"
    assert judged(HOUSE, GOOD, GOOD)[0] == PASS


def test_no_choice_is_no_answer() -> None:
    """An answer without any choice has failed, whatever is checked: it must never pass for want of anything to check."""
    for validators in (HOUSE, ()):
        verdict, told = judged(validators)
        assert (verdict.opinion, verdict.reason) == ("fail", "truncated")
        assert told == [verdict]


def test_what_has_no_end_does_not_pass() -> None:
    """A choice without finish_reason: PASS of a growing draft means nothing, so it is undecided; a certain failure still fails."""
    verdict, told = judged(HOUSE, Draft(text='{"a": 1}', probability=1.0), GOOD)
    assert (verdict.opinion, verdict.reason) == ("undecided", "truncated")
    assert told[0] == verdict
    assert judged((), Draft(text="a"))[0].opinion == "undecided"
    assert judged(HOUSE, Draft(text="a"), Draft(1, text="{}", finish="stop"))[0].opinion == "fail"


DRAFTS = st.builds(
    Draft,
    text=st.sampled_from(["", "{}", '{"a": 1}']),
    tool_calls=st.sampled_from([(), (ToolCall("c", "f", "{}"),), (ToolCall("c", "g", "["),)]),
    refusal=st.sampled_from(["", "", "no"]),
    finish=st.sampled_from(["stop", "stop", "length", "content_filter", "tool_calls", None]),
    probability=st.sampled_from([None, 0.1, 0.95]),
)
ASKS = st.builds(
    Ask,
    constraint=st.sampled_from([None, ASK.constraint, Constraint("regex", "(")]),
    tools=st.sampled_from([{}, {"f": Tool(None)}]),
    tool_choice=st.sampled_from([None, "required"]),
    threshold=st.sampled_from([None, 0.9]),
)
ANY = st.sampled_from(
    [
        FITS,
        FINISHED,
        SURE,
        NotRefused(NotRefused.Config(kind="not_refused")),
        ToolArguments(ToolArguments.Config(kind="tool_arguments")),
        Foreign(lambda draft: PASS),
        Foreign(lambda draft: Verdict("pass", probability=0.5)),
        Foreign(lambda draft: Verdict("fail", "policy") if draft.text == "{}" else Verdict("undecided", "policy")),
    ]
)


@settings(deadline=None)
@given(st.lists(ANY, max_size=5), st.lists(DRAFTS, min_size=1, max_size=3), ASKS)
def test_each_check_is_asked_of_each_choice(validators: list[Validator], drafts: list[Draft], ask: Ask) -> None:
    """Whoever is not asked, as quiet ones are not of a plain answer, is told with the verdict he would have given; and a foreign one
    between those of the house changes nothing of the order."""
    wanted: list[tuple[str, str | None, float | None]] = []
    if any(draft.finish is None for draft in drafts):
        wanted.append(("undecided", "truncated", None))
    for validator, draft in product(validators, drafts):
        if wanted and wanted[-1][0] == "fail":
            break
        try:
            said = validator.check(draft, ask)
            wanted.append((said.opinion, said.reason, said.probability))
        except SchemaError:
            wanted.append(("undecided", "low_confidence", None))
    verdict, told = judged(validators, *drafts, ask=ask)
    assert [(one.opinion, one.reason, one.probability) for one in told] == wanted
    assert all(one.validator for one in told)
    opinions = [opinion for opinion, _, _ in wanted]
    worst = next((opinion for opinion in ("fail", "undecided") if opinion in opinions), "pass")
    assert verdict.opinion == worst
    if worst != "pass":
        assert verdict is told[opinions.index(worst)]


def test_no_validators_pass() -> None:
    """A route without checks takes any whole answer."""
    assert judged((), GOOD) == (PASS, [])


# --- foreign ones -----------------------------------------------------------------------------------------------------------------


def test_a_foreign_validator_decides_too() -> None:
    """It sees every choice, off the event loop, and its verdict gets its class name when it names none."""
    passing, failing = Foreign(lambda draft: PASS), Foreign(lambda draft: Verdict("fail", "policy"))
    verdict, told = judged([passing, failing], GOOD, Draft(1, text="x", finish="stop"))
    assert verdict == Verdict("fail", "policy", "Foreign")
    assert [one.validator for one in told] == ["Foreign"] * 3
    assert passing.asked == [0, 1]
    assert all(name.startswith("validator-") for name in passing.threads)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the limit is not what is tested, a slow machine does not run into it."""
    monkeypatch.setattr(judging, "SECONDS", PATIENCE)


def raises(error: BaseException) -> Verdict:
    raise error


@pytest.mark.parametrize(
    "error", [ValueError("SECRET"), TimeoutError("SECRET"), SystemExit("SECRET"), RecursionError()]
)
def test_a_validator_that_raises_is_undecided(error: BaseException) -> None:
    """Whatever it raises: undecided, which is not sure, and without the exception's text; the others are asked all the same."""
    after = Foreign(lambda draft: PASS)
    verdict, _ = judged([Foreign(lambda draft: raises(error)), after], GOOD)
    assert (verdict.opinion, verdict.reason, verdict.validator) == ("undecided", "low_confidence", "Foreign")
    assert "SECRET" not in verdict.detail
    assert after.asked == [0]


def test_a_validator_of_the_house_that_raises_is_undecided() -> None:
    """A constraint that cannot be checked is no proof of anything."""
    verdict, told = judged(HOUSE, GOOD, ask=Ask(constraint=Constraint("regex", "("), threshold=0.9))
    assert (verdict.opinion, verdict.validator) == ("undecided", "fits_schema")
    assert "SchemaError" in verdict.detail
    assert len(told) == 3


@pytest.mark.parametrize("value", [None, True, "pass", ("pass",)])
def test_a_validator_that_returns_no_verdict_is_undecided(value: Any) -> None:
    """Only a Verdict is one."""
    verdict, _ = judged([Foreign(lambda draft: cast(Verdict, value))], GOOD)
    assert verdict.opinion == "undecided"


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    """A validator that hangs for the length of a test, with a short time limit."""
    monkeypatch.setattr(judging, "SECONDS", 0.05)
    made = Hanging()
    yield made
    made.released.set()


def test_a_hanging_validator_is_undecided(hanging: Hanging) -> None:
    """It costs the request its time limit and nothing else: meanwhile the event loop serves others."""

    async def run() -> tuple[Verdict, int]:
        ticks = 0
        async with asyncio.TaskGroup() as group:
            task = group.create_task(judge([hanging], [GOOD], ASK))
            while not task.done():
                ticks += 1
                await asyncio.sleep(0.001)
        return task.result()[0], ticks

    verdict, ticks = asyncio.run(run())
    assert (verdict.opinion, verdict.reason) == ("undecided", "low_confidence")
    assert "longer than" in verdict.detail
    assert ticks > 1


def test_when_all_threads_hang(hanging: Hanging, monkeypatch: pytest.MonkeyPatch) -> None:
    """Further checks are undecided; those of the house go on; what waits for a thread is bounded, and is not begun after its time; and
    when the threads are free again all is as before."""

    async def run() -> list[Verdict]:
        async with asyncio.TaskGroup() as group:
            count = THREADS + WAITING + 10
            tasks = [group.create_task(judge([hanging], [GOOD], ASK)) for _ in range(count)]
            inside = await judge(HOUSE, [GOOD], ASK)
        assert inside[0] == PASS
        return [task.result()[0] for task in tasks]

    verdicts = asyncio.run(run())
    assert {verdict.opinion for verdict in verdicts} == {"undecided"}
    assert any("wait for a thread" in verdict.detail for verdict in verdicts)
    assert hanging.entered <= THREADS
    hanging.released.set()
    asyncio.run(until(judging._jobs().empty))
    monkeypatch.setattr(judging, "SECONDS", PATIENCE)
    assert judged([Foreign(lambda draft: PASS)], GOOD)[0] == PASS
    assert hanging.entered <= THREADS


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("fail", "policy", "", {"missing": ["city"]}), "Expected `str`, got `object` - at `$.detail`"),
        (("fail", ["policy"]), "Expected `str | null`, got `array` - at `$.reason`"),
        (("maybe",), "Invalid enum value 'maybe' - at `$.opinion`"),
        (("pass", None, "", "", "sure"), "Expected `float | null`, got `str` - at `$.probability`"),
    ],
)
def test_a_foreign_verdict_that_is_none_is_undecided(
    monkeypatch: pytest.MonkeyPatch, given: tuple[Any, ...], said: str
) -> None:
    """What is no Verdict but by its class would be kept and told as one; its author reads which field is wrong."""
    monkeypatch.setattr(judging, "SECONDS", PATIENCE)
    verdict, told = judged([Foreign(lambda draft: Verdict(*given))], GOOD)
    assert (verdict.opinion, verdict.reason) == ("undecided", "low_confidence")
    assert verdict.detail == f"the validator returned a Verdict that is none: {said}"
    assert told == [verdict]


def test_a_foreign_verdict_comes_as_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """All its fields; only its name is added."""
    monkeypatch.setattr(judging, "SECONDS", PATIENCE)
    given = Verdict("fail", "policy", "", "impolite", 0.25)
    verdict, _ = judged([Foreign(lambda draft: given)], GOOD)
    assert verdict == Verdict("fail", "policy", "Foreign", "impolite", 0.25)


ENDLESS = """
import asyncio, threading
from gateway.judge import judge
from gateway.validators.base import Ask, Verdict
from wire.types import Draft

class Endless:
    def check(self, draft, ask):
        threading.Event().wait()

print(asyncio.run(judge([Endless()], [Draft(text="a", finish="stop")], Ask()))[0].opinion)
"""


def test_a_validator_that_never_returns_does_not_keep_the_process() -> None:
    """SIGTERM ends the server, also when some thread of a validator hangs for ever."""
    root = Path(__file__).parent.parent.parent
    done = subprocess.run(
        [sys.executable, "-c", ENDLESS], cwd=root, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout.strip(), done.returncode) == ("undecided", 0)
