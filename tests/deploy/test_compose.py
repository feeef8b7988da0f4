"""docker-compose.yml: what can be said of it without a Docker engine."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from gateway import cli
from gateway.cli.slo import slos_of
from gateway.settings.load import load
from gateway.slo import rules
from tests.deploy.files import ROOT, faults

ALERTS = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
INTERPOLATION = re.compile(r"\$\{(\w+)(?::?-([^}]*))?\}")


def project() -> dict[str, Any]:
    """The file as Compose reads it: variables replaced by their defaults, fragments and merges done."""
    text = INTERPOLATION.sub(lambda found: found[2] or "", (ROOT / "docker-compose.yml").read_text())
    told: dict[str, Any] = yaml.safe_load(text)
    return told


def services() -> dict[str, dict[str, Any]]:
    told: dict[str, dict[str, Any]] = project()["services"]
    return told


def test_it_fits_the_published_schema() -> None:
    """The Compose specification's own; and the schema sees a mistyped key."""
    assert faults("compose-spec", project()) == []
    wrong = project()
    wrong["services"]["gateway"]["heathcheck"] = {}
    assert faults("compose-spec", wrong)


def test_what_is_promised_is_there() -> None:
    """Gateway, Redis, Prometheus, Alertmanager and Grafana always, vLLM with a profile for the GPU and one for the CPU."""
    profiles = {name: tuple(one.get("profiles", ())) for name, one in services().items()}
    assert profiles == {
        "gateway": (), "key": (), "redis": (), "prometheus": (), "alertmanager": (), "grafana": (),
        "vllm": ("gpu",), "vllm-cpu": ("cpu",),
    }  # fmt: skip


def test_images_are_pinned() -> None:
    """A version with its patch level, or built here."""
    for name, one in services().items():
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+(-\w+)?", one["image"]), name
        assert "build" in one or not one["image"].startswith("weir")
        if "build" in one:
            assert (ROOT / one["build"]["dockerfile"]).is_file()


def test_every_path_is_there() -> None:
    """What is mounted from this folder exists and cannot be written to; named volumes are declared, and all are used."""
    declared, used = set(project()["volumes"]), set()
    for one in services().values():
        for volume in one.get("volumes", ()):
            source, _, rest = volume.partition(":")
            if source.startswith("."):
                assert (ROOT / source).is_dir()
                assert rest.endswith(":ro")
            else:
                used.add(source)
    assert used == declared


def test_only_this_machine_reaches_it() -> None:
    """Ports are published on 127.0.0.1, each once."""
    ports = [port for one in services().values() for port in one.get("ports", ())]
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert len({port.split(":")[1] for port in ports}) == len(ports) == 4


def test_services_can_do_little_and_come_back() -> None:
    """A health check, a restart, logs that end, and no way up; the one that runs once comes back never."""
    for name, one in services().items():
        if name == "key":
            assert (one["restart"], one["network_mode"]) == ("no", "none")
            continue
        assert one["restart"] == "unless-stopped"
        assert one["healthcheck"]["test"][0] == "CMD"
        assert one["security_opt"] == ["no-new-privileges:true"]
        assert one["logging"]["options"].keys() == {"max-size", "max-file"}


def test_no_secret_is_in_the_file() -> None:
    """Keys come from the environment, and from nowhere by default; no password is written down."""
    text = (ROOT / "docker-compose.yml").read_text()
    for name, one in services().items():
        for variable, value in (one.get("environment") or {}).items():
            if re.search("KEY|TOKEN|PASSWORD|SECRET", variable):
                assert not value, f"{name}: {variable}"
    assert not re.search(r"(?i)password\s*[:=]\s*\S|sk-\w{8}", text)


