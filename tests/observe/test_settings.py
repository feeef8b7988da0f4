"""`slo:` and `holdout:` in YAML: what is a mistake, and what is probably not meant."""

from pathlib import Path

import pytest

from gateway.settings.load import load
from gateway.settings.mistakes import ConfigError

CONFIG = """
backends:
  small: {{kind: openai, base_url: "http://127.0.0.1:1/v1", model: a, cloud: false}}
  cloud: {{kind: openai, base_url: "http://127.0.0.1:1/v1", model: b, cloud: true, price: {{input: 1}}}}
router: {{use: {{kind: rules}}, default: general}}
routes:
  general: {{ladder: [{ladder}], mode: {mode}, {more}}}
models: {{weir: routed}}
"""


def warned(folder: Path, more: str, *, ladder: str = "small, cloud", mode: str = "enforce") -> list[str]:
    path = folder / "weir.yaml"
    path.write_text(CONFIG.format(ladder=ladder, mode=mode, more=more))
    return [f"{mistake.where}: {mistake.message}" for mistake in load(path).warnings]


def test_what_is_said_stands(tmp_path: Path) -> None:
    """Both keys, and a window in days."""
    assert warned(tmp_path, "holdout: 0.02, slo: {escalation_rate: 0.3, failures: 0.001, window: 7d}") == []
    route = load(tmp_path / "weir.yaml").settings.routes["general"]
    assert route.slo is not None
    assert (route.slo.days, route.holdout) == (7, 0.02)


@pytest.mark.parametrize(
    ("more", "ladder", "mode", "said"),
    [
        ("holdout: 0.1", "small, cloud", "observe", "routes.general.holdout: is not used: small rungs answer nobody"),
        ("holdout: 0.1", "cloud", "enforce", "routes.general.holdout: is not used: small rungs answer nobody"),
        (
            "holdout: 0.1, egress: local",
            "small, cloud",
            "enforce",
            "routes.general.holdout: is not used: `egress: local`",
        ),
        ("slo: {window: 7d}", "small, cloud", "enforce", "routes.general.slo: says nothing"),
        ("slo: {escalation_rate: 0.1}", "cloud", "enforce", "routes.general.slo.escalation_rate: nothing escalates"),
    ],
)
def test_what_does_nothing_is_a_warning(tmp_path: Path, more: str, ladder: str, mode: str, said: str) -> None:
    """It names the key and the reason."""
    assert any(told.startswith(said) for told in warned(tmp_path, more, ladder=ladder, mode=mode))


@pytest.mark.parametrize(
    "more", ["slo: {window: 30}", "slo: {window: 0d}", "slo: {failures: 1}", "slo: {rate: 0.1}", "holdout: 0.9"]
)
def test_mistakes(tmp_path: Path, more: str) -> None:
    """A window without its unit, a budget of everything, an unknown key, a hold-out of most."""
    with pytest.raises(ConfigError, match=r"routes\.general\.(slo|holdout)"):
        warned(tmp_path, more)
