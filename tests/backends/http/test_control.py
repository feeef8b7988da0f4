"""Control traffic: whatever an engine does, it is an answer or one of our errors, within its seconds and its bytes."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable

import pytest

from backends.http.control import Control, document
from tests.backends.upstream import Asked, Handler, hang, upstream
from tests.waiting import PATIENCE
from wire.errors import BackendError, Broken, Overloaded, Refused, TimedOut


def run(handler: Handler, test: Callable[[Control, str], Awaitable[None]], **config: int) -> None:
    async def main() -> None:
        async with upstream(handler) as server, asyncio.timeout(PATIENCE):
            control = Control(**config)
            try:
                await test(control, server.url)
            finally:
                await control.close()

    asyncio.run(main())


async def echo(asked: Asked) -> None:
    await asked.answer(asked.line.encode() + b"|" + asked.body + b"|" + asked.headers.get("authorization", "").encode())


def test_get_and_post() -> None:
    """The path, the body as JSON, and our headers."""

    async def test(control: Control, url: str) -> None:
        assert (
            await control.get(f"{url}/health?a=1", {"authorization": "k"}, PATIENCE) == b"GET /health?a=1 HTTP/1.1||k"
        )
        assert await control.post(f"{url}/x", {"a": [1]}, {}, PATIENCE) == b'POST /x HTTP/1.1|{"a":[1]}|'

    run(echo, test)


@pytest.mark.parametrize(
    ("status", "kind"), [(404, Refused), (503, Overloaded), (500, Broken), (401, Broken), (302, Broken)]
)
def test_statuses(status: int, kind: type[BackendError]) -> None:
    """Anything but 2xx is an error, redirects among them: they are not followed."""

    async def handler(asked: Asked) -> None:
        await asked.answer(b'{"error":"x"}', status=status, headers={"location": "http://127.0.0.1:1/"})

    async def test(control: Control, url: str) -> None:
        with pytest.raises(kind) as caught:
            await control.get(url, {}, PATIENCE)
        assert caught.value.status == status

    run(handler, test)


def test_silence() -> None:
    """No answer within its seconds."""

    async def test(control: Control, url: str) -> None:
        with pytest.raises(TimedOut):
            await control.get(url, {}, 0.1)

    run(hang, test)


def test_nobody_there() -> None:
    """No connection, a closed one, a URL that is none."""

    async def cut(asked: Asked) -> None:
        asked.writer.close()

    async def test(control: Control, url: str) -> None:
        for there in ("http://127.0.0.1:1/", url, "http://[bad/"):
            with pytest.raises(Broken):
                await control.get(there, {}, PATIENCE)

    run(cut, test)


def test_a_flood_is_bounded() -> None:
    """An answer of any length is read up to the limit only."""

    async def flood(asked: Asked) -> None:
        await asked.stream(*[b"x" * 1000] * 50)

    async def test(control: Control, url: str) -> None:
        with pytest.raises(Broken, match="longer than 4096 bytes"):
            await control.get(url, {}, PATIENCE)

    run(flood, test, most=4096)


def test_closed_is_closed() -> None:
    """Before its first question, too."""

    async def test(control: Control, url: str) -> None:
        await control.close()
        with pytest.raises(Broken):
            await control.get(url, {}, PATIENCE)

    run(echo, test)


def test_document() -> None:
    """JSON, or Broken."""
    assert document("x", b'{"a":1}') == {"a": 1}
    with pytest.raises(Broken):
        document("x", b"<html>")


def test_importing_is_free() -> None:
    """httpx is imported by the first question only."""
    code = "import sys, backends.vllm, backends.http.control; print('httpx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"
