"""Finding what looks like a secret, personal data or an attack, in linear time.

Text is never handed to a pattern that could try it in more ways than its length allows.
"""

import re
import unicodedata
from collections.abc import Iterator
from re import _parser as parser  # type: ignore[attr-defined] # typeshed hides the parser of `re`
from time import monotonic
from typing import Any, Final, NamedTuple

from llmspell_otel.builtin.rules import RULES, SUSPECT, Rule

__all__ = ["RULES", "Detector", "Match", "OutOfTimeError", "Rule", "own_rule"]

WINDOW: Final = 4096
"""Characters that one of the user's patterns is given at a time."""
OVERLAP: Final = 512
"""Characters that two windows share: longer matches of the user's patterns are cut."""
MAX_WAYS: Final = 1000
"""In how many ways a user's pattern may be tried at one place."""


class Match(NamedTuple):
    """Where a rule fits; never what stands there."""

    rule: Rule
    start: int
    end: int


class OutOfTimeError(Exception):
    """Scanning took longer than it may."""


# Letters that stand in the text and are not seen: they part words that a rule looks for.
_UNSEEN: Final = re.compile(
    "[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\U000e0000-\U000e007f]"
)


class Detector:
    """Finds what *rules* describe."""

    def __init__(self, rules: tuple[Rule, ...] = RULES) -> None:
        self.rules = rules
        self._chosen: dict[frozenset[str], tuple[tuple[Rule, frozenset[str] | None], ...]] = {}
        self._clean: dict[tuple[str, frozenset[str]], None] = {}
        self._kept = 0
        self._has_own = any(rule.family == "patterns" for rule in rules)

    def find(
        self, text: str, families: frozenset[str], deadline: float = float("inf")
    ) -> Iterator[Match]:
        """Every match in *text* of rules of *families*; *deadline* is on the monotonic clock.

        Attacks are looked for in the text as a reader sees it too: compatibility forms folded,
        letters that are not seen left out. Where only that fits, the match is the whole text.

        Raises:
            OutOfTimeError: the deadline has passed.
        """
        if self.is_free(text, families) or (text, families) in self._clean:
            return
        any_found = False
        for match in self._found(text, families, deadline):
            any_found = True
            yield match
        if not any_found and _SHORT < len(text) <= _LONGEST:
            self._remember(text, families)

    def is_clean(self, text: str, families: frozenset[str], deadline: float = float("inf")) -> bool:
        """Whether no rule of *families* fits *text*.

        Raises:
            OutOfTimeError: the deadline has passed.
        """
        return next(self.find(text, families, deadline), None) is None

    def is_free(self, text: str, families: frozenset[str]) -> bool:
        """Whether *text* is short and has nothing that any rule could fit."""
        if len(text) > _SHORT or (self._has_own and "patterns" in families):
            return False
        if SUSPECT.search(text.lower()) is not None:
            return False
        seen = None if text.isascii() else _as_seen(text)
        return seen is None or SUSPECT.search(seen.lower()) is None

    def _remember(self, text: str, families: frozenset[str]) -> None:
        """Keep in mind that nothing is in *text*: a conversation is sent anew with every turn."""
        self._clean[text, families] = None
        self._kept += len(text)
        while self._kept > _REMEMBERED and self._clean:
            oldest = next(iter(self._clean), None)
            if oldest is not None and self._clean.pop(oldest, oldest) is None:
                self._kept -= len(oldest[0])

    def _found(self, text: str, families: frozenset[str], deadline: float) -> Iterator[Match]:
        folded = text.lower()
        letters = frozenset(folded)
        seen = None if text.isascii() else _as_seen(text)
        for rule, keys in self._of(families):
            if len(text) > _LONG and monotonic() > deadline:
                raise OutOfTimeError
            found = False
            if (keys is None or not keys.isdisjoint(letters)) and _may_fit(rule, folded):
                for match in _fits(rule, text, deadline):
                    found = True
                    yield match
            if seen is not None and not found and _hidden(rule, seen, deadline):
                yield Match(rule, 0, len(text))

    def _of(self, families: frozenset[str]) -> tuple[tuple[Rule, frozenset[str] | None], ...]:
        """The rules of *families*, each with letters of which one occurs wherever it fits."""
        rules = self._chosen.get(families)
        if rules is None:
            rules = tuple((each, _keys(each)) for each in self.rules if each.family in families)
            self._chosen[families] = rules
        return rules


