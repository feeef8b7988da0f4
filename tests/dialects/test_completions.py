"""gateway.dialects.completions: legacy completions <-> the canonical chat body."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects import completions
from gateway.dialects.base import Caller, Stamp
from gateway.fold import Fold
from wire.errors import BadRequest, NoAnswer
from wire.types import Asked, Chunk

STAMP = Stamp(id="1", created=7, model="asked")
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def understood(**body: Any) -> Asked:
    whole = {"model": "weir", "prompt": "once upon", **body}
    return completions.understand(whole, orjson.dumps(whole), Caller({"x-session-id": "s"}, "tenant"))


def refused(**body: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        understood(**body)
    return caught.value


def entry(token: str, logprob: float, *others: tuple[str, float]) -> dict[str, Any]:
    tops = [{"token": name, "logprob": value, "bytes": None} for name, value in others]
    return {"token": token, "logprob": logprob, "bytes": None, "top_logprobs": tops}


def whole(asked: Asked, *chunks: Chunk) -> dict[str, Any]:
    fold = Fold()
    for chunk in chunks:
        fold.add(chunk)
    told: dict[str, Any] = orjson.loads(completions.whole(asked, STAMP, fold))
    return told


def events(data: bytes) -> list[dict[str, Any]]:
    blocks = data.decode().split("\n\n")
    assert blocks.pop() == ""
    return [orjson.loads(block.removeprefix("data: ")) for block in blocks if block != "data: [DONE]"]


def stream(asked: Asked, *chunks: Chunk) -> list[dict[str, Any]]:
    writer = completions.writer(asked, STAMP)
    data = b"".join([writer.feed(chunk) for chunk in chunks] + [writer.end()])
    assert data.endswith(b"data: [DONE]\n\n")
    assert data.count(b"[DONE]") == 1
    return events(data)


# --- in ---------------------------------------------------------------------------------------------------------------------------


def test_a_prompt_becomes_one_user_message() -> None:
    """Routing and rungs see a chat: the prompt as its only message, everything else as it was."""
    asked = understood(
        max_tokens=9, temperature=0.5, top_p=0.9, stop=["x"], user="u", seed=3, presence_penalty=1, odd=1
    )
    assert asked.body == {
        "model": "weir", "max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "stop": ["x"], "user": "u", "seed": 3,
        "presence_penalty": 1, "odd": 1, "messages": [{"role": "user", "content": "once upon"}],
    }  # fmt: skip
    assert asked.query.text == "once upon"
    assert asked.query.tenant == "tenant"
    assert asked.query.session
    assert asked.dialect == "completions"


def test_one_prompt_in_a_list_is_that_prompt() -> None:
    """LangChain sends its one prompt in a list."""
    assert understood(prompt=["a"]).body["messages"] == [{"role": "user", "content": "a"}]


@pytest.mark.parametrize("prompt", [["a", "b"], [1, 2], [[1, 2]], [], None, {}, [None], 5])
def test_what_is_no_one_prompt_is_refused_by_name(prompt: Any) -> None:
    """Several prompts, token ids and other shapes are a 400 that names the field."""
    error = refused(prompt=prompt)
    assert error.status == 400
    assert (error.param or "").startswith("prompt")


def test_several_prompts_are_told_the_way_out() -> None:
    """The error says how to go on."""
    assert "one prompt per request" in refused(prompt=["a", "b"]).message
    assert "string" in refused(prompt=[[1]]).message


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("suffix", {"suffix": "the end"}),
        ("best_of", {"best_of": 3}),
        ("best_of", {"best_of": 3, "n": 2}),
        ("echo", {"echo": True, "logprobs": 0}),
        ("messages", {"messages": [{"role": "user", "content": "x"}]}),
        ("tools", {"tools": [{"type": "function", "function": {"name": "f"}}]}),
    ],
)
def test_what_a_chat_cannot_do_is_unsupported(field: str, body: dict[str, Any]) -> None:
    """Never silently dropped: 400 unsupported_parameter, naming the field."""
    error = refused(**body)
    assert (error.status, error.code, error.param) == (400, "unsupported_parameter", field)


@pytest.mark.parametrize(
    "body", [{"suffix": ""}, {"suffix": None}, {"best_of": 1}, {"best_of": 2, "n": 2}, {"echo": False}]
)
def test_what_changes_nothing_is_taken(body: dict[str, Any]) -> None:
    """Defaults that are written out are no reason for an error, and do not go up."""
    assert not set(understood(**body).body) & {"suffix", "best_of", "echo", "prompt"}


@pytest.mark.parametrize(
    ("field", "value"),
    [("logprobs", 6), ("logprobs", True), ("logprobs", -1), ("echo", "yes"), ("best_of", 21), ("n", 0), ("stream", 1),
     ("temperature", 3), ("suffix", 4), ("model", None), ("stop", [1])],
)  # fmt: skip
def test_a_bad_field_is_named(field: str, value: Any) -> None:
    """400 with `param`, also where the chat dialect is who looks."""
    assert (refused(**{field: value}).param or "").startswith(field)


def test_best_of_below_n_is_refused() -> None:
    """As OpenAI does."""
    assert refused(best_of=1, n=2).param == "best_of"


def test_a_body_that_is_no_object_is_refused() -> None:
    """400, never a crash."""
    with pytest.raises(BadRequest):
        completions.understand([1], b"[1]", Caller())


@pytest.mark.parametrize("shown", [0, 5])
def test_logprobs_are_asked_for_in_the_words_of_chat(shown: int) -> None:
    """An integer here, a flag and a number there; 0 still asks for the sampled token's."""
    asked = understood(logprobs=shown)
    assert asked.wants.logprobs
    assert asked.body["logprobs"] is True
    assert asked.body["top_logprobs"] == shown


