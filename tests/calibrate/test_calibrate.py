"""`weir calibrate` from labelled requests to the file: what is asked, what is measured, what is kept."""

import asyncio
import math
import stat
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.calibrate.collect import Away
from gateway.calibrate.file import keep_labelled, labelled_of
from gateway.calibrate.labelled import read
from gateway.calibrate.measure import NEVER, Infeasible, Sample, score
from gateway.calibrate.run import calibrate
from gateway.confidence import Evidence, Scorer, Second
from gateway.confidence.features import NAMES, SECOND
from gateway.promise import read as read_file
from tests.calibrate.small import ASKED, SCHEMA, asks, case, says, sureness, tokens, truth
from tests.calibrate.world import lines, run, table, task, wrote
from wire.types import Constraint, Draft


@pytest.fixture(autouse=True)
def _nobody_was_asked() -> None:
    ASKED.clear()


def sure(scorer: Scorer, number: int) -> float:
    """What a file's scorer makes of an answer."""
    label = says("one", number)
    draft = Draft(text=f'{{"label":"{label}"}}', finish="stop", logprobs=tokens(label, sureness("one", number)))
    messages = asks(number)["messages"]
    found = scorer.probability(Evidence(draft, Constraint("schema", SCHEMA), {}, messages))
    assert found is not None
    return found


def test_the_threshold_keeps_the_risk_on_requests_it_never_saw(tmp_path: Path) -> None:
    """The point of it all: accepted from the threshold on, wrong in at most 5 % of all requests; and it takes what it can take."""
    done = run(task(wrote(tmp_path), range(2000)))
    file = read_file(done.path)
    found = file.threshold(0.05)
    assert found is not None
    assert file.scorer is not None
    fresh = range(10_000, 14_000)
    accepted = [number for number in fresh if sure(file.scorer, number) >= found]
    wrong = sum(says("one", number) != truth(number) for number in accepted)
    assert wrong / len(fresh) <= 0.05
    assert len(accepted) / len(fresh) > 0.7  # 96 % if one knew which are wrong


def test_what_the_file_says(tmp_path: Path) -> None:
    """Version 2, complete, and its figures are those of the requests it was measured on."""
    told = table(done := run(task(wrote(tmp_path), cases=read(lines(range(1000), llm=True), name="d", model="weir"))))
    assert (told["version"], told["route"], told["rung"], told["model"], told["model_digest"]) == (
        2,
        "labels",
        "slm",
        "one",
        "one",
    )
    assert (told["n"], told["n_fit"], told["risk"], told["confidence"], told["rule"]) == (
        500,
        500,
        0.05,
        0.95,
        "confidence",
    )
    assert told["llm"] == {"known": 500, "right": 1.0}
    assert done.notes == []
    assert 0.85 < told["accuracy"] < 0.96
    assert told["auroc"] > 0.85
    assert told["ece"] < 0.05
    curve = told["curve"]
    assert [p["threshold"] for p in curve] == sorted(p["threshold"] for p in curve)
    assert curve[0]["coverage"] == 1.0
    assert all(p["regret"] <= p["regret_bound"] and p["error"] <= p["error_bound"] for p in curve)
    at = told["thresholds"]["0.05"]
    assert at["regret_bound"] <= 0.05
    assert at["threshold"] == done.measured.threshold == read_file(done.path).threshold(0.05)
    mu = curve[0]["regret"]
    assert told["oracle"]["0.05"] == pytest.approx(min(1.0, 1 - (mu - 0.05) / 0.95))
    assert told["crc"]["0.05"] <= at["threshold"]  # it promises less
    starts = list(told["outlook"]["starts"].values())
    assert set(told["outlook"]["starts"]) >= {"0.03"}
    assert starts == sorted(starts, reverse=True)
    assert told["collapsed"] < 0


def test_files_hold_secrets_for_the_owner_only(tmp_path: Path) -> None:
    """Answers and labelled requests are text of users; the curve is not."""
    done = run(task(wrote(tmp_path), range(300)))
    keep_labelled(tmp_path / "calibration", "labels", done.cases)
    modes = {path.name.partition("@")[0] + path.suffixes[-1]: path for path in (tmp_path / "calibration").iterdir()}
    private = [modes["labels.jsonl"], labelled_of(tmp_path / "calibration", "labels")]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in private)
    assert stat.S_IMODE(done.path.stat().st_mode) == 0o600
    assert b"messages" not in done.path.read_bytes()


