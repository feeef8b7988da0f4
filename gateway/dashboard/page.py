"""The way in: the page's files, its state, one decision, the feed; and who may see them.

The files are the same for everybody and hold no data. State needs the right to read Records: an admin key, or, where `access` has no
keys at all, to be on this machine. A key travels in a header only. Where there are no keys a browser is the one thing on this machine that
other people's code can steer: what it sends from another site, or under another name (DNS rebinding), is refused.
"""

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable, Sequence
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

import orjson
from fastapi import FastAPI, Request, Response

from gateway.dashboard import view
from gateway.dashboard.curves import Resolve, curves
from gateway.dashboard.data import Window
from gateway.dashboard.feed import Feed
from gateway.dashboard.joined import Share
from gateway.record import Record
from gateway.settings.references import is_loopback
from gateway.setup import Live, Setup
from wire.errors import NoAnswer, NotFound, Unauthorized

Find = Callable[[str], Awaitable[Record | None]]

FILES = {
    "index.html": "text/html; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "draw.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
DATA = {**HEADERS, "cache-control": "no-store"}
STALE = 5.0
"""Seconds without an answer of the supervisor until the page says so."""


class Dashboard:
    """The page of the whole instance. find: a Record of it. calibrations: the folder of calibration files, as it is now. alone: this
    process is the whole instance; otherwise whoever runs it carries `report` to the supervisor and its answer to `told`, once a second.
    """

    def __init__(
        self, live: Live, find: Find, calibrations: Callable[[], Path], resolve: Resolve, *, alone: bool = True
    ) -> None:
        setup = live.setup
        self.stopping: Callable[[], bool] = lambda: False
        """Is the server about to end? Who drives it says so."""
        self.every = 1.0
        """Seconds between two frames."""
        self._share = None if alone else Share(setup.now(), setup.clock())
        self.window = Window(setup.now()) if self._share is None else self._share.shown
        self.feed = Feed(self._state, lambda: self.stopping(), setup.clock)
        self._live = live
        self._find_record = find
        self._told_at: float | None = None
        self._calibrations = calibrations
        self._resolve = resolve
        self._curves: tuple[Setup, bytes] | None = None
        self._files = {name: _read(name) for name in FILES}

    def observe(self, records: Sequence[Record]) -> None:
        """For `Live.observers`."""
        setup = self._live.setup
        if setup.settings.ui.enabled:
            (self._share or self.window).fold(records, setup.now())

    def report(self) -> bytes | None:
        """For the supervisor (`joined.Report`): what this worker has counted since the last one. `told` or `refused` must follow. None: the
        page is off."""
        live = self._live
        if self._share is None or not live.setup.settings.ui.enabled:
            return None
        live.fold()
        return self._share.report(live.setup.clock(), live.in_flight, view.backends(live.setup))

    def told(self, answer: bytes) -> None:
        """The supervisor's answer to the last report: what all workers have counted. Raises msgspec.DecodeError."""
        if self._share is not None:
            self._share.take(answer)
            self._told_at = self._live.setup.clock()

    def refused(self) -> None:
        """The last report was not taken: the next one tells it too."""
        if self._share is not None:
            self._share.put_back()

    def serve(self, app: FastAPI) -> None:
        """Add the page to the administration app."""

        @app.api_route("/ui", methods=["GET", "HEAD"], include_in_schema=False)
        async def _page(request: Request) -> Response:
            return self._file(request, "index.html")

        @app.get("/ui/events", include_in_schema=False)
        async def _events(request: Request) -> Response:
            self._admit(request)
            return self.feed.listen(self._live.setup.settings.ui.listeners, DATA, self.every)

        @app.get("/ui/state", include_in_schema=False)
        async def _now(request: Request) -> Response:
            self._admit(request)
            return Response(self.feed.state(), media_type="application/json", headers=DATA)

        @app.get("/ui/curves", include_in_schema=False)
        async def _curves_in_force(request: Request) -> Response:
            self._admit(request)
            return Response(await self._curves_now(), media_type="application/json", headers=DATA)

        @app.get("/ui/decisions/{request_id}", include_in_schema=False)
        async def _decision(request_id: str, request: Request) -> Response:
            self._admit(request)
            found = await self._find(request_id)
            if found is None:
                message = f"no Record '{request_id[: view.LONGEST]}' in memory any more: `weir why` reads the files too"
                raise NotFound(message, param="request_id")
            return Response(orjson.dumps(view.decision(found)), media_type="application/json", headers=DATA)

        @app.api_route("/ui/{name}", methods=["GET", "HEAD"], include_in_schema=False)
        async def _asset(name: str, request: Request) -> Response:
            return self._file(request, name)

    def _file(self, request: Request, name: str) -> Response:
        if not self._live.setup.settings.ui.enabled or name not in FILES:
            raise NotFound(f"there is nothing at {request.method} {request.url.path[: view.LONGEST]}")
        data, tag = self._files[name]
        headers = {**HEADERS, "cache-control": "no-cache", "etag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(data, media_type=FILES[name], headers=headers)

    def _admit(self, request: Request) -> None:
        """Raises NotFound, Unauthorized (401, 403)."""
        settings = self._live.setup.settings
        if not settings.ui.enabled:
            raise NotFound(f"there is nothing at {request.method} {request.url.path[: view.LONGEST]}")
        keyless = settings.ui.key == "none" or not (settings.access.keys or settings.access.open)
        if not keyless and not self._live.setup.keys.check(dict(request.headers)).admin:
            raise Unauthorized(
                "the page shows every tenant: it needs a key with `admin: true` (access.keys)",
                status=403,
                code="permission_denied",
            )
        if keyless and is_loopback(settings.server.host) and not _ours(request):
            raise Unauthorized(
                "without a key the page answers this machine only, under its own name (127.0.0.1, localhost); for another name, give "
                "`access.keys` a key with `admin: true`",
                status=403,
                code="permission_denied",
            )

    def _state(self) -> bytes:
        self._live.fold()
        live, share, now = self._live, self._share, self._live.setup.now()
        return orjson.dumps(
            view.frame(
                self.window,
                live.setup,
                now,
                scope=self._scope(),
                process=os.getpid(),
                in_flight=share.in_flight if share else live.in_flight,
                per_second=share.per_second if share else self.window.per_second(now),
                bypassed={"all"} if live.bypass.all else set(live.bypass.routes),
                seen=share.seen if share else {},
            )
        )

    def _scope(self) -> str:
        if self._share is None:
            return ""
        if self._told_at is None:
            return "not joined with the other workers yet"
        count, silent = self._share.workers, self._live.setup.clock() - self._told_at
        workers = f"{count} worker{'s' if count != 1 else ''}"
        return workers if silent < STALE else f"{workers}, as {silent:.0f} s ago: the supervisor does not answer"

    async def _curves_now(self) -> bytes:
        setup = self._live.setup
        if self._curves is None or self._curves[0] is not setup:
            found = await asyncio.to_thread(curves, setup, self._calibrations(), self._resolve)
            self._curves = (setup, orjson.dumps(found))
        return self._curves[1]

    async def _find(self, request_id: str) -> Record | None:
        # Where `telemetry.records` keeps few of them, what the page lists can be opened all the same.
        self._live.fold()
        own = next((record for record in reversed(self.window.last) if record.id == request_id), None)
        try:
            return own or await self._find_record(request_id)
        except OSError as exc:
            raise NoAnswer(str(exc), status=503, code="overloaded", type="service_unavailable_error") from exc


def _ours(request: Request) -> bool:
    """Does a page of this very gateway ask, or no browser at all?"""
    try:
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    except ValueError:
        return False
    return is_loopback(host) and request.headers.get("sec-fetch-site", "none") in ("none", "same-origin")


def _read(name: str) -> tuple[bytes, str]:
    """A file of the page, and its tag."""
    data = resources.files("gateway.dashboard").joinpath("assets", name).read_bytes()
    return data, f'"{hashlib.sha256(data).hexdigest()[:16]}"'
