"""The grammar of event patterns.

| written | means |
|---|---|
| `.` or `:` | parts two segments; both are the same separator |
| `*` | exactly one segment; alone it is everything |
| `**` | any number of segments, also none |
| `err*` | a `*` beside other characters: any run of characters within the segment, also none |
| `?` | one character of a segment |
| `[abc]` `[a-z]` `[!abc]` | one character of, or not of, a set |
| `{a,b}` | the pattern is read once with each alternative |
"""

import re
from collections.abc import Callable, Iterator
from enum import Enum
from typing import NamedTuple

from llmspell_otel.errors import PatternError

MAX_LENGTH = 1_024
MAX_ALTERNATIVES = 64
MAX_GROUPS = 64
MAX_NESTING = 8
MAX_READ = 4_096  # characters of all alternatives together

_SEVERAL = "use several patterns in one subscription"
_MARKS = re.compile(r"\[[^\]]*\]|[\[\]{},]")
_WILD = re.compile(r"[*?\[]")
_STARS = re.compile(r"\[[^\]]*\]|(\*\*+)")
_ATOMS = re.compile(r"\*|\?|\[[^\]]*\]|[^*?\[]+")
_MEMBERS = re.compile(r"(.)-(.)|.", re.DOTALL)


class Wildcard(Enum):
    """A whole segment that stands for others."""

    ONE = "*"
    MANY = "**"


class Glob:
    """A segment with wildcards beside other characters.

    Its regular expression is made when the first name asks: that takes longer than all the rest.
    """

    __slots__ = ("_match", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._match: Callable[[str], object] | None = None

    def fits(self, segment: str) -> bool:
        """Whether *segment* is one of those that are meant."""
        if self._match is None:
            self._match = re.compile(_regex(self.text), re.DOTALL).fullmatch
        return self._match(segment) is not None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Glob) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


Segment = str | Wildcard | Glob
Branch = tuple[Segment, ...]


