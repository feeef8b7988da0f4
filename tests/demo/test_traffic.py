"""The sample: seeded, stratified, and the stand-in's noise."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema_rs import validator_for

from gateway.demo import traffic
from gateway.demo.run import DATA
from gateway.demo.traffic import OUT_OF_SCOPE, Data, Item

SHIPPED = traffic.load(DATA)
SMALL = Data(
    labels=["a", "b", "c"],
    test=[(f"{label}{at}", label) for label in "abc" for at in range(6)],
    oos_test=[(f"o{at}", OUT_OF_SCOPE) for at in range(4)],
    prompts=[(f"p{at}", f"answer {at}") for at in range(2)],
)


def intents(items: list[Item]) -> list[Item]:
    return [item for item in items if item.kind == "intent"]


def test_the_shipped_data_is_the_whole_test_set() -> None:
    """150 intents with 30 test utterances each, 1,000 out of scope, and no `oos` among the intents."""
    assert len(SHIPPED.labels) == 150
    assert OUT_OF_SCOPE not in SHIPPED.labels
    assert set(Counter(label for _, label in SHIPPED.test).values()) == {30}
    assert len(SHIPPED.oos_test) == 1000


def test_the_same_seed_gives_the_same_requests() -> None:
    """A sample depends on its seed and on nothing else."""
    assert traffic.sample(SHIPPED, 300, 7) == traffic.sample(SHIPPED, 300, 7)
    assert traffic.sample(SHIPPED, 300, 7) != traffic.sample(SHIPPED, 300, 8)


@given(st.integers(1, 22), st.integers())
def test_the_sample_is_stratified(utterances: int, seed: int) -> None:
    """In and out of scope stand in their true proportion; intents differ by one at most; no utterance twice."""
    items = intents(traffic.sample(SMALL, utterances, seed))
    assert len(items) == utterances
    assert len({item.text for item in items}) == utterances
    counts = Counter(item.gold for item in items)
    assert counts.pop(OUT_OF_SCOPE, 0) == round(utterances * 4 / 22)
    per_label = [counts[label] for label in SMALL.labels]
    assert max(per_label) - min(per_label) <= 1


def test_a_thousand_utterances_are_what_the_issue_says() -> None:
    """818 in scope (5 or 6 of each intent), 182 out of scope, and a tenth as many chats."""
    items = traffic.sample(SHIPPED, 1000, 1)
    counts = Counter(item.gold for item in intents(items))
    assert counts.pop(OUT_OF_SCOPE) == 182
    assert set(counts.values()) == {5, 6}
    assert len(counts) == 150
    assert len(items) - len(intents(items)) == 100


def test_everything_can_be_sent_and_no_more() -> None:
    """The whole test set is a sample; one more, or none, is refused."""
    assert len(intents(traffic.sample(SHIPPED, 5500, 1))) == 5500
    for wrong in (0, 5501):
        with pytest.raises(ValueError, match="5500"):
            traffic.sample(SHIPPED, wrong, 1)


def test_kinds_are_mixed() -> None:
    """Chats are spread over the sample, not sent at its end."""
    kinds = [item.kind for item in traffic.sample(SHIPPED, 1000, 1)]
    assert all("chat" in kinds[at : at + 275] for at in range(0, 1100, 275))


@given(st.floats(0, 1), st.integers())
def test_the_stand_in_is_wrong_as_often_as_it_says(share: float, seed: int) -> None:
    """Exactly the share of utterances (rounded) gets another label; every answer fits the schema; chats are never wrong."""
    items = traffic.sample(SMALL, 22, 1)
    said = traffic.noisy(items, SMALL.labels, share, seed)
    fits = validator_for(traffic.schema(SMALL.labels)).validate
    wrong = 0
    for item in items:
        if item.kind == "chat":
            assert said[item.text] == item.gold
            continue
        fits({"intent": said[item.text].split('"')[3]})
        wrong += said[item.text] != traffic.answer(item.gold)
    assert wrong == round(22 * share)


def test_an_agent_asks_with_151_values() -> None:
    """An utterance comes with system prompt, user text and a schema of 150 intents and `oos`; a chat without a schema."""
    asked = traffic.body(Item("intent", "hi", "greeting"), SHIPPED.labels)
    assert [message["role"] for message in asked["messages"]] == ["system", "user"]
    form = asked["response_format"]["json_schema"]
    assert form["name"] == "intent"
    assert len(form["schema"]["properties"]["intent"]["enum"]) == 151
    assert "response_format" not in traffic.body(Item("chat", "hi", ""), SHIPPED.labels)


def test_missing_data_names_the_file(tmp_path: Path) -> None:
    """Without its data the demo says which file it wanted."""
    with pytest.raises(traffic.DataMissing, match=r"clinc150.*data_full\.json\.gz"):
        traffic.load(tmp_path)
