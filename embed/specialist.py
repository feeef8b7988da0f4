"""A specialist: which labels it gives for which part of an answer, and the heads that find them.

A folder with specialist.json (below), one .npz per head and a manifest over all of them; calibration.json stands beside the
manifest and names its digest. Each pointer has tiers, cheap to dear: the first that is sure answers, the last always does.

    {"pointers": {"/intent": {"labels": [...], "never": ["oos"], "tiers": [
        {"name": "static", "encoder": "static-minilm-256", "encoder_digest": "...", "head": "static.npz", "sure": 0.99},
        {"name": "minilm", "encoder": "minilm-int8", "encoder_digest": "...", "head": "minilm.npz"}]}}}
"""

from pathlib import Path
from typing import Literal

import msgspec

from embed.errors import DigestMismatch, EmbedError
from embed.head import Head
from embed.manifest import Folder


class Tier(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Literal["static", "minilm"]
    encoder: str
    """Folder of the encoder, beside the specialist's."""
    encoder_digest: str
    head: str
    """File of the head."""
    sure: float = 0.0
    """This tier answers when its probability reaches this; the others are asked else."""


class Labels(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the specialist can say at one JSON pointer."""

    labels: tuple[str, ...]
    tiers: tuple[Tier, ...]
    never: tuple[str, ...] = ()
    """Labels that it knows but never delivers."""


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pointers: dict[str, Labels]


class Specialist:
    """A loaded specialist. Immutable."""

    def __init__(self, name: str, digest: str, pointers: dict[str, Labels], heads: dict[tuple[str, str], Head]) -> None:
        """heads: (pointer, tier name) > head."""
        self.name = name
        self.digest = digest
        self.pointers = pointers
        self.heads = heads

    @classmethod
    def load(cls, folder: Path) -> "Specialist":
        """Raises EmbedError, DigestMismatch: both name the file."""
        files = Folder(folder)
        try:
            table = msgspec.json.decode(files.read("specialist.json"), type=_Table)
        except msgspec.MsgspecError as exc:
            raise EmbedError(f"{folder / 'specialist.json'}: {exc}") from exc
        heads: dict[tuple[str, str], Head] = {}
        for pointer, at in table.pointers.items():
            never = frozenset(i for i, label in enumerate(at.labels) if label in at.never)
            if not at.tiers or len(set(at.labels)) != len(at.labels) or len(never) == len(at.labels):
                raise EmbedError(f"{folder / 'specialist.json'}: {pointer} needs tiers, and labels that differ")
            for tier in at.tiers:
                heads[pointer, tier.name] = Head.load(files.read(tier.head), len(at.labels), never)
        return cls(files.manifest.name, files.manifest.digest, table.pointers, heads)

    def encoders(self) -> dict[str, tuple[str, str]]:
        """Tier name > (folder name, digest) of the encoder it needs."""
        return {t.name: (t.encoder, t.encoder_digest) for at in self.pointers.values() for t in at.tiers}

    def check_encoder(self, tier: str, digest: str) -> None:
        """Raises DigestMismatch when the heads were trained on another encoder than the one that was loaded."""
        for name, (folder, expected) in self.encoders().items():
            if name == tier and expected != digest:
                raise DigestMismatch(
                    f"specialist {self.name}: its {tier} heads were trained on {folder} {expected[:16]}..., "
                    f"this one is {digest[:16]}...; rebuild with python -m models.rebuild"
                )
