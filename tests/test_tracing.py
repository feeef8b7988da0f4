"""gateway.tracing: real exports of the real SDK, into a collector that the test plays."""

import asyncio
import io
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as names

from backends.base import BackendConfig
from gateway.log import Log, access_lines
from gateway.record import AttemptRecord, Facts, Record, Seconds, VerdictRecord
from gateway.settings import references
from gateway.settings.load import load
from gateway.settings.mistakes import ConfigError
from gateway.settings.model import OtlpSettings
from gateway.tracing import LIMIT, Tracing, _Spans
from tests.backends.upstream import Asked, Upstream, upstream
from tests.line.world import BAD, CONFIG, GOOD, Handler, asks, fails, hello, says
from tests.serving import Served, serving
from tests.waiting import PATIENCE
from wire.traceparent import Trace, begin
from wire.types import Tokens

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE = Trace("a" * 32, "b" * 16)


async def takes(asked: Asked) -> None:
    await asked.answer(b"", headers={"content-type": "application/x-protobuf"})


class Scene:
    def __init__(self, served: Served, small: Upstream, cloud: Upstream) -> None:
        self.served, self.small, self.cloud = served, small, cloud


@asynccontextmanager
async def scene(
    folder: Path, small: Handler, cloud: Handler, otlp: str, log: Log | None = None
) -> AsyncIterator[Scene]:
    """A gateway that exports to `otlp` ("" for off). Leaving it waits for what is still to be exported."""
    async with upstream(small) as lower, upstream(cloud) as upper:
        text = CONFIG.format(
            small=lower.url, cloud=upper.url, routes="", server="", deadline="45", backends="",
            more=f"embeddings: {{emb: {{kind: openai, base_url: '{upper.url}/v1'}}}}\n"
            + (f"telemetry: {{otlp: {{endpoint: {otlp}}}}}" if otlp else ""),
        )  # fmt: skip
        async with serving(text, folder, log=log) as served:
            yield Scene(served, lower, upper)


def exported(collector: Upstream) -> list[Any]:
    """Every span that came, in order."""
    found = []
    for asked in collector.asked:
        assert asked.line == "POST /v1/traces HTTP/1.1"
        told = ExportTraceServiceRequest.FromString(asked.body)
        found += [span for one in told.resource_spans for scope in one.scope_spans for span in scope.spans]
    return found


def told(span: Any) -> dict[str, Any]:
    """Its attributes."""
    return {each.key: plain(each.value) for each in span.attributes}


def of(whole: Mapping[str, Any], part: Mapping[str, Any]) -> bool:
    """Does `whole` say all that `part` says?"""
    return {key: whole.get(key) for key in part} == part


def plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [plain(one) for one in value.array_value.values] if kind == "array_value" else getattr(value, kind)


