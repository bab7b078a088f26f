"""An operation: one call in flight, from its started event to its end."""

import time
from collections import deque
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from decimal import Decimal
from random import getrandbits
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.util.types import AttributeValue

from llmspell_otel.errors import OperationCancelled
from llmspell_otel.events import UniversalEvent, make
from llmspell_otel.guard import guard
from llmspell_otel.hooks.context import Decision, HookContext
from llmspell_otel.hooks.results import Cache
from llmspell_otel.hooks.store import MISSING
from llmspell_otel.operations.call import GENERATING, Call, Codec, Kind, Shape
from llmspell_otel.operations.decisions import connect
from llmspell_otel.operations.facts import Chunked, Firing, closing_facts_of, facts_of
from llmspell_otel.operations.identity import (
    correlation_of,
    foreign_span,
    span_text,
    suppressed,
    trace_text,
    traceparent_of,
)
from llmspell_otel.operations.overhead import SAMPLED, weigh
from llmspell_otel.operations.points import MOMENTS, Moments
from llmspell_otel.operations.ports import Placed, Telemetry, ports
from llmspell_otel.operations.present import present
from llmspell_otel.telemetry import semconv

_NOTHING: Final = Decimal()
MAX_TRAILS: Final = 64
"""Of how many operations of one run the decisions are kept together."""

current: ContextVar["Operation | None"] = ContextVar("llmspell_operation", default=None)
"""The operation that the running code is part of: the top of the run stack."""

conversation: ContextVar[str | None] = ContextVar("llmspell_conversation", default=None)
"""The id that the application gave the conversation, where no operation says otherwise."""

fork_of: ContextVar["Operation | None"] = ContextVar("llmspell_fork_of", default=None)
"""The operation that the running code is a branch of."""


@dataclass(frozen=True, slots=True)
class Aspect:
    """What an adapter or decorator says once about a join point."""

    kind: Kind
    codec: Codec
    shape: Shape = Shape.SYNC
    moments: Moments = field(init=False, repr=False)
    """Of its kind."""
    holds: bool = field(init=False, repr=False)
    """Whether the codec may keep an operation open past its call."""
    hands_over: bool = field(init=False, repr=False)
    """Whether a result may still have to be consumed when the call returns."""

    def __post_init__(self) -> None:
        codec = type(self.codec)
        holds = codec.hold is not Codec.hold
        streams = codec.streams is not Codec.streams or self.shape in GENERATING
        object.__setattr__(self, "moments", MOMENTS[self.kind])
        object.__setattr__(self, "holds", holds)
        object.__setattr__(self, "hands_over", holds or streams)


class Run:
    """What a root operation and everything below it share."""

    __slots__ = ("_trails", "cost")

    def __init__(self) -> None:
        self.cost = _NOTHING
        self._trails: deque[list[Decision]] | None = None

    @property
    def trails(self) -> deque[list[Decision]]:
        """The decisions of its latest operations that hooks were asked about."""
        if self._trails is None:
            self._trails = deque(maxlen=MAX_TRAILS)
        return self._trails


upstream: ContextVar[Run | None] = ContextVar("llmspell_upstream", default=None)
"""The run that began in another process, for operations that have no parent in this one."""


