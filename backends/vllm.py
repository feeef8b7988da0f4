"""A small model behind vLLM's OpenAI server: the `openai` rung with vLLM's spelling (`wire.vllm`), at home by default.

With a base URL and a model it sends requests there, and that is all. Beyond that, each where the configuration asks for it:

    replicas, dns     a choice among several servers of the same model (`_vllm_choice`), by load and affinity
    adapter_path      a LoRA adapter that is loaded, verified and taken out again (`_vllm_adapter`)
    tend              looks at the engines (`_vllm_engine`), and finds out what they really enforce (`_probe`)

Log-probabilities, as seen on vLLM 0.32 (hermes parser, `tests/live/test_vllm.py`): `choices[].logprobs.content` holds the *raw*
tokens, reasoning, `<tool_call>` and the end token (`<|im_end|>`, last) included, streamed or not, whatever a parser makes of them.
`token`s joined are the raw text: a character of several tokens stands whole in its last one, the others are ""; bytes that are no
UTF-8 are lost (U+FFFD in the text, "" here), so `bytes` say no more than `token`. The arguments of a tool call are *not* a piece of
that text: the parser reads the JSON and writes it anew (`{"a": 1}`, one space after `:` and `,`), where the model may have put any
whitespace, as `disable_any_whitespace` does not reach into tool calls. In a stream their deltas do not line up with the tokens of the
chunk they come in. A forced token's other candidates have -9999.0. A forced *named* call finishes with "stop", `required` and `auto`
with "tool_calls"; one that was cut off comes as text, `<tool_call>` and all, with "length".
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, Literal

from msgspec.structs import replace
from pydantic import Field, field_validator, model_validator

from backends._files import digest, stamp
from backends._probe import probe, worst
from backends._steps import Steps
from backends._upstream import now, plain_url
from backends._vllm_adapter import Adapter
from backends._vllm_engine import Engine
from backends._vllm_fleet import MOST, Fleet
from backends.base import Backend, BackendResources, Ledger
from backends.openai import OpenAI, OpenAIConfig
from wire import vllm
from wire.errors import BackendError, Broken, Overloaded, TimedOut, Unavailable
from wire.hashing import short_hash
from wire.types import Call, Chunk, Sink

_DRAIN = 10.0
"""Seconds that requests on an adapter's old version get before the new one is loaded over it."""
_RETIRE = 60.0
"""... and before it is unloaded."""
_SETTLE = 3.0
"""Seconds between the notice that an adapter's files have changed and their loading."""
_VERSIONS = 256
"""Ledgers that are kept of one engine: of its adapters, in their versions."""
_AGAIN, _LATEST = 30.0, 600.0
"""Seconds until an engine that could not be probed is asked again, doubled each time."""


class VllmConfig(OpenAIConfig):
    """`kind: vllm`."""

    base_url: str = Field("http://127.0.0.1:8000/v1", description="URL up to and without /chat/completions")
    engine: str | None = Field(None, min_length=1, description="entry of `engines:` that gives base_url and model")
    replicas: tuple[str, ...] = Field(
        (), max_length=MOST - 1, description="base URLs of further servers of the same model; with base_url at most 32"
    )
    dns: bool = Field(
        False, description="base_url's host name stands for one replica per address (Kubernetes: headless)"
    )
    adapter: str | None = Field(None, min_length=1, description="LoRA adapter: the model name that is sent when set")
    adapter_path: str | None = Field(
        None, min_length=1, description="folder from which the engine loads the adapter; absent: somebody else loads it"
    )
    strict_tools: bool = Field(
        True, description="a grammar for the arguments of tools, but for schemas that xgrammar cannot do"
    )
    look: float = Field(1.5, ge=0.05, le=60, description="seconds between looks at /health, /metrics and /v1/models")
    probe: bool | None = Field(
        None,
        description="find out what the engine enforces, at start and when it changed; default: not with `cloud: true`",
    )
    modalities: tuple[Literal["text", "image", "audio", "file"], ...] = ("text",)
    cloud: bool = False

    @field_validator("replicas")
    @classmethod
    def _plain_urls(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(plain_url, value))

    @model_validator(mode="after")
    def _together(self) -> "VllmConfig":
        if self.adapter_path and not self.adapter:
            raise ValueError("adapter_path needs `adapter`: the name under which the adapter is asked for")
        if self.dns and self.replicas:
            raise ValueError("dns and replicas exclude each other: either the name stands for them, or they are listed")
        if self.dns and not self.base_url.startswith("http://"):
            raise ValueError("dns needs an http:// base_url: a certificate is for the name, not for its addresses")
        return self

    def digest(self) -> str:
        return self.adapter or super().digest()


