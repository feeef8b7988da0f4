"""What every backend must do, whoever wrote it. Finds them by walking the package.

A new backend brings its own case: `CASE = Case(...)` in its mirrored test, `tests/backends/test_KIND.py` (see `backend_case`).
No second file is edited for it. Those that were there first have theirs in `CASES`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from pydantic import ValidationError

from backends.base import Backend, BackendConfig, BackendResources
from tests.backends.upstream import Asked, Upstream, event
from tests.backends.world import collect, world
from tests.contract.backend_case import Case, asks
from tests.messages import claude
from tests.waiting import PATIENCE
from wire.errors import BackendError, TimedOut
from wire.kinds import kinds, load_kind
from wire.types import Call, Chunk

CASES: dict[str, Case] = {
    "openai": asks(),
    "vllm": asks(),
    "scripted": Case(
        good=lambda url: {},
        failing=lambda url: [
            {"fail": {"share": 1, "reason": "overload"}},
            {"fail": {"share": 1, "reason": "backend_error"}},
            {"script": {"hi": {"events": ["data: {\n\n"]}}},
            {"script": {"hi": {"status": 400, "body": "<html>"}}},
        ],
        slow=lambda url: {"delay": {"median": 1e6}},
        stuck=lambda url: {"per_token": 1e6},
        asks_upstream=False,
    ),
}
KINDS = kinds("backends")
TESTS = Path(__file__).parents[1] / "backends"


def case_of(kind: str) -> Case:
    found: Case | None = CASES.get(kind)
    if found is None and find_spec(f"tests.backends.test_{kind}"):
        found = getattr(import_module(f"tests.backends.test_{kind}"), "CASE", None)
    if found is None:
        pytest.fail(
            f"backends/{kind}.py has no contract case: write `CASE = Case(...)` in tests/backends/test_{kind}.py "
            "(`from tests.contract.backend_case import Case`)"
        )
    return found


async def play(asked: Asked) -> None:
    """The common server: what it does is in the path."""
    what = asked.line.split("/")[1]
    if asked.line.split()[1].endswith("/messages") and what in ("good", "half", "cut"):
        await play_messages(asked, what)
        return
    chunk = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "hello"}, "finish_reason": None}]}
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    message = {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}
    if what == "good" and asked.json.get("stream"):
        await asked.stream(event(chunk), event(end), event("[DONE]"))
    elif what == "good":
        await asked.answer(orjson.dumps({"choices": [message], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}))
    elif what == "half":
        await asked.stream(event(chunk), end=False)
        await asyncio.sleep(60)
    elif what == "cut":
        await asked.stream(event(chunk), end=False)
        asked.writer.close()
    elif what == "html":
        await asked.answer(b"<html>", headers={"content-type": "text/html"})
    elif what == "empty":
        await asked.answer(b"", status=204)
    elif what == "hang":
        await asyncio.sleep(60)
    else:
        await asked.answer(b"oops", status=int(what))


async def play_messages(asked: Asked, what: str) -> None:
    """The same in Anthropic's words."""
    told = claude.events(claude.ANSWER)
    if what != "good":
        await asked.stream(*told[:4], end=False)
        if what == "half":
            await asyncio.sleep(60)
        asked.writer.close()
    elif asked.json.get("stream"):
        await asked.stream(*told)
    else:
        await asked.answer(orjson.dumps(claude.ANSWER))


def made(kind: str, yaml: dict[str, Any], case: Case, resources: BackendResources) -> Backend:
    backend = load_kind("backends", kind)
    config = backend.Config(kind=kind, **yaml)
    assert isinstance(config, BackendConfig)
    made: Backend = backend(kind, config, case.resources(resources))
    return made


def run(test: Callable[[BackendResources, Upstream], Awaitable[None]]) -> None:
    async def main() -> None:
        async with world(play) as (resources, server), asyncio.timeout(2 * PATIENCE):
            await test(resources, server)

    asyncio.run(main())


def live(call: Call, value: bool = True, **changes: Any) -> Call:
    return msgspec.structs.replace(call, live=value, **changes)