class Operation:
    """One call in flight. Everything that is derived is made when somebody asks for it."""

    __slots__ = (
        "__weakref__",
        "_input",
        "around",
        "aspect",
        "attempts",
        "attributes",
        "began",
        "call",
        "calls",
        "chunks",
        "context",
        "contexts",
        "cost",
        "decisions",
        "details",
        "ended",
        "error",
        "facts",
        "firings",
        "flags",
        "forks",
        "handed_over",
        "hops",
        "kept",
        "links",
        "moments",
        "name",
        "observed",
        "output",
        "parent",
        "parent_span_id",
        "partial",
        "refusal",
        "run",
        "span",
        "span_id",
        "started_ns",
        "telemetry",
        "to_store",
        "trace",
        "trace_id",
        "traceparent",
    )
    traceparent: str
    """The W3C header of this operation's own span."""

    def __init__(self, aspect: Aspect, call: Call) -> None:
        self.aspect = aspect
        self.call = call
        self.moments = aspect.moments
        parent = self.parent = current.get()
        forked = fork_of.get()
        # Only the branch's own operations link to the fork; those below have their parents.
        linked = forked is not None and forked.parent is parent
        self.links = (forked.traceparent,) if forked is not None and linked else ()
        self.run: Run = parent.run if parent is not None else upstream.get() or Run()
        try:
            self.name = aspect.codec.name(call) or "unknown"
        except Exception as error:
            guard.report("naming a call", error)
            self.name = "unknown"
        self.context: Context | None = None
        self.attributes: Mapping[str, AttributeValue] = {}
        """Replaced, never changed: events hold them as they were."""
        self.attempts = 0
        self.calls: dict[str, int] = {}
        self.chunks: Chunked | None = None
        self.cost: Decimal | None = None
        self.decisions: list[Decision] = []
        self.details: dict[str, Any] | None = None
        self.ended = False
        self.error: BaseException | None = None
        self.firings: list[Firing] = []
        self.forks: list[Any] = []
        self.handed_over = False
        self.hops: int = parent.hops if parent is not None else 0
        self.kept: list[Any] | None = None
        """A stream's chunks, where a hook wants them kept."""
        self.partial = False
        self.output: Any = MISSING
        self.refusal: str | None = None
        self.to_store: list[Cache] = []
        self.contexts: HookContext | None = None
        """What hooks were given last; each holds the one before."""
        self._input: dict[str, Any] | None = None
        self.observed = False
        self.telemetry: Telemetry | None = None
        self.around = present.get()
        self._identify(ports.telemetry)

    # -- identity

    def _identify(self, telemetry: Telemetry | None) -> None:
        """Take a place in a trace: below the current span, or the run stack, or at its root."""
        parent, span = self.parent, foreign_span(self)
        asked = None if telemetry is None or telemetry.random_ids else telemetry
        if span is not None:
            self.trace_id, self.parent_span_id = span.trace_id, span.span_id
            self.flags = int(span.trace_flags)
        elif parent is not None:
            self.trace_id, self.parent_span_id = parent.trace_id, parent.span_id
            self.flags = parent.flags
        else:
            self.trace_id = asked.new_trace_id() if asked else getrandbits(128) or 1
            self.parent_span_id = self.flags = 0
        self.span_id: int = asked.new_span_id() if asked else getrandbits(64) or 1
        self.span = span_text(self.span_id)
        inherited = parent is not None and parent.trace_id == self.trace_id
        self.trace: str = parent.trace if parent and inherited else trace_text(self.trace_id)
        self.traceparent = traceparent_of(self.trace, self.span, self.flags)

    @property
    def correlation_id(self) -> str:
        """The UUID form of the trace id."""
        return correlation_of(self.trace)

    @property
    def run_cost(self) -> Decimal:
        """What the whole run has cost so far, in US dollars, as far as it is priced."""
        return self.run.cost

    def enclosing(self, kind: Kind) -> "Operation | None":
        """The nearest operation of *kind* that this one is part of."""
        above = self.parent
        while above is not None and above.aspect.kind is not kind:
            above = above.parent
        return above

    def attempts_around(self) -> int:
        """How often this operation may be tried anew by those around it: at least once."""
        product, above = 1, self.parent
        while above is not None:
            product *= max(1, above.attempts)
            above = above.parent
        return product

    # -- beginning and ending

    def open(self) -> None:
        """Begin: publish the started event, and let telemetry start the span."""
        self.started_ns = time.time_ns()
        self.began = time.perf_counter_ns()
        if self.parent is not None:
            self._count()
        telemetry = ports.telemetry
        if telemetry is not None and (
            not (telemetry.active or telemetry.look()) or suppressed(self.around)
        ):
            telemetry = None
        self.telemetry = telemetry
        self.observed = telemetry is not None or self.moments.listened
        if not self.observed:
            return
        self.attributes = self._request()
        self.facts = facts_of(self)
        event = self._event(self.moments.started, self.facts, self.started_ns)
        if telemetry is not None:
            placed = telemetry.begin(event, self.around)
            if placed is not None and self._place(placed):  # no place: no traces, only the rest
                # The one event that is published has the true ids.
                self.facts = facts_of(self)
                event = self._event(self.moments.started, self.facts, self.started_ns)
        if event.correlation_id:
            ports.bus.publish(event)

    def _event(self, event_type: str, data: dict[str, Any], timestamp: int) -> UniversalEvent:
        # Spans are made without a correlation id, and what lacks it is not published.
        run = self.correlation_id if self.moments.listened else ""
        return make(event_type, data, run, self.traceparent, timestamp=timestamp)

    def _count(self) -> None:
        word = _COUNTED.get(self.aspect.kind)
        if word is not None and (agent := self.enclosing(Kind.AGENT)) is not None:
            agent.calls[word] = agent.calls.get(word, 0) + 1

    def _inherited(self) -> dict[str, AttributeValue]:
        """What the operation knows from those around it."""
        inherited: dict[str, AttributeValue] = {}
        kind, above = self.aspect.kind, self.parent
        if kind is Kind.TOOL and above and (agent := self.enclosing(Kind.AGENT)) is not None:
            inherited[semconv.AGENT_NAME] = agent.name
        while above is not None and semconv.CONVERSATION_ID not in above.attributes:
            above = above.parent
        named = conversation.get() if above is None else above.attributes[semconv.CONVERSATION_ID]
        if named is not None and kind is not Kind.STAGE:
            inherited[semconv.CONVERSATION_ID] = named
        return inherited

    def _request(self) -> dict[str, AttributeValue]:
        """What is known of the call before it is made."""
        known = self._inherited()
        try:
            known |= self.aspect.codec.request(self.call)
        except Exception as error:
            guard.report("reading a request", error)
        return known

    def _place(self, placed: Placed) -> bool:
        """Take over the span's context, and its ids where it was given others; tell if so."""
        self.context, own = placed
        trace_id, span_id, _, flags, _, valid = own
        chosen = span_id == self.span_id and trace_id == self.trace_id
        if valid and not chosen:
            self.span_id, self.trace_id = span_id, trace_id
            self.span, self.trace = span_text(span_id), trace_text(trace_id)
        self.flags = int(flags)
        self.traceparent = traceparent_of(self.trace, self.span, self.flags)
        return valid and not chosen

    def end(self, outcome: str, error: BaseException | None = None) -> None:
        """End, once; never raises."""
        if not self.ended:
            self.ended = True
            if self.firings and not self.span_id & SAMPLED:
                elapsed = time.perf_counter_ns() - self.began
                guard.contained("weighing hooks", weigh, self, elapsed)
            if self.observed:
                try:
                    self._close(outcome, error)
                except Exception as failure:
                    guard.report("ending an operation", failure)

    def _close(self, outcome: str, error: BaseException | None) -> None:
        """Publish the complete or error event, and let telemetry end the span."""
        elapsed = time.perf_counter_ns() - self.began
        data = closing_facts_of(self, self.started_ns + elapsed, outcome, error)
        event_type = self.moments.complete if error is None else self.moments.failed
        event = self._event(event_type, data, data["end_time"])
        if self.telemetry is not None:
            self.telemetry.end(event)
        if event.correlation_id:
            ports.bus.publish(event)

    # -- what the call gave

    def responded(self, result: Any) -> None:
        """Read what the call gave: attributes, usage and what it cost."""
        self.output = result
        if not self.observed and self.aspect.kind is not Kind.MODEL:
            return
        try:
            if told := self.aspect.codec.response(self.call, result):
                self.attributes = {**self.attributes, **told}
        except Exception as error:
            guard.report("reading a response", error)
        if self.aspect.kind is Kind.MODEL and ports.telemetry is not None:
            self._price(ports.telemetry)

    def _price(self, telemetry: Telemetry) -> None:
        known = {} if self.observed else self._request()
        attributes = {**known, **self.attributes}
        cost = guard.contained("pricing a call", telemetry.price, attributes)
        if cost is not None:
            self.cost = (self.cost or _NOTHING) + cost
            self.run.cost += cost
        if self.observed:
            self.attributes = attributes

    # -- what hooks see

    @property
    def input(self) -> dict[str, Any]:
        """The call's arguments by name."""
        if self._input is None:
            try:
                self._input = self.aspect.codec.input(self.call)
            except Exception as error:
                guard.report("reading a call", error)
                self._input = {}
        return self._input

    def take_input(self, given: Mapping[str, Any]) -> None:
        """Make the call with *given* arguments.

        Raises:
            Exception: the codec's, when the arguments do not fit the call.
        """
        arguments = dict(given)
        self.call = self.aspect.codec.with_input(self.call, arguments)
        self._input = arguments


_COUNTED: Final = {Kind.MODEL: "inference", Kind.TOOL: "tool"}


def outcome_of(error: BaseException | None) -> str:
    """How an operation ended that ended with *error*."""
    if error is None:
        return "ok"
    if isinstance(error, GeneratorExit):
        return "closed"
    cancelled = type(error).__name__ == "CancelledError" and not isinstance(error, Exception)
    return "cancelled" if cancelled and not isinstance(error, OperationCancelled) else "error"


connect()
