"""Traces: every finished Record becomes spans, and they go to an OpenTelemetry collector as OTLP over HTTP.

    Record > Backlog (bounded) > spans, in the writer's thread > OTLPSpanExporter > collector

One span per request (SERVER) and one per attempt below it (CLIENT), by the conventions for generative AI
(https://github.com/open-telemetry/semantic-conventions-genai, status "Development"); what they have no name for is called `weir.*`. On
the way of a request nothing happens but its ids (`wire.traceparent`) and one append to a deque: the spans are made of the Record
afterwards, by its own times. Off by default: without `telemetry.otlp` nothing of OpenTelemetry is imported.

What may stand in a span: names from the configuration, ids, counts, seconds, money, reasons out of closed lists, and the names of models.
Never prompt or answer text, a tool's name or arguments, a key, or a message of an upstream.
"""

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from gateway.backlog import Backlog
from gateway.record import AttemptRecord, Record
from gateway.settings.model import OtlpSettings
from wire.traceparent import Trace

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan

LIMIT = 2048
"""Requests that wait for the collector; further ones are dropped and counted."""
SCOPE = "weir"
OPERATIONS = {"completions": "text_completion", "embeddings": "embeddings"}
"""Dialect > gen_ai.operation.name; all others are `chat`."""
FINISHES = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
_MODEL = re.compile(r"[\w./:@+-]{1,100}", re.ASCII)
_WORD = re.compile(r"[a-z0-9_.-]{1,64}")


class Upstream(Protocol):
    """What a rung's configuration says of whom it asks."""

    @property
    def kind(self) -> str: ...


Upstreams = Callable[[str], Upstream | None]
"""By the name of a backend or an embedder."""


class Warn(Protocol):
    def __call__(self, name: str, /, *, level: str = "info", **fields: Any) -> None: ...


class Tracing:
    """One of the observers of Records. on_drop: told of spans that never reached the collector. Raises ModuleNotFoundError when the
    extra `otel` is not installed."""

    def __init__(
        self,
        settings: OtlpSettings,
        upstreams: Upstreams,
        *,
        version: str,
        on_drop: Callable[[int], None],
        warn: Warn,
        timeout: float = 10.0,
    ) -> None:
        """timeout: seconds that one batch may take, tries included."""
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        self._upstreams = upstreams
        self._on_drop = on_drop
        self._warn = warn
        self._failing = False
        self._spans = _Spans(settings.service_name, version)
        # It tells every try that fails; here the first and the end of it are told.
        logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
        self._exporter = OTLPSpanExporter(
            endpoint=f"{settings.endpoint}/v1/traces",
            headers={name: value.reveal() for name, value in settings.headers.items()},
            timeout=timeout,
        )
        self._backlog: Backlog[Record] = Backlog(self._write, limit=LIMIT, name="weir-traces", every=0.5)

    def observe(self, records: Sequence[Record]) -> None:
        """Never waits."""
        sampled = [record for record in records if record.trace is not None and record.trace.sampled]
        for record in sampled:
            if not self._backlog.put(record):
                self._on_drop(1 + len(record.attempts))

    def start(self) -> None:
        """From now on a thread exports. Called once, by the lifespan."""
        self._backlog.start()

    async def close(self, seconds: float = 3.0) -> None:
        """Export what waits, for at most `seconds`."""
        left = await self._backlog.close(seconds)
        if left:
            self._on_drop(left)  # requests: at least one span each
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # ends a try that is under way

    def _write(self, records: list[Record]) -> None:
        spans = [span for record in records for span in self._spans.of(record, self._upstreams)]
        failed = not self._export(spans)
        if failed:
            self._on_drop(len(spans))
        if failed != self._failing:
            self._failing = failed
            self._warn("traces_not_exported" if failed else "traces_exported_again", level="warning", spans=len(spans))

    def _export(self, spans: "list[ReadableSpan]") -> bool:
        from opentelemetry.sdk.trace.export import SpanExportResult

        try:
            return self._exporter.export(spans) is SpanExportResult.SUCCESS
        except Exception:  # whatever it is, these spans are gone, and the next may go out
            return False


