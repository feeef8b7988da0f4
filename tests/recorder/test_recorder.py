"""gateway.recorder: Records on disk and in memory."""

import asyncio
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from gateway.record import Facts, Record, decode, encode
from gateway.recorder import FILE, Recorder, RotatingFile, stored
from tests.waiting import PATIENCE, until


def made(id: str = "r1", **more: Any) -> Record:
    return Record(
        id=id, time=1.0, outcome="accepted", route="a", mode="enforce", reason="matched", facts=Facts(model="m"), **more
    )


def run(recorder: Recorder, *records: Record, seconds: float = PATIENCE) -> None:
    async def whole() -> None:
        async with recorder.run(seconds):
            for record in records:
                recorder.record([record])

    asyncio.run(whole())


def ids(folder: Path) -> list[str]:
    return [record.id for record in stored(folder)]


def test_closing_writes_what_waits(tmp_path: Path) -> None:
    """Everything recorded before close is on disk after it, in order, whole."""
    records = [made(f"r{n}", cost=n / 10) for n in range(2000)]
    recorder = Recorder(tmp_path / "deep" / "state")
    run(recorder, *records)
    assert list(stored(tmp_path / "deep" / "state")) == records
    assert recorder.dropped == 0


def test_records_are_written_while_the_process_runs(tmp_path: Path) -> None:
    """Nobody has to close for a Record to reach the disk."""

    async def whole() -> None:
        async with Recorder(tmp_path).run(PATIENCE) as recorder:
            recorder.record([made()])
            path = tmp_path / FILE
            await until(lambda: path.exists() and path.read_bytes().endswith(b"\n"))

    asyncio.run(whole())


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    """0600 on the file, 0700 on a folder that was made, also when the file was there with wider rights."""
    folder = tmp_path / "state"
    run(Recorder(folder), made())
    assert stat.S_IMODE((folder / FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (folder / FILE).chmod(0o644)
    run(Recorder(folder), made())
    assert stat.S_IMODE((folder / FILE).stat().st_mode) == 0o600


def test_a_full_queue_drops_and_counts(tmp_path: Path) -> None:
    """What does not fit is dropped at once and counted; what fits is written."""
    told: list[int] = []
    recorder = Recorder(tmp_path, queue=3, on_drop=told.append)
    for n in range(5):
        recorder.record([made(f"r{n}")])
    assert recorder.dropped == 2
    assert told == [1, 1]
    run(recorder)
    assert ids(tmp_path) == ["r0", "r1", "r2"]


def test_after_close_records_are_dropped(tmp_path: Path) -> None:
    """A late Record raises nothing, is counted, and can still be found in memory."""
    recorder = Recorder(tmp_path)
    run(recorder, made("r1"))
    recorder.record([made("r2")])
    assert recorder.dropped == 1
    assert recorder.find("r2") is not None
    assert ids(tmp_path) == ["r1"]


def test_a_torn_last_line_costs_itself_only(tmp_path: Path) -> None:
    """After a crash in the middle of a line the next start begins a new line; reading skips the torn one."""
    run(Recorder(tmp_path), made("r1"), made("r2"))
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:-20])
    run(Recorder(tmp_path), made("r3"))
    assert ids(tmp_path) == ["r1", "r3"]
    assert decode(path.read_bytes().splitlines()[-1]).id == "r3"


def test_an_unwritable_folder_is_counted_and_told_once(tmp_path: Path) -> None:
    """No folder can be made: everything is served from memory, counted as dropped, and one line is logged, not one each."""
    (tmp_path / "file").write_text("not a folder")
    told: list[dict[str, Any]] = []

    def warn(name: str, /, **fields: Any) -> None:
        told.append({"name": name, **fields})

    recorder = Recorder(tmp_path / "file" / "state", warn=warn)
    run(recorder, *(made(f"r{n}") for n in range(2000)))
    assert recorder.dropped == 2000
    assert [line["name"] for line in told] == ["records_not_written"]
    assert recorder.find("r1999") is not None