@pytest.mark.parametrize("live_", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_answers(kind: str, live_: bool) -> None:
    """An answer folds to one role, some content or calls, and one finish per choice, whether it was wanted live or whole."""
    case = case_of(kind)

    async def test(resources: BackendResources, server: Upstream) -> None:
        found = await collect(made(kind, case.good(server.url), case, resources), live(case.call, live_))
        assert all(isinstance(chunk, Chunk) for chunk in found)
        assert [chunk.finish for chunk in found if chunk.finish] == [case.finish]
        said = "tool_calls" if case.finish == "tool_calls" else "content"
        assert any(chunk.delta.get(said) for chunk in found)
        assert not live_ or found[-1].finish or found[-1].usage or not found[-1].delta
        assert all(chunk.head is None for chunk in found[1:])
        assert not any(chunk.raw for chunk in found)
        assert live_ or len(found) == 1, "a whole answer is one chunk per choice"

    run(test)


@pytest.mark.parametrize("live_", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_fails_in_our_words(kind: str, live_: bool) -> None:
    """Whatever goes wrong is a BackendError; a failure is neither an empty answer nor somebody else's exception."""
    case = case_of(kind)

    async def test(resources: BackendResources, server: Upstream) -> None:
        for yaml in case.failing(server.url):
            with pytest.raises(BackendError) as caught:
                await collect(made(kind, yaml, case, resources), live(case.call, live_))
            assert caught.value.reason
            assert str(caught.value)

    run(test)


@pytest.mark.parametrize("kind", KINDS)
def test_closing_stops_the_work(kind: str) -> None:
    """Closed after its first chunk, a stream leaves nothing behind: no task here, no request upstream."""
    case = case_of(kind)
    if case.stuck is None:
        pytest.skip(f"{kind} says all it has in one chunk")
    stuck = case.stuck

    async def test(resources: BackendResources, server: Upstream) -> None:
        before = asyncio.all_tasks()
        async with aclosing(made(kind, stuck(server.url), case, resources).stream(live(case.call))) as stream:
            await anext(stream)
        if case.asks_upstream:
            await server.wait_left(1)
        else:
            assert asyncio.all_tasks() == before

    run(test)


@pytest.mark.parametrize("live_", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_cancelling_stops_the_work(kind: str, live_: bool) -> None:
    """Cancelled while it waits for the first byte, a stream ends at once, as cancelled, and so does the work upstream."""
    case = case_of(kind)
    if case.slow is None:
        pytest.skip(f"{kind} does not wait")
    slow = case.slow

    async def test(resources: BackendResources, server: Upstream) -> None:
        backend = made(kind, slow(server.url), case, resources)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(collect(backend, live(case.call, live_)))
            await (server.wait_asked(1) if case.asks_upstream else asyncio.sleep(0.05))
            task.cancel()
            async with asyncio.timeout(PATIENCE):
                await asyncio.wait({task})
            assert task.cancelled()
        if case.asks_upstream:
            await server.wait_left(1)

    run(test)


@pytest.mark.parametrize("live_", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_honours_its_seconds(kind: str, live_: bool) -> None:
    """No first byte within `Call.seconds` is TimedOut, whatever the backend's own timeouts say; the upstream is left."""
    case = case_of(kind)
    if case.slow is None:
        pytest.skip(f"{kind} does not wait")
    slow = case.slow

    async def test(resources: BackendResources, server: Upstream) -> None:
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(TimedOut):
                await collect(made(kind, slow(server.url), case, resources), live(case.call, live_, seconds=0.15))
        if case.asks_upstream:
            await server.wait_left(1)

    run(test)


@pytest.mark.parametrize("kind", KINDS)
def test_answers_many_at_once(kind: str) -> None:
    """One backend serves many calls at the same time, each with its own answer's end."""
    case = case_of(kind)

    async def test(resources: BackendResources, server: Upstream) -> None:
        backend = made(kind, case.good(server.url), case, resources)
        answers = await asyncio.gather(*(collect(backend, live(case.call, n % 2 == 0)) for n in range(12)))
        assert all([chunk.finish for chunk in answer if chunk.finish] == [case.finish] for answer in answers)

    run(test)


@pytest.mark.parametrize("kind", KINDS)
def test_config(kind: str) -> None:
    """A configuration is frozen, names its mistakes, and does not change what `missing` and `digest` promise."""
    case = case_of(kind)
    backend = load_kind("backends", kind)
    config = backend.Config(kind=kind, **case.good("http://127.0.0.1:1"))
    assert isinstance(config.missing(), str)
    assert config.digest()
    with pytest.raises(ValidationError):
        config.timeout = 5.0
    with pytest.raises(ValidationError):
        backend.Config(kind=kind, **{**case.good("http://127.0.0.1:1"), "no_such_key": 1})


@pytest.mark.parametrize("kind", KINDS)
def test_mirrored_test(kind: str) -> None:
    """Every backend has a test file of its own."""
    assert (TESTS / f"test_{kind}.py").is_file(), f"write tests/backends/test_{kind}.py"


def test_a_kind_without_a_case_is_told_where_to_add_one() -> None:
    """The failure names the file to write."""
    with pytest.raises(pytest.fail.Exception, match=r"tests/backends/test_brand_new\.py"):
        case_of("brand_new")