class Vllm(OpenAI):
    """See the module."""

    Config = VllmConfig
    config: VllmConfig

    def __init__(self, name: str, config: VllmConfig, resources: BackendResources) -> None:
        """Reads the adapter's files where they can be seen from here."""
        super().__init__(name, config, resources)
        self._lent = resources
        urls = tuple(dict.fromkeys((config.base_url, *config.replicas)))
        key = ("vllm", "dns" if config.dns else "", *urls)
        self._fleet: Fleet = resources.kept(key, lambda: Fleet(urls, dns=config.dns))
        self._wake = asyncio.Event()
        self._path = _path(config.adapter_path, resources)
        self._stamp = stamp(self._path) if self._path else ()
        self._adapter: Adapter | None = None
        if config.adapter:
            version = digest(self._path) if self._path else ""
            path = str(self._path) if self._stamp else config.adapter_path or ""
            self._adapter = Adapter(config.adapter, path, version, config.model or "")
        self._faults: dict[str, str] = {}
        """Base URL > why the adapter could not be loaded there."""
        self._settled = 0.0
        """Until then an adapter whose files have changed is not loaded."""

    # -- what is asked --------------------------------------------------------------------------------------------------

    def stream(self, call: Call) -> AsyncGenerator[Chunk, None]:
        """Answer `call`, from the replica that suits best. Raises BackendError.

        A replica that refuses for load, or cannot be reached, is followed by one other, as long as nothing has come from it.
        """
        if len(self._fleet.engines) == 1 and not self.config.dns and not self.config.adapter_path:
            return self.ask(self._url, call)
        return Steps(self._balanced(call))

    async def _balanced(self, call: Call) -> AsyncGenerator[Sequence[Chunk], Sink | None]:
        begun = now()
        queue = self._queue(call, begun)
        model = self._adapter.name if self._adapter else ""
        for engine, other in zip(queue, [*queue[1:2], None], strict=False):
            left = call if engine is queue[0] else replace(call, seconds=max(0.05, call.seconds - (now() - begun)))
            engine.circuit = engine.circuit.asked(now())
            heard = False
            try:
                with engine.busy(model):
                    async with aclosing(self.ask(f"{engine.base_url}/chat/completions", left)) as steps:
                        step = await steps.step()
                        heard = True
                        engine.judge(now(), None)
                        self._fleet.remember(call.session, engine)
                        while True:
                            step = await steps.step((yield step))
            except StopAsyncIteration:
                return
            except BackendError as exc:
                engine.judge(now(), exc)
                if model and exc.status == 404:
                    engine.forget(model)
                    self._wake.set()
                if heard or other is None or not _elsewhere(exc):
                    raise

    def _queue(self, call: Call, at: float) -> list[Engine]:
        """Whom to ask, at most two. Raises Unavailable while no engine has the adapter."""
        usable = {url: not self.fault(engine) for url, engine in self._fleet.engines.items()}
        if self._adapter and not any(usable.values()):
            raise Unavailable(f"{self.name}: {self.unready}")
        queue = self._fleet.order(at, usable, call.session, call.signature)
        return [engine for engine in queue if usable[engine.base_url] or not self._adapter][:2]

    def spelled(self, call: Call, body: dict[str, Any]) -> dict[str, Any]:
        """Raises Unsupported for what vLLM cannot do at all."""
        body["model"] = self.config.adapter or body["model"]
        return vllm.request(body, call.constraint, strict_tools=self.config.strict_tools)

    def judge(self, call: Call, exc: BackendError) -> BackendError:
        """A grammar that this server cannot compile is Unsupported: another rung may be able to."""
        return vllm.judge(exc, call.constraint is not None or bool(call.body.get("tools")))

    # -- what is known --------------------------------------------------------------------------------------------------

    def fault(self, engine: Engine) -> str:
        """Why the adapter cannot be asked for there; "" when it can, or when nobody has looked and nobody need have."""
        if self._adapter is None or (not engine.seen and not self.config.adapter_path):
            return ""
        if not engine.seen:
            return f"adapter {self._adapter.name!r} is not loaded yet"
        wrong = self._adapter.fault(engine.cards)
        return wrong and (self._faults.get(engine.base_url) or wrong)

    @property
    def unready(self) -> str:
        """Why this rung cannot answer now; "" when it can, as far as anybody knows."""
        engines = list(self._fleet.engines.values())
        if not any(engine.alive for engine in engines):
            return "no engine answers /health"
        faults = [self.fault(engine) for engine in engines]
        return faults[0] if all(faults) else ""

    @property
    def digest(self) -> str:
        """Of the weights that answer, the adapter's included; "" until the engine was asked, or while the adapter cannot be asked for."""
        base = self._fleet.identity(self.config.model or "")
        if not base:
            return ""
        adapter = self._adapter
        if adapter is None:
            return short_hash(["vllm", base])
        roots = {
            engine.cards[adapter.name].root for engine in self._fleet.engines.values() if adapter.name in engine.cards
        }
        told = [adapter.version] if adapter.version else sorted(roots)
        return short_hash(["vllm", base, adapter.name, told]) if told else ""

    @property
    def ledger(self) -> Ledger:
        """What its engines enforce, all of them: "unknown" until they were probed."""
        return worst(self._ledger(engine) for engine in self._fleet.engines.values())

    @property
    def facts(self) -> Mapping[str, Any]:
        adapter = self._adapter
        told: dict[str, Any] = {
            "model": self.config.model or "",
            "digest": self.digest,
            "unready": self.unready,
            "replicas": [
                {**engine.facts(), "adapter": self.fault(engine) or "loaded"} if adapter else engine.facts()
                for engine in self._fleet.engines.values()
            ],
            "serves": sorted({card.root for card in self._fleet.bases(self.config.model or "")}),
            "capabilities": self.ledger,
        }
        if adapter is not None:
            told |= {"adapter": adapter.name, "adapter_version": adapter.version}
        return told

    @facts.setter
    def facts(self, value: Mapping[str, Any]) -> None:
        """The base class says what it knows when it is made; here it is looked up when asked for."""

    def _ledger(self, engine: Engine) -> Ledger:
        known: Ledger = engine.found.get(self._version(), (0, {}))[1]
        if self._adapter is None or not engine.seen:
            return known
        return {**known, "adapter": "refused" if self.fault(engine) else "enforced"}

    def _version(self) -> str:
        adapter = self._adapter
        return f"{self.config.model or ''}+{adapter.name}@{adapter.version}" if adapter else self.config.model or ""

    # -- what is looked after -------------------------------------------------------------------------------------------

    async def tend(self) -> None:
        """See `backends.base.Tended`."""
        if self.config.missing() or self.config.auth == "passthrough":
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(self._looking())
            if self.config.probe if self.config.probe is not None else not self.config.cloud:
                group.create_task(self._probing())

    async def retire(self, after: Sequence[Backend]) -> None:
        """Unload the adapter that nobody asks for any more, once the requests on it are answered."""
        adapter = self._adapter
        if adapter is None or not adapter.path:
            return
        for engine in list(self._fleet.engines.values()):
            others = (other for other in after if isinstance(other, Vllm) and engine in other._fleet.engines.values())
            if any(other.config.adapter == adapter.name for other in others):
                continue
            await self._quiet(engine, adapter.name, _RETIRE)
            with suppress(BackendError):
                await adapter.unload(engine, self._lent.control, self._key())

    async def survey(self) -> None:
        """Look at the engines and probe them, once, now. Loads nothing. Raises BackendError when none is there, or one fails the probe."""
        await self.look()
        if not any(engine.seen for engine in self._fleet.engines.values()):
            raise Broken(f"{self.name}: no engine answers at {', '.join(e.root for e in self._fleet.engines.values())}")
        for engine in list(self._fleet.engines.values()):
            if engine.seen and not self.fault(engine):
                await self._probe(engine)

    async def look(self) -> None:
        """Look at the engines once, now, so that `digest`, `unready` and `facts` say what they are. Raises nothing."""
        await self._fleet.look(self._lent.control, self._key(), 0.0)
        await self._fleet.read(self.config.model or "")

    async def _looking(self) -> None:
        while True:
            await self._fleet.look(self._lent.control, self._key(), self.config.look)
            await self._fleet.read(self.config.model or "")
            await self._adapters()
            with suppress(TimeoutError):
                async with asyncio.timeout(self.config.look):
                    await self._wake.wait()
            self._wake.clear()

    async def _adapters(self) -> None:
        """Load the adapter where it is missing or old.

        Changed files are another model, so `digest` changes with them, and until they are loaded the rung is not asked. They are loaded a
        little later: by then the composition root has looked at the calibrations again, and the backend that it made meanwhile does it.
        """
        adapter = self._adapter
        if adapter is None or not adapter.path:
            return
        if self._path is not None and self._stamp:
            seen = await asyncio.to_thread(stamp, self._path)
            if seen and seen != self._stamp:
                self._stamp = seen
                version = await asyncio.to_thread(digest, self._path)
                if version and version != adapter.version:
                    adapter = self._adapter = Adapter(adapter.name, adapter.path, version, adapter.base)
                    self._settled = now() + _SETTLE
        if now() < self._settled:
            return
        for url, engine in self._fleet.engines.items():
            if engine.seen and engine.alive and adapter.fault(engine.cards):
                if adapter.name in engine.cards:
                    await self._quiet(engine, adapter.name, _DRAIN)
                self._faults[url] = await adapter.ensure(engine, self._lent.control, self._key())

    async def _quiet(self, engine: Engine, model: str, seconds: float) -> None:
        """Until no request of ours is under way on `model` there, or for `seconds`."""
        until = now() + seconds
        while engine.flying.get(model) and now() < until:  # noqa: ASYNC110 - rare, and nobody waits for it
            await asyncio.sleep(0.05)

    async def _probing(self) -> None:
        """An engine is probed when it was seen to start, and not while others wait for it."""
        later: dict[str, tuple[int, float, float]] = {}
        while True:
            for url, engine in list(self._fleet.engines.items()):
                start, pause, when = later.get(url, (0, _AGAIN, 0.0))
                due = now() >= when or start != engine.starts
                if not (due and engine.seen and engine.alive) or engine.gauges.waiting or self.fault(engine):
                    continue
                try:
                    await self._probe(engine)
                    later.pop(url, None)
                except BackendError:
                    later[url] = (engine.starts, min(pause * 2, _LATEST), now() + pause)
            await asyncio.sleep(self.config.look)

    async def _probe(self, engine: Engine) -> None:
        """Raises BackendError."""
        version = self._version()
        async with engine.probing:
            starts = engine.starts
            if engine.found.get(version, (0, {}))[0] == starts:
                return
            ledger = await probe(lambda call: self.ask(f"{engine.base_url}/chat/completions", call))
            engine.found[version] = (starts, ledger)
            if len(engine.found) > _VERSIONS:
                engine.found.pop(next(iter(engine.found)))

    def _key(self) -> dict[str, str]:
        """Our credentials, for /v1/models and /v1/load_lora_adapter; none while the key is not set."""
        try:
            return {name: value for name, value in self._headers(_NOTHING).items() if name != "accept"}
        except Unavailable:
            return {}


_NOTHING = Call(body={}, seconds=1.0)


def _elsewhere(exc: BackendError) -> bool:
    """May another replica do what this one did not?"""
    if isinstance(exc, TimedOut):
        return exc.phase == "connect"
    return isinstance(exc, Overloaded | Broken) and exc.status not in (401, 402, 403, 407)


def _path(given: str | None, resources: BackendResources) -> Path | None:
    """Where the adapter's files are seen from here."""
    return resources.resolve(Path(given).expanduser()).absolute() if given else None
