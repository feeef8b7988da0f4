"""What is known of one request while it is under way, and the Record that is told of it at the end.

The only mutable thing on the line, owned by the one pipeline that answers the request. `escalate` sees frozen snapshots of it.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, lru_cache
from typing import Literal

from msgspec import Struct, field

from gateway import escalate, money, suspects
from gateway.confidence import Second
from gateway.decide import Decision, Route, Rung
from gateway.gate import Gate
from gateway.growing import Growing
from gateway.plan import OPINIONS, Attempt, Plan, Purpose
from gateway.record import VERSION, AttemptOutcome, AttemptRecord, Facts, Outcome, Record, Seconds, VerdictRecord
from gateway.setup import Setup
from gateway.validators.base import Verdict
from wire.errors import BackendError, Reason, WeirError
from wire.openai import tokens as count
from wire.traceparent import Trace
from wire.types import Asked, Draft, Json, Price, Scores, Tokens

NONE = Tokens()


class AttemptStory(Struct, eq=False):
    """One attempt: its gate, its times, its verdicts."""

    number: int
    index: int
    """As in `plan.Attempt.rung`."""
    rung: Rung
    price: Price
    started: float
    deadline: float
    """On the pipeline's clock."""
    purpose: Purpose = ""
    gate: Gate = field(default_factory=Gate)
    live: bool = True
    """Its answer comes piece by piece; else whole."""
    running: bool = True
    came: bool = False
    chunks: int = 0
    first: float | None = None
    ended: float | None = None
    verdict: Verdict | None = None
    verdicts: list[Verdict] = []
    error: BackendError | None = None
    stopped: bool = False
    growing: Growing | None = None
    """Looks at the answer as it comes, where the plan asks for that."""
    looked: int = 0
    """Characters of the growing answer that the hard checks have seen."""
    flows: bool = False
    answer: str = ""
    """Canonical form, where the plan asks for it."""
    calls: tuple[str, ...] = ()
    """Names of the tools called, where the plan asks for them."""
    known: float | None = None
    """`probability`, once the answer was judged."""
    second: Second | None = None
    """What a second model said, where its answer was weighed with this one."""

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
        own = self.gate.fold.probability
        if own is None:
            for verdict in self.verdicts:
                if verdict.probability is not None:
                    return verdict.probability
        return own

    def tokens(self, story: "Story") -> Tokens:
        """As the upstream counted, else estimated: `story.prompt` for the input, four characters a token for the output. An upstream that
        answered with an error has cost nothing."""
        usage = self.gate.fold.usage
        if usage is not None:
            return count(usage)
        if self.error is not None and not self.came and self.error.reason != "timeout":
            return NONE
        output = money.tokens_of(sum(map(_size, self.gate.fold.drafts())))
        return Tokens(story.prompt.input, 0, output, estimated=True)


