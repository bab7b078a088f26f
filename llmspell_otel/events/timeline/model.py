"""The operations of a run as a forest, rebuilt from its events."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from llmspell_otel.events.event import UniversalEvent
from llmspell_otel.events.router import Pattern
from llmspell_otel.events.timeline.critical import waited_for

OPERATION = Pattern("{agent,tool,workflow,stage,model}:{execution,call}_{started,complete,error}")
_STARTED = "_started"
_INPUT = "gen_ai.usage.input_tokens"
_OUTPUT = "gen_ai.usage.output_tokens"
_ZERO = Decimal(0)


@dataclass(eq=False)
class Operation:
    """One call of a run.

    Attributes:
        id: Sixteen hexadecimal digits, the span's id.
        parent_id: The id of the operation that made the call; None for a root.
        kind: agent, tool, workflow, stage or model.
        name: What was called.
        start: Nanoseconds since the Unix epoch.
        end: The same; the latest time seen, while the operation is open.
        outcome: ok, error, cancelled, closed, abandoned; `open` if no end was seen.
        attempts: How often the call was made; 0 if hooks answered in its place.
        attributes: Under their semantic-convention names.
        decisions: What hooks answered: hook, point, result, reason.
        firings: Which hooks ran: point, hook, duration in seconds, result.
        chunks: Count, first and intervals (seconds) of a stream.
        content: What went in and came out, by semantic-convention names, where it was captured.
        refusal: What the caller was told instead of a result.
        branch_of: The id of the operation beside which a hook had this one run, if one did.
        error: Type and stack trace, if there was an error.
        own_cost: US dollars of this very call, as its events tell them.
        cost: US dollars of this call and all below it; sums are not added twice.
        events: The other events that belong to this call, in order.
        position: Its place in the order of arrival.
        parent: The operation that made the call, if its events are there.
        children: The calls it made, in order.
        depth: Steps from its root.
    """

    id: str
    position: int
    parent_id: str | None = None
    kind: str = ""
    name: str = ""
    start: int = 0
    end: int = 0
    outcome: str = "open"
    attempts: int = 1
    attributes: Mapping[str, Any] = field(default_factory=dict)
    decisions: list[Mapping[str, Any]] = field(default_factory=list)
    firings: list[Mapping[str, Any]] = field(default_factory=list)
    chunks: Mapping[str, Any] | None = None
    content: Mapping[str, Any] = field(default_factory=dict)
    refusal: str = ""
    branch_of: str = ""
    error: Mapping[str, Any] | None = None
    own_cost: Decimal | None = None
    cost: Decimal = _ZERO
    events: list[UniversalEvent] = field(default_factory=list)
    parent: "Operation | None" = None
    children: list["Operation"] = field(default_factory=list)
    depth: int = 0

    @property
    def duration(self) -> float:
        """Seconds from start to end."""
        return max(0, self.end - self.start) / 1e9

    @property
    def own_time(self) -> float:
        """Seconds in which none of its calls was running."""
        covered, edge = 0, self.start
        for child in sorted(self.children, key=lambda each: each.start):
            first, last = max(child.start, edge), min(child.end, self.end)
            if last > first:
                covered += last - first
                edge = last
        return max(0, self.end - self.start - covered) / 1e9

    @property
    def failed(self) -> bool:
        """Whether it ended in an error."""
        return self.outcome == "error"

    @property
    def acts(self) -> list[Mapping[str, Any]]:
        """The decisions by which hooks did something; others only looked, and noted it."""
        return [each for each in self.decisions if each.get("result") != "continue"]

    @property
    def spent(self) -> Decimal:
        """US dollars of this very call: nothing where its cost is the sum of its calls'."""
        return _ZERO if any(child.cost for child in self.children) else self.cost

    @property
    def tokens(self) -> tuple[int, int]:
        """Input and output tokens of this call."""
        return _integer(self.attributes.get(_INPUT)), _integer(self.attributes.get(_OUTPUT))

    def walk(self) -> Iterator["Operation"]:
        """This operation and all below it, callers before what they called."""
        waiting: list[Operation] = [self]
        while waiting:
            operation = waiting.pop()
            yield operation
            waiting.extend(reversed(operation.children))

    def chain(self) -> list["Operation"]:
        """Its causes: from the root down to this operation."""
        chain: list[Operation] = [self]
        while (above := chain[-1].parent) is not None:
            chain.append(above)
        return chain[::-1]


