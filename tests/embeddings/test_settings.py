"""`embeddings:` in the configuration: kinds, secrets, mistakes with their line, the published schema; and outside the line's figures."""

from pathlib import Path

import pytest
import yaml
from jsonschema_rs import validator_for

from gateway.replay import replay
from gateway.settings.schema import json_schema
from tests.replay.made import intents, record, terms
from tests.settings.writing import GOOD, read, told, warned

HOME = Path(__file__).parent.parent.parent


def test_a_kind_is_read_by_its_own_config(tmp_path: Path) -> None:
    """`kind: openai` below `embeddings:` is the embedder, not the chat backend; its key stays a reference."""
    text = GOOD + "embeddings: {e: {kind: openai, api_key: '${WEIR_TEST_OTHER}', encoding: float, price: {input: 1}}}\n"
    config = read(tmp_path, text).settings.embeddings["e"]
    assert type(config).__name__ == "OpenAIEmbedderConfig"
    assert config.missing() == "WEIR_TEST_OTHER"
    assert config.model_dump()["encoding"] == "float"


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ("{kind: minilm, quue: 1}", "embeddings.e.quue"),
        ("{kind: minilm, queue: 0}", "embeddings.e.queue"),
        ("{kind: nobody}", "embeddings.e.kind"),
        ("{kind: vllm}", "embeddings.e.kind"),
        ("{kind: openai, base_url: nowhere}", "embeddings.e.base_url"),
        ("{}", "embeddings.e.kind"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, entry: str, line: str) -> None:
    """An unknown key, a value out of range, a kind that is none or a chat backend's."""
    (found,) = told(tmp_path, GOOD + f"embeddings:\n  e: {entry}\n")
    assert line in found
    assert found.startswith(f"{len(GOOD.splitlines()) + 2}:")


def test_what_is_never_reached_or_costs_nothing_is_warned_of(tmp_path: Path) -> None:
    """A glob behind a wider one; a cloud without a price."""
    lines = [
        "embeddings:",
        "  text-*: {kind: openai, price: {input: 1}}",
        "  text-embedding-*: {kind: openai, price: {input: 1}}",
        "  free: {kind: openai}",
    ]
    found = warned(tmp_path, GOOD + "\n".join(lines) + "\n")
    assert any("never matches" in warning and "text-embedding-*" in warning for warning in found)
    assert any("no `price:`" in warning and "free" in warning for warning in found)


def test_the_published_schema_knows_embedders() -> None:
    """The shipped file fits; a chat backend's key below `embeddings:` does not."""
    schema = validator_for(json_schema())
    shipped = yaml.safe_load((HOME / "deploy" / "weir.yaml").read_text())
    assert shipped["embeddings"]["weir-embed"] == {"kind": "minilm"}
    assert schema.is_valid(shipped)
    assert not schema.is_valid({**shipped, "embeddings": {"e": {"kind": "openai", "first_byte": 1}}})


def test_replay_leaves_embeddings_out() -> None:
    """No ladder answers them: they would only thin out the share of the large model."""
    beside = record(dialect="embeddings", outcome="straight", reason="straight", route="")
    report = replay([beside, record(), beside], terms(intents(0.5)))
    assert report.records == 1
    assert report.before.outcomes == {"accepted": 1}