class _Spans:
    """Makes spans through the SDK, with the ids and the times that the Record says. One thread at a time."""

    def __init__(self, service: str, version: str) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
        from opentelemetry.sdk.trace.id_generator import IdGenerator
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON

        class Given(IdGenerator):
            trace, span = 0, 0

            def generate_trace_id(self) -> int:
                return self.trace

            def generate_span_id(self) -> int:
                return self.span

        class Ended(SpanProcessor):
            def __init__(self) -> None:
                self.spans: list[ReadableSpan] = []

            def on_end(self, span: "ReadableSpan") -> None:
                self.spans.append(span)

        self._given, self._ended = Given(), Ended()
        resource = Resource.create({"service.name": service, "service.version": version})
        # Which traces are exported was decided when the request came.
        provider = TracerProvider(
            sampler=ALWAYS_ON, resource=resource, id_generator=self._given, shutdown_on_exit=False
        )
        provider.add_span_processor(self._ended)
        self._tracer = provider.get_tracer(SCOPE, version)

    def of(self, record: Record, upstreams: Upstreams) -> "list[ReadableSpan]":
        """The request's span and its attempts'; [] for a Record without a sampled trace."""
        from opentelemetry.trace import SpanKind

        trace = record.trace
        if trace is None or not trace.sampled:
            return []
        self._ended.spans = []
        self._given.trace = int(trace.id, 16)
        operation = OPERATIONS.get(record.dialect, "chat")
        end = record.time + record.seconds.total
        self._span(
            f"{operation} {_asked(record)}".strip(),
            SpanKind.SERVER,
            trace.span,
            _context(trace, trace.parent, remote=True) if trace.parent else None,
            (record.time, end),
            {"gen_ai.operation.name": operation, **dict(_request(record, upstreams(record.served)))},
            failed=record.status >= 500 or record.outcome == "failed",
        )
        for attempt in record.attempts:
            begun = record.time + attempt.start
            self._span(
                f"{operation} {attempt.rung}",
                SpanKind.CLIENT,
                trace.attempt(attempt.number),
                _context(trace, trace.span),
                (begun, begun + attempt.seconds),
                {"gen_ai.operation.name": operation, **dict(_attempt(attempt, upstreams(attempt.rung)))},
                failed=attempt.outcome == "error",
                verdicts=[_verdict(verdict.validator, verdict.opinion, verdict.reason) for verdict in attempt.verdicts],
            )
        return self._ended.spans

    def _span(
        self,
        name: str,
        kind: Any,
        id: str,
        context: "Context | None",
        times: tuple[float, float],
        attributes: Mapping[str, Any],
        *,
        failed: bool,
        verdicts: list[dict[str, str]] | None = None,
    ) -> None:
        from opentelemetry.context import Context
        from opentelemetry.trace import Status, StatusCode

        self._given.span = int(id, 16)
        start, end = (int(moment * 1e9) for moment in times)
        # An empty context of its own: what else in this process may be traced is nobody's parent here.
        span = self._tracer.start_span(name, context or Context(), kind, dict(attributes), start_time=start)
        for verdict in verdicts or ():
            span.add_event("gen_ai.evaluation.result", verdict, timestamp=end)
        if failed:
            span.set_status(Status(StatusCode.ERROR))
        span.end(end)


def _context(trace: Trace, span: str, *, remote: bool = False) -> "Context":
    from opentelemetry import trace as api
    from opentelemetry.context import Context

    parent = api.SpanContext(int(trace.id, 16), int(span, 16), remote, api.TraceFlags(api.TraceFlags.SAMPLED))
    return api.set_span_in_context(api.NonRecordingSpan(parent), Context())


