"""`weir calibrate ROUTE`, `weir recalibrate [ROUTE...]`: ask a small rung for labelled requests, and find the threshold that keeps a risk.

A running gateway notices the file that is written and reloads; nothing else touches it, and the old file stays for the old model.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.common import DEFAULT_CONFIG, ConfigOption, JsonOption, configured, console, fail, print_json, tell

if TYPE_CHECKING:
    from gateway.calibrate.labelled import Case, Part
    from gateway.calibrate.measure import Measured
    from gateway.calibrate.run import Done, Task
    from gateway.settings.load import Loaded
    from gateway.setup import Setup

CONFIDENCE = 0.95
EVERY = 20
"""Lines of progress that a run prints where no terminal is."""

Data = Annotated[Path, typer.Option(help="Labelled requests, one JSON object a line.")]
Risk = Annotated[
    float | None, typer.Option(min=0.0001, max=0.5, help="Promised risk. Default: the route's accept.risk.")
]
Confidence = Annotated[float, typer.Option(min=0.5, max=0.9999, help="With which it is kept.")]
RungName = Annotated[str | None, typer.Option(help="Only this rung. Default: every small one of the ladder.")]
FitShare = Annotated[float, typer.Option(min=0.1, max=0.9, help="Share of the data that the confidence is fitted on.")]
Fit = Annotated[Path | None, typer.Option(help="Other labelled requests to fit on; then all of --data tests.")]
Out = Annotated[Path | None, typer.Option(help="Folder to write to. Default: calibration/ beside the configuration.")]
Seed = Annotated[int, typer.Option(help="Of the split.")]
InFlight = Annotated[int, typer.Option(min=1, max=512, help="Requests asked at once.")]
Compare = Annotated[str, typer.Option(help="module:function that says what right is: (expected, answer) -> bool.")]
Ask = Annotated[
    str | None,
    typer.Option("--ask", help="The backend to ask in the rung's place: the model that will stand behind it."),
]


def register(app: typer.Typer) -> None:
    @app.command()
    def calibrate(
        route: Annotated[str, typer.Argument(help="The route whose small rungs are asked.")],
        data: Data,
        risk: Risk = None,
        confidence: Confidence = CONFIDENCE,
        rung: RungName = None,
        fit_share: FitShare = 0.5,
        fit: Fit = None,
        out: Out = None,
        seed: Seed = 0,
        in_flight: InFlight = 16,
        comparator: Compare = "",
        ask: Ask = None,
        config: ConfigOption = DEFAULT_CONFIG,
        as_json: JsonOption = False,
    ) -> None:
        """Ask a route's small rungs for labelled requests, and write the threshold that keeps a promised risk."""
        from gateway.calibrate.run import Task

        loaded, setup, resources = _built(config)
        rungs = _rungs(setup, route, rung, ask)
        cases = _cases(data, route, comparator, "test" if fit else "")
        if fit is not None:
            cases = [*_cases(fit, route, comparator, "fit"), *cases]
        wanted = risk if risk is not None else setup.settings.routes[route].accept.risk
        if wanted is None:
            fail(f"--risk: the route {route!r} has no accept.risk", 2)
        tasks = [
            Task(
                setup=setup,
                route=route,
                rung=name,
                cases=cases,
                risk=wanted,
                confidence=confidence,
                folder=out or loaded.calibrations,
                fit_share=fit_share,
                seed=seed,
                in_flight=in_flight,
                ask=ask or "",
            )
            for name in rungs
        ]
        _report(_run(resources, setup, lambda: tasks), as_json)

    @app.command()
    def recalibrate(
        routes: Annotated[list[str] | None, typer.Argument(help="Default: every route that was calibrated.")] = None,
        rung: RungName = None,
        out: Out = None,
        in_flight: InFlight = 16,
        ask: Ask = None,
        force: Annotated[bool, typer.Option("--force", help="Also where the calibration still holds.")] = False,
        config: ConfigOption = DEFAULT_CONFIG,
        as_json: JsonOption = False,
    ) -> None:
        """Ask what stands behind the rungs now for the stored requests again, beside a gateway that goes on with the old files."""
        loaded, setup, resources = _built(config)
        folder = out or loaded.calibrations
        named = list(routes or _calibrated(folder, setup))
        if not named:
            fail(f"{folder}: no labelled requests are stored there: run `weir calibrate ROUTE --data FILE` first")
        pairs = [(name, one) for name in named for one in _rungs(setup, name, rung, ask)]

        def tasks() -> "list[Task]":
            made = [_again(setup, name, one, folder, in_flight, ask or "", force=force) for name, one in pairs]
            return [task for task in made if task is not None]

        _report(_run(resources, setup, tasks), as_json)


