"""The gateway of the specialist's measurements: route `snips`, the specialist below a scripted large model that is always right."""

from collections.abc import Mapping

import orjson

from benchmarks.quality._bfcl_data import Spoken, key
from models.rebuild.snips import data
from models.rebuild.snips.data import Utterance

RISK = 0.02
CONFIG = """
backends:
  snips: {{kind: vllm, base_url: "{small}/v1", model: snips, timeout: 60, probe: false}}
  large: {{kind: openai, base_url: "{large}/v1", model: oracle, timeout: 60, cloud: true}}
router:
  use: {{kind: rules}}
  default: snips
routes:
  snips: {{ladder: [snips, large], accept: {{risk: {risk}}}{more}, mode: enforce}}
models:
  weir: routed
server: {{state_dir: "{folder}/var"}}
limits: {{in_flight: 512}}
"""
"""{more}: further keys of the route, each with a comma before it."""


def oracle_answers(utterances: tuple[Utterance, ...]) -> Mapping[bytes, Spoken]:
    """What the scripted large model says: the right call, found by text and tools."""
    functions = [tool["function"] for tool in data.tools()]
    return {key(u.text, functions): Spoken(calls=((u.intent, dict(data.arguments(u))),)) for u in utterances}


def lines(utterances: tuple[Utterance, ...], part: str = "") -> list[bytes]:
    """As `weir calibrate --data` reads them."""
    more = {"part": part} if part else {}
    return [orjson.dumps({**data.labelled(u), **more}) for u in utterances]
