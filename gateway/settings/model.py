"""The shape of `weir.yaml`: frozen, nested, and an unknown key is a mistake. Loading is in `load.py`."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SerializeAsAny,
    StringConstraints,
    Tag,
    field_validator,
    model_validator,
)

from backends._secret import Secret
from backends._upstream import plain_url
from backends.base import BackendConfig
from backends.embedding.base import EmbedderConfig
from routers.base import RouterConfig
from routers.rules import Match

NAME_PATTERN = r"^[a-z0-9][a-z0-9_.-]{0,62}$"
MEMORY_PATTERN = r"^(\d+(?:\.\d+)?) ?(GiB|GB|MiB)$"

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
"""Names become metric labels and header values: lower case, short, closed."""


def _shape(value: Any) -> str:
    """Which branch of a union is meant, so that a mistake is reported for that branch only."""
    return "several" if isinstance(value, list | tuple) else "text" if isinstance(value, str) else "one"


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)


class ValidatorSettings(BaseModel):
    """One check: its kind and that kind's own keys."""

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: str


Check = Annotated[
    Annotated[str, Tag("text")]
    | Annotated[ValidatorSettings, Tag("one")]
    | Annotated[ValidatorSettings, Tag("several")],
    Discriminator(_shape),
]
"""A check by its kind alone, or as a table with its own keys."""


class Agreement(Frozen):
    """`agrees_with`: a second small model answers too, and what both say alike is taken, or likelier taken. The word alone is `rung`."""

    rung: Name
    when: Literal["always", "grey", "weighed"] = Field(
        "always",
        description="always: in parallel, both must agree; grey: asked only when the first is not sure enough; weighed: in parallel, and "
        "what it says and how sure it is count in the probability that `risk` decides by",
    )

    @model_validator(mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        return {"rung": value} if isinstance(value, str) else value


class SelfConsistency(Frozen):
    """`self_consistency`: in the grey zone the same small model is asked again, and the majority counts (arXiv 2203.11171)."""

    samples: int = Field(3, ge=2, le=9, description="further answers, asked at once")
    temperature: float = Field(0.7, gt=0, le=2)


class Speculation(Frozen):
    """`speculate`: the next rung is started while a small one still answers and already looks unsure."""

    waste: float = Field(
        0.03, gt=0, le=0.5, description="most early starts that may be thrown away, as a share of the route's requests"
    )


class Accept(Frozen):
    """When a small model's answer is taken."""

    risk: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="promised share of requests answered wrongly by a small model; needs a calibration file",
    )
    calibration: Path | None = Field(
        None, description="calibration file; default: the route's own (`weir calibrate`), else the specialist's"
    )
    agrees_with: Agreement | None = Field(
        None, description="a second backend, whose answer must be the same or is weighed"
    )
    repair: int = Field(
        0, ge=0, le=2, description="times that a rung is asked again, told which check its answer broke"
    )
    self_consistency: SelfConsistency | None = None
    validators: tuple[Check, ...] = Field(
        ("not_refused", "finished", "fits_schema", "tool_arguments"),
        description="hard checks in order; `sure_enough` is added after them when `risk` is set",
    )


class RouteBudget(Frozen):
    usd: float | None = Field(None, gt=0, description="most that one request may cost over all its attempts")
    attempts: int = Field(6, ge=1, le=16, description="most attempts of one request")


class Shadow(Frozen):
    """`mode: shadow`: the small model is asked too, after the answer went out; bounded, and never in anybody's way."""

    sample: float = Field(0.1, gt=0, le=1, description="share of requests that are asked")
    in_flight: int = Field(2, ge=1, le=64, description="most at once; further ones are dropped and counted")


class Window(Frozen):
    """`stream`: how a small model's free text flows to the caller. Without it, and under a risk, all of it is held until checked."""

    window: int = Field(64, ge=0, description="characters that are held and checked before the first goes out")
    lag: int = Field(24, ge=0, description="characters that are always held back, so that a failed check can still cut")


class ToolPolicy(Frozen):
    """`tools: {refund: {local: agree, risk: 0.001}}`: may a small model's call of this tool be delivered?"""

    local: Literal["always", "agree", "never"] = Field(
        "always",
        description="never: such a call goes up the ladder; agree: only one that a second small model makes too",
    )
    risk: float | None = Field(None, gt=0, lt=1, description="stricter than the route's `accept.risk` for such calls")


