"""A second small model whose answer is weighed: evidence of how likely the first is right, and nothing more."""

import asyncio
from math import exp, log
from pathlib import Path

import httpx
import pytest

from gateway.record import Record
from gateway.turning import turning_points
from gateway.validators.sure_enough import SECOND_MISSING
from tests.line.voices import ASKED, OVER, asks, over, voices
from tests.serving import serving
from tests.waiting import until

ORDERS = {"first": (", after: slm2", ""), "last": ("", ", after: slm")}
"""When the second answer comes > what is added to (small, other)."""


@pytest.fixture(autouse=True)
def _silence() -> None:
    ASKED.clear()
    OVER.clear()


async def asked(config: str, folder: Path, **more: object) -> tuple[Record, httpx.Response]:
    async with serving(config, folder) as served:
        response = await served.chat(asks(**more))
        return served.record(response), response


def odds(p: float) -> float:
    return log(p / (1 - p))


def known(p: float, agrees: bool, own: float | None) -> float:
    """The probability that the calibration of `voices` gives."""
    sure = 0.5 * odds(own) if own is not None else 0.0
    logit = odds(p) - 1 + (2 + sure if agrees else -sure)
    return 1 / (1 + exp(-logit))


@pytest.mark.parametrize("comes", ORDERS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("p", "other", "own", "outcome"),
    [
        (0.95, "b", None, "escalated"),
        (0.99, "b", None, "accepted"),
        (0.99, "b", 0.9, "accepted"),
        (0.99, "b", 0.99, "escalated"),
        (0.7, "a", None, "escalated"),
        (0.8, "a", None, "accepted"),
        (0.7, "a", 0.9, "accepted"),
        (0.4, "a", 0.9, "escalated"),
    ],
)
def test_one_probability_decides(
    tmp_path: Path, p: float, other: str, own: float | None, outcome: str, stream: bool, comes: str
) -> None:
    """Whether the second says the same and how sure it is of that move the one probability that the threshold is held against: a
    disagreement alone rejects nothing, an agreement alone accepts nothing, and who answers first changes nothing."""
    first, second = ORDERS[comes]
    sure = "" if own is None else f", own: {own}"
    config = voices(tmp_path, f"says: a, p: {p}{first}", f"says: {other}{sure}{second}")
    record, response = asyncio.run(asked(config, tmp_path, stream=stream))
    assert record.outcome == outcome
    assert record.escalation == ("" if outcome == "accepted" else "low_confidence")
    assert ["slm", "slm2", *(["big"] if outcome == "escalated" else [])] == ASKED
    attempt = record.attempts[0]
    assert attempt.agrees is (other == "a")
    assert attempt.probability == pytest.approx(known(p, other == "a", own), abs=2e-3)
    assert [verdict.validator for verdict in attempt.verdicts].count("fits_schema") == 1
    assert attempt.verdicts[-1].validator == "sure_enough"
    assert (record.attempts[1].purpose, record.attempts[1].agrees) == ("agree", None)
    assert record.attempts[1].probability == own
    assert '{"label":"a"}' in response.text.replace("\\", "")
    told = "the second model said " + ("the same" if other == "a" else "something else")
    assert any(told in line for line in turning_points(record))


@pytest.mark.parametrize("comes", ORDERS)
@pytest.mark.parametrize("second", ["ends: overloaded", "says: z"])
def test_without_the_second_answer_it_goes_up(tmp_path: Path, second: str, comes: str) -> None:
    """No answer of the second model, or one that breaks the schema, is nothing to weigh: unknown is not confident, however sure the first
    is, and the Record says what is missing."""
    first, late = ORDERS[comes]
    record, _ = asyncio.run(asked(voices(tmp_path, f"says: a, p: 0.9999{first}", f"{second}{late}"), tmp_path))
    assert (record.outcome, record.escalation, record.served) == ("escalated", "low_confidence", "cloud")
    attempt = record.attempts[0]
    assert (attempt.agrees, attempt.probability) == (None, None)
    assert attempt.verdicts[-1].opinion == "undecided"
    assert SECOND_MISSING in attempt.verdicts[-1].detail
    assert any("weighed with a second model's answer, and there was none" in line for line in turning_points(record))


def test_a_second_that_never_answers(tmp_path: Path) -> None:
    """Its time is up: then the first answer, which has waited for it, is unknown and goes up."""
    record, _ = asyncio.run(asked(voices(tmp_path, other="ends: never, timeout: 0.1"), tmp_path))
    assert (record.outcome, record.escalation) == ("escalated", "low_confidence")
    assert [(a.outcome, a.reason) for a in record.attempts[:2]] == [
        ("rejected", "low_confidence"),
        ("error", "timeout"),
    ]


