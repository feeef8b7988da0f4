"""The vLLM rung with engines that it looks after: adapters, replicas, what is known of them. The real engine: tests/live."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from backends._files import WHOLE, digest, stamp
from backends._vllm_adapter import spelled
from backends._vllm_engine import Engine, Gauges, cards, gauges
from backends.vllm import Vllm, VllmConfig
from tests.backends.scripted_engine import ScriptedEngine
from tests.backends.upstream import Upstream, upstream
from tests.backends.world import Resources, collect, text_of, world
from tests.waiting import PATIENCE, until
from wire.errors import BackendError, Broken, Overloaded, Refused, TimedOut, Unavailable
from wire.types import Call

QUICK = {"look": 0.05, "probe": False}
CALL = Call(body={"messages": [{"role": "user", "content": "hi"}]}, seconds=PATIENCE)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a slow machine an engine may be late, and is none the worse for it."""
    monkeypatch.setattr("backends._vllm_fleet.ANSWER", (PATIENCE, PATIENCE))


class Some:
    """Engines, and backends in front of them."""

    def __init__(self, resources: Resources, engines: list[ScriptedEngine], servers: list[Upstream]) -> None:
        self.resources = resources
        self.engines = engines
        self.urls = [f"{server.url}/v1" for server in servers]

    def backend(self, **config: Any) -> Vllm:
        given = {"base_url": self.urls[0], "replicas": self.urls[1:], "model": "tiny", **QUICK, **config}
        return Vllm("small", VllmConfig(kind="vllm", **given), self.resources)

    def chats(self) -> list[int]:
        return [engine.chats() for engine in self.engines]


@asynccontextmanager
async def some(count: int = 1) -> AsyncIterator[Some]:
    engines = [ScriptedEngine() for _ in range(count)]
    async with AsyncExitStack() as stack:
        resources, first = await stack.enter_async_context(world(engines[0]))
        servers = [first, *[await stack.enter_async_context(upstream(engine)) for engine in engines[1:]]]
        assert isinstance(resources, Resources)
        yield Some(resources, engines, servers)


@asynccontextmanager
async def tended(*backends: Vllm) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(backend.tend()) for backend in backends]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(2 * PATIENCE):
            await test()

    asyncio.run(main())


def call(**more: Any) -> Call:
    return Call(body=CALL.body, seconds=PATIENCE, **more)


def lora(folder: Path, weights: bytes = b"one") -> Path:
    """Each file is put in its place at once: somebody may be looking."""
    folder.mkdir(exist_ok=True)
    part = folder.with_suffix(".part")
    part.write_text('{"r": 8, "base_model_name_or_path": "anywhere"}')
    part.replace(folder / "adapter_config.json")
    part.write_bytes(weights)
    part.replace(folder / "adapter_model.safetensors")
    return folder


async def more_looks(engine: ScriptedEngine) -> None:
    """Until it was looked at a few times more: time enough for what must not happen."""
    seen = engine.seen.count("GET /health")
    await until(lambda: engine.seen.count("GET /health") > seen + 4)


def one_folder(*paths: str | Path) -> bool:
    return len({os.path.realpath(path) for path in paths}) == 1


# -- adapters -------------------------------------------------------------------------------------------------------


def test_adapter_is_loaded_before_it_is_asked(tmp_path: Path) -> None:
    """Without its adapter the rung is unavailable; once it was loaded and seen in /v1/models it answers under the adapter's name."""

    async def test() -> None:
        async with some() as s:
            backend = s.backend(adapter="intents", adapter_path=str(lora(tmp_path / "a")))
            with pytest.raises(Unavailable, match="intents"):
                await collect(backend, CALL)
            async with tended(backend):
                await until(lambda: not backend.unready)
            assert s.engines[0].seen.count("POST /v1/load_lora_adapter") == 1
            await collect(backend, CALL)
            assert s.engines[0].bodies[-1]["model"] == "intents"
            assert backend.ledger["adapter"] == "enforced"

    run(test)


def test_adapter_after_an_engine_restart(tmp_path: Path) -> None:
    """An engine that has forgotten its adapters gets them again."""

    async def test() -> None:
        async with some() as s:
            backend = s.backend(adapter="intents", adapter_path=str(lora(tmp_path / "a")))
            async with tended(backend):
                await until(lambda: not backend.unready)
                s.engines[0].adapters.clear()
                s.engines[0].started += 1
                await until(lambda: "intents" in s.engines[0].adapters and not backend.unready)

    run(test)


