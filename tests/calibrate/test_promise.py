"""A finished calibration takes effect in a running gateway, holds for its model and rule only, and without one a rung is in shadow."""

import asyncio
from math import inf
from pathlib import Path
from typing import Any

import orjson
import pytest
from msgspec import json

from gateway.app import Resources, build
from gateway.calibrate.run import calibrate, holding
from gateway.promise import file_of, short
from gateway.settings.load import load
from gateway.setup import Setup
from tests.calibrate.small import ASKED, asks, says, truth
from tests.calibrate.world import built, config, run, task, wrote
from tests.serving import Served, serving
from tests.waiting import until


def rewritten(path: Path, **changed: Any) -> None:
    path.write_bytes(orjson.dumps({**orjson.loads(path.read_bytes()), **changed}))


def warned(setup: Setup) -> str:
    return "\n".join(setup.warnings)


async def ask(served: Served, number: int) -> Any:
    return await served.chat({"model": "weir", **asks(number)})


def test_a_finished_calibration_takes_effect_without_a_restart(tmp_path: Path) -> None:
    """Before: shadow, and /readyz says so. Then the file is there, the gateway reloads, and accepts what the threshold accepts."""

    async def go() -> None:
        async with serving(config(more="shadow: {sample: 1.0}"), tmp_path) as served:
            live = served.app.live
            response = await ask(served, 1)
            assert response.headers["x-weir-rung"] == "llm"
            assert served.record(response).mode == "shadow"
            ready = (await served.client.get("/readyz")).json()
            assert ready["routes"]["labels"]["mode"] == "shadow"
            assert any("`shadow` instead of `enforce` until 'slm' is calibrated" in line for line in ready["warnings"])
            assert any("run `weir calibrate labels`" in line for line in ready["warnings"])

            done = await calibrate(task(served.config, range(1000)))
            await until(lambda: live.setup.routes["labels"].mode == "enforce")
            rung = live.setup.routes["labels"].ladder[0]
            assert rung.threshold == done.measured.threshold
            assert orjson.loads(json.encode(rung.scorer)) == orjson.loads(json.encode(done.measured.scorer))
            assert not [line for line in live.setup.warnings if "slm" in line]
            served_by: dict[str, list[int]] = {"slm": [], "llm": []}
            for number in range(5000, 5100):
                response = await ask(served, number)
                record = served.record(response)
                served_by[record.served].append(number)
                assert record.calibration == rung.calibrated
                first = record.attempts[0]
                assert first.probability is not None
                assert rung.threshold is not None
                assert (first.probability >= rung.threshold) == (record.served == "slm")
                wanted = says("one", number) if record.served == "slm" else truth(number)
                assert wanted in response.json()["choices"][0]["message"]["content"]
            assert len(served_by["slm"]) > 60
            assert served_by["llm"]

    asyncio.run(go())


def test_another_model_is_not_trusted_and_recalibrate_asks_it_beside_the_old_one(tmp_path: Path) -> None:
    """The file stays for the old model; the new one gets its own from the same requests, before or after it stands behind the rung."""
    old = run(task(wrote(tmp_path), range(400)))
    assert built(tmp_path / "weir.yaml").routes["labels"].mode == "enforce"

    changed = built(wrote(tmp_path, model="next"))
    assert changed.routes["labels"].mode == "shadow"
    assert "was measured on another model (one) than this is (next)" in warned(changed)
    assert "run `weir recalibrate labels`" in warned(changed)

    path = wrote(tmp_path)
    ASKED.clear()
    beside = run(task(path, range(400), ask="next"))
    assert (ASKED["next"], ASKED["one"]) == (400, 0)
    assert beside.path == file_of(tmp_path / "calibration", "labels", "slm", "next") != old.path
    assert old.path.exists()
    before, after = built(path).routes["labels"], built(wrote(tmp_path, model="next")).routes["labels"]
    assert (before.mode, after.mode) == ("enforce", "enforce")
    assert before.ladder[0].threshold == old.measured.threshold
    assert after.ladder[0].threshold == beside.measured.threshold
    assert holding(built(path), "labels", "slm", tmp_path / "calibration") == beside.path


