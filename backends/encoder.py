"""`kind: encoder`: a specialist that answers label and routing schemas in process, without a language model.

An embedding, a trained head per JSON pointer, a calibrated probability. Tiers: the static table (0.1 ms, in the event loop)
answers when it is sure; for the unsure MiniLM is asked (some ms, in its own process). A request whose labels are not exactly
the specialist's is `Unsupported`: dropping or adding labels would make the probability a lie, so nothing is renormalised.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import Field

from backends._form import Form, fill, form_of, slots
from backends.base import BackendConfig, BackendResources
from embed.errors import Busy, EmbedError
from embed.head import Answer
from embed.minilm import MiniLM
from embed.specialist import Specialist
from wire.errors import Broken, Overloaded, TimedOut, Unsupported
from wire.hashing import short_hash
from wire.types import Call, Chunk, Constraint

_FORMS = 256
"""Schemas of which the form is remembered."""


class EncoderConfig(BackendConfig):
    """`kind: encoder`."""

    specialist: Path = Field(description="folder of the specialist, e.g. models/clinc150; its encoders stand beside it")
    turns: Literal["single", "last"] = Field(
        "single",
        description="single: only requests of one user message are answered; last: the last user message alone is read",
    )


class _Found(Form if False else object):  # pragma: no cover
    pass


class Encoder:
    """See the module."""

    Config = EncoderConfig

    def __init__(self, name: str, config: EncoderConfig, resources: BackendResources) -> None:
        """Loads the specialist and its static table. Raises embed.errors.EmbedError."""
        folder = resources.resolve(config.specialist)
        self._config = config
        self._specialist = Specialist.load(folder)
        self._labels = {at: frozenset(known.labels) for at, known in self._specialist.pointers.items()}
        encoders = self._specialist.encoders()
        if "static" not in encoders:
            raise EmbedError(f"{folder}: a specialist needs a static tier")
        self._table = resources.static_table(folder.parent / encoders["static"][0])
        self._specialist.check_encoder("static", self._table.digest)
        self._minilm: MiniLM | None = None
        if "minilm" in encoders:
            self._minilm = resources.minilm(folder.parent / encoders["minilm"][0])
        self._forms: dict[str, tuple[Form | None, list[str]]] = {}
        self.digest = self._specialist.digest
        self.calibration = folder / "calibration.json"
        """Where the calibration of this specialist stands, unless the route names another."""
        self.facts: Mapping[str, Any] = {
            "specialist": self._specialist.name,
            "digest": self.digest,
            "pointers": {at: len(known) for at, known in self._labels.items()},
            "encoders": {tier: digest for tier, (_, digest) in encoders.items()},
        }

    def check_schema(self, schema: Any) -> list[str]:
        """Why this specialist cannot answer `schema`, in words; [] when it can."""
        return form_of(schema, self._labels)[1]

    async def stream(self, call: Call) -> AsyncGenerator[Chunk, None]:
        """One whole answer: JSON text (or the bare label for a choice), its probability, the tier in `meta`."""
        form = self._form(call)
        text = _only_text(call, self._config.turns)
        try:
            async with asyncio.timeout(call.seconds):
                chosen, probability, tier = await self._answer(form, text)
        except TimeoutError as exc:
            raise TimedOut(f"the MiniLM worker did not answer within {call.seconds:g} s") from exc
        except Busy as exc:
            raise Overloaded(str(exc)) from exc
        except EmbedError as exc:
            raise Broken(str(exc)) from exc
        content = chosen[""] if isinstance(form, str) else fill(form, chosen)
        for choice in range(call.body.get("n") or 1):
            yield Chunk(
                choice=choice,
                delta={"role": "assistant", "content": content},
                finish="stop",
                probability=probability,
                meta={"tier": tier},
            )
