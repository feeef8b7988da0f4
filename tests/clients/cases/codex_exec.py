"""Codex CLI, not interactive: one question over /v1/responses with a provider of our own."""

import json
import os
import subprocess

import pytest

PROVIDER = {
    "model": os.environ["WEIR_TEST_MODEL"],
    "model_provider": "weir",
    "model_providers.weir.name": "weir",
    "model_providers.weir.base_url": os.environ["OPENAI_BASE_URL"],
    "model_providers.weir.wire_api": "responses",
    "model_providers.weir.request_max_retries": 0,
    "model_providers.weir.stream_max_retries": 0,
    "analytics.enabled": False,
    "check_for_update_on_startup": False,
    "features.plugins": False,
}


PLAIN = {"features.multi_agent": False, "web_search": "disabled"}
"""Leaves functions only: by itself Codex also sends a `namespace` of functions and `web_search`."""


@pytest.mark.parametrize("more", [{}, PLAIN], ids=["as it is", "functions only"])
@pytest.mark.parametrize("day", [1, 2, 3])
def test_exec(day, more, tmp_path):
    """The answer's text is the last message."""
    given = {**PROVIDER, **more}
    told = [word for key, value in given.items() for word in ("-c", f"{key}={json.dumps(value)}")]
    last = tmp_path / "last.txt"
    command = [os.environ["WEIR_TEST_CODEX"], "exec", *told, "--skip-git-repo-check", "--sandbox", "read-only"]
    done = subprocess.run(
        [*command, "--output-last-message", str(last), f"hello on day {day}"],
        cwd=tmp_path,
        env={**os.environ, "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"},  # it asks nobody else
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-500:]
    assert f"hello on day {day}" in last.read_text()
