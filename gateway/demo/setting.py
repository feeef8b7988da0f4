"""The demo's configuration: a folder with `weir.yaml` and the stand-in's script, as a user would write them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import yaml
from msgspec import Struct

from gateway import money
from gateway.demo import traffic
from gateway.demo.traffic import Data, Item

CONFIG = "weir.yaml"
SCRIPT = "script.json"
STATE = "var"

SPECIALIST = "specialist"
CLOUD = "stand-in"
"""Names of the two rungs."""
INTENTS = "intents"
GENERAL = "general"
"""Names of the two routes."""

RISK = 0.01
NOISE = 0.03
MEDIAN, SIGMA = 2.0, 0.5
"""Seconds to the stand-in's answer: log-normal, as latencies of hosted models are (p99 = 6.4 s)."""
PRICE = {"input": 1.25, "cached_input": 0.125, "output": 10.0}
"""USD per million tokens: list price of a frontier-class model."""
CORE_HOUR, SERVED = 0.10, 2000.0
"""The specialist's price: USD per hour of the core it takes, and output tokens per second that the hour is spread over."""

WARM = Item("intent", "hm, well, you know, that other thing", traffic.OUT_OF_SCOPE)
"""Nobody can be sure of this one: the cheap tier of the specialist passes it on."""

EXAMPLES = (
    "A farmer sells 14 baskets of apples for 3 dollars each. How much does he earn?",
    "If a train travels 60 miles in an hour, how far does it get in two and a half hours?",
    "Tom has twice as many marbles as Anna. Together they have 36. How many does Anna have?",
    "Explain to me step by step why the sky is blue.",
    "Write a short letter to my landlord about the broken heating.",
)
HEAD = """\
# Written by `weir demo`. The cloud of this file is a stand-in that plays a script: it never leaves this machine.
# The specialist, its threshold and its calibration were made from CLINC150's train and val; the sample is from its test.
"""


class Setting(Struct, frozen=True):
    """What one demo runs on."""

    utterances: int = 1000
    parallel: int = 16
    seed: int = 1
    speed: float = 1.0
    """The stand-in is so many times faster than a cloud."""


def write(folder: Path, setting: Setting, data: Data, items: Sequence[Item]) -> Path:
    """Write configuration and script into `folder`; the configuration's path. Raises OSError."""
    (folder / SCRIPT).write_bytes(orjson.dumps(script(items, data.labels, setting.seed)))
    path = folder / CONFIG
    path.write_text(HEAD + yaml.safe_dump(config(folder, setting), sort_keys=False, width=120), "utf-8")
    return path


def config(folder: Path, setting: Setting) -> dict[str, Any]:
    """The content of `weir.yaml`."""
    return {
        "backends": {
            SPECIALIST: {
                "kind": "encoder",
                "specialist": "models/clinc150",
                "price": {"gpu_hour": CORE_HOUR, "tokens_per_second": SERVED},
            },
            CLOUD: {
                "kind": "scripted",
                "model": "stand-in for a cloud LLM",
                "cloud": True,
                "script": str(folder / SCRIPT),
                "seed": setting.seed,
                "delay": {"median": MEDIAN / setting.speed, "sigma": SIGMA},
                "price": dict(PRICE),
            },
        },
        "router": {"use": {"kind": "cascade", "of": [{"kind": "rules"}, {"kind": "embedding"}]}, "default": GENERAL},
        "routes": {
            INTENTS: {
                "match": {"schema_name": traffic.SCHEMA_NAME},
                "ladder": [SPECIALIST, CLOUD],
                "accept": {"risk": RISK},
                "mode": "enforce",
            },
            GENERAL: {
                "description": "Questions and problems that want an answer in words.",
                "examples": list(EXAMPLES),
                "ladder": [CLOUD],
                "mode": "enforce",
            },
        },
        "models": {"weir": "routed", "gpt-*": "routed"},
        "server": {"host": "127.0.0.1", "port": 0, "state_dir": str(folder / STATE)},
    }


def script(items: Sequence[Item], labels: Sequence[str], seed: int) -> dict[str, Mapping[str, Any]]:
    """What the stand-in says, by text. Usage counts the schema too, as clouds do and as Weir's own estimate does."""
    said = traffic.noisy(items, labels, NOISE, seed)
    turns = {item.text: _turn(item, labels, said[item.text]) for item in items}
    return turns | {WARM.text: {**_turn(WARM, labels, traffic.answer(WARM.gold)), "delay": 0.0}}


def _turn(item: Item, labels: Sequence[str], content: str) -> Mapping[str, Any]:
    used = money.estimate(traffic.body(item, labels), len(content))
    usage = {
        "prompt_tokens": used.input,
        "completion_tokens": used.output,
        "total_tokens": used.input + used.output,
    }
    return {"content": content, "usage": usage}
