"""Which patterns mean which events."""

import contextlib
import re
import time
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmspell_otel.errors import LlmspellError
from llmspell_otel.events import Pattern, PatternError
from llmspell_otel.events.pattern import parse
from tests.events.patterns import matches

TABLE = [
    # exact names; both separators are one
    ("user.login", "user.login", True),
    ("user.login", "user:login", True),
    ("user:login", "user.login", True),
    ("user.login", "user.logout", False),
    ("user.login", "User.Login", False),
    ("user", "user", True),
    ("user", "user.login", False),
    ("user.login", "user", False),
    ("agent:tool.x", "agent.tool:x", True),
    # one segment
    ("user.*", "user.login", True),
    ("user.*", "user", False),
    ("user.*", "user.login.ok", False),
    ("user.*", "user.", True),
    ("*.error", "tool.error", True),
    ("*.error", "tool:error", True),
    ("*.error", "a.b.error", False),
    ("*.error", "error", False),
    ("agent:*", "agent:state_changed", True),
    ("user.*.completed", "user.job.completed", True),
    ("user.*.completed", "user.completed", False),
    ("*.*", "a.b", True),
    ("*.*", "a", False),
    ("*.*", "a.b.c", False),
    # everything
    ("*", "a", True),
    ("*", "a.b:c", True),
    ("*", "", True),
    ("**", "a.b.c", True),
    ("**", "", True),
    # any number of segments
    ("agent.**", "agent", True),
    ("agent.**", "agent.a", True),
    ("agent.**", "agent.a.b.c", True),
    ("agent.**", "agents.a", False),
    ("**.error", "error", True),
    ("**.error", "a.error", True),
    ("**.error", "a.b:error", True),
    ("**.error", "a.error.b", False),
    ("a.**.z", "a.z", True),
    ("a.**.z", "a.b.c.z", True),
    ("a.**.z", "a.b.c", False),
    ("a.**.**.z", "a.z", True),
    ("**.m.**", "m", True),
    ("**.m.**", "a.m.b.c", True),
    ("**.m.**", "a.b", False),
    ("**.*", "", True),
    ("**.*", "a", True),
    ("*.**", "a.b", True),
    # within a segment
    ("exec*", "execution", True),
    ("exec*", "exec", True),
    ("exec*", "exec.x", False),
    ("tool.*_error", "tool.validation_error", True),
    ("tool.*_error", "tool._error", True),
    ("a*b*c", "axxbyyc", True),
    ("a*b*c", "axxcyyb", False),
    ("*a*", "bab", True),
    ("*aa", "aaa", True),
    ("a?c", "abc", True),
    ("a?c", "ac", False),
    ("a?c", "a.c", False),
    ("?", "é", True),
    ("??", "é", False),
    # sets
    ("step.[123]", "step.2", True),
    ("step.[123]", "step.4", False),
    ("step.[0-9]", "step.7", True),
    ("step.[0-9][0-9]", "step.7", False),
    ("step.[!0-9]", "step.x", True),
    ("step.[!0-9]", "step.7", False),
    ("[*?{]x", "*x", True),
    ("[*?{]x", "ax", False),
    ("[a-]", "-", True),
    ("[-a]", "-", True),
    ("[a!]", "!", True),
    ("[^a]", "^", True),
    ("[a^]", "b", False),
    # alternatives
    ("{agent,tool}.error", "tool.error", True),
    ("{agent,tool}.error", "model.error", False),
    ("{agent.run,tool}.error", "agent.run.error", True),
    ("error{,s}", "error", True),
    ("error{,s}", "errors", True),
    ("{a,{b,c}}.x", "c.x", True),
    ("{*,x}.y", "q.y", True),
    ("{*,x}", "a.b.c", True),
    ("{a,b}{c,d}", "bc", True),
    ("{a}", "a", True),
    ("{[ab],c}", "b", True),
    ("{*,x}*", "a.b", True),
    ("{a.,b.}{c,d}", "b.c", True),
    ("{}a", "a", True),
    # nothing else is special
    ("a,b", "a,b", True),
    ("a+b", "a+b", True),
    ("a+b", "aab", False),
    ("(a)", "(a)", True),
    ("a|b", "a", False),
    ("^a$", "a", False),
    ("a\\d", "a1", False),
    ("a\n*", "a\nb", True),
    ("a?", "a\n", True),
    ("a*", "a\n", True),
    ("\x00", "\x00", True),
    ("\ud800*", "\ud800x", True),
    ("a b", "a b", True),
]


