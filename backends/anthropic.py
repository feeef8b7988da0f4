"""Anthropic's Messages API, asked over `POST {base_url}/v1/messages`.

Any dialect's request is translated (`wire.anthropic_request`); one that came in Anthropic's own words goes up as it came, with this rung's
model and without what another model thought; and one that is passed through goes up byte for byte. `anthropic-version` and `anthropic-beta`
of such callers go along unchanged; for all others this backend's own are sent.

What goes up of the caller's credentials: nothing, unless `auth: passthrough`. Then the caller's own key, to this backend's `base_url` only;
and only then is a 401 the caller's own.

A `ping` says that somebody is still there while a model thinks without showing it: it is passed on as an empty chunk, so that nobody
in between gives up. A server that says nothing else for `silence` seconds is given up all the same.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import partial
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from backends._passthrough import judged, presented
from backends._secret import Secret
from backends._steps import Body, Steps
from backends._upstream import encoded, plain_url
from backends.base import BackendConfig, BackendResources
from backends.http.base import Answer, Timeouts
from wire import anthropic_request as wire
from wire import failures
from wire.anthropic_answer import Reader
from wire.errors import BackendError, Broken, TimedOut, Unavailable
from wire.jsontext import parse
from wire.types import Call, Chunk

_MOST_ERROR = 2**20
_MOST_COUNT = 2**16
_NEVER_UP = {
    "authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "x-goog-api-key", "openai-organization",
    "openai-project", "openai-beta", "host", "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade",
    "content-length", "content-type", "content-encoding", "accept", "accept-encoding", "expect", "x-request-id",
}  # fmt: skip


class AnthropicConfig(BackendConfig):
    """`kind: anthropic`."""

    base_url: str = Field("https://api.anthropic.com", description="URL up to and without /v1/messages")
    api_key: Secret | None = Field(None, description="${NAME} or ${file:PATH}; absent: no key is sent")
    key_header: str = Field("x-api-key", description="header of the key; `authorization` says Bearer before it")
    auth: Literal["key", "passthrough"] = Field(
        "key", description="passthrough: the caller's own key is sent, and api_key is not used"
    )
    model: str | None = Field(None, min_length=1, description="model asked for; absent: the name that the caller used")
    version: str = Field("2023-06-01", description="anthropic-version, where the caller brings none")
    beta: tuple[str, ...] = Field((), description="anthropic-beta features, where the caller brings none")
    max_tokens: int = Field(8192, ge=1, description="limit on output tokens, where the caller names none")
    effort: wire.Effort = Field(
        "ignore",
        description="what `reasoning_effort` becomes: nothing, output_config.effort, or thinking with a token budget",
    )
    headers: dict[str, str] = Field({}, description="extra headers, the same for every request")
    connect: float = Field(5.0, gt=0, description="seconds to a connection, waiting for a free one included")
    first_byte: float = Field(30.0, gt=0, description="seconds to the first byte of a streamed answer")
    idle: float = Field(30.0, gt=0, description="seconds between two events of a streamed answer, pings included")
    silence: float = Field(300.0, gt=0, description="seconds of nothing but pings")
    count: float = Field(10.0, gt=0, description="seconds for /v1/messages/count_tokens; then tokens are estimated")
    drop: tuple[str, ...] = Field((), description="body fields that this upstream refuses")
    modalities: tuple[Literal["text", "image", "audio", "file"], ...] = ("text", "image", "file")
    cloud: bool = True

    @field_validator("base_url")
    @classmethod
    def _plain_url(cls, value: str) -> str:
        return plain_url(value).removesuffix("/v1")

    def missing(self) -> str:
        return self.api_key.missing if self.api_key and self.auth == "key" else ""


class Anthropic:
    """See the module."""

    Config = AnthropicConfig
    dialect = "messages"

    def __init__(self, name: str, config: AnthropicConfig, resources: BackendResources) -> None:
        self.name = name
        self.config = config
        self.facts: Mapping[str, Any] = {"upstream": urlsplit(config.base_url).netloc, "model": config.model or ""}
        self._http = resources.http
        self._url = f"{config.base_url}/v1/messages"

    def stream(self, call: Call) -> AsyncGenerator[Chunk, None]:
        """Answer `call`. Raises BackendError; with `call.raw`, its status, body and head are the upstream's own."""
        return Steps(None, partial(self._begin, call))

    async def _begin(self, call: Call, steps: Steps) -> Sequence[Chunk]:
        """What the first block of the body brings, and what reads the others in `steps`."""
        body = call.raw or encoded(self.name, self.body(call))
        try:
            posted = self._http.post(self._url, body, self._headers(call), self._timeouts(call))
            answer = await posted.__aenter__()
            if not 200 <= answer.status < 300:
                try:
                    raise failures.failure(self.name, answer.status, await answer.read(_MOST_ERROR), answer.headers)
                finally:
                    await posted.__aexit__(None, None, None)
        except BackendError as exc:
            raise self.judged(call, exc) from exc.__cause__
        steps.rest = rest = Body(self, call, posted, answer, self._reader(call, answer), steps)
        return await rest.asend(None)

    async def count(self, call: Call) -> int:
        """Input tokens of `call`, as Anthropic counts them. Raises BackendError."""
        body = self.body(call)
        for field in (
            "max_tokens",
            "stream",
            "temperature",
            "top_p",
            "top_k",
            "stop_sequences",
            "metadata",
            "service_tier",
        ):
            body.pop(field, None)
        seconds = min(self.config.count, call.seconds)
        limits = Timeouts(min(self.config.connect, seconds), seconds, seconds, seconds)
        url = f"{self._url}/count_tokens"
        try:
            async with self._http.post(url, encoded(self.name, body), self._headers(call), limits) as answer:
                data = await answer.read(_MOST_COUNT)
                if answer.status != 200:
                    raise failures.failure(self.name, answer.status, data, answer.headers)
        except BackendError as exc:
            raise self.judged(call, exc) from exc.__cause__
        try:
            counted = parse(data)["input_tokens"]
        except (ValueError, TypeError, KeyError, IndexError):
            counted = None
        if type(counted) is not int or counted < 0:
            raise Broken(f"{self.name}: the answer is no count of tokens")
        return int(counted)

    def body(self, call: Call) -> dict[str, Any]:
        """The request as Anthropic wants it. The caller's body is not changed. Raises Unsupported."""
        model = self._model(call)
        if call.native is not None and call.dialect == self.dialect:
            body = wire.own(call.native, model=model, asked=call.model, constraint=call.constraint)
        else:
            body = wire.request(
                call.body,
                model=model,
                asked=call.model,
                max_tokens=self.config.max_tokens,
                effort=self.config.effort,
                constraint=call.constraint,
            )
        for field in self.config.drop:
            body.pop(field, None)
        if call.live:
            body["stream"] = True
        return body

    def _model(self, call: Call) -> str:
        return self.config.model or call.model or str(call.body.get("model") or "")

    def _reader(self, call: Call, answer: Answer) -> Reader:
        return Reader(
            self.name,
            answer.headers,
            model=self._model(call),
            asked=call.model,
            native=call.dialect == self.dialect,
            faithful=bool(call.raw),
        )

    def _headers(self, call: Call) -> dict[str, str]:
        config = self.config
        headers = {
            name: value
            for name, value in ((name.lower(), value) for name, value in call.headers.items())
            if name not in _NEVER_UP and not name.startswith("x-weir-")
        }
        if call.dialect != self.dialect:
            headers = {name: value for name, value in headers.items() if not name.startswith("anthropic-")}
        headers.setdefault("anthropic-version", config.version)
        if config.beta:
            headers.setdefault("anthropic-beta", ",".join(config.beta))
        headers["content-type"] = "application/json"
        headers["accept"] = "text/event-stream" if call.live else "application/json"
        if call.request_id:
            headers["x-request-id"] = call.request_id
        headers.update((name.lower(), value) for name, value in config.headers.items())
        headers.update(self._key(call))
        return headers

    def _key(self, call: Call) -> dict[str, str]:
        if self.config.auth == "passthrough":
            own = presented(self.name, call.credential)
            return {"authorization": f"Bearer {own.key}"} if own.bearer else {"x-api-key": own.key}
        if self.config.api_key is None:
            return {}
        key = self.config.api_key.reveal()
        if not key:
            variable = self.config.api_key.missing
            raise Unavailable(f"{self.name}: no key; set {variable}", variable=variable)
        name = self.config.key_header.lower()
        return {name: f"Bearer {key}" if name == "authorization" else key}

    def judged(self, call: Call, exc: BackendError) -> BackendError:
        return judged(self.name, exc) if self.config.auth == "passthrough" else exc

    def late(self, call: Call, silent: float, heard: int) -> TimedOut | None:
        return TimedOut(f"{self.name}: pings only", phase="idle") if silent > self.config.silence else None

    def _timeouts(self, call: Call) -> Timeouts:
        config = self.config
        if not call.live:  # the head comes when the answer is whole
            return Timeouts(min(config.connect, call.seconds), call.seconds, call.seconds, call.seconds)
        # No total: how long a stream that was let through may last is not this rung's affair.
        return Timeouts(min(config.connect, call.seconds), min(config.first_byte, call.seconds), config.idle)
