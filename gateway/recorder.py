"""Records on disk and the last ones in memory. Full or broken means a counted drop, never a wait and never an error.

One file of JSON lines, `records.jsonl` (0600) in the state directory, rotated by size. What comes after reads whole lines and
skips what is no Record, so that a line torn by a crash or a full disk costs itself only. Writing is `gateway.backlog`'s thread.
Not synced to the disk line by line: a crash of the machine may lose the last seconds, a crash of the process 0.1 s.
"""

import contextlib
import os
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Protocol

import msgspec

from gateway.backlog import Backlog
from gateway.record import JudgedRecord, Record, ShadowRecord, decode, encode, encode_into

FILE = "records.jsonl"
QUIET = 60.0
"""Seconds between two lines of log about the same trouble."""


class Warn(Protocol):
    """`gateway.log.Log.event`, or anything like it. Called from the writer's thread too."""

    def __call__(self, name: str, /, *, level: str, error: str, dropped: int) -> None: ...


class Recorder:
    """Keeps Records.

    folder: where `records.jsonl` stands; made when missing. queue: most Records that wait to be written. max_bytes, files: a
    file that would grow past max_bytes becomes `records.jsonl.1`, and so on; `files` are kept in all. memory: Records kept
    for `find` and `recent`. on_drop(n): n Records will not be on disk (from either thread). warn: one call a minute at most.
    """

    def __init__(
        self,
        folder: Path,
        *,
        queue: int = 4096,
        max_bytes: int = 64 * 2**20,
        files: int = 8,
        memory: int = 1000,
        on_drop: Callable[[int], None] | None = None,
        warn: Warn | None = None,
    ) -> None:
        self._file = RotatingFile(folder / FILE, max_bytes=max_bytes, files=files)
        self._backlog: Backlog[bytes] = Backlog(self._write, limit=queue, name="weir-recorder")
        self._memory = memory
        self._ring: OrderedDict[str, bytes | Record] = OrderedDict()
        """By id, the oldest first. As lines, which are made anyway: a Record is some forty objects, and memory that comes back to the
        request's work long after it has left the processor's cache. What cannot be encoded is kept as it is."""
        self._buffer = bytearray()
        self._refused = 0
        self._unwritten = 0
        self._on_drop = on_drop
        self._warn = warn
        self._warned = float("-inf")

    @property
    def dropped(self) -> int:
        """Records that are not on disk and will not be: queue full, disk full, folder gone, closed."""
        return self._refused + self._unwritten

    def record(self, records: Sequence[Record]) -> None:
        """Keep these Records. Returns at once and raises nothing, whatever happens. Encoded here and not in the thread: it costs the same
        (2 us each), as both need the interpreter, and there a batch of 200 would keep the loop from it for 0.4 ms."""
        ring, buffer = self._ring, self._buffer
        lines = []
        for record in records:
            try:
                id = record.id
                if id in ring:  # the newest of an id is kept, as the newest
                    del ring[id]
                ring[id] = record
                encode_into(record, buffer)
                ring[id] = line = bytes(buffer)
                lines.append(line)
            except Exception as exc:
                self._foreign(exc)
        for _ in range(len(ring) - self._memory):
            ring.popitem(last=False)
        if refused := self._backlog.put_all(lines):
            self._refuse(refused)

    def beside(self, record: ShadowRecord | JudgedRecord) -> None:
        """Keep what was asked off the path beside the Records: on disk only. Returns at once; one that is not kept counts as dropped."""
        try:
            line = encode(record)
        except Exception as exc:
            self._foreign(exc)
            return
        if not self._backlog.put(line):
            self._refuse(1)

    def _foreign(self, exc: Exception) -> None:
        """A Record had values that cannot be encoded. The error's type only: its message could quote them."""
        self._refuse(1)
        self._complain(type(exc).__name__)

    def find(self, id: str) -> Record | None:
        """The Record of request `id`, while it is among the last `memory` ones."""
        return next(_records([self._ring[id]]), None) if id in self._ring else None

    def recent(self, n: int = 50) -> list[Record]:
        """The last `n` Records, newest first."""
        return list(_records(islice(reversed(self._ring.values()), max(0, n))))

    def start(self) -> None:
        """Start writing. What was recorded before waits in the queue. Called once, by the lifespan."""
        self._backlog.start()

    async def close(self, seconds: float = 5.0) -> None:
        """Write what waits, for at most `seconds`; what is left then counts as dropped. Later Records are dropped."""
        left = await self._backlog.close(seconds)
        if left:
            self._refuse(left)

    @contextlib.asynccontextmanager
    async def run(self, seconds: float = 5.0) -> AsyncGenerator["Recorder", None]:
        """`start` and `close` as one block."""
        self.start()
        try:
            yield self
        finally:
            await self.close(seconds)

    def _refuse(self, count: int) -> None:
        self._refused += count
        with contextlib.suppress(Exception):  # a Record is never worth a request
            self._dropped(count)

    def _dropped(self, count: int) -> None:
        if self._on_drop is not None:
            self._on_drop(count)

    def _write(self, lines: list[bytes]) -> None:
        """In the thread."""
        try:
            self._file.append(b"\n".join(lines) + b"\n")
        except OSError as exc:
            self._unwritten += len(lines)
            self._dropped(len(lines))
            self._complain(f"{type(exc).__name__}: {exc.strerror or ''} ({self._file.path})")

    def _complain(self, trouble: str) -> None:
        now = time.monotonic()
        if self._warn is not None and now - self._warned >= QUIET:
            self._warned = now
            self._warn("records_not_written", level="warning", error=trouble, dropped=self.dropped)