@pytest.mark.parametrize(("pattern", "event_type", "expected"), TABLE)
def test_a_pattern_means_what_the_table_says(pattern: str, event_type: str, expected: bool) -> None:
    """The grammar, form by form and edge by edge."""
    assert Pattern(pattern).matches(event_type) is expected


@pytest.mark.parametrize(("pattern", "event_type", "expected"), TABLE)
def test_the_reference_agrees_with_the_table(pattern: str, event_type: str, expected: bool) -> None:
    """The oracle of the property tests believes the same table."""
    assert matches(pattern, event_type) is expected


@pytest.mark.parametrize(
    ("pattern", "position", "problem"),
    [
        ("", 0, "is empty"),
        ("a..b", 2, "empty segment"),
        (".a", 0, "empty segment"),
        ("a.", 2, "empty segment"),
        ("a.{,b}", 6, "empty segment"),
        ("a**", 1, "`**` is no wildcard"),
        ("**b.c", 0, "`**` is no wildcard"),
        ("x.***", 2, "`***` is no wildcard"),
        ("a[bc", 1, "`[` alone"),
        ("a]b", 1, "`]` alone"),
        ("[]", 0, "empty set"),
        ("[!]", 0, "empty set"),
        ("x[a.b]", 1, "a separator in a set"),
        ("[z-a]", 0, "range `z-a` runs backwards"),
        ("{a,b", 0, "`{` is never closed"),
        ("a}b", 1, "`}` without `{`"),
        ("{a,b}" * 7, 30, "more than 64 alternatives"),
        ("{" + "a," * 64 + "a}", 0, "more than 64 alternatives"),
        ("{a}" * 65, 192, "more than 64 braces"),
        ("{a,b}" * 6 + "." + "c" * 900, 0, "more than 4096 characters together"),
        ("{a,b}" * 6 + "{cc}" * 50, 146, "more than 4096 characters together"),
        ("x.{a*,b}*", 4, "`**` is no wildcard"),
        ("{**,b}c", 1, "`**` is no wildcard"),
        ("{" * 9 + "a" + "}" * 9, 8, "braces nested over 8 deep"),
        ("a" * 1025, 1024, "has 1025 characters"),
    ],
)
def test_a_malformed_pattern_is_refused(pattern: str, position: int, problem: str) -> None:
    """One error type says what is wrong, where, and how to mend it."""
    with pytest.raises(PatternError, match=re.escape(problem)) as caught:
        Pattern(pattern)
    assert caught.value.position == position
    assert caught.value.mend
    assert isinstance(caught.value, LlmspellError)
    assert isinstance(caught.value, ValueError)


def test_something_other_than_text_is_refused() -> None:
    """A pattern that is no text is the same kind of error."""
    with pytest.raises(PatternError, match="is not text"):
        Pattern(7)  # type: ignore[arg-type]


ALPHABET = "ab.:*?"
PATTERNS = st.text(ALPHABET + "[]{},!-", max_size=12)
NAMES = st.text("ab.:", max_size=10)


@given(PATTERNS, NAMES)
@example("**.a.**", "b.a")
@example("{a,b}*.**", "ab.a")
def test_every_pattern_agrees_with_the_reference_or_is_refused(pattern: str, name: str) -> None:
    """Whatever the parser accepts, it reads as the naive matcher does."""
    try:
        parsed = Pattern(pattern)
    except PatternError:
        return
    assert parsed.matches(name) is matches(pattern, name)


SEGMENT = st.sampled_from(
    ["a", "b", "*", "**", "?", "a*", "*b", "[ab]", "{a,b}", "{a.b,**}", "a?*b"]
)


