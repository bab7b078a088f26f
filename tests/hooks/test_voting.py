"""Voting: exact thresholds, fixed ties, abstentions."""

import itertools
import math
from collections import Counter
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmspell_otel.errors import HookError
from llmspell_otel.hooks.answers import RANK, Rules
from llmspell_otel.hooks.composite import voting
from llmspell_otel.hooks.results import Cancel, Fork, Modified, Replace
from tests.hooks.composite_bench import KINDS, SAMPLES, a_context, ask, fails, record, says

kinds = st.lists(st.sampled_from(KINDS), min_size=1, max_size=7)
thresholds = st.fractions(min_value=Fraction(1, 20), max_value=1, max_denominator=20)


def hooks_of(said: list[str]) -> list[Any]:
    """A voter for each kind, named by its number."""
    return [says(SAMPLES[kind], f"{number}") for number, kind in enumerate(said)]


def kind_of(result: Any) -> str:
    """The kind of what a composite answered."""
    return "continue" if result is None else result.kind


def counted(said: list[str], threshold: Fraction, min_votes: int, tie: str) -> str:
    """Naively: the kind that carries."""
    votes = [kind for kind in said if kind != "skipped"]
    if not votes:
        return "skipped"
    counts = Counter(votes)
    most = max(counts.values())
    if len(votes) < min_votes or Fraction(most) < len(said) * threshold:
        return "continue"
    tied = [kind for kind in dict.fromkeys(votes) if counts[kind] == most]
    if tie == "first":
        return tied[0]
    if tie == "prefer_continue" and "continue" in tied:
        return "continue"
    return min(tied, key=RANK.index)


@given(
    kinds,
    thresholds,
    st.integers(1, 7),
    st.sampled_from(["prefer_action", "prefer_continue", "first"]),
)
def test_a_vote_is_counted_by_the_book(
    said: list[str], threshold: Fraction, min_votes: int, tie: Any
) -> None:
    """Whatever is said, the verdict is that of the naive count."""
    min_votes = min(min_votes, len(said))
    composite = voting(*hooks_of(said), threshold=threshold, min_votes=min_votes, tie=tie)
    assert kind_of(ask(composite)) == counted(said, threshold, min_votes, tie)


@given(kinds, st.randoms())
def test_the_order_of_voters_does_not_matter(said: list[str], random: Any) -> None:
    """With the rank to break ties, any order of the voters gives the same verdict."""
    shuffled = random.sample(said, len(said))
    assert kind_of(ask(voting(*hooks_of(said)))) == kind_of(ask(voting(*hooks_of(shuffled))))


@pytest.mark.parametrize(
    ("threshold", "voters", "required"),
    [
        (0.14, 50, 7),
        (0.28, 25, 7),
        (0.28, 50, 14),
        (0.56, 25, 14),
        (0.56, 50, 28),
        (0.1 + 0.2, 10, 3),
        (1 / 3, 3, 1),
        (2 / 3, 3, 2),
        ("2/3", 4, 3),
        ("60%", 5, 3),
        (0.5, 3, 2),
        (1, 5, 5),
    ],
)
def test_the_threshold_is_exact(threshold: Any, voters: int, required: int) -> None:
    """Just the needed votes carry and one fewer does not, without floating-point error."""
    for votes in (required, required - 1):
        said = ["cancel"] * votes + ["skipped"] * (voters - votes)
        verdict = kind_of(ask(voting(*hooks_of(said), threshold=threshold)))
        assert (verdict == "cancel") == (votes == required)


@given(thresholds, st.integers(1, 10_000))
def test_required_votes_are_the_exact_product_rounded_up(share: Fraction, voters: int) -> None:
    """The integer arithmetic equals the ceiling of the fraction."""
    assert Rules(share, 1, "first").required(voters) == math.ceil(share * voters)


@pytest.mark.parametrize("threshold", [0, -0.5, 1.01, "0%", "two thirds", float("nan"), "1/0"])
def test_impossible_thresholds_are_refused(threshold: Any) -> None:
    """A threshold must be above 0 and at most 1."""
    with pytest.raises(HookError, match="threshold"):
        voting(says(None), threshold=threshold)


