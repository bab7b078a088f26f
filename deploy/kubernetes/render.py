"""The Operator's collector: the sidecar's configuration with every file that it names put in."""

import re
from pathlib import Path
from typing import Any

import yaml

COLLECTOR = Path(__file__).resolve().parents[1] / "collector"
_FILE = re.compile(r"\$\{file:\$\{env:LLMSPELL_CONFIG_FOLDER:-/etc/otelcol\}/(.+)\}")
_HEADER = """\
# Rendered from deploy/collector/sidecar.yaml: change that, and run `python -m deploy.kubernetes`.
# The Operator (0.158 and newer) puts this collector beside every pod whose template is annotated
# sidecar.opentelemetry.io/inject: "llmspell"; from Kubernetes 1.29 on as a native sidecar.
"""


def inlined(node: Any) -> Any:
    """*node* with each reference to a shipped file replaced by what the file says."""
    if isinstance(node, dict):
        return {key: inlined(value) for key, value in node.items()}
    if isinstance(node, list):
        return [inlined(value) for value in node]
    if isinstance(node, str) and (found := _FILE.fullmatch(node)):
        return inlined(yaml.safe_load((COLLECTOR / found[1]).read_text()))
    return node


def operator_collector() -> str:
    """The custom resource, as YAML."""
    config = inlined(yaml.safe_load((COLLECTOR / "sidecar.yaml").read_text()))
    pod_address = {"fieldRef": {"fieldPath": "status.podIP"}}
    resource = {
        "apiVersion": "opentelemetry.io/v1beta1",
        "kind": "OpenTelemetryCollector",
        "metadata": {"name": "llmspell"},
        "spec": {
            "mode": "sidecar",
            "image": "otel/opentelemetry-collector-contrib:0.158.0",
            "env": [
                {"name": "GOMEMLIMIT", "value": "200MiB"},
                {"name": "LLMSPELL_UPSTREAM", "value": "collector.telemetry:4317"},
                {"name": "LLMSPELL_UPSTREAM_INSECURE", "value": "true"},
                {"name": "LLMSPELL_HEALTH_HOST", "valueFrom": pod_address},
                {"name": "LLMSPELL_METRICS_HOST", "valueFrom": pod_address},
            ],
            "resources": {
                "requests": {"cpu": "50m", "memory": "128Mi"},
                "limits": {"memory": "256Mi"},
            },
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "runAsGroup": 10001,
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "volumes": [{"name": "otelcol-queue", "emptyDir": {"sizeLimit": "600Mi"}}],
            "volumeMounts": [{"name": "otelcol-queue", "mountPath": "/var/lib/otelcol"}],
            "config": config,
        },
    }
    return _HEADER + yaml.safe_dump(resource, sort_keys=False, width=200, allow_unicode=True)
