"""Events become spans: started and ended inline, because they carry context."""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol

from opentelemetry import context as context_api
from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    StatusCode,
    TraceFlags,
    Tracer,
    TracerProvider,
    TraceState,
    get_current_span,
    set_span_in_context,
)

from llmspell_otel.guard import Guard
from llmspell_otel.telemetry import ids, names, processors, semconv
from llmspell_otel.telemetry.capture import CaptureMode, bounded, capture_mode
from llmspell_otel.telemetry.completion import completion_hook
from llmspell_otel.telemetry.endings import closing_attributes, error_message
from llmspell_otel.telemetry.providers import is_real, tracers
from llmspell_otel.telemetry.shape import IMPLIED, attributes_of, described
from llmspell_otel.telemetry.values import MAX_ATTRIBUTES, clean

_STARTED: Final = "_started"
_ENDED: Final = ("_complete", "_error")


class OperationEvent(Protocol):
    """What telemetry reads of an event; `UniversalEvent` has it."""

    @property
    def event_type(self) -> str:
        """`{kind}:execution_started` and so on."""
        ...

    @property
    def data(self) -> Mapping[str, Any]:
        """The facts of the operation."""
        ...

    @property
    def timestamp(self) -> int:
        """Nanoseconds since the epoch."""
        ...

    @property
    def traceparent(self) -> str | None:
        """W3C `00-<trace id>-<span id of this operation>-<flags>`."""
        ...

    @property
    def tracestate(self) -> str | None:
        """W3C `tracestate`, if there is one."""
        ...


class _Open(NamedTuple):
    """A span between its start and its end."""

    span: Span
    context: Context
    """The one that carries the span."""
    attributes: Mapping[str, Any]
    """Those that its start told, as the event had them."""
    alias: str | None
    """The other id that the operation may go by."""


