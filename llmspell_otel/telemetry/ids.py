"""Trace and span ids: chosen by the operation, imposed on the span, kept in a `traceparent`."""

import random
import threading
from typing import Any, Final, NamedTuple, Protocol

from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

_TRACEPARENT_LENGTH: Final = 55


class Ids(NamedTuple):
    """What a `traceparent` says."""

    trace: int
    span: int
    flags: int


class IdGenerator(Protocol):
    """The part of an SDK's id generator that this package calls."""

    def generate_trace_id(self) -> int:
        """A 128-bit trace id that is not zero."""
        ...

    def generate_span_id(self) -> int:
        """A 64-bit span id that is not zero."""
        ...


def parse(traceparent: Any) -> Ids | None:
    """The ids in *traceparent* (`00-<trace id>-<span id>-<flags>`), None if it is not one."""
    if not isinstance(traceparent, str) or len(traceparent) < _TRACEPARENT_LENGTH:
        return None
    try:
        ids = Ids(
            int(traceparent[3:35], 16),
            int(traceparent[36:52], 16),
            int(traceparent[53:55], 16),
        )
    except ValueError:
        return None
    return ids if ids.trace and ids.span else None


def context_of(traceparent: Any) -> Context | None:
    """A context whose span is the one that *traceparent* names; None if it names none.

    For points and records that are made after their span: as exemplars they belong to it.
    """
    named = parse(traceparent)
    if named is None:
        return None
    span = SpanContext(
        named.trace, named.span, is_remote=False, trace_flags=TraceFlags(named.flags)
    )
    return set_span_in_context(NonRecordingSpan(span), Context())


class RandomIds:
    """Random ids, where no SDK says how to make them."""

    def generate_trace_id(self) -> int:
        """A random trace id."""
        return random.getrandbits(128) or 1

    def generate_span_id(self) -> int:
        """A random span id."""
        return random.getrandbits(64) or 1


def is_random(generator: IdGenerator) -> bool:
    """Whether *generator* is the SDK's own, whose ids are nothing but random bits."""
    kind = type(generator)
    return (kind.__module__, kind.__qualname__) == _SDK_RANDOM


_SDK_RANDOM: Final = ("opentelemetry.sdk.trace.id_generator", "RandomIdGenerator")


class Next(threading.local):
    """What the next span that starts on this thread is to be called; a value for each thread."""

    ids: str | None = None
    """As a `traceparent`; None: anything."""


class ImposedIds:
    """Hands out, on one thread and once, the ids of the operation that starts there.

    It takes the place of the id generator of our own scope's tracer only, and leaves every
    other request to the generator that was there.
    """

    def __init__(self, original: IdGenerator) -> None:
        self.original = original
        self.next = Next()
        said = getattr(original, "is_trace_id_random", None)
        self.is_trace_id_random = said if callable(said) else _unsaid
        """What the original generator says of its trace ids."""

    def generate_trace_id(self) -> int:
        """The imposed trace id, else one of the original generator's."""
        # Only for a root: another span takes over its parent's.
        imposed = self.next.ids
        chosen = 0 if imposed is None else int(imposed[3:35], 16)
        return chosen or self.original.generate_trace_id()

    def generate_span_id(self) -> int:
        """The imposed span id, once; else one of the original generator's."""
        imposed = self.next.ids
        if imposed is None:
            return self.original.generate_span_id()
        self.next.ids = None
        return int(imposed[36:52], 16) or self.original.generate_span_id()


def _unsaid() -> bool:
    return False


def impose_on(tracer: Any) -> ImposedIds | None:
    """Make *tracer* take the ids we choose; None if it is a tracer that cannot."""
    generator = getattr(tracer, "id_generator", None)
    if isinstance(generator, ImposedIds):
        return generator
    if generator is None or not callable(getattr(generator, "generate_span_id", None)):
        return None
    imposed = ImposedIds(generator)
    tracer.id_generator = imposed
    return imposed
