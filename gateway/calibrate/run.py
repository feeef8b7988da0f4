"""`weir calibrate` of one rung, from labelled requests to the file. Asks only that rung (and the one that must agree), never the top."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import Struct, structs

from gateway.aside import call_of, check, twin
from gateway.calibrate.collect import Answer, Away, Kept, Progress, collect, key_of
from gateway.calibrate.file import COMMON, About, answers_of, data_digest, table, write
from gateway.calibrate.labelled import Case, llm_right, right
from gateway.calibrate.measure import Measured, Sample, feasible, measure
from gateway.calls import ask_of, canonical_of, fitted
from gateway.confidence import CalibrationError, Evidence, Second
from gateway.confidence.outlook import spoken
from gateway.confidence.parting import said as said_by
from gateway.confidence.watch import grown
from gateway.decide import Route, Rung
from gateway.escalate import effect
from gateway.outgoing import render, template_for
from gateway.promise import Engine, engine, read, rule_of, stored, unfit
from gateway.setup import Setup
from gateway.story import Story
from gateway.weighed import second_of
from wire.types import Draft

MOST_AWAY = 0.05
"""Share of the requests that a server which is overloaded or away may leave without an answer; they count as not accepted."""


class Task(Struct, frozen=True):
    """One rung to calibrate under one route."""

    setup: Setup
    route: str
    rung: str
    cases: Sequence[Case]
    risk: float
    confidence: float
    folder: Path
    fit_share: float = 0.5
    seed: int = 0
    in_flight: int = 16
    ask: str = ""
    """The backend that is asked in the rung's place: the one that will stand behind it. "": its own."""


class Done(Struct, frozen=True):
    path: Path
    measured: Measured
    cases: Sequence[Case]
    """With the part that each was used in."""
    notes: Sequence[str] = ()
    """What a reader should know before believing it."""


def small_rungs(setup: Setup, route: str) -> list[str]:
    """Backends on the route's ladder that have to prove themselves."""
    ladder = setup.settings.routes[route].ladder
    return list(ladder[:-1])


async def calibrate(task: Task, progress: Progress = lambda done, total: None) -> Done:
    """Raises Infeasible, Away, ValueError, wire.errors.Unavailable, OSError."""
    route = _whole(task)
    rung = task.setup.rungs[task.ask or task.rung]
    stories = [twin(task.setup, case.asked, f"calibrate-{at}", route) for at, case in enumerate(task.cases)]
    feasible(len(task.cases), task.risk, task.confidence, fit_share=0.0)
    for name in {rung.name, *((route.companion.name,) if route.companion else ())}:
        await look(task.setup, name)
    who = engine_now(task.setup, rung.name)
    answers = await _asked(task, stories, rung, who, progress)
    own = any(draft.probability is not None for answer in answers if answer for draft in answer.drafts)
    if own and route.agreement == "weighed":
        raise ValueError(
            f"'{rung.name}' says a probability of its own, and only log-probabilities can be weighed with a second answer: write `when: "
            f"always` or `when: grey` in routes.{task.route}.accept.agrees_with"
        )
    parts = ["test"] * len(stories) if own else _parts(task, [key_of(call_of(story, rung)) for story in stories])
    feasible(parts.count("test"), task.risk, task.confidence, fit_share=0.0 if own else task.fit_share)
    companion = route.companion
    second: Sequence[Answer | None] = [None] * len(stories)
    if companion is not None:
        second = await _asked(task, stories, companion, engine_now(task.setup, companion.name), progress)
        if not any(answer.drafts for answer in second if answer):
            why = Counter(answer.message for answer in second if answer).most_common(1)
            raise ValueError(
                f"'{companion.name}' (routes.{task.route}.accept.agrees_with) answered none of the {len(second)} requests"
                + (f": {why[0][0]}" if why else "")
            )
    samples = [
        await sample_of(story, case, rung, answer, companion, other)
        for story, case, answer, other in zip(stories, task.cases, answers, second, strict=True)
    ]
    measured = measure(
        _of(samples, parts, "fit", stories, task.seed),
        _of(samples, parts, "test", stories, task.seed),
        risk=task.risk,
        confidence=task.confidence,
        agreement=route.agreement,
        risks=COMMON,
    )
    about = About(
        route=task.route,
        rung=task.rung,
        engine=engine_now(task.setup, rung.name),
        rule=rule_of(task.setup.settings.routes[task.route]),
        weir=task.setup.version,
        data=data_digest(task.cases),
        second=engine_now(task.setup, companion.name) if companion is not None else None,
    )
    path = write(task.folder, about, table(about, measured, task.setup.now()))
    kept = task.cases if own else [structs.replace(c, part=p) for c, p in zip(task.cases, parts, strict=True)]
    return Done(path, measured, kept, _notes(task, measured, answers, second if companion else ()))


def _whole(task: Task) -> Route:
    """The route with its whole ladder, also where a rung has fallen to shadow."""
    ladder = tuple(task.setup.rungs[name] for name in task.setup.settings.routes[task.route].ladder)
    return structs.replace(task.setup.routes[task.route], ladder=ladder)


async def look(setup: Setup, backend: str) -> None:
    """A backend that learns from its server which model it serves asks it now, so that its `digest` says so."""
    ask = getattr(setup.backends[backend], "look", None)
    if ask is not None:
        await ask()


def engine_now(setup: Setup, backend: str) -> Engine:
    """What answers now: a backend may have learnt its digest from its server since the Setup was built."""
    asked = setup.backends[backend]
    digest = str(getattr(asked, "digest", "") or setup.rungs[backend].digest)
    return engine(asked, setup.settings.backends[backend], digest)


