"""SNIPS tool calls by the generative specialist (models/snips) behind a real vLLM: `snips.*` (promise.py says what the figures are).

Fitted on a quarter of the 1,400 withheld training utterances and the 350 of the development set; certified on the other 1,050 and half of
validate; applied to the other half of validate, which chooses nothing. Exact match is over all 700 of validate, and per slot in the notes.
The LLM counts as right.

A tagger (models/snips-tagger) answers beside it and is weighed; `snips.alone.*` are without it. AUROC and ECE are over all 700 too: nothing
of validate fitted the probability. `snips.ece_noise` is the ECE that so many answers show on average when their probabilities are exactly
right: 15 bins of 47 are noise to that height.

    full run    asks vLLM for all of them with log-probabilities and keeps what it said in results/snips.answers.jsonl.gz, with the model's
                digest; then lets the whole gateway answer 10,000 requests, streamed and not, and reads every answer as JSON
    --quick     scores the kept answers again, with what the product now makes of them
"""

import asyncio
import gzip
import tempfile
from collections import Counter
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
from msgspec import Struct
from msgspec.structs import replace

from benchmarks import report
from benchmarks.quality import _dialects, _engine, _house, promise
from benchmarks.quality._bfcl_data import Spoken
from benchmarks.quality._oracle import oracle
from benchmarks.quality.parts import NotRun, Part
from embed.manifest import Folder
from gateway.aside import call_of, twin
from gateway.calibrate.collect import Kept, collect, key_of
from gateway.calibrate.file import answers_of
from gateway.calibrate.labelled import Case, read
from gateway.calibrate.measure import Measured, Sample, measure, score, sure
from gateway.calibrate.run import Task, calibrate, engine_now, look, sample_of
from gateway.demo import server
from gateway.fitting import auroc, ece
from gateway.log import Log
from gateway.setup import Setup
from gateway.validators.fits_schema import validator
from models.rebuild.snips import FOLDER, data
from models.rebuild.snips.data import Utterance
from models.rebuild.snips.scores import Call, exact, slots
from wire.hashing import canonical

ANSWERS = report.RESULTS / "snips.answers.jsonl.gz"
"""First line: {"model": digest of models/snips}; then the answers, as `weir calibrate` keeps them."""
NOWHERE = "http://127.0.0.1:9"
JSON_ANSWERS = 10_000
PARALLEL = 32
GOALS = promise.goals("snips", exact_match=">= 0.75", auroc=">= 0.92 (aim 0.95)", ece="<= 0.03")


class Scored(Struct, frozen=True):
    """What came of the specialist's answers."""

    measured: Measured
    alone: Measured
    """The same without the tagger beside it."""
    certify: Sequence[Sample]
    test: Sequence[Sample]
    validate: Sequence[Sample]
    """All 700."""


def parts() -> dict[str, tuple[Utterance, ...]]:
    """fit, certify, test. The splits stand intent by intent, so every second one is an even sample. What stands in fit or test does not
    certify."""
    split = data.splits()
    withheld, validate = split["withheld"], split["validate"]
    fit, test = (*split["development"], *withheld[::4]), validate[1::2]
    elsewhere = {u.text.casefold() for u in (*fit, *test)}
    rest = (*(utterance for at, utterance in enumerate(withheld) if at % 4), *validate[::2])
    return {"fit": fit, "certify": tuple(u for u in rest if u.text.casefold() not in elsewhere), "test": test}


async def scored(config: Path, *, kept: bool, live: bool = False) -> Scored:
    """Ask, or score what is kept, as `weir calibrate` does. config: its folder gets the calibration. live: engines stand behind the rungs,
    and the calibration is for what they say that they serve."""
    from gateway.app import Resources, build
    from gateway.settings.load import load

    loaded = load(config)
    resources = Resources(loaded.folder)
    setup = build(loaded, resources)
    await resources.open()
    try:
        await resources.workers(Log(off=True), set())
        if live:
            await look(setup, "snips")
        place = answers_of(loaded.calibrations, "snips", "snips", engine_now(setup, "snips").digest)
        if kept:
            _unpack(place)
        mine = parts()
        cases = [*_cases(mine["fit"], "fit"), *_cases(mine["certify"], "test")]
        task = Task(
            setup, "snips", "snips", cases, _house.RISK, promise.CONFIDENCE, loaded.calibrations, in_flight=PARALLEL
        )
        done = await calibrate(task)
        fit = await _samples(setup, _cases(mine["fit"]), place)
        certify = await _samples(setup, _cases(mine["certify"]), place)
        validate = await _samples(setup, _cases(data.splits()["validate"]), place)
        if not kept:
            _keep(place)
        alone = measure(_alone(fit), _alone(certify), risk=_house.RISK, confidence=promise.CONFIDENCE)
        return Scored(done.measured, alone, certify, validate[1::2], validate)
    finally:
        await resources.close()