def test_a_404_wakes_the_look(tmp_path: Path) -> None:
    """Between two looks the engine itself says that it has lost the adapter: that request fails, and the adapter is loaded at once."""

    async def test() -> None:
        async with some() as s:
            backend = s.backend(adapter="intents", adapter_path=str(lora(tmp_path / "a")), look=60)
            async with tended(backend):
                await until(lambda: not backend.unready)
                s.engines[0].adapters.clear()
                with pytest.raises(Refused):
                    await collect(backend, CALL)
                assert backend.unready
                await until(lambda: not backend.unready)

    run(test)


def test_changed_files_are_another_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New weights in the folder: the digest changes first, the rung is not asked, then they are loaded in place."""
    monkeypatch.setattr("backends.vllm._SETTLE", 3600.0)

    async def test() -> None:
        async with some() as s:
            folder = lora(tmp_path / "a")
            backend = s.backend(adapter="intents", adapter_path=str(folder))
            async with tended(backend):
                await until(lambda: not backend.unready)
                before, loaded = backend.digest, s.engines[0].adapters["intents"]
                lora(folder, b"other")
                await until(lambda: backend.digest != before)
                await more_looks(s.engines[0])
                assert backend.unready
                assert s.engines[0].adapters["intents"] == loaded, "not before somebody could look at the calibrations"
                backend._settled = 0.0  # the time is over
                await until(lambda: not backend.unready)
                again = s.engines[0].adapters["intents"]
                assert again != loaded
                assert one_folder(again, folder)
            assert s.backend(adapter="intents", adapter_path=str(folder)).digest == backend.digest

    run(test)


def test_loaded_in_place_when_quiet(tmp_path: Path) -> None:
    """A version that others load over waits for the requests that are under way on the old one."""

    async def test() -> None:
        async with some() as s:
            old = s.backend(adapter="intents", adapter_path=str(lora(tmp_path / "a")))
            async with tended(old):
                await until(lambda: not old.unready)
            lora(tmp_path / "a", b"other")
            new = s.backend(adapter="intents", adapter_path=str(tmp_path / "a"))
            assert new.unready
            (engine,) = new._fleet.engines.values()
            with engine.busy("intents"):
                async with tended(new):
                    await asyncio.sleep(0.2)
                    assert new.unready, "it waits"
            async with tended(new):
                await until(lambda: not new.unready)

    run(test)


def test_what_nobody_asks_for_is_unloaded(tmp_path: Path) -> None:
    """A reload without the adapter takes it out, after the requests on it; not what another backend still asks for."""

    async def test() -> None:
        async with some() as s:
            folder = str(lora(tmp_path / "a"))
            backend = s.backend(adapter="intents", adapter_path=folder)
            async with tended(backend):
                await until(lambda: not backend.unready)
            await backend.retire([s.backend(adapter="intents", adapter_path=folder)])
            assert "intents" in s.engines[0].adapters
            (engine,) = backend._fleet.engines.values()
            async with asyncio.TaskGroup() as group:
                with engine.busy("intents"):
                    task = group.create_task(backend.retire([s.backend()]))
                    await asyncio.sleep(0.1)
                    assert "intents" in s.engines[0].adapters
                await task
            assert s.engines[0].adapters == {}

    run(test)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"may_load": False}, "VLLM_ALLOW_RUNTIME_LORA_UPDATING"),
        ({"base": "other"}, "does not serve 'tiny'"),
        ({"health": 503}, "not loaded yet"),
    ],
)
def test_what_cannot_be_loaded_is_said(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    """The rung stays unavailable, and says why."""

    async def test() -> None:
        async with some() as s:
            for name, value in change.items():
                setattr(s.engines[0], name, value)
            backend = s.backend(adapter="intents", adapter_path=str(lora(tmp_path / "a")))
            async with tended(backend):
                await until(lambda: said in backend.unready)
                with pytest.raises(Unavailable, match=said):
                    await collect(backend, CALL)

    run(test)


def test_an_adapter_of_another_base_is_none(tmp_path: Path) -> None:
    """What /v1/models calls a base model, or another base's adapter, is not the adapter that was meant."""

    async def test() -> None:
        async with some() as s:
            s.engines[0].adapters["intents"] = "/somewhere"
            backend = s.backend(adapter="intents", model="tiny")
            assert not backend.unready, "nobody has looked, and nobody need have"
            await backend.look()
            assert not backend.unready
            other = s.backend(adapter="intents", model="large")
            assert "belongs to 'tiny'" in other.unready
            assert "is a base model" in s.backend(adapter="tiny").unready

    run(test)


