"""A journal that a real Jaeger is given afterwards: the same trace as the run would have sent."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmspell_otel.events.codec import decode
from llmspell_otel.events.event import UniversalEvent
from tests.deploy import servers

pytestmark = pytest.mark.timeout(180)
CLI = (sys.executable, "-m", "llmspell_otel.cli")

PROGRAM = """
import asyncio
from llmspell_otel import Hook, Retry, agent, tool

tries = []

@Hook.on("tool:error")
def again(context):
    return Retry(delay=0.001) if context.component.name == "look_up" else None

@tool
async def look_up(order):
    tries.append(order)
    if len(tries) == 1:
        raise ConnectionError(order)
    await asyncio.sleep(0.005)
    return {"order": order}

@tool
def refund(order):
    raise ValueError(order)

@agent
async def triage(order):
    await asyncio.gather(look_up(order), look_up("other"), desk(order))

@agent
async def desk(order):
    try:
        refund(order)
    except ValueError:
        return "no"

asyncio.run(triage("A-7"))
"""


def command(*words: str, **variables: str) -> str:
    """What a command of its own prints, with no telemetry variables but those given."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(words, env=clean | variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The journal of an agent's run, whose telemetry went nowhere."""
    folder = tmp_path_factory.mktemp("laptop")
    (program := folder / "program.py").write_text(PROGRAM)
    nowhere = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}
    resource = {"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=laptop"}
    options = ("--service-name", "returns", "--journal", str(folder / "kept"))
    command(*CLI, "run", *options, str(program), **nowhere, **resource)
    return folder / "kept"


@pytest.fixture(scope="module")
def ends(journal: Path) -> dict[str, UniversalEvent]:
    """The ends of all operations, by their ids."""
    words = ("events", "query", "--json", "*:*_{complete,error}", "--journal", str(journal))
    events = [decode(line) for line in command(*CLI, *words).splitlines()]
    return {event.data["operation"]: event for event in events}


@pytest.fixture(scope="module")
def spans(
    journal: Path, ends: dict[str, UniversalEvent], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[dict[str, Any]]]:
    """The spans, each with its process, that Jaeger answers with once the journal was sent."""
    jaeger, ports = servers.jaeger(tmp_path_factory.mktemp("jaeger"))
    trace = next(iter(ends.values())).correlation_id.replace("-", "")
    words = ("events", "export", "--otlp", "--journal", str(journal))
    with servers.started(jaeger):
        for _ in range(2):  # again is harmless
            to = f"http://127.0.0.1:{ports['OTLP']}"
            told = command(*CLI, *words, **{ENDPOINT: to, PROTOCOL: "grpc"})
            assert told.startswith(f"{len(ends)} of {len(ends)} spans sent to {to}")
        asked = f"http://127.0.0.1:{ports['QUERY']}/api/traces"
        found = servers.eventually(
            lambda: servers.get(asked, service="returns", lookback="1h")["data"]
        )
        [whole] = found
        assert whole["traceID"] == trace
        processes = whole["processes"]
        yield [{**span, "process": processes[span["processID"]]} for span in whole["spans"]]


ENDPOINT, PROTOCOL = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL"


def tags(of: dict[str, Any]) -> dict[str, Any]:
    """Its tags by name."""
    return {tag["key"]: tag["value"] for tag in of["tags"]}


def test_every_operation_is_a_span_with_its_id_and_parent(
    spans: list[dict[str, Any]], ends: dict[str, UniversalEvent]
) -> None:
    """None is missing, none is there twice, and each hangs below the one that called it."""
    assert sorted(span["spanID"] for span in spans) == sorted(ends)
    for span in spans:
        above = [ref["spanID"] for ref in span["references"] if ref["refType"] == "CHILD_OF"]
        parent = ends[span["spanID"]].data["parent"]
        assert above == ([parent] if parent else [])


def test_the_times_are_those_of_the_run(
    spans: list[dict[str, Any]], ends: dict[str, UniversalEvent]
) -> None:
    """To the microsecond, which is what Jaeger's API tells."""
    for span in spans:
        data = ends[span["spanID"]].data
        assert span["startTime"] == data["start_time"] // 1_000
        lasted = (data["end_time"] - data["start_time"]) / 1_000
        assert abs(span["duration"] - lasted) <= 1


def test_attributes_and_trouble_are_those_of_the_run(
    spans: list[dict[str, Any]], ends: dict[str, UniversalEvent]
) -> None:
    """Names, attributes, errors, attempts, and what hooks did."""
    by_name = {ends[span["spanID"]].data["name"]: span for span in spans}
    for span in spans:
        told = tags(span)
        for key, value in ends[span["spanID"]].data["attributes"].items():
            assert told[key] == value
    assert by_name["triage"]["operationName"] == "invoke_agent triage"
    refused = tags(by_name["refund"])
    assert (refused["error"], refused["error.type"]) == (True, "ValueError")
    [retried] = [told for told in map(tags, spans) if "llmspell.retry.count" in told]
    assert retried["llmspell.hook.results"] == '["again: retry"]'


def test_the_service_is_the_one_that_ran(spans: list[dict[str, Any]]) -> None:
    """Its name and resource, and our scope, though nobody said them again."""
    for span in spans:
        assert span["process"]["serviceName"] == "returns"
        assert tags(span["process"])["deployment.environment.name"] == "laptop"
        assert tags(span)["otel.scope.name"] == "llmspell_otel"
