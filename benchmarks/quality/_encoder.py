"""An encoder specialist, asked as the gateway asks it: text and schema in, JSON and probability out."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import orjson
from msgspec import Struct

from backends.encoder import Encoder, EncoderConfig
from benchmarks.clinc import Lent, schema
from gateway.validators.fits_schema import misfit
from wire.types import Call, Constraint


class Said(Struct, frozen=True):
    """One answer."""

    label: str
    """"" when it was not valid."""
    probability: float
    valid: bool
    """JSON that fits the schema."""


def ask(folder: Path, texts: Sequence[str], labels: Sequence[str]) -> list[Said]:
    """What the specialist in `folder` says of every text; `labels`: those of the schema. Both tiers, MiniLM in its own process."""
    return asyncio.run(_ask(folder, texts, labels))


async def _ask(folder: Path, texts: Sequence[str], labels: Sequence[str]) -> list[Said]:
    lent = Lent()
    encoder = Encoder("intents", EncoderConfig(kind="encoder", specialist=folder), lent)
    constraint = Constraint("schema", schema(labels), strict=True, digest=folder.name)
    await lent.open()
    found = []
    try:
        for text in texts:
            body = {"messages": [{"role": "user", "content": text}]}
            async for chunk in encoder.stream(Call(body=body, seconds=30, constraint=constraint, text=text)):
                content = chunk.delta["content"]
                valid = not misfit(content, constraint)
                label = orjson.loads(content)["intent"] if valid else ""
                found.append(Said(label, chunk.probability or 0.0, valid))
    finally:
        await lent.close()
    return found
