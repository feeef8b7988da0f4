"""The way to the upstream: names, addresses, URLs, and those who never answer."""

import asyncio
import errno
import gc
import os
import socket
import warnings

import pytest

from backends.http.base import Timeouts
from backends.http.local import LocalClient
from tests.backends.http.local import Loop, full, the
from tests.backends.http.playing import ask, deaf, echo
from tests.backends.upstream import Upstream
from wire.errors import Broken, TimedOut


def test_cancelled_while_connecting(loop: Loop) -> None:
    """Cancelled while it connects to somebody who never takes the connection, a request leaves no socket behind."""

    async def test(client: LocalClient, server: Upstream) -> None:
        with full() as url:
            async with asyncio.TaskGroup() as group:
                task = group.create_task(ask(client, url))
                await asyncio.sleep(0.05)
                assert the(client).leased == 1
                task.cancel()
        assert not client.pools
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            gc.collect()

    loop(echo, test)


def test_connecting_takes_too_long(loop: Loop) -> None:
    """Connecting has its own limit, and the shortest limit names the phase."""

    async def test(client: LocalClient, server: Upstream) -> None:
        with full() as url:
            for limits, phase in (
                (Timeouts(connect=0.05), "connect"),
                (Timeouts(connect=5, first_byte=0.05), "first_byte"),
                (Timeouts(connect=5, total=0.05), "total"),
            ):
                with pytest.raises(TimedOut) as caught:
                    await ask(client, url, limits)
                assert caught.value.phase == phase

    loop(echo, test)


def _ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not _ipv6(), reason="this machine has no IPv6")
def test_ipv6(loop: Loop) -> None:
    """An IPv6 address in brackets is asked, and named as such in `host`."""

    async def test(client: LocalClient, server: Upstream) -> None:
        listening = await asyncio.start_server(server.serve, "::1", 0)
        port = listening.sockets[0].getsockname()[1]
        assert await ask(client, f"http://[::1]:{port}/v1") == b"{}"
        assert server.asked[0].headers["host"] == f"[::1]:{port}"
        listening.close()

    loop(echo, test)


def test_localhost(loop: Loop) -> None:
    """`localhost` leads to a server that listens on 127.0.0.1 only, whatever else the name means."""

    async def test(client: LocalClient, server: Upstream) -> None:
        assert await ask(client, server.url.replace("127.0.0.1", "localhost")) == b"{}"

    loop(echo, test)


NOWHERE = {
    "refused": ("http://127.0.0.1:DEAF", os.strerror(errno.ECONNREFUSED)),
    "no such host": ("http://no-such-host.invalid", "host name"),
    "no such port": ("http://127.0.0.1:99999", "URL"),
    "no host": ("http://", "URL"),
    "a host name that is none": ("http://" + "a" * 64 + ".invalid", "host name"),
    "a user": ("http://user:secret@127.0.0.1/", "URL"),
    "a line break": ("http://127.0.0.1/a\r\nx: secret", "URL"),
    "a space": ("http://127.0.0.1/a b", "URL"),
    "not ASCII": ("http://127.0.0.1/ä", "URL"),
}


@pytest.mark.parametrize("case", NOWHERE)
def test_where_nobody_is(loop: Loop, case: str) -> None:
    """A refused connection, a name that is none, a URL that cannot be asked: Broken, soon, and without what must not be logged."""
    url, said = NOWHERE[case]

    async def test(client: LocalClient, server: Upstream) -> None:
        with deaf() as port, pytest.raises(Broken, match=said) as caught:
            await ask(client, url.replace("DEAF", str(port)))
        assert "secret" not in str(caught.value)

    loop(echo, test)
