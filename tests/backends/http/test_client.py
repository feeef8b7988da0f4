"""What only the aiohttp client does: TLS. What it shares with the other one: test_contract.py."""

import asyncio
import ssl
from pathlib import Path

import pytest

from backends.http.client import AiohttpClient
from tests.backends.http.playing import ask, echo
from tests.backends.upstream import Upstream, upstream
from tests.waiting import PATIENCE
from wire.errors import Broken


def test_cancelled_while_connecting() -> None:
    """Cancelled while it connects, a request leaves no connection behind, and its place is free again."""

    async def main() -> None:
        client = AiohttpClient(limit=1)
        await client.open()
        reached = asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            reached.set()  # a TLS client hello that is never answered: the client is still connecting
            await reader.read()
            left.set()
            writer.close()

        left = asyncio.Event()
        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
                task = group.create_task(ask(client, f"https://127.0.0.1:{port}"))
                await reached.wait()
                task.cancel()
            async with asyncio.timeout(PATIENCE):
                await left.wait()
            async with upstream(echo) as other:
                assert await ask(client, other.url) == b"{}"
                await client.close()
        finally:
            server.close()
            await client.close()

    asyncio.run(main())


@pytest.mark.parametrize("trusted", [False, True])
def test_tls_is_verified(trusted: bool) -> None:
    """A certificate that nobody vouches for is refused before a byte of the request goes out; `ca_file` vouches for it.

    `localhost.pem` is for 127.0.0.1 only, signed by itself, good for a hundred years, and of no use outside this test.
    """
    pem = Path(__file__).with_name("localhost.pem")

    async def main() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        played = Upstream(echo)
        server = await asyncio.start_server(played.serve, "127.0.0.1", 0, ssl=context)
        client = AiohttpClient(ca_file=pem if trusted else None)
        await client.open()
        try:
            url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            if trusted:
                assert await ask(client, url) == b"{}"
            else:
                with pytest.raises(Broken, match="certificate"):
                    await ask(client, url)
                assert not played.asked
        finally:
            await client.close()
            server.close()

    asyncio.run(main())
