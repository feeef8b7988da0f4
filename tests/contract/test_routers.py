"""What every router must do, whoever wrote it. Found by walking the package: adding a router is adding a file, a case
here and a test file of its own."""

import asyncio
import gc
import inspect
import math
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from routers.base import Router, RouterConfig, RouteSpec
from tests.routers.table import Resources
from wire.kinds import kinds, load_kind
from wire.types import Query, Scores

CASES: dict[str, Mapping[str, Any]] = {
    "rules": {},
    "embedding": {},
    "cascade": {"of": [{"kind": "rules", "sure": 1.0}, {"kind": "embedding", "name": "second"}]},
}
"""Kind > the keys of a working configuration, without `kind`."""

ROUTES = (
    RouteSpec(
        "travel", examples=("book a flight to paris", "which gate is my plane at"), description="Trips by plane."
    ),
    RouteSpec("money", match={"model": "gpt-*", "chars": {"max": 9}}, examples=("what is my balance",)),
    RouteSpec("described", description="Anything about cooking and recipes"),
    RouteSpec("ruled", match=[{"schema": True}, {"text": "(?i)refund"}]),
    RouteSpec("bare"),
)
TEXTS = (
    "",
    " \n\t",
    "what is my balance",
    "Refund!",
    "x" * 100_000,
    "book a flight " * 7_000,
    "\x00\x01\x7f",
    "\ud800 lone surrogate \udfff",
    "e\u0301\u200d\U0001f468\u200d\U0001f469 \u202eright to left\u202c \ufeff\ufffe",
    "北京到上海的航班 رحلة ✈️",
    "\U0010ffff" * 50,
)
TESTS = Path(__file__).parent.parent / "routers"
QUERIES = st.builds(
    Query,
    text=st.text(st.characters(codec=None), max_size=200),
    model=st.text(max_size=20),
    schema=st.sampled_from(["", "0123456789abcdef"]),
    turns=st.integers(0, 100),
    chars=st.integers(0, 10**7),
    headers=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
)


def router(kind: str, routes: Sequence[RouteSpec] = ROUTES) -> Router:
    found = load_kind("routers", kind)
    built: Router = found(config(kind), routes, Resources())
    return built


def config(kind: str, **more: Any) -> RouterConfig:
    built: RouterConfig = load_kind("routers", kind).Config.model_validate({"kind": kind, **CASES[kind], **more})
    return built


def ask(asked: Router, query: Query) -> Scores:
    return asyncio.run(asked.score(query))


def proper(scores: Scores, names: set[str]) -> None:
    assert set(scores.by_route) <= names
    for value in (*scores.by_route.values(), *([] if scores.out_of_scope is None else [scores.out_of_scope])):
        assert type(value) is float
        assert math.isfinite(value)
        assert 0.0 <= value <= 1.0
    assert scores.source
    assert scores.errors == ()


every_router = pytest.mark.parametrize("kind", [kind for kind in kinds("routers") if kind in CASES])


@pytest.mark.parametrize("kind", kinds("routers"))
def test_every_router_has_a_case_and_a_test_file(kind: str) -> None:
    """A router that nobody tests is not one: it needs a case here and a mirrored test file."""
    assert kind in CASES, f"routers/{kind}.py is new: add a case {kind!r} to CASES in tests/contract/test_routers.py"
    assert (TESTS / f"test_{kind}.py").is_file(), f"routers/{kind}.py is new: add tests/routers/test_{kind}.py"


def test_every_case_is_a_router() -> None:
    """A case whose router is gone tests nothing."""
    assert set(CASES) <= set(kinds("routers"))


@every_router
def test_one_class_one_config_one_method(kind: str) -> None:
    """A router is a class with a nested Config, built from (config, routes, resources), with one async method `score`."""
    found = load_kind("routers", kind)
    assert issubclass(found.Config, RouterConfig)
    assert list(inspect.signature(found).parameters) == ["config", "routes", "resources"]
    public = {name for name, value in vars(found).items() if name[0] != "_" and inspect.isfunction(value)}
    assert public == {"score"}
    assert inspect.iscoroutinefunction(found.score)


