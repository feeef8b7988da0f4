"""The Record: what happened to one request. The contract with everything that comes after.

Told before the last byte goes out, made and counted soon after, with others, but before anybody reads what was counted
(`gateway.setup.Live.tell`). Metrics, log, `weir why`, replay, the page and the conversion loop read this frozen value and nothing
else. It holds no prompt and no answer: hashes, lengths, scores, verdicts, seconds, money.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from wire.traceparent import Trace
from wire.types import Tokens

VERSION = 1

Outcome = Literal["accepted", "escalated", "direct", "degraded", "straight", "refused", "failed", "cancelled"]
"""accepted: from a small rung after passing; escalated: a small rung was asked and a higher one answered; direct: the router
sent it to the top; degraded: delivered unproven; straight: bypass, observe or a backend asked for by name; refused: no rung
gave an answer that may be delivered; failed: an error of ours or of the last rung; cancelled: the caller left."""


AttemptOutcome = Literal["delivered", "rejected", "error", "stopped"]


class VerdictRecord(Struct, frozen=True, omit_defaults=True):
    validator: str
    opinion: str
    """pass, fail or undecided."""
    reason: str = ""
    detail: str = ""
    """For people. Names fields and limits, never values out of the answer."""


class AttemptRecord(Struct, frozen=True, omit_defaults=True):
    number: int
    rung: str
    outcome: AttemptOutcome
    reason: str = ""
    """One of wire.errors.Reason when it was rejected or failed."""
    error: str = ""
    model: str = ""
    """What answered: model name or digest."""
    verdicts: Sequence[VerdictRecord] = ()
    probability: float | None = None
    threshold: float | None = None
    tier: str = ""
    simulated: bool = False
    start: float = 0.0
    """Seconds after the request's start."""
    seconds: float = 0.0
    first_seconds: float | None = None
    """Seconds to this attempt's first chunk."""
    tokens: Tokens = Tokens()
    cost: float = 0.0
    finish: str = ""
    purpose: str = ""
    """"" for a rung of the ladder in its turn; else repair, sample, agree or early (`gateway.plan.Purpose`)."""
    chunks: int = 0
    """Pieces in which the answer came."""
    calls: Sequence[str] = ()
    """Names of the offered tools that a small rung's answer called; none where no rule of the route asks for them."""
    agrees: bool | None = None
    """Whether a second model, whose answer counts in `probability`, said the same; None where none was weighed."""


class Facts(Struct, frozen=True, omit_defaults=True):
    """The Query without its text: what rules can be replayed on."""

    model: str
    text_hash: str = ""
    """Keyed hash (the key stays in the state directory): equal texts can be seen, texts cannot be guessed."""
    signature: str = ""
    system: str = ""
    tools: str = ""
    tool_names: Sequence[str] = ()
    schema: str = ""
    schema_name: str = ""
    turns: int = 1
    chars: int = 0
    text_chars: int = 0
    modality: Sequence[str] = ("text",)
    tool_loop: bool = False
    session: str = ""
    stream: bool = False
    retries: int = 0
    """How often the caller's own client had tried before (`x-stainless-retry-count`)."""
    tool_error: bool = False
    """The last message is a tool's result, and it tells of an error."""


class Seconds(Struct, frozen=True, omit_defaults=True):
    """Where the time went. total = from the request's start to the last byte handed to the server."""

    total: float = 0.0
    router: float = 0.0
    upstream: float = 0.0
    check: float = 0.0
    first_byte: float | None = None
    parse: float = 0.0
    """Before `total` begins: from the handler's start until the request was read, admitted and understood."""
    accept: float | None = None
    """Before `parse` begins: from the moment the server was handed the last bytes of the request's head until the handler's start: the
    head's parsing and the wait for a turn of the loop, the time before a pipelined request's turn too. What passed before these bytes
    were read (in the backlog of the socket, in the kernel's buffer while the loop was busy) cannot be seen from here. None: the server
    does not say (`gateway.surface.connection` does)."""


