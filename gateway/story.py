"""What is known of one request while it is under way, and the Record that is told of it at the end.

The only mutable thing on the line, owned by the one pipeline that answers the request. `escalate` sees frozen snapshots of it.
"""

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from itertools import repeat
from typing import Literal

from gateway import escalate, money, suspects
from gateway.confidence import Second
from gateway.decide import Decision, Route, Rung
from gateway.gate import Gate
from gateway.growing import Growing
from gateway.record import VERSION, AttemptRecord, Facts, Outcome, Record, Seconds, VerdictRecord
from gateway.setup import Setup
from gateway.validators.base import Verdict
from wire.errors import BackendError, Reason, WeirError
from wire.openai import tokens as count
from wire.traceparent import Trace
from wire.types import Asked, Draft, Json, Price, Scores, Tokens

NONE = Tokens()


class AttemptStory:
    """One attempt: its gate, its times, its verdicts."""

    second: Second | None = None
    """What a second model said, where its answer was weighed with this one. Of the class: hardly any attempt has one of its own."""

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
            return NONE
        output = money.estimate({}, sum(map(_size, self.gate.fold.drafts()))).output
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
        self.accept_seconds: float | None = None
        self.parse_seconds = 0.0
        """What passed before `started`."""
        self.router_seconds = 0.0
        self.check_seconds = 0.0
        self.first_byte: float | None = None
        self.late = ""
        self.granted = False
        """The route's waste budget has paid for an early start."""
        self.settled = False
        """And knows what came of it."""
        self.vain = 0.0
        """How likely that start is thrown away."""
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
        return self._rejected(self._reasons())

    def _rejected(self, reasons: Sequence[Reason | None]) -> list[tuple[AttemptStory, Reason]]:
        return [
            (attempt, reason)
            for attempt, reason in zip(self.attempts, reasons, strict=True)
            if reason is not None
            and attempt.purpose not in escalate.OPINIONS
            and (attempt is not self.delivered or self.degraded)
        ]

    def _taken(self, attempt: AttemptStory) -> bool:
        return attempt is self.delivered and not self.degraded and attempt.error is None

    def _reasons(self) -> list[Reason | None]:
        """By attempt, why its answer was not taken; None where it was, or where that is still open."""
        if len(self.attempts) == 1 and self._taken(self.attempts[0]):
            return [None]
        past = self.snapshots()
        return [
            None if self._taken(attempt) else escalate.rejection(self.plan, past, snapshot)
            for attempt, snapshot in zip(self.attempts, past, strict=True)
        ]

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
        """Structs are made by position here: msgspec looks a name up among all fields, which makes a Record 1.6 us instead of 0.4, and
        Facts and each attempt 0.8 instead of 0.14."""
        now = self.setup.clock()
        decision, scores, route, delivered, failure = (
            self.decision, self.scores, self.route, self.delivered, self.failure
        )  # fmt: skip
        outcome = self.outcome()
        reasons = self._reasons()
        attempts = list(map(self._attempt, self.attempts, reasons, repeat(now)))
        upstream = cost = 0.0
        for attempt in attempts:
            upstream += attempt.seconds
            cost += attempt.cost
        served, finish, chars, calls, used = "", "", 0, 0, NONE
        if delivered is not None:
            served, used, chars = delivered.rung.name, attempts[delivered.number].tokens, -delivered.gate.dropped
            finish = attempts[delivered.number].finish
            for draft in delivered.gate.fold.drafts():
                chars += _size(draft)
                calls += len(draft.tool_calls)
        top = route.top.name if route is not None else served
        return Record(
            self.id,
            self.time,
            outcome,
            decision.route,
            self.mode,
            decision.reason,
            self._facts(),
            VERSION,
            self.asked.dialect,
            self.asked.query.tenant,
            decision.direct or outcome == "direct",
            decision.score,
            dict(scores.by_route),
            scores.out_of_scope,
            scores.source,
            scores.errors,
            attempts,
            served,
            self._escalation(reasons) if len(attempts) > 1 or delivered is None or self.degraded else "",
            200 if failure is None else failure.status,
            "" if failure is None else failure.code or "error",
            finish,
            chars,
            calls,
            self.speculation() if len(attempts) > 1 else "",
            self.late,
            self.would,
            top,
            Seconds(
                now - self.started,
                self.router_seconds,
                upstream,
                self.check_seconds,
                self.first_byte,
                self.parse_seconds,
                self.accept_seconds,
            ),
            used,
            cost,
            money.cost(used, self.setup.prices[top]) if top and delivered is not None else 0.0,
            self.setup.digest,
            self.setup.router_digest,
            "" if route is None else _calibration(route),
            self.setup.version,
            self.trace,
        )

    def _escalation(self, reasons: Sequence[Reason | None]) -> Reason | Literal[""]:
        """Why the last one was rejected of those below the answer that went out."""
        below = self.delivered.index if self.delivered is not None and not self.degraded else None
        found = [reason for attempt, reason in self._rejected(reasons) if below is None or attempt.index < below]
        return found[-1] if found else ""

    def _attempt(self, attempt: AttemptStory, rejected: Reason | None, now: float) -> AttemptRecord:
        rung, error, started = attempt.rung, attempt.error, attempt.started
        used = attempt.tokens(lambda: self.prompt)
        drafts = attempt.gate.fold.drafts()
        meta = attempt.gate.fold.meta
        return AttemptRecord(
            attempt.number,
            rung.name,
            _fate(attempt, rejected, delivered=attempt is self.delivered, complete=self.complete),
            rejected or "",
            "" if error is None else error.message,
            str(meta.get("model") or rung.digest) if meta else rung.digest,
            [
                _passed(v.validator)
                if v.opinion == "pass" and not v.detail
                else VerdictRecord(v.validator, v.opinion, v.reason or "", v.detail)
                for v in attempt.verdicts
            ],
            attempt.probability,
            rung.threshold,
            str(meta.get("tier", "")) if meta else "",
            bool(meta.get("simulated")) if meta else False,
            started - self.started,
            (now if attempt.ended is None else attempt.ended) - started,
            None if attempt.first is None else attempt.first - started,
            used,
            money.cost(used, attempt.price),
            (drafts[0].finish or "") if drafts else "",
            attempt.purpose,
            attempt.chunks,
            [name for name in attempt.calls if name in self.asked.query.tool_names] if attempt.calls else [],
            None if attempt.second is None else attempt.second.agrees,
        )

    def _facts(self) -> Facts:
        query, hashed = self.asked.query, self.setup.text_hash
        return Facts(
            query.model,
            hashed(query.text) if query.text else "",
            query.signature,
            query.system,
            query.tools,
            query.tool_names,
            query.schema,
            query.schema_name,
            query.turns,
            query.chars,
            len(query.text),
            _sorted(query.modality),
            query.tool_loop,
            _hashed(hashed, query.session) if query.session else "",
            self.asked.wants.stream,
            suspects.retries(query.headers),
            query.tool_loop and suspects.failed(self.asked.body),
        )


