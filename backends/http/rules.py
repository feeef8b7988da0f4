"""What both clients keep to: which headers are passed on, what a message may name, how a timeout is said."""

import functools
from urllib.parse import urlsplit

from wire.errors import TimedOut

# set-cookie is for the client that asked, and that is Weir, which keeps no cookies.
NOT_PASSED_ON = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade", "content-length", "content-encoding", "set-cookie",
}  # fmt: skip

_SAID = {
    "connect": "no connection",
    "first_byte": "no answer",
    "idle": "nothing more of the answer",
    "total": "no end of the answer",
}


def too_late(origin: str, phase: str, seconds: float) -> TimedOut:
    """What to raise when `seconds` of `phase` (connect, first_byte, idle, total) are over."""
    return TimedOut(f"{origin}: {_SAID[phase]} within {seconds:g} s", phase=phase)


@functools.lru_cache(maxsize=256)
def origin_of(url: str) -> str:
    """Host and port: what messages may name. Never a user, a path or a query."""
    try:
        parts = urlsplit(url)
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
    except ValueError:
        return "upstream"
