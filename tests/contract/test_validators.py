"""What every validator must do, whoever wrote it. Found by walking the package: adding a validator is adding a file, a case
here and a test file of its own."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from pydantic import ValidationError

from gateway.validators.base import PASS, Ask, Opinion, Tool, Validator, ValidatorConfig, Verdict
from wire.errors import Reason
from wire.kinds import kinds, load_kind
from wire.types import Constraint, Draft, ToolCall

CASES: dict[str, Mapping[str, Any]] = {
    "finished": {},
    "fits_schema": {"formats": True},
    "grounded": {"look_for": ["numbers", "names"], "where": ["user"], "allow": ["2024"], "tolerate": 0},
    "not_looping": {},
    "not_refused": {},
    "sure_enough": {},
    "tool_arguments": {},
}
"""Kind > the keys of a working configuration, without `kind`."""

PACKAGE = "gateway.validators"
TESTS = Path(__file__).parent.parent / "validators"
CANARY = "xyzzy-canary"
"""Stands in every text of every draft below, and never in a verdict."""

GOOD: dict[str, tuple[Draft, Ask]] = {
    "finished": (Draft(text="a", finish="stop"), Ask()),
    "fits_schema": (Draft(text='{"a": 1}', finish="stop"), Ask(constraint=Constraint("schema", {"required": ["a"]}))),
    "grounded": (Draft(text="It is 42.", finish="stop"), Ask(messages=[{"role": "user", "content": "42"}])),
    "not_looping": (Draft(text="la " * 100, finish="stop"), Ask()),
    "not_refused": (Draft(text="a", finish="stop"), Ask()),
    "sure_enough": (Draft(text="a", finish="stop", probability=0.9), Ask(threshold=0.8)),
    "tool_arguments": (
        Draft(tool_calls=(ToolCall("c", "f", "{}"),), finish="tool_calls"), Ask(tools={"f": Tool({"type": "object"})}),
    ),
}  # fmt: skip
BAD: dict[str, tuple[Draft, Ask]] = {
    "finished": (Draft(text="a", finish="length"), Ask()),
    "fits_schema": (Draft(text="{}", finish="stop"), Ask(constraint=Constraint("schema", {"required": ["a"]}))),
    "grounded": (Draft(text="It is 43.", finish="stop"), Ask(messages=[{"role": "user", "content": "42"}])),
    "not_looping": (Draft(text="la " * 1000, finish="stop"), Ask()),
    "not_refused": (Draft(refusal="no", finish="stop"), Ask()),
    "sure_enough": (Draft(text="a", finish="stop", probability=0.7), Ask(threshold=0.8)),
    "tool_arguments": (
        Draft(tool_calls=(ToolCall("c", "g", "{}"),), finish="tool_calls"),
        Ask(tools={"f": Tool(None)}),
    ),
}

words = st.text(st.characters(codec="utf-8"), max_size=5).map(lambda text: f"{text}{CANARY}")
texts = st.one_of(
    words,
    words.map(lambda word: f'{{"a": {{"{CANARY}": 1}}}}'),
    words.map(lambda word: f'["{CANARY}"]'),
    st.just("{" * 2000),
    st.text(st.characters(codec=None), max_size=5),
)
drafts = st.builds(
    Draft,
    text=texts | st.just(""),
    tool_calls=st.lists(st.builds(ToolCall, words, words | st.just("f"), texts, st.sampled_from(["function", "custom"])), max_size=2),
    refusal=st.just("") | words,
    finish=st.sampled_from([None, "stop", "length", "tool_calls", "content_filter", "something_new"]),
    probability=st.none() | st.floats(),
)  # fmt: skip
SCHEMAS = [
    {},
    {"type": "object"},
    {"additionalProperties": {"type": "string"}},
    {"properties": {"a": {"additionalProperties": False}}},
]
constraints = st.one_of(
    st.sampled_from(SCHEMAS).map(lambda value: Constraint("schema", value)),
    st.just(Constraint("json", None)),
    st.just(Constraint("choice", ["a", "b"])),
    st.just(Constraint("regex", "a+")),
    st.just(Constraint("grammar", "root ::= a")),
)
asks = st.builds(
    Ask,
    constraint=st.none() | constraints,
    tools=st.dictionaries(st.just("f"), st.builds(Tool, st.none() | st.sampled_from(SCHEMAS)), max_size=1),
    tool_choice=st.sampled_from(
        [None, "none", "auto", "required", {"type": "function", "function": {"name": "f"}}, {}, []]
    ),
    one_call=st.booleans(),
    threshold=st.none() | st.floats(0, 1),
)


def config(kind: str, **more: Any) -> ValidatorConfig:
    built: ValidatorConfig = load_kind(PACKAGE, kind).Config.model_validate({"kind": kind, **CASES[kind], **more})
    return built


def validator(kind: str) -> Validator:
    built: Validator = load_kind(PACKAGE, kind)(config(kind))
    return built


def proper(verdict: Verdict, kind: str) -> None:
    """A verdict of this validator, with a reason of the closed list unless it passed."""
    assert isinstance(verdict, Verdict)
    assert verdict.opinion in get_args(Opinion)
    if verdict.passed:
        assert verdict.reason is None
    else:
        assert verdict.reason in get_args(Reason)
        assert verdict.validator == kind
        assert verdict.detail
    assert CANARY not in verdict.detail


every_validator = pytest.mark.parametrize("kind", [kind for kind in kinds(PACKAGE) if kind in CASES])


@every_validator
@given(text=texts.filter(bool), ask=asks, probability=st.none() | st.floats())
def test_a_quiet_one_passes_every_plain_answer(kind: str, text: str, ask: Ask, probability: float | None) -> None:
    """It is not asked of one, so it must have nothing to say of it."""
    checked = validator(kind)
    if getattr(checked, "quiet", False):
        plain = Draft(text=text, finish="stop", probability=probability)
        assert checked.check(plain, replace(ask, tools={})) is PASS


@pytest.mark.parametrize("kind", kinds(PACKAGE))
def test_every_validator_has_cases_and_a_test_file(kind: str) -> None:
    """A validator that nobody tests is not one: it needs its cases here and a mirrored test file."""
    for table in ("CASES", "GOOD", "BAD"):
        told = f"gateway/validators/{kind}.py is new: add {kind!r} to {table} in tests/contract/test_validators.py"
        assert kind in globals()[table], told
    assert (TESTS / f"test_{kind}.py").is_file(), (
        f"gateway/validators/{kind}.py is new: add tests/validators/test_{kind}.py"
    )


def test_every_case_is_a_validator() -> None:
    """A case whose validator is gone tests nothing."""
    assert set(CASES) == set(GOOD) == set(BAD) == set(kinds(PACKAGE))


@every_validator
def test_one_class_one_config_one_method(kind: str) -> None:
    """A validator is a class with a nested Config, built from (config), with one plain method `check(draft, ask)`."""
    found = load_kind(PACKAGE, kind)
    assert issubclass(found.Config, ValidatorConfig)
    assert list(inspect.signature(found).parameters) == ["config"]
    public = {name for name, value in vars(found).items() if name[0] != "_" and inspect.isfunction(value)}
    assert public == {"check"}
    assert list(inspect.signature(found.check).parameters) == ["self", "draft", "ask"]
    assert not inspect.iscoroutinefunction(found.check)


@every_validator
def test_its_configuration_is_strict_and_frozen(kind: str) -> None:
    """An unknown key is a mistake, and nothing changes after it was read."""
    with pytest.raises(ValidationError, match="nope"):
        config(kind, nope=1)
    with pytest.raises(ValidationError, match="frozen"):
        config(kind).kind = "other"  # type: ignore[misc]


@every_validator
def test_a_dump_of_the_configuration_reads_back(kind: str) -> None:
    """Configuration is data: dumped as JSON and read again it is the same."""
    one = config(kind)
    assert type(one).model_validate_json(one.model_dump_json()) == one
    assert type(one).model_json_schema()["additionalProperties"] is False


@every_validator
def test_it_can_pass_and_it_can_fail(kind: str) -> None:
    """A check that never rejects anything, or everything, is none."""
    assert validator(kind).check(*GOOD[kind]).passed
    verdict = validator(kind).check(*BAD[kind])
    proper(verdict, kind)
    assert verdict.opinion == "fail"


@every_validator
def test_the_beginning_of_a_good_answer_never_fails(kind: str) -> None:
    """A growing draft may fail only for certain: what will be good in the end does not."""
    draft, ask = GOOD[kind]
    for length in range(len(draft.text) + 1):
        growing = Draft(text=draft.text[:length], tool_calls=draft.tool_calls if length else (), probability=None)
        assert validator(kind).check(growing, ask).opinion != "fail"


@every_validator
@given(draft=drafts, ask=asks)
def test_any_draft_gets_a_verdict(kind: str, draft: Draft, ask: Ask) -> None:
    """Whatever a model said and was asked: a proper verdict, never an exception, never a word of the answer, and the same one when
    asked again."""
    verdict = validator(kind).check(draft, ask)
    proper(verdict, kind)
    assert validator(kind).check(draft, ask) == verdict


@every_validator
@given(draft=drafts, ask=asks)
def test_what_fails_while_it_grows_fails_in_the_end(kind: str, draft: Draft, ask: Ask) -> None:
    """FAIL of a growing draft ends the attempt: its end, whatever finish_reason comes, must not be a PASS."""
    growing = Draft(text=draft.text, tool_calls=draft.tool_calls, refusal=draft.refusal, probability=draft.probability)
    if validator(kind).check(growing, ask).opinion == "fail":
        assert not validator(kind).check(draft, ask).passed