def test_a_digest_that_the_server_tells_later_outranks_the_names(tmp_path: Path) -> None:
    """Until then the configured names speak for the model; a server that says something else makes the file invalid."""
    run(task(wrote(tmp_path), range(400)))
    loaded = load(tmp_path / "weir.yaml")
    told = build(loaded, Resources(loaded.folder), {"slm": "one"})
    assert told.routes["labels"].mode == "enforce"
    other = build(loaded, Resources(loaded.folder), {"slm": "a1b2"})
    assert (other.routes["labels"].mode, other.rungs["slm"].digest) == ("shadow", "a1b2")


def test_a_server_is_asked_for_its_model_before_it_is_calibrated(tmp_path: Path) -> None:
    """The file is of what answers, not of what the configuration calls it; and that file holds once the digest is known."""
    work = task(wrote(tmp_path), range(400))
    backend: Any = work.setup.backends["slm"]
    backend.digest = ""

    async def look() -> None:
        backend.digest = "feedfeedfeedfeed"

    backend.look = look
    done = run(work)
    assert done.path.name == "labels@slm@feedfeedfeedfeed.json"
    loaded = load(tmp_path / "weir.yaml")
    known = build(loaded, Resources(loaded.folder), {"slm": "feedfeedfeedfeed"})
    assert known.routes["labels"].mode == "enforce"
    assert holding(work.setup, "labels", "slm", tmp_path / "calibration") == done.path


def test_a_running_gateway_hears_of_another_model(tmp_path: Path) -> None:
    """The backend learns a digest from its server: the route is in shadow at the next look, once, and stays there."""
    run(task(wrote(tmp_path), range(400)))

    async def go() -> None:
        async with serving(config(), tmp_path) as served:
            live = served.app.live
            assert live.setup.routes["labels"].mode == "enforce"
            live.setup.backends["slm"].digest = "b0b0"  # type: ignore[attr-defined]
            await until(lambda: live.setup.routes["labels"].mode == "shadow")
            assert live.setup.rungs["slm"].digest == "b0b0"
            now = live.setup
            await asyncio.sleep(0.1)  # five looks
            assert live.setup is now

    asyncio.run(go())


def test_another_rule_is_not_covered(tmp_path: Path) -> None:
    """A curve of the joint rule says nothing about one model alone, and the other way round."""
    done = run(task(wrote(tmp_path), range(400)))
    joint = built(wrote(tmp_path, accept=", agrees_with: second"))
    assert joint.routes["labels"].mode == "shadow"
    assert "measured for the rule `confidence`, and the route accepts by `confidence+agrees:second@always`" in warned(
        joint
    )
    assert done.path.exists()
    both = run(task(tmp_path / "weir.yaml", range(400)))
    again = built(tmp_path / "weir.yaml").routes["labels"]
    assert (again.mode, again.agreement) == ("enforce", "always")
    assert again.companion is not None
    assert again.companion.name == "second"
    rewritten(both.path, companion={"digest": "other", "model": "other", "adapter": ""})
    other = built(tmp_path / "weir.yaml")
    assert other.routes["labels"].mode == "shadow"
    assert "was measured with another second model than agrees now" in warned(other)


def test_what_the_rule_does_not_cover_is_said(tmp_path: Path) -> None:
    """A second try and a vote accept answers that were never measured."""
    run(task(wrote(tmp_path), range(400)))
    text = warned(built(wrote(tmp_path, accept=", repair: 1, self_consistency: {samples: 3}")))
    assert "accept.repair: is not in the rule" in text
    assert "accept.self_consistency: is not in the rule" in text


def test_the_route_takes_over_all_of_the_file(tmp_path: Path) -> None:
    """Scorer, early start at the route's waste, stop, and tools' stricter thresholds from the same curve."""
    tools = "tools: {refund: {risk: 0.02}, wipe: {risk: 0.0001}, look: {local: never}}"
    path = wrote(tmp_path, more=f"speculate: {{waste: 0.04}}\n    {tools}")
    done = run(task(path, range(1000)))
    route = built(path).routes["labels"]
    rung = route.ladder[0]
    outlook = done.measured.outlook
    assert outlook is not None
    assert rung.outlook == outlook
    assert rung.start == outlook.starts["0.05"]  # the largest that wastes no more than twice 0.04
    assert rung.collapsed == done.measured.collapsed
    assert rung.threshold is not None
    refund, wipe, look = (route.tools[name] for name in ("refund", "wipe", "look"))
    assert refund.threshold is not None
    assert refund.threshold > rung.threshold
    assert wipe.threshold == inf
    assert (look.local, look.threshold) == ("never", None)
    assert built(wrote(tmp_path)).routes["labels"].ladder[0].start is None


