"""POST /v1/embeddings: bytes in, vectors out.

Beside the line, not on it: who computes a model's vectors is written down by name, two models' vectors do not mix, so nothing is routed,
judged or escalated. Access, limits, ids, headers, cancellation and the Record are those of the line. The Record says `straight` (a
backend was asked for by name, no router spoke), never `direct`: that counts what a router sent to a large model.
"""

import asyncio

from backends.embedding.base import Batch, Embedded, EmbedderConfig
from gateway import money
from gateway.dialects import embeddings as dialect
from gateway.dialects.embeddings import Wanted
from gateway.log import Log
from gateway.record import AttemptRecord, Facts, Outcome, Record, Seconds
from gateway.refusal import upstream
from gateway.setup import Live, Setup
from gateway.surface.admission import LimitsOf, admitted, log_cause, request_id_of, trace_of, unanswered
from gateway.surface.exchange import ClientLeft, Exchange
from gateway.surface.presence import Presence
from wire.errors import BackendError, NotFound, TimedOut, WeirError
from wire.traceparent import Trace
from wire.types import Tokens

FORWARDED = ("traceparent", "tracestate", "openai-beta")
"""Request headers that go on to an upstream."""


class Embeddings:
    def __init__(self, live: Live, limits: LimitsOf, log: Log) -> None:
        self._live = live
        self._limits = limits
        self._log = log

    async def __call__(self, exchange: Exchange) -> None:
        setup = self._live.setup
        request_id = request_id_of(exchange)
        told = {"x-request-id": request_id, "x-weir-request-id": request_id}
        started = setup.clock()
        accept = None if exchange.arrived is None else started - exchange.arrived
        trace = None if self._live.sample is None else trace_of(exchange, self._live.sample)
        self._live.in_flight += 1
        try:
            caller, _, body = await admitted(self._live, setup, self._limits, exchange, told)
            headers = {name: exchange.headers[name] for name in FORWARDED if name in exchange.headers}
            headers = headers if trace is None else trace.upward(headers, 0)
            work = _Work(setup, dialect.understand(body, headers), request_id, caller.tenant, started, trace)
            work.accept = accept
            await self._answer(exchange, work, told)
        except WeirError as error:
            seconds = setup.clock() - started
            self._live.observe(unanswered(setup, dialect.name, request_id, error, seconds, trace, accept))
            await self._refuse(exchange, error, told)
        except ClientLeft:
            pass  # before there was a request to tell of
        finally:
            self._live.in_flight -= 1
            if exchange.started:
                self._live.wrote("", exchange.writing)

    async def _answer(self, exchange: Exchange, work: "_Work", told: dict[str, str]) -> None:
        async with Presence(exchange):
            try:
                data = await self._embedded(work)
                await exchange.whole(200, data, {**told, **work.told()})
            except WeirError as error:
                log_cause(self._log, work.id, error)
                await self._refuse(exchange, error, {**told, **work.told()})

    async def _embedded(self, work: "_Work") -> bytes:
        """The answer's body. Raises WeirError. The Record is told whatever happens, also when the caller left."""
        try:
            work.answer = await work.embed()
            data = await _written(work.wanted, work.answer)
            work.outcome = "straight"
            return data
        except BackendError as error:
            work.fail(_refused(error), error)
            raise work.failure from error
        except Exception as error:
            work.fail(WeirError("Weir failed to answer; the log says more under this request's id"))
            raise work.failure from error
        finally:
            self._live.observe(work.record())

    async def _refuse(self, exchange: Exchange, error: WeirError, told: dict[str, str]) -> None:
        await exchange.json(error.status, error.body(), {**told, **error.headers})


