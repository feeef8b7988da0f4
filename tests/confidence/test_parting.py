"""A growing answer held against a second model's."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.confidence.parting import Parting
from gateway.confidence.parting import said as said_by
from gateway.confidence.scan import Path
from wire.types import Chunk, Draft, ToolCall

CITY = {"city": "Paris", "when": "today"}


def second(*calls: tuple[str, dict[str, Any]], text: str = "") -> Draft:
    made = [ToolCall(id=f"{at}", name=name, arguments=json.dumps(said)) for at, (name, said) in enumerate(calls)]
    return Draft(text=text, tool_calls=made)


def parted(said: Draft, raw: str, step: int = 3) -> list[bool]:
    """After each piece of `step` characters."""
    parting, found = Parting(said_by(said)), []
    for at in range(0, len(raw), step):
        parting.feed(Chunk(logprobs={"content": [{"token": raw[at : at + step], "logprob": -0.1}]}))
        found.append(parting.parted)
    return found


def hermes(name: str, said: dict[str, Any]) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {json.dumps(said)}}}\n</tool_call>'


FORMS = [
    pytest.param(hermes, id="hermes"),
    pytest.param(lambda name, said: json.dumps([{"name": name, "parameters": said}]), id="required"),
    pytest.param(lambda name, said: json.dumps(said), id="named"),
]


@pytest.mark.parametrize("form", FORMS)
def test_the_same_call_never_parts(form: Any) -> None:
    """Whatever the form in which a server writes a call."""
    assert not any(parted(second(("Weather", CITY)), form("Weather", CITY)))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "said",
    [{"city": "Rome", "when": "today"}, {"town": "Paris", "when": "today"}, {"when": "today"}, {**CITY, "sky": "blue"}],
    ids=["value", "member", "skipped", "more"],
)
def test_another_value_or_member_parts(form: Any, said: dict[str, Any]) -> None:
    """Another value at its first other letter, another member, one that was passed over, one too many: told before the end."""
    raw = form("Weather", said)
    found = parted(second(("Weather", CITY)), raw, 1)
    assert found[-1]
    first = raw.index("Rome") + 1 if "Rome" in raw else None
    assert first is None or found.index(True) == first - 1


def test_another_function_parts_at_its_name() -> None:
    """The first letter of its name tells, or its end where it is the beginning of the other's."""
    raw = hermes("Music", CITY)
    assert parted(second(("Weather", CITY)), raw, 1).index(True) == raw.index("Music")
    raw = hermes("Wea", CITY)
    assert parted(second(("Weather", CITY)), raw, 1).index(True) == raw.index('Wea"') + len("Wea")


def test_escapes_are_read_at_the_end_of_a_value() -> None:
    """However a letter is spelled."""
    beside = second(text=json.dumps({"city": "Zürich"}))
    assert not any(parted(beside, '{"city": "Z\\u00fcrich"}', 1))
    assert not any(parted(beside, '{"city": "Zürich"}', 1))
    assert parted(beside, '{"city": "Z\\u00e4rich"}', 1)[-1]


def test_several_calls_are_held_against_each_other_in_order() -> None:
    """The second call of one against the second of the other; one too many parts."""
    both = second(("A", {"x": 1}), ("B", {"y": 2.5}))
    same = hermes("A", {"x": 1}) + hermes("B", {"y": 2.5})
    assert not any(parted(both, same))
    assert not any(
        parted(both, json.dumps([{"name": "A", "arguments": {"x": 1}}, {"name": "B", "arguments": {"y": 2.5}}]))
    )
    assert parted(both, same + hermes("B", {"y": 2.5}))[-1]
    assert parted(both, hermes("A", {"x": 1}) + hermes("B", {"y": 2}))[-1]


def test_a_document_is_held_against_the_seconds() -> None:
    """An answer that is a JSON object, deeper values included; true is not 1."""
    said = {"intent": "refund", "order": {"id": 7, "open": True}}
    beside = second(text=json.dumps(said))
    assert not any(parted(beside, json.dumps(said)))
    assert parted(beside, json.dumps({**said, "order": {"id": 8, "open": True}}))[-1]
    assert parted(beside, json.dumps({**said, "order": {"id": 7, "open": 1}}))[-1]


def test_what_is_no_json_never_parts() -> None:
    """Neither an answer of words, nor a second that has said nothing of the kind."""
    assert not any(parted(second(("Weather", CITY)), "It rains."))
    assert not any(parted(second(text="It rains."), hermes("Weather", CITY)))
    assert not any(parted(second(("Weather", CITY)), hermes("Weather", CITY).replace('"arguments"', "arguments")[:20]))


def test_reasoning_before_the_answer_does_not_stick() -> None:
    """Another object in the reasoning parts until the answer's own begins."""
    raw = '{"city": "Rome"} </think>' + json.dumps(CITY)
    found = parted(second(text=json.dumps(CITY)), raw, 1)
    assert True in found
    assert not found[-1]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(max_size=4), VALUES, max_size=4), st.integers(1, 7), st.booleans())
def test_any_document_goes_with_itself(said: dict[str, Any], step: int, ascii_only: bool) -> None:
    """However it is cut into tokens and spelled."""
    raw = json.dumps(said, ensure_ascii=ascii_only)
    parting = Parting(said_by(second(text=raw)))
    data = raw.encode()
    for at in range(0, len(data), step):
        parting.token(data[at : at + step])
        assert not parting.parted


@given(st.binary(max_size=60), st.dictionaries(st.text(max_size=4), VALUES, max_size=3))
def test_nothing_that_a_server_sends_raises(data: bytes, said: dict[str, Any]) -> None:
    """Any bytes, against any second."""
    for beside in (second(text=json.dumps(said)), second(("f", said)), second(("", said))):
        parting = Parting(said_by(beside))
        for byte in data:
            parting.token(bytes([byte]))


def test_the_cost_of_a_long_answer_grows_with_its_length() -> None:
    """Only what is new is looked at: ten times as many members are ten times as many looks, not a hundred."""

    class Counted(Parting):
        looks = 0

        def _meant(self, path: Path) -> Any:
            Counted.looks += 1
            return super()._meant(path)

    def looks(members: int) -> int:
        raw = json.dumps({f"m{at}": at for at in range(members)}).encode()
        Counted.looks, parting = 0, Counted(said_by(second(text=raw.decode())))
        for at in range(0, len(raw), 4):
            parting.token(raw[at : at + 4])
        assert not parting.parted
        return Counted.looks

    assert looks(300) <= 10 * looks(30)
