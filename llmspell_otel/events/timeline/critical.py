"""The critical path: which operation a run was waiting for at every moment of its duration."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from llmspell_otel.events.timeline.model import Operation

# Starts are told by the wall clock, ends by a monotonic one, and the two part a little: what
# seems to end so many nanoseconds too late was waited for all the same.
_SLACK: Final = 1_000_000


def waited_for(
    roots: "Iterable[Operation]", start: int, end: int
) -> "Iterator[tuple[Operation, int]]":
    """Every operation on the critical path from *start* to *end*, with its own nanoseconds on it.

    From the end backwards: the call that ended last before a time is what its caller waited for
    at that time.
    """
    _, waiting = _steps(roots, start, end)
    waiting.reverse()
    while waiting:
        operation, since, until = waiting.pop()
        own, steps = _steps(operation.children, since, until)
        yield operation, own
        waiting.extend(reversed(steps))


def _steps(
    calls: "Iterable[Operation]", start: int, end: int
) -> "tuple[int, list[tuple[Operation, int, int]]]":
    """What was waited for from *start* to *end*: nanoseconds of nothing, and parts of calls."""
    own, cursor = 0, end
    steps: list[tuple[Operation, int, int]] = []
    for call in sorted(calls, key=lambda each: each.end, reverse=True):
        late = call.end - cursor
        if call.start >= cursor or late > min(_SLACK, (call.end - call.start) // 2):
            continue
        until, since = min(call.end, cursor), max(call.start, start)
        if until > since:
            own += cursor - until
            steps.append((call, since, until))
            cursor = since
    return own + cursor - start, steps