def test_a_calibration_that_does_not_say_when_to_start_early(tmp_path: Path) -> None:
    """Nothing starts early then, and the way out is named."""
    path = wrote(tmp_path, more="speculate: {waste: 0.04}")
    done = run(task(path, range(1000)))
    done.path.write_bytes(orjson.dumps({**orjson.loads(done.path.read_bytes()), "outlook": None}))
    setup = built(path)
    assert setup.routes["labels"].ladder[0].start is None
    assert "nothing starts early. Run `weir recalibrate labels`" in warned(setup)


def test_a_risk_that_the_curve_cannot_keep(tmp_path: Path) -> None:
    """Nothing is sure then, and the best that could be kept is named."""
    run(task(path := wrote(tmp_path), range(400)))
    path.write_text(path.read_text().replace("risk: 0.05", "risk: 0.0001"))
    setup = built(path)
    assert setup.routes["labels"].ladder[0].threshold is None
    assert "cannot keep a risk of 0.0001: its best is 0.0149" in warned(setup)


def test_a_named_file_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    """The route's own is looked for only where none is named; a broken one is told, and passed over."""
    done = run(task(path := wrote(tmp_path), range(400)))
    named = wrote(tmp_path, accept=f", calibration: calibration/{done.path.name}")
    assert built(named).routes["labels"].mode == "enforce"
    with pytest.raises(Exception, match=r"accept.calibration: .*none.json: No such file"):
        built(wrote(tmp_path, accept=", calibration: none.json"))
    done.path.write_text("{")
    broken = built(wrote(tmp_path))
    assert broken.routes["labels"].mode == "shadow"
    assert "is no JSON" in warned(broken)
    assert path.exists()


def test_nobody_above_keeps_a_rung_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In shadow the top rung would have to answer: where it cannot, an unproven answer is better than none."""
    monkeypatch.delenv("WEIR_TEST_UNSET", raising=False)
    text = config().replace(
        'llm: {kind: "tests.calibrate.small:Top", model: top}',
        'llm: {kind: openai, base_url: "http://127.0.0.1:1/v1", api_key: "${WEIR_TEST_UNSET}"}',
    )
    path = tmp_path / "weir.yaml"
    path.write_text(text)
    assert built(path).routes["labels"].mode == "enforce"
    text = text.replace('api_key: "${WEIR_TEST_UNSET}"', "cloud: true").replace(
        "mode: enforce\n", "mode: enforce\n    egress: local\n", 1
    )
    path.write_text(text)
    assert built(path).routes["labels"].mode == "enforce"


def test_one_uncalibrated_rung_of_several_leaves_the_ladder(tmp_path: Path) -> None:
    """The others go on; it is asked in shadow."""
    path = wrote(tmp_path)
    path.write_text(path.read_text().replace("[slm, llm]", "[second, slm, llm]"))
    run(task(path, range(400)))
    route = built(path).routes["labels"]
    assert route.mode == "enforce"
    assert [rung.name for rung in route.ladder] == ["slm", "llm"]
    assert [rung.name for rung in route.shadowed] == ["second"]


@pytest.mark.parametrize(
    ("digest", "name"),
    [
        ("9b9d8f4199e64c40dec0cf43b5f360604047cad35dfa21d4ff949c1d34283fe9", "9b9d8f4199e64c40"),
        ("Qwen/Qwen3-4B-Instruct-2507", short("Qwen/Qwen3-4B-Instruct-2507")),
    ],
)
def test_names_of_files(digest: str, name: str) -> None:
    """A digest is cut, a name is hashed: it has slashes, and begins like its sisters."""
    assert file_of(Path("c"), "r", "slm", digest) == Path(f"c/r@slm@{name}.json")
    assert len(name) == 16
    assert short(digest + "x") != short(digest) or digest.startswith("9b")
    assert short("Qwen/Qwen3-4B-Instruct-2508") != short("Qwen/Qwen3-4B-Instruct-2507")