def parse(pattern: str) -> tuple[Branch, ...]:
    """Read *pattern* into its alternatives, each a row of segments.

    Raises:
        PatternError: *pattern* is empty, too long, or not in the grammar.
    """
    if not isinstance(pattern, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise PatternError(repr(pattern), 0, "is not text", "write it as a string")
    if not pattern:
        raise PatternError(pattern, 0, "is empty", "write `*` to match everything")
    if len(pattern) > MAX_LENGTH:
        problem = f"has {len(pattern)} characters"
        raise PatternError(pattern, MAX_LENGTH, problem, f"use at most {MAX_LENGTH}")
    known: dict[str, Segment] = {}
    rows = _Reader(pattern).alternatives()
    return tuple(dict.fromkeys(_branch(pattern, row, known) for row in rows))


def split(event_type: str) -> list[str]:
    """The segments of an event's type.

    Raises:
        TypeError: it is no text.
    """
    return str.replace(event_type, ":", ".").split(".")


class _Run(NamedTuple):
    """A stretch of the pattern as it is written."""

    start: int
    text: str


_Row = tuple[int, tuple[_Run, ...]]
"""One alternative: the number of its characters, and its stretches."""


class _Reader:
    """Multiplies out the alternatives in braces, and looks into sets."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._marks = self._read()
        self._groups = 0
        self._at = 0  # the beginning of what is not in a row yet

    def alternatives(self) -> list[_Row]:
        """Every alternative of the whole pattern."""
        rows, end = self._sequence(0)
        if end is not None:
            raise self._error(end, "`}` without `{`", "remove it or open the braces")
        if sum([length for length, _ in rows]) > MAX_READ:
            raise self._too_long(0)
        return rows

    def _read(self) -> Iterator[re.Match[str]]:
        """The braces, and the commas, which may stand between alternatives."""
        for mark in _MARKS.finditer(self._pattern):
            text = mark[0]
            if text in "{,}":
                yield mark
            elif len(text) == 1:
                raise self._error(mark, f"`{text}` alone", "write a set as `[abc]`")
            else:
                self._check_set(mark)

    def _sequence(self, depth: int) -> tuple[list[_Row], re.Match[str] | None]:
        """The alternatives up to the brace or comma that ends them, and that one."""
        rows: list[_Row] = [(0, ())]
        for mark in self._marks:
            if mark[0] == "," and not depth:
                continue
            rows = self._extended(rows, mark.start())
            self._at = mark.end()
            if mark[0] != "{":
                return rows, mark
            rows = self._multiplied(mark, rows, self._group(mark, depth + 1))
        return self._extended(rows, len(self._pattern)), None

    def _extended(self, rows: list[_Row], end: int) -> list[_Row]:
        run = _Run(self._at, self._pattern[self._at : end])
        if not run.text:
            return rows
        return [(length + len(run.text), (*runs, run)) for length, runs in rows]

    def _multiplied(self, mark: re.Match[str], rows: list[_Row], found: list[_Row]) -> list[_Row]:
        if len(rows) * len(found) > MAX_ALTERNATIVES:
            raise self._error(mark, f"more than {MAX_ALTERNATIVES} alternatives", _SEVERAL)
        rows = [(m + n, head + tail) for m, head in rows for n, tail in found]
        if sum([length for length, _ in rows]) > MAX_READ:
            raise self._too_long(mark.start())
        return rows

    def _group(self, opened: re.Match[str], depth: int) -> list[_Row]:
        self._groups += 1
        if self._groups > MAX_GROUPS:
            raise self._error(opened, f"more than {MAX_GROUPS} braces", _SEVERAL)
        if depth > MAX_NESTING:
            raise self._error(opened, f"braces nested over {MAX_NESTING} deep", "flatten them")
        rows: list[_Row] = []
        while True:
            found, end = self._sequence(depth)
            if end is None:
                raise self._error(opened, "`{` is never closed", "close it with `}`")
            rows += found
            if len(rows) > MAX_ALTERNATIVES:
                raise self._error(opened, f"more than {MAX_ALTERNATIVES} alternatives", _SEVERAL)
            if end[0] == "}":
                return rows

    def _check_set(self, mark: re.Match[str]) -> None:
        members = mark[0][1:-1].removeprefix("!")
        if not members:
            raise self._error(mark, "empty set", "name its characters: `[abc]`")
        if "." in members or ":" in members:
            mend = "name the alternatives in braces: `{a.b,a.c}`"
            raise self._error(mark, "a separator in a set", mend)
        for low, high in _MEMBERS.findall(members) if "-" in members else ():
            if low > high:
                problem = f"range `{low}-{high}` runs backwards"
                raise self._error(mark, problem, f"write `{high}-{low}`")

    def _too_long(self, position: int) -> PatternError:
        problem = f"alternatives of more than {MAX_READ} characters together"
        return PatternError(self._pattern, position, problem, _SEVERAL)

    def _error(self, mark: re.Match[str], problem: str, mend: str) -> PatternError:
        return PatternError(self._pattern, mark.start(), problem, mend)


def _branch(pattern: str, row: _Row, known: dict[str, Segment]) -> Branch:
    text = _text(row)
    if text == "*":
        return (Wildcard.MANY,)
    segments: list[Segment] = []
    for index, written in enumerate(split(text)):
        segment = known.get(written) or _segment(written)
        if segment is None:
            raise _misread(pattern, row, index)
        known[written] = segment
        # Two neighbouring `**` say no more than one.
        if segment is not Wildcard.MANY or segments[-1:] != [Wildcard.MANY]:
            segments.append(segment)
    return tuple(segments)


def _text(row: _Row) -> str:
    """The alternative as it would be written alone."""
    return "".join([text for _, text in row[1]])


def _segment(written: str) -> Segment | None:
    """What is *written* between two separators; None if it is not in the grammar."""
    if not _WILD.search(written):
        return written or None
    if written in {"*", "**"}:
        return Wildcard(written)
    return None if _stray(written) else Glob(written)


def _stray(written: str) -> re.Match[str] | None:
    """The `**` beside other characters, if there is one; in a set it is nothing special."""
    return next((each for each in _STARS.finditer(written) if each[1]), None)


def _misread(pattern: str, row: _Row, index: int) -> PatternError:
    """What is wrong with the segment at *index* of the *row*, and where in the pattern it is."""
    segments = split(_text(row))
    offset = sum(len(each) + 1 for each in segments[:index])
    problem = "empty segment"
    mend = "remove the separator, or write `*` for one segment and `**` for any number"
    if stray := _stray(segments[index]):
        offset += stray.start()
        problem = f"`{stray[1]}` is no wildcard"
        mend = "write `*` within a segment, and `**` only as a whole segment"
    for run in row[1]:
        if offset < len(run.text):
            return PatternError(pattern, run.start + offset, problem, mend)
        offset -= len(run.text)
    return PatternError(pattern, len(pattern), problem, mend)


def _regex(glob: str) -> str:
    """A regular expression for one segment, in time linear in the segment's length.

    Each `*` and the fixed part after it form an atomic group, which never takes back what it
    has matched: the earliest fit of a fixed part is as good as any later one.
    """
    parts = [""]
    for atom in _ATOMS.findall(glob):
        if atom == "*":
            parts.append("")
        else:
            parts[-1] += _atom(atom)
    if len(parts) == 1:
        return parts[0]
    first, *middle, last = parts
    return first + "".join(f"(?>.*?{part})" for part in middle if part) + f".*{last}"


def _atom(text: str) -> str:
    if text == "?":
        return "."
    if not text.startswith("["):
        return re.escape(text)
    members = text[1:-1].removeprefix("!")
    inside = "".join(
        f"{re.escape(each[1])}-{re.escape(each[2])}" if each[1] else re.escape(each[0])
        for each in _MEMBERS.finditer(members)
    )
    return f"[{'^' if text[1] == '!' else ''}{inside}]"
