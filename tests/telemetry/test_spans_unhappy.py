"""Spans under bad conditions: nothing reaches the host, and nothing else is lost."""

import logging
import subprocess
import sys
import textwrap
import threading
from typing import Any

import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.trace import ConcurrentMultiSpanProcessor, SpanProcessor
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, TraceIdRatioBased
from opentelemetry.trace import NoOpTracerProvider, Span, Tracer, TracerProvider

from llmspell_otel.telemetry.capture import CaptureMode
from llmspell_otel.telemetry.pipeline import Telemetry
from llmspell_otel.telemetry.spans import SpanBridge
from tests.telemetry.support import Call, Event, Signals, Traces, run

CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-5"}


class Raising(SpanProcessor):
    """A user's processor that fails at everything."""

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """Fail."""
        raise ValueError("on_start")

    def _on_ending(self, span: Any) -> None:
        raise ValueError("on_ending")

    def on_end(self, span: Any) -> None:
        """Fail."""
        raise ValueError("on_end")


@pytest.mark.parametrize("position", ["before", "after"])
def test_a_raising_span_processor_hurts_nobody(
    position: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller notices nothing, and the processors beside it get every span."""
    traces = Traces()
    if position == "before":
        traces.provider._active_span_processor._span_processors = (
            Raising(),
            *traces.provider._active_span_processor._span_processors,
        )
    else:
        traces.provider.add_span_processor(Raising())
    bridge = SpanBridge(traces.provider)
    for _ in range(10):
        call = Call(at_start=CHAT)
        started = bridge.start(call.started())
        assert trace.get_current_span(started).is_recording()
        bridge.end(call.ended())
    assert len(traces.spans) == 10
    assert bridge.guard.failures == 30
    assert len([record for record in caplog.records if record.exc_info]) == 3


def test_a_processor_that_is_added_later_is_called() -> None:
    """The shield does not freeze the provider's processors."""
    traces = Traces()
    bridge = SpanBridge(traces.provider)
    bridge.replay(Call(at_start=CHAT).events())
    late = Traces()
    traces.provider.add_span_processor(SimpleSpanProcessor(late.exporter))
    bridge.replay(Call(at_start=CHAT, operation="00000000000000bb").events())
    assert [span.context.span_id for span in late.spans] == [0xBB]


def test_a_concurrent_fan_out_is_left_as_it_is() -> None:
    """It keeps its processors elsewhere; what it raises is contained all the same."""
    fan = ConcurrentMultiSpanProcessor(2)
    traces = Traces(active_span_processor=fan)
    traces.provider.add_span_processor(Raising())
    bridge = SpanBridge(traces.provider)
    bridge.replay(Call(at_start=CHAT).events())
    fan.shutdown()
    assert len(traces.spans) == 1
    assert bridge.guard.failures > 0


class Foreign(TracerProvider):
    """A provider of somebody else's making, which takes no ids from outside."""

    def __init__(self) -> None:
        self.inner = Traces()

    def get_tracer(self, *args: Any, **kwargs: Any) -> Tracer:
        """A tracer that shows nothing of its inside."""
        return Closed(self.inner.provider.get_tracer("foreign"))


class Closed(Tracer):
    """Passes calls on."""

    def __init__(self, inner: Tracer) -> None:
        self.__inner = inner

    def start_span(self, *args: Any, **kwargs: Any) -> Span:
        """As the inner tracer."""
        return self.__inner.start_span(*args, **kwargs)

    def start_as_current_span(self, *args: Any, **kwargs: Any) -> Any:
        """As the inner tracer."""
        return self.__inner.start_as_current_span(*args, **kwargs)


def test_a_foreign_provider_keeps_its_own_ids() -> None:
    """The true ids are in the context; the operation may end under either of them."""
    provider = Foreign()
    bridge = SpanBridge(provider)
    assert bridge.active
    assert bridge.new_trace_id()
    assert bridge.new_span_id()
    for adopt in (False, True):
        call = Call(at_start=CHAT)
        started = bridge.start(call.started())
        true = trace.get_current_span(started).get_span_context()
        assert true.is_valid
        assert trace.format_span_id(true.span_id) != call.operation
        if adopt:
            call.operation = trace.format_span_id(true.span_id)
            call.trace = trace.format_trace_id(true.trace_id)
        bridge.end(call.ended())
        assert bridge.open == 0
    assert len(provider.inner.spans) == 2


class Broken(TracerProvider):
    """A provider that raises."""

    def get_tracer(self, *args: Any, **kwargs: Any) -> Tracer:
        """Fail."""
        raise RuntimeError


def test_a_broken_provider_is_contained() -> None:
    """No spans, and no exception."""
    bridge = SpanBridge(Broken())
    assert not bridge.active
    assert bridge.new_span_id()
    bridge.replay(Call(at_start=CHAT).events())
    assert bridge.guard.failures > 0


def test_a_tracer_that_raises_is_contained() -> None:
    """The operation goes on in the context it had."""
    provider = Foreign()
    bridge = SpanBridge(provider)
    assert bridge.active
    bridge._tracer = Closed(None)  # type: ignore[arg-type]
    call = Call(at_start=CHAT)
    assert bridge.start(call.started()) == context.get_current()
    bridge.end(call.ended())
    assert bridge.unmatched == 1


@pytest.mark.parametrize("provider", [None, NoOpTracerProvider()], ids=["none", "no-op"])
def test_without_an_sdk_nothing_happens(provider: TracerProvider | None) -> None:
    """The context is the caller's own, so that an incoming trace passes through."""
    bridge = SpanBridge(provider or NoOpTracerProvider())
    call = Call(at_start=CHAT)
    assert not bridge.active
    assert bridge.start(call.started()) == context.get_current()
    bridge.end(call.ended())
    assert (bridge.open, bridge.unmatched) == (0, 0)
    assert bridge.new_trace_id().bit_length() > 64
    assert bridge.new_span_id()


def _script(body: str, **environ: str) -> str:
    code = "from tests.telemetry.support import *\n" + textwrap.dedent(body)
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": "/usr/bin:/bin", **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout


def test_a_provider_that_is_set_later_is_found() -> None:
    """Inactive until then, active from then on."""
    said = _script(
        """
        from opentelemetry import trace
        from llmspell_otel.telemetry.spans import SpanBridge
        bridge, traces, call = SpanBridge(), Traces(), Call()
        bridge.replay(call.events())
        print(bridge.active)
        trace.set_tracer_provider(traces.provider)
        print(bridge.active)
        bridge.replay(call.events())
        print(len(traces.spans), traces.only.context.span_id == int(call.operation, 16))
        """
    )
    assert said.split() == ["False", "True", "1", "True"]


def test_a_disabled_sdk_is_no_sdk() -> None:
    """`OTEL_SDK_DISABLED` leaves providers that record nothing."""
    said = _script(
        """
        from llmspell_otel.telemetry.spans import SpanBridge
        traces = Traces()
        bridge = SpanBridge(traces.provider)
        bridge.replay(Call().events())
        print(bridge.active, len(traces.spans))
        """,
        OTEL_SDK_DISABLED="true",
    )
    assert said.split() == ["False", "0"]


def test_what_is_not_sampled_is_measured() -> None:
    """No span, but every metric; the context still carries the trace on."""
    signals = Signals(sampler=ALWAYS_OFF)
    telemetry = Telemetry(signals.providers)
    call = Call(at_start=CHAT)
    started = telemetry.bridge.start(call.started())
    ids = trace.get_current_span(started).get_span_context()
    assert trace.format_span_id(ids.span_id) == call.operation
    assert not ids.trace_flags.sampled
    telemetry.end(call.ended())
    run(telemetry)
    telemetry.close()
    assert signals.spans == ()
    assert signals.points["gen_ai.client.inference.duration"][0][1] == 2.0


def test_samplers_decide_a_replay_as_they_decided_live() -> None:
    """The decision follows from the trace id, which is the same."""
    calls = [Call(trace=f"{n * 2**121:032x}", operation=f"{n:016x}") for n in range(1, 60)]
    kept = []
    for _ in range(2):
        traces = Traces(sampler=TraceIdRatioBased(0.5))
        SpanBridge(traces.provider).replay(e for call in calls for e in call.events())
        kept.append([span.context.span_id for span in traces.spans])
    assert kept[0] == kept[1]


@pytest.mark.parametrize(
    "attributes",
    [
        {"gen_ai.operation.name": ["chat"], "gen_ai.request.model": {"a": "map"}},
        {"a": object(), "b": {1, 2}, "c": 2**70, "d": {"x": {"y": [object(), None]}}, "e": None},
        {5: "five", None: 1, ("t",): 2},
        {"nan": float("nan"), "bytes": b"\xff", "nested": [[[["deep"]]]]},
    ],
    ids=["names", "values", "keys", "odd"],
)
def test_attributes_of_wrong_types(
    attributes: dict[Any, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """There is a span all the same, at both ends, and the SDK has nothing to complain of."""
    traces = Traces()
    bridge = SpanBridge(traces.provider, capture=CaptureMode.NO_CONTENT)
    with caplog.at_level(logging.WARNING):
        bridge.replay(Call(at_start=attributes).events())
        call = Call(at_start=CHAT, at_end=attributes, operation="00000000000000bb")
        bridge.replay(call.events())
    assert len(traces.spans) == 2
    assert caplog.records == []
    for span in traces.spans:
        assert "" not in (span.attributes or {})


@pytest.mark.parametrize(
    "event",
    [
        Event(event_type="model:call_started", data={}, timestamp=1, traceparent=None),
        Event(event_type="model:call_started", data={}, timestamp=1, traceparent="rubbish"),
        Event(
            event_type="model:call_started",
            data={"operation": 5, "parent": "zz", "attributes": [], "links": 5},
            timestamp=1,
            traceparent="00-" + "0" * 32 + "-" + "0" * 16 + "-01",
        ),
        Event(event_type="x", data=[], timestamp=1, traceparent=None),  # type: ignore[arg-type]
        Event(event_type="x", data=None, timestamp=1, traceparent=None),  # type: ignore[arg-type]
    ],
    ids=["empty", "no traceparent", "wrong types", "a list", "nothing"],
)
def test_events_that_are_none_of_ours(event: Event) -> None:
    """Whatever stands in a journal, nothing raises."""
    signals = Signals()
    telemetry = Telemetry(signals.providers)
    telemetry.bridge.start(event)
    telemetry.end(event)
    assert telemetry.flush(5)
    telemetry.bridge.replay([event])
    telemetry.close()


def test_too_many_attributes_cost_the_least_telling_ones() -> None:
    """The SDK would drop the oldest first: model and operation."""
    traces = Traces()
    many = {f"gen_ai.prompt.variable.v{n}": n for n in range(300)}
    call = Call(at_start=CHAT, at_end=many, outcome="error", facts={"error": {"type": "E"}})
    SpanBridge(traces.provider).replay(call.events())
    attributes = traces.only.attributes or {}
    assert attributes.items() >= CHAT.items()
    assert attributes["error.type"] == "E"
    assert len(attributes) <= 128
    assert traces.only.dropped_attributes == 0


def test_threads_get_their_own_ids() -> None:
    """Two operations that start at the same time do not take each other's ids."""
    traces = Traces()
    bridge = SpanBridge(traces.provider)

    def work(thread: int) -> None:
        for number in range(200):
            ids = thread * 1000 + number + 1
            call = Call(operation=f"{ids:016x}", trace=f"{ids:032x}", at_start=CHAT)
            bridge.start(call.started())
            bridge.end(call.ended())

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(traces.spans) == 1600
    assert all(span.context.trace_id == span.context.span_id for span in traces.spans)
    assert len({span.context.span_id for span in traces.spans}) == 1600


def test_the_sdk_is_never_imported() -> None:
    """The whole package speaks the API only."""
    code = """
import sys
import llmspell_otel.telemetry.pipeline
import llmspell_otel.telemetry.prices
llmspell_otel.telemetry.pipeline.Telemetry()
loaded = [name for name in sys.modules if name.startswith("opentelemetry.sdk")]
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True)