class Judging(Frozen):
    """`judged`: a larger model looks at a sample of what a small one delivered, after it went out."""

    by: Name = Field(description="the backend that judges")
    sample: float = Field(0.02, gt=0, le=1)
    criterion: str = Field(
        "Is the answer correct, complete and supported by what it was asked about?", description="what is judged"
    )


class Slo(Frozen):
    """`slo`: what a route is held to. `weir rules` makes alerts of it, `weir slo` says how it stands."""

    escalation_rate: float | None = Field(
        None, gt=0, lt=1, description="most of the requests that small models are asked that may escalate, as a share"
    )
    failures: float | None = Field(None, gt=0, lt=1, description="most of the requests that may fail, as a share")
    window: str = Field(
        "30d", pattern=r"^[1-9]\d?d$", description="days over which the shares are counted, such as 7d or 30d"
    )

    @property
    def days(self) -> int:
        return int(self.window[:-1])


class RouteSettings(Frozen):
    match: (
        Annotated[Annotated[Match, Tag("one")] | Annotated[tuple[Match, ...], Tag("several")], Discriminator(_shape)]
        | None
    ) = Field(None, description="rules; any of several is enough")
    examples: Annotated[
        Annotated[tuple[str, ...], Tag("several")] | Annotated[Path, Tag("text")] | Annotated[Path, Tag("one")],
        Discriminator(_shape),
    ] = Field((), description="texts that belong here, or a file with one a line (then `load` has read it)")
    description: str = Field("", description="what belongs here, in a sentence; also embedded")
    min_score: float = Field(0.5, ge=0, le=1, description="a lower router score sends the request to the default route")
    schema_: dict[str, Any] | None = Field(None, alias="schema", description="JSON Schema imposed on small models")
    choice: tuple[str, ...] | None = Field(None, description="labels imposed on small models")
    regex: str | None = Field(None, description="regular expression imposed on small models")
    grammar: str | None = Field(None, description="EBNF grammar imposed on small models that can (vllm)")
    render: str | None = Field(None, description='turns an imposed answer back into text, e.g. "{label}"')
    ladder: tuple[Name, ...] = Field(min_length=1, description="backends, smallest first; the last is the top rung")
    accept: Accept = Accept()
    mode: Literal["observe", "shadow", "canary", "enforce"] = "observe"
    canary: float = Field(0.05, gt=0, le=1, description="`mode: canary`: share of conversations that are enforced")
    holdout: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="share of the conversations that the top rung answers alone: what `weir compare` holds the others against",
    )
    slo: Slo | None = None
    shadow: Shadow = Shadow()
    speculate: Speculation | None = None
    stream: Window | None = None
    writes: tuple[str, ...] = Field(
        (), description="globs of tools that change something: without an entry in `tools` their calls go up the ladder"
    )
    tools: dict[str, ToolPolicy] = Field({}, description="what a small model may call, by the tool's name")
    judged: Judging | None = None
    on_unavailable: Literal["refuse", "deliver"] = Field(
        "refuse", description="no higher rung can be asked: 503, or deliver the small model's answer as degraded"
    )
    strict: bool = Field(False, description="the top rung's answer must fit the schema too: 502 otherwise")
    egress: Literal["any", "local"] = Field("any", description="local: rungs with `cloud: true` are never asked")
    budget: RouteBudget = RouteBudget()
    deadline: float | None = Field(None, gt=0, description="seconds for the whole ladder; default server.deadline")


class RouterSettings(Frozen):
    """`router:`: which router, the default route, and how long it may take."""

    use: SerializeAsAny[RouterConfig]
    default: Name
    deadline: float = Field(0.25, gt=0, description="seconds; a later router is ignored and counted")


