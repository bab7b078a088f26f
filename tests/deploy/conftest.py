"""One stack of real servers for all tests that only read from it."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from deploy.build import cache_folder
from tests.deploy import servers
from tests.deploy.outages import Outcome, under_way

NODE = Path(__file__).parent / "node"
EMITTER = Path(__file__).with_name("emitter.py")
SECONDS = 12
"""How long the trial fleet runs: rates need several scrapes."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Where the servers answer, and what the fleet says that it sent."""

    jaeger: str
    prometheus: str
    loki: str
    otlp: int
    ended: float
    ledger: dict[str, Any]

    def query(self, expression: str, at: float | None = None) -> list[dict[str, Any]]:
        """The result of a PromQL *expression* at a time, else when the fleet had ended."""
        moment = str(at or self.ended)
        answer = servers.get(f"{self.prometheus}/api/v1/query", query=expression, time=moment)
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def logged(self, expression: str) -> list[dict[str, Any]]:
        """The labels, metadata and line of each log record that a LogQL *expression* finds."""
        answer = servers.get(
            f"{self.loki}/loki/api/v1/query_range", query=expression, since="1h", limit="5000"
        )
        return [
            s["stream"] | {"line": line}
            for s in answer["data"]["result"]
            for _, line in s["values"]
        ]


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


OUTAGES = "test_outages.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ask for what takes longest last: it runs beside all the others."""
    items.sort(key=lambda item: item.path.name == OUTAGES)


@pytest.fixture(scope="session", autouse=True)
def outages(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> "Iterator[Future[list[Outcome]] | None]":
    """The course of outages, begun before the first test if any asks for it."""
    if any(item.path.name == OUTAGES for item in request.session.items):
        with under_way(tmp_path_factory.mktemp("outages")) as found:
            yield found
    else:
        yield None


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Agents → sidecar → the host's collector → Jaeger, Prometheus, Loki, all as shipped."""
    folder = tmp_path_factory.mktemp("stack")
    port = servers.free_ports(1)[0]
    base = f"http://127.0.0.1:{port}"
    jaeger, seen = servers.jaeger(folder / "jaeger", base)
    loki, asked = servers.loki(folder / "loki")
    host, taken = servers.collector(
        folder / "host",
        "single-host.yaml",
        LLMSPELL_JAEGER=f"127.0.0.1:{seen['OTLP']}",
        LLMSPELL_PROMETHEUS=base,
        LLMSPELL_LOGS=f"http://127.0.0.1:{asked}/otlp",
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
    with servers.started(sidecar, host, jaeger, prometheus, loki):
        ledger = emit(beside["OTLP_GRPC"], folder / "ledger.json", SECONDS)
        found = Stack(
            jaeger=f"http://127.0.0.1:{seen['QUERY']}",
            prometheus=base,
            loki=f"http://127.0.0.1:{asked}",
            otlp=beside["OTLP_HTTP"],
            ended=time.time(),
            ledger=ledger,
        )
        calls = "sum(traces_span_metrics_calls_total)"
        assert servers.eventually(
            lambda: (
                (r := found.query(calls, time.time()))
                and float(r[0]["value"][1]) >= len(ledger["spans"])
            )
        ), host.tail()
        time.sleep(1.5)  # one more evaluation of the rules
        yield replace(found, ended=time.time())


@pytest.fixture(scope="session")
def node() -> Path:
    """A folder with the packages of `node/package-lock.json`, fetched once per lock file."""
    npm = shutil.which("npm")
    assert npm, "npm is needed: Grafana's types and the Compose schema come from it"
    lock = (NODE / "package-lock.json").read_bytes()
    folder = cache_folder() / "npm" / hashlib.sha256(lock).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not (folder / ".complete").exists():
            for name in ("package.json", "package-lock.json"):
                shutil.copyfile(NODE / name, folder / name)
            command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr[-2000:]
            (folder / ".complete").touch()
    return folder
