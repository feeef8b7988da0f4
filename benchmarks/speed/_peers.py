"""The others, each as its own documentation says for production, with the same features on as far as it has them; and the two gateways
once more without what they can do without (`_plain`), so that nobody has to guess what those features cost them.

LiteLLM: key check (master key), JSON logs, no retries, no database, LITELLM_MODE=PRODUCTION, one worker per core; as features a limit
per model that is enforced (`enforce_model_rate_limits`), Prometheus metrics, and the answer's schema checked. Records it keeps only in
a database, so it keeps none. Portkey: retries are off unless asked for; the open-source gateway has no key check, limit or metrics of
its own; as a feature the answer's schema checked by a guardrail that denies. That both do check is seen before anything is measured.
nginx: a plain reverse proxy with connections kept open, nothing else: the physical limit, not a peer.
"""

import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import yaml

from benchmarks.quality.parts import NotRun
from benchmarks.speed import _requests, _tools
from benchmarks.speed._bench import KEY, Bench, Dead, Target, post

SLOPPY, SLOPPY_EVERY = "mock-j-x10", 10
"""The mock's model of which every tenth answer breaks the schema."""
MODELS = ("mock-j", "mock-j-d50", SLOPPY)
PLENTY = 60_000_000
"""Requests a minute: a limit that is looked at and never reached, as Weir's in weir.yaml."""


def nginx(bench: Bench) -> Target:
    """Raises NotRun, Dead; so do the others."""
    _tools.debian(_tools.NGINX)
    port = bench.free_port()
    server = f"""
  upstream up {{ server 127.0.0.1:{bench.direct.port}; keepalive 256; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ {PASS.format("http://up")} }} }}"""
    return _nginx(bench, "nginx", port, server, bench.gateway_core)


PASS = 'proxy_pass {}; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;'
HTTP = """
daemon off; worker_processes 1; pid {folder}/{name}.pid; error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 1000000000; client_body_buffer_size 1m; client_max_body_size 10m;
  client_body_temp_path {folder}/{name}-b; proxy_temp_path {folder}/{name}-p; fastcgi_temp_path {folder}/{name}-f;
  uwsgi_temp_path {folder}/{name}-u; scgi_temp_path {folder}/{name}-s;
  {server}
}}
"""


def _nginx(bench: Bench, name: str, port: int, server: str, core: str, *, tls: bool = False) -> Target:
    config = bench.folder / f"{name}.conf"
    config.write_text(HTTP.format(folder=bench.folder, name=name, server=server))
    command = ["nginx", "-p", str(bench.folder), "-e", "stderr", "-c", str(config)]
    return bench.wait_for(Target(name, port, tls=tls), bench.start(command, core))


def tls_front(bench: Bench, name: str, behind: int, core: str) -> Target:
    """nginx that ends TLS before 127.0.0.1:`behind`. Raises NotRun, Dead.

    It lets go of an idle connection before uvicorn would (5 s): a request on one that is just being closed would be a 502.
    """
    _tools.debian(_tools.NGINX)
    port = bench.free_port()
    certificate, key = certificate_of(bench)
    server = f"""
  upstream up {{ server 127.0.0.1:{behind}; keepalive 256; keepalive_requests 1000000000; keepalive_timeout 3s; }}
  server {{ listen 127.0.0.1:{port} ssl backlog=4096; ssl_certificate {certificate}; ssl_certificate_key {key};
    ssl_protocols TLSv1.3; location / {{ {PASS.format("http://up")} }} }}"""
    return _nginx(bench, name, port, server, core, tls=True)


def certificate_of(bench: Bench) -> tuple[str, str]:
    """Files of a certificate for 127.0.0.1 that signs itself, and of its key. Raises NotRun."""
    certificate, key = bench.folder / "tls.pem", bench.folder / "tls.key"
    if not certificate.exists():
        _tools.debian({"openssl": "openssl"})
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
             "-keyout", str(key), "-out", str(certificate)],
            check=True, capture_output=True,
        )  # fmt: skip
    return str(certificate), str(key)


def litellm(bench: Bench) -> Target:
    return _seen(bench, _litellm(bench, "litellm", features=True), checking, counting)


def litellm_plain(bench: Bench) -> Target:
    return _litellm(bench, "litellm_plain", features=False)


