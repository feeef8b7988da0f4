"""Kinds for tests: what a backend, a router and a validator from somebody else's module look like."""

from collections.abc import AsyncGenerator
from typing import ClassVar

from pydantic import BaseModel, Field, SerializeAsAny

from backends._secret import Secret
from backends.base import BackendConfig
from routers.base import RouterConfig
from wire.types import Call, Chunk, Query, Scores


class Silent:
    """A backend that can be built and must never be asked."""

    def __init__(self, name: str, config: BackendConfig, resources: object) -> None:
        self.name = name

    async def stream(self, call: Call) -> AsyncGenerator[Chunk, None]:
        raise AssertionError(f"{self.name} was asked")
        yield Chunk()


class Cloud(Silent):
    class Config(BackendConfig):
        base_url: str = "http://127.0.0.1:1"
        model: str = ""
        port: int = 1
        api_key: Secret | None = None
        headers: dict[str, Secret] = Field(default_factory=dict)

        def missing(self) -> str:
            return self.api_key.missing if self.api_key else ""


class Local(Silent):
    class Config(BackendConfig):
        pass


class Sure(Silent):
    """Its answers say how likely they are right."""

    class Config(BackendConfig):
        sure: ClassVar[bool] = True


class Several:
    """A router made of routers, with a plain table of its own between them."""

    class Config(RouterConfig):
        class Tier(BaseModel):
            weight: float = 1.0
            use: SerializeAsAny[RouterConfig]

        of: tuple[SerializeAsAny[RouterConfig], ...] = ()
        tiers: tuple[Tier, ...] = ()


class Leaf:
    class Config(RouterConfig):
        neighbours: int = Field(5, ge=1)


class Bare:
    """No kind: it has no Config."""


class Wrong:
    """No kind: its Config is something else."""

    Config = int


class Judge:
    class Config(BaseModel, extra="forbid", frozen=True):
        kind: str
        least: int = 1


class Raising:
    """A router that always raises."""

    Config = RouterConfig

    def __init__(self, config: RouterConfig, routes: object, resources: object) -> None:
        pass

    async def score(self, query: Query) -> Scores:
        raise RuntimeError("no scores today")