async def _asked(
    task: Task, stories: Sequence[Story], rung: Rung, who: Engine, progress: Progress
) -> list[Answer | None]:
    """Raises Away when the server was away too often."""
    kept = Kept(answers_of(task.folder, task.route, rung.name, who.digest))
    answers = await collect(stories, rung, kept, in_flight=task.in_flight, progress=progress)
    away = sum(answer is None for answer in answers)
    if away > MOST_AWAY * len(answers):
        raise Away(
            f"'{rung.name}' did not answer {away} of {len(answers)} requests (overloaded, or away). What it answered is kept in "
            f"{kept.path}: run the same command again"
        )
    return answers


def _parts(task: Task, keys: Sequence[str]) -> list[str]:
    """fit or test for each case. As the lines say where any of them does; else drawn by `seed`, equal requests together."""
    if any(case.part for case in task.cases):
        return [case.part or "test" for case in task.cases]
    shuffled = sorted(set(keys), key=lambda key: _shuffle(task.seed, key))
    fitting = set(shuffled[: round(task.fit_share * len(shuffled))])
    return ["fit" if key in fitting else "test" for key in keys]


def _shuffle(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{key}".encode()).digest()


def _of(
    samples: Sequence[Sample], parts: Sequence[str], part: str, stories: Sequence[Story], seed: int
) -> list[Sample]:
    """The samples of one part, in an order that means nothing: folds are made by position."""
    mine = [at for at, it in enumerate(parts) if it == part]
    return [samples[at] for at in sorted(mine, key=lambda at: _shuffle(seed, f"{part}{at}"))]


async def sample_of(
    story: Story, case: Case, rung: Rung, answer: Answer | None, companion: Rung | None, other: Answer | None
) -> Sample:
    """What came of one labelled request. companion, other: the second small model and what it said."""
    ask = ask_of(story, rung)
    constraint = ask.constraint
    tools = {name: tool.parameters for name, tool in ask.tools.items()}
    opinion = llm_right(case, constraint, tools)
    if answer is None or not answer.drafts:
        return Sample(llm=opinion)
    verdict, _ = await check(story, rung, answer.drafts, soft=False)
    said = canonical_of(story, rung, answer.drafts)
    second: Second | None = None
    if companion is not None and other is not None and other.drafts:
        passed, _ = await check(story, companion, other.drafts, soft=False)
        second = second_of(said, canonical_of(story, companion, other.drafts), other.drafts, passed)
    weighed = second if story.plan.agreement == "weighed" else None
    first = answer.drafts[0]
    told = said_by(other.drafts[0]) if weighed is not None and other is not None else ()
    falls, parted = grown(first, told)
    return Sample(
        evidence=[Evidence(draft, constraint, tools, ask.messages, weighed) for draft in answer.drafts],
        valid=verdict.passed,
        right=any(right(case, draft, constraint, tools) for draft in _readings(story, rung, first)),
        llm=opinion,
        agrees=(second is not None and second.agrees) if companion is not None else None,
        effect=effect(fitted(story), [call.name for draft in answer.drafts for call in draft.tool_calls]),
        text=story.asked.query.text,
        falls=falls,
        spoken=spoken(told),
        parted=parted,
    )


def _readings(story: Story, rung: Rung, draft: Draft) -> list[Draft]:
    """The answer, and as the caller would read it where the route renders it."""
    template = template_for(story, rung)
    if template is None:
        return [draft]
    return [draft, structs.replace(draft, text=render(template, draft.text))]


def _notes(
    task: Task, measured: Measured, answers: Sequence[Answer | None], second: Sequence[Answer | None]
) -> list[str]:
    settings = task.setup.settings.routes[task.route]
    notes: list[str] = []
    unknown = measured.n - measured.llm_known
    if unknown:
        notes.append(
            f"for {unknown} of {measured.n} requests nobody says what '{settings.ladder[-1]}' would have answered (`llm`): it is taken to "
            "be right"
        )
    away = sum(answer is None for answer in (*answers, *second)) if answers else 0
    if away:
        notes.append(f"{away} requests had no answer, as a server was overloaded or away: counted as not accepted")
    if measured.unknown:
        weighed = settings.accept.agrees_with is not None and settings.accept.agrees_with.when == "weighed"
        lack = "log-probabilities, or no second answer to be weighed with" if weighed else "log-probabilities"
        notes.append(f"{measured.unknown:.1%} of the answers have no {lack}: never accepted")
    beyond = [key for key in ("repair", "self_consistency") if getattr(settings.accept, key)]
    if beyond:
        notes.append(f"{' and '.join(beyond)} of the route is not in what was measured: the promise does not cover it")
    return notes


# --- again ------------------------------------------------------------------------------------------------------------------------


def holding(setup: Setup, route: str, rung: str, folder: Path, ask: str = "") -> Path | None:
    """The calibration in `folder` that holds for what stands behind the rung (or `ask`) now."""
    who, settings = engine_now(setup, ask or rung), setup.settings.routes[route]
    agrees = settings.accept.agrees_with
    second = engine_now(setup, agrees.rung) if agrees is not None else None
    for path in stored(folder, route, rung):
        with suppress(OSError, CalibrationError):
            if not unfit(read(path), who, rule_of(settings), second):
                return path
    return None


def terms(setup: Setup, route: str, rung: str, folder: Path) -> tuple[float | None, float | None]:
    """Risk and confidence: the route's own risk, else what the last calibration of the rung was made for."""
    risk = setup.settings.routes[route].accept.risk
    for path in stored(folder, route, rung):
        with suppress(OSError, CalibrationError):
            last = read(path)
            return risk if risk is not None else last.risk, last.confidence
    return risk, None