def _request(record: Record, served: Upstream | None) -> Iterator[tuple[str, Any]]:
    yield "gen_ai.provider.name", served.kind if served is not None else SCOPE
    if model := _asked(record):
        yield "gen_ai.request.model", model
    if record.facts.stream:
        yield "gen_ai.request.stream", True
    answered = next((attempt for attempt in record.attempts if attempt.outcome == "delivered"), None)
    if answered is not None and (model := _model(answered.model)):
        yield "gen_ai.response.model", model
    if record.finish:
        yield "gen_ai.response.finish_reasons", [_finish(record.finish)]
    if record.served:
        yield "gen_ai.usage.input_tokens", record.tokens.input
        yield "gen_ai.usage.output_tokens", record.tokens.output
        yield "weir.served", record.served
        yield "weir.cost", record.cost
        yield "weir.counterfactual_cost", record.counterfactual_cost
    if record.seconds.first_byte is not None:
        yield "gen_ai.response.time_to_first_chunk", record.seconds.first_byte
    yield "http.response.status_code", record.status
    if record.error:
        yield "error.type", _word(record.error)
    told = {"id": record.id, "route": record.route, "mode": record.mode, "outcome": record.outcome}
    told |= {"reason": record.reason, "escalation": record.escalation, "late_verdict": record.late_verdict}
    told |= {"tenant": record.tenant, "speculation": record.speculation, "would": record.would, "config": record.config}
    yield from ((f"weir.{name}", value) for name, value in told.items() if value)
    yield "weir.attempts", len(record.attempts)
    if record.score is not None:
        yield "weir.score", record.score


def _attempt(attempt: AttemptRecord, upstream: Upstream | None) -> Iterator[tuple[str, Any]]:
    yield "gen_ai.provider.name", upstream.kind if upstream is not None else SCOPE
    if asked := _model(getattr(upstream, "model", None)):
        yield "gen_ai.request.model", asked
    where = urlsplit(getattr(upstream, "base_url", None) or "")
    if where.hostname:
        yield "server.address", where.hostname
        yield "server.port", where.port or (443 if where.scheme == "https" else 80)
    if answered := _model(attempt.model):
        yield "gen_ai.response.model", answered
    if attempt.finish:
        yield "gen_ai.response.finish_reasons", [_finish(attempt.finish)]
    yield "gen_ai.usage.input_tokens", attempt.tokens.input
    yield "gen_ai.usage.output_tokens", attempt.tokens.output
    if attempt.first_seconds is not None:
        yield "gen_ai.response.time_to_first_chunk", attempt.first_seconds
    if attempt.outcome == "error":
        yield "error.type", _word(attempt.reason or "error")
    told = {"rung": attempt.rung, "outcome": attempt.outcome, "reason": attempt.reason, "purpose": attempt.purpose}
    failed = next((verdict for verdict in reversed(attempt.verdicts) if verdict.opinion != "pass"), None)
    opinion = failed.opinion if failed is not None else "pass" if attempt.verdicts else ""
    told |= {"verdict": opinion}
    yield from ((f"weir.{name}", value) for name, value in told.items() if value)
    yield "weir.attempt", attempt.number
    yield "weir.cost", attempt.cost
    if attempt.probability is not None:
        yield "weir.probability", attempt.probability
    if attempt.threshold is not None:
        yield "weir.threshold", attempt.threshold


def _verdict(validator: str, opinion: str, reason: str) -> dict[str, str]:
    """Without its detail, which names fields of the caller's schema."""
    told = {"gen_ai.evaluation.name": validator, "gen_ai.evaluation.score.label": opinion}
    return {**told, "weir.reason": reason} if reason else told


def _asked(record: Record) -> str:
    """The model that the caller asked for, once the configuration knew it: any other is just text of the caller's."""
    return _model(record.facts.model) if record.attempts else ""


def _model(name: object) -> str:
    """Models have names without spaces; what has none is left out."""
    return name if isinstance(name, str) and _MODEL.fullmatch(name) else ""


def _finish(reason: str) -> str:
    return reason if reason in FINISHES else "other"


def _word(code: str) -> str:
    return code if _WORD.fullmatch(code) else "other"
