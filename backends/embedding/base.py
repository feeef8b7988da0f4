"""What an embedder is: `embed(batch) -> Embedded`.

Adding one: a file here with one class and its `Config`, a `kind:` line under `embeddings:`, a test. There is no ladder above it: two
models' vectors do not mix, so an embedder that does not answer is an error, never an escalation.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from pydantic import BaseModel, ConfigDict, Field

from backends.base import PriceConfig
from wire.types import EMPTY, Json, Tokens

Matrix = npt.NDArray[np.float32]


class EmbedderConfig(BaseModel):
    """Base of every embedder's `Config`: frozen, and an unknown key is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    price: PriceConfig = PriceConfig()
    timeout: float = Field(60.0, gt=0, description="seconds for a whole batch")
    cloud: bool = Field(False, description="true: leaves the house")

    def missing(self) -> str:
        """The name of the variable without which this embedder cannot work; "" when nothing is missing."""
        return ""


class Batch(Struct, frozen=True):
    """What is to be embedded."""

    texts: Sequence[str] = ()
    """Never empty strings; () when the caller sent token ids."""
    ids: Sequence[Sequence[int]] = ()
    """Token ids of the model that the caller meant (OpenAI's cl100k, mostly); () when the caller sent texts."""
    model: str = ""
    """The name that the caller asked for."""
    dimensions: int | None = None
    """Numbers per vector that the caller wants; None: as many as the model has."""
    seconds: float = 60.0
    extra: Json = EMPTY
    """Fields that nobody here knows, and `user`."""
    request_id: str = ""
    headers: Mapping[str, str] = {}
    """Request headers that may go on to the upstream (never credentials, never `x-weir-*`)."""

    def __len__(self) -> int:
        return len(self.texts) or len(self.ids)


class Embedded(Struct, frozen=True):
    vectors: Matrix
    """(inputs, dimensions) float32, finite, one row per input in the order in which they came."""
    tokens: Tokens
    """Of the input; there is no output."""
    model: str = ""
    """What computed them, for the Record: a name or a digest."""


class Embedder(Protocol):
    async def embed(self, batch: Batch) -> Embedded:
        """Raises BackendError: Unsupported (`param` names the field), ContextOverflow, Overloaded, ... Being cancelled stops the work."""
