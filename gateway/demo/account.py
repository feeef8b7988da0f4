"""What the demo's answers add up to: counts that must agree, and figures. Pure.

Three books are kept of the same requests: what the client saw (answers and `x-weir-*` headers), the Records, and `/metrics`.
`ledger_*` brings each into the same form, `differences` compares two of them: they must be equal to the unit.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

from gateway.demo.setting import CLOUD
from gateway.demo.traffic import Item
from gateway.metrics import escalations
from gateway.record import Record

Ledger = Counter[tuple[str, str, str]]
"""(what, route, kind) > how often. what: requests (kind: outcome), served (rung), direct (reason), escalations (reason)."""

UNANSWERED = ("refused", "failed", "cancelled")
"""Outcomes that a caller cannot tell apart: he got no answer. All are `refused` in a Ledger."""


class Observation(Struct, frozen=True):
    """One request as the client saw it."""

    item: Item
    status: int
    """HTTP status; 0 when there was no response."""
    seconds: float
    """From asking to the answer, parsed."""
    answer: str = ""
    """The label of an intent, the text of a chat; "" when there was none."""
    valid: bool = False
    """An intent: the content fits the schema. A chat: there is some."""
    id: str = ""
    route: str = ""
    rung: str = ""
    attempts: int = 0
    reason: str = ""
    degraded: bool = False
    simulated: bool = False

    @property
    def correct(self) -> bool:
        return self.valid and self.answer == self.item.gold

    @property
    def outcome(self) -> str:
        """As Weir calls it: accepted, escalated, direct, degraded or refused."""
        if self.status != 200:
            return "refused"
        if self.degraded:
            return "degraded"
        if self.rung != CLOUD:
            return "accepted"
        return "escalated" if self.attempts > 1 else "direct"


class Latency(Struct, frozen=True):
    """Milliseconds, over the requests that one rung answered."""

    answers: int
    p50_ms: float
    p99_ms: float
    gateway_p50_ms: float
    """As the Records tell it: without the client's own time."""
    gateway_p99_ms: float


class Figures(Struct, frozen=True):
    """What the demo shows. Shares are in [0, 1], and 0 of nothing is 0."""

    requests: int
    utterances: int
    chats: int
    errors: int
    """Requests without an answer."""
    invalid: int
    """Answers that do not fit the schema that was asked for."""
    local_share: float
    """Of all requests, served by the specialist."""
    local_coverage: float
    """Of the utterances in scope, served by the specialist."""
    local_accuracy: float
    """Of the utterances that the specialist served, answered rightly; one out of scope cannot be."""
    local_accuracy_in_scope: float
    """The same among those in scope."""
    oos_to_top: float
    """Of the utterances out of scope, answered by the LLM."""
    overall_accuracy: float
    """Of all utterances, whoever served them."""
    llm_share: float
    """(direct + escalated) / all."""
    llm_spend_share: float
    """Of the money that was spent."""
    escalation_rate: float
    """escalated / (accepted + escalated)."""
    escalated: Mapping[str, int]
    """Reason > requests."""
    direct: Mapping[str, int]
    tiers: Mapping[str, int]
    """Tier of the specialist > answers that were accepted from it."""
    latency: Mapping[str, Latency]
    """By the rung that answered."""
    cost_usd: float
    all_llm_usd: float
    """What the same answers would have cost at the top rung's price."""
    cost_ratio: float
    seconds: float
    """The whole run, by the clock."""


def figures(seen: Sequence[Observation], records: Sequence[Record], seconds: float) -> Figures:
    """Everything at once. `records`: of the same requests, in any order."""
    outcomes = Counter(o.outcome for o in seen)
    utterances = [o for o in seen if o.item.kind == "intent"]
    inside = [o for o in utterances if o.item.in_scope]
    outside = [o for o in utterances if not o.item.in_scope]
    local = [o for o in utterances if o.outcome == "accepted"]
    local_inside = [o for o in local if o.item.in_scope]
    cost = sum(record.cost for record in records)
    all_llm = sum(record.counterfactual_cost for record in records)
    spent = sum(attempt.cost for record in records for attempt in record.attempts if attempt.rung == CLOUD)
    return Figures(
        requests=len(seen),
        utterances=len(utterances),
        chats=len(seen) - len(utterances),
        errors=outcomes["refused"],
        invalid=sum(o.status == 200 and not o.valid for o in seen),
        local_share=share(outcomes["accepted"], len(seen)),
        local_coverage=share(len(local_inside), len(inside)),
        local_accuracy_in_scope=share(sum(o.correct for o in local_inside), len(local_inside)),
        local_accuracy=share(sum(o.correct for o in local), len(local)),
        oos_to_top=share(sum(o.rung == CLOUD for o in outside), len(outside)),
        overall_accuracy=share(sum(o.correct for o in utterances), len(utterances)),
        llm_share=share(outcomes["direct"] + outcomes["escalated"], len(seen)),
        llm_spend_share=share(spent, cost),
        escalation_rate=share(outcomes["escalated"], outcomes["accepted"] + outcomes["escalated"]),
        escalated=_by_reason(seen, "escalated"),
        direct=_by_reason(seen, "direct"),
        tiers=_tiers(records),
        latency=_latency(seen, records),
        cost_usd=cost,
        all_llm_usd=all_llm,
        cost_ratio=share(cost, all_llm),
        seconds=seconds,
    )