# --- what is to be done -----------------------------------------------------------------------------------------------------------


def _built(config: Path) -> "tuple[Loaded, Setup, Any]":
    from gateway.app import Resources, build
    from gateway.settings.mistakes import ConfigError

    loaded = configured(config)
    resources = Resources(loaded.folder)
    try:
        return loaded, build(loaded, resources), resources
    except ConfigError as exc:
        tell(exc.mistakes)
    raise typer.Exit(1)


def _rungs(setup: "Setup", route: str, rung: str | None, ask: str | None) -> list[str]:
    from gateway.calibrate.run import small_rungs
    from gateway.settings.mistakes import did_you_mean

    if route not in setup.settings.routes:
        fail(f"no route named {route!r}{did_you_mean(route, setup.settings.routes)}", 2)
    rungs = small_rungs(setup, route)
    if not rungs:
        fail(f"the ladder of {route!r} has one rung: there is nobody above to answer what a small one does not", 2)
    if rung is not None and rung not in rungs:
        fail(f"--rung: no small rung {rung!r} on the ladder of {route!r}: there are {', '.join(rungs)}", 2)
    if ask is not None and ask not in setup.backends:
        fail(f"--ask: no backend named {ask!r}{did_you_mean(ask, setup.backends)}", 2)
    chosen = [rung] if rung is not None else rungs
    if ask is not None and len(chosen) > 1:
        fail(f"--ask: name the rung in whose place {ask!r} is asked (--rung): there are {', '.join(rungs)}", 2)
    return chosen


def _cases(path: Path, route: str, comparator: str, part: "Part") -> "list[Case]":
    from gateway.calibrate.labelled import LabelledError, read

    try:
        return read(path.read_bytes(), name=str(path), model=f"route/{route}", comparator=comparator, part=part)
    except OSError as exc:
        fail(f"{path}: {exc.strerror or 'cannot be read'}", 2)
    except LabelledError as exc:
        fail(str(exc))


def _calibrated(folder: Path, setup: "Setup") -> list[str]:
    from gateway.calibrate.file import labelled_of

    return [name for name in setup.settings.routes if labelled_of(folder, name).exists()]


def _again(
    setup: "Setup", route: str, rung: str, folder: Path, in_flight: int, ask: str, *, force: bool
) -> "Task | None":
    """None when the calibration that there is still holds."""
    from gateway.calibrate.file import labelled_of
    from gateway.calibrate.run import Task, holding, terms

    stored = labelled_of(folder, route)
    if not stored.exists():
        fail(f"{stored}: no labelled requests are stored: run `weir calibrate {route} --data FILE` first")
    if not force and (found := holding(setup, route, rung, folder, ask)):
        typer.echo(f"{route}: '{ask or rung}' has a calibration that holds: {found}", err=True)
        return None
    risk, confidence = terms(setup, route, rung, folder)
    if risk is None:
        fail(f"the route {route!r} has no accept.risk, and no calibration of '{rung}' says one")
    return Task(
        setup=setup,
        route=route,
        rung=rung,
        cases=_cases(stored, route, "", ""),
        risk=risk,
        confidence=confidence or CONFIDENCE,
        folder=folder,
        in_flight=in_flight,
        ask=ask,
    )


# --- doing it ---------------------------------------------------------------------------------------------------------------------