_KEPT = 64
"""Characters of a session that is kept: what Weir makes up is shorter, what callers name may be anything."""


def _hashed(hashed: Callable[[str], str], session: str) -> str:
    return _session(hashed, session) if len(session) <= _KEPT else hashed(session)


@lru_cache(maxsize=4096)
def _session(hashed: Callable[[str], str], session: str) -> str:
    """A session comes again: 0.1 us instead of 0.45. Texts do not, and are not kept."""
    return hashed(session)


@lru_cache(maxsize=64)
def _sorted(modality: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted(modality))


@lru_cache(maxsize=256)
def _passed(validator: str) -> VerdictRecord:
    """What nearly every check says: one for all Records that are kept, instead of some of each."""
    return VerdictRecord(validator, "pass")


def _calibration(route: Route) -> str:
    """That of the lowest rung that has one."""
    for rung in route.ladder:
        if rung.calibrated:
            return rung.calibrated
    return ""


def _fate(
    attempt: AttemptStory, rejected: str | None, *, delivered: bool, complete: bool
) -> Literal["delivered", "rejected", "error", "stopped"]:
    if attempt.error is not None:
        return "error"
    if delivered:
        return "delivered" if complete else "stopped"
    return "rejected" if rejected else "stopped"


def _size(draft: Draft) -> int:
    """Characters of an answer."""
    size = len(draft.text)
    for call in draft.tool_calls:
        size += len(call.name) + len(call.arguments)
    return size
