"""Arbitrary bytes from the server, cut anywhere, ended anyhow, left at any moment: an answer or a BackendError, soon, and nothing left."""

import asyncio
import gzip
from itertools import pairwise

from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from backends.http.base import Timeouts
from backends.http.local import LocalClient
from tests.backends.http.local import EITHER, settled
from tests.backends.http.playing import LONG, ask
from tests.backends.http.test_local import BROKEN, CLOSED, CUT, KEPT
from tests.backends.http.wire import End, WiredClient
from tests.backends.upstream import Asked, Upstream
from tests.waiting import PATIENCE
from wire.errors import BackendError

SOON = Timeouts(connect=0.5, first_byte=0.03, idle=0.03, total=0.5)
ENDS: list[End] = ["open", "close", "reset"]
WRITTEN = [given for given, _ in (*KEPT.values(), *CLOSED.values())] + list(BROKEN.values()) + list(CUT.values())
CUTS = st.lists(st.integers(0, 300), max_size=8)
SCRAPS = [
    b"\r\n", b"\n", b"\r", b"\0", b" ", b":", b";", b"0\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.0 ",
    b"content-length: 3\r\n", b"Content-Length: 18446744073709551616\r\n", b"transfer-encoding: chunked\r\n", b"connection: close\r\n",
    b"connection: upgrade\r\nupgrade: x\r\n", b"content-encoding: gzip\r\n", b"ffffffffffffffff\r\n", b"5\r\nhello\r\n", b"-1\r\n",
    gzip.compress(b"hello", mtime=0), b"204",
]  # fmt: skip


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` in pieces that are not empty."""
    edges = [0, *sorted(min(place, len(data)) for place in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a < b]


@st.composite
def valid(draw: st.DrawFn) -> tuple[bytes, bytes, bool]:
    """An answer, its body, and whether only the connection's end ends it."""
    body = draw(st.binary(max_size=300))
    framing = draw(st.sampled_from(["length", "chunked", "none"]))
    plain, head = body, b""
    if draw(st.booleans()):
        head, body = b"Content-Encoding: gzip\r\n", gzip.compress(body, mtime=0)
    interim = b"".join(
        draw(
            st.lists(st.sampled_from([b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 X\r\na: b\r\n\r\n"]), max_size=2)
        )
    )
    if framing == "length":
        return interim + b"HTTP/1.1 200 OK\r\n" + head + b"Content-Length: %d\r\n\r\n" % len(body) + body, plain, False
    if framing == "none":
        return interim + b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + body, plain, True
    chunks = b"".join(b"%x;a=b\r\n%b\r\n" % (len(piece), piece) for piece in cut(body, draw(CUTS)))
    trailer = draw(st.sampled_from([b"", b"x-sum: 1\r\n"]))
    return (
        interim
        + b"HTTP/1.1 200 OK\r\n"
        + head
        + b"Transfer-Encoding: chunked\r\n\r\n"
        + chunks
        + b"0\r\n"
        + trailer
        + b"\r\n",
        plain,
        False,
    )


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """An answer with a few bytes cut out, doubled, overwritten or put in."""
    data = draw(st.one_of(st.sampled_from(WRITTEN), valid().map(lambda made: made[0]), st.binary(max_size=60)))[:2000]
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        till = min(len(data), at + draw(st.integers(0, 12)))
        put = draw(st.one_of(st.binary(max_size=4), st.sampled_from(SCRAPS), st.just(data[at:till] * 2)))
        data = data[:at] + put + data[till:]
    return data


def play(client: WiredClient, limits: Timeouts, leave: int | None = None) -> bytes | BackendError | None:
    """Ask twice. The first result; None when it was left after `leave` turns. Whatever became of it, the second is right, and at
    the end nothing is left."""
    found: bytes | BackendError | None = None

    async def first() -> None:
        nonlocal found
        try:
            found = await ask(client, "http://here/v1", limits)
        except BackendError as exc:
            found = exc

    async def main() -> None:
        await client.open()
        async with asyncio.timeout(PATIENCE):
            async with asyncio.TaskGroup() as group:
                task = group.create_task(first())
                if leave is not None:
                    for _ in range(leave):
                        await asyncio.sleep(0)
                    task.cancel()
            client.behave()
            assert await ask(client, "http://here/v1", LONG) == b"right"
            (pool,) = client.pools.values()
            assert pool.leased == 0
            await settled(client, len(pool.idle))
            await client.close()
        assert not client.connections
        assert not client.pools
        assert not client.patience
        assert all(wire.lost for wire in client.wires)

    asyncio.run(main())
    return found


@given(valid(), CUTS, st.booleans())
def test_a_valid_answer_is_understood_however_it_is_cut(
    made: tuple[bytes, bytes, bool], cuts: list[int], eof: bool
) -> None:
    """Every framing, with interim answers, extensions, trailers and gzip, in any pieces: the body, byte for byte."""
    answer, body, ends = made
    client = WiredClient(cut(answer, cuts), "close" if ends or eof else "open")
    assert play(client, LONG) == body


@given(valid(), CUTS, st.integers(0, 400), st.sampled_from(ENDS[1:]))
def test_an_answer_cut_short_is_never_taken_for_whole(
    made: tuple[bytes, bytes, bool], cuts: list[int], kept: int, end: End
) -> None:
    """Without its last byte or more, an answer that says where it ends is an error, and never a shorter body."""
    answer, body, ends = made
    answer = answer[: min(kept, len(answer) - 1)]
    found = play(WiredClient(cut(answer, cuts), end), LONG)
    if ends and end == "close" and isinstance(found, bytes):
        assert body.startswith(found)
    else:
        # Without a byte of it, it was no answer: the request was not sent again, since the connection was fresh.
        assert isinstance(found, BackendError)


@settings(max_examples=300)
@given(mutated(), CUTS, st.sampled_from(ENDS))
@example(
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", [], "open"
)
def test_anything_at_all(data: bytes, cuts: list[int], end: End) -> None:
    """Nothing but an answer or a BackendError comes of it, and nothing of it reaches the next request."""
    found = play(WiredClient(cut(data, cuts), end), SOON)
    assert isinstance(found, bytes | BackendError)
    event("answered" if isinstance(found, bytes) else f"{type(found).__name__}")


@settings(max_examples=300)
@given(mutated(), CUTS, st.sampled_from(ENDS), st.integers(0, 12))
def test_left_at_any_moment(data: bytes, cuts: list[int], end: End, leave: int) -> None:
    """Cancelled after any number of turns, whatever the server did so far: nothing stays behind, and the next one is answered."""
    found = play(WiredClient(cut(data, cuts), end), SOON, leave)
    assert found is None or isinstance(found, bytes | BackendError)
    event("left" if found is None else "ended before")


@settings(max_examples=40)
@given(
    st.lists(st.tuples(mutated(), CUTS, st.sampled_from(ENDS)), min_size=1, max_size=4), st.sampled_from(sorted(EITHER))
)
def test_the_same_over_sockets(answers: list[tuple[bytes, list[int], End]], loop: str) -> None:
    """On real sockets and either loop, several at once: the same, and not one connection is left."""

    async def handler(asked: Asked) -> None:
        data, cuts, end = answers[int(asked.body)]
        for piece in cut(data, cuts):
            asked.writer.write(piece)
            await asyncio.sleep(0)
        if end == "close":
            asked.writer.close()
        elif end == "reset":
            asked.writer.transport.abort()
        else:
            await asyncio.sleep(1)

    async def test(client: LocalClient, server: Upstream) -> None:
        async def one(number: int) -> None:
            try:
                await ask(client, server.url, SOON, body=b"%d" % number)
            except BackendError:
                return

        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            for number in range(len(answers)):
                group.create_task(one(number))

    EITHER[loop](handler, test, limit=2)
