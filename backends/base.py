"""What a backend is.

A backend is a class in a file of its own: a frozen `Config` and `__init__(name, config, resources)` and one method.
`stream` is an async generator: who iterates it closes it (`aclosing`), and closing it must end the upstream's work.
A whole answer is one chunk per choice. It raises `wire.errors.BackendError` (before or after the first chunk), nothing else.
`tests/contract/test_backends.py` finds it by walking this package and runs the common cases.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from wire.types import Call, Chunk, Price

if TYPE_CHECKING:
    from backends.http.base import Http
    from backends.http.control import Control
    from embed.minilm import MiniLM
    from embed.static import StaticTable
    from embed.tagger import Tagger

T = TypeVar("T")

CAPABILITIES = (
    "answers", "stream", "schema", "choice", "regex", "tool_required", "tool_named", "tool_auto", "tool_arguments", "logprobs",
    "masked", "reasoning", "adapter",
)  # fmt: skip
"""What can be found out about a rung: a closed list, also the values of the metric label. masked: tokens that the grammar forced can
be told from sure ones."""
Finding = Literal["enforced", "ignored", "refused", "unknown"]
"""ignored: it was accepted, and the answer is as if it had not been said."""
Ledger = Mapping[str, Finding]


class PriceConfig(BaseModel):
    """USD per million tokens. Local hardware: `gpu_hour` spread over `tokens_per_second` that it serves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: float = Field(0.0, ge=0, description="USD per million input tokens")
    cached_input: float | None = Field(None, ge=0, description="USD per million cached input tokens; default: as input")
    output: float = Field(0.0, ge=0, description="USD per million output tokens")
    gpu_hour: float | None = Field(None, ge=0, description="USD per hour of the hardware that serves this rung")
    tokens_per_second: float | None = Field(
        None, gt=0, description="output tokens per second that it serves on average"
    )

    def price(self) -> Price:
        served = 0.0
        if self.gpu_hour and self.tokens_per_second:
            served = self.gpu_hour / (self.tokens_per_second * 3600) * 1_000_000
        cached = self.input if self.cached_input is None else self.cached_input
        return Price(input=self.input, cached_input=cached, output=self.output + served)


class BackendConfig(BaseModel):
    """Base of every backend's `Config`: frozen, and an unknown key is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sure: ClassVar[bool] = False
    """Its answers say themselves how likely they are right (`Chunk.probability`)."""

    kind: str
    price: PriceConfig = PriceConfig()
    timeout: float = Field(30.0, gt=0, description="seconds to the end of an answer, before its first byte went out")
    modalities: tuple[Literal["text", "image", "audio", "file"], ...] = Field(
        ("text",),
        description="kinds of content parts that this backend takes; a request with others goes to a higher rung",
    )
    context_length: int | None = Field(None, gt=0, description="tokens; told to clients in /v1/models")
    cloud: bool = Field(False, description="true: leaves the house; `egress: local` forbids such a rung")

    def missing(self) -> str:
        """The name of the variable without which this backend cannot work; "" when nothing is missing."""
        return ""

    def digest(self) -> str:
        """Identifies the model that answers, for calibration and Records (a digest, or the model's name)."""
        return str(getattr(self, "model", "") or self.kind)


class BackendResources(Protocol):
    """What the composition root lends to backends. Whoever starts it stops it: not the backend."""

    @property
    def http(self) -> "Http":
        """The way out. Only `backends/http/` knows which client stands behind it."""

    def static_table(self, folder: Path) -> "StaticTable":
        """The static embedding table in `folder`, loaded once per process. Raises embed.errors.EmbedError."""

    def minilm(self, folder: Path) -> "MiniLM | None":
        """The client of the one MiniLM worker process; None when it is switched off."""

    def tagger(self, folder: Path) -> "Tagger":
        """The client of the one worker process of the tagger in `folder`."""

    def resolve(self, path: Path) -> Path:
        """`path` as written in the configuration, against the configuration's folder, then Weir's own."""

    @property
    def control(self) -> "Control":
        """For small questions to engines, off the path of any request."""

    def kept(self, key: tuple[str, ...], make: "Callable[[], T]") -> T:
        """The one object of this process for `key`, made by its first user: what backends share, and what outlives a reload."""


class Backend(Protocol):
    """May have an attribute `dialect`: the API that its upstream speaks ("chat" when it has none). Only requests of that dialect can
    be passed through unchanged. What `stream` gives may have a method `step(sink)`, for chunks that come together, and beside it `over`:
    True when it is known that nothing more comes (`backends._steps`)."""

    def stream(self, call: Call) -> AsyncGenerator[Chunk, None]:
        """Answer `call`. Raises BackendError."""


class Tended(Backend, Protocol):
    """A backend that has something to look after. Both methods are optional; the composition root calls them when they are there."""

    async def tend(self) -> None:
        """Runs for as long as this backend is in use, and is cancelled then. One that raises is logged and begun again. Nothing waits for
        it: the rung is asked meanwhile."""

    async def retire(self, after: Sequence[Backend]) -> None:
        """A reload has replaced this backend; `after` are all that are in use now. Undo what nobody needs any more. Bounded in time."""


def facts(backend: Backend) -> Mapping[str, Any]:
    """What a backend says of itself for `/readyz` and Records (`facts` attribute), {} when it says nothing."""
    return getattr(backend, "facts", {})
