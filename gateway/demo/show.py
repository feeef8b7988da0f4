"""The demo for people: a bar while it runs, a table at the end. Nothing here counts anything."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gateway.demo import setting as names
from gateway.demo.account import Figures, Observation, percentile
from gateway.demo.run import Outcome
from gateway.demo.setting import Setting

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

FOOTNOTES = (
    "The LLM is a stand-in on this machine (x-weir-simulated): it plays the gold labels with "
    f"{names.NOISE:.0%} of them wrong, its time is log-normal around {names.MEDIAN:g} s (--speed), its price "
    f"{names.PRICE['input']:g} / {names.PRICE['cached_input']:g} / {names.PRICE['output']:g} USD per million "
    "input / cached / output tokens.",
    f"The specialist's price is that of one core, {names.CORE_HOUR:.2f} USD an hour, spread over {names.SERVED:g} tokens a second.",
    "Specialist, threshold and calibration come from CLINC150's train and val; what is sent is from its test.",
)


class Tally:
    """What the bar says so far."""

    def __init__(self) -> None:
        self.done = self.local = self.llm = 0
        self._seconds: list[float] = []

    def add(self, observation: Observation) -> None:
        self.done += 1
        self.local += observation.outcome == "accepted"
        self.llm += observation.rung == names.CLOUD
        self._seconds.append(observation.seconds)

    def __str__(self) -> str:
        done = self.done or 1
        median = 1000 * percentile(self._seconds, 0.5)
        return f"local {self.local / done:.0%}  LLM {self.llm / done:.0%}  p50 {_ms(median)}"


@contextmanager
def bar(console: "Console", total: int) -> Iterator[Callable[[Observation], None]]:
    """A live bar on a terminal, nothing anywhere else. Yields what wants to hear of every answer."""
    tally = Tally()
    if not console.is_terminal or console.is_dumb_terminal:
        yield tally.add
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("weir demo"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[tally]}"),  # written out when it is drawn, five times a second
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, refresh_per_second=5, transient=True) as progress:
        task = progress.add_task("", total=total, tally=tally)

        def tell(observation: Observation) -> None:
            tally.add(observation)
            progress.advance(task)

        yield tell


def report(console: "Console", given: Setting, outcome: Outcome) -> None:
    """Everything that is shown at the end."""
    found = outcome.figures
    console.print(
        f"\n{found.utterances:,} utterances of CLINC150 and {found.chats:,} GSM8K prompts, {given.parallel} at a time, "
        f"seed {given.seed}, speed {given.speed:g}: {found.seconds:.1f} s\n",
        style="bold",
    )
    console.print(rungs(found))
    console.print(summary(found, outcome.books))
    for story in outcome.stories:
        console.print(f"  {story.outcome:10} {story.id}  {_short(story.text)} > {_short(story.answer)}")
    console.print()
    for line in FOOTNOTES:
        console.print(f"  {line}", style="dim")


def look_further(console: "Console", outcome: Outcome) -> None:
    """Commands for what `--keep` keeps."""
    console.print("\nThe gateway serves on until Ctrl-C. Look further, in another terminal:", style="bold")
    for story in outcome.stories:
        console.print(f"  weir why {story.id} --config {outcome.config}")
    console.print(f"  curl {outcome.url}/metrics")
    console.print(f"  OPENAI_BASE_URL={outcome.url}/v1 OPENAI_API_KEY=demo YOUR-AGENT")


def rungs(found: Figures) -> "Table":
    """Who answered, and how fast: as the agent saw it, and as the gateway measured it."""
    table = _table("answered by", "requests", "share", "p50", "p99", "p50 inside", "p99 inside")
    for rung, at in found.latency.items():
        table.add_row(
            rung,
            f"{at.answers:,}",
            f"{at.answers / found.requests:.1%}",
            *(_ms(value) for value in (at.p50_ms, at.p99_ms, at.gateway_p50_ms, at.gateway_p99_ms)),
        )
    return table


def summary(found: Figures, books: Sequence[str]) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold", style="dim")
    for name, value, note in rows(found, books):
        table.add_row(name, value, note)
    return table


def rows(found: Figures, books: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """(what, figure, remark)."""
    yield "served locally", f"{found.local_share:.1%}", f"of all requests; {found.local_coverage:.1%} of those in scope"
    yield (
        "right, of those",
        f"{found.local_accuracy:.1%}",
        f"one out of scope cannot be; {found.local_accuracy_in_scope:.1%} of those in scope",
    )
    yield "right, of all utterances", f"{found.overall_accuracy:.1%}", "whoever answered"
    yield "out of scope to the LLM", f"{found.oos_to_top:.1%}", ""
    yield "LLM share", f"{found.llm_share:.1%}", f"of calls; {found.llm_spend_share:.1%} of what was spent"
    yield "escalation rate", f"{found.escalation_rate:.1%}", _counts(found.escalated)
    yield "direct", f"{sum(found.direct.values()):,}", _counts(found.direct)
    yield "specialist's tiers", f"{sum(found.tiers.values()):,}", _counts(found.tiers)
    yield (
        "cost",
        f"{found.cost_usd:.4f} USD",
        f"{found.cost_ratio:.1%} of {found.all_llm_usd:.4f} USD with the LLM alone",
    )
    if found.errors or found.invalid:
        yield "failed", f"{found.errors + found.invalid:,}", f"{found.errors} unanswered, {found.invalid} invalid"
    agree = "client, Records and /metrics agree to the unit"
    yield "books", "agree" if not books else "DIFFER", agree if not books else "; ".join(books)


def _table(*columns: str) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for at, column in enumerate(columns):
        table.add_column(column, justify="right" if at else "left", no_wrap=True)
    return table


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name or 'unnamed'} {count:,}" for name, count in counts.items())


def _ms(value: float) -> str:
    return f"{value:,.1f} ms" if value < 100 else f"{value:,.0f} ms"


def _short(text: str, most: int = 48) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 3]}..."
