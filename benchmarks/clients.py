"""The two HTTP clients beside each other: what a request and a streamed chunk cost, and how much time they add.

    python -m benchmarks.clients [--quick]          writes results/clients.json

A server of bare sockets (a process of its own) answers 1 kB to 1.5 kB, or streams 50 events of 200 bytes. By turns, in every round, each
client on uvloop asks it; medians of the rounds. CPU is that of the asking process (`time.process_time`), so the server and whoever else is
on the machine are not in it.

- `CLIENT.us_per_request`: 64 at once. `CLIENT.c1_added_*_us`: one at a time, less a bare socket of the same round.
- `CLIENT.paced_us_per_chunk`, `CLIENT.burst_us_per_chunk`: 16 streams at once, 10 ms between two events or none.
- `CLIENT.proxy_us_per_request`: CPU of a process that does nothing but read, ask and answer (pure ASGI, uvicorn, uvloop), 64 at once.
- `ratio.*`: aiohttp's divided by the local client's.
"""

import argparse
import asyncio
import gc
import socket
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any, Protocol, cast

from backends.http.base import Http, Timeouts
from benchmarks import report

KINDS = ("local", "aiohttp")
BODY = b'{"model":"mock","messages":[{"role":"user","content":"' + b"a" * 1440 + b'"}]}'
ANSWER = b'{"id":"chatcmpl-1","choices":[{"message":{"content":"' + b"b" * 940 + b'"}}]}'
EVENT = b'data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":"' + b"c" * 120 + b'"}}]}\n\n'
CHUNKS, PAUSE, STREAMS = 50, 0.01, 16
HEADERS = {
    "content-type": "application/json",
    "accept": "application/json",
    "x-request-id": "req_0123456789abcdef01234567",
    "authorization": "Bearer sk-0123456789abcdef",
}
LIMITS = Timeouts(first_byte=30, idle=30, total=60)
HEAD = b"HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\nserver: uvicorn\r\ncontent-type: %b\r\n%b\r\n\r\n"
GOALS = {"local.proxy_us_per_request": "<= 50", "ratio.us_per_request": ">= 3"}


class Client(Http, Protocol):
    async def open(self) -> None: ...
    async def close(self) -> None: ...


def make(kind: str) -> Client:
    if kind == "local":
        from backends.http.local import LocalClient

        return LocalClient()
    from backends.http.client import AiohttpClient

    return AiohttpClient()


# -- the processes that are asked -------------------------------------------------------------------------------------------------------