class Timeline:
    """The forest of one run, or of several.

    Attributes:
        roots: The operations that nobody seen has called, in order.
        operations: All, callers before what they called.
        events: The events that belong to no operation, in order.
        start: When the first began, nanoseconds since the Unix epoch; 0 if there is none.
        end: When the last ended.
    """

    def __init__(self, roots: list[Operation], events: list[UniversalEvent]) -> None:
        self.roots = roots
        self.events = events
        self.operations = [each for root in roots for each in root.walk()]
        self.start = min((each.start for each in self.operations), default=0)
        self.end = max((each.end for each in self.operations), default=0)
        self._by_id = {each.id: each for each in self.operations}

    def __getitem__(self, operation_id: str) -> Operation:
        return self._by_id[operation_id]

    def __len__(self) -> int:
        return len(self.operations)

    @property
    def duration(self) -> float:
        """Seconds from the first start to the last end."""
        return (self.end - self.start) / 1e9

    @property
    def cost(self) -> Decimal:
        """US dollars, as far as known."""
        return sum((root.cost for root in self.roots), _ZERO)

    def select(  # noqa: PLR0913 - filters, all keyword-only
        self,
        *,
        kind: str | None = None,
        name: str | None = None,
        outcome: str | None = None,
        min_depth: int = 0,
        max_depth: int | None = None,
        roots: bool = False,
        leaves: bool = False,
        hooked: bool = False,
    ) -> list[Operation]:
        """The operations that meet every condition given."""
        tests: list[tuple[bool, Callable[[Operation], bool]]] = [
            (kind is not None, lambda each: each.kind == kind),
            (name is not None, lambda each: each.name == name),
            (outcome is not None, lambda each: each.outcome == outcome),
            (min_depth > 0, lambda each: each.depth >= min_depth),
            (max_depth is not None, lambda each: each.depth <= (max_depth or 0)),
            (roots, lambda each: each.parent is None),
            (leaves, lambda each: not each.children),
            (hooked, lambda each: bool(each.acts)),
        ]
        asked = [test for given, test in tests if given]
        return [each for each in self.operations if all(test(each) for test in asked)]

    def concurrent(self, operation: Operation) -> list[Operation]:
        """The operations that ran at the same time, but for its callers and its calls."""
        kin = {*map(id, operation.chain()), *map(id, operation.walk())}
        return [
            each
            for each in self.operations
            if each.start < operation.end and operation.start < each.end and id(each) not in kin
        ]

    def critical_path(self) -> list[Operation]:
        """What the run's duration was made of: shorten one of these, and it may end sooner."""
        return [operation for operation, _ in waited_for(self.roots, self.start, self.end)]

    def waits(self) -> dict[str, float]:
        """By id, the seconds of the run in which each operation itself was what it waited for.

        Together they are the duration of the run, less the time in which nothing was running.
        """
        told = waited_for(self.roots, self.start, self.end)
        return {operation.id: waited / 1e9 for operation, waited in told}


def build(events: Iterable[UniversalEvent]) -> Timeline:
    """Rebuild the timeline of *events*, which may be incomplete, repeated or out of order."""
    found: dict[str, Operation] = {}
    others: list[UniversalEvent] = []
    latest = 0
    for position, event in enumerate(events):
        latest = max(latest, event.timestamp)
        if _is_operation(event):
            known = found.setdefault(event.data["operation"], Operation("", position))
            _learn(known, event)
        else:
            others.append(event)
    for operation in found.values():
        if operation.outcome == "open":
            operation.end = max(latest, operation.start)
    roots = _connect(found)
    loose = [event for event in others if not _belongs(found, event)]
    return Timeline(roots, loose)


