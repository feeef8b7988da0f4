"""A model's worker, asked within a call's time: what goes wrong there, in a backend's words."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from embed.errors import Busy, EmbedError, TooLong, Wordless
from wire.errors import Broken, ContextOverflow, Overloaded, TimedOut, Unsupported


@asynccontextmanager
async def asking(who: str, seconds: float) -> AsyncIterator[None]:
    """who: the worker, as a message names it. Raises BackendError in place of EmbedError and of its time's end."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as exc:
        raise TimedOut(f"{who} did not answer within {seconds:g} s") from exc
    except Busy as exc:
        raise Overloaded(str(exc)) from exc
    except TooLong as exc:
        raise ContextOverflow(str(exc)) from exc
    except Wordless as exc:
        raise Unsupported(str(exc)) from exc
    except EmbedError as exc:
        raise Broken(str(exc)) from exc
