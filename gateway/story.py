"""What is known of one request while it is under way, and the Record that is told of it at the end.

The only mutable thing on the line, owned by the one pipeline that answers the request. `escalate` sees frozen snapshots of it.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Literal

from gateway import escalate, money, suspects
from gateway.decide import Decision, Route, Rung
from gateway.gate import Gate
from gateway.growing import Growing
from gateway.record import AttemptRecord, Facts, Outcome, Record, Seconds, VerdictRecord
from gateway.setup import Setup
from gateway.validators.base import Verdict
from wire.errors import BackendError, Reason, WeirError
from wire.openai import tokens as count
from wire.traceparent import Trace
from wire.types import Asked, Json, Price, Scores, Tokens, ToolCall


class AttemptStory:
    """One attempt: its gate, its times, its verdicts."""

    def __init__(
        self,
        number: int,
        index: int,
        rung: Rung,
        price: Price,
        started: float,
        deadline: float,
        purpose: escalate.Purpose = "",
    ) -> None:
        self.number = number
        self.index = index
        """As in `escalate.Attempt.rung`."""
        self.purpose = purpose
        self.rung = rung
        self.price = price
        self.started = started
        self.deadline = deadline
        """On the pipeline's clock."""
        self.gate = Gate()
        self.live = True
        """Its answer comes piece by piece; else whole."""
        self.running = True
        self.came = False
        self.chunks = 0
        self.first: float | None = None
        self.ended: float | None = None
        self.verdict: Verdict | None = None
        self.verdicts: list[Verdict] = []
        self.error: BackendError | None = None
        self.stopped = False
        self.growing: Growing | None = None
        """Looks at the answer as it comes, where the plan asks for that."""
        self.looked = 0
        """Characters of the growing answer that the hard checks have seen."""
        self.flows = False
        self.answer = ""
        """Canonical form, where the plan asks for it."""
        self.calls: tuple[str, ...] = ()
        """Names of the tools called, where the plan asks for them."""
        self.known: float | None = None
        """`probability`, once the answer was judged."""

    def end(self, now: float, error: BackendError | None = None) -> None:
        self.running = False
        self.ended = now
        self.error = self.error or error

    def stop(self, now: float) -> None:
        """It was ended by us."""
        self.stopped = True
        self.end(now)

    @property
    def probability(self) -> float | None:
        """That the answer is right: the rung's own, else what a check found; None when nobody knows."""
        for draft in self.gate.fold.drafts():
            if draft.probability is not None:
                return draft.probability
        for verdict in self.verdicts:
            if verdict.probability is not None:
                return verdict.probability
        return None

    def snapshot(self, prompt: Callable[[], Tokens], *, verbatim: bool, priced: bool) -> escalate.Attempt:
        return escalate.Attempt(
            number=self.number,
            rung=self.index,
            running=self.running,
            begun=self.gate.fold.begun or (verbatim and self.came),
            verdict=self.verdict,
            error=self.error.reason if self.error else None,
            cost=money.cost(self.tokens(prompt), self.price) if priced else 0.0,
            purpose=self.purpose,
            stopped=self.stopped,
            seconds=0.0 if self.ended is None else self.ended - self.started,
            answer=self.answer,
            calls=self.calls,
            probability=self.known,
            unsure=self.growing is not None and self.growing.unsure,
            flows=self.flows,
        )

    def tokens(self, prompt: Callable[[], Tokens]) -> Tokens:
        """As the upstream counted, else estimated: `prompt` for the input, four characters a token for the output. An upstream that
        answered with an error has cost nothing."""
        if self.gate.fold.usage is not None:
            return count(self.gate.fold.usage)
        if self.error is not None and not self.came and self.error.reason != "timeout":
            return Tokens()
        output = money.estimate(
            {}, sum(_size(draft.text, draft.tool_calls) for draft in self.gate.fold.drafts())
        ).output
        return Tokens(prompt().input, 0, output, estimated=True)


