"""instructor: a typed answer in each of its modes, whole and partial."""

import os

import instructor
import pytest
from openai import OpenAI
from pydantic import BaseModel

DAYS = [f"the weather in 'Oslo' on day {day}: JSON with 'city' and 'sky'" for day in (1, 2, 3, 4)]


class Report(BaseModel):
    city: str
    sky: str


def client(mode):
    return instructor.from_openai(OpenAI(max_retries=0), mode=mode)


def asked(text):
    return {"model": os.environ["WEIR_TEST_MODEL"], "messages": [{"role": "user", "content": text}], "max_retries": 0}


@pytest.mark.parametrize("text", DAYS)
@pytest.mark.parametrize("mode", [instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA, instructor.Mode.JSON])
def test_modes(mode, text):
    """The object arrives."""
    found = client(mode).chat.completions.create(response_model=Report, **asked(text))
    assert isinstance(found, Report)
    assert mode == instructor.Mode.JSON or found.city == "Oslo"


@pytest.mark.parametrize("text", DAYS)
@pytest.mark.parametrize("mode", [instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA])
def test_partial(mode, text):
    """It grows while the stream runs, and is whole at the end."""
    *_, last = client(mode).chat.completions.create_partial(response_model=Report, **asked(text))
    assert last.city == "Oslo"
