"""A ConfigMap and a Secret change under a running gateway as the kubelet changes them: one link is swapped, all files with it."""

import asyncio
from pathlib import Path

from backends._secret import Secret
from tests.deploy.files import documents
from tests.serving import serving
from tests.waiting import until

CONFIG = """
backends: {{cloud: {{kind: openai, base_url: "http://127.0.0.1:9/v1"}}}}
router: {{use: {{kind: rules}}, default: a}}
routes: {{a: {{ladder: [cloud], mode: {mode}}}}}
include: [conf.d/*.yaml]
"""


def write(folder: Path, generation: int, files: dict[str, str]) -> None:
    """As Kubernetes' atomic writer does it (pkg/volume/util/atomic_writer.go): a new folder, a link to it that replaces the old one in
    one step, and the old folder is gone. The files are links through `..data` and never change themselves."""
    new, data, before = folder / f"..2026_11_21_{generation}", folder / "..data", None
    new.mkdir(parents=True)
    for name, text in files.items():
        (new / name).write_text(text)
    if data.is_symlink():
        before = data.resolve()
    (folder / "..data_tmp").symlink_to(new.name)
    (folder / "..data_tmp").rename(data)
    for name in files:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    if before is not None:
        for file in before.iterdir():
            file.unlink()
        before.rmdir()


def test_a_changed_config_map_is_taken_up(tmp_path: Path) -> None:
    """The watcher sees the swap; what is wrong is refused and what was there stays; the next right one is taken again."""

    async def main() -> None:
        write(tmp_path, 1, {"weir.yaml": ""})
        async with serving(CONFIG.format(mode="observe"), tmp_path) as served:
            live = served.app.live
            assert live.setup.routes["a"].mode == "observe"
            write(tmp_path, 2, {"weir.yaml": CONFIG.format(mode="enforce")})
            await until(lambda: live.setup.routes["a"].mode == "enforce")
            write(
                tmp_path, 3, {"weir.yaml": CONFIG.format(mode="enforce").replace("ladder: [cloud]", "ladder: [nobody]")}
            )
            await until(lambda: served.metric('weir_config_reloads_total{result="failed"}') == 1)
            assert live.setup.routes["a"].mode == "enforce"
            write(tmp_path, 4, {"weir.yaml": CONFIG.format(mode="observe")})
            await until(lambda: live.setup.routes["a"].mode == "observe")

    asyncio.run(main())


def test_a_changed_secret_is_used(tmp_path: Path) -> None:
    """`${file:PATH}` is read again when the link behind it leads elsewhere."""
    write(tmp_path, 1, {"openai": "one\n"})
    secret = Secret(f"${{file:{tmp_path}/openai}}")
    assert secret.reveal() == "one"
    write(tmp_path, 2, {"openai": "two\n"})
    assert secret.reveal() == "two"


def test_the_manifest_mounts_folders() -> None:
    """A file mounted by `subPath` is never updated: none is."""
    from tests.deploy.files import MANIFESTS

    for file in MANIFESTS:
        assert not any("subPath" in str(one) for one in documents(file))