class Record(Struct, frozen=True, omit_defaults=True):
    id: str
    time: float
    """Unix seconds at the request's start."""
    outcome: Outcome
    route: str
    mode: str
    reason: str
    """Why this route: matched, default, out_of_scope, below_min_score, router_error, router_timeout, pinned, bypass, ..."""
    facts: Facts
    version: int = VERSION
    dialect: str = "chat"
    tenant: str = ""
    direct: bool = False
    score: float | None = None
    scores: Mapping[str, float] = {}
    out_of_scope: float | None = None
    router: str = ""
    router_errors: Sequence[str] = ()
    """Tiers of a cascade that failed and were passed over."""
    attempts: Sequence[AttemptRecord] = ()
    served: str = ""
    """The rung whose answer went out; "" when none did."""
    escalation: str = ""
    """Why the last rejected attempt was rejected; "" when none was."""
    status: int = 200
    error: str = ""
    """The error's code, when the caller got an error."""
    finish: str = ""
    answer_chars: int = 0
    tool_calls: int = 0
    speculation: str = ""
    """used: the next rung was started early, and needed; wasted: started early, and thrown away; "" when it was not."""
    late_verdict: str = ""
    """A check that failed after the first byte had gone out."""
    would: str = ""
    """In observe: the rung that this route would have asked first."""
    top: str = ""
    seconds: Seconds = Seconds()
    tokens: Tokens = Tokens()
    cost: float = 0.0
    counterfactual_cost: float = 0.0
    """The delivered answer's token counts at the top rung's price, USD."""
    config: str = ""
    router_hash: str = ""
    calibration: str = ""
    weir: str = ""
    trace: Trace | None = None
    """None when tracing is off."""


class ShadowRecord(Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="shadow"):
    """What a small rung said to a request off the path, and how that compares with what was delivered. A line of its own."""

    request: str
    """The id of the request's Record."""
    time: float
    """Unix seconds at the request's start."""
    route: str
    rung: str
    result: Literal["agree", "disagree", "invalid", "error"]
    """invalid: a hard check failed; error: it did not answer; else the answer compared with the delivered one, in canonical form."""
    reason: str = ""
    """One of wire.errors.Reason when a check failed, hard or soft, or it did not answer."""
    accepted: bool = False
    """It passed every check: in `enforce` it would have been delivered."""
    served: str = ""
    """The rung whose answer was delivered."""
    probability: float | None = None
    threshold: float | None = None
    model: str = ""
    seconds: float = 0.0
    tokens: Tokens = Tokens()
    cost: float = 0.0
    config: str = ""
    calibration: str = ""
    weir: str = ""
    version: int = VERSION


class JudgedRecord(Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="judged"):
    """What a larger model thought of an answer that a small rung had delivered. A line of its own, without a word of either."""

    request: str
    """The id of the request's Record."""
    time: float
    """Unix seconds at the request's start."""
    route: str
    rung: str
    """Whose answer it was."""
    by: str
    result: Literal["right", "wrong", "invalid", "error"]
    """invalid: the judge's answer was no verdict; error: it did not answer."""
    reason: str = ""
    """One of wire.errors.Reason when it did not answer."""
    probability: float | None = None
    """How likely right the answer was thought to be when it was delivered."""
    threshold: float | None = None
    model: str = ""
    """The judge's."""
    seconds: float = 0.0
    tokens: Tokens = Tokens()
    cost: float = 0.0
    config: str = ""
    calibration: str = ""
    weir: str = ""
    version: int = VERSION


_encoder = msgspec.json.Encoder()
encode: Callable[["Record | ShadowRecord | JudgedRecord"], bytes] = _encoder.encode
"""One JSON line, without the newline. ASCII line separators in values are escaped by JSON itself."""
encode_into: Callable[["Record", bytearray], None] = _encoder.encode_into
"""The same, in place of what stands there: with `bytes` of it 0.2 us less than `encode`, whose memory grows as the line does."""
_decoder = msgspec.json.Decoder(Record)
_shadows = msgspec.json.Decoder(ShadowRecord)


def decode_shadow(line: bytes) -> ShadowRecord:
    """Raises msgspec.DecodeError or ValidationError for a line that is none."""
    return _shadows.decode(line)


def decode(line: bytes) -> Record:
    """Raises msgspec.DecodeError or ValidationError for a line that is no Record."""
    return _decoder.decode(line)
