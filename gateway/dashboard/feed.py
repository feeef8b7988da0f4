"""One frame a second to a bounded number of pages, as server-sent events.

A frame is made when somebody listens and is shared by all who do. Nothing is kept for a page that reads slowly: it gets the frame of the
moment when it is ready for one, and one that takes nothing for STUCK seconds is let go. When the server stops, the streams end, so
that its drain does not wait for pages.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from wire.errors import NoAnswer

EVERY = 1.0
"""Seconds between two frames."""
STUCK = 10.0
BEAT = b": beat\n\n"
"""Sent when nothing changed: the page then knows that the gateway is there."""


class Feed:
    """make: the state of the page, encoded. stopping: is the server about to end?"""

    def __init__(self, make: Callable[[], bytes], stopping: Callable[[], bool], clock: Callable[[], float]) -> None:
        self._make = make
        self._stopping = stopping
        self._clock = clock
        self._made = float("-inf")
        self._state = b""
        self.listeners = 0

    def state(self) -> bytes:
        """The state of the page, made at most once a second."""
        now = self._clock()
        if now - self._made >= EVERY * 0.9:
            self._state, self._made = self._make(), now
        return self._state

    def listen(self, most: int, headers: Mapping[str, str], every: float = EVERY) -> "EventStream":
        """The answer to one page. Raises NoAnswer (503) when `most` listen already."""
        if self.listeners >= most:
            raise NoAnswer(
                f"{most} pages listen already (ui.listeners)",
                status=503,
                code="overloaded",
                type="service_unavailable_error",
                headers={"retry-after": "5"},
            )
        return EventStream(self, headers, every)

    async def write(self, send: Send, every: float) -> None:
        """Frames to one page, until the server stops. Raises TimeoutError for a page that is stuck."""
        before: bytes | None = None
        while not self._stopping():
            state = self.state()
            data = BEAT if state == before else b"event: state\ndata: " + state + b"\n\n"
            before = state
            async with asyncio.timeout(STUCK):
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await asyncio.sleep(every)
        await send({"type": "http.response.body", "body": b"event: stopping\ndata: {}\n\n", "more_body": False})


class EventStream(Response):
    """As an ASGI answer of its own: Starlette's leaves its generator open when the caller goes."""

    def __init__(self, feed: Feed, headers: Mapping[str, str], every: float) -> None:
        super().__init__(None, 200, {**headers, "x-accel-buffering": "no"}, "text/event-stream")
        del self.headers["content-length"]
        self._feed = feed
        self._every = every
        self._feed.listeners += 1  # here and not when it is sent: of many that come at once only so many are let in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async with asyncio.TaskGroup() as group:
                gone = group.create_task(_left(receive))
                writing = group.create_task(self._write(send, gone))
                gone.add_done_callback(lambda _: writing.cancel())
        finally:
            self._feed.listeners -= 1

    async def _write(self, send: Send, gone: "asyncio.Task[None]") -> None:
        with suppress(TimeoutError, OSError):
            await self._feed.write(send, self._every)
        gone.cancel()


async def _left(receive: Receive) -> None:
    message: Any = None
    while message is None or message["type"] != "http.disconnect":
        message = await receive()
