"""The vocabulary: what travels along the line.

    bytes > dialect > Asked(query, body, wants) > Scores > Decision > ( Start > Chunk* > Verdict > Attempt )* > Chunk* > bytes

All are frozen msgspec Structs: built in about 0.1 us, where a frozen dataclass takes about 1 us and a pydantic model 5 us.
A `Mapping` inside one of them is never changed after it was made: whoever needs another body copies (`{**body, ...}`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct, field

Json = Mapping[str, Any]
"""A decoded JSON object. Read only, by convention."""

EMPTY: Json = {}


class Query(Struct, frozen=True):
    """What a router may see of a request. No prompt but the last user message; the rest enters as hashes.

    Hashes are the first 16 hex digits of SHA-256 over canonical JSON ("" when there is nothing to hash), so that YAML can
    name them (`weir explain` prints them).
    """

    text: str
    """The last user message, its text parts joined by newlines; "" when the last message is no user's."""
    model: str
    """The model name that the caller asked for."""
    signature: str = ""
    """Hash of (system, tools, schema): the task, whoever asks it and whatever about."""
    system: str = ""
    """Hash of the system and developer messages."""
    tools: str = ""
    """Hash of the tool set."""
    tool_names: tuple[str, ...] = ()
    schema: str = ""
    """Hash of the constraint on the answer (JSON schema of `response_format`)."""
    schema_name: str = ""
    turns: int = 1
    """Number of user messages."""
    chars: int = 0
    """Characters of text in all messages together."""
    modality: frozenset[str] = frozenset({"text"})
    """Kinds of content parts: text, image, audio, file."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Request headers, names in lower case, without credentials."""
    tenant: str = ""
    """Name of the caller's key; "" when access is open."""
    session: str = ""
    """`x-session-id`, else a hash of the tenant and the first messages."""
    tool_loop: bool = False
    """The last message is a tool's result: the rung that asked for it should answer."""
    stream: bool = False
    """The caller wants the answer as a stream (as `Wants.stream`, for rules)."""


class Scores(Struct, frozen=True):
    """A router's opinion. Routers score; thresholds live in the configuration."""

    by_route: Mapping[str, float]
    """Route name > score in [0, 1]. A route that is missing was not scored."""
    out_of_scope: float | None = None
    """How likely the request belongs to none of the routes, in [0, 1]; None when this router cannot tell."""
    source: str = ""
    """Which router spoke: its kind, and inside a cascade the tier's name."""
    errors: tuple[str, ...] = ()
    """Tiers of a cascade that raised and were passed over, by name."""


class Wants(Struct, frozen=True):
    """How the caller wants to be answered."""

    stream: bool = False
    usage: bool = False
    """A final usage chunk in the stream (`stream_options.include_usage`)."""
    logprobs: bool = False
    n: int = 1
    functions: bool = False
    """Calls are wanted in the form before tools: `function_call`."""


class Constraint(Struct, frozen=True):
    """What an answer must look like, asked by the caller or imposed by a route."""

    kind: Literal["schema", "json", "choice", "regex", "grammar"]
    value: Any
    """schema: the JSON Schema; json: None; choice: list of strings; regex, grammar: a string."""
    strict: bool = False
    name: str = "answer"
    digest: str = ""
    """Hash of `value`."""
    written: bytes = b""
    """`value` as canonical JSON (`wire.hashing`), the key of compile caches; b"": nobody wrote it yet."""


class Asked(Struct, frozen=True):
    """A request, understood."""

    query: Query
    body: Json
    """Canonical OpenAI chat body. Fields that nobody here knows are kept and passed on."""
    wants: Wants = Wants()
    constraint: Constraint | None = None
    raw: bytes = b""
    """The bytes as they came, for a rung that gets the request unchanged; b"" when `body` is a translation."""
    dialect: str = "chat"
    echo: Json = field(default_factory=dict)
    """What the caller's API wants to read beside the answer. Written by its dialect, read by it only; never goes to a rung."""
    native: Json | None = None
    """The body in the words of `dialect`, where those are not the canonical ones: for a rung that speaks them too. What only they can
    say stands nowhere else, so no other rung can get it."""
    dropped: tuple[str, ...] = ()
    """What the caller asked for and no rung can do, so that `body` is without it, e.g. `tools.web_search`. Words of this program only:
    the caller reads them in `x-weir-dropped`."""


