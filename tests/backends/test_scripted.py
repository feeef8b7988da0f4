"""The script plays what it says, the same in every run, and never hides that it is one."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from backends._script import key_of
from backends.scripted import Scripted, ScriptedConfig
from tests.backends.world import Resources, text_of
from tests.waiting import PATIENCE
from wire.errors import BackendError, Broken, Overloaded, Refused, TimedOut, Unsupported
from wire.openai import tokens
from wire.sse import Splitter
from wire.types import Call, Chunk, Constraint


def made(**config: Any) -> Scripted:
    return Scripted("stand-in", ScriptedConfig(**{"kind": "scripted", **config}), Resources())


def call(text: str = "hello", **fields: Any) -> Call:
    body = {"model": "gpt-5", "messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": text}]}
    return Call(**{"body": body, "seconds": PATIENCE, "text": text, **fields})


def play(backend: Scripted, asked: Call) -> list[Chunk]:
    async def main() -> list[Chunk]:
        return [chunk async for chunk in backend.stream(asked)]

    return asyncio.run(main())


def outcome(backend: Scripted, asked: Call) -> str:
    try:
        return text_of(play(backend, asked))
    except BackendError as exc:
        return type(exc).__name__


@pytest.mark.parametrize("live", [False, True])
def test_answers(live: bool) -> None:
    """By the literal text or by its hash; what the script does not know gets the default; live comes in pieces."""
    backend = made(script={"hello": "literal", key_of("secret text"): {"content": {"intent": "x"}}}, chunk_chars=3)
    for text, answer in (("hello", "literal"), ("secret text", '{"intent":"x"}'), ("other", "other")):
        found = play(backend, call(text, live=live))
        assert text_of(found) == answer
        assert [chunk.finish for chunk in found if chunk.finish] == ["stop"]
        assert all(chunk.meta == {"simulated": True} for chunk in found)
        assert [bool(chunk.head) for chunk in found] == [True] + [False] * (len(found) - 1)
        assert (len(found) > 3) is live
        (usage,) = [chunk.usage for chunk in found if chunk.usage]
        counted = tokens(usage)
        assert counted.input == -(-len("be kind" + text) // 4)
        assert counted.output == -(-len(answer) // 4)


def test_text_is_found_in_the_body() -> None:
    """In a tool loop `text` is empty: the last user message is what counts, part lists too."""
    body = {
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "hel"}, {"type": "image_url"}, {"type": "text", "text": "lo"}],
            },
            {"role": "tool", "content": "result"},
        ]
    }
    assert text_of(play(made(script={"hel\nlo": "found"}), Call(body=body, seconds=1))) == "found"


@pytest.mark.parametrize(
    ("constraint", "answer"),
    [
        (
            Constraint("schema", {"type": "object", "properties": {"a": {"enum": ["x"]}}, "required": ["a"]}),
            '{"a":"x"}',
        ),
        (Constraint("choice", ["red", "blue"]), "red"),
        (Constraint("regex", "a"), "hello"),
        (None, "hello"),
    ],
)
def test_first_enum(constraint: Constraint | None, answer: str) -> None:
    """A minimal value of the schema, the first choice, or an echo where neither is known."""
    assert text_of(play(made(default="first_enum"), call(constraint=constraint))) == answer


def test_first_enum_reads_the_body() -> None:
    """Straight through, nobody has understood the constraint yet: the body's own response_format counts."""
    asked = call()
    body = {**asked.body, "response_format": {"type": "json_schema", "json_schema": {"schema": {"enum": [5]}}}}
    assert text_of(play(made(default="first_enum"), Call(body=body, seconds=1))) == "5"


def test_first_enum_without_a_value() -> None:
    """A schema without a finite value is Unsupported."""
    with pytest.raises(Unsupported):
        play(made(default="first_enum"), call(constraint=Constraint("schema", {"$ref": "#"})))


