"""`weir why ID` and `weir replay`: what the Records on disk can tell.

Both read `records.jsonl` and its rotated files line by line, never a whole file at once, and neither needs a running server.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.common import DEFAULT_CONFIG, ConfigOption, JsonOption, configured, fail, print_json, tell

if TYPE_CHECKING:
    from gateway.record import Record
    from gateway.redecide import Terms
    from gateway.setup import Setup
    from routers.base import RouterConfig

Files = Annotated[
    list[Path] | None,
    typer.Option(
        "--records", help="A file of Records instead of those in server.state_dir; may be given several times."
    ),
]


def register(app: typer.Typer) -> None:
    @app.command()
    def why(
        id: Annotated[str, typer.Argument(help="x-request-id of the answer, or `last`.")],
        config: ConfigOption = DEFAULT_CONFIG,
        records: Files = None,
        as_json: JsonOption = False,
    ) -> None:
        """Tell the whole story of one request: facts, scores, attempts, money, and what would have changed it."""
        import msgspec

        from gateway.cli.tables import show_record
        from gateway.turning import turning_points

        found = find(id, _named(records) or files_in(configured(config).settings.server.state_dir))
        if found is None:
            fail(f"no Record of {id!r}: only the newest files are kept, and a Record is written within a second")
        if as_json:
            told = {"record": msgspec.to_builtins(found), "what_would_have_changed_it": turning_points(found)}
            print_json(told)
        else:
            show_record(found)

    @app.command()
    def replay(
        config: ConfigOption = DEFAULT_CONFIG,
        records: Files = None,
        as_json: JsonOption = False,
    ) -> None:
        """Decide stored requests again under another configuration, and say what would change. Calls no backend."""
        import msgspec

        from gateway.cli.tables import show_report
        from gateway.replay import replay as again

        setup = _setup(config)
        report = again(stored(_named(records) or files_in(setup.settings.server.state_dir)), terms_of(setup))
        if report.records == 0:
            fail("no Records to replay: name files with --records, or a state_dir that has some")
        if as_json:
            print_json(msgspec.to_builtins(report))
        else:
            show_report(report)


# -- reading


def _named(records: list[Path] | None) -> list[Path]:
    """The files that were named; one that is not there is wrong usage, not an empty one."""
    for path in records or ():
        if not path.is_file():
            fail(f"{path}: no such file", 2)
    return records or []


def files_in(folder: Path) -> list[Path]:
    """The files of Records in a state directory, newest first."""
    from gateway.recorder import FILE

    rotated = [path for path in folder.glob(f"{FILE}.*") if path.suffix[1:].isdigit()]
    return [folder / FILE, *sorted(rotated, key=lambda path: int(path.suffix[1:]))]


def stored(files: Iterable[Path]) -> "Iterator[Record]":
    """Every Record in `files`; missing files and lines that are no Record are skipped."""
    import msgspec

    from gateway.record import decode

    for path in files:
        with suppress(FileNotFoundError), path.open("rb") as lines:
            for line in lines:
                with suppress(msgspec.MsgspecError):
                    yield decode(line)


def find(id: str, files: Iterable[Path]) -> "Record | None":
    """The Record of request `id`, or the last one for `last`. `files`: newest first; within a file the last line counts."""
    import msgspec

    from gateway.record import decode

    needle = msgspec.json.encode(id.encode("utf-8", "replace").decode())[1:-1]  # as it stands in a line
    for path in files:
        found: Record | None = None
        with suppress(FileNotFoundError), path.open("rb") as lines:
            for line in lines:
                if id != "last" and needle not in line:
                    continue
                with suppress(msgspec.MsgspecError):
                    record = decode(line)
                    found = record if id in ("last", record.id) else found
        if found is not None:
            return found
    return None


# -- the configuration


def terms_of(setup: "Setup") -> "Terms":
    """What of a Setup a replay needs."""
    from gateway.redecide import Terms
    from routers.rules import read_matches

    kinds = set(kinds_of(setup.settings.router.use))
    return Terms(
        routes=setup.routes,
        default=setup.default,
        matches={name: read_matches(route.match) for name, route in setup.settings.routes.items()},
        rules="rules" in kinds,
        readers=bool(kinds - {"rules"}),
        prices=setup.prices,
        reserve=setup.settings.server.reserve,
    )


def kinds_of(config: "RouterConfig") -> Iterator[str]:
    """The kinds of the routers that really score: a cascade's tiers instead of itself."""
    tiers: Sequence[RouterConfig] | None = getattr(config, "of", None)
    if tiers is None:
        yield config.kind
        return
    for tier in tiers:
        yield from kinds_of(tier)


def _setup(config: Path) -> "Setup":
    from gateway.app import build
    from gateway.settings.mistakes import ConfigError

    loaded = configured(config)
    try:
        return build(loaded)
    except ConfigError as exc:
        tell(exc.mistakes)
        raise typer.Exit(1) from None
