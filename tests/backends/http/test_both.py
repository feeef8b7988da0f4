"""One client for both kinds of upstream, and nothing of the other kind until it is needed."""

import asyncio
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from backends.http.both import HttpClient
from backends.http.pool import CLOSED
from tests.backends.http.playing import ask, echo
from tests.backends.upstream import Upstream, upstream
from wire.errors import Broken

PEM = Path(__file__).with_name("localhost.pem")


@asynccontextmanager
async def secure() -> AsyncIterator[Upstream]:
    """A TLS server whose certificate `localhost.pem` vouches for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    played = Upstream(echo)
    server = await asyncio.start_server(played.serve, "127.0.0.1", 0, ssl=context)
    played.url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield played
    finally:
        server.close()


@asynccontextmanager
async def opened(client: HttpClient) -> AsyncIterator[HttpClient]:
    await client.open()
    try:
        yield client
    finally:
        await client.close()


def test_each_scheme_its_client() -> None:
    """http:// and https:// are both answered; the TLS client is made by the first request that needs it, once."""

    async def main() -> None:
        async with upstream(echo) as plain, secure() as tls, opened(HttpClient(ca_file=PEM)) as client:
            assert await ask(client, plain.url) == b"{}"
            assert client._tls is None
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(ask(client, tls.url.replace("https", "HTTPS"))) for _ in range(3)]
            assert [task.result() for task in tasks] == [b"{}"] * 3
            made = client._tls
            assert made is not None
            assert await ask(client, tls.url) == b"{}"
            assert client._tls is made
            await client.close()
            with pytest.raises(Broken, match="closed"):
                await ask(client, tls.url)

    asyncio.run(main())


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "https://127.0.0.1:1"])
def test_never_opened(url: str) -> None:
    """A client that was never opened says so, whatever the scheme."""
    with pytest.raises(Broken, match="closed"):
        asyncio.run(_ask_unopened(url))


async def _ask_unopened(url: str) -> None:
    await ask(HttpClient(), url)


def test_certificates_that_cannot_be_read() -> None:
    """A `ca_file` that is none is Broken when TLS is wanted; plain HTTP does not mind."""

    async def main() -> None:
        async with upstream(echo) as plain, opened(HttpClient(ca_file=Path(__file__))) as client:
            assert await ask(client, plain.url) == b"{}"
            with pytest.raises(Broken, match="certificates"):
                await ask(client, "https://127.0.0.1:1")

    asyncio.run(main())


def test_closed_while_the_tls_client_is_made() -> None:
    """Closed while aiohttp is still being imported, a client leaves no other one open behind it."""

    async def main() -> None:
        async with opened(HttpClient()) as client, asyncio.TaskGroup() as group:
            task = group.create_task(client.prepare())
            await asyncio.sleep(0)
            await client.close()
            await asyncio.wait([task])
            assert client._tls is None

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(main())
    assert [str(exc) for exc in caught.value.exceptions] == [CLOSED]


def test_plain_http_imports_no_aiohttp() -> None:
    """Asking a plain-HTTP upstream imports no aiohttp."""
    code = """
import asyncio, sys
from backends.http.both import HttpClient
from backends.http.pool import CLOSED
from tests.backends.upstream import upstream
from backends.http.base import Timeouts

async def echo(asked):
    await asked.answer(asked.body)

async def main():
    client = HttpClient()
    await client.open()
    async with upstream(echo) as server:
        async with client.post(server.url, b"{}", {}, Timeouts()) as answer:
            assert await answer.read() == b"{}"
    await client.close()

asyncio.run(main())
assert "aiohttp" not in sys.modules
"""
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
