"""`responses:` in the configuration: what `weir check` says of it."""

from pathlib import Path

import pytest

from tests.settings.writing import GOOD, told, warned

REDIS = "redis: {url: redis://x}"
KEY = "key: '${WEIR_TEST_STORE_KEY}'"


@pytest.mark.parametrize(
    ("table", "value", "expected"),
    [
        ("{store: redis, REDIS, SEALED}", "k" * 32, []),
        ("{store: redis, REDIS}", "", ["needs `key: ${NAME}`"]),
        ("{store: redis, SEALED}", "k" * 32, ["needs `redis: {url: ...}`"]),
        ("{store: redis}", "", ["needs `redis: {url: ...}`", "needs `key: ${NAME}`"]),
        ("{store: redis, REDIS, SEALED}", "short", ["is shorter than 32 characters"]),
        ("{store: disk}", "", ["responses.store"]),
        ("{ttl: 0}", "", ["ttl"]),
        ("{}", "", []),
        ("{store: off}", "", []),
    ],
)
def test_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, value: str, expected: list[str]) -> None:
    """What callers said leaves the process encrypted or not at all: Redis without a key of some length is refused."""
    monkeypatch.setenv("WEIR_TEST_STORE_KEY", value)
    text = f"{GOOD}responses: {table.replace('REDIS', REDIS).replace('SEALED', KEY)}\n"
    found = [line for line in told(tmp_path, text) if "responses" in line]
    assert len(found) == len(expected)
    assert all(any(words in line for line in found) for words in expected)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("{store: redis, REDIS, SEALED}", "WEIR_TEST_STORE_KEY is set"),
        ("{store: redis, redis: {url: '${WEIR_TEST_STORE_KEY}'}, SEALED}", "WEIR_TEST_STORE_KEY is set"),
        ("{REDIS}", "is not used with `store: memory`"),
        ("{store: off, SEALED}", "is not used with `store: off`"),
    ],
)
def test_warnings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, expected: str) -> None:
    """A variable that is not set is no mistake, nothing is kept until it is; keys that do nothing are named."""
    monkeypatch.delenv("WEIR_TEST_STORE_KEY", raising=False)
    text = f"{GOOD}responses: {table.replace('REDIS', REDIS).replace('SEALED', KEY)}\n"
    assert not [line for line in told(tmp_path, text) if "responses" in line]
    assert any(expected in line for line in warned(tmp_path, text) if "responses" in line)


def test_the_key_is_never_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by a finding nor by the settings themselves."""
    monkeypatch.setenv("WEIR_TEST_STORE_KEY", "short-and-secret")
    text = f"{GOOD}responses: {{store: redis, {REDIS}, {KEY}}}\n"
    assert "short-and-secret" not in str(told(tmp_path, text))
