"""The probe: its verdicts on servers that obey, ignore, refuse and fail."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import jsonschema_rs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends._probe import SCHEMA, TOKENS, _fits, probe, worst
from backends.base import CAPABILITIES
from backends.vllm import Vllm, VllmConfig
from tests.backends.scripted_engine import DOCUMENT, ScriptedEngine
from tests.backends.world import world
from wire.errors import BackendError, Overloaded
from wire.types import Call, Chunk


def probed(engine: ScriptedEngine) -> dict[str, str]:
    async def main() -> dict[str, str]:
        async with world(engine) as (resources, server):
            backend = Vllm("small", VllmConfig(kind="vllm", base_url=f"{server.url}/v1", model="tiny"), resources)
            return dict(await probe(backend.stream))

    return asyncio.run(main())


def test_one_that_obeys() -> None:
    """Everything is enforced, but for what it has not shown; at the price of few answers, each of them bounded."""
    engine = ScriptedEngine()
    found = probed(engine)
    assert set(found) == set(CAPABILITIES)
    unknown = {name for name, what in found.items() if what != "enforced"}
    assert unknown == {"reasoning", "adapter"}
    assert engine.chats() <= 14
    assert all(body["max_tokens"] <= TOKENS for body in engine.bodies)


def test_one_that_ignores() -> None:
    """200 to everything, and a poem for an answer: ignored, all of it. That it answers and streams is true still."""
    engine = ScriptedEngine()
    engine.obeys = False
    found = probed(engine)
    assert {name for name, what in found.items() if what == "ignored"} == {
        "schema", "choice", "regex", "tool_required", "tool_named", "masked",
    }  # fmt: skip
    assert found["tool_arguments"] == "unknown", "there was no call whose arguments could be looked at"
    assert {found[name] for name in ("answers", "stream", "logprobs", "tool_auto")} == {"enforced"}


def test_one_that_refuses() -> None:
    """A 400 about the grammar is a refusal, and says nothing of the rest."""
    engine = ScriptedEngine()
    engine.refuses = "response_format"
    found = probed(engine)
    assert found["schema"] == "refused"
    assert found["choice"] == found["tool_required"] == "enforced"
    assert found["logprobs"] == "unknown"


def test_one_that_thinks_aloud() -> None:
    """Reasoning inside the text is not kept apart."""
    engine = ScriptedEngine()
    engine.tells = "<think>hm</think> The sea."
    assert probed(engine)["reasoning"] == "ignored"


def test_one_that_fails() -> None:
    """No answer is no finding: the error is raised."""
    engine = ScriptedEngine()
    engine.chat_status = 503
    with pytest.raises(Overloaded):
        probed(engine)


def _said(text: str, finish: str) -> dict[str, str]:
    async def ask(call: Call) -> AsyncGenerator[Chunk, None]:
        await asyncio.sleep(0)
        yield Chunk(delta={"content": text}, finish=finish)

    return dict(asyncio.run(probe(ask, tools=False)))


@pytest.mark.parametrize(
    ("text", "finish", "found"),
    [
        (orjson.dumps(DOCUMENT).decode(), "stop", "enforced"),
        ('{"zq_kind":\n "xk2', "length", "unknown"),
        ("Sure! Here are two", "length", "ignored"),
        ('{"zq_kind":"xk2_plim"}', "stop", "ignored"),
        (orjson.dumps({**DOCUMENT, "zq_code": "abcd-123"}).decode(), "stop", "ignored"),
        (orjson.dumps({**DOCUMENT, "more": 1}).decode(), "stop", "ignored"),
        (orjson.dumps({**DOCUMENT, "zq_inner": {"zq_level": 418, "zq_on": True}}).decode(), "stop", "ignored"),
        ("[]", "stop", "ignored"),
    ],
)
def test_schema_verdicts(text: str, finish: str, found: str) -> None:
    """Only a document under the schema counts; one that was cut off counts for nothing unless its start is wrong already."""
    assert _said(text, finish)["schema"] == found


_NEAR = st.fixed_dictionaries(
    {},
    optional={
        "zq_kind": st.sampled_from(["qz7_vorn", "xk2_plim", "other"]),
        "zq_code": st.sampled_from(["ABCD-123", "ABCD-12", 7]),
        "zq_inner": st.fixed_dictionaries(
            {},
            optional={
                "zq_level": st.sampled_from([417, 902, 1, "417"]),
                "zq_on": st.sampled_from([True, None]),
                "more": st.none(),
            },
        ),
        "more": st.none(),
    },
)


@given(_NEAR)
def test_its_schema_is_what_it_checks(document: dict[str, Any]) -> None:
    """The hand-written check and the judge of schemas agree on whatever comes near."""
    assert _fits(orjson.dumps(document).decode(), "stop") is jsonschema_rs.is_valid(SCHEMA, document)


def test_two_failures_are_not_swallowed() -> None:
    """A rung that breaks in the middle of the probe ends it."""
    count = 0

    async def ask(call: Call) -> AsyncGenerator[Chunk, None]:
        nonlocal count
        count += 1
        if count > 2:
            raise Overloaded("full")
        await asyncio.sleep(0)
        yield Chunk(delta={"content": "x"}, finish="stop")

    with pytest.raises(BackendError):
        asyncio.run(probe(ask))


def test_worst_of_several() -> None:
    """A capability counts when every replica has it, and a fault of one is the fault of all."""
    assert worst([{"schema": "enforced"}, {"schema": "enforced"}])["schema"] == "enforced"
    assert worst([{"schema": "enforced"}, {}])["schema"] == "unknown"
    assert worst([{"schema": "ignored"}, {}, {"schema": "enforced"}])["schema"] == "ignored"
    assert worst([]) == dict.fromkeys(CAPABILITIES, "unknown")
