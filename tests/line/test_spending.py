"""A little more spent on the small model first: told what was wrong, or asked several times."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.backends.upstream import Asked
from tests.line.speaking import calibrated, label, speaks
from tests.line.world import BAD, GOOD, Handler, asks, hello, says, world


def turns(*handlers: Handler) -> Handler:
    """The first request is answered by the first, and so on; the last answers the rest."""

    async def handler(asked: Asked) -> None:
        await handlers[min(asked.number, len(handlers)) - 1](asked)

    return handler


MEND = "mend: {match: {schema_name: mend}, ladder: [small, cloud], mode: enforce, accept: {repair: %d}%s}"


@pytest.mark.parametrize("stream", [False, True])
def test_a_broken_answer_is_mended(tmp_path: Path, stream: bool) -> None:
    """The small model is shown its answer and the rule that it broke, and its second answer is delivered; each try is an attempt."""

    async def run() -> None:
        async with world(tmp_path, turns(says(BAD), says(GOOD)), says("never"), routes=MEND % (1, "")) as w:
            response = await w.served.chat(asks("mend", stream=stream))
            assert GOOD in response.text.replace("\\", "")
            record = w.served.record(response)
            assert (record.outcome, record.escalation, record.served) == ("accepted", "", "small")
            assert [(a.purpose, a.outcome, a.reason) for a in record.attempts] == [
                ("", "rejected", "schema"),
                ("repair", "delivered", ""),
            ]
            first, again = (asked.json["messages"] for asked in w.small.asked)
            assert again[: len(first)] == first
            assert again[-2] == {"role": "assistant", "content": BAD}
            assert "/label" in again[-1]["content"]
            assert '"z"' not in again[-1]["content"]
            assert w.cloud.asked == []
            assert (
                w.served.metric('weir_attempts_total{route="mend",rung="small",outcome="rejected",reason="schema"}')
                == 1
            )

    asyncio.run(run())


@pytest.mark.parametrize(("repair", "asked"), [(1, 2), (2, 3)])
def test_not_for_ever(tmp_path: Path, repair: int, asked: int) -> None:
    """An answer that stays broken goes up after as many tries as the route allows."""

    async def run() -> None:
        async with world(tmp_path, says(BAD), says(GOOD), routes=MEND % (repair, "")) as w:
            record = w.served.record(await w.served.chat(asks("mend")))
            assert (record.outcome, record.escalation) == ("escalated", "schema")
            assert len(w.small.asked) == asked

    asyncio.run(run())


def test_the_rung_above_keeps_its_attempt(tmp_path: Path) -> None:
    """With two attempts in all there is none to spare for a second try."""

    async def run() -> None:
        async with world(tmp_path, says(BAD), says(GOOD), routes=MEND % (1, ", budget: {attempts: 2}")) as w:
            record = w.served.record(await w.served.chat(asks("mend")))
            assert (record.outcome, len(w.small.asked)) == ("escalated", 1)

    asyncio.run(run())


def test_a_refusal_is_not_mended(tmp_path: Path) -> None:
    """Only a broken form names a rule; another try of what was refused would be refused again."""

    async def run() -> None:
        async with world(tmp_path, says(None, refusal="no"), says(GOOD), routes=MEND % (2, "")) as w:
            await w.served.chat(asks("mend"))
            assert len(w.small.asked) == 1

    asyncio.run(run())


def test_a_broken_call_is_quoted_as_text(tmp_path: Path) -> None:
    """Arguments that are no JSON would break the chat template of the model: they go back as text."""
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}

    def call(arguments: str) -> Handler:
        return says(
            None,
            "tool_calls",
            tool_calls=[{"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}],
        )

    async def run() -> None:
        route = "mend: {ladder: [small, cloud], mode: enforce, accept: {repair: 1}}"
        async with world(tmp_path, turns(call("{oops"), call("{}")), says("never"), routes=route) as w:
            record = w.served.record(await w.served.chat(hello(model="route/mend", tools=[tool])))
            assert (record.outcome, [a.reason for a in record.attempts]) == ("accepted", ["tool_arguments", ""])
            told = w.small.asked[1].json["messages"][-2]
            assert set(told) == {"role", "content"}
            assert "{oops" in told["content"]

    asyncio.run(run())


# --- a vote -----------------------------------------------------------------------------------------------------------------------


def vote(tmp_path: Path, budget: str = "") -> str:
    return (
        "vote: {match: {schema_name: vote}, ladder: [small, cloud], mode: enforce,"
        f" accept: {{risk: 0.01, calibration: '{calibrated(tmp_path)}', self_consistency: {{samples: 3, temperature: 0.9}}}}{budget}}}"
    )


async def answer(tmp_path: Path, *values: str, more: dict[str, Any] | None = None, probability: float = 0.7) -> Any:
    """The Record, the text and what the small model was asked, when it says these labels in turn."""
    small = turns(*(speaks(*label(probability, value=value)) for value in values))
    async with world(tmp_path, small, says('{"label":"b"}'), routes=vote(tmp_path)) as w:
        response = await w.served.chat(asks("vote", **(more or {})))
        return w.served.record(response), response.text.replace("\\", ""), [asked.json for asked in w.small.asked]


def test_the_majority_counts(tmp_path: Path) -> None:
    """Three further samples, each warm and with a seed of its own; three of four alike are enough."""
    record, text, asked = asyncio.run(answer(tmp_path, "a", "a", "a", "b"))
    assert (record.outcome, record.escalation) == ("accepted", "")
    assert GOOD in text
    assert [a.purpose for a in record.attempts] == ["", "sample", "sample", "sample"]
    assert [body["temperature"] for body in asked[1:]] == [0.9] * 3
    assert sorted(body["seed"] for body in asked[1:]) == [1, 2, 3]
    assert "temperature" not in asked[0]


def test_a_majority_against_the_first_answer(tmp_path: Path) -> None:
    """The sample that the majority agrees with goes out, not the first answer."""
    record, text, _ = asyncio.run(answer(tmp_path, "b", "a", "a", "a"))
    assert record.outcome == "accepted"
    assert GOOD in text
    assert [a.outcome for a in record.attempts].count("delivered") == 1
    assert record.attempts[0].outcome == "rejected"


def test_half_is_no_majority(tmp_path: Path) -> None:
    """Two against two: up the ladder, for want of confidence."""
    record, text, _ = asyncio.run(answer(tmp_path, "a", "a", "b", "b"))
    assert (record.outcome, record.escalation, record.served) == ("escalated", "low_confidence", "cloud")
    assert '{"label":"b"}' in text


def test_samples_of_a_broken_form_have_no_vote(tmp_path: Path) -> None:
    """Three broken samples that say the same win nothing."""
    record, _, _ = asyncio.run(answer(tmp_path, "a", "z", "z", "z"))
    assert (record.outcome, record.escalation) == ("escalated", "low_confidence")


@pytest.mark.parametrize(("probability", "asked"), [(0.95, 1), (0.4, 1), (0.7, 4)])
def test_only_in_the_grey_zone(tmp_path: Path, probability: float, asked: int) -> None:
    """A sure answer and a hopeless one are not asked about again."""
    _, _, bodies = asyncio.run(answer(tmp_path, "a", probability=probability))
    assert len(bodies) == asked


def test_several_choices_are_not_voted_on(tmp_path: Path) -> None:
    """`n: 2` stays as it was: one try, and up."""
    record, _, bodies = asyncio.run(answer(tmp_path, "a", more={"n": 2}))
    assert (record.outcome, len(bodies)) == ("escalated", 1)