def test_a_full_disk_is_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails half way is counted; when there is room again, the next Record stands on a line of its own."""
    real, full = os.write, [True]

    def write(fd: int, data: Any) -> int:
        if full[0] and threading.current_thread().name == "weir-recorder":
            full[0] = False
            real(fd, bytes(data)[: len(data) // 2])
            raise OSError(28, "No space left on device")
        return real(fd, data)

    monkeypatch.setattr(os, "write", write)
    recorder = Recorder(tmp_path)

    async def whole() -> None:
        async with recorder.run(PATIENCE):
            recorder.record([made("r1")])
            await until(lambda: recorder.dropped > 0)
            recorder.record([made("r2")])

    asyncio.run(asyncio.wait_for(whole(), 2 * PATIENCE))
    assert recorder.dropped == 1
    assert ids(tmp_path) == ["r2"]


def test_a_record_that_cannot_be_encoded_costs_itself_only(tmp_path: Path) -> None:
    """Foreign values inside one Record do not take its batch along."""
    recorder = Recorder(tmp_path)
    run(recorder, made("r1"), made("r2", scores={"a": object()}), made("r3"))
    assert ids(tmp_path) == ["r1", "r3"]
    assert recorder.dropped == 1


def test_a_line_has_nothing_of_the_one_before_it(tmp_path: Path) -> None:
    """Short after long, long after short, and after one that broke off in the middle: each is as `encode` writes it."""
    recorder = Recorder(tmp_path)
    sizes = [10, 5000, 1, 300, 20_000, 1, 0, 40_000]
    records = [made(f"r{n}", tenant="x" * size) for n, size in enumerate(sizes)]
    run(recorder, *records[:5], made("odd", tenant="y" * 9000, scores={"a": object()}), *records[5:])
    assert (tmp_path / FILE).read_bytes().splitlines() == [encode(record) for record in records]
    assert [recorder.find(record.id) for record in records] == records


def test_a_disk_that_hangs_does_not_hang_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """close returns at its deadline; what was left counts as dropped."""
    let_go, entered = threading.Event(), threading.Event()

    def hang(_self: RotatingFile, _data: bytes) -> None:
        entered.set()
        let_go.wait(PATIENCE)

    monkeypatch.setattr(RotatingFile, "append", hang)
    recorder = Recorder(tmp_path)

    async def whole() -> None:
        recorder.start()
        recorder.record([made("r1")])
        await until(entered.is_set)
        recorder.record([made("r2")])
        await asyncio.wait_for(recorder.close(0.05), PATIENCE / 2)

    asyncio.run(whole())
    assert recorder.dropped == 1
    let_go.set()


def test_files_rotate_and_the_oldest_goes(tmp_path: Path) -> None:
    """No file grows past max_bytes, `files` are kept in all, and reading goes from the oldest to the newest."""
    file = RotatingFile(tmp_path / FILE, max_bytes=100, files=3)
    for n in range(20):
        file.append(f"{n:0>39}\n".encode())
    file.close()
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == [FILE, f"{FILE}.1", f"{FILE}.2"]
    lines = [line for name in reversed(kept) for line in (tmp_path / name).read_bytes().split()]
    assert [int(line) for line in lines] == [14, 15, 16, 17, 18, 19]


def test_one_file_only_starts_over(tmp_path: Path) -> None:
    """`files=1` keeps no old ones."""
    file = RotatingFile(tmp_path / FILE, max_bytes=10, files=1)
    for n in range(3):
        file.append(f"line-{n}\n".encode())
    file.close()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"line-2\n"]


def test_stored_reads_rotated_files_first(tmp_path: Path) -> None:
    """Records come back oldest first across files; a tenth file is older than a second."""
    for number, id in ((10, "oldest"), (2, "older"), (0, "new")):
        file = RotatingFile(tmp_path / (f"{FILE}.{number}" if number else FILE), max_bytes=10**6, files=1)
        file.append(encode(made(id)) + b"\n")
        file.close()
    assert ids(tmp_path) == ["oldest", "older", "new"]
    assert ids(tmp_path / "nowhere") == []


def test_a_file_that_is_moved_away_is_made_anew(tmp_path: Path) -> None:
    """logrotate, or a hand, may move the file under a running process."""
    file = RotatingFile(tmp_path / FILE, max_bytes=10**6, files=2)
    file.append(b"a\n")
    (tmp_path / FILE).rename(tmp_path / "elsewhere")
    file.append(b"b\n")
    file.close()
    assert (tmp_path / FILE).read_bytes() == b"b\n"
    assert (tmp_path / "elsewhere").read_bytes() == b"a\n"


def test_memory_keeps_the_last_ones(tmp_path: Path) -> None:
    """find and recent know the last `memory` Records; an id that comes again is its newest Record."""
    recorder = Recorder(tmp_path, memory=3)
    for n in range(5):
        recorder.record([made(f"r{n}")])
    recorder.record([made("r3", cost=1.0)])
    assert [record.id for record in recorder.recent(10)] == ["r3", "r4", "r2"]
    assert [record.id for record in recorder.recent(1)] == ["r3"]
    assert recorder.recent(0) == []
    assert recorder.find("r1") is None
    again = recorder.find("r3")
    assert again is not None
    assert again.cost == 1.0


def test_memory_says_what_was_told(tmp_path: Path) -> None:
    """Records are kept as lines, and are the same when they come out; what cannot be a line is kept all the same."""
    recorder = Recorder(tmp_path)
    records = [made("r1", cost=0.1), made("\ud800"), made("r3", score=0.3)]
    recorder.record(records)
    assert recorder.recent(3) == records[::-1]
    assert [recorder.find(record.id) for record in records] == records
    assert recorder.dropped == 1
    recorder.record([made("r4", scores={"a": float("nan")})])  # JSON has no such number
    assert recorder.recent(4) == records[::-1]
    assert recorder.find("r4") is None


def test_no_memory_keeps_none(tmp_path: Path) -> None:
    """`memory=0` finds nothing and still writes."""
    recorder = Recorder(tmp_path, memory=0)
    run(recorder, made())
    assert recorder.find("r1") is None
    assert ids(tmp_path) == ["r1"]


def test_record_raises_nothing(tmp_path: Path) -> None:
    """Neither a foreign value nor a broken callback comes back to the request."""

    def broken(_count: int) -> None:
        raise RuntimeError("broken")

    recorder = Recorder(tmp_path, queue=0, on_drop=broken)
    recorder.record([made()])
    recorder.record([None])  # type: ignore[list-item]
    assert recorder.dropped >= 2


def test_several_processes_rotate_one_file(tmp_path: Path) -> None:
    """Several writers with files of their own handles: every line is whole, none is lost, and of two that see the same full file one
    rotates it."""
    writers = [RotatingFile(tmp_path / FILE, max_bytes=2000, files=50) for _ in range(3)]

    def write(number: int) -> None:
        for line in range(100):
            writers[number].append(f"{number} {line} {'x' * 40}\n".encode())

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for writer in writers:
        writer.close()
    files = list(tmp_path.glob(f"{FILE}*"))
    lines = [line for file in files for line in file.read_text().splitlines() if line]
    assert sorted(lines) == sorted(f"{number} {line} {'x' * 40}" for number in range(3) for line in range(100))
    assert min(file.stat().st_size for file in files if file.name != FILE) > 1500
