"""Ports for servers that are told theirs before they listen."""

import random
import socket
from itertools import chain

# Below what kernels give to whoever asks for any port (Linux from 32768, others from 49152): nobody is given one of these by chance
# between the look and the server's start, and nobody who knocks there meanwhile meets itself.
_PORTS = range(15_000, 30_000)
_start = random.SystemRandom().choice(_PORTS)
_next = chain(range(_start, _PORTS.stop), range(_PORTS.start, _start))


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens; another one each time."""
    for port in _next:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no port is free")
