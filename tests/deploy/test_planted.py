"""Secrets planted in a real run are in no store, file, log or metric of the whole pipeline."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from llmspell_otel.testing import ModelRequest, ModelServer, Reply
from tests.deploy import planted, servers
from tests.deploy.planted import MARKER, PLACES, content, said, secret

pytestmark = pytest.mark.timeout(240)
CREDENTIALS = {"provider key": secret("provider key"), "receiver token": secret("receiver token")}
BUILTINS = ("logging:level=trace", "debugging", "metrics", "cost_tracking", "retry")
ASKED = ("prompt", "instructions", "tool argument", "tool result")
"""Places whose words the model is given, and so proves to have been said."""
HOLD_CONTENT = {"dump"}
"""What was asked to hold content, and so must be clean of what has the form of a secret only."""


def reply(request: ModelRequest) -> Reply:
    """Call both tools, then answer; refuse the second question with an error."""
    if request.user == "please fail":
        return Reply.error(400, said("model error"))
    if not request.tool_results:
        key = {"key": said("tool argument")}
        return Reply.tools(("look_up", key), ("break_down", key))
    return Reply.text(said("answer"))


def run(folder: Path, port: int, *builtins: str) -> None:
    """The agent under `llmspell-otel run`, with every file that it can be asked to write."""
    settings = {
        "LLMSPELL_OTEL_SPOOL_DIR": str(folder / "spool"),
        "LLMSPELL_OTEL_STATE_DIR": str(folder / "state"),
        "LLMSPELL_OTEL_FILE": str(folder / "file" / "otlp.jsonl"),
        "LLMSPELL_OTEL_BUILTIN__DEBUGGING__DUMP": str(folder / "dump"),
        "OTEL_TRACES_EXPORTER": "otlp,llmspell_file,llmspell_console",
        "OTEL_METRICS_EXPORTER": "otlp,llmspell_file",
        "OTEL_LOGS_EXPORTER": "otlp,llmspell_file",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={CREDENTIALS['receiver token']}",
        "OTEL_SERVICE_NAME": MARKER,
        "PYTHONPATH": str(servers.DEPLOY.parent),
        "NO_PROXY": "127.0.0.1",
        "OPENAI_AGENTS_DISABLE_TRACING": "1",
        "OPENAI_DEFAULT_MODEL": "gpt-5-mini",
    }
    for name in ("file", "log", "output"):
        (folder / name).mkdir(exist_ok=True)
    key = {"OPENAI_API_KEY": CREDENTIALS["provider key"]}
    with ModelServer(reply) as server:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "llmspell_otel.cli", "run"),
                *("--journal", str(folder / "journal")),
                *(word for builtin in (*BUILTINS, *builtins) for word in ("--builtin", builtin)),
                *(str(Path(planted.__file__)), str(folder / "log" / "log.txt")),
            ],
            env={**os.environ, **settings, **server.environment, **key},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        asked = " ".join(str(request.body) for request in server.requests)
    (folder / "output" / "output.txt").write_text(done.stdout + done.stderr)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "An error occurred while running the tool" in asked
    if not builtins:  # which mask what the model is given, too
        assert all(secret(place) in asked for place in ASKED)


def answers(jaeger: str, prometheus: str, loki: str) -> dict[str, str]:
    """All that the stores tell of the agent through their APIs, since on disk they compress."""

    def traces() -> list[Any]:
        found = servers.get(f"{jaeger}/api/traces", service=MARKER, limit="100", lookback="1h")
        return list(found["data"])

    def series() -> list[Any]:
        match = f'{{service_name="{MARKER}"}}'
        found = servers.get(f"{prometheus}/api/v1/series", **{"match[]": match})
        return list(found["data"])

    def records() -> list[Any]:
        query = f'{{service_name="{MARKER}"}}'
        found = servers.get(
            f"{loki}/loki/api/v1/query_range", query=query, since="1h", limit="5000"
        )
        return list(found["data"]["result"])

    stores = {"Jaeger": traces, "Prometheus": series, "Loki": records}
    # Two runs, each with two runs of the agent.
    servers.eventually(lambda: len(traces()) >= 4, 60)
    assert len(traces()) == 4
    return {name: json.dumps(servers.eventually(read, 30)) for name, read in stores.items()}


@pytest.fixture(scope="module")
def sinks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every byte of every place where telemetry goes or waits, by the name of the place."""
    folder = tmp_path_factory.mktemp("planted")
    port = servers.free_ports(1)[0]
    jaeger, seen = servers.jaeger(folder / "jaeger")
    loki, asked = servers.loki(folder / "loki")
    prometheus = servers.prometheus(folder / "prometheus", port, {})
    host, taken = servers.collector(
        folder / "host",
        "single-host.yaml",
        LLMSPELL_JAEGER=f"127.0.0.1:{seen['OTLP']}",
        LLMSPELL_PROMETHEUS=f"http://127.0.0.1:{port}",
        LLMSPELL_LOGS=f"http://127.0.0.1:{asked}/otlp",
        LLMSPELL_SPAN_METRICS_INTERVAL="1s",
    )
    sidecar, beside = servers.collector(
        folder / "sidecar",
        "sidecar.yaml",
        "overlays/debug.yaml",
        LLMSPELL_UPSTREAM=f"127.0.0.1:{taken['OTLP_GRPC']}",
        LLMSPELL_UPSTREAM_INSECURE="true",
    )
    agent = folder / "agent"
    agent.mkdir()
    with ExitStack() as stack:
        run(agent, beside["OTLP_HTTP"])  # nobody is there: it is all in the spool
        shutil.copytree(agent / "spool", agent / "spool as it was")
        stack.enter_context(servers.started(sidecar))
        run(agent, beside["OTLP_HTTP"], f"security:audit={agent / 'audit' / 'trail.jsonl'}")
        time.sleep(1)
        # What it cannot hand on yet lies in the queue, on disk.
        shutil.copytree(folder / "sidecar" / "queue", folder / "queue as it was")
        stack.enter_context(servers.started(host, jaeger, prometheus, loki))
        sidecar.kill()  # what is in the queue comes at once from who finds it there
        sidecar.start()
        told = answers(
            f"http://127.0.0.1:{seen['QUERY']}",
            f"http://127.0.0.1:{port}",
            f"http://127.0.0.1:{asked}",
        )
    places = [agent / name for name in ("journal", "file", "log", "output", "state", "dump")]
    places += [agent / "audit", agent / "spool as it was", folder / "queue as it was"]
    places += [folder / name for name in ("sidecar", "host", "jaeger", "prometheus", "loki")]
    found = {path.name: b"\0".join(map(written, files(path))) for path in places}
    return found | {name: text.encode() for name, text in told.items()}