def test_a_request_is_a_span_and_each_attempt_one_below_it(tmp_path: Path) -> None:
    """An escalation: the request's span is the caller's child, the attempts are the request's, and what went upstream names the
    attempt's span; names and values by the conventions for generative AI."""

    async def main() -> None:
        async with upstream(takes) as collector:
            async with scene(tmp_path, says(BAD), says(GOOD), collector.url) as world:
                answer = await world.served.chat(asks(), traceparent=CALLER, tracestate="vendor=1")
                record = world.served.record(answer)
                ups = [played.asked[0].headers for played in (world.small, world.cloud)]
            root, small, cloud = exported(collector)
        assert {span.trace_id.hex() for span in (root, small, cloud)} == {"4bf92f3577b34da6a3ce929d0e0e4736"}
        assert root.parent_span_id.hex() == "00f067aa0ba902b7"
        assert {small.parent_span_id, cloud.parent_span_id} == {root.span_id}
        for up, span in zip(ups, (small, cloud), strict=True):
            assert up["traceparent"] == f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01"
            assert up["tracestate"] == "vendor=1"
        assert record.trace == Trace(root.trace_id.hex(), root.span_id.hex(), "00f067aa0ba902b7")
        assert [span.name for span in (root, small, cloud)] == ["chat weir", "chat small", "chat cloud"]
        assert [span.kind for span in (root, small, cloud)] == [2, 3, 3]  # SERVER, CLIENT
        assert of(told(root), {
            "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "weir",
            "gen_ai.response.model": "big", "gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 5,
            "gen_ai.response.finish_reasons": ["stop"], "http.response.status_code": 200, "weir.route": "labels",
            "weir.outcome": "escalated", "weir.reason": "matched", "weir.escalation": "schema", "weir.served": "cloud",
            "weir.attempts": 2, "weir.cost": record.cost, "weir.id": record.id,
        })  # fmt: skip
        assert of(told(small), {
            "gen_ai.provider.name": "vllm", "gen_ai.request.model": "slm", "server.address": "127.0.0.1",
            "weir.rung": "small", "weir.outcome": "rejected", "weir.reason": "schema", "weir.verdict": "fail",
            "weir.attempt": 0,
        })  # fmt: skip
        assert told(cloud)["weir.outcome"] == "delivered"
        failed = [event for event in small.events if told(event)["gen_ai.evaluation.score.label"] == "fail"]
        assert [told(event)["gen_ai.evaluation.name"] for event in failed] == ["fits_schema"]
        assert small.start_time_unix_nano >= root.start_time_unix_nano
        assert cloud.end_time_unix_nano <= root.end_time_unix_nano

    asyncio.run(main())


def test_errors_are_errors_and_strangers_have_spans_too(tmp_path: Path) -> None:
    """An attempt that failed and a request that got a 5xx have the status ERROR; a request that never came to the line is one span."""

    async def main() -> None:
        async with upstream(takes) as collector:
            async with scene(tmp_path, fails(500), fails(500), collector.url) as world:
                assert (await world.served.chat(asks())).status_code >= 500
                assert (await world.served.chat(hello(model="nobody"))).status_code == 404
            *failed, stranger = exported(collector)
        assert {span.status.code for span in failed} == {2}
        assert {told(span)["error.type"] for span in failed[1:]} == {"backend_error"}
        assert told(stranger)["error.type"] == "model_not_found"
        assert stranger.status.code == 0
        assert stranger.name == "chat"

    asyncio.run(main())


def test_embeddings_are_traced_too(tmp_path: Path) -> None:
    """Under their own operation; their upstream is the child of their one attempt."""

    async def vectors(asked: Asked) -> None:
        data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.5]}]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        await asked.answer(orjson.dumps({"object": "list", "data": data, "model": "emb", "usage": usage}))

    async def main() -> None:
        async with upstream(takes) as collector:
            async with scene(tmp_path, says(GOOD), vectors, collector.url) as world:
                answer = await world.served.client.post("/v1/embeddings", json={"model": "emb", "input": "hello"})
                assert answer.status_code == 200
                up = world.cloud.asked[0].headers["traceparent"]
            root, attempt = exported(collector)
        assert [span.name for span in (root, attempt)] == ["embeddings emb", "embeddings emb"]
        assert told(root)["gen_ai.operation.name"] == "embeddings"
        assert up == f"00-{root.trace_id.hex()}-{attempt.span_id.hex()}-01"

    asyncio.run(main())


def test_what_is_not_sampled_is_passed_on_and_not_exported(tmp_path: Path) -> None:
    """The caller's decision counts, and the upstream hears of it."""

    async def main() -> None:
        async with upstream(takes) as collector:
            async with scene(tmp_path, says(GOOD), says(GOOD), collector.url) as world:
                answer = await world.served.chat(asks(), traceparent=CALLER[:-2] + "00")
                trace = world.served.record(answer).trace
                assert trace is not None
                up = world.small.asked[0].headers["traceparent"]
            assert up == f"00-{trace.id}-{trace.attempt(0)}-00"
            assert collector.asked == []

    asyncio.run(main())


