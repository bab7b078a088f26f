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
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from llmspell_otel.errors import PatternError

MAX_LENGTH = 1_024
MAX_ALTERNATIVES = 64
MAX_NESTING = 8


class Wildcard(Enum):
    """A whole segment that stands for others."""

    ONE = "*"
    MANY = "**"


Segment = str | Wildcard | re.Pattern[str]
Branch = tuple[Segment, ...]


class _Token(NamedTuple):
    kind: str
    text: str
    position: int


_LEXER = re.compile(
    r"(?P<separator>[.:])|(?P<stars>\*+)|(?P<any>\?)|(?P<set>\[[^\]]*\])"
    r"|(?P<open>\{)|(?P<comma>,)|(?P<close>\})|(?P<text>[^.:*?\[\]{},]+)|(?P<stray>[\[\]])"
)


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
    branches = _Reader(pattern).branches()
    return tuple(dict.fromkeys(_segments(pattern, tokens) for tokens in branches))


def split(event_type: str) -> list[str]:
    """The segments of an event's type.

    Raises:
        TypeError: it is no text.
    """
    return str.replace(event_type, ":", ".").split(".")


class _Reader:
    """Reads tokens and multiplies out the alternatives in braces."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._tokens = self._lex()
        self._next = next(self._tokens, None)

    def branches(self) -> list[list[_Token]]:
        """Every alternative of the whole pattern."""
        found = self._sequence(0)
        if self._next is not None:
            raise self._error(self._next, "`}` without `{`", "remove it or open the braces")
        return found

    def _lex(self) -> Iterator[_Token]:
        for match in _LEXER.finditer(self._pattern):
            token = _Token(match.lastgroup or "", match.group(), match.start())
            if token.kind == "stray":
                raise self._error(token, f"`{token.text}` alone", "write a set as `[abc]`")
            yield token

    def _sequence(self, depth: int) -> list[list[_Token]]:
        branches: list[list[_Token]] = [[]]
        while (token := self._next) is not None and token.kind != "close":
            if token.kind == "comma" and depth:
                break
            self._next = next(self._tokens, None)
            found = self._group(token, depth + 1) if token.kind == "open" else [[token]]
            if len(branches) * len(found) > MAX_ALTERNATIVES:
                problem = f"more than {MAX_ALTERNATIVES} alternatives"
                raise self._error(token, problem, "use several patterns in one subscription")
            branches = [head + tail for head in branches for tail in found]
        return branches

    def _group(self, opened: _Token, depth: int) -> list[list[_Token]]:
        if depth > MAX_NESTING:
            raise self._error(opened, f"braces nested over {MAX_NESTING} deep", "flatten them")
        found = self._sequence(depth)
        while (token := self._next) is not None and token.kind == "comma":
            self._next = next(self._tokens, None)
            found += self._sequence(depth)
        if token is None:
            raise self._error(opened, "`{` is never closed", "close it with `}`")
        self._next = next(self._tokens, None)
        return found

    def _error(self, token: _Token, problem: str, mend: str) -> PatternError:
        return PatternError(self._pattern, token.position, problem, mend)


def _segments(pattern: str, tokens: list[_Token]) -> Branch:
    if len(tokens) == 1 and tokens[0].text == "*":
        return (Wildcard.MANY,)
    segments: list[Segment] = []
    row: list[_Token] = []
    for token in [*tokens, _Token("separator", "", len(pattern))]:
        if token.kind != "separator":
            row.append(token)
            continue
        segment = _segment(pattern, row, token.position)
        # Two neighbouring `**` say no more than one.
        if segment is not Wildcard.MANY or segments[-1:] != [Wildcard.MANY]:
            segments.append(segment)
        row = []
    return tuple(segments)


def _segment(pattern: str, row: list[_Token], end: int) -> Segment:
    if not row:
        mend = "remove the separator, or write `*` for one segment and `**` for any number"
        raise PatternError(pattern, end, "empty segment", mend)
    if len(row) == 1 and row[0].kind == "stars" and len(row[0].text) <= len("**"):
        return Wildcard(row[0].text)
    for token in row:
        if token.kind == "stars" and token.text != "*":
            mend = "write `*` within a segment, and `**` only as a whole segment"
            raise PatternError(pattern, token.position, f"`{token.text}` is no wildcard", mend)
    if all(token.kind in {"text", "comma"} for token in row):
        return "".join(token.text for token in row)
    return re.compile(_regex(pattern, row), re.DOTALL)


def _regex(pattern: str, row: list[_Token]) -> str:
    """A regular expression for one segment, in time linear in the segment's length.

    Each `*` and the fixed part after it form an atomic group, which never takes back what it
    has matched: the earliest fit of a fixed part is as good as any later one.
    """
    parts = [""]
    for token in row:
        if token.kind == "stars":
            parts.append("")
        else:
            parts[-1] += _atom(pattern, token)
    if len(parts) == 1:
        return parts[0]
    first, *middle, last = parts
    return first + "".join(f"(?>.*?{part})" for part in middle if part) + f".*{last}"


def _atom(pattern: str, token: _Token) -> str:
    if token.kind == "any":
        return "."
    if token.kind != "set":
        return re.escape(token.text)
    inside = token.text[1:-1]
    negated = inside.startswith("!")
    members = inside[1:] if negated else inside
    if not members:
        raise PatternError(pattern, token.position, "empty set", "name its characters: `[abc]`")
    if set(members) & set(".:"):
        mend = "name the alternatives in braces: `{a.b,a.c}`"
        raise PatternError(pattern, token.position, "a separator in a set", mend)
    return f"[{'^' if negated else ''}{_members(pattern, members, token.position)}]"


def _members(pattern: str, members: str, position: int) -> str:
    """The inside of a set, with its ranges checked and everything else taken as written."""
    written: list[str] = []
    rest = members
    while rest:
        if len(rest) > len("a-") and rest[1] == "-":
            low, high, rest = rest[0], rest[2], rest[3:]
            if low > high:
                problem = f"range `{low}-{high}` runs backwards"
                raise PatternError(pattern, position, problem, f"write `{high}-{low}`")
            written.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            written.append(re.escape(rest[0]))
            rest = rest[1:]
    return "".join(written)