def files(folder: Path) -> list[Path]:
    """Every file at any depth."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def written(path: Path) -> bytes:
    """What was ever written to a file: Jaeger's store is sparse, and 2 GB long."""
    found, end = b"", 0
    with path.open("rb") as file, contextlib.suppress(OSError):  # no data beyond the last
        while True:
            begin = os.lseek(file.fileno(), end, os.SEEK_DATA)
            end = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            found += os.pread(file.fileno(), end - begin, begin).rstrip(b"\0")
    return found


def spellings(text: str) -> set[bytes]:
    """A text as it may lie in a file: plain, or written for JSON."""
    return {text.encode(), text.lower().encode(), json.dumps(text)[1:-1].encode()}


def test_what_is_no_secret_is_found(sinks: dict[str, bytes]) -> None:
    """The agent's name is in every place: they hold the run, and what they hold can be read."""
    readable = {name for name, data in sinks.items() if MARKER.encode() in data}
    compressed = {"host", "jaeger", "prometheus", "loki"}  # read through their APIs
    assert set(sinks) - readable - compressed == set()


@pytest.mark.parametrize("place", [*PLACES, *CREDENTIALS])
def test_no_secret_is_found_anywhere(sinks: dict[str, bytes], place: str) -> None:
    """What has the form of a secret is in no byte of them, whatever they were asked to hold."""
    text = CREDENTIALS.get(place) or secret(place)
    needle = text.rpartition("-")[2].rpartition("_")[2].rpartition(" ")[2]
    found = {name for name, data in sinks.items() if any(s in data for s in spellings(needle))}
    assert found == set()


@pytest.mark.parametrize("place", PLACES)
def test_no_content_is_found_by_default(sinks: dict[str, bytes], place: str) -> None:
    """What was said, secret or not, is nowhere but where content was asked for."""
    needle = content(place).encode()
    assert {name for name, data in sinks.items() if needle in data} <= HOLD_CONTENT