@pytest.mark.parametrize("live", [False, True])
def test_tool_calls(live: bool) -> None:
    """Tool calls in OpenAI's form: id and name once, arguments as JSON text in pieces that join."""
    backend = made(
        script={"hello": {"tool_calls": [{"name": "f", "arguments": {"a": [1, 2]}}, {"id": "c", "name": "g"}]}},
        chunk_chars=4,
    )
    found = play(backend, call(live=live))
    assert [chunk.finish for chunk in found if chunk.finish] == ["tool_calls"]
    deltas = [delta for chunk in found for delta in chunk.delta.get("tool_calls", ())]
    for index, name, arguments in ((0, "f", '{"a":[1,2]}'), (1, "g", "{}")):
        mine = [delta for delta in deltas if delta["index"] == index]
        assert "".join(delta["function"].get("arguments", "") for delta in mine) == arguments
        assert [delta["function"]["name"] for delta in mine if "name" in delta["function"]] == [name]
        assert sum("id" in delta for delta in mine) == 1


def test_refusal_finish_logprobs() -> None:
    """A refusal, a finish reason and log-probabilities are said as a model says them."""
    logprobs = {"token": "a", "logprob": -0.1, "bytes": None, "top_logprobs": []}
    script = {"no": {"refusal": "I won't"}, "cut": {"content": "a", "finish": "length", "logprobs": [logprobs]}}
    (refused,) = play(made(script=script), call("no"))
    assert refused.delta == {"role": "assistant", "refusal": "I won't"}
    (cut,) = play(made(script=script), call("cut"))
    assert cut.finish == "length"
    assert cut.logprobs == {"content": [logprobs]}
    live = play(made(script=script), call("cut", live=True))
    assert [chunk.logprobs for chunk in live if chunk.logprobs] == [{"content": [logprobs]}]


def test_turns() -> None:
    """Turns are played one after the other, the last again and again; other texts do not advance them."""
    backend = made(script={"hello": {"turns": ["one", {"content": "two"}]}, "x": "y"})
    heard = [text_of(play(backend, call(text))) for text in ("hello", "x", "hello", "hello")]
    assert heard == ["one", "y", "two", "two"]


def test_played_as_they_stand() -> None:
    """Events and bodies are played as they stand and read like a server's: defects and errors are a server's too."""
    chunk = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "a"}, "finish_reason": None}]}
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    backend = made(
        script={
            "good": {"events": [chunk, ": ping\n\n", chunk, end, "data: [DONE]\n\n"]},
            "cut": {"events": [chunk]},
            "error": {"events": [chunk, {"error": {"message": "x", "code": 429}}]},
            "500": {"status": 500, "body": {"error": {"message": "x"}}},
            "400": {"status": 400, "body": "plain", "headers": {"x-a": "b"}},
            "429": {"status": 429, "headers": {"retry-after": "3"}},
            "html": {"body": "<html>"},
            "whole": {"body": {"choices": [{"message": {"content": "w"}, "finish_reason": "stop"}]}},
        }
    )
    heard = {
        text: outcome(backend, call(text, live=True))
        for text in ("good", "cut", "error", "500", "400", "429", "html", "whole")
    }
    assert heard == {
        "good": "aa", "cut": "Broken", "error": "Overloaded", "500": "Broken", "400": "Refused", "429": "Overloaded",
        "html": "Broken", "whole": "w",
    }  # fmt: skip
    with pytest.raises(Refused) as caught:
        play(backend, call("400"))
    assert (caught.value.status, caught.value.body, caught.value.head["x-a"]) == (400, b"plain", "b")


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("usage", [False, True])
def test_unchanged(live: bool, usage: bool) -> None:
    """With `raw`, the raws joined are what a server would have sent; usage in the stream only when it was asked for."""
    body = {**call().body, **({"stream_options": {"include_usage": True}} if usage else {})}
    found = play(made(), Call(body=body, seconds=1, live=live, raw=b"{}"))
    sent = b"".join(chunk.raw for chunk in found)
    if not live:
        assert orjson.loads(sent)["choices"][0]["message"]["content"] == "hello"
        return
    events = [event.data for event in Splitter().feed(sent)]
    assert events[-1] == b"[DONE]"
    assert any(b'"usage":{' in event for event in events) is usage


