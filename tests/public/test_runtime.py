"""`instrument`, `uninstrument` and `configure`, each in a program of its own."""

import os
import subprocess
import sys
from pathlib import Path

from llmspell_otel.testing import ModelServer, Reply, Usage
from tests.kit.otlp import OtlpReceiver


def run(code: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run *code* as a program, with no telemetry variable set but *environment*."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=cwd,
        env=clean | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_configure_sets_the_sdk_up_and_sends_everything_at_exit(tmp_path: Path) -> None:
    """Spans, metrics and the service's name arrive, with no word said at the program's end."""
    code = """
import llmspell_otel
llmspell_otel.configure(service_name="desk", resource={"deployment.environment.name": "test"})
from openai import OpenAI
said = [{"role": "user", "content": "hi"}]
answer = OpenAI().chat.completions.create(model="gpt-5-mini", messages=said)
print(answer.choices[0].message.content)
"""
    script = [Reply.text("hello", usage=Usage(input=5, output=2))]
    with ModelServer(script) as server, OtlpReceiver() as receiver:
        ran = run(code, tmp_path, **server.environment, **receiver.environment())
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "hello\n", "")
        span = receiver.span("chat gpt-5-mini")
    assert span.resource["service.name"] == "desk"
    assert span.resource["deployment.environment.name"] == "test"
    assert receiver.points("gen_ai.client.inference.duration")[0].count == 1


def test_instrument_uses_the_providers_that_are_there(tmp_path: Path) -> None:
    """A program with an SDK of its own keeps it; providers set later are found."""
    code = """
import llmspell_otel
llmspell_otel.instrument()
llmspell_otel.instrument()
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
memory = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(memory))
trace.set_tracer_provider(provider)

from llmspell_otel import agent

@agent("late")
def late():
    with trace.get_tracer("own").start_as_current_span("own work"):
        return 1

late()
print([span.name for span in memory.get_finished_spans()])
"""
    ran = run(code, tmp_path)
    assert (ran.stdout, ran.stderr) == ("['own work', 'invoke_agent late']\n", "")


def test_uninstrument_restores_the_library(tmp_path: Path) -> None:
    """The functions are the very objects they were, and hooks see nothing any more."""
    code = """
import llmspell_otel
from openai.resources.chat.completions import Completions
before = Completions.__dict__["create"]
llmspell_otel.instrument("openai")
assert Completions.__dict__["create"] is not before
llmspell_otel.uninstrument("openai")
assert Completions.__dict__["create"] is before
print("restored")
"""
    ran = run(code, tmp_path)
    assert (ran.stdout, ran.stderr) == ("restored\n", "")


def test_an_adapter_of_no_such_name_is_said_to_be_unknown(tmp_path: Path) -> None:
    """One line that lists what there is; the program goes on."""
    code = "import llmspell_otel; llmspell_otel.instrument('opnai'); print('goes on')"
    ran = run(code, tmp_path)
    assert ran.stdout == "goes on\n"
    assert "opnai" in ran.stderr
    assert "openai" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_without_an_sdk_hooks_act_and_ids_join(tmp_path: Path) -> None:
    """Nothing is recorded, but everything of one run shares one correlation id."""
    code = """
from llmspell_otel import Event, Hook, agent, tool
seen = []
Hook.register("tool:before_execution", lambda context: seen.append(context.correlation_id))
ends = "*:{execution_started,execution_complete}"
Event.subscribe(ends, lambda event: seen.append(event.correlation_id))

@tool
def add(a, b): return a + b

@agent
def run(): return add(1, 2)

assert run() == 3
assert len(seen) == 5 and len(set(seen)) == 1, seen
print(len(seen[0]))
"""
    ran = run(code, tmp_path)
    assert (ran.stdout, ran.stderr) == ("36\n", "")