class Price(Struct, frozen=True):
    """USD per million tokens. `input` is the price of tokens that were not cached."""

    input: float = 0.0
    cached_input: float = 0.0
    output: float = 0.0


class Tokens(Struct, frozen=True):
    """Token counts of one answer. `input` includes `cached_input`, as OpenAI counts."""

    input: int = 0
    cached_input: int = 0
    output: int = 0
    estimated: bool = False
    """No upstream counted: four characters were taken for one token."""


class Credential(str):
    """A key on its way: it does not print itself."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Credential('***')"


class Call(Struct, frozen=True):
    """What a backend is asked to do."""

    body: Json
    """Canonical chat body. The backend sets `model`, `stream` and its own spelling of the constraint."""
    seconds: float
    """Time to the end of the answer before commit. The backend honours it by phase; the pipeline enforces it."""
    constraint: Constraint | None = None
    live: bool = False
    """True: chunks are wanted as they come. False: one whole answer is enough."""
    logprobs: bool = False
    """Log-probabilities are wanted by a validator (or by the caller)."""
    text: str = ""
    """`Query.text`, for a specialist that reads nothing else."""
    model: str = ""
    """The name that the caller asked for; sent on when the backend names no model of its own."""
    raw: bytes = b""
    """Not empty: send exactly these bytes and yield chunks whose `raw` joined are exactly the upstream's bytes."""
    dialect: str = "chat"
    """The API that the caller speaks: `raw` is in it. A backend whose own wire it is may use what the canonical body only carries along."""
    native: Json | None = None
    """`Asked.native`."""
    credential: "Credential | str" = ""
    """The caller's own key, for a rung with `auth: passthrough` only: `Bearer KEY` as it came in `authorization`, or `KEY` as in
    `x-api-key`. Never logged, never recorded."""
    request_id: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Request headers that may go on to the upstream (never credentials, never `x-weir-*`)."""
    session: str = ""
    """`Query.session`: a conversation goes back to the replica that holds its prefix. Never sent."""
    signature: str = ""
    """`Query.signature`: requests of one kind share the start of their prompt. Never sent."""


class Chunk(Struct, frozen=True):
    """A piece of an answer. A whole answer is one chunk per choice, `delta` being its whole message."""

    choice: int = 0
    delta: Json = field(default_factory=dict)
    """As in a chat.completion.chunk: role, content, refusal, tool_calls (each with an index), reasoning ..."""
    finish: str | None = None
    logprobs: Json | None = None
    """As in OpenAI: {"content": [{token, logprob, bytes, top_logprobs}]}."""
    usage: Json | None = None
    """As in OpenAI: prompt_tokens, completion_tokens, total_tokens, details."""
    raw: bytes = b""
    """The upstream's bytes of this event with its delimiter; an event with several choices has them on the first only."""
    head: Mapping[str, str] | None = None
    """Upstream response headers, on the first chunk of an attempt only (lower case, hop-by-hop removed)."""
    probability: float | None = None
    """What an encoder knows and a language model does not: how likely this answer is right, calibrated, in [0, 1]."""
    extra: Json | None = None
    """Top-level answer fields to pass on (system_fingerprint, service_tier ...)."""
    meta: Json | None = None
    """Facts for the Record, never for the client: {"tier": "static"}, {"simulated": True} ..."""
    native: Json | None = None
    """The same in the upstream's own words (its event, or its whole answer), where the caller's dialect speaks them too."""


Sink = Callable[[Sequence[Chunk]], bool]
"""Takes chunks, in order, at once and all of them, or returns False and takes none. Called from the loop: it waits for nothing."""


class ToolCall(Struct, frozen=True):
    id: str
    name: str
    arguments: str
    """JSON text, as the model wrote it."""
    kind: str = "function"


class Draft(Struct, frozen=True):
    """One choice of an answer as far as it has come; what validators judge."""

    choice: int = 0
    text: str = ""
    tool_calls: Sequence[ToolCall] = ()
    refusal: str = ""
    finish: str | None = None
    """None while the answer still grows."""
    logprobs: Sequence[Json] = ()
    probability: float | None = None
    usage: Json | None = None

    @property
    def whole(self) -> bool:
        return self.finish is not None
