"""LoRA adapters of a running engine: which version is loaded, and loading and unloading one.

Where the version stands: vLLM keeps no digest, and its prefix cache is keyed by an adapter's name and *path*, so weights reloaded
from the same path answer from blocks that the old ones have computed (it says so in its log). Both are solved by spelling the path:
`/a/b//./` and `/a/b/.//` are one folder and two paths, so 24 bits of the files' digest are written in slashes and dots behind it.
`/v1/models` echoes the path as `root`: whoever reads it knows the version, after a restart of Weir too, and each version has blocks
of its own.
"""

from collections.abc import Mapping

from backends._vllm_engine import Card, Engine, cards
from backends.http.control import Control, document
from wire.errors import BackendError, Broken, Refused

LOAD_SECONDS = 60.0
BITS = 24


def spelled(path: str, version: str) -> str:
    """`path` with `version` (hex digits; "" leaves it as it is) written behind it. Absolute POSIX paths only, others stay."""
    if not version or not path.startswith("/"):
        return path
    bits = int(version[:12].ljust(12, "0"), 16) >> (48 - BITS)
    return path.rstrip("/") + "/" + "".join("./" if bits >> at & 1 else "/" for at in reversed(range(BITS)))


class Adapter:
    """One adapter of one backend. path: as the engine sees it, "" when somebody else loads it. base: the model it belongs to, "" for
    any."""

    def __init__(self, name: str, path: str, version: str, base: str) -> None:
        self.name = name
        self.path = path
        self.version = version
        self.root = spelled(path, version)
        self.base = base

    def fault(self, found: Mapping[str, Card]) -> str:
        """Why this adapter cannot be asked for on an engine with these cards; "" when it can."""
        card = found.get(self.name)
        if card is None:
            return f"adapter {self.name!r} is not loaded"
        if not card.parent:
            return f"{self.name!r} is a base model there, no adapter"
        if self.base and card.parent != self.base:
            return f"adapter {self.name!r} belongs to {card.parent!r} there, not to {self.base!r}"
        if self.path and card.root != self.root:
            return f"adapter {self.name!r} is loaded in another version"
        return ""

    async def ensure(self, engine: Engine, control: Control, headers: Mapping[str, str]) -> str:
        """Load it where it is missing or of another version, and look whether it is there then. What is wrong; "" when nothing is.

        Raises nothing. In place: requests in flight on the old version would be answered half by each, so the caller waits for them
        first.
        """
        async with engine.changing:
            wrong = self.fault(engine.cards)
            if not wrong or not self.path:
                return wrong
            if self.base and self.base not in engine.cards:
                return f"the engine does not serve {self.base!r}, which adapter {self.name!r} belongs to"
            body = {"lora_name": self.name, "lora_path": self.root, "load_inplace": self.name in engine.cards}
            try:
                await control.post(f"{engine.base_url}/load_lora_adapter", body, headers, LOAD_SECONDS)
                engine.cards = cards(
                    document(engine.root, await control.get(f"{engine.base_url}/models", headers, 5.0))
                )
            except BackendError as exc:
                return _told(self.name, exc)
            return self.fault(engine.cards)

    async def unload(self, engine: Engine, control: Control, headers: Mapping[str, str]) -> None:
        """Take it out again if it is what we loaded. Raises BackendError."""
        async with engine.changing:
            card = engine.cards.get(self.name)
            if not self.path or card is None or card.root != self.root:
                return
            await control.post(f"{engine.base_url}/unload_lora_adapter", {"lora_name": self.name}, headers, 10.0)
            engine.cards = {name: card for name, card in engine.cards.items() if name != self.name}


def _told(name: str, exc: BackendError) -> str:
    """Words that may be logged."""
    if isinstance(exc, Refused) and exc.status in (404, 405) and "adapter" not in exc.detail.lower():
        return (
            "the engine lets nobody load adapters: start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, "
            f"or with {name!r} in --lora-modules and without adapter_path here"
        )
    if isinstance(exc, Refused | Broken) and exc.status is not None:
        return f"adapter {name!r} cannot be loaded (the engine answered {exc.status})"
    return f"adapter {name!r} cannot be loaded ({type(exc).__name__})"
