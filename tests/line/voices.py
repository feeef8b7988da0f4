"""Models in process that say one thing, as sure of it and as late as a test wants: `kind: tests.line.voices:Voice`."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Literal

import orjson

from backends.base import BackendConfig
from tests.line.speaking import calibrated, label, logprob
from tests.line.world import SCHEMA
from wire.errors import Overloaded
from wire.types import Call, Chunk

ASKED: list[str] = []
"""Models, in the order in which they were asked; tests clear it."""
OVER: dict[str, asyncio.Event] = {}
"""Model > set once its answer is over and was taken; tests clear it."""


def over(model: str) -> asyncio.Event:
    return OVER.setdefault(model, asyncio.Event())


class Voice:
    class Config(BackendConfig):
        model: str
        says: str = "a"
        p: float = 0.999
        """Of its one value token."""
        own: float | None = None
        """A probability that it says itself, as an encoder does; then there are no log-probabilities."""
        after: str = ""
        """It answers once this one's answer is over."""
        ends: Literal["well", "never", "overloaded"] = "well"

    def __init__(self, name: str, config: Config, resources: object) -> None:
        self.config = config

    async def stream(self, call: Call) -> AsyncGenerator[Chunk, None]:
        config = self.config
        ASKED.append(config.model)
        try:
            if config.after:
                await over(config.after).wait()
            if config.ends == "overloaded":
                raise Overloaded("not now")
            if config.ends == "never":
                await asyncio.Event().wait()
            said = {
                "content": [logprob(*piece) for piece in label(config.p, value=config.says) if isinstance(piece, tuple)]
            }
            yield Chunk(
                delta={"role": "assistant", "content": f'{{"label":"{config.says}"}}'},
                finish="stop",
                logprobs=said if config.own is None and call.logprobs else None,
                probability=config.own,
            )
        finally:
            over(config.model).set()


CONFIG = """
backends:
  small: {{kind: "tests.line.voices:Voice", model: slm, {small}}}
  other: {{kind: "tests.line.voices:Voice", model: slm2, {other}}}
  cloud: {{kind: "tests.line.voices:Voice", model: big, cloud: true, price: {{input: 1, output: 2}}}}
router: {{use: {{kind: rules}}, default: both}}
routes:
  both:
    ladder: [small, cloud]
    mode: {mode}
    accept: {{risk: 0.01, calibration: "{calibration}", agrees_with: {{rung: other, when: {when}}}}}
    {route}
models: {{weir: routed}}
"""


def voices(
    folder: Path,
    small: str = "says: a",
    other: str = "says: a",
    *,
    mode: str = "enforce",
    when: str = "weighed",
    rule: str = "weighed",
    route: str = "",
) -> str:
    """A configuration. rule: for which the route's small rung is calibrated."""
    text = {"small": small, "other": other, "mode": mode, "when": when, "route": route}
    return CONFIG.format(calibration=weighed(folder, rule), **text)


def weighed(folder: Path, rule: str = "weighed") -> str:
    """A calibration by which an answer must be 0.9 sure. Log-odds: its least likely token's - 1, + 2 for a second that agrees, and half of
    how sure that one is, for or against. Where the route speculates, a second that is not sure of itself starts the next rung."""
    path = Path(calibrated(folder, rule=f"confidence+agrees:other@{rule}"))
    names = ["low", "agrees", "assent", "dissent"]
    weights: dict[str, Any] = {"mean": [0.0] * 4, "scale": [1.0] * 4, "weights": [1.0, 2.0, 0.5, -0.5]}
    table = orjson.loads(path.read_bytes())
    table |= {"model_digest": "slm", "scorer": {"names": names, **weights, "intercept": -1.0}}
    table["companion"] |= {"digest": "slm2"}
    table["outlook"] = {"intercept": -6.0, "beside": {"words": 0.0, "sure": -5.0}, "starts": {"0.03": 0.9}}
    path.write_bytes(orjson.dumps(table))
    return str(path)


def asks(**more: Any) -> dict[str, Any]:
    form = {"type": "json_schema", "json_schema": {"name": "label", "schema": SCHEMA}}
    return {"model": "weir", "messages": [{"role": "user", "content": "which?"}], "response_format": form, **more}
