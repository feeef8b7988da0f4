"""The way out to plain-HTTP upstreams near by (vLLM, llama.cpp): a small HTTP/1.1 client of our own behind `Http`.

    post > Exchange (the context, the answer and its blocks in one object)
             pool.py        leases, the queue, the idle connections
             connection.py  asyncio.Protocol + httptools: framing, one timer, back-pressure
             head.py        heads, pure            inflate.py   bodies that were compressed unasked
             outbox.py      writes of one turn of the loop

Why a client of our own (`python -m benchmarks.clients`: medians of 5 interleaved rounds, uvloop, 2 vCPU, Nov 2026, aiohttp 3.14.5):

    CPU per request, client alone / in a bare proxy     15 / 44 us      aiohttp 86 / 117 us
    added latency, one connection, p50 / p99            15 / 23 us      aiohttp 95 / 114 us
    CPU per streamed chunk, 10 ms apart / in a burst    7.7 / 0.5 us    aiohttp 23 / 3.0 us

Head and body are one write, writes of one turn of the loop go out together, an answer that came whole is one wake-up and frees its
connection at once, a head like the last one is not parsed again (`head.Seen`), the timer is not set per request, nothing is locked.

What it does not do: TLS, HTTP/2, redirects, proxies, cookies, methods other than POST.

One retry, as in `client.py`: a kept connection that the server closes when it is used again, before a byte of the answer came, is replaced
by a fresh one, once (RFC 9112, 9.3.1).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType

from backends.http.base import Timeouts
from backends.http.connection import Connection
from backends.http.head import Target, request_head, target
from backends.http.inflate import Inflate
from backends.http.outbox import Outbox
from backends.http.pool import CLOSED, Pool
from backends.http.rules import origin_of, too_late
from wire.errors import Broken

_TURNS = 100
"""Turns of the loop that `close` waits for the sockets to be closed; they need two or three."""


class LocalClient:
    """Made by the lifespan: `await open()` in the running loop, `await close()` at its end.

    limit: connections to one host and port at once; who comes later waits (phase `connect`), at most `waiting` of them, the next is
    Overloaded. keepalive: seconds that an idle connection is kept. max_head: bytes of an answer's head, all its lines together.
    """

    def __init__(
        self, *, limit: int = 1024, waiting: int = 4096, keepalive: float = 15.0, max_head: int = 64 * 1024
    ) -> None:
        self.limit = limit
        self.waiting = waiting
        self.keepalive = keepalive
        self.max_head = max_head
        self.closed = True
        self.connections: set[Connection] = set()
        """All whose socket is open."""
        self.patience: set[asyncio.Timeout] = set()
        self.loop: asyncio.AbstractEventLoop
        self.outbox: Outbox
        self.pools: dict[tuple[str, int], Pool] = {}
        """By host and port; only those in use."""

    async def open(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.outbox = Outbox(self.loop)
        self.closed = False

    async def close(self) -> None:
        """Close every connection now. Requests under way, queued or connecting end with Broken."""
        self.closed = True
        for patience in self.patience:
            if not patience.expired():
                patience.reschedule(0)
        for pool in list(self.pools.values()):
            pool.close()
        for conn in list(self.connections):
            conn.fail(CLOSED)
        for _ in range(_TURNS):
            if not self.connections:
                break
            await asyncio.sleep(0)

    def post(
        self, url: str, body: bytes, headers: Mapping[str, str], timeouts: Timeouts, request_id: str = ""
    ) -> "Exchange":
        """See `Http.post`. Raises also Overloaded, when the queue for this host is full."""
        return Exchange(self, url, body, headers, timeouts, request_id)

    def pool(self, to: Target) -> Pool:
        """A new one: call it where `pools` has none."""
        pool = self.pools[to.place] = Pool(self, to)
        return pool

    def emptied(self, pool: Pool) -> None:
        self.pools.pop(pool.to.place, None)


class Exchange:
    """One POST: the context that `LocalClient.post` gives, the `Answer` inside, and the iterator of its blocks."""

    __slots__ = (
        "_begun", "_body", "_client", "_conn", "_first", "_given", "_head_by", "_inflate", "_limits", "_pool", "_request_id", "_url",
        "ended", "headers", "status", "whole",
    )  # fmt: skip

    status: int
    headers: Mapping[str, str]
    _pool: Pool
    _begun: float
    _head_by: tuple[float, float, str]
    """The loop time until which the answer must begin, the seconds that this is, and the phase they belong to."""

    def __init__(
        self,
        client: LocalClient,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        timeouts: Timeouts,
        request_id: str = "",
    ) -> None:
        self._client = client
        self._url = url
        self._body = body
        self._given = headers
        self._limits = timeouts
        self._request_id = request_id
        self._conn: Connection | None = None  # on loan: from the head to the end of the body
        self._inflate: Inflate | None = None
        self._first = True
        self.ended = False
        self.whole: bytes | None = None

    # -- the context ----------------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> "Exchange":
        client, url, limits = self._client, self._url, self._limits
        if client.closed:
            raise Broken(CLOSED)
        try:
            to = target(url)
            head = request_head(to, self._given, len(self._body), self._request_id)
        except ValueError:
            raise Broken(f"{origin_of(url)}: the URL or a header cannot be sent") from None
        begun = self._begun = client.loop.time()
        pool = self._pool = client.pools.get(to.place) or client.pool(to)
        conn = pool.reuse() or await pool.obtain(begun, limits)
        seconds, phase = limits.first_byte, "first_byte"
        if limits.total is not None and limits.total < seconds:
            seconds, phase = limits.total, "total"
        until = begun + seconds
        self._head_by = until, seconds, phase
        while True:
            try:
                await conn.ask(head, self._body, until)
                while not (conn.status or conn.error or conn.expired):
                    await conn.wait(until)
            except BaseException:
                pool.discard(conn)
                raise
            if conn.status:
                break
            if conn.expired:
                pool.discard(conn)
                raise too_late(pool.origin, phase, seconds)
            if client.closed or conn.heard or not conn.used:
                pool.discard(conn)
                raise Broken(CLOSED if client.closed else f"{pool.origin}: {conn.error}")
            conn = await pool.obtain(begun, limits, fresh=True)
        self._conn = conn
        self.status = conn.status
        self.headers = conn.head.headers if conn.head is not None else self._read_head(conn)
        if conn.whole and self._inflate is None:  # so the connection is free before anybody reads
            self.whole = conn.take()
            self.ended = True
            self._conn = None
            pool.give_back(conn)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A body that was read to its end has given its connection back already. One that came whole, but was not read, does so here.
        self._leave()

    def _read_head(self, conn: Connection) -> Mapping[str, str]:
        try:
            head = self._pool.seen.head(conn.fields)
            if head.coding:
                self._inflate = Inflate(head.coding, self._pool.origin)
        except ValueError as exc:
            conn.abort()
            self._leave()
            raise Broken(f"{self._pool.origin}: the answer has {exc}") from None
        except Broken:
            conn.abort()
            self._leave()
            raise
        return head.headers

    def _leave(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            self._pool.give_back(conn)

    # -- the answer -----------------------------------------------------------------------------------------------------------------

    def blocks(self) -> AsyncIterator[bytes]:
        return self

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        block = await (self._block() if self._inflate is None else self._decoded())
        if not block:
            raise StopAsyncIteration
        return block

    async def pour(self, take: Callable[[bytes], bool]) -> bool:
        limits = self._limits
        while True:
            conn = self._conn
            plain = conn is not None and self._inflate is None and limits.total is None and not self._first
            if conn is not None and plain and not (conn.filled or conn.whole or conn.error):
                declined = await conn.wait(self._client.loop.time() + limits.idle, take, limits.idle)
                if declined:
                    return True
            # The first block, the last, the end, what is no plain body or went wrong: the usual way.
            if conn is not None and conn.filled and self._inflate is None:
                block = self._taken(conn)
            else:
                block = await (self._block() if self._inflate is None else self._decoded())
            if not block:
                return False
            if not take(block):
                return True

    async def read(self, limit: int = 64 * 2**20) -> bytes:
        blocks: list[bytes] = []
        length = 0
        whole = False
        while not whole:
            if self._inflate is None:
                if self.ended:  # most answers are whole before anybody reads them
                    block, self.whole = self.whole or b"", None
                else:
                    block = await self._block()
                whole = self.ended
            else:
                block = await self._decoded()
                whole = not block
            blocks.append(block)
            length += len(block)
            if length > limit:
                raise Broken(f"{self._pool.origin}: the answer is longer than {limit} bytes")
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)

    async def _decoded(self) -> bytes:
        """The next block of a body that was compressed; b"" at the end."""
        inflate = self._inflate
        assert inflate is not None
        while not (block := inflate.take()):
            if not (raw := await self._block()):
                inflate.finish()
                break
            inflate.feed(raw)
        return block

    async def _block(self) -> bytes:
        """What has come since the last one, as it came; b"" at the end."""
        conn = self._conn
        if conn is None:
            if self.ended:
                block, self.whole = self.whole or b"", None
                return block
            raise Broken(f"{self._pool.origin}: the answer was left before its end")
        if not (conn.filled or conn.whole or conn.error):
            until, seconds, phase = self._until()
            while not (conn.filled or conn.whole or conn.error):
                if conn.expired:
                    conn.abort()
                    raise too_late(self._pool.origin, phase, seconds)
                await conn.wait(until)
        return self._taken(conn)

    def _taken(self, conn: Connection) -> bytes:
        """What has come. Raises BackendError where nothing has, or too late."""
        block = conn.take()
        if conn.whole:  # what follows the last block is known with it: the connection is free before that block is read
            self.ended = True
            self._leave()
        elif not block:
            raise Broken(f"{self._pool.origin}: {conn.error}" if not self._client.closed else CLOSED)
        elif (total := self._limits.total) is not None and self._client.loop.time() > self._begun + total:
            conn.abort()
            raise too_late(self._pool.origin, "total", total)
        self._first = False
        return block

    def _until(self) -> tuple[float, float, str]:
        """The loop time until which something must come, the seconds that this is, and the phase they belong to."""
        limits = self._limits
        if self._first:
            return self._head_by
        when, seconds, phase = self._client.loop.time() + limits.idle, limits.idle, "idle"
        if limits.total is not None and self._begun + limits.total < when:
            return self._begun + limits.total, limits.total, "total"
        return when, seconds, phase
