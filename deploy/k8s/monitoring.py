"""Writes `monitoring.yaml`: `python deploy/k8s/monitoring.py [RUNBOOKS]`, again after every change of an `slo:` in `gateway.yaml`.

The rules are those that `weir rules` prints for the configuration in the ConfigMap. RUNBOOKS: folder or URL of the pages of `docs/runbook`.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from gateway.cli.slo import slos_of
from gateway.settings.load import load
from gateway.slo import RUNBOOKS, rules

HERE = Path(__file__).parent
HEAD = "# Written by `python deploy/k8s/monitoring.py`. Change the ConfigMap in gateway.yaml, not this file.\n"
LABELS = {"app.kubernetes.io/name": "weir"}


def documents(config: str, runbooks: str = RUNBOOKS) -> list[dict[str, Any]]:
    """ServiceMonitor and PrometheusRule for a gateway with the configuration `config` (YAML). Raises ConfigError."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "weir.yaml")
        path.write_text(config)
        made = rules(slos_of(load(path)), runbooks)
    head = {"apiVersion": "monitoring.coreos.com/v1", "metadata": {"name": "weir", "labels": LABELS}}
    # The job's name is the Service's: `weir`, as the alerts expect.
    scraped = {
        "selector": {"matchLabels": LABELS},
        "endpoints": [{"port": "http", "path": "/metrics", "interval": "10s"}],
    }
    return [
        {"kind": "ServiceMonitor", **head, "spec": scraped},
        {"kind": "PrometheusRule", **head, "spec": {"groups": made["groups"]}},
    ]


def config() -> str:
    """The configuration in `gateway.yaml`."""
    found = yaml.safe_load_all((HERE / "gateway.yaml").read_text())
    text: str = next(one for one in found if one["kind"] == "ConfigMap")["data"]["weir.yaml"]
    return text


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def written(runbooks: str = RUNBOOKS) -> str:
    """The file."""
    text = yaml.dump_all(documents(config(), runbooks), Dumper=_Plain, sort_keys=False, width=1000, allow_unicode=True)
    return HEAD + text


if __name__ == "__main__":
    (HERE / "monitoring.yaml").write_text(written(*sys.argv[1:2]))
