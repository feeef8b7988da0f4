"""gateway.surface.exchange: header lines, and what the edge of an exchange keeps to itself. On the wire: test_connection."""

import asyncio
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from gateway.surface.exchange import NAME_KEPT, Exchange, Responder, Standing, _lower, head_lines

names = st.from_regex(re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,12}"), fullmatch=True).filter(
    lambda n: n != "transfer-encoding"
)


@given(st.dictionaries(names, st.text(max_size=20), max_size=8))
def test_a_value_cannot_leave_its_line(headers: dict[str, str]) -> None:
    """Whatever stands in the values: one line each, with its name, without control characters but tabs."""
    lines = head_lines(headers).split(b"\r\n")
    assert lines.pop() == b""
    assert [line.split(b": ", 1)[0].decode() for line in lines] == list(headers)
    assert not re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", b"".join(lines))


@given(st.dictionaries(names, st.from_regex(re.compile(r"[ -~\xa1-\xac\xae-\xff\t]*"), fullmatch=True), max_size=8))
def test_a_plain_value_stays_as_it_is(headers: dict[str, str]) -> None:
    """Latin-1 without control characters."""
    text = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    assert head_lines(headers) == text.encode("latin-1")


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "ä", "a\x00", "transfer-encoding", "Content-Length"])
def test_no_header(name: str) -> None:
    """ValueError: what is no name, or is the framing's own."""
    with pytest.raises(ValueError, match="cannot have"):
        head_lines({"x-a": "b", name: "c"})


class Hears(Responder):
    """Keeps the answers, but for their status."""

    def __init__(self) -> None:
        self.answers: list[tuple[set[bytes], bytes, bool]] = []

    def answer(self, status: int, head: bytes, body: bytes, *, keep: bool) -> None:
        self.answers.append((set(head.removesuffix(b"\r\n").split(b"\r\n")), body, keep))

    async def send(self, message: Message) -> None:
        raise AssertionError("it answers past ASGI")


own = st.dictionaries(
    st.sampled_from(["content-type", "content-length", "connection", "x-a", "x-b%"]), st.text(max_size=9)
)
standing = st.dictionaries(st.sampled_from(["x-c", "x-d%"]), st.text(max_size=9))


@given(own, standing, st.sampled_from(["POST", "GET", "HEAD"]))
def test_standing_headers_are_headers(own: dict[str, str], standing: dict[str, str], method: str) -> None:
    """An answer with them is the answer that has each of them by itself, past ASGI and over it."""

    async def run() -> None:
        hears, messages = Hears(), []

        async def send(message: Message) -> None:
            messages.append((message.get("status"), set(message.get("headers", ())), message.get("body")))

        for way in (hears.send, send):
            scope = {"type": "http", "method": method, "path": "/", "headers": []}
            waits = Exchange(scope, _receive, way).put(200, b"hello", own, Standing.of(standing))
            if waits is not None:
                await waits
            await Exchange(scope, _receive, way).whole(200, b"hello", {**own, **standing})
        assert hears.answers[0] == hears.answers[1]
        assert messages[:2] == messages[2:]

    asyncio.run(run())


def test_names_are_told_in_lower_case() -> None:
    """However whoever gave them wrote them."""
    assert head_lines({"X-A%": "B"}) == b"x-a%: B\r\n"


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
