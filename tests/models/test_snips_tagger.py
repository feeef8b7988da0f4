"""The extractive specialist for SNIPS: what is learnt, what is shipped, and its answers through the front door."""

import asyncio
import random
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embed import onnx
from embed.manifest import Folder
from embed.tagger import Loaded, spec_of, words_of
from embed.tagging import Decoder
from models.rebuild import snips_tagger
from models.rebuild.snips import data
from models.rebuild.snips_tagger.labels import row_of
from models.rebuild.snips_tagger.measure import Judged, judged, mended
from tests.serving import serving

CONFIG = """
backends:
  tagger: {kind: tagger, specialist: models/snips-tagger}
  cloud: {kind: scripted, default: "from the cloud", cloud: true}
router: {use: {kind: rules}, default: snips}
routes:
  snips: {ladder: [tagger, cloud], mode: enforce}
models: {weir: routed}
"""


def utterances(count: int) -> list[data.Utterance]:
    """Of the development set, the same each time."""
    return random.Random(1).sample(data.splits()["development"], count)


def test_what_is_shipped() -> None:
    """Functions and slots are the data's, in the order of the tools; the tags are theirs."""
    told, wanted = spec_of(Folder(snips_tagger.FOLDER)), snips_tagger.spec()
    assert (told.functions, told.tags) == (wanted.functions, wanted.tags)
    assert [tool["function"]["name"] for tool in data.tools()] == list(told.functions)


def test_it_is_right() -> None:
    """Of 200 utterances that did not train at least 82 % are right to the letter (its card says more; seven functions and 39 slots
    leave chance nothing), and it is surer of those."""
    told = judged(Loaded(snips_tagger.FOLDER), utterances(200))
    right = [one.probability for one in told if one.right]
    wrong = [one.probability for one in told if not one.right]
    assert len(right) >= 164
    assert sum(right) / len(right) > sum(wrong) / len(wrong) + 0.1


def test_how_sure_is_fitted() -> None:
    """After fitting, answers that said 0.9 and were right in half of all cases say about 0.5, and those that were right always more."""
    sure = [Judged("f", {}, 0.999, True) for _ in range(200)]
    less = [Judged("f", {}, 0.9, right) for right in (True, False) * 100]
    found = mended(snips_tagger.spec(), sure + less)

    def said(probability: float) -> float:
        return 1 / (1 + exp(-found.shift - found.scale * log(probability / (1 - probability))))

    assert said(0.9) == pytest.approx(0.5, abs=0.05)
    assert said(0.999) > 0.95


def test_through_the_front_door(tmp_path: Path) -> None:
    """A demanded call is answered by the tagger, with its probability on record; a named function is called whatever the utterance
    says; tools that are not its own, and a conversation that may go without a call, go up the ladder."""

    async def go() -> None:
        async with serving(CONFIG, tmp_path) as served:
            utterance = utterances(1)[0]
            asked = data.request(utterance) | {"model": "weir"}

            async def answer(**changes: Any) -> tuple[dict[str, Any], str]:
                response = await served.chat(asked | changes)
                assert response.status_code == 200, response.text
                return response.json()["choices"][0], served.record(response).attempts[-1].rung

            async with asyncio.timeout(60):
                while (told := await answer())[1] != "tagger":  # noqa: ASYNC110 - until its worker is up the next rung answers
                    await asyncio.sleep(0.05)
            choice, _ = told
            function = choice["message"]["tool_calls"][0]["function"]
            assert choice["finish_reason"] == "tool_calls"
            assert function["name"] == utterance.intent
            probability = served.last().attempts[0].probability
            assert probability is not None
            assert 0 < probability < 1
            named = {"type": "function", "function": {"name": "RateBook"}}
            choice, rung = await answer(tool_choice=named)
            assert (rung, choice["message"]["tool_calls"][0]["function"]["name"]) == ("tagger", "RateBook")
            for changes in ({"tools": asked["tools"][:3]}, {"tool_choice": "auto"}):
                choice, rung = await answer(**changes)
                assert (rung, choice["message"]["content"]) == ("cloud", "from the cloud")
                assert served.last().attempts[0].reason == "unsupported"

    asyncio.run(go())


@pytest.mark.parametrize("seed", range(3))
def test_what_is_learnt_is_what_is_read(seed: int) -> None:
    """Who says of every word what was to be learnt of it makes the right call, also where values were swapped."""
    spec, tokenizer = snips_tagger.spec(), onnx.tokenizer(Folder(snips_tagger.FOLDER))
    decoder, functions = Decoder(spec), list(spec.functions)
    for utterance in data.each(data.splits()["train"][:300], random.Random(seed), 0.5, 0.6):
        _, labels, function = row_of(utterance, tokenizer, spec)
        encoded = tokenizer.encode(utterance.text)
        words = words_of(encoded.word_ids, encoded.offsets)
        tags = 9 * np.eye(len(spec.tags))[[labels[piece] for piece, _, _ in words]]
        found = decoder.decode(9 * np.eye(len(functions))[function], tags)
        values = {slot: utterance.text[words[a][1] : words[b][2]] for slot, (a, b) in found.spans.items()}
        assert (found.function, values) == (utterance.intent, utterance.slots)