@every_router
def test_its_configuration_is_strict_and_frozen(kind: str) -> None:
    """An unknown key is a mistake, and nothing changes after it was read."""
    with pytest.raises(ValidationError, match="nope"):
        config(kind, nope=1)
    with pytest.raises(ValidationError, match="frozen"):
        config(kind).name = "other"  # type: ignore[misc]


@every_router
def test_a_dump_of_the_configuration_reads_back(kind: str) -> None:
    """Configuration is data: dumped as JSON and read again it is the same (hash, explain and schema depend on it)."""
    one = config(kind)
    assert type(one).model_validate_json(one.model_dump_json(by_alias=True)) == one
    assert type(one).model_json_schema()["additionalProperties"] is False


@every_router
@pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text[:12]))
def test_it_survives_any_text(kind: str, text: str) -> None:
    """Empty, 100 kB, half surrogate pairs, emoji: scores in [0, 1] for routes that exist."""
    proper(ask(router(kind), Query(text=text, model="gpt-5", chars=len(text))), {route.name for route in ROUTES})


@every_router
@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(query=QUERIES)
def test_it_survives_any_query(kind: str, query: Query) -> None:
    """Whatever a request looks like, the opinion is a proper one, and asked again it is the same."""
    asked = _built(kind)
    scores = ask(asked, query)
    proper(scores, {route.name for route in ROUTES})
    assert ask(asked, query) == scores


@every_router
def test_it_is_deterministic_across_builds(kind: str) -> None:
    """Two routers of the same configuration agree to the last bit: yesterday's Records can be replayed."""
    for text in TEXTS:
        query = Query(text=text, model="gpt-5")
        assert ask(router(kind), query) == ask(router(kind), query)


@every_router
@pytest.mark.parametrize("routes", [(), ROUTES[:1], ROUTES[-1:]], ids=["none", "one", "bare"])
def test_it_works_with_few_routes(kind: str, routes: Sequence[RouteSpec]) -> None:
    """No route, one, or one that says nothing of itself: no opinion is an opinion too."""
    scores = ask(router(kind, routes), Query(text="book a flight to rome", model="gpt-5"))
    proper(scores, {route.name for route in routes})
    assert "bare" not in scores.by_route


@every_router
def test_scoring_touches_nothing_outside(kind: str) -> None:
    """No file, socket, process, sleep or first import while a request waits: the event loop is everybody's."""
    asked = router(kind)
    with _watched() as seen:
        for text in TEXTS:
            coroutine = asked.score(Query(text=text, model="gpt-5"))
            with pytest.raises(StopIteration):
                coroutine.send(None)
    assert seen == []


@every_router
def test_requests_may_be_scored_at_the_same_time(kind: str) -> None:
    """Routers keep no state between requests: interleaved answers are those given one by one."""
    asked = router(kind)
    queries = [Query(text=text, model="gpt-5") for text in TEXTS]

    async def together() -> list[Scores]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asked.score(query)) for query in queries]
        return [task.result() for task in tasks]

    assert asyncio.run(together()) == [ask(asked, query) for query in queries]


BUILT: dict[str, Router] = {}


def _built(kind: str) -> Router:
    if kind not in BUILT:
        BUILT[kind] = router(kind)
    return BUILT[kind]


WATCHED: list[list[str]] = []
"""The list that the audit hook writes to, when there is one: hooks cannot be taken away again. What other threads do is not heard."""


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if (
        WATCHED
        and threading.current_thread() is threading.main_thread()
        and event.split(".")[0] in {"open", "socket", "subprocess", "os", "time", "import", "shutil", "sqlite3"}
    ):
        WATCHED[-1].append(f"{event} {args[:1]}")


@contextmanager
def _watched() -> Iterator[list[str]]:
    if _hook not in HOOKS:
        sys.addaudithook(_hook)
        HOOKS.append(_hook)
    seen: list[str] = []
    gc.disable()  # what earlier tests have left is not ended meanwhile
    WATCHED.append(seen)
    try:
        yield seen
    finally:
        WATCHED.pop()
        gc.enable()


HOOKS: list[Any] = []


def test_the_watch_sees() -> None:
    """The watch itself is no ornament: opening a file shows."""
    with _watched() as seen, open(__file__):
        pass
    assert any(entry.startswith("open") for entry in seen)