def test_others_are_found_by_name() -> None:
    """Every host that a configuration names is a service, at the port that it serves."""
    aliases = {name for one in services().values() for name in _aliases(one)} | set(services())
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    targets = [t for job in scraped["scrape_configs"] for each in job["static_configs"] for t in each["targets"]]
    targets += [
        t for a in scraped["alerting"]["alertmanagers"] for each in a["static_configs"] for t in each["targets"]
    ]
    sources = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/weir.yml").read_text())["datasources"]
    targets += [one["url"].removeprefix("http://") for one in sources]
    assert set(targets) == {"gateway:8080", "vllm:8000", "alertmanager:9093", "prometheus:9090"}
    assert {target.split(":")[0] for target in targets} <= aliases
    assert {"job_name": "weir"}.items() <= scraped["scrape_configs"][0].items()
    boards = yaml.safe_load((ROOT / "deploy/grafana/provisioning/dashboards/weir.yml").read_text())["providers"]
    (folder,) = {one["options"]["path"] for one in boards}
    assert f"./deploy/grafana/dashboards:{folder}:ro" in services()["grafana"]["volumes"]
    home = services()["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (ROOT / "deploy/grafana/dashboards" / Path(home).name).is_file()


def _aliases(one: dict[str, Any]) -> list[str]:
    networks = one.get("networks")
    return [name for told in networks.values() for name in told.get("aliases", ())] if networks else []


def test_the_gateway_serves_what_is_mounted(monkeypatch: pytest.MonkeyPatch) -> None:
    """`weir check` takes the configuration that the command names; its state, its Redis, its vLLM and its port are those of the file."""
    gateway = services()["gateway"]
    monkeypatch.setenv("REDIS_URL", gateway["environment"]["REDIS_URL"])
    mounted = gateway["command"][-1].replace("/etc/weir", str(ROOT / "deploy"))
    told = CliRunner().invoke(cli.application(), ["check", "--config", mounted])
    assert told.exit_code == 0, told.output
    settings = load(Path(mounted)).settings
    assert settings.server.host == "0.0.0.0"
    assert f"weir-state:{settings.server.state_dir}" in gateway["volumes"]
    assert gateway["ports"] == [f"127.0.0.1:8080:{settings.server.port}"]
    assert settings.responses.redis is not None
    assert settings.responses.redis.url.reveal() == "redis://redis:6379/0"
    assert settings.responses.key is not None
    assert settings.responses.key.source == "${file:/weir/var/responses.key}"
    assert "/weir/var/responses.key" in services()["key"]["command"][0]
    slm: Any = settings.backends["slm"]
    assert slm.base_url == "http://vllm:8000/v1"
    for engine in ("vllm", "vllm-cpu"):
        assert f"--model={slm.model}" in services()[engine]["command"]
    assert int(gateway["stop_grace_period"][:-1]) > settings.server.drain


def test_the_key_is_made_once(tmp_path: Path) -> None:
    """Long enough, for its owner only, and the second start leaves it alone."""
    program = services()["key"]["command"][0].replace("/weir/var", str(tmp_path))
    for _ in range(2):
        subprocess.run([sys.executable, "-c", program], check=True)
    key = tmp_path / "responses.key"
    before = key.read_text()
    assert len(before) >= 32
    assert key.stat().st_mode & 0o777 == 0o600
    subprocess.run([sys.executable, "-c", program], check=True)
    assert key.read_text() == before


def test_the_alerts_of_the_extra_route_are_the_only_ones_missing() -> None:
    """Prometheus gets the rules of the shipped configuration: what compose adds to it has alerts of its own only after `weir rules`."""
    told = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())
    slos = slos_of(load(ROOT / "deploy/compose/weir.yaml"))
    slos.pop("small")
    assert told == rules(slos)


@pytest.mark.skipif(shutil.which("amtool") is None, reason="Debian's package prometheus-alertmanager is not installed")
def test_amtool_takes_the_alertmanagers_configuration() -> None:
    """As Alertmanager itself would read it."""
    done = subprocess.run(["amtool", "check-config", str(ALERTS)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("promtool") is None, reason="Debian's package prometheus is not installed")
def test_promtool_takes_prometheus_configuration() -> None:
    """With the rule files that it names."""
    file = ROOT / "deploy/prometheus/prometheus.yml"
    done = subprocess.run(["promtool", "check", "config", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_severities_of_alerts_have_receivers() -> None:
    """Whatever severity a rule gives, a route of Alertmanager takes it."""
    told = yaml.safe_load(ALERTS.read_text())
    groups = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())["groups"]
    given = {rule["labels"]["severity"] for group in groups for rule in group["rules"] if "alert" in rule}
    taken = {match for route in told["route"]["routes"] for match in route["matchers"]}
    assert taken == {f'severity="{severity}"' for severity in given}
    names = {receiver["name"] for receiver in told["receivers"]}
    assert {route["receiver"] for route in told["route"]["routes"]} | {told["route"]["receiver"]} == names
