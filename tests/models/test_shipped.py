"""What is shipped under models/ is whole, small enough, explained, and belongs together."""

from pathlib import Path

import numpy as np
import orjson
import pytest

from embed.head import Head
from embed.manifest import NAME, Folder
from embed.specialist import Specialist
from embed.static import StaticTable
from models.rebuild.calibrate import threshold
from models.rebuild.clinc150 import texts
from models.rebuild.folder import LARGEST, MODELS, finish

FOLDERS = sorted(place.parent for place in MODELS.glob(f"*/{NAME}"))


def test_all_there() -> None:
    """Every model that is shipped is there, and nothing else."""
    assert [folder.name for folder in FOLDERS] == [
        "banking77", "clinc150", "minilm-int8", "snips", "snips-tagger", "static-minilm-256",
    ]  # fmt: skip


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_files_and_card(folder: Path) -> None:
    """Every file is the manifest's and small enough to commit; the card says what, from where, how good, how again."""
    files = Folder(folder)
    for name in files.manifest.files:
        assert len(files.read(name)) <= LARGEST
    assert files.manifest.name == folder.name
    card = (folder / "README.md").read_text()
    for part in ("## Data", "## Licence", "## Score", "## Rebuild"):
        assert part in card


def test_the_specialist_fits_its_encoders() -> None:
    """Heads were trained on the very encoders that are shipped; its calibration is its own."""
    specialist = Specialist.load(MODELS / "clinc150")
    for tier, (folder, _) in specialist.encoders().items():
        specialist.check_encoder(tier, Folder(MODELS / folder).manifest.digest)
    told = orjson.loads((MODELS / "clinc150" / "calibration.json").read_bytes())
    assert told["model_digest"] == specialist.digest
    assert len(specialist.pointers["/intent"].labels) == 151
    assert specialist.pointers["/intent"].never == ("oos",)


def test_the_calibration_keeps_the_promised_risk() -> None:
    """`accept: {risk: 0.01}` has a threshold, and a laxer promise never has a higher one."""
    told = orjson.loads((MODELS / "clinc150" / "calibration.json").read_bytes())
    found = [threshold(told["curve"], risk) for risk in (0.01, 0.02, 0.05)]
    assert None not in found
    assert found == sorted(found, key=lambda at: at or 0, reverse=True)
    assert told["thresholds"]["0.01"]["threshold"] == found[0]


def test_the_static_tier_is_right_on_its_own_data() -> None:
    """Val utterances get their own intent (the shipped heads have seen val: this is about wiring, not about quality)."""
    specialist = Specialist.load(MODELS / "clinc150")
    table = StaticTable.load(MODELS / "static-minilm-256")
    head: Head = specialist.heads["/intent", "static"]
    labels = specialist.pointers["/intent"].labels
    pairs = texts("val")[::50]
    right = [labels[head.answer(table.encode(text)).label] == intent for text, intent in pairs]
    assert np.mean(right) > 0.9


def test_finish_writes_the_manifest_last(tmp_path: Path) -> None:
    """A file that is too large ends the build, and then there is no manifest, so nothing that could be loaded."""
    finish(tmp_path, {"a": b"1"}, {})
    before = (tmp_path / NAME).read_bytes()
    assert finish(tmp_path, {"a": b"1"}, {}) == Folder(tmp_path).manifest.digest
    assert (tmp_path / NAME).read_bytes() == before
    with pytest.raises(ValueError, match="too many"):
        finish(tmp_path, {"a": b"1", "b": bytes(LARGEST + 1)}, {})
    assert not (tmp_path / NAME).exists()
