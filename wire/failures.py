"""What an upstream's refusal means: status, head and body > one BackendError.

Every shape of error body that servers of this protocol send is read here, and nowhere else (OpenAI's object with string code,
vLLM's with an integer code and a Python name as type, a bare string, FastAPI's `detail`, a list, HTML, nothing).

A `BackendError.message` may be logged, so it is made of names and numbers only: backend, status, code, parameter. The upstream's
own sentence may quote the prompt or the key ("Incorrect API key provided: sk-..."); it goes into `detail`, for the caller.

Which class:

    400 413 422 and a context text, or code context_length_exceeded    ContextOverflow   a larger model may do
    413                                                                 ContextOverflow
    429 503 529                                                         Overloaded        with retry_after
    401 402 403 407                                                     Broken            our credentials, never the caller's
    408 5xx, 3xx (redirects are not followed)                           Broken
    other 4xx                                                           Refused
"""

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from msgspec import Struct

from wire.errors import BackendError, Broken, ContextOverflow, Overloaded, Refused
from wire.jsontext import parse

MOST_DETAIL = 2000
"""Characters of the upstream's sentence that are kept."""

_OVERFLOW = re.compile(
    r"context_length_exceeded|maximum context length|context length|context window|context size|prompt is too long"
    r"|input is too long|input tokens exceed|maximum number of tokens allowed|exceed_context_size|max_model_len",
    re.IGNORECASE,
)
_OVERFLOW_STATUSES = {400, 413, 422}
_OURS = {401: "credentials", 402: "credit", 403: "permission", 407: "proxy credentials"}
_CODE = re.compile(r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")
_PARAM = re.compile(r"^[A-Za-z0-9_.\[\]-]{1,100}$")
_BY_NAME = {
    "invalid_request_error": 400, "BadRequestError": 400, "context_length_exceeded": 400, "UnprocessableEntityError": 422,
    "authentication_error": 401, "invalid_api_key": 401, "permission_error": 403, "not_found_error": 404,
    "NotFoundError": 404, "model_not_found": 404, "request_too_large": 413, "rate_limit_error": 429,
    "rate_limit_exceeded": 429, "insufficient_quota": 429, "tokens": 429, "requests": 429,
    "overloaded_error": 503, "server_overloaded": 503, "ServiceUnavailableError": 503,
}  # fmt: skip
"""The status that an error inside a 200 stream would have had."""


class Problem(Struct, frozen=True):
    """An error body, normalised. Empty strings and None where it says nothing."""

    message: str = ""
    code: str | None = None
    param: str | None = None
    type: str = ""
    status: int | None = None
    """A status that the body itself names (vLLM's integer `code`)."""


def problem(body: bytes) -> Problem:
    """Read an error body of any kind. Never raises."""
    try:
        value = parse(body)
    except ValueError:
        text = body.decode("utf-8", "replace").strip()
        return Problem() if text.startswith("<") else Problem(message=text[:MOST_DETAIL])  # a page of HTML says nothing
    return of(value)


def of(value: Any) -> Problem:
    """The same for a decoded body. Never raises."""
    if isinstance(value, list) and value:  # Google wraps its error in a list
        return of(value[0])
    if isinstance(value, str):
        return Problem(message=value[:MOST_DETAIL])
    if not isinstance(value, Mapping):
        return Problem()
    error = value.get("error")
    if isinstance(error, str):  # vLLM's key check: {"error": "Unauthorized"}
        return Problem(message=str(value.get("message") or error)[:MOST_DETAIL])
    if not isinstance(error, Mapping):
        error = value
    message = error.get("message", error.get("detail"))
    if isinstance(message, list):  # FastAPI: {"detail": [{"loc": ..., "msg": ...}]}
        message = "; ".join(str(part.get("msg", "")) for part in message if isinstance(part, Mapping))
    code, kind, param = error.get("code"), error.get("type"), error.get("param")
    number = _status(code)
    return Problem(
        message=message[:MOST_DETAIL] if isinstance(message, str) else "",
        code=code if isinstance(code, str) and _CODE.match(code) else None,
        param=param if isinstance(param, str) and _PARAM.match(param) else None,
        type=kind if isinstance(kind, str) and _CODE.match(kind) else "",
        status=number,
    )


def failure(backend: str, status: int, body: bytes, head: Mapping[str, str]) -> BackendError:
    """What an answer with this status means. `status`, `body` and `head` are kept, for a caller who gets them unchanged."""
    return _failure(backend, status, problem(body), body, head)


def failure_in_stream(backend: str, event: Any, raw: bytes, head: Mapping[str, str]) -> BackendError:
    """What `data: {"error": ...}` inside a 200 stream means. `event` is the decoded event."""
    said = of(event)
    status = said.status or _BY_NAME.get(said.code or "") or _BY_NAME.get(said.type) or 500
    return _failure(backend, status, said, raw, head)


def _failure(backend: str, status: int, said: Problem, body: bytes, head: Mapping[str, str]) -> BackendError:
    kind: type[BackendError]
    code = said.code
    named = ", ".join(part for part in (said.type, code, said.param and f"param {said.param}") if part)
    message = f"{backend}: the upstream answered {status}" + (f" ({named})" if named else "")
    if status == 413 or (status in _OVERFLOW_STATUSES and _overflows(said)):
        kind, code = ContextOverflow, "context_length_exceeded"
    elif status in (429, 503, 529):
        kind = Overloaded
    elif status in _OURS:
        kind = Broken
        message = f"{backend}: the upstream refuses our {_OURS[status]} ({status}); look at this backend's api_key"
    elif 400 <= status < 500 and status != 408:
        kind = Refused
        if status == 404 and code is None and "model" in said.message.lower():
            code = "model_not_found"
    else:
        kind = Broken
    return kind(
        message,
        status=status,
        body=body,
        head=head,
        retry_after=retry_after(head),
        code=code,
        param=said.param,
        detail=said.message,
    )


def _overflows(said: Problem) -> bool:
    return any(_OVERFLOW.search(text) for text in (said.code or "", said.type, said.message))


def _status(code: Any) -> int | None:
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) == 3:
        code = int(code)
    return code if type(code) is int and 400 <= code <= 599 else None


def retry_after(head: Mapping[str, str]) -> float | None:
    """Seconds to wait: `retry-after-ms`, else `retry-after` in seconds or as a date against the answer's own `date`."""
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(head.get(name, "")) / scale
        except ValueError:
            continue
        if 0 <= seconds < 1e9:
            return seconds
    try:
        until, now = parsedate_to_datetime(head["retry-after"]), parsedate_to_datetime(head["date"])
        return max(0.0, (until - now).total_seconds())
    except (KeyError, ValueError, TypeError):  # TypeError: one of the two dates has a zone and the other has none
        return None