class ModelSettings(Frozen):
    """What a requested model name means. Written as a word alone, it is `use`."""

    use: str = Field("routed", description="routed, route/NAME or backend/NAME")
    through: Name | None = Field(
        None,
        description="backend that knows this model under its own name: it gets the request unchanged in `observe` and bypass",
    )

    @model_validator(mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        return {"use": value} if isinstance(value, str) else value

    @field_validator("use")
    @classmethod
    def _form(cls, value: str) -> str:
        if value != "routed" and not value.startswith(("route/", "backend/")):
            raise ValueError("must be routed, route/NAME or backend/NAME")
        return value


class RateSettings(Frozen):
    per_minute: float = Field(gt=0)
    burst: int = Field(20, ge=1)


class KeySettings(Frozen):
    name: Name
    hash: str = Field(pattern=r"^sha256:[0-9a-f]{64}$", description="from `weir key`; the key itself is never stored")
    rate: RateSettings | None = None
    admin: bool = Field(False, description="may read Records and see every tenant")


class Access(Frozen):
    """Who may ask. The bare word `open` is `{open: true}`."""

    open: bool = Field(False, description="anybody who reaches the port may ask, whatever the address it binds")
    keys: tuple[KeySettings, ...] = Field((), description="callers by name; with any, a request without a key gets 401")

    @model_validator(mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        if isinstance(value, str):
            if value != "open":
                raise ValueError("must be the word `open`, or a table with `keys:`")
            return {"open": True}
        return value


class Limits(Frozen):
    body_bytes: int = Field(10 * 2**20, ge=1024)
    in_flight: int = Field(1024, ge=1, description="more requests at once get 503 overloaded")
    schema_bytes: int = Field(256 * 1024, ge=256)
    schema_depth: int = Field(64, ge=4)


class OtlpSettings(Frozen):
    """`telemetry.otlp:`: traces go to an OpenTelemetry collector, as OTLP over HTTP. Needs the extra `otel`."""

    endpoint: str = Field(description="base URL of the collector, e.g. http://collector:4318; /v1/traces is added")
    headers: dict[str, Secret] = Field({}, description="sent with every export, e.g. {authorization: ${OTLP_KEY}}")
    sample: float = Field(
        1.0, ge=0, le=1, description="share of the traces that begin here; of others the caller has decided"
    )
    service_name: str = Field("weir", min_length=1, description="`service.name` of the spans")

    @field_validator("endpoint")
    @classmethod
    def _plain(cls, value: str) -> str:
        return plain_url(value.rstrip("/").removesuffix("/v1/traces"))


class Telemetry(Frozen):
    log: Literal["json", "off"] = "json"
    records: int = Field(1000, ge=0, description="Records kept in memory for `weir why` and the page")
    otlp: OtlpSettings | None = Field(None, description="where traces go; without it there are none")


class Server(Frozen):
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    state_dir: Path = Path("var")
    deadline: float = Field(60.0, gt=0, description="seconds for the whole ladder, until the first byte")
    idle: float = Field(30.0, gt=0, description="seconds without a chunk after the first byte")
    reserve: float = Field(0.5, ge=0, le=0.9, description="share of what is left that a rung leaves to those above it")
    keepalive_after: float | None = Field(
        None, gt=0, description="seconds until a held stream gets its 200 and comments"
    )
    cors: tuple[str, ...] = Field((), description="origins of browsers that may call, e.g. https://app.example; or *")
    reasoning_field: Literal["reasoning_content", "reasoning"] = Field(
        "reasoning_content", description="the one field in which chat clients get a model's reasoning"
    )
    drain: float = Field(20.0, ge=0, description="seconds that requests in flight get after SIGTERM")
    workers: int = Field(
        1, ge=1, le=256, description="processes that serve, one per core; several: Redis for what they must share"
    )
    watch: float = Field(1.0, gt=0, description="seconds between looks at the configuration file")
    tend: bool = Field(
        True, description="look after local engines in the background: health, load, adapters, what they enforce"
    )


class UiSettings(Frozen):
    """`ui:`: the page at `/ui`. The bare words `on` and `off` are `{enabled: true}` and `{enabled: false}`."""

    enabled: bool = True
    key: Literal["admin", "none"] = Field(
        "admin",
        description="admin: where `access` has keys, a key with `admin: true`; none: whoever reaches the address",
    )
    listeners: int = Field(16, ge=1, le=256, description="pages that get live updates at once; further ones get 503")

    @model_validator(mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        # YAML reads the bare words as booleans.
        word = {"on": True, "off": False}.get(value, value) if isinstance(value, str) else value
        return {"enabled": word} if isinstance(word, bool) else value


class RedisSettings(Frozen):
    url: Secret = Field(description="redis://[:PASSWORD@]HOST:PORT/DB, or rediss:// with TLS")
    prefix: str = Field("weir:response:", description="of the keys in Redis")


class ResponsesSettings(Frozen):
    """`responses:`: what the Responses API keeps for `previous_response_id`, by tenant."""

    store: Literal["memory", "redis", "off"] = Field("memory", description="redis: shared by several processes")
    redis: RedisSettings | None = None
    key: Secret | None = Field(
        None,
        description="at least 32 characters; encrypts what goes to Redis (AES-GCM). A new key forgets what was kept",
    )
    ttl: float = Field(86_400.0, gt=0, description="seconds until a response is forgotten")
    max_count: int = Field(10_000, ge=1, description="responses in memory; the one not used for longest goes first")
    max_bytes: int = Field(256 * 2**20, ge=1024, description="bytes of responses in memory")
    timeout: float = Field(0.5, gt=0, description="seconds that the store may take")


class EngineSettings(Frozen):
    """`engines:`: one vLLM server. `weir serve --with-vllm` starts it; otherwise it only says where backends find it."""

    model: str = Field(min_length=1, description="folder (against this file's), or a name on the Hugging Face hub")
    served_as: str | None = Field(
        None, min_length=1, description="model name it answers to; default: last part of `model`"
    )
    adapters: dict[str, str] = Field({}, description="LoRA adapters: the name they answer to > folder or hub name")
    device: Literal["gpu", "cpu"] = "gpu"
    devices: tuple[int, ...] | tuple[tuple[int, ...], ...] = Field(
        (0,), min_length=1, description="GPUs of a replica, several: tensor parallel; or such a list for each replica"
    )
    gpu_memory: float | str = Field(
        0.9, description='share of each device that a replica takes, weights and cache, or "10GiB" of it'
    )
    kv_cache_gib: int = Field(4, ge=1, description="`device: cpu`: GiB of memory for the cache, beside the weights")
    port: int | None = Field(
        None, ge=1, le=65535, description="default: the first free one from 8000 up; replicas take the following ones"
    )
    url: str | None = Field(
        None, description="somebody else starts it (compose, Kubernetes), and it is reached here: http://HOST:PORT"
    )
    max_model_len: int | None = Field(None, gt=0, description="tokens of prompt and answer; default: the model's own")
    tool_parser: str | None = Field(
        "hermes", description="how the model writes tool calls; null: `auto` is not offered"
    )
    max_in_flight: int | None = Field(
        256, ge=1, description="requests running or waiting; further ones get 503 and go up the ladder. null: no limit"
    )
    command: tuple[str, ...] = Field(
        (), description="how to start it; default: `vllm` beside this Python, else on PATH"
    )
    extra: tuple[str, ...] = Field((), description="further flags, as they are")
    env: dict[str, str] = Field({}, description="further variables; no secrets: those it inherits from Weir's own")
    replicas: int = Field(1, ge=1, le=16, description="processes, each with a port of its own, one after the other")
    start_seconds: float = Field(900, gt=0, description="seconds until it must answer /health, downloads included")
    stop_seconds: float = Field(30, gt=0, description="seconds it gets to end after SIGTERM; then SIGKILL")

    @field_validator("gpu_memory")
    @classmethod
    def _memory(cls, value: float | str) -> float | str:
        if isinstance(value, str):
            if re.fullmatch(MEMORY_PATTERN, value):
                return value
            try:
                value = float(value)
            except ValueError:
                raise ValueError('must be a share like 0.6, or a size like "10GiB"') from None
        if not 0 < value <= 1:
            raise ValueError('is a share of the device, above 0 and at most 1; a size is written "10GiB"')
        return value

    @field_validator("env", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> Any:
        """`env: {NAME: 1}` means the text "1"."""
        if not isinstance(value, dict):
            return value
        return {key: str(one) if type(one) in (int, float) else one for key, one in value.items()}

    @field_validator("url")
    @classmethod
    def _plain(cls, value: str | None) -> str | None:
        """`${VLLM_URL:-}` leaves "": nobody else starts it."""
        if not value:
            return None
        return plain_url(value.rstrip("/").removesuffix("/v1"))


class Settings(Frozen):
    backends: dict[Name, SerializeAsAny[BackendConfig]]
    router: RouterSettings
    routes: dict[Name, RouteSettings]
    models: dict[str, ModelSettings] = {}
    embeddings: dict[str, SerializeAsAny[EmbedderConfig]] = {}
    access: Access = Access()
    limits: Limits = Limits()
    capture: Literal["metadata"] = "metadata"
    telemetry: Telemetry = Telemetry()
    server: Server = Server()
    responses: ResponsesSettings = ResponsesSettings()
    ui: UiSettings = UiSettings()
    engines: dict[Name, EngineSettings] = {}