# --- out --------------------------------------------------------------------------------------------------------------------------


def test_a_whole_answer() -> None:
    """A text_completion with the text, finish_reason, usage, and the asked name as model."""
    told = whole(understood(), Chunk(delta={"role": "assistant", "content": " a time"}, finish="length", usage=USAGE))
    assert told == {
        "id": "cmpl-1", "object": "text_completion", "created": 7, "model": "asked", "usage": USAGE,
        "choices": [{"text": " a time", "index": 0, "logprobs": None, "finish_reason": "length"}],
    }  # fmt: skip


def test_an_answer_without_a_choice_is_an_empty_one() -> None:
    """Clients read choices[0]: it is always there."""
    told = whole(understood())
    assert told["choices"] == [{"text": "", "index": 0, "logprobs": None, "finish_reason": "stop"}]
    assert told["usage"]["total_tokens"] == 0


def test_echo_puts_the_prompt_before_every_choice() -> None:
    """`echo: true`: prompt and answer as one text."""
    told = whole(
        understood(echo=True, n=2),
        Chunk(choice=0, delta={"content": " a"}, finish="stop"),
        Chunk(choice=1, delta={"content": " b"}, finish="stop"),
    )
    assert [choice["text"] for choice in told["choices"]] == ["once upon a", "once upon b"]


def test_reasoning_is_no_part_of_the_text_and_a_refusal_is() -> None:
    """A completion has one text: what the model says to the caller."""
    told = whole(understood(), Chunk(delta={"reasoning_content": "hm", "refusal": "no"}, finish="stop"))
    assert told["choices"][0]["text"] == "no"


def test_logprobs_are_written_in_the_older_form() -> None:
    """Parallel lists; at most `logprobs` alternatives, the likeliest, and always the token itself; offsets count characters."""
    content = [
        entry("ab", -0.1, ("x", -3.0), ("ab", -0.1), ("y", -2.0)),
        entry("c", -4.0, ("z", -0.2), ("y", -0.3), ("c", -4.0)),
    ]
    asked = understood(logprobs=2)
    told = whole(asked, Chunk(delta={"content": "abc"}, finish="stop", logprobs={"content": content}))
    assert told["choices"][0]["logprobs"] == {
        "tokens": ["ab", "c"],
        "token_logprobs": [-0.1, -4.0],
        "top_logprobs": [{"ab": -0.1, "y": -2.0}, {"z": -0.2, "y": -0.3, "c": -4.0}],
        "text_offset": [0, 2],
    }


def test_logprobs_are_there_only_when_asked_for() -> None:
    """The gateway asks for its own checks: those are not shown."""
    chunk = Chunk(delta={"content": "a"}, finish="stop", logprobs={"content": [entry("a", -0.1)]})
    assert whole(understood(), chunk)["choices"][0]["logprobs"] is None
    assert stream(understood(stream=True), chunk)[0]["choices"][0]["logprobs"] is None