class _Work:
    """One request under way. Raises NotFound for a model that nobody computes."""

    def __init__(
        self,
        setup: Setup,
        wanted: Wanted,
        request_id: str,
        tenant: str,
        started: float,
        trace: Trace | None = None,
    ) -> None:
        model = wanted.batch.model
        name = setup.embedder(model)
        if name is None:
            known = ", ".join(setup.embedders) or "none (`embeddings:` names them)"
            raise NotFound(
                f"the embedding model '{model}' does not exist; there are: {known}",
                param="model",
                code="model_not_found",
            )
        self.setup = setup
        self.wanted = wanted
        self.id = request_id
        self.name = name
        self.outcome: Outcome = "cancelled"
        self.failure = WeirError("not asked yet")
        self.accept: float | None = None
        self.answer: Embedded | None = None
        self._config: EmbedderConfig = setup.settings.embeddings[name]
        self._tenant = tenant
        self._trace = trace
        self._started = started
        self._time = setup.now()
        self._asked = setup.clock()
        self._ended: float | None = None
        self._error: BackendError | None = None

    async def embed(self) -> Embedded:
        """Raises BackendError."""
        seconds = self._config.timeout
        batch = self.wanted.batch
        asked = Batch(
            texts=batch.texts,
            ids=batch.ids,
            model=batch.model,
            dimensions=batch.dimensions,
            seconds=seconds,
            extra=batch.extra,
            request_id=self.id,
            headers=batch.headers,
        )
        self._asked = self.setup.clock()
        try:
            async with asyncio.timeout(seconds):
                return await self.setup.embedders[self.name].embed(asked)
        except TimeoutError as exc:
            raise TimedOut(f"'{self.name}' gave no vectors within {seconds:g} s", phase="total") from exc
        finally:
            self._ended = self.setup.clock()

    def fail(self, failure: WeirError, error: BackendError | None = None) -> None:
        self.outcome, self.failure, self._error = "refused", failure, error

    def told(self) -> dict[str, str]:
        """The `x-weir-*` headers."""
        reason = self._error.reason if self._error else "straight"
        headers = {"x-weir-attempts": "1", "x-weir-reason": reason, "x-weir-mode": "straight"}
        return headers if self.outcome == "refused" else {**headers, "x-weir-rung": self.name}

    def record(self) -> Record:
        now = self.setup.clock()
        answered = self.outcome == "straight"
        failed = self.failure if self.outcome == "refused" else None
        attempt = self._attempt(now)
        return Record(
            id=self.id,
            time=self._time,
            outcome=self.outcome,
            route="",
            mode="straight",
            reason="straight",
            facts=Facts(model=self.wanted.batch.model, turns=0, chars=self.wanted.chars),
            dialect=dialect.name,
            tenant=self._tenant,
            attempts=[attempt],
            served=self.name if answered else "",
            status=failed.status if failed else 200,
            error=(failed.code or "error") if failed else "",
            top=self.name,
            seconds=Seconds(total=now - self._started, upstream=attempt.seconds, accept=self.accept),
            tokens=attempt.tokens if answered else Tokens(),
            cost=attempt.cost,
            counterfactual_cost=attempt.cost if answered else 0.0,
            config=self.setup.digest,
            weir=self.setup.version,
            trace=self._trace,
        )

    def _attempt(self, now: float) -> AttemptRecord:
        error = self._error
        used = self.answer.tokens if self.answer else Tokens()
        return AttemptRecord(
            number=0,
            rung=self.name,
            outcome="delivered" if self.outcome == "straight" else "error" if error else "stopped",
            reason=error.reason if error else "",
            error=error.message if error else "",
            model=self.answer.model if self.answer else "",
            start=self._asked - self._started,
            seconds=(now if self._ended is None else self._ended) - self._asked,
            tokens=used,
            cost=money.cost(used, self._config.price.price()),
        )


async def _written(wanted: Wanted, answer: Embedded) -> bytes:
    parts = []
    for piece in dialect.pieces(wanted, answer):
        parts.append(piece)
        await asyncio.sleep(0)  # 2,048 vectors take 0.15 s to write: others get their turn in between
    return b"".join(parts)


def _refused(error: BackendError) -> WeirError:
    """What was told of the messages of a chat was told of the input."""
    failure = upstream(error)
    if failure.param == "messages":
        failure.param = "input"
    return failure
