"""`kind: tagger`: a specialist that answers forced tool calls without a language model.

A small encoder reads the utterance; its call is a function of its own with words of the utterance as arguments, letter by letter
(`embed.tagging`), and it knows how likely that is right. Some milliseconds, in a process of its own. It makes other mistakes than a
generative model does: as the second rung of `agrees_with` it says which of that one's calls are right.

Requests are answered only where this answer can be the right one. The tools are exactly its functions, their fields its slots, plain
strings; a call is demanded (`tool_choice: required`, or a function's name: then the probability is that of the arguments). All else is
`Unsupported`, with the difference in words. It always calls, so a request that leaves that to the model is answered only under
`auto: true`: for routes where a router has seen to it that every request is such a call.
"""

from collections.abc import AsyncGenerator, Mapping
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import orjson
from pydantic import Field

from backends._asking import asking
from backends._callable import Plan, plan_of
from backends._one_text import Turns, text_of
from backends.base import BackendConfig, BackendResources
from embed.manifest import Folder
from embed.tagger import spec_of
from wire.errors import Broken, Unsupported
from wire.types import Call, Chunk

_PLANS = 256
"""Sets of tools of which the plan is remembered."""


class TaggerConfig(BackendConfig):
    """`kind: tagger`."""

    sure: ClassVar[bool] = True

    timeout: float = Field(2.0, gt=0, description="seconds; whoever weighs its answer waits no longer")

    specialist: Path = Field(description="folder of the tagger, e.g. models/snips-tagger")
    turns: Turns = Field(
        "single",
        description="single: only requests of one user message are answered; last: the last user message alone is read",
    )
    auto: bool = Field(
        False,
        description="true: a request with `tool_choice: auto` is answered too, with a call; it never answers text",
    )


class Tagger:
    """See the module."""

    Config = TaggerConfig

    def __init__(self, name: str, config: TaggerConfig, resources: BackendResources) -> None:
        """Raises embed.errors.EmbedError when the folder holds no tagger."""
        files = Folder(resources.resolve(config.specialist))
        self._config = config
        self._functions = spec_of(files).functions
        self._name = files.manifest.name
        self._tagger = resources.tagger(config.specialist)
        self._plans: dict[bytes, Plan] = {}
        self._folder = files.manifest.digest
        ways = "" if config.turns == "single" and not config.auto else f" {config.turns} {config.auto}"
        self.digest = sha256(f"{self._folder}{ways}".encode()).hexdigest() if ways else self._folder
        """Of the model, and of what it answers to where that is not the default: a calibration measured both."""
        self.calibration = files.path / "calibration.json"
        """Where the calibration of this specialist stands, unless the route names another."""
        self.facts: Mapping[str, Any] = {
            "specialist": self._name,
            "digest": self.digest,
            "functions": {function: len(slots) for function, slots in self._functions.items()},
        }

    def check_schema(self, schema: Any) -> list[str]:
        """Why this specialist cannot answer `schema`, in words."""
        return ["it calls functions, it fills in no schema"]

    async def stream(self, call: Call) -> AsyncGenerator[Chunk, None]:
        """One whole answer: the call and its probability. n answers are n times the same."""
        plan = self._plan(call)
        if plan.differences:
            raise Unsupported(f"the tagger {self._name} cannot answer this: {'; '.join(plan.differences)}")
        text = text_of(call, self._config.turns)
        async with asking("the tagger's worker", call.seconds):
            found = await self._tagger.call(text, plan.named)
        if self._tagger.digest != self._folder:
            raise Broken(f"the worker of {self._name} still runs another version of it: start Weir anew")
        function = {"name": found.function, "arguments": plan.signatures[found.function].arguments(found.values)}
        for choice in range(call.body.get("n") or 1):
            made = {"index": 0, "id": f"call_{uuid4().hex[:24]}", "type": "function", "function": function}
            yield Chunk(
                choice=choice,
                delta={"role": "assistant", "content": None, "tool_calls": [made]},
                # As OpenAI and vLLM do: a call that was named ends with `stop`.
                finish="stop" if plan.named else "tool_calls",
                probability=found.probability,
            )

    def _plan(self, call: Call) -> Plan:
        tools, choice = call.body.get("tools"), call.body.get("tool_choice")
        if call.constraint is not None:
            return Plan({}, differences=[f"the answer is to be text, as a {call.constraint.kind} says"])
        if not tools:
            return Plan({}, differences=["no tools are offered"])
        key = blake2b(orjson.dumps([tools, choice]), digest_size=16).digest()
        plan = self._plans.get(key)
        if plan is None:
            plan = plan_of(tools, choice, self._functions, auto=self._config.auto)
            if len(self._plans) >= _PLANS:
                self._plans.clear()
            self._plans[key] = plan
        return plan