def _unpack(place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"\n".join(kept_answers()) + b"\n")


def _keep(place: Path) -> None:
    lines = orjson.dumps({"model": digest()}) + b"\n" + place.read_bytes()
    ANSWERS.write_bytes(gzip.compress(lines, 9, mtime=0))


def digest() -> str:
    return Folder(FOLDER).manifest.digest


def keys(utterances: Sequence[Utterance]) -> list[str]:
    """Under which the answers to them are kept: what would be sent is hashed, wherever it would be sent to."""
    from gateway.app import Resources, build
    from gateway.settings.load import load

    with tempfile.TemporaryDirectory(prefix="weir-snips-") as place:
        loaded = load(_house.config(Path(place), NOWHERE, NOWHERE, tend=False))
        setup = build(loaded, Resources(loaded.folder))
    stories = [twin(setup, case.asked, "key", setup.routes["snips"]) for case in _cases(utterances)]
    return [key_of(call_of(story, setup.rungs["snips"])) for story in stories]


def kept_answers() -> list[bytes]:
    """What the last full run kept, a line an answer. Raises NotRun when that was another model's."""
    lines = gzip.decompress(ANSWERS.read_bytes()).splitlines() if ANSWERS.exists() else []
    if not lines or orjson.loads(lines[0])["model"] != digest():
        raise NotRun(f"{ANSWERS.name} holds no answers of this model: run `snips` without --quick first")
    return lines[1:]


def _cases(utterances: Sequence[Utterance], part: str = "") -> list[Case]:
    return read(b"\n".join(_house.lines(tuple(utterances), part)), name="snips", model="route/snips")


async def _samples(setup: Setup, cases: Sequence[Case], place: Path) -> list[Sample]:
    rung, tagger, route = setup.rungs["snips"], setup.rungs["tagger"], setup.routes["snips"]
    stories = [twin(setup, case.asked, f"snips-{at}", route) for at, case in enumerate(cases)]
    answers = await collect(stories, rung, Kept(place), in_flight=PARALLEL)
    second = await collect(stories, tagger, Kept(place.with_name("tagger.answers.jsonl")), in_flight=PARALLEL)
    return [
        await sample_of(story, case, rung, answer, tagger, other)
        for story, case, answer, other in zip(stories, cases, answers, second, strict=True)
    ]


def _alone(samples: Sequence[Sample]) -> list[Sample]:
    """As if nobody had answered beside it."""
    return [replace(one, evidence=[replace(e, second=None) for e in one.evidence], agrees=None) for one in samples]


def _call(sample: Sample) -> Call:
    calls = sample.evidence[0].draft.tool_calls if sample.evidence else ()
    try:
        return (calls[0].name, orjson.loads(calls[0].arguments)) if len(calls) == 1 else ("", {})
    except orjson.JSONDecodeError:
        return "", {}


# --- 10,000 answers through the gateway ---------------------------------------------------------------------------------------------


class Invalid(Struct):
    """How many answers were read, by the rung that served, and which were no valid call."""

    served: Counter[str]
    wrong: list[str]


async def invalid(config: Path, folder: Path, utterances: Sequence[Utterance], count: int) -> Invalid:
    """Let the gateway answer `count` requests, every second one streamed."""
    compiled = {
        tool["function"]["name"]: validator(canonical(tool["function"]["parameters"]), True) for tool in data.tools()
    }
    found = Invalid(Counter(), [])
    async with (
        server.serving(config, folder / "gateway.log") as served,
        httpx.AsyncClient(base_url=served.url, timeout=120, trust_env=False) as client,
    ):
        todo = iter(enumerate(islice(cycle(utterances), count)))

        async def work() -> None:
            for number, utterance in todo:
                body = {**data.request(utterance), "stream": bool(number % 2)}
                answer = await client.post("/v1/chat/completions", json=body)
                found.served[answer.headers.get("x-weir-rung", "none")] += 1
                why = _unreadable(answer, bool(number % 2), compiled)
                if why:
                    found.wrong.append(f"{number}: {why}")

        async with asyncio.TaskGroup() as group:
            for _ in range(PARALLEL):
                group.create_task(work())
    return found


def _unreadable(answer: httpx.Response, stream: bool, compiled: dict[str, Any]) -> str:
    """Why an answer is no call of one of the functions with arguments that fit; "" when it is."""
    if answer.status_code != 200:
        return f"status {answer.status_code}"
    try:
        spoken: Spoken = _dialects.read(_dialects.DIALECTS["chat"], stream, answer.content)
    except _dialects.Broken as exc:
        return str(exc)
    if len(spoken.calls) != 1 or spoken.calls[0][0] not in compiled:
        return f"{len(spoken.calls)} calls"
    name, arguments = spoken.calls[0]
    return "arguments do not fit" if compiled[name].first_break(arguments) else ""


