"""gateway/engines/keeper.py, as the process that it is."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.engines.keeper import BoundedLog
from gateway.engines.process import KEEPER
from tests.engines.fakes import FAKE, alive, gone, notes, pids
from tests.ports import free_port
from tests.waiting import until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="process groups are POSIX")


def keeper(folder: Path, how: str, *command: str, grace: float = 5.0) -> "subprocess.Popen[bytes]":
    port = str(free_port())
    what = command or (sys.executable, "-I", "-S", str(FAKE), "serve", "m", "--port", port)
    own = ("--log", str(folder / "log"), "--bytes", "100000", "--grace", str(grace), "--")
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(KEEPER), *own, *what],
        stdin=subprocess.PIPE,
        env={**os.environ, "FAKE": how, "FAKE_DIR": str(folder)},
        start_new_session=True,
    )


def up(folder: Path) -> None:
    asyncio.run(until(lambda: any(line.endswith(" up") for line in notes(folder))))


def ended(running: "subprocess.Popen[bytes]") -> int:
    """Its exit status, with its pipe closed behind it."""
    try:
        return running.wait(60)
    finally:
        assert running.stdin is not None
        running.stdin.close()


def test_the_engine_ends_with_the_owner(tmp_path: Path) -> None:
    """When the owner's end of the pipe closes, the engine and the processes that it started are ended."""
    running = keeper(tmp_path, "child")
    up(tmp_path)
    assert len(pids(tmp_path)) == 2
    assert all(map(alive, pids(tmp_path)))
    assert running.stdin is not None
    running.stdin.close()
    assert running.wait(60) == 128 + signal.SIGTERM
    asyncio.run(until(lambda: gone(tmp_path)))


def test_who_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    """SIGTERM first; after the grace SIGKILL, to the whole group."""
    running = keeper(tmp_path, "stubborn child", grace=2.0)
    up(tmp_path)
    running.terminate()
    assert ended(running) == 128 + signal.SIGKILL
    assert any(line.endswith("SIGTERM") for line in notes(tmp_path))
    asyncio.run(until(lambda: gone(tmp_path)))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PR_SET_PDEATHSIG is Linux's")
def test_a_killed_keeper_takes_the_engine_along(tmp_path: Path) -> None:
    """Nobody is left to end it: the kernel sends SIGTERM."""
    running = keeper(tmp_path, "")
    up(tmp_path)
    running.kill()
    ended(running)
    asyncio.run(until(lambda: gone(tmp_path)))


def test_what_the_engine_leaves_is_ended(tmp_path: Path) -> None:
    """An engine that dies alone leaves none of its processes, and its own status is told."""
    running = keeper(tmp_path, "child dies")
    assert ended(running) == 4
    asyncio.run(until(lambda: gone(tmp_path)))


def test_exit_status_and_output(tmp_path: Path) -> None:
    """The engine's last words are in the log when the keeper ends."""
    running = keeper(tmp_path, "crash")
    assert ended(running) == 3
    assert "no memory left" in (tmp_path / "log").read_text()
    assert (tmp_path / "log").stat().st_mode & 0o077 == 0


def test_what_cannot_be_started(tmp_path: Path) -> None:
    """127, and the reason in the log."""
    running = keeper(tmp_path, "", str(tmp_path / "nothing"))
    assert ended(running) == 127
    assert "cannot be started" in (tmp_path / "log").read_text()


def test_the_log_is_bounded(tmp_path: Path) -> None:
    """300 kB of output leave one file and one older one, each of the size that was given."""
    running = keeper(tmp_path, "loud crash")
    assert ended(running) == 3
    sizes = [path.stat().st_size for path in tmp_path.glob("log*")]
    assert len(sizes) == 2
    assert all(0 < size <= 100_000 for size in sizes)


def test_a_log_goes_on_where_it_ended(tmp_path: Path) -> None:
    """A second life appends, and what is there counts."""
    for text in (b"one\n", b"two\n"):
        BoundedLog(tmp_path / "log", 10).write(text)
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"
    BoundedLog(tmp_path / "log", 10).write(b"three\n")
    assert (tmp_path / "log.1").read_bytes() == b"one\ntwo\n"
    assert (tmp_path / "log").read_bytes() == b"three\n"


def test_a_log_that_cannot_be_written_is_lost(tmp_path: Path) -> None:
    """The engine runs on."""
    BoundedLog(tmp_path / "nowhere" / "log", 10).write(b"x")
    assert not (tmp_path / "nowhere").exists()
