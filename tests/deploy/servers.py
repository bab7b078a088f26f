"""Start the real servers, with the shipped configurations, on free ports of loopback."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from deploy.build import path_of

T = TypeVar("T")
DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
COLLECTOR = DEPLOY / "collector"


def free_ports(count: int) -> list[int]:
    """*count* ports that nothing listens on; they are free until somebody takes them."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def get(url: str, **query: str | list[str]) -> Any:
    """The JSON that *url* answers with."""
    full = f"{url}?{urllib.parse.urlencode(query, doseq=True)}" if query else url
    with urllib.request.urlopen(full, timeout=10) as response:
        body = response.read()
    return json.loads(body) if body[:1] in b"{[" else body.decode()


def answers(url: str) -> bool:
    """Whether *url* answers 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def eventually(read: Callable[[], T], seconds: float = 20, pause: float = 0.2) -> T:
    """The first true value that *read* returns; its last value when the time is over."""
    deadline = time.monotonic() + seconds
    while not (value := read()) and time.monotonic() < deadline:
        time.sleep(pause)
    return value


@dataclass
class Server:
    """One program: started, killed and started again on the same ports and folder."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    ready: str
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start, and wait until it says that it is ready."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start, and wait for nothing."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=os.environ | dict(self.environment), stdout=log, stderr=log
            )

    def wait(self) -> None:
        """Wait until it says that it is ready."""
        if not eventually(lambda: self._ended() or answers(self.ready), 60) or self._ended():
            self.stop()
            raise AssertionError(f"{self.name} is not ready:\n{self.tail()}")

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process is not None and not self._ended():
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def stop(self) -> None:
        """Let it end in peace; after 20 s, without."""
        if self.process is None or self._ended():
            return
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()

    def tail(self) -> str:
        """The end of what it logged."""
        return self.log.read_text(errors="replace")[-3000:]

    def _ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None


@contextlib.contextmanager
def started(*servers: Server) -> Iterator[None]:
    """Run *servers*; in the end they are killed, because what they still hold is no test's."""
    try:
        for server in servers:
            server.launch()
        for server in servers:
            server.wait()
        yield
    finally:
        for server in servers:
            server.kill()


def collector(
    folder: Path, *configs: str, binary: str = "otelcol-llmspell", **environment: str
) -> tuple[Server, dict[str, int]]:
    """A collector with shipped *configs* (paths under `deploy/collector`), and its ports."""
    names = ("OTLP_GRPC", "OTLP_HTTP", "HEALTH", "METRICS")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    folder.mkdir(parents=True, exist_ok=True)
    server = Server(
        name=folder.name,
        command=[str(path_of(binary)), *(f"--config={COLLECTOR / name}" for name in configs)],
        environment={
            "LLMSPELL_CONFIG_FOLDER": str(COLLECTOR),
            "LLMSPELL_QUEUE_FOLDER": str(folder / "queue"),
            **{f"LLMSPELL_{name}_PORT": str(port) for name, port in ports.items()},
            **environment,
        },
        ready=f"http://127.0.0.1:{ports['HEALTH']}/",
        log=folder / "log.txt",
    )
    return server, ports


def jaeger(folder: Path, prometheus: str = "http://127.0.0.1:9") -> tuple[Server, dict[str, int]]:
    """Jaeger with the shipped configuration, and its ports."""
    names = ("OTLP", "QUERY", "QUERY_GRPC", "HEALTH", "METRICS")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    folder.mkdir(parents=True, exist_ok=True)
    server = Server(
        name="jaeger",
        command=[str(path_of("jaeger")), f"--config={DEPLOY / 'jaeger' / 'jaeger.yaml'}"],
        environment={
            "JAEGER_FOLDER": str(folder / "data"),
            "JAEGER_CONFIG_FOLDER": str(DEPLOY / "jaeger"),
            "PROMETHEUS_URL": prometheus,
            **{f"JAEGER_{name}_PORT": str(port) for name, port in ports.items()},
        },
        ready=f"http://127.0.0.1:{ports['QUERY']}/api/services",
        log=folder / "log.txt",
    )
    return server, ports


def loki(folder: Path) -> tuple[Server, int]:
    """Loki with the shipped configuration, and the port of its API."""
    port, grpc = free_ports(2)
    folder.mkdir(parents=True, exist_ok=True)
    server = Server(
        name="loki",
        command=[
            str(path_of("loki")),
            f"-config.file={DEPLOY / 'loki' / 'loki.yaml'}",
            "-config.expand-env=true",
        ],
        environment={
            "LOKI_FOLDER": str(folder / "data"),
            "LOKI_PORT": str(port),
            "LOKI_GRPC_PORT": str(grpc),
        },
        ready=f"http://127.0.0.1:{port}/ready",
        log=folder / "log.txt",
    )
    return server, port


PROMETHEUS_FLAGS = ("--web.enable-otlp-receiver", "--enable-feature=exemplar-storage")
"""The flags that deploy/prometheus/prometheus.yaml names, and compose and Kubernetes must give."""


def prometheus(folder: Path, port: int, scraped: Mapping[str, int], interval: str = "1s") -> Server:
    """Prometheus with the shipped configuration and rules, looking at *scraped*, a job's port."""
    rules = folder / "rules"
    rules.mkdir(parents=True, exist_ok=True)
    source = DEPLOY / "prometheus"
    for path in (source / "rules").glob("*.yaml"):
        text = path.read_text().replace("interval: 15s", f"interval: {interval}")
        (rules / path.name).write_text(text)
    config = yaml.safe_load((source / "prometheus.yaml").read_text())
    config["global"] = {"scrape_interval": interval, "evaluation_interval": interval}
    config["scrape_configs"] = [
        {**job, "static_configs": [{"targets": [f"127.0.0.1:{scraped[job['job_name']]}"]}]}
        for job in config["scrape_configs"]
        if job["job_name"] in scraped
    ]
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    return Server(
        name="prometheus",
        command=[
            str(path_of("prometheus")),
            f"--config.file={folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            *PROMETHEUS_FLAGS,
        ],
        environment={},
        ready=f"http://127.0.0.1:{port}/-/ready",
        log=folder / "log.txt",
    )