class Server(asyncio.Protocol):
    """Answers by path: /whole, /paced, /burst. Reads nothing but that and the length it knows."""

    def __init__(self) -> None:
        self._heard = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._heard += data
        if not self._heard.endswith(BODY):
            return
        path, self._heard = self._heard[5:11], b""
        if path == b"/whole":
            self._transport.write(HEAD % (b"application/json", b"content-length: %d" % len(ANSWER)) + ANSWER)
            return
        self._transport.write(HEAD % (b"text/event-stream", b"transfer-encoding: chunked"))
        if path == b"/burst":
            self._transport.write((b"%x\r\n" % len(EVENT) + EVENT + b"\r\n") * CHUNKS + b"0\r\n\r\n")
        else:
            self._next(CHUNKS)

    def _next(self, left: int) -> None:
        if self._transport.is_closing():
            return
        if not left:
            self._transport.write(b"0\r\n\r\n")
            return
        self._transport.write(b"%x\r\n" % len(EVENT) + EVENT + b"\r\n")
        asyncio.get_running_loop().call_later(PAUSE, self._next, left - 1)


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class Gateway:
    """The least that a proxy does, as pure ASGI. GET /cpu: seconds of CPU so far."""

    def __init__(self, kind: str, url: str) -> None:
        self._client = make(kind)
        self._url = url

    async def __call__(self, scope: Mapping[str, Any], receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await self._client.open()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await self._client.close()
            await send({"type": "lifespan.shutdown.complete"})
            return
        if scope["path"] == "/cpu":
            body: bytes = str(time.process_time()).encode()
        else:
            asked = await receive()
            body = asked["body"]
            while asked.get("more_body"):
                asked = await receive()
                body += asked["body"]
            async with self._client.post(self._url, body, HEADERS, LIMITS) as answer:
                body = await answer.read()
        head = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": body})


def gateway(kind: str, url: str) -> None:
    import uvicorn

    listening = socket.create_server(("127.0.0.1", 0))
    options: dict[str, Any] = {"http": "httptools", "loop": "uvloop", "lifespan": "on", "access_log": False}
    server = uvicorn.Server(uvicorn.Config(Gateway(kind, url), log_level="error", server_header=False, **options))
    print(listening.getsockname()[1], flush=True)
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    server.run(sockets=[listening])


@contextmanager
def process(*words: str) -> Iterator[str]:
    """A process of this module; the URL where it listens."""
    command = [sys.executable, "-m", "benchmarks.clients", *words]
    with subprocess.Popen(command, cwd=report.ROOT, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            yield f"http://127.0.0.1:{int(child.stdout.readline())}"
        finally:
            child.terminate()


# -- asking -----------------------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def opened(kind: str) -> AsyncIterator[Client]:
    client = make(kind)
    await client.open()
    try:
        yield client
    finally:
        await client.close()


async def ask(client: Http, url: str) -> int:
    """The answer's length, block by block."""
    length = 0
    async with client.post(url, BODY, HEADERS, LIMITS) as answer:
        async for block in answer.blocks():
            length += len(block)
    return length


async def read(client: Http, url: str) -> int:
    async with client.post(url, BODY, HEADERS, LIMITS) as answer:
        return len(await answer.read())


async def many(
    asking: Callable[[Http, str], Awaitable[int]], client: Http, url: str, at_once: int, each: int, length: int
) -> None:
    """Raises RuntimeError for an answer of another length: figures of a broken run are worth nothing."""

    async def some() -> None:
        for _ in range(each):
            if (found := await asking(client, url)) != length:
                raise RuntimeError(f"{found} bytes instead of {length}")

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(some())


async def one_client(kind: str, url: str, scale: float) -> dict[str, float]:
    """Everything but the proxy, in microseconds."""
    found: dict[str, float] = {}
    async with opened(kind) as client:
        await many(read, client, f"{url}/whole", 64, 5, len(ANSWER))
        gc.collect()
        each = int(60 * scale)
        begun = time.process_time()
        await many(read, client, f"{url}/whole", 64, each, len(ANSWER))
        found["us_per_request"] = (time.process_time() - begun) / (64 * each) * 1e6
        taken = []
        for _ in range(int(1000 * scale)):
            at = time.perf_counter()
            await read(client, f"{url}/whole")
            taken.append((time.perf_counter() - at) * 1e6)
        found |= _percentiles(taken)
        for name, each in (("burst", int(20 * scale)), ("paced", 1)):
            begun = time.process_time()
            await many(ask, client, f"{url}/{name}", STREAMS, each, CHUNKS * len(EVENT))
            found[f"{name}_us_per_chunk"] = (time.process_time() - begun) / (STREAMS * each * CHUNKS) * 1e6
    return found


def bare(url: str, times: int) -> dict[str, float]:
    """A blocking socket that sends and reads the same bytes."""
    request = b"POST /whole HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
    taken = []
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(times):
            at = time.perf_counter()
            sock.sendall(request)
            while not sock.recv(65536).endswith(ANSWER[-8:]):
                pass
            taken.append((time.perf_counter() - at) * 1e6)
    return _percentiles(taken)


def _percentiles(taken: Sequence[float]) -> dict[str, float]:
    ordered = sorted(taken)
    return {"c1_p50_us": ordered[len(ordered) // 2], "c1_p99_us": ordered[len(ordered) * 99 // 100]}


async def proxied(url: str, scale: float) -> float:
    """Microseconds of the gateway's CPU per request. Whoever asks is the local client, for both."""
    async with opened("local") as client:

        async def cpu() -> float:
            async with client.post(f"{url}/cpu", b"", {}, LIMITS) as answer:
                return float(await answer.read())

        await many(read, client, f"{url}/v1", 64, 5, len(ANSWER))
        begun = await cpu()
        each = int(60 * scale)
        await many(read, client, f"{url}/v1", 64, each, len(ANSWER))
        return (await cpu() - begun) / (64 * each) * 1e6


def measured(rounds: int, scale: float) -> dict[str, float]:
    """Medians over `rounds`; the clients take turns, and who is first changes."""
    import uvloop

    samples: defaultdict[str, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        url = stack.enter_context(process("--serve"))
        gateways = {kind: stack.enter_context(process("--gateway", kind, f"{url}/whole")) for kind in KINDS}
        for number in range(rounds):
            direct = bare(url, int(1000 * scale))
            for kind in KINDS[:: -1 if number % 2 else 1]:
                found = uvloop.run(one_client(kind, url, scale))
                for name, value in direct.items():
                    found[name.replace("c1", "c1_added")] = found.pop(name) - value
                found["proxy_us_per_request"] = uvloop.run(proxied(gateways[kind], scale))
                for name, value in found.items():
                    samples[f"{kind}.{name}"].append(value)
    figures = {name: statistics.median(values) for name, values in samples.items()}
    for name in ("us_per_request", "proxy_us_per_request", "burst_us_per_chunk", "paced_us_per_chunk"):
        figures[f"ratio.{name}"] = figures[f"aiohttp.{name}"] / figures[f"local.{name}"]
    return dict(sorted(figures.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="three short rounds; nothing is written")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--gateway", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        import uvloop

        uvloop.run(serve())
    elif given.gateway:
        gateway(*given.gateway)
    else:
        rounds, scale = (3, 0.3) if given.quick else (5, 1.0)
        packages = ("weir", "aiohttp", "httptools", "uvicorn", "uvloop")
        found = report.result("clients", measured(rounds, scale), notes={"rounds": rounds}, packages=packages)
        if given.quick:
            report.show(found, GOALS)
        else:
            report.finish(found, GOALS)


if __name__ == "__main__":
    main()
