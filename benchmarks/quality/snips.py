"""SNIPS tool calls by the generative specialist (models/snips) behind a real vLLM: `snips.*` (promise.py says what the figures are).

Fitted on half of the 1,400 withheld training utterances; certified on the other half and half of validate; applied once to the other half
of validate, which is used for nothing else. Exact match is over all 700 of validate, and per slot in the notes. The LLM counts as right.

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
from gateway.aside import twin
from gateway.calibrate.collect import Kept, collect
from gateway.calibrate.file import answers_of
from gateway.calibrate.labelled import Case, read
from gateway.calibrate.measure import Measured, Sample, score
from gateway.calibrate.run import Task, calibrate, engine_now, look, sample_of
from gateway.demo import server
from gateway.setup import Setup
from gateway.validators.fits_schema import validator
from models.rebuild.snips import FOLDER, data
from models.rebuild.snips.data import Utterance
from models.rebuild.snips.scores import Call, exact, slots
from wire.hashing import canonical

ANSWERS = report.RESULTS / "snips.answers.jsonl.gz"
"""First line: {"model": digest of models/snips}; then the answers, as `weir calibrate` keeps them."""
JSON_ANSWERS = 10_000
PARALLEL = 32
GOALS = promise.goals("snips", exact_match=">= 0.75", auroc=">= 0.92 (aim 0.95)", ece="<= 0.03")


class Scored(Struct, frozen=True):
    """What came of the specialist's answers."""

    measured: Measured
    certify: Sequence[Sample]
    test: Sequence[Sample]
    calls: Sequence[Call]
    """What it said to all of validate."""


def parts() -> dict[str, tuple[Utterance, ...]]:
    """fit, certify, test. Both splits stand intent by intent, so every second one is an even sample."""
    split = data.splits()
    withheld, validate = split["withheld"], split["validate"]
    return {"fit": withheld[::2], "certify": (*withheld[1::2], *validate[::2]), "test": validate[1::2]}


async def scored(config: Path, kept: Path | None) -> Scored:
    """Ask, or score what is kept, as `weir calibrate` does. config: its folder gets the calibration."""
    from gateway.app import Resources, build
    from gateway.settings.load import load

    loaded = load(config)
    resources = Resources(loaded.folder)
    setup = build(loaded, resources)
    await resources.open()
    try:
        if kept is None:
            await look(setup, "snips")
        folder = loaded.calibrations
        place = answers_of(folder, "snips", "snips", engine_now(setup, "snips").digest)
        if kept is not None:
            _unpack(kept, place)
        mine = parts()
        calibration = [*_cases(mine["fit"], "fit"), *_cases(mine["certify"], "test")]
        done = await calibrate(
            Task(setup, "snips", "snips", calibration, _house.RISK, promise.CONFIDENCE, folder, in_flight=PARALLEL)
        )
        validate = data.splits()["validate"]
        said = await _samples(setup, _cases(validate), place)
        certify = [*(await _samples(setup, _cases(mine["certify"][: len(mine["fit"])]), place)), *said[::2]]
        if kept is None:
            _keep(place)
        return Scored(done.measured, certify, said[1::2], [_call(sample) for sample in said])
    finally:
        await resources.close()


def _unpack(kept: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(gzip.decompress(kept.read_bytes()).partition(b"\n")[2])


def _keep(place: Path) -> None:
    lines = orjson.dumps({"model": digest()}) + b"\n" + place.read_bytes()
    ANSWERS.write_bytes(gzip.compress(lines, 9, mtime=0))


def digest() -> str:
    return Folder(FOLDER).manifest.digest


def _cases(utterances: Sequence[Utterance], part: str = "") -> list[Case]:
    return read(b"\n".join(_house.lines(tuple(utterances), part)), name="snips", model="route/snips")


async def _samples(setup: Setup, cases: Sequence[Case], place: Path) -> list[Sample]:
    rung, route = setup.rungs["snips"], setup.routes["snips"]
    stories = [twin(setup, case.asked, f"snips-{at}", route) for at, case in enumerate(cases)]
    answers = await collect(stories, rung, Kept(place), in_flight=PARALLEL)
    return [
        await sample_of(story, case, rung, answer, None, None)
        for story, case, answer in zip(stories, cases, answers, strict=True)
    ]


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
    scorer = found.measured.scorer
    wanted: list[Call] = [(u.intent, data.arguments(u)) for u in data.splits()["validate"]]
    certify, test = (
        promise.Scored(
            np.array([max(0.0, score(sample, scorer, "")) for sample in samples]),
            np.array([sample.right for sample in samples]),
        )
        for samples in (found.certify, found.test)
    )
    made = promise.table(
        "snips",
        certify,
        test,
        wrong,
        quick=quick,
        title="SNIPS tool calls: 350 of validate, certified on 1,050 others",
        exact_match=exact(found.calls, wanted),
    )
    per_slot = slots(found.calls, wanted)
    figures = {**made.figures, "snips.slot_f1": per_slot["all"].f1, "snips.crc_share": _crc_share(found)}
    notes = {
        "specialist": digest(),
        "slots": {name: {"f1": round(one.f1, 4), "n": one.n} for name, one in per_slot.items()},
        "fitted_on": found.measured.n_fit,
        **made.notes,
    }
    return replace(made, figures=figures, notes=notes)


def _crc_share(found: Scored) -> float:
    """The share of `test` from the threshold of conformal risk control, which bounds the mean risk only."""
    at = found.measured.crc[f"{_house.RISK:g}"]
    taken = [score(sample, found.measured.scorer, "") >= at for sample in found.test] if at is not None else [False]
    return sum(taken) / len(taken)


def run(quick: bool = False) -> Part:
    """See the module. Raises NotRun without vLLM; with --quick without kept answers of this model."""
    if quick:
        if (
            not ANSWERS.exists()
            or orjson.loads(gzip.decompress(ANSWERS.read_bytes()).split(b"\n")[0])["model"] != digest()
        ):
            raise NotRun(f"{ANSWERS.name} holds no answers of this model: run it without --quick first")
        with tempfile.TemporaryDirectory(prefix="weir-snips-") as name:
            config = Path(name) / "weir.yaml"
            config.write_text(
                _house.CONFIG.format(
                    small="http://127.0.0.1:9", large="http://127.0.0.1:9", folder=name, risk=_house.RISK, more=""
                )
            )
            return part(asyncio.run(scored(config, ANSWERS)), _kept_invalid(), quick=True)
    return asyncio.run(_full())


async def _full() -> Part:
    split = data.splits()
    everything = (*split["validate"], *split["withheld"], *split["development"], *split["train"])
    with tempfile.TemporaryDirectory(prefix="weir-snips-") as name:
        folder = Path(name)
        config = folder / "weir.yaml"
        async with _engine.serving(folder / "vllm.log") as small, oracle(_house.oracle_answers(everything)) as large:
            config.write_text(
                _house.CONFIG.format(small=small, large=large.url, folder=folder, risk=_house.RISK, more="")
            )
            found = await scored(config, None)
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