def test_nothing_is_asked_twice(tmp_path: Path) -> None:
    """Not by the next run, not where the last one was torn off, and equal requests are one."""
    path = wrote(tmp_path)
    first = run(task(path, range(300)))
    assert ASKED["one"] == 300
    kept = next((tmp_path / "calibration").glob("*.answers.jsonl"))
    kept.write_bytes(kept.read_bytes()[:-20])
    again = run(task(path, cases=read(lines(range(300)) + b"\n" + lines(range(10)), name="d", model="weir")))
    assert ASKED["one"] == 301  # the torn line's
    assert table(again)["n"] + table(again)["n_fit"] == 310
    assert again.path == first.path
    run(task(path, range(310)))
    assert ASKED["one"] == 311


def test_equal_requests_stay_on_one_side(tmp_path: Path) -> None:
    """What was fitted on cannot also test."""
    twice = read(lines(range(300)) + b"\n" + lines(range(300)), name="d", model="weir")
    done = run(task(wrote(tmp_path), cases=twice))
    parts = [c.part for c in done.cases]
    assert parts[:300] == parts[300:]
    assert parts.count("fit") == 300


@pytest.mark.parametrize(
    ("count", "why"),
    [
        (50, r"50 requests .* at least 59 are needed"),
        (100, r"50 requests .* at least 59 are needed: 118 labelled ones"),
    ],
)
def test_a_sample_that_is_too_small_is_refused(tmp_path: Path, count: int, why: str) -> None:
    """With the number that would do; nothing is written."""
    with pytest.raises(Infeasible, match=why):
        run(task(wrote(tmp_path), range(count)))
    assert not list((tmp_path / "calibration").glob("*.json"))
    if count < 59:
        assert ASKED["one"] == 0  # known before anything is asked


def test_regret_counts_only_what_the_llm_would_have_got_right(tmp_path: Path) -> None:
    """Where the rung above is wrong as well, accepting costs nothing; the error among the accepted is told all the same."""
    path = wrote(tmp_path)
    mine = run(task(path, range(1000)))
    bad = b"\n".join(orjson.dumps(case(number, llm={"label": "nonsense"})) for number in range(1000))
    theirs = run(task(path, cases=read(bad, name="d", model="weir")))
    assert (mine.measured.step, theirs.measured.step) != (None, None)
    assert theirs.measured.step is not None
    assert theirs.measured.step.coverage == 1.0
    assert theirs.measured.step.regret == 0
    assert theirs.measured.step.error == pytest.approx(1 - theirs.measured.accuracy)
    assert mine.measured.curve[0].regret == theirs.measured.curve[0].error
    assert theirs.measured.llm_right == 0
    assert "taken to be right" in mine.notes[0]


def test_what_breaks_a_hard_check_is_not_accepted(tmp_path: Path) -> None:
    """However sure it is. Neither is what the rung cannot answer."""
    done = run(
        task(wrote(tmp_path, slm=f", invalid: {list(range(100))}, unsupported: {list(range(100, 200))}"), range(1000))
    )
    assert done.measured.unusable == pytest.approx(0.2, abs=0.05)
    assert done.measured.curve[0].coverage == pytest.approx(1 - done.measured.unusable)
    assert done.measured.accuracy < 0.8


def test_a_rung_with_its_own_probability_needs_no_fit(tmp_path: Path) -> None:
    """Then every labelled request tests."""
    done = run(task(wrote(tmp_path, slm=", own: true"), range(100)))
    assert (done.measured.n, done.measured.n_fit, done.measured.scorer) == (100, 0, None)
    assert {c.part for c in done.cases} == {""}
    told = table(done)
    assert (told["scorer"], told["outlook"], told["collapsed"]) == (None, None, None)


def test_without_log_probabilities_nothing_is_known(tmp_path: Path) -> None:
    """It is said so, and no file is written."""
    with pytest.raises(ValueError, match="no answer has log-probabilities"):
        run(task(wrote(tmp_path, slm=", blind: true"), range(300)))
    assert not list((tmp_path / "calibration").glob("*.json"))


