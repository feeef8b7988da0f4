"""models/snips-tagger: an extractive specialist for SNIPS, from data to folder. `train` trains, `measure` says how good it is."""

import tempfile
from pathlib import Path
from typing import Any

import msgspec
import orjson

from embed.tagger import TAGGER, Loaded
from embed.tagging import Spec
from models.rebuild.folder import MODELS, finish
from models.rebuild.snips import data
from models.rebuild.snips_tagger.measure import judged, mended
from models.rebuild.source import WEIGHTS, minilm_folder

FOLDER = MODELS / "snips-tagger"


def build() -> str:
    """Train and write the folder. Returns its digest. About 12 minutes on two idle cores."""
    from models.rebuild.snips_tagger.train import train

    return write(train(tokenizer(), spec(), data.splits()["train"]))


def spec() -> Spec:
    """The functions of SNIPS, with their slots in the order of `data.tools`."""
    functions = {intent: list(data.slots_of(intent)) for intent in data.INTENTS}
    slots = sorted({slot for own in functions.values() for slot in own})
    return Spec(functions=functions, tags=["O", *(f"{kind}-{slot}" for slot in slots for kind in "BI")])


def tokenizer() -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_str(tokenizer_json().decode())


def tokenizer_json() -> bytes:
    told = orjson.loads((minilm_folder() / "tokenizer.json").read_bytes())
    told.update(truncation=None, padding=None)
    # [CLS] and [SEP] are added by id; spelled out in an utterance they are plain words.
    told["added_tokens"] = []
    return orjson.dumps(told)


def write(net: Any, folder: Path = FOLDER) -> str:
    """Export, shrink, and fit how sure it says it is (on the development set). Returns the folder's digest."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from models.rebuild.snips_tagger.train import export

    with tempfile.TemporaryDirectory() as scratch:
        exact, small = Path(scratch) / "float.onnx", Path(scratch) / "int8.onnx"
        export(net, str(exact))
        quantize_dynamic(exact, small, per_channel=True, weight_type=QuantType.QInt8, reduce_range=True)
        model = small.read_bytes()
    files = {"model.onnx": model, "tokenizer.json": tokenizer_json(), TAGGER: _json(spec())}
    facts = {"data": "SNIPS (CC0), upstream's train", "source": "all-MiniLM-L6-v2", "source_sha256": WEIGHTS}
    finish(folder, files, facts)
    sure = mended(spec(), judged(Loaded(folder, threads=2), data.splits()["development"]))
    return finish(folder, {**files, TAGGER: _json(sure)}, facts)


def _json(told: Spec) -> bytes:
    return orjson.dumps(msgspec.to_builtins(told), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
