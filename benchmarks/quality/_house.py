"""The gateway of the specialist's measurements: route `snips`, the specialist below a scripted large model that is always right, and beside
it a tagger, whose answer is weighed."""

import math
import random
from collections.abc import Mapping
from pathlib import Path

import orjson

from benchmarks.quality._bfcl_data import Spoken, key
from models.rebuild.folder import MODELS
from models.rebuild.snips import data
from models.rebuild.snips.data import Utterance

RISK = 0.02
TAGGER = MODELS / "snips-tagger"
CONFIG = """
backends:
  snips: {{kind: vllm, base_url: "{small}/v1", model: snips, timeout: 60, probe: false}}
  tagger: {{kind: tagger, specialist: "{tagger}"}}
  large: {{kind: openai, base_url: "{large}/v1", model: oracle, timeout: 60, cloud: true}}
router:
  use: {{kind: rules}}
  default: snips
routes:
  snips: {{ladder: [snips, large], accept: {{risk: {risk}, agrees_with: {{rung: tagger, when: weighed}}}}{more}, mode: enforce}}
  direct: {{ladder: [large], mode: enforce}}
  tagger: {{ladder: [tagger], mode: enforce}}
models:
  weir: routed
server: {{state_dir: "{folder}/var", tend: {tend}}}
limits: {{in_flight: 512}}
"""


def config(folder: Path, small: str, large: str, *, more: str = "", tend: bool = True) -> Path:
    """Write `folder`/weir.yaml. small, large: URLs without a path. more: further keys of the route, each with a comma before
    it. tend: false where no real engine stands behind the specialist."""
    place = folder / "weir.yaml"
    text = CONFIG.format(
        small=small, large=large, tagger=TAGGER, folder=folder, risk=RISK, more=more, tend=str(tend).lower()
    )
    place.write_text(text)
    return place


def oracle_answers(utterances: tuple[Utterance, ...]) -> Mapping[bytes, Spoken]:
    """What the scripted large model says: the right call, found by text and tools."""
    functions = [tool["function"] for tool in data.tools()]
    return {key(u.text, functions): Spoken(calls=((u.intent, dict(data.arguments(u))),)) for u in utterances}


def lines(utterances: tuple[Utterance, ...], part: str = "") -> list[bytes]:
    """As `weir calibrate --data` reads them."""
    more = {"part": part} if part else {}
    return [orjson.dumps({**data.labelled(u), **more}) for u in utterances]


# --- the scripted large model's time ----------------------------------------------------------------------------------------------

MEDIAN, SIGMA = 2.0, 0.4
"""Seconds of the large model's answers: log-normal."""


def large_seconds(text: str, draw: int = 0) -> float:
    """How long the scripted large model takes for this text: in one draw always the same."""
    return MEDIAN * math.exp(random.Random(f"large {draw} {text}").gauss(0, SIGMA))