def _keys(rule: Rule) -> frozenset[str] | None:
    """The rarest letter of each literal; None for a rule that has none."""
    if not rule.literals:
        return None
    return frozenset(min(each, key=_COMMON.find) for each in rule.literals)


_COMMON: Final = "kvbypwgfmucdlhrsnioate "
"""The common letters of texts, the commonest last; any other is rarer."""
_REMEMBERED: Final = 4_000_000  # characters of texts that are known to be clean
_LONGEST: Final = 100_000  # characters of one of them
_SHORT: Final = 128  # characters; beyond, one look for every literal is faster
_LONG: Final = 2000  # characters; what is shorter takes no time worth watching


def _as_seen(text: str) -> str | None:
    seen = unicodedata.normalize("NFKC", _UNSEEN.sub("", text))
    return None if seen == text else seen


def _hidden(rule: Rule, seen: str, deadline: float) -> bool:
    return _may_fit(rule, seen.lower()) and any(True for _ in _fits(rule, seen, deadline))


def _may_fit(rule: Rule, folded: str) -> bool:
    for each in rule.literals:  # a loop: this is asked of every rule and every text
        if each in folded:
            return True
    return not rule.literals


def _fits(rule: Rule, text: str, deadline: float) -> Iterator[Match]:
    if rule.windowed:
        yield from _in_windows(rule, text, deadline)
        return
    for found in rule.pattern.finditer(text):
        if rule.check is None or rule.check(found.group(rule.group)):
            yield Match(rule, *found.span(rule.group))


def _in_windows(rule: Rule, text: str, deadline: float) -> Iterator[Match]:
    for start in range(0, max(1, len(text)), WINDOW - OVERLAP):
        if monotonic() > deadline:
            raise OutOfTimeError
        for found in rule.pattern.finditer(text, start, start + WINDOW):
            if found.end() > found.start():
                yield Match(rule, *found.span())


# -- the user's patterns


def own_rule(name: str, pattern: str) -> Rule:
    """A rule of the user's own.

    Raises:
        ValueError: *pattern* is no regular expression, or could be tried in too many ways.
    """
    try:
        ways = _ways(parser.parse(pattern))
        compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{pattern[:80]!r} is no regular expression: {error}") from None
    if ways > MAX_WAYS:
        mend = "bound its repetitions, as in [a-z]{1,64}, and do not nest them"
        raise ValueError(f"{pattern[:80]!r} may take too long ({ways:g} ways at one place); {mend}")
    return Rule(name=name, family="patterns", pattern=compiled, windowed=True)


def _ways(items: Any) -> float:
    """In how many ways a parsed pattern can be tried at one place, at most."""
    product = 1.0
    for code, argument in items:
        product *= _ways_of(str(code), argument)
        if product > MAX_WAYS**2:
            return product
    return product


def _ways_of(code: str, argument: Any) -> float:
    if code in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        least, most, body = argument
        inner = _ways(body)
        if most > OVERLAP:
            return float("inf")
        # Every repetition may be tried in each of its ways, and end at each of its counts.
        return float((most - least + 1) * (inner**most if inner > 1 else 1))
    if code == "SUBPATTERN":
        return _ways(argument[-1])
    if code in ("ASSERT", "ASSERT_NOT"):
        return _ways(argument[1])
    if code == "BRANCH":
        return float(sum(_ways(each) for each in argument[1]))
    return float("inf") if code in _UNKNOWN else 1.0


_UNKNOWN: Final = ("GROUPREF", "GROUPREF_EXISTS", "ATOMIC_GROUP")
