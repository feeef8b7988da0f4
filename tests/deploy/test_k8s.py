"""deploy/k8s: what can be said of manifests without a cluster."""

import copy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner

from deploy.k8s import monitoring
from gateway import cli
from gateway.settings.load import load
from tests.deploy.files import K8S, MANIFESTS, documents, everything, faults, of_kind, pods

VERSION = "1.34"
PLACEHOLDER = "sha256:" + "0" * 64
OPERATOR = {"ServiceMonitor": "servicemonitor", "PrometheusRule": "prometheusrule"}


def judged(document: dict[str, Any]) -> list[str]:
    """What the published schema of its kind has against `document`."""
    if document["kind"] in OPERATOR:
        return faults(OPERATOR[document["kind"]], document)
    try:
        kubernetes_validate.validate(document, VERSION, strict=True)
    except kubernetes_validate.ValidationError as exc:
        return [exc.message]
    return []


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.name)
def test_manifests_fit_the_published_schemas(file: Path) -> None:
    """Strictly: a key that Kubernetes does not know is a mistake, not something to drop."""
    assert documents(file)
    for document in documents(file):
        assert judged(document) == []


@pytest.mark.parametrize("kind", ["Deployment", "HorizontalPodAutoscaler", "NetworkPolicy", *OPERATOR])
def test_the_schemas_see_mistakes(kind: str) -> None:
    """A mistyped key in a manifest of ours is found: the test above can fail."""
    document = copy.deepcopy(next(one for one in everything() if one["kind"] == kind))
    document["spec"]["selectr"] = {}
    assert judged(document)