def test_a_server_that_is_away_is_asked_again_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many without an answer: refused, and what was answered is kept. A few: they count as not accepted."""
    monkeypatch.setattr("gateway.calibrate.collect.LONGEST", 0.0)
    with pytest.raises(Away, match="did not answer 100 of 300"):
        run(task(wrote(tmp_path, slm=f", broken: {list(range(100))}"), range(300)))
    ASKED.clear()
    done = run(task(wrote(tmp_path, slm=", broken: [1, 2, 3]"), range(300)))
    assert ASKED["one"] == 97 + 3 * 4
    assert any("3 requests had no answer" in note for note in done.notes)
    assert done.measured.n + done.measured.n_fit == 300


@pytest.mark.parametrize(("when", "rule"), [("always", "always"), ("grey", "grey")])
def test_agreement_is_part_of_what_is_measured(tmp_path: Path, when: str, rule: str) -> None:
    """The companion is asked too, and the curve is of the joint rule: `always` accepts less and errs less, `grey` accepts more."""
    alone = run(task(wrote(tmp_path), range(600)))
    joint = run(task(wrote(tmp_path, accept=f", agrees_with: {{rung: second, when: {when}}}"), range(600)))
    assert table(joint)["rule"] == f"confidence+agrees:second@{rule}"
    assert ASKED["second"] == 600
    assert joint.measured.scorer is not None
    assert tuple(joint.measured.scorer.names) == NAMES
    both, one = joint.measured.curve[0], alone.measured.curve[0]
    if when == "always":
        assert both.coverage < one.coverage
        assert both.error < one.error / 2
    else:
        assert joint.measured.curve[-1].coverage > 0.5  # what agrees is accepted at any threshold
        assert both.coverage == one.coverage


WEIGHED = ", agrees_with: {rung: second, when: weighed}"


def told_by(scorer: Scorer, number: int, second: Second | None) -> float | None:
    """What a file's scorer makes of an answer beside a second one."""
    label = says("one", number)
    draft = Draft(text=f'{{"label":"{label}"}}', finish="stop", logprobs=tokens(label, sureness("one", number)))
    return scorer.probability(Evidence(draft, Constraint("schema", SCHEMA), {}, asks(number)["messages"], second))


def test_a_second_answer_is_weighed(tmp_path: Path) -> None:
    """What another model says, and how sure it is of that, makes right and wrong answers easier to tell apart: more is accepted at the same
    risk. That one is only ever evidence: the curve's last point accepts all, and without it nobody knows."""
    risk = {"risk": 0.01}
    alone = run(task(wrote(tmp_path), range(1600), **risk))
    joint = run(task(wrote(tmp_path, second=", own: true", accept=WEIGHED), range(1600), **risk))
    file = read_file(joint.path)
    assert file.rule == "confidence+agrees:second@weighed"
    assert file.companion == ("second", "second", "")
    assert file.scorer is not None
    assert tuple(file.scorer.names) == NAMES + SECOND
    assert joint.measured.auroc is not None
    assert alone.measured.auroc is not None
    assert joint.measured.auroc > alone.measured.auroc + 0.02
    assert joint.measured.curve[0].coverage == alone.measured.curve[0].coverage == 1.0
    assert joint.measured.step is not None
    least = alone.measured.step.coverage if alone.measured.step is not None else 0.0
    assert joint.measured.step.coverage > least + 0.05

    found = file.threshold(0.01)
    assert found is not None
    fresh, accepted = range(10_000, 13_000), []
    for number in fresh:
        second = Second(says("one", number) == says("second", number), sureness("second", number))
        known = told_by(file.scorer, number, second)
        assert known is not None
        accepted += [number] if known >= found else []
        assert number > 10_020 or told_by(file.scorer, number, None) is None
    assert sum(says("one", number) != truth(number) for number in accepted) / len(fresh) <= 0.01
    assert len(accepted) / len(fresh) > least + 0.05
    unlike = [n for n in fresh if says("one", n) != says("second", n)]
    assert any(n in unlike for n in accepted)  # a disagreement alone rejects nothing


def test_what_the_second_says_counts_without_its_probability(tmp_path: Path) -> None:
    """A second model that does not say how sure it is still agrees or does not."""
    joint = run(task(wrote(tmp_path, accept=WEIGHED), range(800)))
    scorer = read_file(joint.path).scorer
    assert scorer is not None
    same, other = told_by(scorer, 10_000, Second(True, None)), told_by(scorer, 10_000, Second(False, None))
    assert same is not None
    assert other is not None
    assert same > other + 0.2


def test_without_the_second_answer_nothing_is_accepted(tmp_path: Path) -> None:
    """What the second model cannot answer, or answers in a bad form, is never accepted, and said to be unknown."""
    second = f", own: true, invalid: {list(range(100))}, unsupported: {list(range(100, 200))}"
    done = run(task(wrote(tmp_path, second=second, accept=WEIGHED), range(1000)))
    assert done.measured.unknown == pytest.approx(0.2, abs=0.05)
    assert done.measured.curve[0].coverage == pytest.approx(1 - done.measured.unknown)
    assert any("no second answer to be weighed with" in note for note in done.notes)