class Story:
    def __init__(self, setup: Setup, asked: Asked, request_id: str) -> None:
        self.setup = setup
        self.asked = asked
        self.id = request_id
        self.started = setup.clock()
        self.time = setup.now()
        self.decision = Decision("", "straight")
        self.route: Route | None = None
        self.mode = ""
        self.scores = Scores({})
        self.plan = escalate.Plan(())
        self.verbatim = False
        self.straight = False
        self.would = ""
        self.attempts: list[AttemptStory] = []
        self.delivered: AttemptStory | None = None
        self.degraded = False
        self.complete = False
        """The delivered answer came to its end."""
        self.failure: WeirError | None = None
        self.parse_seconds = 0.0
        """What passed before `started`."""
        self.router_seconds = 0.0
        self.check_seconds = 0.0
        self.first_byte: float | None = None
        self.late = ""
        self.granted = False
        """The route's waste budget has paid for an early start."""
        self.credential: Callable[[], str] = str
        """The caller's own key, for a rung with `auth: passthrough`; in no Record. Looked for when such a rung is asked: it is
        hashed for that (0.5 us)."""
        self.trace: Trace | None = None

    # -- what the pipeline asks -----------------------------------------------------------------------------------------------------

    def snapshots(self) -> list[escalate.Attempt]:
        return [self._snapshot(attempt) for attempt in self.attempts]

    def _snapshot(self, attempt: AttemptStory) -> escalate.Attempt:
        # What it cost so far matters to a purse only, and is not counted for nothing.
        priced = self.plan.max_usd is not None
        return attempt.snapshot(lambda: self.prompt, verbatim=self.verbatim, priced=priced)

    @cached_property
    def prompt(self) -> Tokens:
        """The request's size, estimated, for what no upstream counted."""
        return money.estimate(self.asked.body)

    def estimated(self, attempt: AttemptStory) -> Json:
        """Usage for an answer whose rung counts no tokens (an encoder): agents keep their budgets by it, and 0 would be wrong."""
        used = attempt.tokens(lambda: self.prompt)
        counts = {"prompt_tokens": used.input, "completion_tokens": used.output}
        return {**counts, "total_tokens": used.input + used.output}

    def left(self) -> float:
        """Seconds for the whole ladder, until the first byte."""
        seconds = self.route.seconds if self.route else self.setup.settings.server.deadline
        return self.started + seconds - self.setup.clock()

    def outcome(self) -> Outcome:
        if self.failure is not None:
            return "refused" if self.delivered is None else "failed"
        if self.delivered is None or not self.complete:
            return "cancelled"
        if self.straight:
            return "straight"
        if self.degraded:
            return "degraded"
        if self.route is not None and self.route.small(self.delivered.rung):
            return "accepted"
        return "escalated" if len(self.attempts) > 1 else "direct"

    def rejected(self) -> list[tuple[AttemptStory, Reason]]:
        """The attempts whose answers were not taken, in order, and why. Second opinions are none."""
        found: list[tuple[AttemptStory, Reason]] = []
        if len(self.attempts) == 1 and self.delivered is not None and not self.degraded:
            return found
        past = self.snapshots()
        for attempt, snapshot in zip(self.attempts, past, strict=True):
            if snapshot.purpose in escalate.OPINIONS or (attempt is self.delivered and not self.degraded):
                continue
            reason = escalate.rejection(self.plan, past, snapshot)
            if reason is not None:
                found.append((attempt, reason))
        return found

    def speculation(self) -> Literal["", "used", "wasted"]:
        """Was an early start worth it? It was when the ladder came that far anyway."""
        early = next((attempt for attempt in self.attempts if attempt.purpose == "early"), None)
        if early is None:
            return ""
        if self.delivered is None:
            return "used" if self.failure is not None else "wasted"
        return "used" if self.delivered.index >= early.index else "wasted"

    # -- the Record -----------------------------------------------------------------------------------------------------------------

    def record(self) -> Record:
        now = self.setup.clock()
        outcome = self.outcome()
        past = self.snapshots()
        attempts = [self._attempt(attempt, now, past) for attempt in self.attempts]
        served = self.delivered.rung.name if self.delivered else ""
        drafts = self.delivered.gate.fold.drafts() if self.delivered else []
        used = attempts[self.delivered.number].tokens if self.delivered else Tokens()
        top = self.route.top.name if self.route else served
        below = self.delivered.index if self.delivered is not None and not self.degraded else None
        rejected = [reason for attempt, reason in self.rejected() if below is None or attempt.index < below]
        return Record(
            id=self.id,
            time=self.time,
            outcome=outcome,
            route=self.decision.route,
            mode=self.mode,
            reason=self.decision.reason,
            facts=self._facts(),
            dialect=self.asked.dialect,
            tenant=self.asked.query.tenant,
            direct=self.decision.direct or outcome == "direct",
            score=self.decision.score,
            scores=dict(self.scores.by_route),
            out_of_scope=self.scores.out_of_scope,
            router=self.scores.source,
            router_errors=self.scores.errors,
            attempts=attempts,
            served=served,
            escalation=rejected[-1] if rejected else "",
            status=self.failure.status if self.failure else 200,
            error=(self.failure.code or "error") if self.failure else "",
            finish=(drafts[0].finish or "") if drafts else "",
            answer_chars=sum(_size(draft.text, draft.tool_calls) for draft in drafts)
            - (self.delivered.gate.dropped if self.delivered else 0),
            tool_calls=sum(len(draft.tool_calls) for draft in drafts),
            speculation=self.speculation(),
            late_verdict=self.late,
            would=self.would,
            top=top,
            seconds=Seconds(
                total=now - self.started,
                router=self.router_seconds,
                upstream=sum(attempt.seconds for attempt in attempts),
                check=self.check_seconds,
                first_byte=self.first_byte,
                parse=self.parse_seconds,
            ),
            tokens=used,
            cost=sum(attempt.cost for attempt in attempts),
            counterfactual_cost=money.cost(used, self.setup.prices[top]) if top and self.delivered else 0.0,
            config=self.setup.digest,
            router_hash=self.setup.router_digest,
            calibration=next((r.calibrated for r in (self.route.ladder if self.route else ()) if r.calibrated), ""),
            weir=self.setup.version,
            trace=self.trace,
        )

    def _attempt(self, attempt: AttemptStory, now: float, past: Sequence[escalate.Attempt]) -> AttemptRecord:
        delivered = attempt is self.delivered
        taken = delivered and not self.degraded and attempt.error is None
        rejected = None if taken else escalate.rejection(self.plan, past, past[attempt.number])
        used = attempt.tokens(lambda: self.prompt)
        fold = attempt.gate.fold
        drafts = fold.drafts()
        return AttemptRecord(
            number=attempt.number,
            rung=attempt.rung.name,
            outcome=_fate(attempt, rejected, delivered=delivered, complete=self.complete),
            reason=rejected or "",
            error=attempt.error.message if attempt.error else "",
            model=str(fold.meta.get("model") or attempt.rung.digest),
            verdicts=[VerdictRecord(v.validator, v.opinion, v.reason or "", v.detail) for v in attempt.verdicts],
            probability=attempt.probability,
            threshold=attempt.rung.threshold,
            tier=str(fold.meta.get("tier", "")),
            simulated=bool(fold.meta.get("simulated")),
            start=attempt.started - self.started,
            seconds=(now if attempt.ended is None else attempt.ended) - attempt.started,
            first_seconds=None if attempt.first is None else attempt.first - attempt.started,
            tokens=used,
            cost=money.cost(used, attempt.price),
            finish=(drafts[0].finish or "") if drafts else "",
            purpose=attempt.purpose,
            chunks=attempt.chunks,
            calls=[name for name in attempt.calls if name in self.asked.query.tool_names],
        )

    def _facts(self) -> Facts:
        query = self.asked.query
        return Facts(
            model=query.model,
            text_hash=self.setup.text_hash(query.text) if query.text else "",
            signature=query.signature,
            system=query.system,
            tools=query.tools,
            tool_names=query.tool_names,
            schema=query.schema,
            schema_name=query.schema_name,
            turns=query.turns,
            chars=query.chars,
            text_chars=len(query.text),
            modality=sorted(query.modality),
            tool_loop=query.tool_loop,
            session=self.setup.text_hash(query.session) if query.session else "",
            stream=self.asked.wants.stream,
            retries=suspects.retries(query.headers),
            tool_error=query.tool_loop and suspects.failed(self.asked.body),
        )


def _fate(
    attempt: AttemptStory, rejected: str | None, *, delivered: bool, complete: bool
) -> Literal["delivered", "rejected", "error", "stopped"]:
    if attempt.error is not None:
        return "error"
    if delivered:
        return "delivered" if complete else "stopped"
    return "rejected" if rejected else "stopped"


def _size(text: str, calls: Sequence[ToolCall]) -> int:
    return len(text) + sum(len(call.name) + len(call.arguments) for call in calls)
