"""Operations and administration: health, readiness, metrics, Records. FastAPI: nothing here is on the way of a request."""

from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from backends.base import Backend, facts
from gateway.decide import Rung
from gateway.instance import Instance
from gateway.metrics import Metrics
from gateway.record import encode
from gateway.setup import Live
from wire.errors import NotFound, Unauthorized, WeirError


def operations(live: Live, instance: Instance) -> FastAPI:
    """The administration app. Health and metrics are open (the listening address protects them), Records need a key."""
    app = FastAPI(title="Weir", version=live.setup.version, docs_url="/docs", redoc_url=None)

    @app.exception_handler(WeirError)
    async def _refuse(_request: Request, error: Exception) -> Response:
        assert isinstance(error, WeirError)
        return JSONResponse(error.body(), error.status, dict(error.headers))

    @app.exception_handler(404)
    async def _nowhere(request: Request, _error: Exception) -> Response:
        body = NotFound(f"there is nothing at {request.method} {request.url.path}").body()
        return JSONResponse(body, 404)

    @app.exception_handler(405)
    async def _wrong_method(request: Request, _error: Exception) -> Response:
        told = NotFound(f"{request.url.path} does not take {request.method}", code="method_not_allowed")
        return JSONResponse(told.body(), 405)

    @app.get("/healthz")
    async def _health() -> dict[str, str]:
        """The process serves. Asks nobody: a slow upstream must not get a gateway restarted."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def _ready() -> dict[str, Any]:
        return readiness(live, await instance.engines())

    @app.get("/metrics")
    async def _metrics() -> Response:
        """Of the whole instance, whichever worker answers. 503 when that cannot be said: a part of it would look like a restart."""
        try:
            return Response(await instance.page(), media_type=Metrics.content_type)
        except OSError:
            return Response(status_code=503)

    @app.get("/v1/weir/requests/{request_id}")
    async def _record(request_id: str, request: Request) -> Response:
        """The Record of one of the last requests, for the key that asked it and for admins."""
        caller = live.setup.keys.check(dict(request.headers))
        record = await instance.find(request_id)
        if record is None or not (caller.admin or (record.tenant and record.tenant == caller.tenant)):
            raise NotFound(
                f"no Record '{request_id}' in memory: it holds the last {live.setup.settings.telemetry.records}; "
                "`weir why` reads the files too",
                param="request_id",
            )
        return Response(encode(record), media_type="application/json")

    @app.get("/v1/weir/requests")
    async def _recent(request: Request, limit: int = 50) -> Response:
        """The last Records, newest first, as a JSON array. Admins only."""
        if not live.setup.keys.check(dict(request.headers)).admin:
            raise Unauthorized("only a key with `admin: true` may list Records", status=403, code="permission_denied")
        records = await instance.recent(max(1, min(limit, 500)))
        return Response(b"[" + b",".join(encode(record) for record in records) + b"]", media_type="application/json")

    return app


def readiness(live: Live, engines: dict[str, Any] | None = None) -> dict[str, Any]:
    """Always 200 once it serves; what is not available, and why, stands inside."""
    setup = live.setup
    return {
        "status": "ok",
        "config": setup.digest,
        "version": setup.version,
        "bypass": {"all": live.bypass.all, "routes": sorted(live.bypass.routes)},
        "backends": {name: _rung(rung, setup.backends[name]) for name, rung in setup.rungs.items()},
        "routes": {
            name: {"mode": r.mode, "ladder": [rung.name for rung in r.ladder]} for name, r in setup.routes.items()
        },
        "warnings": list(setup.warnings),
        **({"engines": engines} if engines else {}),
    }


def _rung(rung: Rung, backend: Backend) -> dict[str, Any]:
    """A rung that is looked after says what is known of its engines too."""
    unready = getattr(backend, "unready", "")
    told: dict[str, Any] = {"available": not rung.missing and not unready}
    told |= {"missing": rung.missing} if rung.missing else {}
    told |= {"why": unready} if unready else {}
    return told | ({"facts": dict(facts(backend))} if hasattr(backend, "tend") else {})
