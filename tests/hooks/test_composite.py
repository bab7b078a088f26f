"""Composites: the truth tables of the four, nested and alone, synchronous and not."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmspell_otel.errors import HookError, HookSignatureError
from llmspell_otel.hooks.composite import (
    AnyComposite,
    AsyncComposite,
    SyncComposite,
    first_match,
    parallel,
    sequential,
    voting,
)
from llmspell_otel.hooks.context import HookContext
from llmspell_otel.hooks.registry import check_signature, is_async, name_of
from llmspell_otel.hooks.results import (
    CONTINUE,
    Cache,
    Cancel,
    Fork,
    Modified,
    Replace,
    Result,
    Skipped,
)
from tests.hooks.composite_bench import (
    DECIDING,
    KINDS,
    SAMPLES,
    Hook,
    a_context,
    ask,
    effect,
    fails,
    fails_async,
    record,
    says,
    says_async,
)

Make = Callable[..., AnyComposite]
FOUR = pytest.mark.parametrize("make", [sequential, first_match, parallel, voting])
BOTH = pytest.mark.parametrize("speaks", [says, says_async], ids=["sync", "async"])
kinds = st.lists(st.sampled_from(KINDS), min_size=1, max_size=6)


def hooks_of(said: list[str], speaks: Callable[..., Hook] = says) -> list[Hook]:
    """A hook for each kind, named by its number."""
    return [speaks(SAMPLES[kind], f"{number}") for number, kind in enumerate(said)]


# -- all four


@FOUR
def test_an_empty_composite_goes_on(make: Make) -> None:
    """No children, no say."""
    assert ask(make()) is None


@FOUR
@BOTH
@pytest.mark.parametrize("kind", KINDS)
def test_a_single_child_speaks_for_itself(
    make: Make, speaks: Callable[..., Hook], kind: str
) -> None:
    """A composite of one answers just what that one answers."""
    expected = None if kind == "continue" else SAMPLES[kind]
    assert ask(make(speaks(SAMPLES[kind]))) == expected


@FOUR
def test_it_is_a_hook_like_any_other(make: Make) -> None:
    """The engine can read its name, its signature, and whether to await it."""
    plain, awaited = make(says(None, "a"), says(None, "b")), make(says(None), says_async(None))
    for composite in (plain, awaited):
        check_signature(composite)
    assert name_of(plain) == f"{make.__name__}(a, b)"
    assert name_of(make(says(None), name="guard")) == "guard"
    assert isinstance(plain, SyncComposite)
    assert not is_async(plain)
    assert isinstance(awaited, AsyncComposite)
    assert is_async(awaited)
    assert is_async(make(awaited)), "a composite of an asynchronous composite is asynchronous"


@FOUR
def test_script_forms_are_understood(make: Make) -> None:
    """Children may answer in any form in which a hook may."""
    assert ask(make(says({"action": "cancel", "reason": "no"}))) == Cancel("no")


@FOUR
@pytest.mark.parametrize(
    "bad", [42, {"type": "explode"}, {"type": "modified", "data": 3}], ids=["int", "form", "data"]
)
def test_an_unknown_answer_is_a_failure(make: Make, bad: object) -> None:
    """A child that answers nonsense is counted and passed over."""
    composite = make(says(bad), says(Cancel("no")))
    assert ask(composite) == Cancel("no")
    assert composite.errors == 1


@FOUR
@pytest.mark.parametrize("broken", [fails, fails_async])
def test_a_failing_child_is_passed_over(
    make: Make, broken: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    """It is counted, recorded and logged once; the others are asked all the same."""
    composite = make(broken, says(Cancel("no")))
    for _ in range(3):
        context = a_context()
        assert ask(composite, context) == Cancel("no")
        assert (broken.__name__, "error", False) in record(context)
        assert context.decisions[0].reason == "ValueError"
    assert composite.errors == 3
    assert len(caplog.records) == 1


@FOUR
def test_when_every_child_fails_so_does_it(make: Make) -> None:
    """Nobody answered: one error is raised as it is, several as a group."""
    with pytest.raises(ValueError, match="broken"):
        ask(make(fails))
    context = a_context()
    with pytest.raises(ExceptionGroup, match="every hook of") as failure:
        ask(make(fails, fails_async), context)
    assert [type(each) for each in failure.value.exceptions] == [ValueError, ValueError]
    assert len(context.decisions) == 2


@FOUR
@BOTH
def test_one_failure_can_be_enough(make: Make, speaks: Callable[..., Hook]) -> None:
    """With on_child_failure="raise" a composite fails with its first failing child."""
    composite = make(fails, speaks(Skipped("sample")), on_child_failure="raise")
    with pytest.raises(ValueError, match="broken"):
        ask(composite)
    assert composite.errors == 1


@FOUR
@pytest.mark.parametrize("fatal", [SystemExit, KeyboardInterrupt])
def test_what_is_no_exception_passes_through(make: Make, fatal: type[BaseException]) -> None:
    """Nothing that should end the program is swallowed."""

    def ends(context: HookContext) -> None:
        raise fatal("end")

    composite = make(ends, says(Cancel("no")))
    with pytest.raises(fatal, match="end"):
        ask(composite)


@FOUR
def test_a_coroutine_in_disguise_is_refused(make: Make) -> None:
    """A synchronous composite cannot await: it says so, and leaves nothing un-awaited."""

    def disguised(context: HookContext) -> Any:
        return says_async(Cancel("no"))(context)

    composite = make(disguised, says(None))
    assert ask(composite) is None
    assert composite.errors == 1


@FOUR
def test_unusable_parts_are_refused(make: Make) -> None:
    """What cannot be called with a context, and options with a typing error, fail at once."""
    with pytest.raises(HookSignatureError):
        make(lambda: None)
    with pytest.raises(HookSignatureError):
        make(3)
    with pytest.raises(HookError, match="on_child_failure"):
        make(on_child_failure="explode")


# -- sequential


def as_a_chain(said: list[str]) -> tuple[list[str], Result | None]:
    """Naively: which hooks are asked, and what decides."""
    asked: list[str] = []
    for kind in said:
        asked.append(kind)
        if kind in DECIDING:
            return asked, SAMPLES[kind]
    return asked, None


@given(kinds, st.booleans())
def test_sequential_is_a_chain(said: list[str], waits: bool) -> None:
    """Every hook up to the first that decides is asked, and all they said takes effect."""
    asked, decision = as_a_chain(said)
    context = a_context()
    result = effect(sequential(*hooks_of(said, says_async if waits else says)), context)
    if decision is not None:
        assert result == decision
    elif "cache" in asked:
        assert result == SAMPLES["cache"]
    assert ("sample" in context.data["input"]) == ("modified" in asked)
    assert context.branches == ["beside"] * asked.count("fork")
    assert [name for name, _, _ in record(context)] == [
        str(number) for number, kind in enumerate(asked) if kind != "continue"
    ]


@BOTH
def test_each_sees_what_those_before_it_modified(speaks: Callable[..., Hook]) -> None:
    """Modifications build on each other; the context itself is untouched until the end."""

    def louder(context: HookContext) -> Modified:
        return Modified({"input": {"query": context.input["query"] + "!"}})

    context = a_context(limit=5)
    composite = sequential(louder, speaks(Modified({"note": 1})), louder)
    result = ask(composite, context)
    assert result == Modified({"input": {"query": "cats!!"}, "note": 1})
    assert context.data == {"input": {"query": "cats", "limit": 5}}


def test_a_modification_before_a_decision_counts() -> None:
    """As in a chain: the redirected call gets the modified input."""
    context = a_context()
    decision = SAMPLES["redirect"]
    assert ask(sequential(says(SAMPLES["modified"]), says(decision)), context) == decision
    assert context.data["input"] == {"query": "cats", "sample": 1}


def test_a_cache_before_a_decision_is_not_looked_up() -> None:
    """The decision stands, and the record says that the cache did not matter."""
    context = a_context()
    assert ask(sequential(*hooks_of(["cache", "cancel"])), context) == SAMPLES["cancel"]
    assert record(context) == [("0", "cache", False), ("1", "cancel", True)]
    assert context.decisions[0].reason == "decided without the cache"


# -- first match


@given(kinds)
def test_first_match_takes_the_first_that_acts(said: list[str]) -> None:
    """Continue and Skipped are passed over; nothing is asked after a match."""
    asked: list[int] = []

    def hook(number: int, kind: str) -> Hook:
        def answering(context: HookContext) -> Result:
            asked.append(number)
            return SAMPLES[kind]

        return answering

    result = ask(first_match(*(hook(number, kind) for number, kind in enumerate(said))))
    acting = [n for n, kind in enumerate(said) if kind not in ("continue", "skipped")]
    assert asked == list(range(acting[0] + 1 if acting else len(said)))
    if acting:
        assert result == SAMPLES[said[acting[0]]]
    else:
        assert result == (SAMPLES["skipped"] if set(said) == {"skipped"} else None)


# -- parallel


@BOTH
@pytest.mark.parametrize("said", list(itertools.permutations(DECIDING, 2)), ids="-".join)
def test_parallel_resolves_by_rank(said: tuple[str, str], speaks: Callable[..., Hook]) -> None:
    """Cancel, Replace, Redirect, Retry: the higher wins in either order, the other is noted."""
    winner = min(said, key=DECIDING.index)
    context = a_context()
    assert ask(parallel(*hooks_of(list(said), speaks)), context) == SAMPLES[winner]
    assert record(context) == [(str(n), kind, kind == winner) for n, kind in enumerate(said)]
    loser = next(each for each in context.decisions if not each.effective)
    assert loser.reason == f"outranked by {said.index(winner)}"


@given(kinds)
def test_parallel_swallows_nothing(said: list[str]) -> None:
    """Every answer but Continue is on record, and is effective exactly if it took effect."""
    context = a_context()
    result = effect(parallel(*hooks_of(said)), context)
    decisions = [kind for kind in said if kind in DECIDING]
    noted = [(name, kind) for name, kind, _ in record(context)]
    assert noted == [(str(n), kind) for n, kind in enumerate(said) if kind != "continue"]
    effective = [kind for _, kind, took_effect in record(context) if took_effect]
    if decisions:
        winner = min(decisions, key=DECIDING.index)
        assert result == SAMPLES[winner]
        assert effective == [winner]
        assert context.data == a_context().data
    else:
        assert context.branches == ["beside"] * said.count("fork")
        assert ("sample" in context.data["input"]) == ("modified" in said)
        assert effective.count("cache") == min(1, said.count("cache"))
        assert effective.count("modified") == said.count("modified")


def test_disjoint_modifications_are_merged() -> None:
    """What does not conflict takes effect together, in the order of the hooks."""
    composite = parallel(
        says(Modified({"input": {"a": 1}})),
        says(Modified({"input": {"b": 2}, "note": "x"})),
        says(Modified({"input": {"a": 1}}), "agrees"),
    )
    context = a_context()
    assert ask(composite, context) == Modified({"input": {"a": 1, "b": 2}, "note": "x"})
    assert all(effective for _, _, effective in record(context))


def test_of_conflicting_modifications_the_first_is_kept() -> None:
    """The later hook loses what conflicts, keeps the rest, and the loss is on record."""
    context = a_context()
    composite = parallel(
        says(Modified({"input": {"a": 1}}), "first"),
        says(Modified({"input": {"a": 2, "b": 2}}), "second"),
        says(Modified({"input": None}), "third"),
    )
    assert ask(composite, context) == Modified({"input": {"a": 1, "b": 2}})
    assert record(context) == [
        ("first", "modified", True),
        ("second", "modified", True),
        ("third", "modified", False),
    ]
    assert [each.reason for each in context.decisions] == [
        "",
        "input.a is first's",
        "input is first's",
    ]


@pytest.mark.parametrize("merge", ["isolate", "merge"])
@BOTH
def test_children_work_on_copies(merge: Any, speaks: Callable[..., Hook]) -> None:
    """What one changes in place no other sees; it counts only where contexts are merged."""
    seen: list[Any] = []

    def scribbles(context: HookContext) -> None:
        seen.append(context.data["input"]["nested"]["list"][:])
        context.data["input"]["nested"]["list"].append(1)
        context.data["input"]["query"] = "dogs"
        context.data["extra"] = True

    context = a_context(nested={"list": []})
    result = ask(parallel(scribbles, scribbles, speaks(None), merge=merge), context)
    assert seen == [[], []]
    assert context.data == {"input": {"query": "cats", "nested": {"list": []}}}
    changed = Modified({"extra": True, "input": {"query": "dogs", "nested": {"list": [1]}}})
    assert result == (changed if merge == "merge" else None)


def test_an_answer_counts_above_what_was_changed_in_place() -> None:
    """A child that changes its copy and answers Modified is taken at its word."""

    def both(context: HookContext) -> Modified:
        context.data["input"]["query"] = "dogs"
        context.data["input"]["limit"] = 1
        return Modified({"input": {"query": "birds"}})

    assert ask(parallel(both, merge="merge")) == Modified({"input": {"query": "birds", "limit": 1}})


@pytest.mark.parametrize(
    "options",
    [{"timeout": 0}, {"max_concurrency": 0}, {"merge": "mingle"}],
    ids=["timeout", "max_concurrency", "merge"],
)
def test_impossible_options_of_parallel_are_refused(options: dict[str, Any]) -> None:
    """A value that makes no sense is named when the composite is made."""
    with pytest.raises(HookError, match=next(iter(options))):
        parallel(says(None), **options)


# -- nesting


@FOUR
@pytest.mark.parametrize("inner", [sequential, first_match, parallel, voting])
@BOTH
@pytest.mark.parametrize("kind", KINDS)
def test_any_nests_in_any(make: Make, inner: Make, speaks: Callable[..., Hook], kind: str) -> None:
    """Wrapped twice, one hook's answer is still its answer, and is recorded once by name."""
    context = a_context()
    hook = speaks(SAMPLES[kind], "deep")
    result = ask(make(inner(hook, name="inner")), context)
    assert result == (None if kind == "continue" else SAMPLES[kind])
    if kind != "continue":
        assert record(context) == [("deep", kind, True), ("inner", kind, True)]