@pytest.mark.parametrize(
    ("small", "reason"), [("says: z, after: slm2", "schema"), ("says: z", "schema"), ("ends: overloaded", "overload")]
)
def test_a_bad_first_answer_does_not_wait(tmp_path: Path, small: str, reason: str) -> None:
    """It broke a hard check, or there is none: nothing is weighed, and the cloud is asked at once though the second never ends."""
    other = "says: a" if "after" in small else "ends: never"
    record, _ = asyncio.run(asked(voices(tmp_path, small, other), tmp_path))
    assert (record.outcome, record.escalation) == ("escalated", reason)
    assert record.attempts[0].agrees is None
    assert over("slm2").is_set()


def test_the_caller_leaves_while_it_is_weighed(tmp_path: Path) -> None:
    """The first answer waits for the second when its caller goes: nothing was rejected, and both models are let go."""

    async def run() -> None:
        async with serving(voices(tmp_path, other="ends: never"), tmp_path) as served:
            async with asyncio.TaskGroup() as group:
                leaving = group.create_task(served.chat(asks()))
                await until(lambda: over("slm").is_set())
                leaving.cancel()
            await until(lambda: over("slm2").is_set())
            await until(lambda: bool(served.app.recorder.recent(1)))
            record = served.last()
            assert (record.outcome, record.escalation) == ("cancelled", "")
            assert [attempt.reason for attempt in record.attempts] == ["", ""]

    asyncio.run(run())


def test_unproven_where_nobody_better_can_be_asked(tmp_path: Path) -> None:
    """`on_unavailable: deliver`: what could not be weighed goes out as degraded, never as accepted."""
    config = voices(tmp_path, other="ends: overloaded", route="on_unavailable: deliver\n    egress: local")
    record, response = asyncio.run(asked(config, tmp_path))
    assert (record.outcome, record.served, response.status_code) == ("degraded", "small", 200)


def test_in_shadow_the_second_is_weighed_too(tmp_path: Path) -> None:
    """Off the path, a small rung counts as accepted by the same probability."""

    async def run(other: str, accepted: bool) -> None:
        config = voices(tmp_path, "says: a, p: 0.8", other, mode="shadow", route="shadow: {sample: 1}")
        async with serving(config, tmp_path) as served:
            assert served.record(await served.chat(asks())).served == "cloud"
            series = f'weir_shadow_accepted_total{{route="both",rung="small",result="{"agree"}"}}'
            asked = 'weir_shadow_total{route="both",rung="small",result="agree"}'
            await until(lambda: served.metric(asked) == 1)
            assert served.metric(series) == accepted

    asyncio.run(run("says: a", True))
    asyncio.run(run("says: b", False))
    asyncio.run(run("ends: overloaded", False))


def test_a_calibration_for_another_rule_does_not_hold(tmp_path: Path) -> None:
    """What was measured for `always` promises nothing for `weighed`: the rung falls to shadow; and back, by a reload, it stands again."""

    async def run() -> None:
        async with serving(voices(tmp_path, rule="always", when="weighed"), tmp_path) as served:
            old = served.app.live.setup
            assert (old.routes["both"].mode, [rung.name for rung in old.routes["both"].shadowed]) == (
                "shadow",
                ["small"],
            )
            assert served.record(await served.chat(asks())).served == "cloud"
            served.rewrite(voices(tmp_path, rule="weighed", when="weighed"))
            await until(lambda: served.app.live.setup is not old)
            record = served.record(await served.chat(asks()))
            assert (record.outcome, record.attempts[0].agrees) == ("accepted", True)

    asyncio.run(run())


EARLY = "speculate: {waste: 0.03}"


@pytest.mark.parametrize("second", ["says: a, own: 0.2", "ends: overloaded", "says: z"])
def test_the_second_model_may_start_the_next_rung(tmp_path: Path, second: str) -> None:
    """It is there before the first one's answer: where it is not sure of itself, or has nothing that could be weighed, the cloud is asked
    beside the first, which says nothing here before the cloud was asked."""
    config = voices(tmp_path, "says: a, p: 0.4, after: big", second, route=EARLY)
    record, _ = asyncio.run(asked(config, tmp_path))
    assert (record.outcome, record.speculation, record.escalation) == ("escalated", "used", "low_confidence")
    assert [(a.rung, a.purpose) for a in record.attempts] == [("small", ""), ("other", "agree"), ("cloud", "early")]


def test_a_second_model_that_is_sure_starts_nothing(tmp_path: Path) -> None:
    """The first one's answer is waited for, and taken."""
    config = voices(tmp_path, "says: a, p: 0.9", "says: a, own: 0.9", route=EARLY)
    record, _ = asyncio.run(asked(config, tmp_path))
    assert (record.outcome, record.speculation) == ("accepted", "")
    assert ASKED == ["slm", "slm2"]
