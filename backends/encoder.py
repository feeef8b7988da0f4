"""`kind: encoder`: a specialist that answers label and routing schemas in process, without a language model.

An embedding, a trained head per JSON pointer, a calibrated probability. Tiers: the static table (0.1 ms, in the event loop)
answers when it is sure; for the unsure MiniLM is asked (some ms, in its own process). A request whose labels are not exactly
the specialist's is `Unsupported`: dropping or adding labels would make the probability a lie, so nothing is renormalised.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from msgspec import Struct
from pydantic import Field

from backends._asking import asking
from backends._form import Form, Slot, fill, form_of, slots
from backends._one_text import Turns, text_of
from backends.base import BackendConfig, BackendResources
from embed.errors import EmbedError
from embed.head import Answer
from embed.minilm import MiniLM
from embed.specialist import Specialist
from wire.errors import Unsupported
from wire.hashing import short_hash
from wire.types import Call, Chunk, Constraint

_PLANS = 256
"""Schemas of which the form is remembered."""


class EncoderConfig(BackendConfig):
    """`kind: encoder`."""

    sure: ClassVar[bool] = True

    specialist: Path = Field(description="folder of the specialist, e.g. models/clinc150; its encoders stand beside it")
    turns: Turns = Field(
        "single",
        description="single: only requests of one user message are answered; last: the last user message alone is read",
    )


class _Plan(Struct, frozen=True):
    """What to answer a constraint with."""

    form: Form | None
    differences: Sequence[str] = ()
    bare: bool = False
    """The label itself, not as JSON (a choice)."""


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
        self._plans: dict[str, _Plan] = {}
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
        plan = self._plan(call.constraint)
        if plan.form is None:
            raise Unsupported(
                f"the specialist {self._specialist.name} cannot answer this: {'; '.join(plan.differences)}"
            )
        if call.body.get("tools") and call.body.get("tool_choice") != "none":
            raise Unsupported("a specialist for labels calls no tools")
        text = text_of(call, self._config.turns)
        async with asking("the MiniLM worker", call.seconds):
            answers = {pointer: await self._answer(pointer, text) for pointer in slots(plan.form)}
        chosen = {pointer: self._specialist.pointers[pointer].labels[a.label] for pointer, (a, _) in answers.items()}
        content = next(iter(chosen.values())) if plan.bare else fill(plan.form, chosen)
        # All parts are right at least so often, however their errors hang together (union bound).
        probability = max(0.0, 1.0 - sum(1.0 - a.probability for a, _ in answers.values()))
        tier = "minilm" if any(tier == "minilm" for _, tier in answers.values()) else "static"
        for choice in range(call.body.get("n") or 1):
            yield Chunk(
                choice=choice,
                delta={"role": "assistant", "content": content},
                finish="stop",
                probability=probability,
                meta={"tier": tier},
            )

    async def _answer(self, pointer: str, text: str) -> tuple[Answer, str]:
        """Ask the tiers, cheapest first, until one is sure. The last that could be asked has the last word."""
        found: tuple[Answer, str] | None = None
        for tier in self._specialist.pointers[pointer].tiers:
            if tier.name == "static":
                features = self._table.encode(text)
            elif self._minilm is not None and self._minilm.started:
                features = (await self._minilm.layers(text)).reshape(-1)
                self._specialist.check_encoder("minilm", self._minilm.digest)
            else:  # switched off, or not up yet: then the table's word stands, with the table's own probability
                continue
            answer = self._specialist.heads[pointer, tier.name].answer(features)
            found = (answer, tier.name)
            if answer.probability >= tier.sure:
                break
        assert found is not None  # every specialist has a static tier, see __init__
        return found

    def _plan(self, constraint: Constraint | None) -> _Plan:
        if constraint is None:
            return _Plan(None, ["the answer is not limited to labels"])
        key = f"{constraint.kind}:{constraint.digest or short_hash(constraint.value)}"
        plan = self._plans.get(key)
        if plan is None:
            plan = self._make_plan(constraint)
            if len(self._plans) >= _PLANS:
                self._plans.clear()
            self._plans[key] = plan
        return plan

    def _make_plan(self, constraint: Constraint) -> _Plan:
        if constraint.kind == "schema":
            form, differences = form_of(constraint.value, self._labels)
            return _Plan(form, differences)
        if constraint.kind == "choice":
            for pointer, labels in self._labels.items():
                if labels == set(constraint.value):
                    return _Plan(Slot(pointer), bare=True)
            return _Plan(None, ["the choices are not the labels of any of its parts"])
        return _Plan(None, [f"a {constraint.kind} is not a list of labels"])