def _is_operation(event: UniversalEvent) -> bool:
    data = event.data
    return (
        OPERATION.matches(event.event_type)
        and isinstance(data, dict)
        and isinstance(data.get("operation"), str)
    )


def _learn(operation: Operation, event: UniversalEvent) -> None:
    """Take from *event* what it says of *operation*; the end knows more than the start."""
    data: dict[str, Any] = event.data
    ended = not event.event_type.endswith(_STARTED)
    operation.id = data["operation"]
    if not ended and operation.outcome != "open":
        return  # the start came after the end, which has told everything
    parent = data.get("parent")
    operation.parent_id = parent if isinstance(parent, str) and parent != operation.id else None
    operation.kind = str(data.get("kind") or event.event_type.replace(".", ":").split(":")[0])
    operation.name = str(data.get("name") or operation.kind)
    operation.start = _integer(data.get("start_time")) or event.timestamp
    operation.attributes = _mapping(data.get("attributes"))
    operation.branch_of = _span_of(data.get("links"))
    if ended:
        _learn_the_end(operation, event, data)


def _learn_the_end(operation: Operation, event: UniversalEvent, data: dict[str, Any]) -> None:
    operation.end = _integer(data.get("end_time")) or event.timestamp
    failed = event.event_type.endswith("_error")
    operation.outcome = str(data.get("outcome") or ("error" if failed else "ok"))
    operation.attempts = _integer(data.get("attempts", 1))
    operation.decisions = _mappings(data.get("decisions"))
    operation.firings = _mappings(data.get("hooks"))
    operation.chunks = _mapping(data.get("chunks")) or None
    operation.content = _mapping(data.get("content"))
    operation.refusal = str(data.get("refusal") or "")
    operation.error = _mapping(data.get("error")) or None
    operation.own_cost = _decimal(data.get("cost"))


def _connect(found: dict[str, Operation]) -> list[Operation]:
    roots: list[Operation] = []
    for operation in found.values():
        parent = found.get(operation.parent_id or "")
        if parent is None or _is_below(operation, parent):
            roots.append(operation)
        else:
            operation.parent = parent
            parent.children.append(operation)
    for root in roots:
        for operation in root.walk():
            operation.depth = operation.parent.depth + 1 if operation.parent else 0
            operation.children.sort(key=lambda each: each.position)
        for operation in reversed(list(root.walk())):
            below = sum((child.cost for child in operation.children), _ZERO)
            operation.cost = below or operation.own_cost or _ZERO
    return sorted(roots, key=lambda each: each.position)


def _is_below(operation: Operation, parent: Operation) -> bool:
    """Whether *parent* has been hung below *operation* already: events may lie in circles."""
    above: Operation | None = parent
    while above is not None:
        if above is operation:
            return True
        above = above.parent
    return False


def _span_of(links: object) -> str:
    """The span id of the first of *links*, which are W3C `traceparent`s."""
    first = links[0] if isinstance(links, list) and links else None
    return _span(first) if isinstance(first, str) else ""


def _span(traceparent: str) -> str:
    return "".join(traceparent.split("-")[2:3])


def _belongs(found: dict[str, Operation], event: UniversalEvent) -> bool:
    """Give *event* to the operation it is about, if there is one."""
    data = event.data if isinstance(event.data, dict) else {}
    named = data.get("operation")
    for key in (named if isinstance(named, str) else "", _span(event.traceparent or "")):
        if key in found:
            found[key].events.append(event)
            return True
    return False


def _integer(value: object) -> int:
    return value if isinstance(value, int) else 0


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [_mapping(each) for each in value] if isinstance(value, list | tuple) else []


def _decimal(value: object) -> Decimal | None:
    try:
        found = Decimal(str(value)) if value is not None else None
    except InvalidOperation:
        return None
    return found if found is not None and found.is_finite() else None
