"""The trace as a tree in the terminal."""

import io

import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import Status, StatusCode

from llmspell_exporters import console
from llmspell_exporters.console import ConsoleTreeExporter


def printed() -> tuple[TracerProvider, io.StringIO, ConsoleTreeExporter]:
    """A provider that prints, where it prints to, and its exporter."""
    out = io.StringIO()
    exporter = ConsoleTreeExporter(out)
    provider = TracerProvider(resource=Resource.create({"service.name": "desk"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, out, exporter


CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.usage.input_tokens": 1200,
    "gen_ai.usage.cache_read.input_tokens": 200,
    "gen_ai.usage.output_tokens": 30,
}


def test_children_stand_below_their_parents_in_order_of_time() -> None:
    """A run reads from top to bottom as it happened."""
    provider, out, _ = printed()
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span(
        "invoke_agent a", attributes={"gen_ai.operation.name": "invoke_agent"}
    ):
        with tracer.start_as_current_span(
            "chat m", attributes={**CHAT, "llmspell.cost.total": 0.5}
        ):
            pass
        with tracer.start_as_current_span("execute_tool t"):
            pass
    provider.shutdown()
    lines = out.getvalue().strip().split("\n")
    assert lines[0] == "desk"
    assert lines[1].startswith("└── invoke_agent a")
    assert lines[2].startswith("    ├── chat m  1,200 (200 cached) -> 30 tokens  $0.500000")
    assert lines[3].startswith("    └── execute_tool t")
    assert lines[4].startswith("total  1 agent · 1 model call · 1,200 -> 30 tokens · $0.500000")


def test_what_hooks_did_and_what_went_wrong_is_said() -> None:
    """Attempts, cache, outcome, error and decisions stand on the line."""
    provider, out, _ = printed()
    span = provider.get_tracer("test").start_span(
        "execute_tool t",
        attributes={
            "gen_ai.operation.name": "execute_tool",
            "llmspell.retry.count": 2,
            "llmspell.cache.result": "hit",
            "llmspell.operation.outcome": "refused",
            "llmspell.hook.results": ["guard: cancel"],
            "error.type": "ValueError",
        },
    )
    span.set_status(Status(StatusCode.ERROR))
    span.end()
    provider.shutdown()
    line = out.getvalue()
    for said in ("3 attempts", "from cache", "REFUSED", "error ValueError", "[guard: cancel]"):
        assert said in line
    assert "hooks: 1 cancel" in line


def test_calls_without_a_price_are_counted_as_such() -> None:
    """A missing price is not taken for a free call."""
    provider, out, _ = printed()
    provider.get_tracer("test").start_span("chat m", attributes=CHAT).end()
    provider.shutdown()
    assert "1 unpriced" in out.getvalue()


def test_it_is_printed_once() -> None:
    """A second shutdown adds nothing, and an empty run prints nothing."""
    provider, out, exporter = printed()
    provider.get_tracer("test").start_span("chat m").end()
    exporter.shutdown()
    first = out.getvalue()
    exporter.shutdown()
    assert out.getvalue() == first
    _, nothing, empty = printed()
    empty.shutdown()
    assert nothing.getvalue() == ""


def test_a_run_without_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is beyond the limit is counted and said."""
    monkeypatch.setattr(console, "LIMIT", 2)
    provider, out, _ = printed()
    for _ in range(5):
        provider.get_tracer("test").start_span("chat m").end()
    provider.shutdown()
    assert out.getvalue().count("chat m") == 2
    assert "3 more spans than fit here were left out" in out.getvalue()


def test_a_deep_trace_is_no_trouble() -> None:
    """The tree is grown without recursion of ours; the depth is the program's."""
    provider, out, _ = printed()
    tracer = provider.get_tracer("test")
    spans = [tracer.start_span("root")]
    for depth in range(60):
        above = trace.set_span_in_context(spans[-1])
        spans.append(tracer.start_span(f"deep {depth}", context=above))
    for span in reversed(spans):
        span.end()
    provider.shutdown()
    assert "total" in out.getvalue()