@pytest.mark.parametrize(
    "options", [{"min_votes": 0}, {"min_votes": 3}, {"tie": "coin"}, {"timeout": -1}]
)
def test_impossible_rules_are_refused(options: dict[str, Any]) -> None:
    """Rules that no vote could meet are named when the composite is made."""
    with pytest.raises(HookError, match=next(iter(options))):
        voting(says(None), says(None), **options)


def test_cancels_agree_whatever_their_reasons() -> None:
    """A vote is a kind of result; the reasons are joined, each once, in order."""
    reasons = ["too dear", "not allowed", "too dear"]
    composite = voting(*(says(Cancel(reason)) for reason in reasons), says(None))
    context = a_context()
    assert ask(composite, context) == Cancel("too dear; not allowed")
    assert [each.reason for each in context.decisions] == reasons
    assert all(each.effective for each in context.decisions)


def test_of_agreeing_replacements_the_first_is_taken() -> None:
    """Two replacements agree that there be one; the value of the first is used."""
    context = a_context()
    composite = voting(says(Replace(1), "a"), says(Replace(2), "b"), says(None, "c"))
    assert ask(composite, context) == Replace(1)
    assert record(context) == [("a", "replace", True), ("b", "replace", False)]
    assert context.decisions[1].reason == "preceded by a"


def test_agreeing_modifications_and_branches_all_count() -> None:
    """Modifications that carry are merged, branches that carry all run."""
    changes = [Modified({"input": {"a": 1}}), Modified({"input": {"b": 2}})]
    assert ask(voting(*map(says, changes))) == Modified({"input": {"a": 1, "b": 2}})
    assert ask(voting(says(Fork(("x",))), says(Fork(("y",))))) == Fork(("x", "y"))


def test_the_outvoted_are_on_record() -> None:
    """Who was outvoted, and a vote that carried nothing, can be read afterwards."""
    context = a_context()
    ask(voting(says(Cancel("no"), "a"), says(Cancel("no"), "b"), says(Replace(1), "c")), context)
    assert record(context)[0] == ("c", "replace", False)
    assert context.decisions[0].reason == "outvoted"
    context = a_context()
    assert ask(voting(says(Cancel("no"), "a"), says(None), says(None)), context) is None
    assert record(context) == [("a", "cancel", False)]


@pytest.mark.parametrize(
    ("tie", "verdict"),
    [("prefer_action", "cancel"), ("prefer_continue", "continue"), ("first", "replace")],
)
def test_ties_are_broken_the_same_way_every_time(tie: Any, verdict: str) -> None:
    """An even split has one winner, by rule and never by chance."""
    for _ in range(20):
        said = ["replace", "continue", "cancel"]
        assert kind_of(ask(voting(*hooks_of(said), threshold="1/3", tie=tie))) == verdict


def test_failures_abstain_but_count_as_voters() -> None:
    """A failed voter says nothing, and does not lower the bar for the others."""
    composite = voting(says(Cancel("no")), fails, fails, threshold=0.5)
    assert ask(composite) is None
    assert composite.errors == 2
    assert ask(voting(says(Cancel("no")), says(Cancel("no")), fails)) == Cancel("no")


def test_too_few_votes_decide_nothing() -> None:
    """Below min_votes the call goes on, however clear the votes are."""
    voters = [says(Cancel("no")), says(Cancel("no")), fails]
    assert ask(voting(*voters, min_votes=2)) == Cancel("no")
    assert ask(voting(*voters, min_votes=3)) is None


def test_voters_do_not_see_each_other() -> None:
    """Each votes on the data as they were, whatever the others do to theirs."""
    seen: list[Any] = []

    def scribbles(context: Any) -> None:
        seen.append(dict(context.input))
        context.data["input"]["query"] = "spoilt"

    context = a_context()
    ask(voting(scribbles, scribbles, scribbles), context)
    assert seen == [{"query": "cats"}] * 3
    assert context.data["input"] == {"query": "cats"}


def test_every_pair_of_kinds_has_one_verdict() -> None:
    """Of two voters that disagree, half each, the rank decides in either order."""
    for pair in itertools.combinations([kind for kind in KINDS if kind != "skipped"], 2):
        expected = min(pair, key=RANK.index)
        for said in (list(pair), list(reversed(pair))):
            assert kind_of(ask(voting(*hooks_of(said)))) == expected