def test_names_lead_somewhere() -> None:
    """Selectors find the pods of a workload, Services their named ports, the autoscaler its Deployment, and volumes what they mount."""
    labels = {name: template["metadata"]["labels"] for name, template in pods().items()}
    ports = {
        name: {port["name"]: port["containerPort"] for one in template["spec"]["containers"] for port in one["ports"]}
        for name, template in pods().items()
    }
    for name, service in of_kind("Service").items():
        assert service["spec"]["selector"].items() <= labels[name].items()
        assert all(port["targetPort"] in ports[name] for port in service["spec"]["ports"])
    for kind in ("PodDisruptionBudget",):
        for name, one in of_kind(kind).items():
            assert one["spec"]["selector"]["matchLabels"].items() <= labels[name].items()
    target = of_kind("HorizontalPodAutoscaler")["weir"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", "weir")
    assert "replicas" not in of_kind("Deployment")["weir"]["spec"]  # an apply would undo what the autoscaler does
    claimed = {one["metadata"]["name"] for one in of_kind("StatefulSet")["vllm"]["spec"]["volumeClaimTemplates"]}
    for template in pods().values():
        volumes = {one["name"]: one for one in template["spec"].get("volumes", ())}
        mounted = {one["name"] for c in template["spec"]["containers"] for one in c.get("volumeMounts", ())}
        assert mounted <= volumes.keys() | claimed
        assert volumes.keys() <= mounted
        for one in volumes.values():
            found = one.get("configMap", {})
            assert not found or found.get("optional") or found["name"] in of_kind("ConfigMap")
            assert "secret" not in one or one["secret"]["secretName"] in of_kind("Secret")
            assert "persistentVolumeClaim" not in one or (
                one["persistentVolumeClaim"]["claimName"] in of_kind("PersistentVolumeClaim")
            )
    assert of_kind("StatefulSet")["vllm"]["spec"]["serviceName"] in of_kind("Service")
    assert of_kind("Service")["vllm"]["spec"]["clusterIP"] == "None"


def test_pods_can_do_little() -> None:
    """No token of the cluster, no way up, no capabilities, pinned images, no variables made of Services' names, requests and a limit of
    memory, probes, and a NetworkPolicy in both directions."""
    policies = of_kind("NetworkPolicy")
    for name, template in pods().items():
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert policies[name]["spec"]["policyTypes"] == ["Ingress", "Egress"]
        assert policies[name]["spec"]["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert not container["image"].endswith(":latest")
            assert ":" in container["image"]
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]
            assert "readinessProbe" in container
    for name in ("weir", "redis"):
        assert pods()[name]["spec"]["securityContext"]["runAsNonRoot"] is True


def test_time_to_leave() -> None:
    """The pod outlives its `preStop` and the drain of the configuration."""
    spec = pods()["weir"]["spec"]
    (container,) = spec["containers"]
    config = yaml.safe_load(monitoring.config())
    assert (
        container["lifecycle"]["preStop"]["sleep"]["seconds"] + config["server"]["drain"]
        < (spec["terminationGracePeriodSeconds"])
    )


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The ConfigMap's file with a key's hash in the placeholder's place, in the container's environment and with secrets that can be
    read."""
    for variable in pods()["weir"]["spec"]["containers"][0]["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    text = monitoring.config()
    assert text.count(PLACEHOLDER) == 1
    for name, value in of_kind("Secret")["weir"]["stringData"].items():
        (tmp_path / name).write_text(value)
        text = text.replace(f"/run/secrets/weir/{name}", str(tmp_path / name))
    path = tmp_path / "weir.yaml"
    path.write_text(text.replace("0" * 64, "ab" * 32))
    return path


def test_weir_takes_the_configuration(configured: Path) -> None:
    """`weir check` says that it is valid, without a warning; it binds every address, with a key."""
    told = CliRunner().invoke(cli.application(), ["check", "--config", str(configured)])
    assert (told.exit_code, told.stderr) == (0, "")
    settings = load(configured).settings
    assert settings.server.host == "0.0.0.0"
    assert not settings.access.open
    assert len(settings.access.keys) == 1


def test_the_configuration_speaks_of_this_cluster(configured: Path) -> None:
    """Its folders are mounted writable or not as they must be, its hosts are Services, its port is the container's, and the network
    policy lets it out to them."""
    settings = load(configured).settings
    (container,) = pods()["weir"]["spec"]["containers"]
    mounts = {one["mountPath"]: one.get("readOnly", False) for one in container["volumeMounts"]}
    assert mounts[str(settings.server.state_dir)] is False
    assert mounts["/etc/weir"] is True
    assert not any("subPath" in one for one in container["volumeMounts"])
    assert container["args"] == ["serve", "--config", "/etc/weir/weir.yaml"]
    assert container["ports"] == [{"name": "http", "containerPort": settings.server.port}]
    slm: Any = settings.backends["slm"]
    assert (slm.base_url, slm.dns) == ("http://vllm:8000/v1", True)
    assert settings.responses.redis is not None
    assert settings.responses.redis.url.reveal() == "redis://redis:6379/0"
    out = {port["port"] for rule in of_kind("NetworkPolicy")["weir"]["spec"]["egress"] for port in rule["ports"]}
    assert out >= {53, 443, 8000, 6379}
    assert all(path.startswith(str(configured.parent)) or path in mounts for path in _files(settings))


def _files(settings: Any) -> list[str]:
    secrets = [settings.responses.key, settings.backends["cloud"].api_key]
    return [secret.source[7:-1] for secret in secrets]


def test_monitoring_is_what_weir_rules_says() -> None:
    """`monitoring.yaml` is up to date: `python deploy/k8s/monitoring.py` writes it anew."""
    assert (K8S / "monitoring.yaml").read_text() == monitoring.written()
    scraped = of_kind("ServiceMonitor")["weir"]["spec"]
    service = of_kind("Service")["weir"]
    assert scraped["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert {end["port"] for end in scraped["endpoints"]} <= {port["name"] for port in service["spec"]["ports"]}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="Debian's package prometheus is not installed")
def test_promtool_takes_the_rules(tmp_path: Path) -> None:
    """The PrometheusRule's groups are a rule file of Prometheus."""
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump(of_kind("PrometheusRule")["weir"]["spec"]))
    done = subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_secret_is_in_the_files() -> None:
    """The example says so of itself."""
    for secret in of_kind("Secret").values():
        assert all(value.startswith("replace-me") for value in secret["stringData"].values())
