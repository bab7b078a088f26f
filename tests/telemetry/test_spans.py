"""Events become spans: names, kinds, attributes, status, parents, ids and times."""

from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import SpanKind, StatusCode

from llmspell_otel import tool
from llmspell_otel.operations.ports import ports
from llmspell_otel.telemetry import Providers, Telemetry
from llmspell_otel.telemetry.capture import CaptureMode
from llmspell_otel.telemetry.spans import SpanBridge
from tests.telemetry.support import SECOND, START, TRACE, Call, Traces

CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-5"}

SHAPES = [
    ("model", "gpt-5", {}, "chat gpt-5", SpanKind.CLIENT),
    ("model", "", {}, "chat", SpanKind.CLIENT),
    (
        "model",
        "e3",
        {"gen_ai.operation.name": "embeddings", "gen_ai.request.model": "e3"},
        "embeddings e3",
        SpanKind.CLIENT,
    ),
    (
        "model",
        "wiki",
        {"gen_ai.operation.name": "retrieval", "gen_ai.data_source.id": "wiki"},
        "retrieval wiki",
        SpanKind.CLIENT,
    ),
    (
        "model",
        "r",
        {"gen_ai.operation.name": "fetch_response", "gen_ai.response.id": "resp_1"},
        "fetch_response",
        SpanKind.CLIENT,
    ),
    (
        "model",
        "m",
        {"gen_ai.operation.name": "search_memory", "gen_ai.memory.store.id": "s"},
        "search_memory",
        SpanKind.CLIENT,
    ),
    ("agent", "Triage", {}, "invoke_agent Triage", SpanKind.INTERNAL),
    ("agent", "", {}, "invoke_agent", SpanKind.INTERNAL),
    ("agent", "Remote", {"server.address": "a.b"}, "invoke_agent Remote", SpanKind.CLIENT),
    (
        "agent",
        "New",
        {"gen_ai.operation.name": "create_agent"},
        "create_agent New",
        SpanKind.CLIENT,
    ),
    ("agent", "P", {"gen_ai.operation.name": "plan"}, "plan P", SpanKind.INTERNAL),
    ("workflow", "refund", {}, "invoke_workflow refund", SpanKind.INTERNAL),
    ("stage", "check", {}, "run_stage check", SpanKind.INTERNAL),
    ("tool", "lookup", {}, "execute_tool lookup", SpanKind.INTERNAL),
    (
        "tool",
        "load_skill",
        {"gen_ai.skill.name": "pdf", "gen_ai.skill.resource.name": "forms.md"},
        "execute_tool load_skill pdf forms.md",
        SpanKind.INTERNAL,
    ),
    (
        "tool",
        "bash",
        {"process.executable.name": "ls"},
        "execute_tool bash ls",
        SpanKind.INTERNAL,
    ),
    (
        "tool",
        "weather",
        {"mcp.method.name": "tools/call", "gen_ai.tool.name": "weather"},
        "tools/call weather",
        SpanKind.CLIENT,
    ),
]


@pytest.fixture
def traces() -> Traces:
    """A pipeline of its own for each test."""
    return Traces()


@pytest.fixture
def bridge(traces: Traces) -> SpanBridge:
    """A bridge into that pipeline."""
    return SpanBridge(traces.provider, version="1.2.3", capture=CaptureMode.NO_CONTENT)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape[3])
def test_name_and_kind(
    traces: Traces, bridge: SpanBridge, shape: tuple[str, str, dict[str, Any], str, SpanKind]
) -> None:
    """Every sort of operation is named, and of the kind, that the conventions say."""
    kind, name, attributes, span_name, span_kind = shape
    bridge.replay(Call(kind=kind, name=name, at_start=attributes).events())
    assert (traces.only.name, traces.only.kind) == (span_name, span_kind)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("model", {"gen_ai.operation.name": "chat", "gen_ai.request.model": "x"}),
        ("agent", {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "x"}),
        ("workflow", {"gen_ai.operation.name": "invoke_workflow", "gen_ai.agent.name": "x"}),
        ("stage", {"gen_ai.operation.name": "run_stage", "llmspell.component.name": "x"}),
        ("tool", {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "x"}),
    ],
)
def test_what_kind_and_name_imply_is_completed(
    traces: Traces, bridge: SpanBridge, kind: str, expected: dict[str, str]
) -> None:
    """A plain decorated function has no codec, and its span its required attributes anyhow."""
    bridge.replay(Call(kind=kind, name="x").events())
    assert traces.only.attributes == expected


