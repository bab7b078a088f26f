"""From an event's type to its subscribers, at a cost that does not grow with the others.

A trie with one level per segment holds the patterns. An automaton reads names: each of its states
is the set of nodes where a walk through the trie may stand after the same segments. States are
made when a name first needs them and are kept within a bound, so that a name never seen before
costs a lookup per segment, and no pattern and no name makes it slower than linear. In front of it
stands a bounded cache of finished answers.
"""

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from llmspell_otel.errors import EventError
from llmspell_otel.events.pattern import Branch, Glob, Segment, Wildcard, parse, split

MAX_CACHED = 8_192
MAX_CACHED_LENGTH = 256
MAX_HELD = 65_536  # nodes, steps and values that the states of one automaton refer to
MAX_SPELLED = 256  # literals that a state may know by heart

T = TypeVar("T")
S = TypeVar("S")


class Node(Generic[T]):
    """One place in the trie: where a row of segments leads."""

    __slots__ = ("deep", "globs", "here", "literals", "many", "one")

    def __init__(self, *, deep: bool = False) -> None:
        # Whoever stands at a `**` stands there to the end: it may match any number of segments.
        self.deep = deep
        self.literals: dict[str, Node[T]] = {}
        self.globs: tuple[tuple[Glob, Node[T]], ...] = ()
        self.one: Node[T] | None = None
        self.many: Node[T] | None = None
        self.here: tuple[T, ...] = ()

    def child(self, segment: Segment) -> "Node[T] | None":
        """The node that *segment* leads to, if there is one."""
        if isinstance(segment, str):
            return self.literals.get(segment)
        if isinstance(segment, Wildcard):
            return self.one if segment is Wildcard.ONE else self.many
        return next((node for glob, node in self.globs if glob == segment), None)

    def attach(self, segment: Segment, node: "Node[T] | None") -> None:
        """Let *segment* lead to *node*, or nowhere."""
        if isinstance(segment, Glob):
            others = tuple(pair for pair in self.globs if pair[0] != segment)
            self.globs = others if node is None else (*others, (segment, node))
        elif segment is Wildcard.ONE:
            self.one = node
        elif segment is Wildcard.MANY:
            self.many = node
        elif node is None:
            self.literals.pop(segment, None)
        else:
            self.literals[segment] = node

    @property
    def bare(self) -> bool:
        """Whether nothing hangs here any more."""
        return not (self.here or self.literals or self.globs or self.one or self.many)

    def insert(self, branch: Branch, value: T) -> None:
        """Hang *value* at the end of *branch*."""
        node = self
        for segment in branch:
            child = node.child(segment)
            if child is None:
                child = Node(deep=segment is Wildcard.MANY)
                node.attach(segment, child)
            node = child
        node.here = (*node.here, value)

    def remove(self, branch: Branch, value: T) -> None:
        """Take *value* from the end of *branch*, and the nodes that nobody needs any more."""
        path: list[tuple[Node[T], Segment]] = []
        node = self
        for segment in branch:
            path.append((node, segment))
            child = node.child(segment)
            if child is None:
                return
            node = child
        node.here = tuple(item for item in node.here if item is not value)
        while path and node.bare:
            node, segment = path.pop()
            node.attach(segment, None)


class State(Generic[T, S]):
    """All the nodes where a walk may stand after the same segments.

    Attributes:
        steps: The state after a segment that a pattern spells out; None if not known yet.
        other: The state after any segment that is not among the steps; None if not known yet, or
            if there are several.
        answer: What a name that ends here is given; None if not known yet.
    """

    __slots__ = ("answer", "nodes", "other", "steps")

    def __init__(self, nodes: frozenset[Node[T]]) -> None:
        self.nodes = nodes
        self.steps: dict[str, State[T, S] | None] = {}
        self.other: State[T, S] | None = None
        self.answer: S | None = None

    def after(self, segment: str) -> tuple[list[Node[T]], bool, bool]:
        """The nodes that *segment* leads to, if a pattern spells it out, if one looks into it."""
        nodes: list[Node[T]] = []
        spelled = seen = False
        for node in self.nodes:
            if node.deep:
                nodes.append(node)
            if (child := node.one) is not None:
                nodes.append(child)
            if (child := node.literals.get(segment)) is not None:
                nodes.append(child)
                spelled = True
            if node.globs:
                nodes += [child for glob, child in node.globs if glob.fits(segment)]
                seen = True
        return nodes, spelled, seen

    def settle(self, other: "State[T, S]") -> int:
        """Let every segment that no pattern spells out lead to *other*; tell what that takes."""
        spelled = [node.literals for node in self.nodes]
        if sum(map(len, spelled)) > MAX_SPELLED:
            return 0
        # Segments without a state yet are looked at when they come: see `Routes.find`.
        steps, known = self.steps, dict(self.steps)
        for literals in spelled:
            steps |= dict.fromkeys(literals)
        steps |= known
        self.other = other
        return len(steps)

    def forget(self) -> None:
        """Know no other state any more; whoever stands here still finds his way."""
        self.other = None
        self.steps |= dict.fromkeys(self.steps)


