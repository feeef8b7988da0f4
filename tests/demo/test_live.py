"""The demo as it is: `weir serve` in a process of its own, the official client, real utterances; only the stand-in is hurried."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest
from jsonschema_rs import validator_for

from gateway.demo import client, run, server, setting, traffic
from gateway.demo.account import Observation
from gateway.demo.run import Outcome
from gateway.demo.setting import CLOUD, GENERAL, INTENTS, SPECIALIST, Setting
from gateway.demo.traffic import OUT_OF_SCOPE
from tests.waiting import PATIENCE

pytestmark = pytest.mark.timeout(240)

GIVEN = Setting(utterances=60, parallel=8, seed=5, speed=100.0)
WEIR = (sys.executable, "-c", "from gateway.cli import main; main()")


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, list[Observation]]:
    told: list[Observation] = []

    async def play() -> Outcome:
        async with run.playing(GIVEN, tmp_path_factory.mktemp("demo"), told.append) as outcome:
            return outcome

    with pytest.MonkeyPatch.context() as patient:
        for where, name in ((server, "READY_SECONDS"), (run, "WARM_SECONDS"), (run, "WRITTEN_SECONDS")):
            patient.setattr(where, name, PATIENCE)
        return asyncio.run(play()), told


Played = tuple[Outcome, list[Observation]]


def test_every_request_is_answered(played: Played) -> None:
    """60 utterances and 6 chats, each sent once and each answered; the bar hears of all."""
    outcome, told = played
    assert (outcome.figures.utterances, outcome.figures.chats, outcome.figures.errors) == (60, 6, 0)
    assert len({o.id for o in outcome.seen}) == 66
    assert told == list(outcome.seen)


def test_the_books_agree_to_the_unit(played: Played) -> None:
    """Client, Records and /metrics count the same requests, outcomes, rungs and reasons."""
    outcome, _ = played
    assert outcome.books == []
    assert len(outcome.records) == 66
    assert outcome.well


def test_the_specialist_was_whole_before_the_first_request(played: Played) -> None:
    """Both tiers of the specialist took part; what was asked to find that out is in no figure."""
    outcome, _ = played
    tiers = {record.attempts[0].tier for record in outcome.records if record.route == INTENTS}
    assert tiers == {"static", "minilm"}
    assert setting.WARM.text not in {o.item.text for o in outcome.seen}


def test_both_rungs_serve(played: Played) -> None:
    """The specialist serves some, some of its answers are rejected and escalated, chats go straight to the top."""
    outcome, _ = played
    found = outcome.figures
    assert found.local_share > 0
    assert sum(found.escalated.values()) > 0
    assert sum(found.direct.values()) == 6
    assert {o.route for o in outcome.seen if o.item.kind == "chat"} == {GENERAL}
    assert {o.route for o in outcome.seen if o.item.kind == "intent"} == {INTENTS}


def test_delivered_answers_fit_the_schema(played: Played) -> None:
    """Whoever answered an utterance: the label is one of the 151."""
    outcome, _ = played
    fits = validator_for(traffic.schema(traffic.load(run.DATA).labels)).is_valid
    assert all(o.valid for o in outcome.seen)
    assert all(fits({"intent": o.answer}) for o in outcome.seen if o.item.kind == "intent")


def test_the_specialist_never_says_oos(played: Played) -> None:
    """`oos` is no intent: only the LLM may say it. What the stand-in says is marked as simulated, nothing else is."""
    outcome, _ = played
    by_rung = {o.rung: [p for p in outcome.seen if p.rung == o.rung] for o in outcome.seen}
    assert set(by_rung) == {SPECIALIST, CLOUD}
    assert all(o.answer != OUT_OF_SCOPE for o in by_rung[SPECIALIST])
    assert any(o.answer == OUT_OF_SCOPE for o in by_rung[CLOUD])
    assert all(o.simulated for o in by_rung[CLOUD])
    assert not any(o.simulated for o in by_rung[SPECIALIST])


def test_what_is_accepted_was_sure(played: Played) -> None:
    """An answer of the specialist goes out only at or above the threshold of the promised risk; below it escalates."""
    outcome, _ = played
    asked = [record.attempts[0] for record in outcome.records if record.route == INTENTS]
    assert asked
    for attempt in asked:
        assert attempt.threshold is not None
        assert attempt.probability is not None
        assert (attempt.outcome == "delivered") == (attempt.probability >= attempt.threshold)


def test_money_is_counted_on_both_sides(played: Played) -> None:
    """The LLM's answers cost what its price says; all of them at that price cost more: the ratio is a real one."""
    outcome, _ = played
    assert 0 < outcome.figures.cost_ratio < 1
    for record in outcome.records:
        if record.served == CLOUD:
            assert record.counterfactual_cost == pytest.approx(record.attempts[-1].cost)


