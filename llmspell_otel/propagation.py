"""Hooks across processes: one trace, one correlation id and one trail of decisions.

The caller puts headers on its request with `inject`, the callee works within `received`:

```python
headers = inject({}, to="tools.internal")        # in the agent
with received(request.headers) as caller:        # in the tool's process
    answer = tool()
    caller.reply(response_headers)
absorb(response.headers)                         # in the agent
```

Everything travels as W3C trace context and baggage, by the propagators that OpenTelemetry is
configured with. Decisions travel as hook, point and result; never reasons, inputs or outputs.
"""

from collections.abc import Callable, Generator, Iterable, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final, TypeVar

from opentelemetry import baggage, propagate, trace
from opentelemetry import context as context_api
from opentelemetry.context import Context

from llmspell_otel.errors import SettingsError
from llmspell_otel.hooks.context import Decision, HookContext
from llmspell_otel.operations.operation import Operation, Run, current, upstream

HOPS: Final = "llmspell.hops"
TRAIL: Final = "llmspell.trail"
REPLY: Final = "llmspell-trail"
"""The response header that brings the callee's decisions back."""

MAX_DECISIONS: Final = 16
MAX_CHARACTERS: Final = 1024
_PARTS: Final = 3
_Headers = TypeVar("_Headers", bound=MutableMapping[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class PropagationPolicy:
    """What is told to whom. The trace context always travels; the rest is up to this.

    Raises:
        SettingsError: *max_hops* is negative.
    """

    max_hops: int = 3
    """How many processes away decisions are told."""
    targets: tuple[str, ...] = ("*",)
    """Hosts that are told decisions, as file-name patterns: ``*.internal``."""
    points: tuple[str, ...] = ("*",)
    """Points whose decisions are told, in the colon spelling, as patterns: ``tool:*``."""
    accepts: Callable[[Mapping[str, str]], bool] = lambda _headers: True
    """Given a request's headers (lower case): whether to believe what it says of decisions."""

    def __post_init__(self) -> None:
        if self.max_hops < 0:
            raise SettingsError("propagation.max_hops", "is negative", "use 0 (nobody) or more")

    def tells(self, host: str, hops: int) -> bool:
        """Whether *host*, so many *hops* away, is told decisions."""
        return hops <= self.max_hops and any(fnmatchcase(host, each) for each in self.targets)

    def allows(self, decision: Decision) -> bool:
        """Whether *decision* may be told."""
        return any(fnmatchcase(decision.point, each) for each in self.points)


DEFAULT: Final = PropagationPolicy()


class Received:
    """What another process told of the call that runs here."""

    def __init__(self, run: Run, hops: int, decisions: list[Decision]) -> None:
        self.hops = hops
        """How many processes the call came through; 0 if it told of none."""
        self.decisions = tuple(decisions)
        """What was decided there."""
        self._run = run
        self._upstream = decisions

    def reply(self, headers: _Headers, *, policy: PropagationPolicy = DEFAULT) -> _Headers:
        """Put what was decided here on the response, for `absorb`."""
        own = [one for each in list(self._run.trails) if each is not self._upstream for one in each]
        if text := _written(filter(policy.allows, own)):
            headers[REPLY] = text
        return headers


_hops: ContextVar[int] = ContextVar("llmspell_hops", default=0)


def inject(headers: _Headers, *, to: str = "", policy: PropagationPolicy = DEFAULT) -> _Headers:
    """Put trace context, baggage and the run's decisions on the *headers* of a request.

    Args:
        headers: The request's; changed and given back.
        to: The host that it goes to, for the policy's `targets`.
        policy: What may be told.
    """
    operation = current.get()
    context = _without_ours(_placed(context_api.get_current(), operation))
    hops = _hops.get() + 1
    if policy.tells(to, hops):
        context = baggage.set_baggage(HOPS, str(hops), context)
        if text := _written(filter(policy.allows, trail())):
            context = baggage.set_baggage(TRAIL, text, context)
    propagate.inject(headers, context=context)
    return headers


@contextmanager
def received(
    headers: Mapping[str, str], *, policy: PropagationPolicy = DEFAULT
) -> Generator[Received]:
    """Work as part of the call whose request had these *headers*.

    Operations inside join its trace and correlation id, `trail` begins with its decisions, and
    all of them share one run (and so its cost). Headers that make no sense are passed over.
    """
    plain = {str(name).lower(): str(value) for name, value in headers.items()}
    context = propagate.extract(plain, context=context_api.get_current())
    told = baggage.get_all(context) if policy.accepts(plain) else {}
    hops = _number(told.get(HOPS))
    decisions = _read(told.get(TRAIL)) if hops else []
    run = Run()
    run.trails.append(decisions)
    attached = context_api.attach(_without_ours(context))
    run_token, hops_token = upstream.set(run), _hops.set(hops)
    parent_token = current.set(None)  # whatever served the request is not part of it
    try:
        yield Received(run, hops, decisions)
    finally:
        current.reset(parent_token)
        _hops.reset(hops_token)
        upstream.reset(run_token)
        context_api.detach(attached)


def absorb(headers: Mapping[str, str]) -> tuple[Decision, ...]:
    """Take the callee's decisions from a response's *headers* into this run's trail."""
    plain = {str(name).lower(): str(value) for name, value in headers.items()}
    decisions = _read(plain.get(REPLY))
    operation = current.get()
    if decisions and operation is not None:
        operation.run.trails.append(decisions)
    return tuple(decisions)


def trail(context: HookContext | None = None) -> tuple[Decision, ...]:
    """Every decision of the run so far, those of other processes included, oldest first.

    Args:
        context: That of a hook; the current operation's run if None.
    """
    subject = current.get() if context is None else context.operation
    run = subject.run if isinstance(subject, Operation) else upstream.get()
    return () if run is None else tuple(one for each in list(run.trails) for one in each)


def _placed(context: Context, operation: Operation | None) -> Context:
    """*context* with the operation's own span, where no SDK has put one there."""
    if operation is None:
        return context
    present = trace.get_current_span(context).get_span_context()
    if present.span_id == operation.span_id:
        return context
    if operation.context is not None:
        return context  # a span of the application's own, below the operation's
    span = trace.SpanContext(
        operation.trace_id, operation.span_id, is_remote=False,
        trace_flags=trace.TraceFlags(operation.flags),
    )  # fmt: skip
    return trace.set_span_in_context(trace.NonRecordingSpan(span), context)


def _without_ours(context: Context) -> Context:
    for name in (HOPS, TRAIL):
        context = baggage.remove_baggage(name, context)
    return context


def _written(decisions: Iterable[Decision]) -> str:
    """The latest decisions as text: ``hook~point~result;...``, within its bounds."""
    texts = [
        "~".join(_clean(part) for part in (one.hook, one.point, one.result)) for one in decisions
    ][-MAX_DECISIONS:]
    while len(text := ";".join(texts)) > MAX_CHARACTERS:
        del texts[0]
    return text


def _clean(part: str) -> str:
    """*part* as header text that holds none of the marks."""
    return "".join(
        one if one.isascii() and (one.isalnum() or one in "_:.-") else "_" for one in part
    )


def _read(text: Any) -> list[Decision]:
    if not isinstance(text, str) or len(text) > MAX_CHARACTERS:
        return []
    parts = [each.split("~") for each in text.split(";")[:MAX_DECISIONS]]
    return [Decision(each[0], each[1], each[2]) for each in parts if len(each) == _PARTS]


def _number(text: Any) -> int:
    return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() else 0
