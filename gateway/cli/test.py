"""`weir test ROUTE --cases cases.jsonl`: what the user calls a good answer, asked of the whole line. For people, and for their CI."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.common import DEFAULT_CONFIG, ConfigOption, JsonOption, console, fail, print_json, tell

if TYPE_CHECKING:
    from gateway.cli.asking import Gateway, Reply
    from gateway.cli.cases import Case, Compare, Said

Cases = Annotated[
    Path,
    typer.Option(
        "--cases", help='JSON lines: {"request": {"messages": [...]}, "expected": ..., "also": [...], "name": ...}'
    ),
]
Comparator = Annotated[
    str | None,
    typer.Option(
        help="MODULE:FUNCTION: f(expected, answer) -> bool, a score from 0 to 1, or one of them with a reason."
    ),
]
Url = Annotated[str | None, typer.Option(help="A gateway that runs, instead of one in this process.")]
Key = Annotated[str, typer.Option(envvar="WEIR_KEY", help="Key to ask with, where one is needed.")]
Least = Annotated[float, typer.Option("--min", min=0, max=1, help="Share of the cases that must pass.")]
Parallel = Annotated[int, typer.Option(min=1, max=64, help="Requests at a time.")]

LOCAL = ("accepted", "degraded")
LLM = ("direct", "escalated")


def register(app: typer.Typer) -> None:
    @app.command()
    def test(
        route: Annotated[str, typer.Argument(help="The route that is to answer, whatever the router thinks.")],
        cases: Cases,
        config: ConfigOption = DEFAULT_CONFIG,
        comparator: Comparator = None,
        url: Url = None,
        key: Key = "",
        least: Least = 1.0,
        parallel: Parallel = 4,
        as_json: JsonOption = False,
    ) -> None:
        """Ask a route your own cases and compare. Exit code 0: enough of them passed, 1: too few, 2: they could not be run.

        In this process the route answers as in `mode: enforce`, so a route can be tested before it is let loose. Failed cases show the
        beginning of what was expected and of what was said.
        """
        from gateway.cli.asking import Unreachable
        from gateway.cli.cases import Unusable, read
        from gateway.cli.cases import comparator as loaded
        from gateway.settings.mistakes import ConfigError

        try:
            found = read(cases)
            compare = loaded(comparator, Path.cwd()) if comparator else None
            told = asyncio.run(_run(_gateway(config, route, url, key), route, found, compare, parallel))
        except (Unusable, Unreachable) as exc:
            fail(str(exc), 2)
        except ConfigError as exc:
            tell(exc.mistakes)
            raise typer.Exit(2) from None
        summary = summed(told)
        if as_json:
            print_json({"route": route, "min": least, "summary": summary, "cases": told})
        else:
            _show(told, summary)
        raise typer.Exit(0 if summary["pass_rate"] >= least else 1)


# --- asking ---------------------------------------------------------------------------------------------------------------------------


def _gateway(config: Path, route: str, url: str | None, key: str) -> "AbstractAsyncContextManager[Gateway]":
    from gateway.cli.asking import inside, outside

    return outside(url, key) if url else inside(config, route, key)


async def _run(
    gateway: "AbstractAsyncContextManager[Gateway]",
    route: str,
    cases: "Sequence[Case]",
    compare: "Compare | None",
    parallel: int,
) -> list[dict[str, Any]]:
    """What became of each case, in their order. Raises Unreachable, ConfigError."""
    room = asyncio.Semaphore(parallel)
    async with gateway as asked:

        async def one(case: "Case") -> dict[str, Any]:
            async with room:
                return await _one(asked, route, case, compare)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(case)) for case in cases]
    return [task.result() for task in tasks]


async def _one(gateway: "Gateway", route: str, case: "Case", compare: "Compare | None") -> dict[str, Any]:
    import orjson

    from gateway.cli.asking import CHAT, RECORD, Unreachable
    from gateway.cli.cases import Score, best, of_request

    body = {name: value for name, value in case.request.items() if name not in ("stream", "stream_options")}
    told: dict[str, Any] = {
        "name": case.name,
        "passed": False,
        "score": 0.0,
        "why": "",
        "rung": None,
        "outcome": None,
        "cost_usd": None,
    }
    try:
        reply = await gateway.ask("POST", CHAT, orjson.dumps({**body, "model": f"route/{route}"}))
        record = await gateway.ask("GET", RECORD + reply.headers.get("x-weir-request-id", ""))
    except Unreachable as exc:
        return {**told, "why": str(exc)}
    told["rung"] = reply.headers.get("x-weir-rung")
    if record.status == 200:
        known = orjson.loads(record.body)
        told |= {"outcome": known["outcome"], "cost_usd": known.get("cost", 0.0)}
    said = _said(reply)
    score = (
        best(case, said, compare or of_request(case.request, gateway.schema)) if said else Score(0.0, _refused(reply))
    )
    return {**told, "passed": score.passed, "score": score.value, "why": score.why}


def _said(reply: "Reply") -> "Said | None":
    """The answer's first choice; None when there is no answer."""
    import orjson

    from gateway.cli.cases import Said
    from wire.types import ToolCall

    if reply.status != 200:
        return None
    choices = orjson.loads(reply.body).get("choices") or [{}]
    message = choices[0].get("message") or {}
    made = [call.get("function") or {} for call in message.get("tool_calls") or ()]
    calls = [ToolCall("", str(call.get("name", "")), str(call.get("arguments", ""))) for call in made]
    return Said(message.get("content") or "", calls, message, reply.headers.get("x-weir-rung", ""))


def _refused(reply: "Reply") -> str:
    import orjson

    try:
        error = orjson.loads(reply.body)["error"]
        return f"{reply.status} {error.get('code') or error.get('type')}: {error['message']}"
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return f"{reply.status}: no answer that can be read"


# --- telling --------------------------------------------------------------------------------------------------------------------------


def summed(told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rates over all cases; None where nothing is known: of a gateway elsewhere, when the key may not read Records."""
    local = [case for case in told if case["outcome"] in LOCAL]
    known = [case for case in told if case["outcome"] in (*LOCAL, *LLM)]
    costs = [case["cost_usd"] for case in told if case["cost_usd"] is not None]
    return {
        "cases": len(told),
        "passed": sum(case["passed"] for case in told),
        "pass_rate": sum(case["passed"] for case in told) / len(told),
        "score": sum(case["score"] for case in told) / len(told),
        "local": len(local),
        "local_pass_rate": sum(case["passed"] for case in local) / len(local) if local else None,
        "llm_share": (len(known) - len(local)) / len(known) if known else None,
        "cost_usd": sum(costs) if costs else None,
    }


def _show(told: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> None:
    from rich.table import Table

    out = console()
    table = Table(box=None, pad_edge=False)
    for name in ("case", "", "rung", "outcome", "USD", "why"):
        table.add_column(name, overflow="fold")
    for case in told:
        cost = "" if case["cost_usd"] is None else f"{case['cost_usd']:.6f}"
        mark = "ok" if case["passed"] else "FAILED"
        table.add_row(case["name"], mark, case["rung"] or "", case["outcome"] or "", cost, case["why"])
    out.print(table)
    out.print(f"{summary['passed']} of {summary['cases']} passed: {summary['pass_rate']:.1%}")
    if summary["local_pass_rate"] is not None:
        out.print(f"{summary['local']} answered by a small rung, of those passed: {summary['local_pass_rate']:.1%}")
    if summary["llm_share"] is not None:
        out.print(f"LLM share: {summary['llm_share']:.1%}")
    if summary["cost_usd"] is not None:
        out.print(f"cost: {summary['cost_usd']:.6f} USD")
