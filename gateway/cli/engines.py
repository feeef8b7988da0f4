"""`weir engines`: the vLLM servers that `weir serve --with-vllm` would start, and how. Starts nothing."""

import re
import shlex
from typing import TYPE_CHECKING, Any

import typer

from gateway.cli.common import DEFAULT_CONFIG, ConfigOption, JsonOption, configured, console, print_json, tell

if TYPE_CHECKING:
    from gateway.engines.plan import Process
    from gateway.settings.load import Loaded

_SECRET = re.compile(r"(?i)key|token|secret|password")


def register(app: typer.Typer) -> None:
    @app.command()
    def engines(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
        """Print the plan for local vLLM servers: command lines, ports, memory. Starts nothing."""
        from functools import partial

        from gateway.build import resolve
        from gateway.engines.facts import look
        from gateway.engines.plan import plan

        loaded = configured(config)
        planned = plan(loaded.settings, look(loaded.settings, partial(resolve, loaded.folder)))
        mistakes = [loaded.lines.mistake(*told) for told in planned.told]
        if as_json:
            print_json(
                {"ok": planned.ok, "mistakes": [_plain(one) for one in mistakes], **facts(loaded, planned.processes)}
            )
        else:
            tell(mistakes)
            if planned.ok:
                _show(loaded, planned.processes)
        raise typer.Exit(0 if planned.ok else 1)


def facts(loaded: "Loaded", processes: "tuple[Process, ...]") -> dict[str, Any]:
    """What `--json` prints."""
    folder = loaded.settings.server.state_dir / "engines"
    return {
        "processes": [
            {**_plain(one), "env": _shown(one.env), "log": str(folder / f"{one.name}.log")} for one in processes
        ],
        "elsewhere": {name: engine.url for name, engine in loaded.settings.engines.items() if engine.url},
        "backends": {
            name: {"engine": engine, "url": getattr(backend, "base_url", "")}
            for name, backend in loaded.settings.backends.items()
            if (engine := getattr(backend, "engine", None))
        },
    }


def _plain(value: Any) -> dict[str, Any]:
    from msgspec import to_builtins

    plain: dict[str, Any] = to_builtins(value)
    return plain


def _shown(env: Any) -> dict[str, str]:
    return {name: "***" if _SECRET.search(name) else value for name, value in env.items()}


def _show(loaded: "Loaded", processes: "tuple[Process, ...]") -> None:
    out = console()
    told = facts(loaded, processes)
    for one in told["processes"]:
        out.print(f"{one['name']}: {one['url']}, {one['memory']}", style="bold")
        out.print("  " + shlex.join([*(f"{name}={value}" for name, value in one["env"].items()), *one["argv"]]))
        asked = [name for name, backend in told["backends"].items() if backend["engine"] == one["engine"]]
        out.print(f"  for {', '.join(asked) or 'nobody'}; log {one['log']}")
    for name, url in told["elsewhere"].items():
        out.print(f"{name}: {url}, started by somebody else")
    if not told["processes"] and not told["elsewhere"]:
        out.print("no `engines:`, so there is nothing to start")
