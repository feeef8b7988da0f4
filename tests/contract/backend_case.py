"""What `test_backends.py` must know of a backend to put it through the common cases."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from backends.base import BackendResources
from tests.waiting import PATIENCE
from wire.types import Call

Yaml = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One kind of backend. Every function is given the URL of the test's server, which answers by the path that it is asked
    under: /good, /hang (says nothing), /half (one event, then nothing), /500, /429, /html, /cut, /empty."""

    good: Callable[[str], Yaml]
    """Configuration (without `kind`) of one that answers `call`."""
    failing: Callable[[str], list[Yaml]] = lambda url: []
    """Configurations of some that cannot."""
    slow: Callable[[str], Yaml] | None = None
    """One that does not answer `call` in this life; None for a backend that cannot be slow (say why in the mirrored test)."""
    stuck: Callable[[str], Yaml] | None = None
    """One that gives a first chunk when live, and then nothing."""
    finish: str = "stop"
    """How its answer to `call` ends. One that ends with tool_calls has these in the place of content."""
    asks_upstream: bool = True
    """It works by asking the server: then the server must see it leave."""
    call: Call = field(
        default_factory=lambda: Call(
            body={"model": "m", "messages": [{"role": "user", "content": "hi"}]}, seconds=PATIENCE, text="hi", model="m"
        )
    )
    resources: Callable[[BackendResources], BackendResources] = lambda shared: shared
    """What it is lent, when the shared resources (an HTTP client, no embedding) are not enough."""


def asks(base_url: str = "base_url", path: str = "/v1") -> Case:
    """The case of a backend that POSTs to `{base_url}{path}/chat/completions` and speaks OpenAI's protocol."""

    def under(*names: str) -> Callable[[str], list[Yaml]]:
        return lambda url: [{base_url: f"{url}/{name}{path}"} for name in names]

    return Case(
        good=lambda url: under("good")(url)[0],
        failing=lambda url: [*under("500", "429", "html", "cut", "empty")(url), {base_url: "http://127.0.0.1:1/v1"}],
        slow=lambda url: under("hang")(url)[0],
        stuck=lambda url: under("half")(url)[0],
    )