def _run(resources: Any, setup: "Setup", tasks: "Callable[[], Sequence[Task]]") -> "list[Done]":
    """tasks: asked for once the servers have told which models they serve."""
    from gateway.calibrate.collect import Away
    from gateway.calibrate.file import keep_labelled
    from wire.errors import Unavailable

    async def work() -> "list[Done]":
        from gateway.calibrate.run import calibrate, look
        from gateway.log import Log

        await resources.open()
        try:
            for trouble in await resources.workers(Log(off=True), set()):
                typer.echo(f"cannot be started: {trouble}", err=True)
            for name in setup.backends:
                await look(setup, name)
            done = []
            for task in tasks():
                typer.echo(f"{task.route}: asking '{task.ask or task.rung}' for {len(task.cases)} requests", err=True)
                done.append(await calibrate(task, _progress))
                keep_labelled(task.folder, task.route, done[-1].cases)
            return done
        finally:
            await resources.close()

    try:
        return _finished(work())
    except (Away, ValueError, OSError) as exc:
        fail(str(exc))
    except Unavailable as exc:
        fail(f"{exc.message}")


def _finished(work: "Coroutine[Any, Any, list[Done]]") -> "list[Done]":
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        fail("stopped: what was answered is kept, the same command goes on from there", 130)


def _progress(done: int, total: int) -> None:
    if done == total or done % max(1, total // EVERY) == 0:
        typer.echo(f"  {done} of {total}", err=True)


# --- telling ----------------------------------------------------------------------------------------------------------------------


def _report(results: "Sequence[Done]", as_json: bool) -> None:
    if as_json:
        print_json([_figures(done) for done in results])
        return
    for done in results:
        _show(done)


def _figures(done: "Done") -> dict[str, Any]:
    measured, step = done.measured, done.measured.step
    return {
        "file": str(done.path),
        "risk": measured.risk,
        "confidence": measured.confidence,
        "n": measured.n,
        "n_fit": measured.n_fit,
        "accuracy": measured.accuracy,
        "auroc": measured.auroc,
        "ece": measured.ece,
        "threshold": measured.threshold,
        "local_share": step.coverage if step else 0.0,
        "regret": step.regret if step else None,
        "regret_bound": step.regret_bound if step else None,
        "error_among_accepted": step.error if step else None,
        "error_bound": step.error_bound if step else None,
        "oracle_share": measured.oracle[f"{measured.risk:g}"],
        "crc_threshold": measured.crc[f"{measured.risk:g}"],
        "unusable": measured.unusable,
        "notes": list(done.notes),
    }


def _show(done: "Done") -> None:
    from rich.table import Table

    told, measured = _figures(done), done.measured
    table = Table(title=done.path.name, title_justify="left", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in _rows(told, measured):
        table.add_row(name, value)
    out = console()
    out.print(table)
    for note in done.notes:
        out.print(f"note: {note}", style="yellow")
    if measured.threshold is None:
        best = min(step.regret_bound for step in measured.curve)
        out.print(
            f"a risk of {measured.risk:g} cannot be kept with confidence {measured.confidence:g}: the best bound is {best:.4f}. More "
            "labelled requests, or a better model, would help",
            style="yellow",
        )
    out.print(f"written: {done.path}")


def _rows(told: dict[str, Any], measured: "Measured") -> list[tuple[str, str]]:
    def number(name: str, form: str = ".4f") -> str:
        return "-" if told[name] is None else format(told[name], form)

    return [
        ("requests tested on / fitted on", f"{measured.n} / {measured.n_fit}"),
        ("right answers of the rung, before anything is rejected", number("accuracy", ".1%")),
        ("not answered, or failing a hard check", number("unusable", ".1%")),
        ("AUROC of its probability", number("auroc")),
        ("ECE of its probability", number("ece")),
        (f"threshold for a risk of {measured.risk:g} with confidence {measured.confidence:g}", number("threshold")),
        ("local share at it", number("local_share", ".1%")),
        ("regret over all requests: seen / bound", f"{number('regret')} / {number('regret_bound')}"),
        ("error among the accepted: seen / bound", f"{number('error_among_accepted')} / {number('error_bound')}"),
        ("oracle share 1 - (mu - a) / (1 - a)", number("oracle_share", ".1%")),
        ("threshold of conformal risk control (bounds the mean only)", number("crc_threshold")),
    ]
