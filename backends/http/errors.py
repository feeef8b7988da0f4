"""aiohttp's errors > ours, in one place.

Messages name the host and what happened there, never a path, a header or a body: they are logged.
"""

import asyncio
from types import TracebackType

import aiohttp

from backends.http.rules import too_late
from wire.errors import Broken, TimedOut


class translated:
    """Context: what aiohttp, the socket and the clock raise becomes TimedOut or Broken. `CancelledError` passes.

    A class, not a generator: it stands around every wait for bytes (0.3 us, `contextlib.contextmanager` 1.2 us).
    """

    __slots__ = ("_origin", "_phase", "_seconds")

    def __init__(self, origin: str, phase: str, seconds: float) -> None:
        self._origin = origin
        self._phase = phase
        self._seconds = seconds

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if exc is None:
            return
        if isinstance(exc, aiohttp.ConnectionTimeoutError):
            raise TimedOut(f"{self._origin}: no connection in time", phase="connect") from exc
        if isinstance(exc, asyncio.TimeoutError):
            raise too_late(self._origin, self._phase, self._seconds) from exc
        # ValueError: a URL or a header that cannot be sent. RuntimeError: the session was closed under way.
        if isinstance(exc, aiohttp.ClientError | OSError | ValueError | RuntimeError):
            raise Broken(f"{self._origin}: {_said(exc)}") from exc


def _said(exc: Exception) -> str:
    match exc:
        case aiohttp.ClientConnectorCertificateError():
            return "the server's certificate is not accepted"
        case aiohttp.ClientConnectorDNSError():
            return "the host name cannot be resolved"
        case aiohttp.ClientConnectorError():
            return f"cannot connect ({exc.strerror or exc.__class__.__name__})"
        case aiohttp.ClientPayloadError():
            return "the connection ended before the answer did, or its body cannot be decoded"
        case aiohttp.ClientResponseError():
            return "the answer's head is no HTTP, or too large"
        case aiohttp.InvalidURL():
            return "the URL is not valid"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError():
            return "the server closed the connection"
        case _:
            return f"cannot be asked ({exc.__class__.__name__})"