def _litellm(bench: Bench, name: str, *, features: bool) -> Target:
    program = _tools.litellm()
    port = bench.free_port()
    upstream: dict[str, Any] = {"api_base": bench.upstream, "api_key": "sk-up"}
    router: dict[str, Any] = {"num_retries": 0}
    rest: dict[str, Any] = {
        "request_timeout": 600, "num_retries": 0, "set_verbose": False, "json_logs": True, "telemetry": False,
    }  # fmt: skip
    if features:
        upstream["rpm"] = PLENTY
        router["optional_pre_call_checks"] = ["enforce_model_rate_limits"]
        rest |= {"callbacks": ["prometheus"], "enable_json_schema_validation": True}
    table = {
        "model_list": [
            {"model_name": name, "litellm_params": {"model": f"openai/{name}", **upstream}} for name in MODELS
        ],
        "general_settings": {"master_key": KEY, "disable_spend_logs": True},
        "router_settings": router,
        "litellm_settings": rest,
    }
    config = bench.folder / f"{name}.yaml"
    config.write_text(yaml.safe_dump(table))
    environ = {
        "LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "NO_DOCS": "True", "NO_REDOC": "True",
    }  # fmt: skip
    command = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    return bench.wait_for(Target(name, port), bench.start(command, bench.gateway_core, environ))


def counting(target: Target) -> None:
    """See that LiteLLM's own metrics tell of requests. After `checking`, which makes some. Raises Dead, OSError."""
    if not metrics_of(target):
        raise Dead("litellm exports no metrics of requests, though told to")


def metrics_of(target: Target) -> int:
    """How many requests LiteLLM's own metrics page tells of; it counts behind the answer, so it is asked until it tells. Raises OSError."""
    count = 0.0
    asked = urllib.request.Request(
        f"http://127.0.0.1:{target.port}/metrics/", headers={"authorization": f"Bearer {KEY}"}
    )
    for _ in range(50):
        with urllib.request.urlopen(asked, timeout=10) as answer:
            page = answer.read().decode()
        told = [line for line in page.splitlines() if line.startswith("litellm_proxy_total_requests_metric_total{")]
        count = sum(float(line.rpartition(" ")[2]) for line in told)
        if count:
            break
        time.sleep(0.1)
    return int(count)


def portkey(bench: Bench) -> Target:
    schema = {"schema": _requests.SCHEMA["json_schema"]["schema"]}
    guard = {"default.jsonSchema": schema, "deny": True}
    config = {"provider": "openai", "custom_host": bench.upstream, "output_guardrails": [guard]}
    headers = (f"x-portkey-config: {orjson.dumps(config).decode()}",)
    return _seen(bench, _portkey(bench, "portkey", headers), checking)


def portkey_plain(bench: Bench) -> Target:
    return _portkey(bench, "portkey_plain", ("x-portkey-provider: openai", f"x-portkey-custom-host: {bench.upstream}"))


def _portkey(bench: Bench, name: str, headers: tuple[str, ...]) -> Target:
    program = _tools.portkey()
    port = bench.free_port()
    environ = {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"}
    command = ["node", str(program), f"--port={port}", "--headless"]
    return bench.wait_for(Target(name, port, headers=headers), bench.start(command, bench.gateway_core, environ))


def checking(target: Target) -> None:
    """See it refuse an answer that breaks the schema. Raises Dead when it let all pass, or none: its figures would be another's."""
    body = _requests.chat(SLOPPY)
    statuses = [post(target, body)[0] for _ in range(2 * SLOPPY_EVERY)]
    if 200 not in statuses or set(statuses) == {200}:
        raise Dead(f"{target.name} does not check answers: of {len(statuses)}, {statuses.count(200)} passed")


def _seen(bench: Bench, target: Target, *checks: Callable[[Target], None]) -> Target:
    """`target`, once none of `checks` raises: what one of them raises is raised here, and the target is stopped."""
    try:
        for check in checks:
            check(target)
    except (Dead, OSError):
        bench.stop(target)  # it would take from the core that is measured
        raise
    return target


PEERS: Mapping[str, Callable[[Bench], Target]] = {
    made.__name__: made for made in (nginx, litellm, litellm_plain, portkey, portkey_plain)
}


def started(bench: Bench) -> tuple[list[Target], dict[str, str]]:
    """Those that could be started, and why the others could not."""
    there, absent = [], {}
    for name, set_up in PEERS.items():
        try:
            there.append(set_up(bench))
        except (NotRun, Dead, OSError) as exc:
            absent[name] = str(exc)
            print(f"  {name}: not run: {exc}", flush=True)
    return there, absent


def versions() -> dict[str, str]:
    """Of what runs beside Weir, as installed."""
    found = {"litellm": _tools.LITELLM, "portkey": _tools.PORTKEY, "portkey's @hono/node-server": _tools.HONO}
    for name, command in {"nginx": ["nginx", "-v"], "node": ["node", "--version"]}.items():
        try:
            said = subprocess.run(command, capture_output=True, text=True, check=False)
            found[name] = (said.stdout + said.stderr).strip().rpartition("/")[2].lstrip("v").split()[0]
        except (OSError, IndexError):
            continue
    return found