def test_several_adapters_on_one_base(tmp_path: Path) -> None:
    """Each is a backend of its own with the same base URL; they share what is known of the engine, and differ in digest."""

    async def test() -> None:
        async with some() as s:
            one = s.backend(adapter="one", adapter_path=str(lora(tmp_path / "1", b"1")))
            two = s.backend(adapter="two", adapter_path=str(lora(tmp_path / "2", b"2")))
            async with tended(one, two):
                await until(lambda: not one.unready and not two.unready)
            assert set(s.engines[0].adapters) == {"one", "two"}
            assert one._fleet is two._fleet
            assert len({one.digest, two.digest, s.backend().digest}) == 3

    run(test)


def test_the_version_stands_in_the_path() -> None:
    """Other versions spell the same folder otherwise; a path that is not absolute, or a version that is unknown, changes nothing."""
    one, two = spelled("/a/b", "ea41ae704e9ce498"), spelled("/a/b/", "36e5209872070775")
    assert one != two
    assert {str(Path(one)), str(Path(two))} == {"/a/b"}
    assert spelled("/a/b", "ea41ae704e9ce498") == one
    assert spelled("org/name", "ea41ae70") == "org/name"
    assert spelled("/a/b", "") == "/a/b"


def test_digest_of_files(tmp_path: Path) -> None:
    """Content decides: not the place, and not the path of the base that training wrote down. A large file counts in samples."""
    first, second = lora(tmp_path / "a"), lora(tmp_path / "b")
    (second / "adapter_config.json").write_text('{"base_model_name_or_path": "/elsewhere", "r": 8}')
    (second / "README.md").write_text("words")
    assert digest(first) == digest(second) != ""
    before = stamp(second)
    lora(second, b"other")
    assert digest(first) != digest(second)
    assert stamp(second) != before
    assert digest(tmp_path / "nowhere") == ""
    large = tmp_path / "c"
    large.mkdir()
    with (large / "model.safetensors").open("wb") as file:
        file.truncate(WHOLE + 1)
    sparse = digest(large)
    with (large / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"x")
    assert digest(large) != sparse


# -- the model behind it --------------------------------------------------------------------------------------------


def test_digest_is_learned(tmp_path: Path) -> None:
    """Unknown until the engine was asked; of the weights where they can be seen, of what /v1/models says where not."""

    async def test() -> None:
        async with some() as s:
            backend = s.backend()
            assert backend.digest == ""
            assert backend.config.digest() == "tiny"
            await backend.look()
            far = backend.digest
            assert far
            s.engines[0].root = "/models/other"
            await backend.look()
            assert backend.digest not in ("", far)
            weights = tmp_path / "weights"
            weights.mkdir()
            (weights / "model.safetensors").write_bytes(b"weights")
            s.engines[0].root = str(weights)
            await backend.look()
            near = backend.digest
            weights.rename(tmp_path / "moved")
            s.engines[0].root = str(tmp_path / "moved")
            await backend.look()
            assert backend.digest == near, "the same weights elsewhere are the same model"

    run(test)


def test_probed_when_it_starts(tmp_path: Path) -> None:
    """Once after its start, once more after a restart, not on every look, and not by a backend that a reload has made anew."""

    async def test() -> None:
        async with some() as s:
            engine = s.engines[0]
            backend = s.backend(probe=True)
            async with tended(backend):
                await until(lambda: backend.ledger["tool_auto"] == "enforced")
                asked = engine.chats()
                await more_looks(engine)
                assert engine.chats() == asked
                engine.obeys, engine.started = False, 2000.0
                await until(lambda: backend.ledger["schema"] == "ignored")
                asked = engine.chats()
            again = s.backend(probe=True)
            assert again.ledger["schema"] == "ignored"
            async with tended(again):
                await more_looks(engine)
            assert engine.chats() == asked

    run(test)


def test_nobody_is_probed_uninvited() -> None:
    """A cloud rung is looked at, and probed only where the configuration says so; one with the caller's own key is left alone."""

    async def test() -> None:
        async with some(2) as s:
            looked_at, left_alone = s.engines
            async with tended(s.backend(cloud=True, probe=None, replicas=())):
                await more_looks(looked_at)
            assert looked_at.chats() == 0
            async with tended(s.backend(auth="passthrough", probe=True, base_url=s.urls[1], replicas=())):
                await asyncio.sleep(0.2)
            assert left_alone.seen == []

    run(test)


def test_a_busy_engine_is_not_probed() -> None:
    """Not while others wait for it."""

    async def test() -> None:
        async with some() as s:
            s.engines[0].waiting = 3
            backend = s.backend(probe=True)
            async with tended(backend):
                await more_looks(s.engines[0])
                assert s.engines[0].chats() == 0
                s.engines[0].waiting = 0
                await until(lambda: backend.ledger["answers"] == "enforced")

    run(test)