class Routes(dict[str, S], Generic[T, S]):
    """The answers to names: what *finish*, never None, makes of the values that match.

    They hold for the trie as it stands: after a change make another and `retire` this one.
    """

    __slots__ = ("_finish", "_held", "_root", "_start", "_states")

    def __init__(self, root: Node[T], finish: Callable[[list[T]], S]) -> None:
        super().__init__()
        self._root = root
        self._finish = finish
        self._states: dict[frozenset[Node[T]], State[T, S]] = {}
        self._start: State[T, S] | None = None
        self._held = 0

    def __missing__(self, event_type: str) -> S:
        answer = self.find(event_type)
        if len(event_type) <= MAX_CACHED_LENGTH:
            if len(self) >= MAX_CACHED:
                self.clear()
            self[event_type] = answer
        return answer

    def find(self, event_type: str) -> S:
        """The answer to *event_type*, which is not kept.

        Raises:
            EventError: *event_type* is no text.
        """
        try:
            segments = split(event_type)
        except TypeError:
            mend = "name it in segments, as `tool:execution_complete`"
            raise EventError(f"event_type {event_type!r}", "is not text", mend) from None
        state = self._start or self._begin()
        for segment in segments:
            state = state.steps.get(segment, state.other) or self._step(state, segment)
        return self._end(state) if state.answer is None else state.answer

    def retire(self) -> None:
        """Let go of everything; whoever is on a walk still finds what he would have found."""
        states, self._states, self._start, self._held = self._states, {}, None, 0
        self.clear()
        for state in states.values():  # they refer to each other, in circles
            state.forget()

    def _begin(self) -> State[T, S]:
        self._start = start = self._state([self._root])
        return start

    def _step(self, state: State[T, S], segment: str) -> State[T, S]:
        nodes, spelled, seen = state.after(segment)
        after = self._state(nodes)
        if spelled:
            state.steps[segment] = after
            self._hold(1)
        elif not seen:
            self._hold(state.settle(after))
        return after

    def _end(self, state: State[T, S]) -> S:
        found = [value for node in state.nodes for value in node.here]
        state.answer = answer = self._finish(found)
        self._hold(len(found))
        return answer

    def _state(self, nodes: list[Node[T]]) -> State[T, S]:
        nodes += [node.many for node in nodes if node.many is not None]
        key = frozenset(nodes)
        state = self._states.get(key)
        if state is None:
            state = self._states[key] = State(key)
            self._hold(len(key))
        return state

    def _hold(self, more: int) -> None:
        self._held += more
        if self._held > MAX_HELD:
            self.retire()


class Pattern:
    """One pattern, ready to be asked."""

    __slots__ = ("_routes", "text")

    def __init__(self, text: str) -> None:
        """Read *text*.

        Raises:
            PatternError: *text* is not in the grammar.
        """
        self.text = text
        self._routes = routes((text,))

    def matches(self, event_type: str) -> bool:
        """Whether an event of *event_type* is meant."""
        return self._routes.find(event_type)

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"


def routes(patterns: Iterable[str]) -> Routes[bool, bool]:
    """Whether one of *patterns* means a name.

    Raises:
        PatternError: one of them is not in the grammar.
    """
    root: Node[bool] = Node()
    for branch in branches(patterns):
        root.insert(branch, True)
    return Routes(root, bool)


def branches(patterns: Iterable[str]) -> tuple[Branch, ...]:
    """Every alternative of all *patterns*, each once."""
    return tuple(dict.fromkeys(branch for pattern in patterns for branch in parse(pattern)))
