"""Calibrated over the wire: what vLLM's server sends, asked as the line asks it, and the same answers on the line afterwards."""

import asyncio
from pathlib import Path

import orjson

from gateway.app import Resources, build
from gateway.calibrate.labelled import read
from gateway.calibrate.run import Task, calibrate
from gateway.settings.load import load
from tests.backends.upstream import Asked, upstream
from tests.calibrate.small import SCHEMA, asks, says, sureness, tokens
from tests.calibrate.world import lines
from tests.line.world import sse
from tests.serving import serving
from tests.waiting import until

CONFIG = """
backends:
  slm: {{kind: vllm, base_url: "{url}/v1", model: one, probe: false}}
  llm: {{kind: "tests.calibrate.small:Top", model: top}}
router: {{use: {{kind: rules}}, default: labels}}
routes:
  labels: {{ladder: [slm, llm], accept: {{risk: 0.05}}, mode: enforce}}
models: {{weir: routed}}
"""


async def plays(asked: Asked) -> None:
    """The small model as a server, whole or as a stream, log-probabilities included."""
    number = int(asked.json["messages"][-1]["content"])
    label = says("one", number)
    said = tokens(label, sureness("one", number))
    content = "".join(one["token"] for one in said)
    usage = {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}
    if not asked.json.get("stream"):
        message = {"role": "assistant", "content": content}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": {"content": said}}
        await asked.answer(orjson.dumps({"id": "1", "created": 1, "model": "one", "choices": [choice], "usage": usage}))
        return
    pieces = [{"index": 0, "delta": {"content": one["token"]}, "logprobs": {"content": [one]}} for one in said]
    events = [*pieces, {"index": 0, "delta": {}, "finish_reason": "stop"}]
    blocks = [sse({"id": "1", "created": 1, "model": "one", "choices": [event]}) for event in events]
    await asked.stream(*blocks, sse({"id": "1", "choices": [], "usage": usage}), b"data: [DONE]\n\n")


def test_the_wire_carries_what_is_measured(tmp_path: Path) -> None:
    """Asked with the schema and log-probabilities; afterwards the line finds the probabilities that the calibration found."""

    async def run() -> None:
        async with upstream(plays) as small:
            text = CONFIG.format(url=small.url)
            async with serving(text, tmp_path) as served:
                loaded = load(served.config)
                resources = Resources(loaded.folder)
                await resources.open()
                try:
                    cases = read(lines(range(300)), name="d", model="weir")
                    setup = build(loaded, resources)
                    task = Task(setup, "labels", "slm", cases, 0.05, 0.95, loaded.calibrations)
                    done = await calibrate(task)
                finally:
                    await resources.close()
                body = next(asked.json for asked in small.asked if asked.body)
                assert (body["model"], body["logprobs"], body.get("stream", False)) == ("one", True, False)
                assert body["top_logprobs"] >= 2
                assert SCHEMA["properties"] == body["response_format"]["json_schema"]["schema"]["properties"]
                live = served.app.live
                await until(lambda: live.setup.routes["labels"].mode == "enforce")
                found = done.measured
                assert found.threshold is not None
                for stream in (False, True):
                    for number in range(300, 330):
                        response = await served.chat({"model": "weir", **asks(number), "stream": stream})
                        record = served.record(response)
                        assert record.attempts[0].probability is not None
                        sure = record.attempts[0].probability >= found.threshold
                        assert record.served == ("slm" if sure else "llm")

    asyncio.run(run())