def test_a_stream() -> None:
    """Text as it comes, then finish_reason alone, then [DONE]; the same id, object and model throughout; no role, no usage."""
    told = stream(
        understood(stream=True),
        Chunk(delta={"role": "assistant", "content": ""}),
        Chunk(delta={"content": " a"}),
        Chunk(delta={"content": " b"}),
        Chunk(finish="stop"),
        Chunk(usage=USAGE),
    )
    assert [event["choices"][0]["text"] for event in told] == [" a", " b", ""]
    assert [event["choices"][0]["finish_reason"] for event in told] == [None, None, "stop"]
    assert {(event["id"], event["object"], event["created"], event["model"]) for event in told} == {
        ("cmpl-1", "text_completion", 7, "asked")
    }
    assert all("usage" not in event for event in told)


def test_usage_comes_once_and_last_when_asked_for() -> None:
    """stream_options.include_usage: null in every event, then one with no choice."""
    asked = understood(stream=True, stream_options={"include_usage": True})
    told = stream(asked, Chunk(delta={"content": "a"}, finish="stop", usage=USAGE))
    assert [event["usage"] for event in told] == [None, None, USAGE]
    assert told[-1]["choices"] == []


def test_a_stream_echoes_the_prompt_first() -> None:
    """Once per choice, before its first piece."""
    asked = understood(stream=True, echo=True, n=2)
    pieces = [Chunk(choice=c, delta={"content": t}) for c, t in ((0, " a"), (1, " x"), (0, " b"))]
    told = stream(asked, *pieces, Chunk(choice=0, finish="stop"), Chunk(choice=1, finish="length"))
    said = [(event["choices"][0]["index"], event["choices"][0]["text"]) for event in told]
    assert said == [(0, "once upon"), (0, " a"), (1, "once upon"), (1, " x"), (0, " b"), (0, ""), (1, "")]
    assert [event["choices"][0]["finish_reason"] for event in told][-2:] == ["stop", "length"]


def test_offsets_go_on_through_a_stream() -> None:
    """`text_offset` counts from the beginning of the choice, not of the event."""
    asked = understood(stream=True, logprobs=0)
    parts = [Chunk(delta={"content": t}, logprobs={"content": [entry(t, -1.0)]}) for t in ("abc", "d")]
    told = stream(asked, *parts, Chunk(finish="stop"))
    assert [event["choices"][0]["logprobs"]["text_offset"] for event in told[:2]] == [[0], [3]]


def test_a_stream_of_nothing_has_a_choice() -> None:
    """An upstream that says nothing is written as an empty answer that ended."""
    told = stream(understood(stream=True))
    assert [event["choices"][0]["finish_reason"] for event in told] == ["stop"]


def test_errors_name_the_prompt() -> None:
    """What is said of `messages` on the line is said of `prompt` here; all four keys, in a stream too."""
    error = NoAnswer("too long", status=400, param="messages", code="context_length_exceeded")
    body = orjson.loads(completions.error(error))
    assert body["error"] == {
        "message": "too long", "type": "server_error", "param": "prompt", "code": "context_length_exceeded",
    }  # fmt: skip
    assert events(completions.writer(understood(), STAMP).error(error)) == [body]


@given(
    st.lists(st.tuples(st.integers(0, 2), st.text(max_size=5)), max_size=12),
    st.booleans(),
)
def test_a_stream_says_what_the_whole_answer_says(pieces: list[tuple[int, str]], echo: bool) -> None:
    """Pieces joined per choice are the text of the whole answer, with the same finish_reason."""
    chunks = [Chunk(choice=choice, delta={"content": text}) for choice, text in pieces]
    chunks += [Chunk(choice=choice, finish="stop") for choice in sorted({choice for choice, _ in pieces})]
    asked = understood(n=3, echo=echo)
    if not chunks:
        return
    joined: dict[int, str] = {}
    ended: dict[int, str] = {}
    for event in stream(asked, *chunks):
        for choice in event["choices"]:
            joined[choice["index"]] = joined.get(choice["index"], "") + choice["text"]
            if choice["finish_reason"]:
                assert choice["index"] not in ended
                ended[choice["index"]] = choice["finish_reason"]
    told = {choice["index"]: choice["text"] for choice in whole(asked, *chunks)["choices"]}
    assert joined == told
    assert ended == dict.fromkeys(told, "stop")