def test_off_is_off(tmp_path: Path) -> None:
    """Without `telemetry.otlp` the caller's context goes up as it came, Records have no trace, and nothing is imported."""

    async def main() -> None:
        async with scene(tmp_path, says(GOOD), says(GOOD), "") as world:
            answer = await world.served.chat(asks(), traceparent=CALLER, tracestate="vendor=1")
            assert world.served.record(answer).trace is None
            headers = world.small.asked[0].headers
            assert (headers["traceparent"], headers["tracestate"]) == (CALLER, "vendor=1")

    asyncio.run(main())
    program = (
        "import sys, gateway.app; print([m for m in sys.modules if m.startswith(('opentelemetry.sdk', 'google'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


PROMPT, SAID, ARGUMENT, KEY = "PROMPTprompt", "ANSWERanswer", "ARGUMENTargument", "KEYkey"


def test_no_text_and_no_key_is_in_a_span_or_a_line(tmp_path: Path) -> None:
    """Prompt, answer, tool and its arguments, schema, key, session, and an upstream's error that quotes them: not one is in any byte
    that was exported or logged."""
    tool = {"type": "function", "function": {"name": f"f{ARGUMENT}", "parameters": {"type": "object"}}}
    call = {"id": "c", "type": "function", "function": {"name": f"f{ARGUMENT}", "arguments": f'{{"x":"{ARGUMENT}"}}'}}
    lines = io.BytesIO()

    async def small(asked: Asked) -> None:
        if "response_format" in asked.json:
            await says(f'{{"label":"{SAID}"}}')(asked)
        else:
            await fails(400, f"cannot read {PROMPT} with {KEY}")(asked)

    async def main() -> None:
        async with upstream(takes) as collector:
            cloud = says(SAID, "tool_calls", tool_calls=[call])
            async with scene(tmp_path, small, cloud, collector.url, Log(lines)) as world:
                headers = {"authorization": f"Bearer {KEY}", "x_session_id": f"s{PROMPT}"}
                said = [{"role": "system", "content": PROMPT}, {"role": "user", "content": PROMPT}]
                for body in (asks(messages=said), hello(messages=said, tools=[tool]), hello(model=f"{PROMPT} {KEY}")):
                    await world.served.chat({**body, "user": PROMPT}, **headers)
                await world.served.chat(hello(messages=said, tools=[tool], stream=False, model="straight"), **headers)
                failing = {**hello(messages=said, tools=[tool]), "stream": True}
                await world.served.chat(failing, **headers)
            assert len(exported(collector)) >= 9
            sent = b"".join(asked.body for asked in collector.asked)
        for secret in (PROMPT, SAID, ARGUMENT, KEY):
            assert secret.encode() not in sent
            assert secret.encode() not in lines.getvalue()
        told = [orjson.loads(line) for line in lines.getvalue().splitlines()]
        assert sum(line["event"] == "request" for line in told) == 5

    asyncio.run(main())


hush = st.just("hush the prompt")
loose = st.lists(hush, max_size=2)
spilled = st.builds(
    Record,
    id=st.just("r1"),
    time=st.floats(0, 4e9),
    outcome=st.sampled_from(["accepted", "escalated", "failed", "refused", "cancelled"]),
    route=st.just("a"),
    mode=st.just("enforce"),
    reason=st.just("matched"),
    facts=st.builds(
        Facts, model=hush, text_hash=hush, system=hush, tools=hush, tool_names=loose, schema=hush, schema_name=hush,
        session=hush, signature=hush,
    ),
    dialect=st.sampled_from(["chat", "messages", "responses", "completions", "embeddings"]),
    router_errors=loose,
    finish=hush,
    error=hush,
    status=st.sampled_from([200, 400, 502]),
    attempts=st.lists(
        st.builds(
            AttemptRecord, number=st.integers(0, 3), rung=st.just("small"), reason=st.sampled_from(["", "schema"]),
            outcome=st.sampled_from(["delivered", "rejected", "error", "stopped"]), error=hush, model=hush, finish=hush,
            verdicts=st.lists(st.builds(VerdictRecord, st.just("finished"), st.just("fail"), st.just(""), hush)),
            calls=loose,
        ),
        max_size=3,
    ),
    trace=st.just(TRACE),
)  # fmt: skip


@given(spilled)
def test_whatever_a_record_holds_its_free_text_stays_there(record: Record) -> None:
    """Details of verdicts, messages of upstreams, names that callers gave: none of them is in the bytes of a span or a line."""
    spans = _Spans("weir", "1").of(record, lambda _: None)
    assert len(spans) == 1 + len(record.attempts)
    assert b"hush" not in encode_spans(spans).SerializeToString()
    (line,) = access_lines([structs.replace(record, error="")])
    assert b"hush" not in line


def test_a_line_names_its_trace() -> None:
    """So that one leads to the other; without tracing a line has no such field."""
    record = Record(id="r", time=0.0, outcome="accepted", route="a", mode="m", reason="x", facts=Facts(model="m"))
    assert not {"trace_id", "span_id"} & set(orjson.loads(access_lines([record])[0]))
    traced = Record(
        id="r", time=0.0, outcome="accepted", route="a", mode="m", reason="x", facts=record.facts, trace=TRACE
    )
    assert orjson.loads(access_lines([traced])[0]).items() >= {"trace_id": "a" * 32, "span_id": "b" * 16}.items()


def test_every_name_of_the_conventions_is_one() -> None:
    """Every `gen_ai.*` attribute of ours is in the published list."""
    known = {value for name, value in vars(names).items() if name.startswith("GEN_AI_") and isinstance(value, str)}
    attempt = AttemptRecord(
        number=0, rung="small", outcome="delivered", model="m", finish="stop", first_seconds=0.1, probability=0.5,
        threshold=0.4, verdicts=[VerdictRecord("finished", "pass", "x")],
    )  # fmt: skip
    record = Record(
        id="r", time=0.0, outcome="accepted", route="a", mode="m", reason="x", facts=Facts(model="m", stream=True),
        attempts=[attempt], served="small", finish="stop", seconds=Seconds(1.0, first_byte=0.5), score=0.5,
        tokens=Tokens(1, 0, 2), trace=TRACE,
    )  # fmt: skip
    used: set[str] = set()
    for span in _Spans("weir", "1").of(record, lambda _: BackendConfig(kind="vllm")):
        used |= set(span.attributes or {})
        used |= {key for event in span.events for key in event.attributes or {}}
    assert {name for name in used if name.startswith("gen_ai.")} <= known
    assert {name.partition(".")[0] for name in used} == {"gen_ai", "http", "weir"}


def otlp(endpoint: str, **more: Any) -> OtlpSettings:
    return OtlpSettings(endpoint=endpoint, **more)


def traced() -> Record:
    facts = Facts(model="m")
    return Record(id="r", time=0.0, outcome="accepted", route="a", mode="m", reason="x", facts=facts, trace=TRACE)


class Ear:
    """What a Tracing told."""

    def __init__(self) -> None:
        self.dropped = 0
        self.events: list[str] = []

    def drop(self, count: int) -> None:
        self.dropped += count

    def event(self, name: str, /, *, level: str = "info", **_: Any) -> None:
        self.events.append(name)

    def tracing(self, settings: OtlpSettings, timeout: float = 10.0) -> Tracing:
        return Tracing(settings, lambda _: None, version="1", on_drop=self.drop, warn=self.event, timeout=timeout)


def test_a_collector_that_is_away_costs_spans_and_nothing_else(tmp_path: Path) -> None:
    """Callers get their answers; every span that was not exported is counted."""
    ear = Ear()

    async def main() -> None:
        async with scene(tmp_path, says(GOOD), says(GOOD), "http://127.0.0.1:9") as world:
            assert (await world.served.chat(asks())).status_code == 200
        tracing = ear.tracing(otlp("http://127.0.0.1:9"), timeout=0.2)
        tracing.start()
        tracing.observe([traced()])
        await tracing.close(PATIENCE)

    asyncio.run(main())
    assert (ear.dropped, ear.events) == (1, ["traces_not_exported"])


def test_the_queue_is_bounded() -> None:
    """A thread that does not come along: what does not fit is dropped and counted, without waiting."""
    ear = Ear()
    tracing = ear.tracing(otlp("http://127.0.0.1:9"))
    for _ in range(LIMIT + 3):
        tracing.observe([traced()])
    assert ear.dropped == 3


def test_a_collector_that_comes_back_gets_the_next_ones() -> None:
    """A refusal is told once, and its end; headers and the service's name are those of the configuration."""
    ear = Ear()

    async def main() -> None:
        async def refuses_first(asked: Asked) -> None:
            await (fails(400) if asked.number < 3 else takes)(asked)

        async with upstream(refuses_first) as collector:
            tracing = ear.tracing(otlp(f"{collector.url}/v1/traces", headers={"x-tenant": "t1"}, service_name="edge"))
            tracing.start()
            for number in (1, 2, 3):
                tracing.observe([traced()])
                await collector.wait_asked(number)
            await tracing.close(PATIENCE)
            assert {asked.headers["x-tenant"] for asked in collector.asked} == {"t1"}
            sent = ExportTraceServiceRequest.FromString(collector.asked[2].body)
            attributes: Mapping[str, Any] = {e.key: plain(e.value) for e in sent.resource_spans[0].resource.attributes}
            assert attributes["service.name"] == "edge"

    asyncio.run(main())
    assert (ear.dropped, ear.events) == (2, ["traces_not_exported", "traces_exported_again"])


LEAST = """
backends: {cloud: {kind: openai, base_url: "http://127.0.0.1:9/v1"}}
router: {use: {kind: rules}, default: a}
routes: {a: {ladder: [cloud]}}
telemetry: {otlp: {endpoint: "http://127.0.0.1:9", sample: 0.25, headers: {authorization: "${OTLP_KEY}"}}}
"""


def test_what_it_needs_is_said_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing extra and a wrong address: errors that name the place and the way out."""
    path = tmp_path / "weir.yaml"
    path.write_text(LEAST)
    settings = load(path).settings.telemetry.otlp
    assert settings is not None
    assert settings.sample == 0.25
    assert "OTLP_KEY" in repr(settings.headers["authorization"])
    warned = {(told.where, told.message) for told in load(path, {}).warnings}
    assert ("telemetry.otlp.headers.authorization", "is empty until OTLP_KEY is set") in warned
    monkeypatch.setattr(references, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"weir.yaml:5: telemetry.otlp: needs the extra \[otel\]: pip install"):
        load(path)
    path.write_text(LEAST.replace('http://127.0.0.1:9", s', 'collector:4317", s'))
    with pytest.raises(ConfigError, match=r"telemetry.otlp.endpoint: a URL that starts with http"):
        load(path)


def test_another_collector_needs_a_restart(tmp_path: Path) -> None:
    """A reload says so and goes on with the old one."""
    lines = io.BytesIO()

    async def main() -> None:
        async with upstream(takes) as collector:
            async with scene(tmp_path, says(GOOD), says(GOOD), collector.url, Log(lines)) as world:
                world.served.rewrite(world.served.config.read_text().replace(collector.url, "http://x:1"))
                assert await world.served.app.reload()
                await world.served.chat(asks())
            assert len(exported(collector)) == 2

    asyncio.run(main())
    events = [orjson.loads(line) for line in lines.getvalue().splitlines()]
    assert any(e["event"] == "restart_needed" and e["table"] == "telemetry.otlp" for e in events)


def test_spans_have_the_ids_that_went_upstream() -> None:
    """Both are derived from the Record's trace, so that a Record read later leads to its spans."""
    trace = begin(CALLER, "c" * 48, 1.0)
    attempt = AttemptRecord(number=2, rung="small", outcome="stopped")
    record = Record(
        id="r", time=0.0, outcome="cancelled", route="a", mode="m", reason="x", facts=Facts(model="m"),
        attempts=[attempt], trace=trace,
    )  # fmt: skip
    root, child = _Spans("weir", "1").of(record, lambda _: None)
    assert root.context is not None
    assert child.context is not None
    assert f"{root.context.span_id:016x}" == trace.span
    assert f"{child.context.span_id:016x}" == trace.attempt(2)
