"""The generator and the mock, compiled and run against each other."""

import json
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from benchmarks.quality.parts import NotRun
from benchmarks.speed import _requests, _tools
from benchmarks.speed._bench import Bench, bench

pytestmark = pytest.mark.skipif(
    not (shutil.which("gcc") and shutil.which("taskset") and Path("/usr/include/openssl/ssl.h").exists()),
    reason="needs gcc, taskset and OpenSSL's headers",
)


@pytest.fixture(scope="module")
def here() -> Iterator[Bench]:
    try:
        with bench() as made:
            yield made
    except NotRun as exc:
        pytest.skip(str(exc))


def answer(here: Bench, model: str) -> str:
    asked = urllib.request.Request(f"{here.upstream}/chat/completions", _requests.chat(model))
    with urllib.request.urlopen(asked, timeout=50) as got:
        body: dict[str, Any] = json.loads(got.read())
    content: str = body["choices"][0]["message"]["content"]
    return content


def test_every_tenth_answer_of_the_sloppy_model_breaks_the_schema(here: Bench) -> None:
    """And no answer of the other: the escalation that is measured is one in ten."""
    fits = jsonschema_rs.validator_for(_requests.SCHEMA["json_schema"]["schema"]).is_valid
    assert [fits(json.loads(answer(here, "mock-j-x10"))) for _ in range(20)].count(False) == 2
    assert all(fits(json.loads(answer(here, "mock-j"))) for _ in range(20))


def test_what_is_sent_is_answered_and_counted_in_both_loops(here: Bench) -> None:
    """Nothing gets lost between the generator's counters, and a percentile is never below a smaller one."""
    for flags in (("-c", "4", "-t", "1"), ("-r", "200", "-t", "1")):
        row = here.measure(here.direct, _requests.chat("mock-j"), *flags)
        assert row["requests"] == row["sent"] > 0
        assert row["p50"] <= row["p99"] <= row["max"]
        assert not any(row[key] for key in ("shed", "other", "broken", "unanswered"))


def test_a_refusal_is_no_answer(here: Bench) -> None:
    """503 counts as shed, any other status as other, and neither has a latency."""
    shed = here.measure(here.direct, _requests.chat("mock-e503"), "-c", "1", "-t", "0.5")
    other = here.measure(here.direct, _requests.chat("mock-e500"), "-c", "1", "-t", "0.5")
    assert shed["shed"] > 0
    assert other["other"] > 0
    assert shed["requests"] == other["requests"] == 0
    assert "p50" not in shed


def test_chunks_of_a_stream_are_counted_and_their_stamps_read(here: Bench) -> None:
    """As many as the mock sent, also where several come in one read; the first byte is before the last piece, the end after it."""
    for model in ("mock-g0-n50", "mock-j-g2-n50"):
        body = _requests.chat(model, stream=True)
        row = here.measure(here.direct, body, "-c", "2", "-t", "0.5", "-S")
        assert row["chunks"] == 50 * row["requests"] > 0
        assert row["tail_p50"] >= 0
    assert row["gate_p50"] < 0


def test_unseen_texts_are_unseen(here: Bench) -> None:
    """Words of the file in place of the mark: the generator takes no body without one."""
    words = here.folder / "some-words"
    words.write_text("alpha beta gamma")
    row = here.measure(
        here.direct, _requests.chat("mock-j", text=_requests.UNSEEN), "-c", "1", "-t", "0.5", "-U", str(words)
    )
    assert row["requests"] > 0
    with pytest.raises(ValueError, match="512 @"):
        here.measure(here.direct, _requests.chat("mock-j"), "-c", "1", "-t", "0.5", "-U", str(words))


def test_what_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing may be installed the message says what to install."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(NotRun, match="apt-get install some-package"):
        _tools.debian({"no-such-program-anywhere": "some-package"})


def test_a_wait_for_a_free_connection_counts(here: Bench) -> None:
    """Open loop, one connection, answers after 50 ms, 100 requests a second: those that were due wait, and their wait is latency."""
    row = here.measure(here.direct, _requests.chat("mock-j-d50"), "-r", "100", "-n", "1", "-t", "0.5")
    assert row["max"] > 100_000
    assert row["unsent"] > 0
