"""`weir serve --workers N`: several processes on one socket, and a supervisor that serves nothing itself.

    supervisor   binds, reads the configuration, starts engines and small models, restarts workers, sums what they count
    worker       the application of one process as it is, on the inherited socket; asks the supervisor over a socket pair

The workers accept from one shared listening socket, not from one each (SO_REUSEPORT). With one each the kernel deals connections out by
their hash, also to a worker that is busy or about to die, and what waits in a dead one's queue is reset. Measured on two busy cores: one
of two workers is held up for 0.3 s while 400 connections come: shared, the slowest answer took 164 to 248 ms; with one each 285 to 377.
When that worker was stopped and killed instead: shared lost 0 to 77 of 400 (those that it had taken already), one each 199. The price:
connections are not dealt evenly, who is awake first takes what is there; `serving.Sharing` takes one at a turn of the loop.

What is each worker's own: open tool loops (`Sessions`: in another worker the step is routed anew, as after a restart; a client that
keeps its connection stays with its worker), waste budgets and samples of `shadow` and `judged` (shares hold in each, so they hold in all;
`in_flight` limits are per worker), rate limits (`weir check` warns), looks at engines' health (cheap GETs, each worker's). Only the first
worker probes what engines enforce: that costs them generated tokens. Its findings are on `/metrics` and `/ui`; `/readyz` of another says
"unknown".

What is everybody's, whichever worker answers: `/metrics` (`exporter`; counters to the unit, whatever ends a worker) and the page at `/ui`
(`gateway.dashboard.joined`; each worker tells once a second what it has counted, so what a killed one counted in its last second is missing
there). Of how the workers see a backend the page shows the worst, and says whose view that is.
"""

from collections.abc import Mapping
from pathlib import Path

from gateway import serving
from gateway.app import read


def serve(
    config: Path,
    *,
    host: str | None = None,
    port: int | None = None,
    workers: int | None = None,
    engines: Mapping[str, str] | None = None,
) -> int:
    """Serve until SIGINT or SIGTERM, in as many processes as the configuration says. host, port, workers: instead of those of `server:`.
    engines: start those of `engines:`, with this environment. Returns the exit code. Raises ConfigError."""
    given = {"host": host, "port": port, "workers": workers}
    overrides = {name: value for name, value in given.items() if value is not None}
    loaded = read(config, overrides)
    if loaded.settings.server.workers == 1:
        return serving.serve(config, loaded, overrides, engines)
    from gateway.workers.supervisor import Supervisor

    listening = serving.listen(loaded.settings.server.host, loaded.settings.server.port)
    if listening is None:
        return 1
    return 0 if serving.run(Supervisor(config, loaded, overrides, listening, engines).run()) else 1
