"""`events export --otlp`: a journal gives a receiver the traces that the live run gave."""

import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from llmspell_otel.cli import main
from llmspell_otel.events import make
from llmspell_otel.events.journal import Journal
from llmspell_otel.telemetry.capture import CAPTURE
from tests.events.test_timeline import RUN, story
from tests.kit.otlp import OtlpReceiver
from tests.kit.otlp_faults import Fault

PROGRAM = """
import asyncio
from llmspell_otel import agent, tool

@tool
def look_up(order):
    if order == "none":
        raise KeyError(order)
    return order

@agent
async def triage(order):
    try:
        look_up("none")
    except KeyError:
        pass
    return await asyncio.gather(*(answer(order) for _ in range(3)))

@agent
async def answer(order):
    await asyncio.sleep(0.01)
    return look_up(order)

asyncio.run(triage("7"))
"""

FORKING = """
import os
from llmspell_otel import tool

@tool
def look_up(order):
    return order

look_up("parent")
if child := os.fork():
    os.waitpid(child, 0)
look_up("again")
"""


def export(folder: Path, receiver: OtlpReceiver, *words: str, protocol: str = "grpc") -> Result:
    """Call `events export --otlp` on the journal in *folder*."""
    environment = receiver.environment(protocol) | {"LLMSPELL_OTEL_JOURNAL": str(folder)}
    words = ("events", "export", "--otlp", *words)
    return CliRunner(env=environment).invoke(main, words)


def told(receiver: OtlpReceiver) -> list[dict[str, Any]]:
    """Everything that the spans say, resource and scope included, in order of their ids."""
    return sorted(map(asdict, receiver.spans()), key=lambda span: str(span["span_id"]))


def run(folder: Path, receiver: OtlpReceiver, text: str, *words: str, **variables: str) -> None:
    """Run a program with a journal, its telemetry going to *receiver*."""
    (program := folder / "program.py").write_text(text)
    line = [sys.executable, "-m", "llmspell_otel.cli", "run", "--journal", str(folder / "kept")]
    protocol = variables.pop("protocol", "grpc")
    environment = os.environ | receiver.environment(protocol) | variables
    subprocess.run([*line, *words, str(program)], env=environment, check=True, timeout=60)


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_the_same_traces_arrive_again(tmp_path: Path, protocol: str) -> None:
    """All that a span has is equal: ids, parents, times, attributes, status, resource, scope."""
    with OtlpReceiver() as live, OtlpReceiver() as again:
        run(tmp_path, live, PROGRAM, protocol=protocol)
        result = export(tmp_path / "kept", again, protocol=protocol)
        assert result.exit_code == 0, result.output
        assert result.output.startswith("8 of 8 spans sent to http://127.0.0.1:")
        assert len(told(live)) == 8
        assert told(again) == told(live)


def test_each_process_has_its_own_resource_again(tmp_path: Path) -> None:
    """Two programs, other in every attribute, share a journal; nothing has to be said of them."""
    with OtlpReceiver() as live, OtlpReceiver() as again:
        run(tmp_path, live, PROGRAM, "--service-name", "desk", OTEL_RESOURCE_ATTRIBUTES="team=a")
        run(tmp_path, live, PROGRAM, OTEL_SERVICE_NAME="shop", OTEL_RESOURCE_ATTRIBUTES="x=1,y=2")
        assert export(tmp_path / "kept", again).exit_code == 0
        assert {span["resource"]["service.name"] for span in told(live)} == {"desk", "shop"}
        assert told(again) == told(live)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_forked_child_has_its_own_resource_again(tmp_path: Path) -> None:
    """The SDK gives it another instance id, which its spans have again."""
    with OtlpReceiver() as live, OtlpReceiver() as again:
        run(tmp_path, live, FORKING)
        assert export(tmp_path / "kept", again).exit_code == 0
        instances = {span["resource"]["service.instance.id"] for span in told(live)}
        assert len(instances) == 2
        assert told(again) == told(live)


