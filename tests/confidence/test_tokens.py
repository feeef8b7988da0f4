"""A draft's tokens > which of them decided what the answer says."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.confidence.scan import OUTSIDE, STRUCTURE, VALUE
from gateway.confidence.tokens import Answer, alternatives, answer, content, free
from tests.confidence.said import MASKED, forced, hermes, pieces, token
from wire.types import Constraint, Draft, Json, ToolCall

ARGUMENTS = {"city": "Köln 日本", "days": 3, "tags": ["a", ""], "deep": {"on": True}}
CALL = ToolCall("1", "GetWeather", json.dumps(ARGUMENTS))


def draft(*texts: str | bytes, calls: tuple[ToolCall, ...] = (), text: str = "") -> Draft:
    return Draft(text=text, tool_calls=calls, finish="stop", logprobs=[token(t) for t in texts])


def judged(found: Answer, role: int = VALUE) -> list[bytes]:
    return [found.raw[t.start : t.end] for t in found.tokens if t.role == role]


@pytest.mark.parametrize(
    "raw",
    [
        hermes("GetWeather", ARGUMENTS),
        '<think>{"city": "Bonn"} no</think>\n' + hermes("GetWeather", ARGUMENTS) + "<|im_end|>",
        json.dumps([{"name": "GetWeather", "parameters": ARGUMENTS}], ensure_ascii=False),
        json.dumps(ARGUMENTS, ensure_ascii=False, indent=1),
        "[TOOL_CALLS]GetWeather" + json.dumps(ARGUMENTS),
        json.dumps({"id": "x", "type": "function", "function": {"name": "GetWeather", "arguments": ARGUMENTS}}),
        'Let me see {"city": 1}. ' + hermes("GetWeather", ARGUMENTS),
    ],
)
@given(data=st.data())
def test_arguments_are_found_in_every_form_of_call(raw: str, data: st.DataObject) -> None:
    """However the raw answer is cut into tokens: spans cover it without gaps; a token is a value token exactly when it covers a byte of
    the name or of an argument, or a closing quote of one."""
    cut = pieces(data, raw)
    found = answer(draft(*cut, calls=(CALL,)))
    assert found is not None
    assert found.raw == raw.encode() == b"".join(cut)
    assert [(t.start, t.end) for t in found.tokens] == spans(cut)
    (part,) = found.parts
    assert part.task == "GetWeather"
    told = {leaf.path: json.loads(quoted(found.raw, leaf.start, leaf.end, leaf.kind)) for leaf in part.leaves}
    assert told == {
        ("city",): "Köln 日本", ("days",): 3, ("tags", 0): "a", ("tags", 1): "", ("deep", "on"): True,
    }  # fmt: skip
    valued = set()
    for leaf in part.leaves if part.name is None else (part.name, *part.leaves):
        valued |= set(range(leaf.start, leaf.end + (leaf.kind == "string")))
    for t in found.tokens:
        assert (t.role == VALUE) == bool(valued & set(range(t.start, t.end)))


def quoted(raw: bytes, start: int, end: int, kind: str) -> bytes:
    return b'"' + raw[start:end] + b'"' if kind == "string" else raw[start:end]


def spans(cut: list[bytes]) -> list[tuple[int, int]]:
    ends = [sum(map(len, cut[: i + 1])) for i in range(len(cut))]
    return list(zip([0, *ends[:-1]], ends, strict=True))


def test_roles_of_a_call() -> None:
    """Tags are outside, pure structure and white space are no values, the token that closes a string is."""
    found = answer(
        draft(
            "<tool_call>", "\n", '{"name', '": "', "GetWeather", '", "', "arguments", '": {"', "city", '":', ' "', "Pa", "ris", '"}}',
            "\n</tool_call>", "<|im_end|>",
            calls=(ToolCall("1", "GetWeather", '{"city": "Paris"}'),),
        )
    )  # fmt: skip
    assert found is not None
    assert judged(found) == [b"GetWeather", b'", "', b"Pa", b"ris", b'"}}']
    assert judged(found, STRUCTURE) == [b'{"name', b'": "', b"arguments", b'": {"', b"city", b'":', b' "']
    assert judged(found, OUTSIDE) == [b"<tool_call>", b"\n", b"\n</tool_call>", b"<|im_end|>"]


def test_parallel_calls() -> None:
    """Each is a part of its own, the last ones when the model began more than were made."""
    raw = hermes("f", {"a": "x"}) + hermes("f", {"a": "y"}) + hermes("g", {"b": 1})
    calls = (ToolCall("1", "f", '{"a": "y"}'), ToolCall("2", "g", '{"b": 1}'))
    found = answer(draft(raw, calls=calls))
    assert found is not None
    assert [(part.task, [leaf.path for leaf in part.leaves]) for part in found.parts] == [
        ("f", [("a",)]),
        ("g", [("b",)]),
    ]
    first = found.parts[0].leaves[0]
    assert found.raw[first.start : first.end] == b"y"


@given(st.data())
def test_an_answer_that_is_json(data: st.DataObject) -> None:
    """Only the final object counts, whatever came before it."""
    raw = '{"draft": "old"} hm </think> {"try": 1} ' + json.dumps(ARGUMENTS)
    found = answer(draft(*pieces(data, raw), text=json.dumps(ARGUMENTS)), Constraint("schema", {}))
    assert found is not None
    assert [leaf.path for leaf in found.parts[0].leaves] == [
        ("city",),
        ("days",),
        ("tags", 0),
        ("tags", 1),
        ("deep", "on"),
    ]
    before = raw.encode().index(b'{"city')
    assert all(t.role == OUTSIDE for t in found.tokens if t.end <= before)


@pytest.mark.parametrize(
    ("texts", "text", "values"),
    [
        (("fli", "ght", "<|end|>", "x"), "flight", [b"fli", b"ght", b"<|end|>"]),
        (("fli", "ght"), "flight", [b"fli", b"ght"]),
        (("<think>", "fli", "ght", "</think>", "\n", "car", ""), "car", [b"car", b""]),
        (("a ", "b", "\n"), "a b", [b"a ", b"b", b"\n"]),
        (("x", "y"), "a b", None),
        (("▁a", "▁b"), "a b", ["▁a".encode(), "▁b".encode()]),
        (("New", "York"), "New York", [b"New", b"York"]),  # decoded token by token: the space is lost
        (("{not", " json}"), "{not json}", None),
    ],
)
def test_text_and_labels(texts: tuple[str, ...], text: str, values: list[bytes] | None) -> None:
    """Every token of the text counts, and the one that ended it; reasoning does not. Text that the tokens do not hold is unknown."""
    found = answer(draft(*texts, text=text))
    assert (judged(found) if found is not None else None) == values


def test_split_characters() -> None:
    """`bytes` tells what `token` cannot; tokens without bytes inside of a value belong to it."""
    found = answer(draft('{"a": "', b"\xe6\x97", b"\xa5", b"", b"x", '"}', text='{"a": "日x"}'))
    assert found is not None
    assert judged(found) == [b"\xe6\x97", b"\xa5", b"", b"x", b'"}']
    bare = [{k: v for k, v in said.items() if k != "bytes"} for said in (token('{"a": "'), token("b"), token('"}'))]
    told = answer(Draft(text='{"a": "b"}', logprobs=bare))
    assert told is not None
    assert judged(told) == [b"b", b'"}']


@given(st.data())
def test_forced_positions_are_never_free(data: st.DataObject) -> None:
    """Those whose other candidates are masked, or missing where fewer than asked were legal. With nothing free nothing is known."""
    cut = pieces(data, hermes("GetWeather", ARGUMENTS))
    only = [{**token(t, 0.0), "top_logprobs": token(t, 0.0)["top_logprobs"][:1]} for t in cut]
    said = [data.draw(st.sampled_from([token(t), forced(t), alone])) for t, alone in zip(cut, only, strict=True)]
    found = answer(Draft(tool_calls=(CALL,), logprobs=said))
    expected = [len(s["top_logprobs"]) > 1 and s["top_logprobs"][1]["logprob"] > -9000 for s in said]
    if found is None:
        assert answer(Draft(tool_calls=(CALL,), logprobs=[token(t) for t in cut])) is not None
    else:
        assert any(t.free for t in found.tokens)
        assert [t.free for t in found.tokens if t.role != OUTSIDE] == [
            e for e, t in zip(expected, found.tokens, strict=True) if t.role != OUTSIDE
        ]
    assert answer(Draft(tool_calls=(CALL,), logprobs=[forced(t) for t in cut])) is None


WHOLE = [token('{"a": "'), token("b"), token('"}')]


@pytest.mark.parametrize(
    "said",
    [
        [],
        [{k: v for k, v in one.items() if k != "top_logprobs"} for one in WHOLE],
        [{**one, "top_logprobs": []} for one in WHOLE],
        [WHOLE[0], {**WHOLE[1], "logprob": None}, WHOLE[2]],
        [WHOLE[0], {**WHOLE[1], "logprob": float("nan")}, WHOLE[2]],
        [WHOLE[0], {**WHOLE[1], "top_logprobs": None}, WHOLE[2]],
        WHOLE[:2],
        [WHOLE[0], "b", WHOLE[2]],
    ],
)
def test_missing_is_unknown(said: Any) -> None:
    """No log-probabilities, none at one token of the answer, no alternatives at all, or not all of the answer: never confident."""
    assert answer(Draft(text='{"a": "b"}', logprobs=WHOLE)) is not None
    assert answer(Draft(text='{"a": "b"}', logprobs=said)) is None


junk: Any = st.recursive(
    st.none() | st.floats() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["token", "logprob", "bytes", "top_logprobs"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(st.lists(junk, max_size=4), st.sampled_from(["", "x", "{}"]), st.booleans())
def test_never_raises(said: list[Any], text: str, called: bool) -> None:
    """Whatever a server reports."""
    answer(Draft(text=text, tool_calls=(CALL,) if called else (), logprobs=said))


def test_the_token_itself_is_one_alternative() -> None:
    """Also when the list leaves it out, as a sampled token that is not among the likeliest; then one other is enough to be free."""
    outside: Json = {"token": "c", "logprob": -4.0, "top_logprobs": [{"token": "a", "logprob": -0.1}]}
    assert free(outside)
    assert alternatives(outside) == [(b"a", -0.1), (b"c", -4.0)]
    assert not free(token("a", 0.0, [("b", MASKED)]))
    assert alternatives(token("a", 0.0, [("b", MASKED)])) == [(b"a", 0.0)]
    # Two tokens may be spelled alike: the other one is an alternative.
    assert free(token("a", -0.1, [("a", -2.0)]))
    assert content({"token": "a", "bytes": [300]}) == b"a"