# -- replicas -------------------------------------------------------------------------------------------------------


def test_the_idle_one_is_asked() -> None:
    """By what /metrics says: the shortest queue."""

    async def test() -> None:
        async with some(3) as s:
            s.engines[0].waiting, s.engines[1].running = 4, 9
            backend = s.backend()
            await backend.look()
            for _ in range(4):
                await collect(backend, CALL)
            assert s.chats() == [0, 0, 4]

    run(test)


def test_one_that_is_too_busy_to_tell_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last word holds until it has another: silence under load is no idleness."""

    async def test() -> None:
        async with some(2) as s:
            s.engines[0].waiting, s.engines[1].waiting = 9, 1
            backend = s.backend()
            await backend.look()
            s.engines[0].late = PATIENCE
            monkeypatch.setattr("backends._vllm_fleet.ANSWER", (0.2, 0.2))
            (engine, _) = backend._fleet.engines.values()
            with engine.busy(""):
                await backend.look()
                assert engine.load(0.0, True).busy == 10, "and what was sent there since counts on top of it"
            await collect(backend, CALL)
            assert s.chats() == [0, 1]

    run(test)


def test_a_conversation_stays() -> None:
    """Requests of one session go to the replica that answered it first, requests of one kind to one replica while there is room."""

    async def test() -> None:
        async with some(3) as s:
            backend = s.backend()
            await backend.look()
            for n in range(4):
                await collect(backend, call(session="s1", signature=f"kind {n}"))
            assert sorted(s.chats()) == [0, 0, 4]
            for n in range(5):
                await collect(backend, call(session=f"new {n}", signature="one kind"))
            assert sorted(s.chats()) in ([0, 4, 5], [0, 0, 9])

    run(test)


@pytest.mark.parametrize("status", [503, 500])
def test_the_next_one_is_tried(status: int) -> None:
    """A replica that refuses for load or is broken is followed by one other; the caller notices nothing."""

    async def test() -> None:
        async with some(2) as s:
            s.engines[0].chat_status = status
            backend = s.backend()
            for _ in range(4):
                assert "sea" in text_of(await collect(backend, CALL))
            assert s.engines[1].chats() == 4
            assert s.engines[0].chats() <= 4

    run(test)


def test_full_everywhere_is_the_signal_to_spill() -> None:
    """503 of both: Overloaded, after two tries and no more."""

    async def test() -> None:
        async with some(3) as s:
            for engine in s.engines:
                engine.chat_status = 503
            with pytest.raises(Overloaded):
                await collect(s.backend(), CALL)
            assert sum(s.chats()) == 2

    run(test)


def test_the_requests_own_fault_is_not_tried_twice() -> None:
    """A 400 would be one everywhere."""

    async def test() -> None:
        async with some(2) as s:
            for engine in s.engines:
                engine.chat_status = 400
            with pytest.raises(Refused):
                await collect(s.backend(), CALL)
            assert sum(s.chats()) == 1

    run(test)


def test_a_failing_replica_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """After three failures it is not asked for a while; what answers again is asked again."""
    for name in ("REST", "LONGEST_REST"):
        monkeypatch.setattr(f"backends._vllm_choice.{name}", 3600.0)

    async def test() -> None:
        async with some(2) as s:
            s.engines[0].chat_status = 500
            backend = s.backend()
            first = next(iter(backend._fleet.engines.values()))
            for _ in range(8):
                await collect(backend, CALL)
            assert s.engines[0].chats() == 3
            s.engines[0].chat_status = 200
            first.circuit = first.circuit.__class__(first.circuit.failures, until=0.0)  # its rest is over
            await collect(backend, CALL)
            assert s.engines[0].chats() == 4
            assert first.circuit.failures == 0

    run(test)


def test_a_sick_replica_is_passed_over() -> None:
    """/health says 503: nobody is sent there, until it says 200. When all are sick they are asked all the same."""

    async def test() -> None:
        async with some(2) as s:
            s.engines[0].health = 503
            backend = s.backend()
            await backend.look()
            for _ in range(3):
                await collect(backend, CALL)
            assert s.chats() == [0, 3]
            s.engines[1].health = 503
            await backend.look()
            assert backend.unready
            await collect(backend, CALL)
            assert sum(s.chats()) == 4

    run(test)


def test_one_without_the_adapter_is_passed_over(tmp_path: Path) -> None:
    """Only replicas that hold the adapter are asked for it."""

    async def test() -> None:
        async with some(2) as s:
            s.engines[1].adapters["intents"] = "/x"
            backend = s.backend(adapter="intents")
            await backend.look()
            for _ in range(3):
                await collect(backend, CALL)
            assert s.chats() == [0, 3]

    run(test)


def test_nothing_is_sent_twice_after_the_first_chunk() -> None:
    """A stream that breaks under way is broken: no other replica goes on with it."""

    async def test() -> None:
        async with some(2) as s:
            from tests.backends.upstream import Asked, event

            async def half(asked: Asked) -> None:
                chunk = {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]}
                await asked.stream(event(chunk), end=False)
                asked.writer.close()

            async with upstream(half) as broken:
                backend = s.backend(base_url=f"{broken.url}/v1", replicas=s.urls)
                for engine in s.engines:
                    engine.waiting = 9
                await backend.look()
                got = []
                with pytest.raises(Broken):  # noqa: PT012 - the chunks that came before it count
                    async for chunk in backend.stream(call(live=True)):
                        got.append(chunk)
                assert text_of(got) == "a"
                assert s.chats() == [0, 0]

    run(test)


def test_dns_names_stand_for_replicas() -> None:
    """Each address of the name is a replica; a name that cannot be resolved changes nothing."""

    async def test() -> None:
        async with some() as s:
            port = s.urls[0].rsplit(":", 1)[1]
            backend = s.backend(base_url=f"http://localhost:{port}", replicas=(), dns=True)
            await backend.look()
            assert f"http://127.0.0.1:{port}" in backend._fleet.engines
            await collect(backend, CALL)
            assert s.chats() == [1]
            lost = s.backend(base_url="http://no-such-host.invalid:1/v1", replicas=(), dns=True)
            await lost.look()
            assert list(lost._fleet.engines) == ["http://no-such-host.invalid:1/v1"]

    run(test)


# -- what an engine says --------------------------------------------------------------------------------------------


def test_gauges() -> None:
    """Of the page only what is known is read: ranks of one engine are added up, the fullest cache counts; nonsense is passed over."""
    page = (
        b'vllm:num_requests_running{engine="0"} 2.0\nvllm:num_requests_running{engine="1"} 3.0\n'
        b'vllm:num_requests_waiting{engine="0"} 1\nvllm:num_requests_waiting_by_reason{reason="x"} 50\n'
        b'vllm:kv_cache_usage_perc{engine="0"} 0.25\nvllm:kv_cache_usage_perc{engine="1"} 0.5\n'
        b"process_start_time_seconds 1.5e+09\nvllm:num_requests_waiting NaN\nvllm:num_requests_waiting\n\xff\n"
    )
    assert gauges(page) == Gauges(waiting=1, running=5, kv=0.5, started=1.5e9)
    assert gauges(b"") == Gauges()


def test_cards() -> None:
    """Whatever /v1/models says, it is read without an error."""
    told = {"data": [{"id": "a", "root": "/r", "parent": None, "max_model_len": 9}, {"id": 7}, "x", {"id": "b"}]}
    assert set(cards(told)) == {"a", "b"}
    assert cards(told)["a"].length == 9
    nonsense: list[Any] = [None, [], {"data": 3}, "x"]
    assert [cards(odd) for odd in nonsense] == [{}] * 4


def test_one_late_answer_is_no_death() -> None:
    """One look without an answer says nothing, a second one does; and slowness is no death while requests of ours are under way."""
    engine = Engine("http://x/v1")
    engine.missed(TimedOut("late"))
    assert engine.alive
    with engine.busy("m"):
        engine.missed(TimedOut("late"))
        assert engine.alive
    engine.missed(Broken("gone"))
    assert not engine.alive
    fresh = Engine("http://x/v1")
    fresh.missed(Overloaded("503"))
    assert not fresh.alive


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"adapter_path": "/a"}, "adapter_path needs `adapter`"),
        ({"dns": True, "replicas": ["http://b/v1"]}, "exclude each other"),
        ({"dns": True, "base_url": "https://a/v1"}, "http://"),
        ({"replicas": ["ftp://b"]}, "http:// or https://"),
        ({"replicas": [f"http://h{n}/v1" for n in range(40)]}, "at most 31"),
    ],
)
def test_mistakes(config: dict[str, Any], said: str) -> None:
    """Each is named, with the way out."""
    with pytest.raises(ValidationError) as caught:
        VllmConfig(kind="vllm", **config)
    assert said in str(caught.value)


def test_plain_is_plain() -> None:
    """Base URL and model alone: nobody is asked but for an answer."""

    async def test() -> None:
        async with some() as s:
            with suppress(BackendError):
                await collect(s.backend(), CALL)
            assert s.engines[0].seen == ["POST /v1/chat/completions"]

    run(test)