@given(st.lists(SEGMENT, min_size=1, max_size=6), st.lists(st.sampled_from("ab"), max_size=6))
def test_every_row_of_segments_agrees_with_the_reference(row: list[str], names: list[str]) -> None:
    """Well-formed patterns, which random characters seldom give, match as the reference does."""
    pattern, name = ".".join(row), ".".join(names)
    assert Pattern(pattern).matches(name) is matches(pattern, name)


@given(st.text(max_size=40))
@example("[{a}].{[,],b}")
def test_any_text_is_read_or_refused_with_one_error(text: str) -> None:
    """No text makes the parser fail in another way."""
    with contextlib.suppress(PatternError):
        Pattern(text).matches(text)


@pytest.mark.parametrize(
    ("pattern", "unit"),
    [
        ("**." * 300 + "z", "a."),
        ("*a" * 500 + "b", "a"),
        ("*?" * 500 + "b", "a"),
        ("**.a." * 150 + "b", "a."),
        ("{a,aa,*a,?a}" * 3, "a"),
    ],
)
def test_no_pattern_is_slow(pattern: str, unit: str) -> None:
    """Patterns made to explode cost time in proportion to the name, not its square."""
    parsed = Pattern(pattern)

    def cost(length: int) -> int:
        name = unit * length
        return min(spent(lambda: parsed.matches(name)) for _ in range(5))

    cost(100)
    assert cost(64_000) < 3 * 16 * cost(4_000)


DENSE = [
    "[a-c]*x?." * 113 + "z",
    "a." * 511 + "z",
    "?" * 1_024,
    "*a" * 512,
    "[ab]" * 256,
    "[" + "a-b" * 340 + "]",
    "[" + "a-" * 510 + "a",
    "{" * 1_024,
    "}" * 1_024,
    "{a}" * 341,
    "{}" * 512,
    "{a,b}" * 6 + "{c}" * 331,
    "{a,b}" * 6 + "x" * 900,
    "{a.,b.}" * 6 + "y." * 25 + "z",
    "{" + ",".join(["x" * 14] * 64) + "}",
    "{" + "," * 1_023,
    "**." * 341 + "z",
    "".join(f"{chr(0x4E00 + n)}." for n in range(511)) + "z",
]


@pytest.mark.parametrize("pattern", DENSE, ids=range(len(DENSE)))
def test_a_pattern_is_read_within_a_millisecond_for_each_thousand_characters(pattern: str) -> None:
    """Whatever is in it, read or refused: the time of 35,000 calls at most.

    That is a millisecond where a call takes 28 ns; the quietest of several runs counts.
    """

    def read() -> None:
        with contextlib.suppress(PatternError):
            parse(pattern)

    def call() -> None:
        """Do nothing."""

    calls = min(spent(lambda: [call() for _ in range(10_000)]) for _ in range(9)) / 10_000
    assert min(spent(read) for _ in range(9)) < 35_000 * calls


def spent(function: Callable[[], object]) -> int:
    """Nanoseconds of this thread's processor time that *function* takes."""
    began = time.thread_time_ns()
    function()
    return time.thread_time_ns() - began


@pytest.mark.parametrize("unit", ["a", "a.", "*", "**.", "\x00", "\ud800", "{a,", "[", "?"])
def test_a_megabyte_is_refused_at_once(unit: str) -> None:
    """Without a look at it."""
    pattern = unit * (1_048_576 // len(unit))
    began = time.thread_time()
    with pytest.raises(PatternError, match="use at most 1024"):
        Pattern(pattern)
    assert time.thread_time() - began < 0.01


BROKEN = [
    *"ab.:*?[]{},!-^$()|+\\\n\x00\ud800\udfff\u202eé\U0010ffff",
    *("**", "[!", "]}", ".*", "{a,"),
]


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(BROKEN), max_size=30), st.lists(st.sampled_from(BROKEN)))
def test_fragments_of_patterns_are_refused_or_read_as_written(
    row: list[str], names: list[str]
) -> None:
    """Nulls, lone surrogates, halves of sets and braces, what regular expressions mean."""
    pattern, name = "".join(row), "".join(names)
    try:
        parsed = Pattern(pattern)
    except PatternError as error:
        refused = error
    else:
        assert parsed.matches(name) is matches(pattern, name)
        return
    assert 0 <= refused.position <= len(pattern)
    assert refused.mend
