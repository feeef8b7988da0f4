"""What an upstream's refusal means."""

from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.errors import BackendError, Broken, ContextOverflow, Overloaded, Refused
from wire.failures import Problem, failure, failure_in_stream, problem, retry_after


def _error(**fields: Any) -> bytes:
    return orjson.dumps({"error": fields})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            _error(message="Bad", type="invalid_request_error", param="messages.0.content", code="bad_value"),
            Problem("Bad", "bad_value", "messages.0.content", "invalid_request_error"),
        ),
        (b'{"error":"Unauthorized"}', Problem("Unauthorized")),
        (
            _error(message="no such model", type="NotFoundError", param=None, code=404),
            Problem("no such model", None, None, "NotFoundError", 404),
        ),
        (_error(message="slow down", code="429"), Problem("slow down", None, None, "", 429)),
        (b'{"detail":"Not Found"}', Problem("Not Found")),
        (
            b'{"detail":[{"loc":["body"],"msg":"field required"},{"msg":"too short"}]}',
            Problem("field required; too short"),
        ),
        (
            b'{"object":"error","message":"old vLLM","type":"BadRequestError","code":400}',
            Problem("old vLLM", None, None, "BadRequestError", 400),
        ),
        (b'[{"error":{"code":400,"message":"Google","status":"INVALID_ARGUMENT"}}]', Problem("Google", status=400)),
        (
            b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',
            Problem("Overloaded", type="overloaded_error"),
        ),
        (b"<html><body>502 Bad Gateway</body></html>", Problem()),
        (b"", Problem()),
        (b"upstream connect error", Problem("upstream connect error")),
        (b"5", Problem()),
        (b"null", Problem()),
        (_error(message=7, type=[], param={}, code=1.5), Problem()),
    ],
)
def test_problem(body: bytes, said: Problem) -> None:
    """Every shape of error body that servers send is read into the same four facts."""
    assert problem(body) == said


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (400, _error(message="Bad", code="invalid_value"), Refused, "invalid_value"),
        (
            404,
            _error(message="The model `x` does not exist", type="NotFoundError", code=404),
            Refused,
            "model_not_found",
        ),
        (404, b'{"detail":"Not Found"}', Refused, None),
        (422, b"", Refused, None),
        (401, b'{"error":"Unauthorized"}', Broken, None),
        (403, b"<html>", Broken, None),
        (402, b"", Broken, None),
        (408, b"", Broken, None),
        (429, _error(message="slow", code="rate_limit_exceeded"), Overloaded, "rate_limit_exceeded"),
        (503, b"", Overloaded, None),
        (529, b"", Overloaded, None),
        (500, b"", Broken, None),
        (502, b"<html>", Broken, None),
        (307, b"", Broken, None),
        (413, b"", ContextOverflow, "context_length_exceeded"),
        (400, _error(message="too long", code="context_length_exceeded"), ContextOverflow, "context_length_exceeded"),
        (
            400,
            _error(message="This model's maximum context length is 4096 tokens.", code=400),
            ContextOverflow,
            "context_length_exceeded",
        ),
        (
            400,
            _error(message="Input length (9) exceeds model's maximum context length (4)."),
            ContextOverflow,
            "context_length_exceeded",
        ),
        (
            400,
            _error(message="Input tokens exceed the configured limit of 272000 tokens."),
            ContextOverflow,
            "context_length_exceeded",
        ),
        (
            400,
            _error(message="prompt is too long: 210000 tokens > 200000 maximum"),
            ContextOverflow,
            "context_length_exceeded",
        ),
        (
            400,
            _error(message="request exceeds the available context size", type="exceed_context_size_error"),
            ContextOverflow,
            "context_length_exceeded",
        ),
        (500, _error(message="maximum context length"), Broken, None),
    ],
)
def test_failure(status: int, body: bytes, kind: type[BackendError], code: str | None) -> None:
    """Status and body decide which error it is; what the upstream said is kept for a caller who gets it unchanged."""
    head = {"x-request-id": "r1"}
    exc = failure("cloud", status, body, head)
    assert type(exc) is kind
    assert (exc.status, exc.body, exc.head, exc.code) == (status, body, head, code)


@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_message_can_be_logged(status: int) -> None:
    """The message names the backend and repeats nothing that the upstream wrote in sentences: they quote prompts and keys."""
    secret = "Incorrect API key provided: sk-secret; your prompt was: hello"
    exc = failure(
        "cloud", status, _error(message=secret, type="invalid_request_error", param="messages", code="sk secret"), {}
    )
    assert "cloud" in exc.message
    assert str(exc) == exc.message
    assert "sk" not in exc.message
    assert "prompt" not in exc.message
    assert exc.detail == secret


def test_our_credentials() -> None:
    """An upstream's 401 is about our key, and says where to look."""
    assert "api_key" in failure("cloud", 401, b"", {}).message


@pytest.mark.parametrize(
    ("event", "kind", "status"),
    [
        ({"error": {"message": "bad schema", "type": "BadRequestError", "code": 400}}, Refused, 400),
        ({"error": {"message": "gone", "type": "server_error", "code": None}}, Broken, 500),
        ({"error": {"message": "slow", "type": "x", "code": "rate_limit_exceeded"}}, Overloaded, 429),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, Overloaded, 503),
        (
            {"error": {"message": "maximum context length is 4", "type": "BadRequestError", "code": 400}},
            ContextOverflow,
            400,
        ),
        ({"error": "gone"}, Broken, 500),
        ({"error": {"code": 200}}, Broken, 500),
    ],
)
def test_failure_in_stream(event: dict[str, Any], kind: type[BackendError], status: int) -> None:
    """An error inside a 200 stream is what it would have been as an answer."""
    exc = failure_in_stream("vllm", event, b"raw", {})
    assert type(exc) is kind
    assert (exc.status, exc.body) == (status, b"raw")


@pytest.mark.parametrize(
    ("head", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Fri, 06 Nov 2026 10:00:30 GMT", "date": "Fri, 06 Nov 2026 10:00:00 GMT"}, 30.0),
        ({"retry-after": "Fri, 06 Nov 2026 09:00:00 GMT", "date": "Fri, 06 Nov 2026 10:00:00 GMT"}, 0.0),
        ({"retry-after": "Fri, 06 Nov 2026 10:00:30 GMT"}, None),
    ],
)
def test_retry_after(head: Mapping[str, str], seconds: float | None) -> None:
    """Milliseconds, seconds, or a date measured against the answer's own; nonsense is nothing."""
    assert retry_after(head) == seconds


_odd = st.recursive(
    st.none() | st.integers(-(2**60), 2**60) | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["error", "code", "type", "param", "message", "detail", "msg"]), inner)
    ),
)


@given(st.integers(300, 599), st.binary(max_size=80) | _odd.map(orjson.dumps))
def test_any_refusal(status: int, body: bytes) -> None:
    """Whatever the body, it becomes a BackendError, whose message stays short."""
    exc = failure("b", status, body, {})
    assert isinstance(exc, BackendError)
    assert len(exc.message) < 300