# --- the part ---------------------------------------------------------------------------------------------------------------------


def part(found: Scored, wrong: int, *, quick: bool) -> Part:
    wanted: list[Call] = [(u.intent, data.arguments(u)) for u in data.splits()["validate"]]
    calls = [_call(sample) for sample in found.validate]
    made = promise.table(
        "snips",
        _scored(found, found.certify),
        _scored(found, found.test),
        wrong,
        quick=quick,
        title="SNIPS tool calls: 350 of validate, certified on others",
        exact_match=exact(calls, wanted),
    )
    probability = [sure(sample, found.measured.scorer) or 0.0 for sample in found.validate]
    right = [sample.right for sample in found.validate]
    per_slot = slots(calls, wanted)
    figures = {
        **made.figures,
        "snips.auroc_test": made.figures["snips.auroc"],
        "snips.ece_test": made.figures["snips.ece"],
        "snips.auroc": auroc(probability, right),
        "snips.ece": ece(probability, right),
        "snips.ece_noise": _noise(probability),
        "snips.slot_f1": per_slot["all"].f1,
        "snips.crc_share": _crc_share(found),
        **_without(found),
    }
    notes = {
        "specialist": digest(),
        "slots": {name: {"f1": round(one.f1, 4), "n": one.n} for name, one in per_slot.items()},
        "fitted_on": found.measured.n_fit,
        **made.notes,
    }
    return replace(made, figures=figures, notes=notes)


def _without(found: Scored) -> dict[str, float]:
    """The confidence by the specialist's own tokens only, and how often it and the tagger say the same."""
    scorer, at = found.alone.scorer, found.alone.threshold
    probability = [sure(sample, scorer) or 0.0 for sample in _alone(found.validate)]
    right = [sample.right for sample in found.validate]
    scores = [score(sample, scorer, "") for sample in _alone(found.test)]
    same = [sample.right for sample in found.validate if sample.agrees]
    return {
        "snips.alone.auroc": auroc(probability, right),
        "snips.alone.ece": ece(probability, right),
        "snips.alone.local_share_at_2pct": sum(at is not None and one >= at for one in scores) / len(scores),
        "snips.agree_share": len(same) / len(right),
        "snips.agree_right": sum(same) / len(same),
    }


def _noise(probability: Sequence[float], draws: int = 2_000) -> float:
    """Mean ECE of `draws` seeded sets of answers that are right exactly as often as `probability` says."""
    chance, p = np.random.default_rng(1), np.array(probability)
    return float(np.mean([ece(p, chance.random(len(p)) < p) for _ in range(draws)]))


def _scored(found: Scored, samples: Sequence[Sample]) -> promise.Scored:
    """As the route compares with its threshold; what can never be accepted is at 0."""
    scores = [max(0.0, score(sample, found.measured.scorer, "")) for sample in samples]
    return promise.Scored(np.array(scores), np.array([sample.right for sample in samples]))


def _crc_share(found: Scored) -> float:
    """The share of `test` from the threshold of conformal risk control, which bounds the mean risk only."""
    at = found.measured.crc[f"{_house.RISK:g}"]
    taken = _scored(found, found.test).probability >= at if at is not None else np.zeros(1)
    return float(taken.mean())


def run(quick: bool = False) -> Part:
    """See the module. Raises NotRun without vLLM; with --quick without kept answers of this model."""
    if quick:
        with tempfile.TemporaryDirectory(prefix="weir-snips-") as name:
            config = _house.config(Path(name), NOWHERE, NOWHERE, tend=False)
            return part(asyncio.run(scored(config, kept=True)), _kept_invalid(), quick=True)
    return asyncio.run(_full())


async def _full() -> Part:
    split = data.splits()
    everything = (*split["validate"], *split["withheld"], *split["development"], *split["train"])
    with tempfile.TemporaryDirectory(prefix="weir-snips-") as name:
        folder = Path(name)
        async with (
            _engine.serving(FOLDER, folder / "vllm.log") as small,
            oracle(_house.oracle_answers(everything)) as large,
        ):
            config = _house.config(folder, small, large.url)
            found = await scored(config, kept=False, live=True)
            read_back = await invalid(config, folder, everything, JSON_ANSWERS)
    made = part(found, len(read_back.wrong), quick=False)
    notes = {
        **made.notes,
        "json_answers": dict(read_back.served),
        "invalid": read_back.wrong[:10],
        "large": "scripted, always right",
    }
    return replace(made, notes=notes)


def _kept_invalid() -> int:
    """The last full run's: answers of a gateway are not kept."""
    place = report.RESULTS / "quality.json"
    found = orjson.loads(place.read_bytes())["figures"] if place.exists() else {}
    if "snips.invalid_json" not in found:
        raise NotRun("no full run has read answers as JSON yet")
    return int(found["snips.invalid_json"])