def test_content_is_where_it_was(tmp_path: Path) -> None:
    """Spans that carried input and output carry them again, without being told to."""
    capture = {CAPTURE: "SPAN_ONLY"}
    with OtlpReceiver() as live, OtlpReceiver() as again:
        run(tmp_path, live, PROGRAM, **capture)
        assert export(tmp_path / "kept", again).exit_code == 0
        assert any("gen_ai.tool.call.arguments" in span["attributes"] for span in told(live))
        assert told(again) == told(live)


def test_a_service_name_that_is_given_overrides_what_is_known(tmp_path: Path) -> None:
    """It alone; the other attributes stay."""
    with OtlpReceiver() as live, OtlpReceiver() as again:
        run(tmp_path, live, PROGRAM, OTEL_RESOURCE_ATTRIBUTES="team=a")
        assert export(tmp_path / "kept", again, "--service-name", "other").exit_code == 0
        expected = {**told(live)[0]["resource"], "service.name": "other"}
        assert [span["resource"] for span in told(again)] == [expected] * 8


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A journal with a story of a run, and a thousand calls of others."""
    journal = Journal(tmp_path)
    for event in story():
        journal.append(event)
    for number in range(1, 1_001):
        data = {"operation": f"{number:016x}", "kind": "tool", "name": "search"}
        parent = f"00-{number:032x}-{number:016x}-01"
        journal.append(make("tool:execution_started", data, f"run-{number}", parent))
        journal.append(make("tool:execution_complete", data, f"run-{number}", parent))
    assert journal.flush()
    journal.close()
    return tmp_path


def test_one_run_or_some_types_can_be_sent(folder: Path) -> None:
    """Conditions choose the events, and so the spans."""
    with OtlpReceiver() as receiver:
        sent = export(folder, receiver, "--run", "run-7")
        assert sent.output.startswith("1 of 1 spans")
        assert export(folder, receiver, "--run", RUN, "model.*").exit_code == 0
        names = [span.name for span in receiver.spans()]
    assert "execute_tool search" in names
    assert len(names) > 1


def test_all_of_a_journal_is_sent_in_batches(folder: Path) -> None:
    """However many spans there are, each arrives once, and no request is without end."""
    with OtlpReceiver() as receiver:
        result = export(folder, receiver)
        assert result.exit_code == 0, result.output
        ids = [span.span_id for span in receiver.spans()]
        assert len(ids) == len(set(ids)) > 1_000
        assert max(len(each.records) for each in receiver.exports) <= 600


def test_a_receiver_that_is_down_is_said_in_one_line(folder: Path) -> None:
    """No traceback, no log: where it should have gone, what became of how many, and why."""
    words = ("events", "export", "--otlp", "--timeout", "0.2", "--journal", str(folder))
    with OtlpReceiver() as receiver:
        receiver.refuse()
        environment = os.environ | receiver.environment("grpc")
        line = [sys.executable, "-m", "llmspell_otel.cli", *words]
        done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    [told] = done.stderr.splitlines()
    assert "given up: the receiver does not take them (" in told
    assert receiver.grpc_endpoint.removeprefix("http://") in told


def test_events_of_no_operation_are_no_success(folder: Path) -> None:
    """Whoever names a type that is not there is told so."""
    with OtlpReceiver() as receiver:
        result = export(folder, receiver, "shop:*")
    assert result.exit_code == 1
    assert result.output == "Error: no spans: none of these events tells of an operation\n"


def test_what_the_receiver_refuses_is_counted(folder: Path) -> None:
    """A partial success is no success."""
    with OtlpReceiver() as receiver:
        receiver.misbehave(Fault(rejected=3, message="too old"))
        result = export(folder, receiver)
    assert result.exit_code == 1
    assert "partial_success rejected 3" in result.output
    assert "too old" in result.output


def test_a_target_or_otlp_has_to_be_named(folder: Path) -> None:
    """Neither is a usage error that says how to go on."""
    result = CliRunner().invoke(main, ["events", "export", "--journal", str(folder)])
    assert result.exit_code == 2
    assert "or say --otlp" in result.output