class RotatingFile:
    """Appends whole lines to `path`, 0600, and rotates by size. Opens on first use, and anew after any failure. Several processes may
    write to it: each batch is one append, and who rotates holds a lock."""

    def __init__(self, path: Path, *, max_bytes: int, files: int) -> None:
        self.path = path
        self._max = max_bytes
        self._files = max(1, files)
        self._fd = -1

    def append(self, data: bytes) -> None:
        """Write `data` (whole lines). Raises OSError; then part of it may stand there, and the next append starts a new line."""
        try:
            size = self._open()
            if size and size + len(data) > self._max:
                self._rotate()
                size = self._open()
            # A crash or a full disk may have torn the last line: it keeps its own line and spoils no other.
            if size and os.pread(self._fd, 1, size - 1) != b"\n":
                data = b"\n" + data
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = -1

    def _open(self) -> int:
        """The open file's size in bytes. Opens it when it is not, or when somebody moved or removed it."""
        if self._fd >= 0:
            mine = os.fstat(self._fd)
            try:
                there = os.stat(self.path)
                if (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino):
                    return mine.st_size
            except FileNotFoundError:
                pass
            self.close()
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.fchmod(self._fd, 0o600)
        return os.fstat(self._fd).st_size

    def _rotate(self) -> None:
        """The file that is open becomes the one before. Not when another process has done it just now."""
        mine = os.fstat(self._fd)
        self.close()
        with _locked(self.path.parent):
            try:
                there = os.stat(self.path)
            except FileNotFoundError:  # another has, and nobody has written since
                return
            if (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino):
                self._move()

    def _move(self) -> None:
        if self._files == 1:
            self.path.unlink()
            return
        for older in range(self._files - 1, 0, -1):
            newer = _numbered(self.path, older - 1)
            with contextlib.suppress(FileNotFoundError):
                newer.replace(_numbered(self.path, older))


def stored(folder: Path) -> Iterator[Record]:
    """Every Record on disk under `folder`, oldest first. Lines that are no Record (torn, of another version) are skipped.

    A file that is rotated away while it is read is read to its end all the same; one that vanishes before is left out.
    """
    path = folder / FILE
    numbers = sorted((int(p.suffix[1:]) for p in folder.glob(f"{FILE}.*") if p.suffix[1:].isdigit()), reverse=True)
    for number in (*numbers, 0):
        with contextlib.suppress(FileNotFoundError), _numbered(path, number).open("rb") as lines:
            for line in lines:
                with contextlib.suppress(msgspec.MsgspecError):
                    yield decode(line)


def _records(kept: Iterable[bytes | Record]) -> Iterator[Record]:
    """As on disk: a line that is no Record, as one of its numbers is none, is left out."""
    for each in kept:
        with contextlib.suppress(msgspec.MsgspecError):
            yield decode(each) if isinstance(each, bytes) else each


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Alone among the processes that rotate in `folder`, where its file system knows locks."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}") if number else path
