"""One stack of real servers for all tests that only read from it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.deploy import servers

EMITTER = Path(__file__).with_name("emitter.py")
SECONDS = 12
"""How long the trial fleet runs: rates need several scrapes."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Where the servers answer, and what the fleet says that it sent."""

    jaeger: str
    prometheus: str
    ledger: dict[str, Any]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The instant result of a PromQL *expression*."""
        answer = servers.get(f"{self.prometheus}/api/v1/query", query=expression)
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found


def emit(port: int, ledger: Path, seconds: float) -> dict[str, Any]:
    """Run the trial fleet against the OTLP *port*; what it sent."""
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": "true",
        "PYTHONPATH": str(servers.DEPLOY.parent),
    }
    command = [sys.executable, str(EMITTER), str(ledger), str(seconds)]
    done = subprocess.run(
        command, env=os.environ | settings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(ledger.read_text())
    return found


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Agents → sidecar → the host's collector → Jaeger and Prometheus, all as shipped."""
    folder = tmp_path_factory.mktemp("stack")
    port = servers.free_ports(1)[0]
    base = f"http://127.0.0.1:{port}"
    jaeger, seen = servers.jaeger(folder / "jaeger", base)
    host, taken = servers.collector(
        folder / "host",
        "single-host.yaml",
        LLMSPELL_JAEGER=f"127.0.0.1:{seen['OTLP']}",
        LLMSPELL_PROMETHEUS=base,
        LLMSPELL_SPAN_METRICS_INTERVAL="1s",
    )
    sidecar, beside = servers.collector(
        folder / "sidecar",
        "sidecar.yaml",
        LLMSPELL_UPSTREAM=f"127.0.0.1:{taken['OTLP_GRPC']}",
        LLMSPELL_UPSTREAM_INSECURE="true",
    )
    scraped = {
        "otel-collector": taken["METRICS"],
        "jaeger": seen["METRICS"],
        "prometheus": port,
    }
    prometheus = servers.prometheus(folder / "prometheus", port, scraped)
    with servers.started(sidecar, host, jaeger, prometheus):
        ledger = emit(beside["OTLP_GRPC"], folder / "ledger.json", SECONDS)
        found = Stack(f"http://127.0.0.1:{seen['QUERY']}", base, ledger)
        calls = "sum(traces_span_metrics_calls_total)"
        assert servers.eventually(
            lambda: (r := found.query(calls)) and float(r[0]["value"][1]) >= len(ledger["spans"])
        ), host.tail()
        time.sleep(1.5)  # one more evaluation of the rules
        yield found
