"""gateway.surface.exchange: an answer's headers, and what the edge of an exchange keeps to itself. On the wire: test_connection."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from gateway.surface.exchange import Exchange, Responder
from gateway.surface.headers import NAME_KEPT, HeaderLines, _lower


class Hears(Responder):
    """Keeps the answers, but for their status."""

    def __init__(self) -> None:
        self.answers: list[tuple[set[bytes], bytes, bool]] = []

    def answer(self, status: int, head: bytes, body: bytes, *, keep: bool) -> None:
        self.answers.append((set(head.removesuffix(b"\r\n").split(b"\r\n")), body, keep))

    async def begin(self, status: int, head: bytes) -> None:
        self.answer(status, head, b"", keep=True)

    async def send(self, message: Message) -> None:
        raise AssertionError("it answers past ASGI")


own = st.dictionaries(
    st.sampled_from(["content-type", "content-length", "connection", "x-a", "x-b%"]), st.text(max_size=9)
)
usual = st.dictionaries(st.sampled_from(["x-c", "x-d%"]), st.text(max_size=9))


@given(own, usual, st.sampled_from(["POST", "GET", "HEAD"]))
def test_header_lines_are_headers(own: dict[str, str], usual: dict[str, str], method: str) -> None:
    """An answer with them is the answer that has each of them by itself, past ASGI and over it."""

    async def run() -> None:
        hears, messages = Hears(), []

        async def send(message: Message) -> None:
            messages.append((message.get("status"), set(message.get("headers", ())), message.get("body")))

        for way in (hears.send, send):
            scope = {"type": "http", "method": method, "path": "/", "headers": []}
            waits = Exchange(scope, _receive, way).put(200, b"hello", own, HeaderLines.of(usual))
            if waits is not None:
                await waits
            await Exchange(scope, _receive, way).whole(200, b"hello", {**own, **usual})
            more = [HeaderLines.of(usual), HeaderLines.of({"x-e": "e"})]
            await Exchange(scope, _receive, way).stream(own, *more)
            await Exchange(scope, _receive, way).stream({**own, **usual, "x-e": "e"})
        assert hears.answers[0] == hears.answers[1]
        assert hears.answers[2] == hears.answers[3]
        assert messages[:2] == messages[2:4]
        assert messages[4] == messages[5]

    asyncio.run(run())


def test_what_is_seen_behind_the_door() -> None:
    """No credentials, and nothing that belongs to this connection; names in lower case."""
    sent = [(b"Authorization", b"Bearer k"), (b"cookie", b"c"), (b"connection", b"close"), (b"X-A", b"\xe9")]
    scope = {"method": "GET", "path": "/", "headers": sent}

    async def nothing(*_: object) -> dict[str, object]:
        raise AssertionError

    exchange = Exchange(scope, nothing, nothing)  # type: ignore[arg-type]
    assert exchange.responder is None
    assert exchange.public_headers() == {"x-a": "é"}


def test_only_short_names_of_headers_are_remembered() -> None:
    """Names are the caller's bytes, also a stranger's: what is kept of them for later requests is small, and read alike."""
    before = _lower.cache_info().currsize
    long = b"X-" + b"a" * NAME_KEPT
    exchange = Exchange(
        {"type": "http", "method": "GET", "path": "/", "headers": [(long, b"1"), (b"X-Short", b"2")]}, _receive, _send
    )
    assert exchange.headers == {long.decode().lower(): "1", "x-short": "2"}
    assert _lower.cache_info().currsize <= before + 1


async def _receive() -> Message:
    raise AssertionError("nothing is read")


async def _send(message: Message) -> None:
    raise AssertionError("nothing is written")