def test_reproducible() -> None:
    """Failures, noise and answers depend on the seed and the text alone, not on the order in which they are asked."""
    config: dict[str, Any] = {
        "script": {f"q{n}": "right" for n in range(60)},
        "fail": {"share": 0.3, "reason": "overload"},
        "noise": {"share": 0.3, "answers": ["right", "wrong", "bad"]},
    }
    texts = [f"q{n}" for n in range(60)]
    once = {text: outcome(made(**config), call(text)) for text in texts}
    again = {text: outcome(made(**config), call(text)) for text in reversed(texts)}
    other = {text: outcome(made(**config, seed=1), call(text)) for text in texts}
    assert once == again
    assert once != other
    assert set(once.values()) == {"right", "wrong", "bad", "Overloaded"}


@pytest.mark.parametrize(
    ("reason", "kind"), [("overload", Overloaded), ("backend_error", Broken), ("timeout", TimedOut)]
)
def test_failures(reason: str, kind: type[BackendError]) -> None:
    """Each reason is the error that a real server would have caused; `share: 1` always fails."""
    backend = made(fail={"share": 1, "reason": reason})
    with pytest.raises(BackendError) as caught:
        play(backend, call(seconds=0.05))
    assert type(caught.value) is kind


def test_the_model_declines() -> None:
    """`refused` is an answer, a value: the model says no."""
    (chunk,) = play(made(fail={"share": 1, "reason": "refused"}), call())
    assert chunk.delta["refusal"]
    assert chunk.finish == "stop"


@pytest.mark.parametrize("live", [False, True])
def test_delay_and_deadline(live: bool) -> None:
    """A delay longer than the call's seconds is a timeout at that time; a shorter one is waited for."""
    with pytest.raises(TimedOut) as caught:
        play(made(delay={"median": 60}), call(seconds=0.05, live=live))
    assert caught.value.phase == "first_byte"
    assert text_of(play(made(delay={"median": 0.001, "sigma": 0.5}), call(live=live))) == "hello"
    assert (
        text_of(play(made(delay={"median": 60}, script={"hello": {"content": "x", "delay": 0}}), call(live=live)))
        == "x"
    )


def test_per_token() -> None:
    """A whole answer must end within its seconds; a live one must begin within them, and may last."""
    assert text_of(play(made(per_token=0.6, chunk_chars=4), call(seconds=1.0, live=True))) == "hello"
    with pytest.raises(TimedOut):
        play(made(per_token=1.0), call(seconds=0.05))

    async def main() -> None:
        stream = made(per_token=60.0).stream(call(live=True))
        assert (await anext(stream)).delta["role"] == "assistant"
        await stream.aclose()

    asyncio.run(main())


def test_script_in_a_file(tmp_path: Path) -> None:
    """The script may be a JSON file, found where the configuration says; a bad one is named, its texts are not."""
    (tmp_path / "script.json").write_bytes(orjson.dumps({"hello": "from a file"}))
    config = ScriptedConfig(kind="scripted", script="script.json")
    assert text_of(play(Scripted("s", config, Resources(folder=tmp_path)), call())) == "from a file"
    (tmp_path / "script.json").write_bytes(orjson.dumps({"secret text": {"contents": "x"}}))
    for path in ("script.json", "missing.json"):
        with pytest.raises(ValueError, match=path) as caught:
            Scripted("s", ScriptedConfig(kind="scripted", script=path), Resources(folder=tmp_path))
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("script", [{"a": {"contents": "x"}}, {"a": 5}, {"a": {"turns": [{"status": 99}]}}])
def test_bad_scripts(script: Any) -> None:
    """An unknown key or a wrong type in a script is a mistake, not an empty answer."""
    with pytest.raises(ValidationError):
        ScriptedConfig(kind="scripted", script=script)