@BOTH
def test_all_effects_of_a_nested_chain_arrive(speaks: Callable[..., Hook]) -> None:
    """A chain within a parallel keeps its modification, its branches and its cache."""
    chain = sequential(*(speaks(SAMPLES[kind]) for kind in ("modified", "fork", "cache")))
    context = a_context()
    result = ask(parallel(chain, speaks(Modified({"input": {"other": 2}}))), context)
    assert result == Cache(key="k")
    assert context.branches == ["beside"]
    assert context.data["input"] == {"query": "cats", "sample": 1, "other": 2}


def test_a_nested_loser_leaves_no_trace_but_its_record() -> None:
    """What an outranked chain modified or forked does not take effect."""
    chain = sequential(says(SAMPLES["modified"]), says(SAMPLES["fork"]), name="chain")
    context = a_context()
    assert ask(parallel(chain, says(Cancel("no"))), context) == Cancel("no")
    assert context.data == a_context().data
    assert context.branches == []
    assert ("chain", "fork", False) in record(context)
    assert ("says_modified", "modified", False) in record(context)


def test_nested_results_reach_a_plain_hook() -> None:
    """The results are those of the hooks themselves, not copies of another shape."""
    value = object()
    result = ask(first_match(parallel(says(CONTINUE)), voting(says(Replace(value)))))
    assert isinstance(result, Replace)
    assert result.value is value
    forked = ask(sequential(parallel(says(Fork(("a",))), says(Fork(("b",))))))
    assert forked == Fork(("a", "b"))
