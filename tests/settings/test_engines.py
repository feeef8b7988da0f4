"""gateway/settings/engines.py: `engines:` seen with the rest of the file."""

from pathlib import Path

import pytest

from tests.settings.writing import GOOD, read, swap, told, warned

ENGINES = swap(
    "routes:\n",
    "engines:\n  base: {model: /models/qwen3-4b, adapters: {refunds: /a/refunds}}\nroutes:\n",
    swap("    kind: tests.settings.kinds:Local\n", "    kind: vllm\n    engine: base\n    adapter: refunds\n"),
)
"""Line 4: `engine:`; line 5: `adapter:`; line 15: `base:`."""


def test_a_backend_gets_what_its_engine_says(tmp_path: Path) -> None:
    """Address and model; its adapter stays its own."""
    slm = read(tmp_path, ENGINES).settings.backends["slm"]
    found = [getattr(slm, key) for key in ("base_url", "model", "adapter")]
    assert found == ["http://127.0.0.1:8000/v1", "qwen3-4b", "refunds"]
    assert warned(tmp_path, ENGINES) == []


def test_what_a_backend_says_itself_stays(tmp_path: Path) -> None:
    """A model of its own, for a server that answers to several names."""
    slm = read(tmp_path, swap("    adapter: refunds\n", "    model: other\n", ENGINES)).settings.backends["slm"]
    assert getattr(slm, "model", "") == "other"


def test_replicas_are_told(tmp_path: Path) -> None:
    """The first is base_url, the others stand beside it."""
    slm = read(
        tmp_path, swap("{model:", "{replicas: 3, port: 9000, gpu_memory: 0.3, model:", ENGINES)
    ).settings.backends["slm"]
    assert getattr(slm, "base_url", "") == "http://127.0.0.1:9000/v1"
    assert getattr(slm, "replicas", ()) == ("http://127.0.0.1:9001/v1", "http://127.0.0.1:9002/v1")


@pytest.mark.parametrize("url", ["http://vllm:8000", "http://vllm:8000/", "http://vllm:8000/v1"])
def test_an_engine_elsewhere(tmp_path: Path, url: str) -> None:
    """`url:` is where compose or Kubernetes run it; left empty by a variable it is as if it were not there."""
    slm = read(tmp_path, swap("{model:", f"{{url: '{url}', model:", ENGINES)).settings.backends["slm"]
    assert getattr(slm, "base_url", "") == "http://vllm:8000/v1"
    slm = read(tmp_path, swap("{model:", "{url: '${VLLM_URL:-}', model:", ENGINES)).settings.backends["slm"]
    assert getattr(slm, "base_url", "") == "http://127.0.0.1:8000/v1"


@pytest.mark.parametrize(
    ("old", "new", "mistake"),
    [
        ("engine: base", "engine: bass", "4: backends.slm.engine: no engine named 'bass' (did you mean 'base'?)"),
        ("engine: base\n", "engine: base\n    base_url: http://x/v1\n", "5: backends.slm.base_url: `engine: base` says where"),
        ("adapter: refunds", "adapter: refund", "5: backends.slm.adapter: engine 'base' has no adapter 'refund' (did you mean 'refunds'?)"),
        ("{model:", "{port: 8080, model:", "15: engines.base.port: port 8080 is already that of the gateway itself"),
        ("{model:", "{port: 65535, replicas: 2, gpu_memory: 0.1, model:", "15: engines.base.port: its replicas need ports up to"),
        ("{model:", "{gpu_memory: 0.5, replicas: 2, model:", "15: engines.base.gpu_memory: engines take 1 of device 0 together (base 1)"),
        ("{model:", "{gpu_memory: 20 GiG, model:", "15: engines.base.gpu_memory: must be a share like 0.6"),
        ("{model:", "{gpu_memory: 1.5, model:", "15: engines.base.gpu_memory: is a share of the device"),
        ("{model:", "{devices: [[0], [1]], model:", "15: engines.base.devices: lists GPUs for 2 replicas"),
        ("{model:", "{devices: [0, 0], model:", "15: engines.base.devices: names GPUs by their numbers"),
        ("{model:", "{served_as: refunds, model:", "15: engines.base.adapters.refunds: 'refunds' is the base model's own name"),
        ("{model:", "{extra: [--seed, '1', --port=9], model:", "15: engines.base.extra.2: --port is Weir's to set: write `port:`"),
        ("{model:", "{env: {CUDA_VISIBLE_DEVICES: 1}, model:", "15: engines.base.env.CUDA_VISIBLE_DEVICES: is Weir's to set"),
        ("{model:", "{url: 'http://x/y', model:", "15: engines.base.url: is written without a path"),
        ("{model:", "{modle:", "15: engines.base.modle: unknown key 'modle' (did you mean 'model'?)"),
    ],
)  # fmt: skip
def test_what_cannot_be(tmp_path: Path, old: str, new: str, mistake: str) -> None:
    """Told at its line, with a way out."""
    mistakes = told(tmp_path, swap(old, new, ENGINES))
    assert [one for one in mistakes if one.startswith(mistake)], mistakes


def test_two_engines_on_one_port(tmp_path: Path) -> None:
    """Also when one of them lies among the replicas of the other."""
    second = "  second: {model: org/m, port: 9001, devices: [5]}\nroutes:\n"
    text = swap("routes:\n", second, swap("{model:", "{port: 9000, replicas: 2, gpu_memory: 0.1, model:", ENGINES))
    assert told(tmp_path, text) == [
        "16: engines.second.port: port 9001 is already that of engine 'base': take another one, or leave it out to have one assigned"
    ]


@pytest.mark.parametrize(
    ("old", "new", "warning"),
    [
        ("    adapter: refunds\n", "", "14: engines.base.adapters.refunds: no backend on this engine names this adapter"),
        ("    engine: base\n    adapter: refunds\n", "", "13: engines.base: no backend says `engine: base`"),
        ("{model:", "{device: cpu, devices: [1], model:", "15: engines.base.devices: is not used with `device: cpu`"),
        ("{model:", "{kv_cache_gib: 2, model:", "15: engines.base.kv_cache_gib: is only for `device: cpu`"),
        ("{model:", "{url: 'http://x', port: 1, model:", "15: engines.base.url: somebody else starts it, so nobody reads port"),
    ],
)  # fmt: skip
def test_what_is_probably_not_meant(tmp_path: Path, old: str, new: str, warning: str) -> None:
    """Warnings: it would run."""
    found = warned(tmp_path, swap(old, new, ENGINES))
    assert [one for one in found if one.startswith(warning)], found


def test_without_engines_nothing_changes(tmp_path: Path) -> None:
    """The table may be missing."""
    assert read(tmp_path, GOOD).settings.engines == {}
