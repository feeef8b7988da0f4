"""A flame graph of the hot path under full load (py-spy): results/speed-flame.svg."""

import re
import subprocess
import threading

from benchmarks.quality.parts import NotRun, Part
from benchmarks.speed import _requests, _tools
from benchmarks.speed._bench import bench

GOALS: dict[str, str] = {}
SAMPLES_A_SECOND = 400
TITLE = re.compile(r'(<text id="title"[^>]*>)[^<]*(</text>)')


def run(quick: bool) -> Part:
    seconds = 4 if quick else 12
    program = _tools.py_spy()
    with bench() as here:
        weir = here.weir()
        drawn = here.folder / "flame.svg"
        load = threading.Thread(
            target=here.measure, args=(weir, _requests.chat("mock-j"), "-c", "64", "-t", str(seconds + 3))
        )
        load.start()
        done = subprocess.run(
            [str(program), "record", "--format", "flamegraph", "--rate", str(SAMPLES_A_SECOND), "--nonblocking",
             "--duration", str(seconds), "--output", str(drawn), "--pid", str(weir.pid)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        load.join()
        if done.returncode or not drawn.exists():
            raise NotRun(f"py-spy may not look into the gateway: {(done.stderr or done.stdout).strip()[-300:]}")
        notes = {**here.notes(), "flame": f"py-spy {_tools.PY_SPY}, {SAMPLES_A_SECOND} samples a second, {seconds} s"}
        return Part({}, notes=notes, plots={"speed-flame.svg": titled(drawn.read_text()).encode()})


def titled(svg: str) -> str:
    """py-spy writes its own command, with this machine's paths, as the title."""
    return TITLE.sub(r"\1Weir under full load, all features on\2", svg, count=1)