def share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def percentile(values: Iterable[float], at: float) -> float:
    """The smallest of `values` that `at` of them (in [0, 1]) do not exceed; 0 of none. Always a value that was measured."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(at * len(ordered)) - 1)]


def _by_reason(seen: Iterable[Observation], outcome: str) -> dict[str, int]:
    return dict(Counter(o.reason for o in seen if o.outcome == outcome).most_common())


def _tiers(records: Iterable[Record]) -> dict[str, int]:
    found = Counter(
        attempt.tier
        for record in records
        if record.outcome == "accepted"
        for attempt in record.attempts
        if attempt.outcome == "delivered"
    )
    return dict(found.most_common())


def _latency(seen: Sequence[Observation], records: Sequence[Record]) -> dict[str, Latency]:
    totals = {record.id: record.seconds.total for record in records}
    found = {}
    for rung in sorted({o.rung for o in seen if o.rung and o.status == 200}):
        served = [o for o in seen if o.rung == rung and o.status == 200]
        at_client = [1000 * o.seconds for o in served]
        inside = [1000 * totals[o.id] for o in served if o.id in totals]
        found[rung] = Latency(
            len(served),
            percentile(at_client, 0.5),
            percentile(at_client, 0.99),
            percentile(inside, 0.5),
            percentile(inside, 0.99),
        )
    return found


# --- the three books --------------------------------------------------------------------------------------------------------------


def ledger_of_client(seen: Iterable[Observation]) -> Ledger:
    """By what the answers' headers said."""
    ledger: Ledger = Counter()
    for o in seen:
        ledger["requests", o.route, o.outcome] += 1
        if o.status == 200:
            ledger["served", o.route, o.rung] += 1
        if o.outcome == "direct":
            ledger["direct", o.route, o.reason] += 1
        if o.outcome == "escalated":
            ledger["escalations", o.route, o.reason] += 1
    return ledger


def ledger_of_records(records: Iterable[Record]) -> Ledger:
    ledger: Ledger = Counter()
    for record in records:
        ledger["requests", record.route, _outcome(record.outcome)] += 1
        if record.served:
            ledger["served", record.route, record.served] += 1
        if record.direct:
            ledger["direct", record.route, record.reason] += 1
        for _, _, reason in escalations(record):
            ledger["escalations", record.route, reason] += 1
    return ledger


_SERIES = {
    "weir_requests_total": ("requests", "outcome"),
    "weir_served_total": ("served", "rung"),
    "weir_direct_total": ("direct", "reason"),
    "weir_escalations_total": ("escalations", "reason"),
}


def ledger_of_metrics(page: str) -> Ledger:
    """`page`: the text of `/metrics`. Raises ValueError when it is none."""
    ledger: Ledger = Counter()
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name in _SERIES:
                what, label = _SERIES[sample.name]
                kind = sample.labels[label]
                ledger[what, sample.labels["route"], _outcome(kind) if what == "requests" else kind] += int(
                    sample.value
                )
    return ledger


def _outcome(outcome: str) -> str:
    return "refused" if outcome in UNANSWERED else outcome


def differences(ours: Ledger, theirs: Ledger) -> list[str]:
    """One line for every count that is not the same in both; none when the books agree."""
    return [
        f"{what} of route '{route}', {kind}: {ours[what, route, kind]} against {theirs[what, route, kind]}"
        for what, route, kind in sorted({*ours, *theirs})
        if ours[what, route, kind] != theirs[what, route, kind]
    ]
