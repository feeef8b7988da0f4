"""One connection to a plain-HTTP upstream: an `asyncio.Protocol` that answers one request at a time. No task, no lock.

    ask(head, body, until) > [ wait > ... ] status, fields > [ wait > take ] > whole > rest(seconds) > ask ...

Whoever has the connection on loan reads its state after each `wait`; the protocol only sets it. httptools (llhttp, strict) reads the
framing: it refuses two content-lengths, a content-length beside chunked, whitespace before a colon, bare line feeds, signs in a
chunk size. What it cannot know is said here: how large a head may be, that nothing may follow an answer, how an answer may end.

**Time**: one timer per connection, set lazily. A later deadline only overwrites `_until`; the timer, when it fires early, sets itself
again. So a request that is answered in time costs no timer at all (`asyncio.timeout`: 3 us a wait).
**Back-pressure**: what came and was not taken is bounded by `HIGH` and one read of the socket; then the socket is not read. A large body
goes out slice by slice, as the socket takes it, and stops where the answer is whole first.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from backends.http.head import Fields, Head, Seen, ends_with_the_connection
from backends.http.outbox import Outbox

HIGH = 2**18
"""Bytes that wait to be taken before the socket is no longer read."""
SMALL = 2**16
"""Bytes. Up to here head and body are one write; beyond, the body goes out in slices of four times that."""
_SLICE = 4 * SMALL
_SPARE = 16
"""Bytes by which a head that is known may be longer than the one before: the digits of its length."""
_SLACK = 0.001  # seconds; uvloop's clock stands still within one turn of the loop and counts milliseconds


class Owner(Protocol):
    """Who keeps the connection, and wants to know."""

    def made(self, conn: "Connection") -> None:
        """It is there."""

    def ended(self, conn: "Connection") -> None:
        """Nothing can be asked there any more. Said once, also before `made`."""

    def lost(self, conn: "Connection") -> None:
        """The socket is closed."""


class Connection(asyncio.Protocol):
    """State, for the one who has it on loan (nobody writes it but this class):

    status: of the final answer; 0 before its head is complete. fields: its header lines; none where `head` is what they say.
    filled: bytes of its body that wait to be taken.
    whole: nothing is under way: the answer is complete, or none was asked for. used: an earlier answer was.
    heard: a byte came since the request went out. ended: the connection is gone, or going.
    error: what went wrong, in words without addresses, bodies and headers; "" for nothing.
    expired: the `until` of `wait` has come.
    """

    __slots__ = (
        "_interim", "_keep", "_loop", "_max_head", "_outbox", "_owner", "_parser", "_parts", "_paused", "_quiet", "_seen", "_spell",
        "_stalled", "_take", "_timer", "_timer_at", "_transport", "_unsent", "_until", "_waiter", "ended", "error", "expired", "fields",
        "filled", "head", "heard", "idle", "on_body", "status", "used", "whole",
    )  # fmt: skip

    def __init__(
        self, loop: asyncio.AbstractEventLoop, max_head: int, owner: Owner, outbox: Outbox, seen: Seen | None = None
    ) -> None:
        """max_head: bytes of a head; about as much of anything else that is no body (trailers, chunk extensions). seen: what this server
        said on other connections."""
        self._loop = loop
        self._max_head = max_head
        self._owner = owner
        self._outbox = outbox
        self._seen = Seen() if seen is None else seen
        self._parser: HttpResponseParser | None = None
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = self._until = math.inf
        self._waiter: asyncio.Future[bool] | None = None
        self._take: Callable[[bytes], bool] | None = None
        self._spell = 0.0
        self._unsent: memoryview | None = None
        self._parts: list[bytes] = []
        self.on_body = self._parts.append
        """httptools'; it stays in C. `data_received` sees what came."""
        self._quiet = 0
        self._interim = self._keep = self._paused = self._stalled = False
        self.fields: Fields = []
        self.head: Head | None = None
        self.status = self.filled = 0
        self.error = ""
        self.whole = True
        self.used = self.heard = self.expired = self.ended = self.idle = False

    # -- for the one who has it on loan ---------------------------------------------------------------------------------------------

    @property
    def reusable(self) -> bool:
        """The answer is whole, the request went out whole, and the server means to stay."""
        return self._keep and not self._stalled

    def ask(self, head: bytes, body: bytes, until: float) -> asyncio.Future[bool]:
        """Send a request, and `wait` for what comes of it. The connection is fresh or `reusable`."""
        if self._parts:
            self.take()
        self.idle = self.whole = self.heard = self.expired = self._keep = self._interim = False
        self.status = self._quiet = 0
        self.error = ""
        self.fields = []
        self.head = self._take = None
        waiter = self._waiter = self._loop.create_future()
        self._until = until
        transport = self._transport
        if transport is None or self.ended or transport.is_closing():
            self.fail("the server closed the connection")
            return waiter
        if until < self._timer_at:
            self._watch()
        if len(body) <= SMALL:
            self._outbox.write(transport, head + body)
        else:
            transport.write(head)
            self._unsent = memoryview(body)
            self._pump()
        return waiter

    def wait(
        self, until: float, take: Callable[[bytes], bool] | None = None, spell: float = 0.0
    ) -> asyncio.Future[bool]:
        """Resolved by whatever is new: the head, a block, the end, an error, or that `until` (loop time) has come. take: gets the blocks
        before the last where they come, and each gives `spell` more seconds. True: `take` returned False. Raises what `take` raises."""
        waiter = self._waiter = self._loop.create_future()
        self._take, self._spell = take, spell
        self._until = until
        if until < self._timer_at:
            self._watch()
        return waiter

    def take(self) -> bytes:
        """What came of the body and was not taken yet, as one block; b"" when there is nothing."""
        parts = self._parts
        if len(parts) == 1:
            block = parts.pop()
        elif not parts:
            return b""
        else:
            block = b"".join(parts)
            parts.clear()
        self.filled = 0
        if self._paused:
            self._paused = False
            transport = self._transport
            if transport is not None and not transport.is_closing():
                transport.resume_reading()
        return block

    def rest(self, until: float) -> bool:
        """Back in the pool: closes itself at `until` (loop time), or when anything comes. False where it is not `reusable`."""
        if not self._keep or self._stalled:  # not `reusable`
            return False
        if self._parts:
            self.take()
        self.idle = True
        self._until = until
        if until < self._timer_at:
            self._watch()
        return True

    def fail(self, error: str) -> None:
        """Nothing more is expected here: note why, close, and wake the one who waits."""
        if not self.whole and not self.error:
            self.error = error
        self.abort()
        self._wake()

    def abort(self) -> None:
        """Close at once: unsent bytes are dropped, the server sees the connection go."""
        self._over()
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio.Protocol -----------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._parser = HttpResponseParser(self)
        self._owner.made(self)

    def data_received(self, data: bytes) -> None:
        parser = self._parser
        if self.ended or parser is None:
            return
        if self.whole:  # nobody asked for this
            self.abort()
            return
        parts, take, waiter = self._parts, self._take, self._waiter
        if take is not None and (waiter is None or waiter.done() or parts):
            take = None
        first, before, sound = False, 0, True
        if take is None:
            before = len(parts)
            first = not self.heard and self._unsent is None and len(data) <= HIGH
            self.heard = True
            if first and (known := self._seen.read(data)) is not None:
                self.head, body = known
                parts.append(body)
                self.filled = len(body)
                self.status = 200
                self.whole = self.used = self._keep = True
                self._wake()
                return
        self._quiet += len(data)
        try:
            parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            sound = False
        if take is not None and sound and len(parts) == 1 and not self.whole and not self.error:  # more of a stream
            self._quiet = 0
            block = parts.pop()
        elif not self._took_in(data, before, sound, first):
            return
        elif take is None or self.whole:
            if self.status:
                self._wake()
            return
        elif parts:
            block = self.take()
        else:
            return
        try:
            if take(block):
                self._until = self._loop.time() + self._spell
            else:
                self._wake(declined=True)
        except Exception as exc:
            self._waiter = self._take = None
            if waiter is not None and not waiter.done():
                waiter.set_exception(exc)

    def _took_in(self, data: bytes, before: int, sound: bool, first: bool) -> bool:
        """Takes in what the parser made of `data`; False: nothing more is expected here. before: parts of a body that were there. sound: it
        was HTTP. first: the answer begins with it."""
        parts = self._parts
        if came := len(parts) - before:
            self._quiet = 0
            self.filled += len(parts[-1]) if came == 1 else sum(map(len, parts[before:]))
        if not sound:
            # Behind a whole answer: that one stands, and nothing can be asked here again.
            self.fail("the answer is no HTTP")
            return False
        if self.error:
            self.fail(self.error)
            return False
        if self._quiet > self._max_head and not self.whole:
            self.fail("the answer's head is too large")
            return False
        if first and self._keep and len(data) - self.filled < self._max_head - _SPARE:
            self._seen.learn(data, self.fields)
        transport = self._transport
        if self.filled > HIGH and not self._paused and transport is not None and not transport.is_closing():
            self._paused = True
            transport.pause_reading()
        return True

    def eof_received(self) -> bool:
        """The server has said all it will: what is not whole now never will be. At once: left to itself the transport would first
        wait until the rest of the request is sent, which may be never."""
        self._lose("" if self.status else "the server closed the connection")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose("" if exc is None and self.status else "the server closed the connection")
        self._parser = None  # it holds on to our methods
        self._owner.lost(self)

    def pause_writing(self) -> None:
        self._stalled = True

    def resume_writing(self) -> None:
        self._stalled = False
        self._pump()

    # -- httptools ------------------------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.whole:
            raise ValueError("a second answer to one request")  # stops the parser: see data_received

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:  # trailers are no headers (RFC 9110, 6.5.1)
            self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            self._interim = True
            self.fields = []
        elif status < 200:
            self.error = "the answer is no HTTP"
        elif self._quiet > self._max_head and _length(self.fields) > self._max_head:
            self.error = "the answer's head is too large"
        else:
            self.status = status

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
            return
        assert self._parser is not None
        self.whole = self.used = not self.error
        self._keep = self.whole and self._unsent is None and self._parser.should_keep_alive()
        self._unsent = None  # it has its answer: the rest of the request is not wanted

    # -- inside ---------------------------------------------------------------------------------------------------------------------

    def _wake(self, declined: bool = False) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = self._take = None
            if not waiter.done():
                waiter.set_result(declined)

    def _lose(self, error: str) -> None:
        if not self.ended and not self.whole and not error and ends_with_the_connection(self.status, self.fields):
            self.whole = True
        self.fail(error or "the connection ended before the answer did")

    def _over(self) -> None:
        if self.ended:
            return
        self.ended = True
        self._keep = False
        self._unsent = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._timer_at = None, math.inf
        self._owner.ended(self)

    def _pump(self) -> None:
        """The next slice of a large body, one a turn of the loop as long as the socket takes them."""
        unsent, transport = self._unsent, self._transport
        if unsent is None or self._stalled or transport is None or transport.is_closing():
            return
        self._unsent = unsent[_SLICE:] if len(unsent) > _SLICE else None
        transport.write(unsent[:_SLICE])
        if self._unsent is not None and not self._stalled:
            self._loop.call_soon(self._pump)

    def _watch(self) -> None:
        """`_until` is earlier than the timer would ring."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._until, self._tick)
        self._timer_at = self._until

    def _tick(self) -> None:
        self._timer, self._timer_at = None, math.inf
        waiting = self._waiter is not None and not self._waiter.done()
        if not waiting and not self.idle:
            return  # the next wait sets it again
        if self._until - self._loop.time() > _SLACK:
            self._watch()
        elif waiting:
            self.expired = True
            self._wake()
        else:
            self.abort()


def _length(fields: Fields) -> int:
    return sum(len(name) + len(value) + 4 for name, value in fields)
