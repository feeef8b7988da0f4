"""An agent: the official `openai` client, pointed at Weir and otherwise as it was."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.demo import traffic
from gateway.demo.account import Observation
from gateway.demo.traffic import Item

if TYPE_CHECKING:
    from collections.abc import Mapping

    from openai import AsyncOpenAI

TIMEOUT = 90.0
"""Seconds for one request: more than the gateway's own deadline, so that the gateway's word comes first."""


class ClientMissing(Exception):
    """The `openai` package is not installed."""


@asynccontextmanager
async def agent(url: str, parallel: int) -> AsyncIterator["AsyncOpenAI"]:
    """A client with `parallel` open connections: connecting is no part of anybody's latency. Raises ClientMissing."""
    try:
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient
    except ImportError as exc:
        raise ClientMissing("the demo asks through the official client: pip install openai") from exc
    # What the machine's environment says about proxies is not meant for a server on 127.0.0.1. No retries: each request is
    # one line in every book.
    http = DefaultAsyncHttpxClient(trust_env=False)
    async with AsyncOpenAI(
        base_url=f"{url}/v1", api_key="demo", max_retries=0, timeout=TIMEOUT, http_client=http
    ) as client:
        async with asyncio.TaskGroup() as group:
            for _ in range(parallel):
                group.create_task(_connect(client))
        yield client


async def _connect(client: "AsyncOpenAI") -> None:
    await client.models.list()


async def send(
    client: "AsyncOpenAI",
    items: Sequence[Item],
    labels: Sequence[str],
    parallel: int,
    tell: Callable[[Observation], None],
) -> list[Observation]:
    """Ask for all `items`, `parallel` at a time; `tell` hears of each as it is answered."""
    from jsonschema_rs import validator_for

    fits = validator_for(traffic.schema(labels)).is_valid
    waiting = iter(items)
    seen: list[Observation] = []

    async def worker() -> None:
        for item in waiting:
            observation = await ask(client, item, labels, fits)
            seen.append(observation)
            tell(observation)

    async with asyncio.TaskGroup() as group:
        for _ in range(parallel):
            group.create_task(worker())
    return seen


async def ask(client: "AsyncOpenAI", item: Item, labels: Sequence[str], fits: Callable[[Any], bool]) -> Observation:
    """One request. An error is an observation too."""
    from openai import APIConnectionError, APIStatusError

    body: dict[str, Any] = dict(traffic.body(item, labels))
    started = time.perf_counter()
    try:
        response = await client.chat.completions.with_raw_response.create(**body)
        content = response.parse().choices[0].message.content or ""
    except APIStatusError as exc:
        return _observed(item, exc.status_code, time.perf_counter() - started, exc.response.headers)
    except APIConnectionError:
        return Observation(item, 0, time.perf_counter() - started)
    seconds = time.perf_counter() - started
    if item.kind == "chat":
        return _observed(item, 200, seconds, response.headers, content, bool(content))
    label, valid = _label(content, fits)
    return _observed(item, 200, seconds, response.headers, label, valid)


def _label(content: str, fits: Callable[[Any], bool]) -> tuple[str, bool]:
    try:
        found = msgspec.json.decode(content)
    except msgspec.DecodeError:
        return "", False
    return (found[traffic.SCHEMA_NAME], True) if fits(found) else ("", False)


def _observed(
    item: Item, status: int, seconds: float, headers: "Mapping[str, str]", answer: str = "", valid: bool = False
) -> Observation:
    return Observation(
        item=item,
        status=status,
        seconds=seconds,
        answer=answer,
        valid=valid,
        id=headers.get("x-weir-request-id", ""),
        route=headers.get("x-weir-route", ""),
        rung=headers.get("x-weir-rung", ""),
        attempts=int(headers.get("x-weir-attempts", "0")),
        reason=headers.get("x-weir-reason", ""),
        degraded=headers.get("x-weir-degraded") == "true",
        simulated=headers.get("x-weir-simulated") == "true",
    )