class Story(Struct, eq=False, dict=True):
    """A Struct, as its attempts are: a third of the time that thirty assignments take."""

    setup: Setup
    asked: Asked
    id: str
    started: float
    """On the setup's clock."""
    time: float
    """Unix seconds of that."""
    decision: Decision = Decision("", "straight")
    route: Route | None = None
    mode: str = ""
    scores: Scores = Scores({})
    plan: Plan = Plan(())
    verbatim: bool = False
    straight: bool = False
    would: str = ""
    attempts: list[AttemptStory] = []
    delivered: AttemptStory | None = None
    degraded: bool = False
    complete: bool = False
    """The delivered answer came to its end."""
    failure: WeirError | None = None
    accept_seconds: float | None = None
    parse_seconds: float = 0.0
    """What passed before `started`."""
    router_seconds: float = 0.0
    check_seconds: float = 0.0
    first_byte: float | None = None
    late: str = ""
    granted: bool = False
    """The route's waste budget has paid for an early start."""
    settled: bool = False
    """And knows what came of it."""
    vain: float = 0.0
    """How likely that start is thrown away."""
    credential: Callable[[], str] = str
    """The caller's own key, for a rung with `auth: passthrough`; in no Record. Looked for when such a rung is asked: it is
    hashed for that (0.5 us)."""
    trace: Trace | None = None
    over: float | None = None
    """On the setup's clock; None while it is under way. From then on nothing of it changes, as its Record is made a little later."""

    # -- what the pipeline asks -----------------------------------------------------------------------------------------------------

    def snapshots(self) -> list[Attempt]:
        """The attempts as they stand now. Made by position, as in `record`."""
        priced = self.plan.max_usd is not None  # what it cost matters to a purse only, and is not counted for nothing
        found = []
        for attempt in self.attempts:
            error, ended, growing = attempt.error, attempt.ended, attempt.growing
            found.append(
                Attempt(
                    attempt.number,
                    attempt.index,
                    attempt.running,
                    attempt.gate.fold.begun or (self.verbatim and attempt.came),
                    attempt.verdict,
                    None if error is None else error.reason,
                    money.cost(attempt.tokens(self), attempt.price) if priced else 0.0,
                    attempt.purpose,
                    attempt.stopped,
                    0.0 if ended is None else ended - attempt.started,
                    attempt.answer,
                    attempt.calls,
                    attempt.known,
                    growing is not None and growing.unsure,
                    attempt.flows,
                )
            )
        return found

    @cached_property
    def prompt(self) -> Tokens:
        """The request's size, estimated, for what no upstream counted."""
        return money.estimate(self.asked.body)

    def estimated(self, attempt: AttemptStory) -> Json:
        """Usage for an answer whose rung counts no tokens (an encoder): agents keep their budgets by it, and 0 would be wrong."""
        used = attempt.tokens(self)
        counts = {"prompt_tokens": used.input, "completion_tokens": used.output}
        return {**counts, "total_tokens": used.input + used.output}

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
            and attempt.purpose not in OPINIONS
            and (attempt is not self.delivered or self.degraded)
        ]

    def _taken(self, attempt: AttemptStory) -> bool:
        return attempt is self.delivered and not self.degraded and attempt.error is None

    def _reasons(self) -> list[Reason | None]:
        """By attempt, why its answer was not taken; None where it was, or where that is still open."""
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
        setup, asked, decision, scores, route, delivered, failure = (
            self.setup, self.asked, self.decision, self.scores, self.route, self.delivered, self.failure
        )  # fmt: skip
        now = setup.clock() if self.over is None else self.over
        outcome = self.outcome()
        mine: AttemptRecord | None = None
        answer: Sequence[Draft] = ()
        reasons: Sequence[Reason | None] = ()
        if delivered is not None and len(self.attempts) == 1 and self._taken(delivered):  # as nearly always
            answer = delivered.gate.fold.drafts()
            mine = self._attempt(delivered, answer, None, now)
            attempts, upstream, cost = [mine], mine.seconds, mine.cost
        else:
            reasons = self._reasons()
            attempts, upstream, cost = [], 0.0, 0.0
            for attempt, rejected in zip(self.attempts, reasons, strict=True):
                drafts = attempt.gate.fold.drafts()
                told = self._attempt(attempt, drafts, rejected, now)
                attempts.append(told)
                upstream += told.seconds
                cost += told.cost
                if attempt is delivered:
                    mine, answer = told, drafts
        served, finish, chars, calls, used = "", "", 0, 0, NONE
        if mine is not None and delivered is not None:
            served, used, finish, chars = mine.rung, mine.tokens, mine.finish, -delivered.gate.dropped
            for draft in answer:
                if draft.tool_calls:
                    calls += len(draft.tool_calls)
                    chars += _size(draft)
                else:
                    chars += len(draft.text)
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
            asked.dialect,
            asked.query.tenant,
            decision.direct or outcome == "direct",
            decision.score,
            dict(scores.by_route),
            scores.out_of_scope,
            scores.source,
            scores.errors,
            attempts,
            served,
            self._escalation(reasons) if reasons else "",
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
            money.cost(used, setup.prices[top]) if top and delivered is not None else 0.0,
            setup.digest,
            setup.router_digest,
            "" if route is None else route.calibrated,
            setup.version,
            self.trace,
        )

    def _escalation(self, reasons: Sequence[Reason | None]) -> Reason | Literal[""]:
        """Why the last one was rejected of those below the answer that went out."""
        below = self.delivered.index if self.delivered is not None and not self.degraded else None
        found = [reason for attempt, reason in self._rejected(reasons) if below is None or attempt.index < below]
        return found[-1] if found else ""

    def _attempt(
        self, attempt: AttemptStory, drafts: Sequence[Draft], rejected: Reason | None, now: float
    ) -> AttemptRecord:
        rung, error, started, fold = attempt.rung, attempt.error, attempt.started, attempt.gate.fold
        used = attempt.tokens(self)
        model, tier, simulated, message = rung.digest, "", False, ""
        if meta := fold.meta:
            model, tier = str(meta.get("model") or model), str(meta.get("tier", ""))
            simulated = bool(meta.get("simulated"))
        outcome: AttemptOutcome
        if error is not None:
            outcome, message = "error", error.message
        elif attempt is self.delivered:
            outcome = "delivered" if self.complete else "stopped"
        else:
            outcome = "rejected" if rejected else "stopped"
        # Checks that say no probability say the same again and again.
        verdicts, sure = (_kept if attempt.known is None else _told)(tuple(attempt.verdicts))
        return AttemptRecord(
            attempt.number,
            rung.name,
            outcome,
            rejected or "",
            message,
            model,
            verdicts,
            sure if fold.probability is None else fold.probability,
            rung.threshold,
            tier,
            simulated,
            started - self.started,
            (now if attempt.ended is None else attempt.ended) - started,
            None if attempt.first is None else attempt.first - started,
            used,
            money.cost(used, attempt.price),
            (drafts[0].finish or "") if drafts else "",
            attempt.purpose,
            attempt.chunks,
            [name for name in attempt.calls if name in self.asked.query.tool_names] if attempt.calls else (),
            None if attempt.second is None else attempt.second.agrees,
        )

    def _facts(self) -> Facts:
        asked, hashed = self.asked, self.setup.text_hash
        query = asked.query
        text, session, headers, loop = query.text, query.session, query.headers, query.tool_loop
        return Facts(
            query.model,
            hashed(text) if text else "",
            query.signature,
            query.system,
            query.tools,
            query.tool_names,
            query.schema,
            query.schema_name,
            query.turns,
            query.chars,
            len(text),
            _sorted(query.modality),
            loop,
            _session(hashed, session) if len(session) <= _KEPT else hashed(session),
            asked.wants.stream,
            suspects.retries(headers) if suspects.RETRIES in headers else 0,
            loop and suspects.failed(asked.body),
        )


