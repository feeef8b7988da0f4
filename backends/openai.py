"""Any OpenAI-compatible server, asked over `POST {base_url}/chat/completions`.

What of a request goes up: its body with this rung's model and this rung's spelling of the constraint, this rung's key, the
headers that the surface lets through, `x-request-id`. Never the caller's credentials, whatever `Call.headers` holds; but for the
key itself where `auth: passthrough` says so.

After [DONE] the stream is over, but its connection is only free once the body's end has come too: it gets 50 ms (`_upstream.linger`).
A server that sends [DONE] and then keeps the connection open costs that much, not an idle timeout.
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
from backends.http.base import Standing, Timeouts
from wire import failures
from wire.errors import BackendError, TimedOut, Unavailable
from wire.openai import MOST_BODY, Reader, answered, response_format, says, streams
from wire.types import Call, Chunk

_MOST_ERROR = 2**20
"""Bytes of an error body that are read."""

_NEVER_UP = {
    "authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "x-goog-api-key", "openai-organization",
    "openai-project", "host", "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "content-length",
    "content-type", "content-encoding", "accept", "accept-encoding", "expect", "x-request-id",
}  # fmt: skip


class OpenAIConfig(BackendConfig):
    """`kind: openai`."""

    base_url: str = Field("https://api.openai.com/v1", description="URL up to and without /chat/completions")
    api_key: Secret | None = Field(None, description="${NAME} or ${file:PATH}; absent: no key is sent")
    key_header: str = Field("authorization", description="header of the key; `authorization` says Bearer before it")
    auth: Literal["key", "passthrough"] = Field(
        "key", description="passthrough: the caller's own key is sent, and api_key is not used"
    )
    model: str | None = Field(None, min_length=1, description="model asked for; absent: the name that the caller used")
    headers: dict[str, str] = Field({}, description="extra headers, the same for every request")
    organization: str | None = None
    project: str | None = None
    connect: float = Field(5.0, gt=0, description="seconds to a connection, waiting for a free one included")
    first_byte: float = Field(30.0, gt=0, description="seconds to the first byte of a streamed answer")
    idle: float = Field(30.0, gt=0, description="seconds between two events of a streamed answer")
    tokens_field: Literal["max_completion_tokens", "max_tokens", "keep"] = Field(
        "keep", description="how the upstream calls the limit on output tokens; keep: as the caller wrote it"
    )
    drop: tuple[str, ...] = Field(
        (), description="body fields that this upstream refuses, e.g. logprobs for some models"
    )
    modalities: tuple[Literal["text", "image", "audio", "file"], ...] = ("text", "image", "audio", "file")
    cloud: bool = True

    @field_validator("base_url")
    @classmethod
    def _plain_url(cls, value: str) -> str:
        return plain_url(value)

    def missing(self) -> str:
        return self.api_key.missing if self.api_key and self.auth == "key" else ""


class OpenAI:
    """See the module."""

    Config: type[OpenAIConfig] = OpenAIConfig

    def __init__(self, name: str, config: OpenAIConfig, resources: BackendResources) -> None:
        self.name = name
        self.config = config
        self.facts: Mapping[str, Any] = {"upstream": urlsplit(config.base_url).netloc, "model": config.model or ""}
        self._http = resources.http
        self._url = f"{config.base_url}/chat/completions"
        # pydantic's models look for each attribute in their private ones too (.1 us): what every request reads is read once
        self._model, self._connect, self._passthrough = config.model, config.connect, config.auth == "passthrough"
        self._api_key = None if self._passthrough else config.api_key
        self._key_header = config.key_header.lower()
        self._limit, self._drop = config.tokens_field, config.drop
        self._sent_key = ""
        self._live, self._whole = self._standing("")
        """The headers that are the same for every stream that is asked for, and for every whole answer, with `_sent_key`."""

    def stream(self, call: Call) -> AsyncGenerator[Chunk, None]:
        """Answer `call`. Raises BackendError; with `call.raw`, its status, body and head are the upstream's own."""
        return Steps(None, partial(self._begin, self._url, call))

    def ask(self, url: str, call: Call) -> Steps:
        """Answer `call` from `url`. As `stream`."""
        return Steps(None, partial(self._begin, url, call))

    async def _begin(self, url: str, call: Call, steps: Steps) -> Sequence[Chunk]:
        """An answer that comes whole; else what its first block brings, and what reads the others in `steps`."""
        body = call.raw or encoded(self.name, self.body(call))
        try:
            headers = self._headers(call)
            request_id = "" if "x-request-id" in headers else call.request_id
            posted = self._http.post(url, body, headers, self._timeouts(call), request_id)
            answer = await posted.__aenter__()
            good = 200 <= answer.status < 300
            if good and (call.raw or streams(answer.headers)):
                reader = Reader(self.name, answer.headers, faithful=bool(call.raw))
                steps.rest = rest = Body(self, call, posted, answer, reader, steps)
            else:
                try:
                    if not good:
                        raise failures.failure(self.name, answer.status, await answer.read(_MOST_ERROR), answer.headers)
                    data = answer.whole
                    if data is None:
                        data = await answer.read(MOST_BODY)
                    found = answered(self.name, answer.headers, data)
                    steps.over = True
                    return found
                finally:
                    if not answer.ended:
                        await posted.__aexit__(None, None, None)
        except BackendError as exc:
            raise self.judged(call, exc) from exc.__cause__
        return await rest.asend(None)

    def body(self, call: Call) -> dict[str, Any]:
        """The request as this upstream wants it. The caller's body is not changed. Raises BackendError."""
        body = {**call.body, "model": self._model or call.model or call.body.get("model")}
        if call.live:
            options = body.get("stream_options") or {}
            kept = options if isinstance(options, (dict, Mapping)) else {}  # a dict is told at once
            body |= {"stream": True, "stream_options": {**kept, "include_usage": True}}
        else:
            if "stream" in body:
                del body["stream"]
            if "stream_options" in body:
                del body["stream_options"]
        if call.logprobs:  # one alternative at least: without it nobody can tell a forced token from a sure one
            top = body.get("top_logprobs")
            body |= {"logprobs": True, "top_logprobs": max(2, top if type(top) is int else 0)}
        body = self.spelled(call, body)
        if self._limit != "keep":
            other = "max_tokens" if self._limit == "max_completion_tokens" else "max_completion_tokens"
            if other in body:
                value = body.pop(other)
                body.setdefault(self._limit, value)
        for field in self._drop:
            body.pop(field, None)
        return body

    def spelled(self, call: Call, body: dict[str, Any]) -> dict[str, Any]:
        """`body`, which may be changed, with the constraint in this server's words. A choice, regex or grammar has none here: the
        validator judges."""
        constraint = call.constraint
        if constraint is None or says(body.get("response_format"), constraint):
            return body
        wanted = response_format(constraint)
        return body if wanted is None else {**body, "response_format": wanted}

    def judged(self, call: Call, exc: BackendError) -> BackendError:
        return self.judge(call, judged(self.name, exc) if self._passthrough else exc)

    def judge(self, call: Call, exc: BackendError) -> BackendError:
        """What a failure means for this kind of server; here: what it says."""
        return exc

    def _headers(self, call: Call) -> Mapping[str, str]:
        """The headers of `call`, but for its `x-request-id`: mostly the standing ones. Raises Unavailable."""
        if self._api_key is not None:
            key = self._api_key.reveal()
            if not key:
                variable = self._api_key.missing
                raise Unavailable(f"{self.name}: no key; set {variable}", variable=variable)
            if key != self._sent_key:
                self._sent_key, (self._live, self._whole) = key, self._standing(key)
        standing = self._live if call.live else self._whole
        if not call.headers and not self._passthrough:
            return standing
        headers = {**standing}
        for given, value in call.headers.items():
            name = given.lower()
            if name not in headers and name not in _NEVER_UP and not name.startswith("x-weir-"):
                headers[name] = value
        if self._passthrough:
            headers |= self._credential(presented(self.name, call.credential).key)
        return headers

    def _standing(self, key: str) -> tuple[Standing, Standing]:
        """The headers of every stream, and of every whole answer. key: "" for none."""
        own = {"openai-organization": self.config.organization, "openai-project": self.config.project}
        kept = {name: value for name, value in own.items() if value}
        kept |= {name.lower(): value for name, value in self.config.headers.items()}
        kept |= self._credential(key) if key else {}
        live, whole = (
            {"content-type": "application/json", "accept": accept, **kept}
            for accept in ("text/event-stream", "application/json")
        )
        return Standing(live), Standing(whole)

    def _credential(self, key: str) -> dict[str, str]:
        return {self._key_header: f"Bearer {key}" if self._key_header == "authorization" else key}

    def _timeouts(self, call: Call) -> Timeouts:
        seconds = call.seconds
        connect = self._connect if self._connect < seconds else seconds
        if not call.live:  # the head comes when the answer is whole
            return Timeouts(connect, seconds, seconds, seconds)
        # No total: how long a stream that was let through may last is not this rung's affair.
        return Timeouts(connect, min(self.config.first_byte, seconds), self.config.idle)

    def late(self, call: Call, silent: float, heard: int) -> TimedOut | None:
        if silent <= (self.config.idle if heard else self._timeouts(call).first_byte):
            return None
        return TimedOut(f"{self.name}: keep-alives only", phase="idle" if heard else "first_byte")