def test_no_text_gets_into_log_or_records(played: Played) -> None:
    """Neither the gateway's log nor its Records hold an utterance or a label's answer."""
    outcome, _ = played
    folder = outcome.config.parent
    kept = (folder / run.LOG).read_bytes() + (folder / setting.STATE / "records.jsonl").read_bytes()
    assert b'"request"' in kept
    long = [o.item.text.encode() for o in outcome.seen if len(o.item.text) > 20]
    assert long
    assert not [text for text in long if text in kept]


def test_the_command(tmp_path: Path) -> None:
    """`weir demo --json` prints figures and nothing else, leaves nothing behind, and exits with 0."""
    done = subprocess.run(
        [*WEIR, "demo", "--requests", "30", "--speed", "200", "--json"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = orjson.loads(done.stdout)
    assert found["figures"]["requests"] == 33
    assert found["books_differ"] == []
    assert done.stderr == b""
    assert list(tmp_path.glob("weir-*")) == []


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_it_leaves_nothing_behind(tmp_path: Path, sent: signal.Signals, code: int) -> None:
    """Ctrl-C and SIGTERM end the gateway too, take the folder away, and show in the exit code."""
    # Who was started in the background ignores SIGINT, and what it starts does so too.
    heeding = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {WEIR[2]}"
    with subprocess.Popen(
        [*WEIR[:2], heeding, "demo", "--requests", "500", "--speed", "0.5"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        log = _wait_for_log(tmp_path)
        pid = _gateway_of(process.pid)
        process.send_signal(sent)
        process.communicate(timeout=60)
    assert process.returncode == code
    assert not log.exists()
    assert list(tmp_path.glob("weir-*")) == []
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def _wait_for_log(folder: Path, seconds: float = PATIENCE) -> Path:
    """The gateway's log, once a request has been answered."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for log in folder.glob(f"weir-demo-*/{run.LOG}"):
            if b'"request"' in log.read_bytes():
                return log
        time.sleep(0.02)
    raise TimeoutError(f"no request was answered within {seconds:g} s")


def _gateway_of(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    if not children.exists():
        pytest.skip("this system does not tell a process's children")
    return int(children.read_text().split()[0])


def test_a_gateway_that_does_not_start_says_why(tmp_path: Path) -> None:
    """A configuration with a mistake: the demo's error ends with what the gateway said, and nothing keeps running."""
    config = tmp_path / "weir.yaml"
    config.write_text("routes: {}\n")

    async def start() -> None:
        async with server.serving(config, tmp_path / "log"):
            raise AssertionError("it serves")

    with pytest.raises(server.DidNotStart, match="status 1"):
        asyncio.run(start())


def test_errors_are_observations(tmp_path: Path) -> None:
    """An answer with an error status, or none at all, is counted; the demo goes on."""
    from gateway.demo.traffic import Item

    async def ask() -> list[Observation]:
        async def gone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            if b"GET /v1/models" in head:
                body = b'{"object":"list","data":[]}'
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n")
            else:
                body = b'{"error":{"message":"no","type":"x","code":"overloaded","param":null}}'
                writer.write(
                    b"HTTP/1.1 503 No\r\ncontent-type: application/json\r\nx-weir-route: intents\r\nconnection: close\r\n"
                )
            writer.write(b"content-length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
            writer.close()

        listening = await asyncio.start_server(gone, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        async with client.agent(f"http://127.0.0.1:{port}", 1) as agent:
            items = [Item("intent", "fly", "translate")]
            first = await client.send(agent, items, ["translate"], 1, lambda _: None)
            listening.close()
            await listening.wait_closed()
            return first + await client.send(agent, items, ["translate"], 1, lambda _: None)

    refused, nobody = asyncio.run(ask())
    assert (refused.status, refused.outcome, refused.route) == (503, "refused", "intents")
    assert (nobody.status, nobody.outcome) == (0, "refused")