_KEPT = 64
"""Characters of a session that is kept: what Weir makes up is shorter, what callers name may be anything."""


@lru_cache(maxsize=4096)
def _session(hashed: Callable[[str], str], session: str) -> str:
    """A session comes again: 0.1 us instead of 0.45. Texts do not, and are not kept."""
    return hashed(session) if session else ""


@lru_cache(maxsize=64)
def _sorted(modality: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted(modality))


def _told(verdicts: tuple[Verdict, ...]) -> tuple[Sequence[VerdictRecord], float | None]:
    """What the checks said, and the first probability that one found."""
    return [_verdict(said) for said in verdicts], _first(verdicts)


_kept = lru_cache(maxsize=256)(_told)
"""One for all Records, instead of some objects of each."""


def _first(verdicts: Iterable[Verdict]) -> float | None:
    for verdict in verdicts:
        if verdict.probability is not None:
            return verdict.probability
    return None


@lru_cache(maxsize=256)
def _passed(validator: str) -> VerdictRecord:
    return VerdictRecord(validator, "pass")


def _verdict(said: Verdict) -> VerdictRecord:
    if said.opinion == "pass" and not said.detail:
        return _passed(said.validator)
    return VerdictRecord(said.validator, said.opinion, said.reason or "", said.detail)


def _size(draft: Draft) -> int:
    """Characters of an answer."""
    size = len(draft.text)
    for call in draft.tool_calls:
        size += len(call.name) + len(call.arguments)
    return size
