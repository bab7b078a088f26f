"""The detector: what it finds, what it misses, what it takes for something it is not, how fast."""

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmspell_otel.builtin.detection import RULES, Detector, OutOfTimeError, Rule, own_rule
from llmspell_otel.builtin.rules import SUSPECT
from tests.builtin import public_corpus as public
from tests.builtin.corpus import CLEAN, HOLDS, MISSED

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
ALL = frozenset(rule.family for rule in RULES)
DETECTOR = Detector()
SEEDS = (
    *("a", "sk-", "eyJ", "eyJaaaaaaaaaa.", "bearer a", "a@", "@a.", "1", "4111 ", "+1 ", "' or a"),
    *("; drop ", "union all ", "sleep (", "; sudo ", "|/a/", "`rm", "$(", "rm -r", "../", "/."),
    *("<a ", "ignore all ", "you are now ", "show me ", "\n##", "![](https://a?", "send all "),
    *("union (", "union all/*", "and (((1", "' or 'a", "case when 1 ", "(select", ",(select "),
    *(
        "1 order by 1 ",
        "concat_ws ",
        "char(1",
        "; select a",
        "<a onaaa(",
        "<meta ",
        "jav&#0",
        "&#0",
    ),
    *("a' or ", "1'", "' is ", "a'=", "1 or a", "x'*", "a')\n", "exec(", "order by if", "1' or -"),
    *(
        "what is your ",
        "act as ",
        "act as a ",
        "list your ",
        "ignore all and ",
        "![a](https://a?d&",
    ),
    *("pypi-AgE", "1" * 9 + ":AA", "AccountKey=", "https://hooks.slack.com/", "ya29.", "SK0"),
    *("password=", "a://a:", "-----BEGIN PRIVATE KEY-----", "\u200b", "GB82 AAAA ", "\x00", "\n"),
)


@pytest.mark.parametrize(("family", "text"), [(f, t) for f, ts in HOLDS.items() for t in ts])
def test_what_is_there_is_found(family: str, text: str) -> None:
    """Every form of the corpus, by a rule of its own family, inside a sentence too."""
    assert list(DETECTOR.find(text, frozenset({family})))
    assert list(DETECTOR.find(f"Note this:\n{text}", frozenset({family})))


@pytest.mark.parametrize("rule", RULES, ids=[f"{at}-{rule.name}" for at, rule in enumerate(RULES)])
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_the_first_look_misses_nothing(rule: Rule, data: st.DataObject) -> None:
    """Whatever a rule fits is suspect: short texts that are not are looked at no further."""
    text = data.draw(st.from_regex(rule.pattern))[:500]
    if rule.pattern.search(text) and any(each in text.lower() for each in rule.literals):
        assert SUSPECT.search(text.lower()) or not text.isascii()


@pytest.mark.parametrize("text", CLEAN)
def test_what_only_looks_like_it_is_left_alone(text: str) -> None:
    """No rule of any family fits ordinary text."""
    assert [match.rule.name for match in DETECTOR.find(text, ALL)] == []


@pytest.mark.parametrize(("family", "text"), [(f, t) for f, ts in MISSED.items() for t in ts])
def test_what_is_known_to_be_missed(family: str, text: str) -> None:
    """The limits that the page on security names; finding more means changing the page."""
    assert not list(DETECTOR.find(text, frozenset({family})))


def test_the_page_has_the_numbers_of_the_corpus() -> None:
    """The counts in the documentation are those of the corpus."""
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs/how-to/builtin-security.md").read_text("utf-8")
    for family, held in HOLDS.items():
        missed = len(MISSED.get(family, []))
        row = f"| `{family}` | {len(held)} of {len(held) + missed} | 0 of {len(CLEAN)} |"
        assert row in page


FOUND = {
    ("sql", "read"): (public.SQL_READ, 19),
    ("sql", "unread"): (public.SQL_UNREAD, 11),
    ("prompt", "read"): (public.PROMPTS, 10),
    ("secrets", "read"): (public.SECRETS, 11),
}


@pytest.mark.parametrize(("family", "how"), FOUND)
def test_public_lines_are_found_as_the_page_says(family: str, how: str) -> None:
    """As many as the documentation says, no fewer and no more."""
    lines, number = FOUND[family, how]
    missed = [line for line in lines if DETECTOR.is_clean(line, frozenset({family}))]
    assert len(lines) - len(missed) == number, missed


@pytest.mark.parametrize(
    ("family", "text"),
    [
        *(("sql", text) for text in public.NO_SQL),
        *(("prompt", text) for text in (*public.NO_PROMPTS, *public.BADGES)),
        *(("secrets", text) for text in public.NO_SECRETS),
    ],
)
def test_public_lines_that_only_look_like_it_are_left_alone(family: str, text: str) -> None:
    """Badges too, which are images with a query."""
    assert DETECTOR.is_clean(text, frozenset({family}))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_megabyte_of_hostile_text_is_read_in_bounded_time(seed: str) -> None:
    """One megabyte of what rules begin with; the deadline holds, and most need no deadline."""
    text = (seed * (1_000_000 // len(seed) + 1))[:1_000_000]
    began = time.thread_time()  # how busy the machine is, is not the detector's fault
    try:
        for _ in DETECTOR.find(text, ALL, time.monotonic() + 1.0):
            pass
    except OutOfTimeError:
        pass
    # One rule may be under way when the deadline passes.
    assert time.thread_time() - began < 6


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+b",
        "(a|aa){1,50}",
        r"\d+",
        ".*secret",
        r"(\w)\1",
        "[a-z]{1,9}[a-z]{1,9}[a-z]{1,99}",
        "(",
    ],
)
def test_patterns_that_may_take_too_long_are_refused(pattern: str) -> None:
    """Unbounded, nested and multiplying repetitions, references back, and what does not parse."""
    with pytest.raises(ValueError, match=r"too long|no regular expression"):
        own_rule("own", pattern)


@pytest.mark.parametrize("pattern", [r"\bEMP-\d{6}\b", r"acct[-_ ]?\d{8,17}", "[a-z]{1,64}@corp"])
def test_bounded_patterns_are_taken(pattern: str) -> None:
    """And read a megabyte of what they begin with in bounded time."""
    rule = own_rule("own", pattern)
    detector = Detector((rule,))
    assert detector.rules[0].family == "patterns"
    began = time.monotonic()
    for seed in ("EMP-", "acct-1", "a"):
        text = (seed * 1_000_000)[:1_000_000]
        try:
            list(detector.find(text, frozenset({"patterns"}), began + 2))
        except OutOfTimeError:
            break
    assert time.monotonic() - began < 6


def test_own_patterns_find_across_windows() -> None:
    """What lies across two windows is found."""
    detector = Detector((own_rule("own", r"EMP-\d{6}"),))
    for at in (0, 4090, 4096, 7000, 100_000):
        text = "x" * at + "EMP-123456" + "y" * 50
        found = {(m.start, m.end) for m in detector.find(text, frozenset({"patterns"}))}
        assert found == {(at, at + 10)}


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_any_text_can_be_looked_through(text: str) -> None:
    """Halves of surrogates, controls and all; matches lie inside the text."""
    for match in DETECTOR.find(text, ALL):
        assert 0 <= match.start < match.end <= len(text)