def test_a_span_has_the_ids_and_times_of_its_events(traces: Traces, bridge: SpanBridge) -> None:
    """Trace id, span id, start and end are the operation's own."""
    bridge.replay(Call(at_start=CHAT, seconds=1.5).events())
    span = traces.only
    assert trace.format_trace_id(span.context.trace_id) == TRACE
    assert trace.format_span_id(span.context.span_id) == "00f067aa0ba902b7"
    assert (span.start_time, span.end_time) == (START, START + SECOND * 3 // 2)
    assert span.instrumentation_scope is not None
    assert (span.instrumentation_scope.name, span.instrumentation_scope.version) == (
        "llmspell_otel",
        "1.2.3",
    )


def test_attributes_of_the_start_are_there_for_the_sampler(traces: Traces) -> None:
    """A sampler decides on model and operation; what comes later is added at the end."""
    seen: list[Any] = []
    sampler = traces.provider.sampler
    original = sampler.should_sample
    sampler.should_sample = lambda *args, **kw: (seen.append(dict(args[4])), original(*args, **kw))[
        1
    ]
    bridge = SpanBridge(traces.provider)
    try:
        bridge.replay(Call(at_start=CHAT, at_end={"gen_ai.response.id": "r"}).events())
    finally:
        del sampler.should_sample
    assert seen == [CHAT]
    assert traces.only.attributes == CHAT | {"gen_ai.response.id": "r"}


def test_success_leaves_the_status_unset(traces: Traces, bridge: SpanBridge) -> None:
    """An instrumentation never says OK."""
    bridge.replay(Call(at_start=CHAT).events())
    assert traces.only.status.status_code is StatusCode.UNSET
    assert "error.type" not in (traces.only.attributes or {})


@pytest.mark.parametrize(
    "case",
    [
        ("error", {"type": "rate_limit_exceeded"}, "rate_limit_exceeded", None),
        ("error", {}, "_OTHER", None),
        ("error", None, "_OTHER", None),
        ("cancelled", None, "cancelled", "cancelled"),
        ("cancelled", {"type": "asyncio.CancelledError"}, "asyncio.CancelledError", "cancelled"),
        ("closed", None, None, "closed"),
        ("abandoned", None, None, "abandoned"),
    ],
)
def test_outcomes(
    traces: Traces,
    bridge: SpanBridge,
    case: tuple[str, dict[str, str] | None, str | None, str | None],
) -> None:
    """Errors and cancellations are failures; a stream that was left early is not."""
    outcome, error, error_type, shown = case
    facts = {} if error is None else {"error": error}
    bridge.replay(Call(at_start=CHAT, outcome=outcome, facts=facts).events())
    attributes = traces.only.attributes or {}
    failed = traces.only.status.status_code is StatusCode.ERROR
    assert failed is (error_type is not None)
    assert attributes.get("error.type") == error_type
    assert attributes.get("llmspell.operation.outcome") == shown


@pytest.mark.parametrize(
    ("capture", "description"),
    [(CaptureMode.NO_CONTENT, None), (CaptureMode.EVENT_ONLY, "no such user: Ada")],
)
def test_error_text_is_content(
    traces: Traces, capture: CaptureMode, description: str | None
) -> None:
    """A message may quote the prompt: it is shown only while content capture is on."""
    error = {"type": "KeyError", "message": "no such user: Ada"}
    call = Call(at_start=CHAT, outcome="error", facts={"error": error})
    SpanBridge(traces.provider, capture=capture).replay(call.events())
    assert traces.only.status.description == description


@pytest.mark.parametrize("capture", CaptureMode)
def test_content_is_on_the_span_in_the_span_modes(traces: Traces, capture: CaptureMode) -> None:
    """Structured, and bounded."""
    content = {"gen_ai.input.messages": [{"role": "user", "parts": [{"content": "x" * 20_000}]}]}
    call = Call(at_start=CHAT, facts={"content": content})
    SpanBridge(traces.provider, capture=capture).replay(call.events())
    messages = (traces.only.attributes or {}).get("gen_ai.input.messages")
    assert (messages is not None) is capture.on_span
    if isinstance(messages, (list, tuple)):
        text = messages[0]["parts"][0]["content"]  # type: ignore[index,call-overload]
        assert text.endswith("[truncated: 20000 characters in all]")


def test_what_hooks_decided_is_on_the_span(traces: Traces, bridge: SpanBridge) -> None:
    """The last notable decision by itself, and all of them in a bounded list."""
    decisions = [
        {"hook": "log", "point": "tool:before_execution", "result": "continue"},
        {"hook": "cache", "point": "tool:before_execution", "result": "cache", "reason": "miss"},
        *({"hook": "r", "point": "tool:error", "result": "retry"} for _ in range(30)),
        {"hook": "guard", "point": "tool:after_execution", "result": "replace"},
    ]
    bridge.replay(
        Call(kind="tool", name="t", facts={"decisions": decisions, "attempts": 31}).events()
    )
    attributes = traces.only.attributes or {}
    assert attributes["llmspell.hook.name"] == "guard"
    assert attributes["llmspell.hook.point"] == "tool:after_execution"
    assert attributes["llmspell.hook.result"] == "replace"
    assert attributes["llmspell.retry.count"] == 30
    assert attributes["llmspell.cache.result"] == "miss"
    results = attributes["llmspell.hook.results"]
    assert isinstance(results, tuple)
    assert len(results) == 16
    assert results[:2] == ("cache: cache", "r: retry")


def test_hooks_that_did_nothing_leave_no_trace(traces: Traces, bridge: SpanBridge) -> None:
    """A span is not cluttered with hooks that let the call go on."""
    decisions = [{"hook": "log", "point": "p", "result": "continue"}]
    bridge.replay(Call(at_start=CHAT, facts={"decisions": decisions}).events())
    assert traces.only.attributes == CHAT


def test_a_stream_tells_its_first_chunk(traces: Traces, bridge: SpanBridge) -> None:
    """In seconds, from the request to the first chunk."""
    chunks = {"count": 3, "first": 0.25, "intervals": [0.1, 0.1]}
    bridge.replay(Call(at_start=CHAT, facts={"chunks": chunks}).events())
    assert (traces.only.attributes or {})["gen_ai.response.time_to_first_chunk"] == 0.25


def test_a_stream_without_a_chunk_tells_none(traces: Traces, bridge: SpanBridge) -> None:
    """A stream that failed before its first chunk has no time to it."""
    chunks = {"count": 0, "first": 0.0, "intervals": []}
    bridge.replay(Call(at_start=CHAT, facts={"chunks": chunks}).events())
    assert traces.only.attributes == CHAT


def test_a_decision_without_effect_is_not_shown(traces: Traces, bridge: SpanBridge) -> None:
    """A hook that answered when nothing could be changed any more did not decide the span."""
    decisions = [
        {"hook": "guard", "point": "tool:before_execution", "result": "modified"},
        {"hook": "late", "point": "tool:after_execution", "result": "cancel", "effective": False},
    ]
    bridge.replay(Call(kind="tool", name="t", facts={"decisions": decisions}).events())
    attributes = traces.only.attributes or {}
    assert attributes["llmspell.hook.name"] == "guard"
    assert attributes["llmspell.hook.results"] == ("guard: modified",)


def test_what_changed_since_the_start_is_changed(traces: Traces, bridge: SpanBridge) -> None:
    """A hook that sends the call to another model shows in the attributes of the end."""
    end = {"gen_ai.request.model": "gpt-5-mini", "gen_ai.response.id": "r"}
    bridge.replay(Call(at_start=CHAT, at_end=end).events())
    assert traces.only.attributes == CHAT | end


def test_links(traces: Traces, bridge: SpanBridge) -> None:
    """A branch is linked to where it came from; what is no traceparent is left out."""
    call = Call(at_start=CHAT)
    bridge.start(call.started(links=[f"00-{TRACE}-00000000000000aa-01", "rubbish", None]))
    bridge.end(call.ended())
    (link,) = traces.only.links
    assert link.context.span_id == 0xAA


def test_the_users_own_span_is_the_parent(traces: Traces, bridge: SpanBridge) -> None:
    """And their baggage is kept."""
    with traces.provider.get_tracer("user").start_as_current_span("mine") as mine:
        ids = mine.get_span_context()
        token = context.attach(baggage.set_baggage("tenant", "acme"))
        call = Call(
            at_start=CHAT,
            trace=trace.format_trace_id(ids.trace_id),
            parent=trace.format_span_id(ids.span_id),
        )
        started = bridge.start(call.started())
        context.detach(token)
        bridge.end(call.ended())
    child = traces.spans[0]
    assert child.parent is not None
    assert child.parent.span_id == ids.span_id
    assert child.context.trace_id == ids.trace_id
    assert baggage.get_baggage("tenant", started) == "acme"
    assert trace.get_current_span(started).get_span_context() == child.context


def test_starting_attaches_nothing(bridge: SpanBridge) -> None:
    """The operation attaches the context when and where it likes."""
    before = context.get_current()
    call = Call(at_start=CHAT)
    bridge.start(call.started())
    assert context.get_current() == before
    bridge.end(call.ended())


def _family() -> list[Call]:
    agent = Call(kind="agent", name="A", operation="00000000000000a1", seconds=9)
    model = Call(operation="00000000000000a2", parent="00000000000000a1", at_start=CHAT)
    tool = Call(kind="tool", name="t", operation="00000000000000a3", parent="00000000000000a1")
    return [agent, model, tool]


def test_replay_gives_the_same_spans() -> None:
    """Recorded events over two fresh providers: equal in ids, parents, times and attributes."""
    agent, model, tool = _family()
    events = [agent.started(), *model.events(), *tool.events(), agent.ended()]
    runs = []
    for _ in range(2):
        traces = Traces()
        SpanBridge(traces.provider).replay(events)
        runs.append(
            [
                (s.name, s.context, s.parent, s.start_time, s.end_time, dict(s.attributes or {}))
                for s in traces.spans
            ]
        )
    assert runs[0] == runs[1]
    assert [parent.span_id if parent else None for _, _, parent, *_ in runs[0]] == [
        0xA1,
        0xA1,
        None,
    ]


def test_replay_of_a_part_keeps_the_parents_named_in_it(traces: Traces, bridge: SpanBridge) -> None:
    """A span whose parent was not recorded points at it all the same."""
    _, model, _ = _family()
    bridge.replay(model.events())
    assert traces.only.parent is not None
    assert traces.only.parent.span_id == 0xA1
    assert trace.format_trace_id(traces.only.context.trace_id) == TRACE


def test_replay_of_a_journal_that_breaks_off(traces: Traces, bridge: SpanBridge) -> None:
    """What never ended ends as abandoned, when the last thing happened."""
    agent, model, _ = _family()
    bridge.replay([agent.started(), *model.events()])
    last = traces.spans[-1]
    assert (last.attributes or {})["llmspell.operation.outcome"] == "abandoned"
    assert last.end_time == START + 2 * SECOND
    assert bridge.open == 0


def test_an_end_happens_once(traces: Traces, bridge: SpanBridge) -> None:
    """A second end, and an end without a start, do nothing but count."""
    call = Call(at_start=CHAT)
    bridge.replay([call.started(), call.ended(), call.ended()])
    assert len(traces.spans) == 1
    assert bridge.unmatched == 1


class Counting(IdGenerator):
    """A user's own id generator."""

    def __init__(self) -> None:
        self.made = 0

    def generate_span_id(self) -> int:
        """The next number."""
        self.made += 1
        return self.made

    def generate_trace_id(self) -> int:
        """A number like those that some back ends want."""
        return 0x5759E988 << 96 | 7


def test_new_ids_come_from_the_users_generator() -> None:
    """Some back ends only take ids of their own form."""
    bridge = SpanBridge(Traces(id_generator=Counting()).provider)
    assert bridge.new_trace_id() >> 96 == 0x5759E988
    assert [bridge.new_span_id(), bridge.new_span_id()] == [1, 2]


def test_operations_go_by_ids_of_the_users_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are asked for, where another generator than the SDK's random one is there."""
    traces = Traces(id_generator=Counting())
    monkeypatch.setattr(ports, "telemetry", Telemetry(Providers(traces.provider, None, None)))
    tool(lambda: None)()
    assert traces.only.context.span_id == 1
    assert traces.only.context.trace_id >> 96 == 0x5759E988


def test_other_spans_of_the_scope_keep_the_users_generator() -> None:
    """The ids are imposed on the one span that starts, and on no other."""
    traces = Traces(id_generator=Counting())
    bridge = SpanBridge(traces.provider)
    bridge.replay(Call(at_start=CHAT).events())
    traces.provider.get_tracer("llmspell_otel").start_span("other").end()
    assert [span.context.span_id for span in traces.spans] == [0x00F067AA0BA902B7, 1]
