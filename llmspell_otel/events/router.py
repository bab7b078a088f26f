"""From an event's type to its subscribers, at a cost that does not grow with the others.

A trie with one level per segment holds the patterns; a bounded cache of finished answers stands
in front of it. Walking the trie keeps a set of nodes and takes one step per segment, so no
pattern and no name makes it slower than linear.
"""

import re
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from llmspell_otel.events.pattern import Branch, Segment, Wildcard, parse, split

MAX_CACHED = 8_192
MAX_CACHED_LENGTH = 256

T = TypeVar("T")
S = TypeVar("S")


class Node(Generic[T]):
    """One place in the trie: where a row of segments leads."""

    __slots__ = ("globs", "here", "literals", "many", "one")

    def __init__(self) -> None:
        self.literals: dict[str, Node[T]] = {}
        self.globs: tuple[tuple[re.Pattern[str], Node[T]], ...] = ()
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
        if isinstance(segment, re.Pattern):
            others = tuple(pair for pair in self.globs if pair[0] != segment)
            self.globs = others if node is None else (*others, (segment, node))
        elif segment is Wildcard.ONE:
            self.one = node
        elif segment is Wildcard.MANY:
            self.many = node
        elif node is None:
            self.literals.pop(str(segment), None)
        else:
            self.literals[str(segment)] = node

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
                child = Node()
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

    def find(self, event_type: str) -> list[T]:
        """Everything whose branch matches *event_type*, each once."""
        active: list[Node[T]] = [self]
        # Whoever stands at a `**` stands there to the end: it may match any number of segments.
        deep: dict[Node[T], None] = {} if self.many is None else {self.many: None}
        for segment in split(event_type):
            after: list[Node[T]] = []
            for node in (*active, *deep) if deep else active:
                if (child := node.literals.get(segment)) is not None:
                    after.append(child)
                if (child := node.one) is not None:
                    after.append(child)
                if node.globs:
                    after += [child for glob, child in node.globs if glob.fullmatch(segment)]
            for node in after:
                if (many := node.many) is not None:
                    deep[many] = None
            active = after
        found = [value for node in (*active, *deep) for value in node.here]
        return list(dict.fromkeys(found)) if len(found) > 1 else found


class Pattern:
    """One pattern, ready to be asked."""

    __slots__ = ("_root", "text")

    def __init__(self, text: str) -> None:
        """Read *text*.

        Raises:
            PatternError: *text* is not in the grammar.
        """
        self.text = text
        self._root: Node[bool] = Node()
        for branch in parse(text):
            self._root.insert(branch, True)

    def matches(self, event_type: str) -> bool:
        """Whether an event of *event_type* is meant."""
        return bool(self._root.find(event_type))

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"


class Routes(dict[str, tuple[S, ...]], Generic[S]):
    """Finished answers by event type; asks *find* for the missing ones and stays bounded."""

    def __init__(self, find: Callable[[str], tuple[S, ...]]) -> None:
        super().__init__()
        self._find = find

    def __missing__(self, event_type: str) -> tuple[S, ...]:
        found = self._find(event_type)  # refuses what is no text
        if len(event_type) <= MAX_CACHED_LENGTH:
            if len(self) >= MAX_CACHED:
                self.clear()
            self[event_type] = found
        return found


def branches(patterns: Iterable[str]) -> tuple[Branch, ...]:
    """Every alternative of all *patterns*, each once."""
    return tuple(dict.fromkeys(branch for pattern in patterns for branch in parse(pattern)))
