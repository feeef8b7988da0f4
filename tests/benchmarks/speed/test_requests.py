"""The requests that are sent."""

import orjson
import pytest

from benchmarks.speed._requests import UNSEEN, chat


@pytest.mark.parametrize("size", [1500, 6000, 30_000, 300_000])
def test_a_request_has_the_size_that_was_asked_for(size: int) -> None:
    """To the byte, so that cost per kB means something."""
    assert len(chat("mock-j", size=size)) == size


def test_the_model_comes_first() -> None:
    """The mock looks for the first name that begins like its own."""
    assert chat("mock-j").startswith(b'{"model":"mock-j"')


def test_text_that_is_replaced_stands_in_the_last_message() -> None:
    """That is the text a router sees."""
    body = orjson.loads(chat("mock-j", text=UNSEEN))
    assert body["messages"][-1]["content"] == UNSEEN
    assert len(UNSEEN) == 512
