"""What a router is.

A router is a class in a file of its own: a frozen `Config`, `__init__(config, routes, resources)` and one method. It
scores; it never decides. `tests/contract/test_routers.py` finds it by walking this package and runs the common cases.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct
from pydantic import BaseModel, ConfigDict, Field

from wire.types import Query, Scores

if TYPE_CHECKING:
    from embed.static import StaticTable


class RouterConfig(BaseModel):
    """Base of every router's `Config`: frozen, and an unknown key is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    name: str = Field("", max_length=63, description="how Records call this tier of a cascade; default: its kind")
    sure: float = Field(0.99, gt=0, le=1, description="in a cascade: a best score from here on ends the asking")
    sure_out: float = Field(0.99, gt=0, le=1, description="in a cascade: an out-of-scope from here on ends the asking")


class RouteSpec(Struct, frozen=True):
    """What a router is told of a route."""

    name: str
    match: Mapping[str, Any] | Sequence[Any] = {}
    """The YAML `match:` table or tables, as dicts or as `routers.rules.Match`."""
    examples: Sequence[str] = ()
    description: str = ""


class RouterResources(Protocol):
    """What the composition root lends to routers. Whoever starts it stops it: not the router."""

    def static_table(self, folder: Path) -> "StaticTable":
        """The static embedding table in `folder`, loaded once per process. Raises embed.errors.EmbedError."""


class Router(Protocol):
    async def score(self, query: Query) -> Scores:
        """How well each route fits. Any exception, or a late answer, sends the request the default way, counted."""