class SpanBridge:
    """Makes one span of the two events of each operation.

    A function of the events alone: the same events, replayed over a fresh provider, give the
    same spans with the same ids and times. No method raises into its caller, whatever the SDK
    or a user's span processor does.

    Args:
        tracer_provider: where spans go; by default the global provider, as soon as there is one.
        version: the version of the instrumentation scope.
        capture: whether spans carry content; by default what the environment says.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        *,
        version: str | None = None,
        capture: CaptureMode | None = None,
    ) -> None:
        self.guard = Guard()
        self.capture = capture_mode() if capture is None else capture
        self.completion = completion_hook(self.guard)
        """What is given the content of every finished call, sampled or not; None for nothing."""
        self._content_on_span = self.capture.on_span
        self._source = tracers(tracer_provider)
        self._version = version
        self._tracer: Tracer | None = None
        self._recording = False
        self._next = ids.Next()
        self._ids: ids.IdGenerator = ids.RandomIds()
        self.random_ids = False
        """Whether ids need not be asked for: the provider's are known to be random bits."""
        self._open: dict[str, _Open] = {}
        self.unmatched = 0
        """Ends whose start was never seen."""

    @property
    def active(self) -> bool:
        """Whether spans go anywhere: true from the moment that a real provider is there."""
        return self._recording or self._look()

    @property
    def open(self) -> int:
        """How many spans have started and not ended."""
        return len({id(opened.span) for opened in list(self._open.values())})

    def described(self) -> dict[str, Any] | None:
        """What stands beside its spans: resource, scope, and whether they carry content.

        None as long as there is no tracer, or one that does not tell its resource.
        """
        return self.guard.contained("describing the resource", self._described)

    def _described(self) -> dict[str, Any] | None:
        resource = getattr(self._tracer, "resource", None)
        if resource is None:
            return None
        return {
            "attributes": dict(resource.attributes),
            "schema_url": str(resource.schema_url or ""),
            "scope": {"name": names.SCOPE, "version": self._version},
            "content": self.capture.value,
        }

    def new_trace_id(self) -> int:
        """A trace id of the provider's own making (random without a provider); not zero."""
        if not self._recording:
            self._look()
        try:
            return int(self._ids.generate_trace_id())
        except Exception as error:
            self.guard.report("making a trace id", error)
            return ids.RandomIds().generate_trace_id()

    def new_span_id(self) -> int:
        """A span id of the provider's own making (random without a provider); not zero."""
        if not self._recording:
            self._look()
        try:
            return int(self._ids.generate_span_id())
        except Exception as error:
            self.guard.report("making a span id", error)
            return ids.RandomIds().generate_span_id()

    def start(self, event: OperationEvent, current: Context | None = None) -> Context:
        """Start the span of a `…_started` *event*.

        Its parent is the span in *current*, which is the current context if not given. Where the
        event names another (a replay, a branch that began elsewhere), it is that one.

        Returns:
            That context with the new span in it, not attached. Read the ids from there:
            a provider that takes no ids from outside has given the span others. While not
            `active` it is the context itself.
        """
        if current is None:
            current = context_api.get_current()
        begun = self.begin(event, current)
        return current if begun is None else begun[0]

    def begin(self, event: OperationEvent, current: Context) -> tuple[Context, SpanContext] | None:
        """The same, with the span's own context beside; None where there is no new span."""
        if not self._recording and not self.active:
            return None
        if (tracer := self._tracer) is None:
            return None
        try:
            return self._start(tracer, event, current)
        except Exception as error:
            self.guard.report("starting a span", error)
            return None

    def end(self, event: OperationEvent) -> None:
        """End the span that *event* (`…_complete` or `…_error`) tells the end of, once."""
        try:
            opened = self._take(event.data.get("operation"))
            if opened is None:
                return
            if self.completion is not None and (content := event.data.get("content")):
                self.completion(content, opened.span)
            if not opened.span.is_recording():
                return
        except Exception as error:
            self.guard.report("finding the span to end", error)
            return
        try:
            self._finish(opened, event.data)
        except Exception as error:
            self.guard.report("describing the end of a span", error)
        try:
            opened.span.end(event.data.get("end_time") or event.timestamp)
        except Exception as error:
            self.guard.report("ending a span", error)

    def replay(self, events: Iterable[OperationEvent]) -> None:
        """Make the spans of recorded *events*, in an empty context and in their order.

        Events of other sorts are passed over.
        Operations whose end was not recorded end as `abandoned`, when the last event happened.
        """
        last = 0
        for event in events:
            if self.retell(event):
                last = max(last, event.timestamp)
        self.abandon(last)

    def retell(self, event: OperationEvent) -> bool:
        """Start or end, in an empty context, the span that a recorded *event* is about, if any."""
        started = event.event_type.endswith(_STARTED)
        if not started and not event.event_type.endswith(_ENDED):
            return False
        token = context_api.attach(Context())
        try:
            if started:
                self.start(event)
            else:
                self.end(event)
        finally:
            context_api.detach(token)
        return True

    def abandon(self, timestamp: int) -> None:
        """End every span that is still open, at *timestamp* (ns), with that outcome."""
        for operation in list(self._open):
            opened = self._open.get(operation)
            if opened is not None and self._take(operation) is not None:
                self._give_up(opened.span, timestamp)

    def _give_up(self, span: Span, timestamp: int) -> None:
        try:
            span.set_attribute(names.OPERATION_OUTCOME, names.Outcome.ABANDONED.value)
            span.end(max(timestamp, getattr(span, "start_time", None) or 0))
        except Exception as error:
            self.guard.report("abandoning a span", error)

    def _look(self) -> bool:
        """Look for a tracer, if there was none so far; whether spans go anywhere."""
        if self._tracer is not None or not self._source.there():
            return self._recording
        try:
            tracer = self._source.provider().get_tracer(
                names.SCOPE, self._version, semconv.SCHEMA_URL
            )
            # A disabled SDK hands out the API's own tracer, which records nothing.
            self._recording = is_real(tracer)
            imposed = ids.impose_on(tracer)
            if imposed is not None:
                self._next, self._ids = imposed.next, imposed.original
                self.random_ids = ids.is_random(imposed.original)
            processors.shield(tracer, self.guard)
            self._tracer = tracer
        except Exception as error:
            self.guard.report("asking for a tracer", error)
            self._recording = False
        return self._recording

    def _start(
        self, tracer: Tracer, event: OperationEvent, current: Context
    ) -> tuple[Context, SpanContext]:
        data = event.data
        parent = current if data.get("parent") is None else self._parent(event, current)
        attributes = clean(attributes_of(data))
        name, kind = described(attributes)
        self._next.ids = event.traceparent
        try:
            span = tracer.start_span(
                name,
                parent,
                kind,
                attributes,
                _links(data["links"]) if "links" in data else None,
                data.get("start_time") or event.timestamp,
                record_exception=False,
                set_status_on_exception=False,
            )
        finally:
            self._next.ids = None
        opened = _Open(span, set_span_in_context(span, parent), data.get("attributes") or {}, None)
        own = span.get_span_context()
        self._remember(data["operation"], opened, own.span_id)
        return opened.context, own

    def _remember(self, operation: str, opened: _Open, span_id: int) -> None:
        if int(operation, 16) != span_id:
            # A provider that chose an id of its own leaves the operation going by either.
            alias = f"{span_id:016x}"
            self._open[alias] = opened._replace(alias=operation)
            opened = opened._replace(alias=alias)
        self._open[operation] = opened

    def _take(self, operation: Any) -> _Open | None:
        opened = self._open.pop(operation, None)
        if opened is None:
            self.unmatched += self._recording
        elif opened.alias is not None:
            self._open.pop(opened.alias, None)
        return opened

    def _finish(self, opened: _Open, data: Mapping[str, Any]) -> None:
        started = opened.attributes
        attributes: Mapping[str, Any] = data.get("attributes") or {}
        if self._content_on_span and (content := data.get("content")):
            attributes = {**attributes, **bounded(content)}
        fresh = _added(started, attributes)
        if closing := closing_attributes(data):
            # What only the end knows goes first: it must not fall to the limit, and it prevails.
            fresh = {**closing, **fresh, **closing}
        if not fresh:
            return
        if len(fresh) > (room := MAX_ATTRIBUTES - len(started) - IMPLIED):
            fresh = dict(list(fresh.items())[: max(0, room)])
        opened.span.set_attributes(clean(fresh))
        # Some failures are told of by a response, and raised to nobody.
        if semconv.ERROR_TYPE in fresh:
            opened.span.set_status(
                StatusCode.ERROR, error_message(data) if self.capture.on else None
            )

    def _parent(self, event: OperationEvent, current: Context) -> Context:
        """*current*, if its span is the parent that *event* names, else with that one in it."""
        named = event.data["parent"]
        opened = self._open.get(named)
        if opened is not None and opened.context is current:
            return current
        span_id = int(named, 16)
        if get_current_span(current).get_span_context().span_id == span_id:
            return current
        if opened is not None:
            return set_span_in_context(opened.span, current)
        if (chosen := ids.parse(event.traceparent)) is None:
            return current
        elsewhere = SpanContext(
            chosen.trace,
            span_id,
            is_remote=False,
            trace_flags=TraceFlags(chosen.flags),
            trace_state=TraceState.from_header([event.tracestate] if event.tracestate else []),
        )
        return set_span_in_context(NonRecordingSpan(elsewhere), current)


def _added(started: Mapping[str, Any], ended: Mapping[str, Any]) -> Mapping[str, Any]:
    """What *ended* has that *started* has not, or has otherwise."""
    if started is ended or started == ended:
        return {}
    known = len(started)
    # Mostly the end repeats the start in order, and goes on; views compare without a loop.
    if started.items() <= ended.items() and [*started] == [*islice(ended, known)]:
        return dict(islice(ended.items(), known, None))
    return {
        key: value for key, value in ended.items() if key not in started or started[key] != value
    }


def _links(traceparents: Any) -> tuple[Link, ...]:
    linked = (ids.parse(each) for each in traceparents)
    return tuple(
        Link(SpanContext(each.trace, each.span, is_remote=True, trace_flags=TraceFlags(each.flags)))
        for each in linked
        if each is not None
    )
