"""Stands in for `vllm serve`: a process that answers /health and chat, or misbehaves as `FAKE` says. Run by path, standard library only.

FAKE is a list of words: slow (up after 0.6 s), crash (ends with status 3 before it listens), once (crashes the first time only), dies
(ends 0.3 s after it was up), brief (ends 0.1 s after its first good /health), stubborn (ignores SIGTERM), child (has one of its own), loud
(writes 300 kB). It is not up while FAKE_DIR/held exists, and /health is 500 while FAKE_DIR/sick does. What happens is noted in
FAKE_DIR/notes: `PORT WORD ...`.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HOW = os.environ.get("FAKE", "").split()
FOLDER = Path(os.environ["FAKE_DIR"])
PORT = int(sys.argv[sys.argv.index("--port") + 1])


def note(what: str) -> None:
    with (FOLDER / "notes").open("a") as notes:
        notes.write(f"{PORT} {what}\n")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        sick = (FOLDER / "sick").exists()
        self._say(500 if sick else 200, b"")
        if "brief" in HOW and not sick:
            threading.Timer(0.1, os._exit, (4,)).start()

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        message = {"role": "assistant", "content": '{"label":"a"}'}
        answer = {
            "id": "f", "object": "chat.completion", "created": 1, "model": asked["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }  # fmt: skip
        note(f"asked {asked['model']}")
        self._say(200, json.dumps(answer).encode())

    def _say(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


def main() -> None:
    note("starting")
    note(f"pid {os.getpid()}")
    if "loud" in HOW:
        for _ in range(300):
            sys.stdout.write("x" * 1000 + "\n")
    first = not (FOLDER / f"crashed-{PORT}").exists()
    if "crash" in HOW or ("once" in HOW and first):
        (FOLDER / f"crashed-{PORT}").touch()
        sys.stdout.write("no memory left on the device\n")
        sys.exit(3)
    if "stubborn" in HOW:
        signal.signal(signal.SIGTERM, lambda *_: note("SIGTERM"))
    if "child" in HOW:
        child = subprocess.Popen([sys.executable, "-c", "import signal,time; signal.signal(15, 1); time.sleep(60)"])
        note(f"pid {child.pid}")
    if "slow" in HOW:
        time.sleep(0.6)
    while (FOLDER / "held").exists():
        time.sleep(0.02)
    server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
    if "dies" in HOW:
        threading.Timer(0.3, os._exit, (4,)).start()
    note("up")
    server.serve_forever()


if __name__ == "__main__":
    main()
