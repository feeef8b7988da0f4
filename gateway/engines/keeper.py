"""Holds one engine: `python keeper.py --log FILE --bytes N --grace SECONDS -- COMMAND...`. Ends when the engine does, or Weir.

Why a process of its own: an engine is several processes and gigabytes of device memory, and none of it may outlive Weir, also when Weir is
killed and can clean up nothing. The keeper's standard input is a pipe from Weir; when Weir is gone, however it went, the pipe ends and
the keeper ends the engine: SIGTERM to its whole process group, SIGKILL to the group after the grace. PR_SET_PDEATHSIG alone would
reach one process of the engine and not insist, is bound to the thread that started it, exists on Linux only, and needs
code between fork and exec, which in Weir (threads, uvloop) is unsafe. Here there is one thread, so the engine gets it as well,
for the case that the keeper itself is killed.

It also writes the engine's output to a file of bounded size: a disk that fills or is slow must not hold up Weir's loop.

Exit status: the engine's own; 128 and its number when a signal ended it; 127 when it could not be started. Standard library only.
"""

import argparse
import ctypes
import os
import selectors
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
NOT_STARTED = 127
_BLOCK = 65536
_LEFT_ALONE, _LEFT_DYING = 1.0, 5.0
"""Seconds that an engine's processes get when it has ended and they have not: after SIGTERM, and after SIGKILL."""
_LAST_BLOCKS = 256
"""Most blocks of output that are still written once the engine has ended."""


class BoundedLog:
    """Appends to `path`; at `limit` bytes it becomes `path`.1 and a new one begins. What cannot be written is lost."""

    def __init__(self, path: Path, limit: int) -> None:
        self._path = path
        self._limit = limit
        self._file = -1
        self._size = 0

    def write(self, data: bytes) -> None:
        with suppress(OSError):
            if self._file < 0:
                self._open()
            if self._size + len(data) > self._limit:
                os.close(self._file)
                self._file = -1
                os.replace(self._path, f"{self._path}.1")
                self._open()
            self._size += os.write(self._file, data)

    def _open(self) -> None:
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._file).st_size


class Keeper:
    """The engine, its output, and who may end it. Made before the engine, so that no signal comes too early."""

    def __init__(self, log: BoundedLog, grace: float) -> None:
        self._log = log
        self._grace = grace
        self._ending = False
        self._until: float | None = None
        self._adopts = adopt()
        self._selector = selectors.DefaultSelector()
        woken, waker = os.pipe()
        for end in (woken, waker):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._asked)
        self._selector.register(woken, selectors.EVENT_READ, self._woken)
        self._selector.register(0, selectors.EVENT_READ, self._owner)

    def start(self, command: list[str]) -> None:
        """Raises OSError, subprocess.SubprocessError."""
        output, writes = os.pipe()
        try:
            self._engine = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=writes,
                stderr=writes,
                start_new_session=True,
                preexec_fn=die_with(os.getpid()),
            )
        finally:
            os.close(writes)
        self._selector.register(output, selectors.EVENT_READ, self._output)

    def run(self) -> int:
        """Until the engine has ended and nothing of it is left. Its exit status."""
        code = None
        while code is None:
            self._turn(self._left())
            if self._ending and self._until is None:
                self._until = time.monotonic() + self._grace
                self._tell(signal.SIGTERM)
            if self._left() == 0:
                self._tell(signal.SIGKILL)
                self._until = time.monotonic() + 1.0
            code = self._engine.poll()
        self._clear()
        for _ in range(_LAST_BLOCKS):
            if not self._turn(0):
                break
        return code if code >= 0 else 128 - code

    def _clear(self) -> None:
        """End what the engine left behind, and wait for it: the next engine needs its memory. While one of the group is left the system
        gives the group's number to nobody else."""
        for number, seconds in ((signal.SIGTERM, _LEFT_ALONE), (signal.SIGKILL, _LEFT_DYING)):
            self._tell(number)
            until = time.monotonic() + seconds
            while self._left_behind():
                if time.monotonic() > until:
                    break
                self._turn(0.02)
            else:
                if self._adopts:
                    return

    def _left_behind(self) -> bool:
        """Is any of the engine's processes still there? They have become children of the keeper; where they do not, nobody can tell."""
        try:
            while os.waitpid(-self._engine.pid, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return False
        return True

    def _left(self) -> float | None:
        return None if self._until is None else max(0.0, self._until - time.monotonic())

    def _turn(self, seconds: float | None) -> bool:
        """Handle what is there, waiting for it for so long. False: there was nothing."""
        ready = self._selector.select(seconds)
        more = False
        for key, _ in ready:
            handler: Callable[[int], bool] = key.data
            if handler(key.fd):
                more = True
            else:
                self._selector.unregister(key.fd)
        return more

    def _owner(self, fd: int) -> bool:
        """Weir says nothing; the end of the pipe is its own end."""
        if os.read(fd, _BLOCK):
            return True
        self._ending = True
        return False

    def _output(self, fd: int) -> bool:
        data = os.read(fd, _BLOCK)
        if data:
            self._log.write(data)
        return bool(data)

    def _woken(self, fd: int) -> bool:
        with suppress(BlockingIOError):
            os.read(fd, _BLOCK)
        return True

    def _asked(self, _signal: int, _frame: object) -> None:
        self._ending = True

    def _tell(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._engine.pid, number)


def adopt() -> bool:
    """Orphans of this process's children become its own children (PR_SET_CHILD_SUBREAPER). False where that is unknown."""
    return sys.platform.startswith("linux") and not ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with(parent: int) -> Callable[[], None] | None:
    """What the engine's process does before it becomes the engine: asks for SIGTERM when `parent` dies. None where that is unknown."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)

    def ask() -> None:
        libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))
        if os.getppid() != parent:  # it died in between
            os._exit(NOT_STARTED)

    return ask


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--bytes", type=int, required=True)
    parser.add_argument("--grace", type=float, required=True)
    parser.add_argument("command", nargs="+")
    given = parser.parse_args(arguments)
    log = BoundedLog(given.log, given.bytes)
    log.write(f"--- {time.strftime('%Y-%m-%dT%H:%M:%S%z')} {shlex.join(given.command)}\n".encode())
    keeper = Keeper(log, given.grace)
    try:
        keeper.start(given.command)
    except (OSError, subprocess.SubprocessError) as exc:
        log.write(f"{given.command[0]}: cannot be started: {exc}\n".encode())
        return NOT_STARTED
    return keeper.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
