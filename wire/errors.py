"""The tree of no.

    WeirError                        what the caller gets: status, type, code, param, message
     +- BadRequest        400        invalid_request_error
     +- TooLarge          413
     +- Unauthorized      401        invalid_api_key
     +- NotFound          404        model_not_found, not_found
     +- RateLimited       429        rate_limit_exceeded
     +- NoAnswer          502/503/504  no_valid_answer, escalation_unavailable, deadline_exceeded, upstream_error
     +- Replayed          theirs     the upstream's own error, passed through unchanged
    BackendError                     a rung did not answer; `reason` is one of the closed list of escalation reasons
     +- Unavailable                  not configured: names the variable to set
     +- Unsupported                  this rung cannot do what this request asks
     +- Refused                      the upstream answered 4xx: the request, as it stands, is not for this rung
     +- ContextOverflow              the prompt is longer than the rung's context
     +- Overloaded                   429, 503, a full queue
     +- TimedOut                     connect, first byte, idle or total
     +- Broken                       transport, 5xx, an answer that cannot be read

A bad answer is a value (`Verdict`), a missing answer is an exception: one of the second group. Foreign errors become these
in one place each: HTTP ones in `backends/http/`.
"""

from collections.abc import Mapping
from typing import Any, Literal

Reason = Literal[
    "schema", "truncated", "refused", "tool_arguments", "low_confidence", "disagreement", "unsupported", "timeout",
    "overload", "backend_error", "context_overflow", "policy",
]  # fmt: skip
"""Why a rung's answer was not taken: the closed list, also the values of the metric label."""


class WeirError(Exception):
    """An error with the caller's status and OpenAI's error object.

    `message` names the field and the way out. `headers` are added to the response.
    """

    status = 500
    type = "server_error"
    code: str | None = None
    request_id = ""
    """Under which the caller may ask about it; the edge fills it in, for dialects that say it in the body."""

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        status: int | None = None,
        type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code
        if status is not None:
            self.status = status
        if type is not None:
            self.type = type
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """OpenAI's error object: all four keys, always."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


class BadRequest(WeirError):
    status = 400
    type = "invalid_request_error"


class TooLarge(BadRequest):
    status = 413
    code = "request_too_large"


class Unauthorized(WeirError):
    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"


class NotFound(BadRequest):
    status = 404
    code = "not_found"


class RateLimited(WeirError):
    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class NoAnswer(WeirError):
    """No rung gave an answer that may be delivered."""

    status = 502
    code = "no_valid_answer"


class Replayed(WeirError):
    """An upstream's own error, for a request that was passed through unchanged: its status, headers and bytes as they came."""

    code = "upstream_error"

    def __init__(self, message: str, *, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        super().__init__(message, status=status, headers=headers)
        self.raw = body


class BackendError(Exception):
    """A rung that did not answer.

    status, body, head: what the upstream said, when it said anything (for a request that is passed through unchanged).
    retry_after: seconds, when the upstream named them.
    detail: the upstream's own words, for the caller only. They may quote the prompt: never log them; `message` may be logged.
    """

    reason: Reason = "backend_error"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        body: bytes = b"",
        head: Mapping[str, str] | None = None,
        retry_after: float | None = None,
        code: str | None = None,
        param: str | None = None,
        detail: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.status = status
        self.body = body
        self.head = dict(head or {})
        self.retry_after = retry_after
        self.code = code
        self.param = param


class Unavailable(BackendError):
    """The rung is not configured. `variable` is what to set."""

    reason: Reason = "backend_error"

    def __init__(self, message: str, *, variable: str = "") -> None:
        super().__init__(message)
        self.variable = variable


class Unsupported(BackendError):
    reason: Reason = "unsupported"


class Refused(BackendError):
    reason: Reason = "backend_error"


class ContextOverflow(BackendError):
    reason: Reason = "context_overflow"


class Overloaded(BackendError):
    reason: Reason = "overload"


class TimedOut(BackendError):
    """`phase` is connect, first_byte, idle or total."""

    reason: Reason = "timeout"

    def __init__(self, message: str, *, phase: str = "total") -> None:
        super().__init__(message)
        self.phase = phase


class Broken(BackendError):
    reason: Reason = "backend_error"
