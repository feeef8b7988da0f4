"""Asks a gateway: one in this process, through its whole line, or one that runs elsewhere. `weir test` sees the same of both."""

import asyncio
import tempfile
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct, structs

if TYPE_CHECKING:
    from gateway.app import Application

CHAT = "/v1/chat/completions"
RECORD = "/v1/weir/requests/"
SECONDS = 600.0
"""For one answer; the gateway's own deadlines are shorter."""


class Reply(Struct, frozen=True):
    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


class Unreachable(Exception):
    """Nobody answers, or the gateway did not start. The message says why."""


class Gateway(Protocol):
    schema: Mapping[str, Any] | None
    """The one that the route imposes, where that is known."""

    async def ask(self, method: str, path: str, body: bytes = b"") -> Reply:
        """Raises Unreachable."""


class Inside:
    """A gateway without a socket."""

    def __init__(self, app: "Application", schema: Mapping[str, Any] | None, key: str) -> None:
        self._app = app
        self.schema = schema
        self._headers = [(b"content-type", b"application/json"), *_bearer(key)]

    async def ask(self, method: str, path: str, body: bytes = b"") -> Reply:
        got: list[Any] = [{"type": "http.request", "body": body, "more_body": False}]
        gone = asyncio.Event()
        status, headers, parts = 0, {}, []

        async def receive() -> Any:
            if got:
                return got.pop()
            await gone.wait()  # a caller who stays until the end
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = {
                    name.decode("latin-1").lower(): value.decode("latin-1") for name, value in message["headers"]
                }
            else:
                parts.append(message.get("body", b""))

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http", "path": path,
            "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": [*self._headers, (b"host", b"weir"),
            (b"content-length", str(len(body)).encode())], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
        }  # fmt: skip
        await self._app(scope, receive, send)
        return Reply(status, headers, b"".join(parts))


class Outside:
    """A gateway that runs."""

    schema: Mapping[str, Any] | None = None

    def __init__(self, url: str, key: str) -> None:
        self._url = url.rstrip("/").removesuffix("/v1")
        self._headers = {"content-type": "application/json", **{k.decode(): v.decode() for k, v in _bearer(key)}}

    async def ask(self, method: str, path: str, body: bytes = b"") -> Reply:
        return await asyncio.to_thread(self._ask, method, path, body)

    def _ask(self, method: str, path: str, body: bytes) -> Reply:
        try:
            request = urllib.request.Request(self._url + path, data=body or None, headers=self._headers, method=method)
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return Reply(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read())
        except urllib.error.HTTPError as exc:
            with exc:
                return Reply(exc.code, {k.lower(): v for k, v in exc.headers.items()}, exc.read())
        except (OSError, ValueError) as exc:
            raise Unreachable(f"{self._url} does not answer: {exc}") from exc


@asynccontextmanager
async def outside(url: str, key: str = "") -> AsyncIterator[Outside]:
    """The gateway at `url`. Raises Unreachable when nobody answers there."""
    gateway = Outside(url, key)
    await gateway.ask("GET", "/healthz")
    yield gateway


@asynccontextmanager
async def inside(config: Path, route: str, key: str = "") -> AsyncIterator[Inside]:
    """The gateway that `config` describes, in this process: real router, ladder, checks and backends. `route` answers as in
    `mode: enforce`, whatever its mode; nobody needs a key of the configuration's; nothing is shadowed or judged; Records go to a folder
    that is gone afterwards. Raises ConfigError, Unreachable."""
    from gateway.access.keys import Keys
    from gateway.app import Application
    from gateway.log import Log
    from gateway.settings.model import Access

    with tempfile.TemporaryDirectory(prefix="weir-test-") as folder:
        app = Application(config, overrides={"state_dir": Path(folder)}, log=Log(off=True))
        setup = app.live.setup
        if route not in setup.routes:
            raise Unreachable(f"there is no route {route!r}: {', '.join(setup.routes)}")
        enforced = structs.replace(setup.routes[route], mode="enforce")
        app.live.setup = structs.replace(setup, routes={**setup.routes, route: enforced}, keys=Keys(Access()))
        app.live.afterwards.clear()
        imposed = enforced.constraint
        plain = imposed is not None and imposed.kind == "schema" and enforced.render is None
        async with _lifespan(app):
            yield Inside(app, imposed.value if imposed is not None and plain else None, key)


@asynccontextmanager
async def _lifespan(app: "Application") -> AsyncIterator[None]:
    """Raises Unreachable when it does not start."""
    events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    started: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    events.put_nowait({"type": "lifespan.startup"})
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}}
    async with asyncio.TaskGroup() as group:
        group.create_task(app(scope, events.get, started.put))  # type: ignore[arg-type]
        told = await started.get()
        if told["type"] == "lifespan.startup.complete":
            try:
                yield
            finally:
                events.put_nowait({"type": "lifespan.shutdown"})
    if told["type"] != "lifespan.startup.complete":
        raise Unreachable(f"the gateway did not start: {told.get('message', '')}")


def _bearer(key: str) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", f"Bearer {key}".encode("latin-1", "replace"))] if key else []