KNOWS = Scorer(("agrees",), (0.0,), (1.0,), (2.0,), 0.0)


@pytest.mark.parametrize(
    ("second", "rest", "expected"),
    [
        (Second(True, 0.9), {}, 1 / (1 + math.exp(-2))),
        (Second(False, 0.9), {}, 0.5),
        (None, {}, NEVER),
        (Second(True, 0.9), {"valid": False}, NEVER),
        (Second(True, 0.9), {"effect": "never"}, NEVER),
        (Second(True, 0.9), {"effect": "agree"}, 1 / (1 + math.exp(-2))),
        (Second(False, 0.9), {"effect": "agree"}, NEVER),
    ],
)
def test_the_score_of_what_is_weighed(second: Second | None, rest: dict[str, Any], expected: float) -> None:
    """The one probability that the line compares too, disagreement or not; none where it can never be accepted."""
    draft = Draft(text='{"label":"a"}', finish="stop", logprobs=tokens("a", 0.9))
    evidence = Evidence(draft, Constraint("schema", SCHEMA), {}, (), second)
    sample = Sample([evidence], **{"valid": True, "agrees": second is not None and second.agrees, **rest})
    assert score(sample, KNOWS, "weighed") == pytest.approx(expected)


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"slm": ", own: true"}, "'slm' says a probability of its own.*write `when: always` or `when: grey`"),
        (
            {"second": f", unsupported: {list(range(300))}"},
            "routes.labels.accept.agrees_with. answered none of the 300 requests: not this one",
        ),
        ({"slm": ", blind: true"}, "no answer has log-probabilities"),
    ],
)
def test_what_cannot_be_weighed_is_refused(tmp_path: Path, parts: dict[str, str], why: str) -> None:
    """A rung with a probability of its own, and a second model that never answers: said, and no file is written."""
    with pytest.raises(ValueError, match=why):
        run(task(wrote(tmp_path, accept=WEIGHED, **parts), range(300)))
    assert not list((tmp_path / "calibration").glob("*.json"))


def test_two_runs_give_the_same(tmp_path: Path) -> None:
    """The split hangs on the seed and the requests only, not on their order."""
    path = wrote(tmp_path)
    one = table(run(task(path, range(300))))
    backwards = read(b"\n".join(reversed(lines(range(300)).splitlines())), name="d", model="weir")
    done = run(task(path, cases=backwards))
    assert {c.asked.query.text for c in done.cases if c.part == "fit"} == {
        c.asked.query.text for c in run(task(path, range(300))).cases if c.part == "fit"
    }
    other = run(task(path, range(300), seed=1))
    assert table(other)["curve"] != one["curve"]


def test_a_fitting_file_of_its_own(tmp_path: Path) -> None:
    """`--fit`: then all the other lines test."""
    fitting = read(lines(range(200)), name="f", model="weir", part="fit")
    testing = read(lines(range(200, 300)), name="d", model="weir", part="test")
    done = run(task(wrote(tmp_path), cases=[*fitting, *testing]))
    assert (done.measured.n, done.measured.n_fit) == (100, 200)


def test_progress_is_told(tmp_path: Path) -> None:
    """From what was known to all."""
    seen: list[tuple[int, int]] = []
    asyncio.run(calibrate(task(wrote(tmp_path), range(200)), lambda done, total: seen.append((done, total))))
    assert (seen[0], seen[-1]) == ((0, 200), (200, 200))


def test_early_starts_waste_no_more_than_they_say(tmp_path: Path) -> None:
    """An early start is thrown away when the answer is accepted after all. Whether it would be is said by what is fitted on others; so of
    the fitting part the share is the named one, but for chance."""
    done = run(task(wrote(tmp_path), range(1000)))
    outlook, scorer, threshold = done.measured.outlook, done.measured.scorer, done.measured.threshold
    assert outlook is not None
    assert scorer is not None
    assert threshold is not None
    fitted = [int(c.asked.query.text) for c in done.cases if c.part == "fit"]
    for waste, at in outlook.starts.items():
        doubts = {n: outlook.doubt(outlook.before(str(n)), math.log(sureness("one", n))) for n in fitted}
        wasted = [n for n in fitted if doubts[n] >= at and sure(scorer, n) >= threshold]
        assert len(wasted) / len(fitted) <= float(waste) + 0.02
