"""What the nine results do: at every moment, to every kind of operation, in every shape."""

import time
from typing import Any

import pytest

from llmspell_otel.errors import OperationCancelled
from llmspell_otel.hooks import (
    Cache,
    Cancel,
    Continue,
    Fork,
    Hook,
    Modified,
    Redirect,
    Replace,
    Retry,
    Skipped,
)
from llmspell_otel.hooks.conditions import conditions
from llmspell_otel.operations import Kind, Shape
from tests.operations.bench import AFTER, BEFORE, ERROR, KINDS, SHAPES, WHOLE, Bench, TroubleError

pytestmark = pytest.mark.parametrize("kind", KINDS)
EVERY_SHAPE = pytest.mark.parametrize("shape", SHAPES)
WHOLE_SHAPE = pytest.mark.parametrize("shape", WHOLE)
STREAMED = pytest.mark.parametrize("shape", [Shape.GENERATOR, Shape.ASYNC_GENERATOR])


def answering(*results: Any) -> Any:
    """A hook that gives *results* in turn, then None; it notes the contexts it was given."""
    left = list(results)

    def hook(context: Any) -> Any:
        hook.contexts.append(dict(context.data))
        return left.pop(0) if left else None

    hook.contexts = []  # type: ignore[attr-defined]
    return hook


# -- before


@EVERY_SHAPE
@pytest.mark.parametrize("result", [None, Continue(), Skipped("no"), "continue"], ids=repr)
def test_before_nothing_changes_nothing(kind: Kind, shape: Shape, result: Any) -> None:
    """Continue and Skipped let the call be."""
    bench = Bench(kind, shape)
    Hook.register(BEFORE[kind], answering(result))
    assert bench.run() == "abab"
    assert bench.calls == [{"text": "ab", "times": 2}]


@EVERY_SHAPE
def test_before_modified_changes_the_arguments(kind: Kind, shape: Shape) -> None:
    """Arguments are merged; the next hook sees them; the call gets them."""
    bench = Bench(kind, shape)
    later = answering()
    Hook.register(BEFORE[kind], answering(Modified({"input": {"times": 3}})))
    Hook.register(BEFORE[kind], later)
    assert bench.run() == "ababab"
    assert bench.calls == [{"text": "ab", "times": 3}]
    assert later.contexts == [{"input": {"text": "ab", "times": 3}}]


@EVERY_SHAPE
def test_before_cancel_makes_no_call(kind: Kind, shape: Shape) -> None:
    """The caller is told why, after hooks are not asked."""
    bench = Bench(kind, shape)
    after = answering()
    Hook.register(BEFORE[kind], answering(Cancel("not today")), name="guard")
    Hook.register(AFTER[kind], after)
    with pytest.raises(OperationCancelled, match="not today") as caught:
        bench.run()
    assert (caught.value.kind, caught.value.reason) == (kind.value, "not today")
    assert bench.calls == after.contexts == []


@EVERY_SHAPE
def test_before_redirect_lets_the_named_target_do_it(kind: Kind, shape: Shape) -> None:
    """Another operation of the same kind is called instead; after hooks see its output."""
    bench = Bench(kind, shape)
    after = answering()
    Hook.register(BEFORE[kind], answering(Redirect("other")))
    Hook.register(AFTER[kind], after)
    assert bench.run() == "other ab"
    assert bench.calls == []
    assert after.contexts


@EVERY_SHAPE
def test_before_redirect_lets_a_callable_do_it(kind: Kind, shape: Shape) -> None:
    """Any function that takes the arguments will do, whatever its shape."""
    bench = Bench(kind, shape)
    Hook.register(BEFORE[kind], answering(Redirect(lambda text, times: f"{text}{times}")))
    assert bench.run() == "ab2"
    assert bench.calls == []


@EVERY_SHAPE
def test_before_redirect_to_nobody_lets_the_call_be(kind: Kind, shape: Shape) -> None:
    """A target that cannot be reached is reported, and the original is called."""
    bench = Bench(kind, shape)
    Hook.register(BEFORE[kind], answering(Redirect("nobody")))
    assert bench.run() == "abab"


@EVERY_SHAPE
def test_before_replace_answers_without_a_call(kind: Kind, shape: Shape) -> None:
    """The value is the output; after hooks see it."""
    bench = Bench(kind, shape)
    after = answering()
    Hook.register(BEFORE[kind], answering(Replace("value")))
    Hook.register(AFTER[kind], after)
    assert bench.run() == "value"
    assert bench.calls == []
    assert [context["output"] for context in after.contexts] == ["value"]


@EVERY_SHAPE
def test_before_retry_asks_again_after_the_delay(kind: Kind, shape: Shape) -> None:
    """The call waits until the hook lets it go, or its attempts are used up."""
    bench = Bench(kind, shape)
    patient = answering(*[Retry(delay=0.01, max_attempts=3)] * 9)
    Hook.register(BEFORE[kind], patient)
    began = time.perf_counter()
    assert bench.run() == "abab"
    assert time.perf_counter() - began >= 0.02
    assert len(patient.contexts) == 3
    assert len(bench.calls) == 1


@EVERY_SHAPE
def test_before_fork_runs_branches_beside_the_call(kind: Kind, shape: Shape) -> None:
    """After hooks find the branches' outputs, failures among them."""
    bench = Bench(kind, shape)
    after = answering()

    async def waits() -> int:
        return 2

    def fails() -> None:
        raise TroubleError("branch")

    Hook.register(BEFORE[kind], answering(Fork([lambda: 1, waits, fails])))
    Hook.register(AFTER[kind], after)
    assert bench.run() == "abab"
    one, two, three = after.contexts[0]["forks"]
    assert (one, two, str(three)) == (1, 2, "branch")


@EVERY_SHAPE
def test_before_cache_calls_once(kind: Kind, shape: Shape) -> None:
    """A miss calls and stores; a hit answers without a call, and after hooks see it."""
    bench = Bench(kind, shape)
    seen = answering()
    Hook.register(BEFORE[kind], lambda context: Cache(key=context.data["input"]["text"], ttl=60))
    Hook.register(AFTER[kind], seen)
    assert [bench.run(), bench.run(), bench.run("cd")] == ["abab", "abab", "cdcd"]
    assert [call["text"] for call in bench.calls] == ["ab", "cd"]
    assert len(seen.contexts) == 3


# -- after


@WHOLE_SHAPE
def test_after_modified_changes_the_output(kind: Kind, shape: Shape) -> None:
    """The next hook and the caller get the changed one."""
    bench = Bench(kind, shape)
    later = answering()
    Hook.register(AFTER[kind], answering(Modified({"output": "changed"})))
    Hook.register(AFTER[kind], later)
    assert bench.run() == "changed"
    assert later.contexts[0]["output"] == "changed"


@WHOLE_SHAPE
def test_after_cancel_withholds_the_output(kind: Kind, shape: Shape) -> None:
    """The call was made; its caller gets nothing of it."""
    bench = Bench(kind, shape)
    Hook.register(AFTER[kind], answering(Cancel("secret")))
    with pytest.raises(OperationCancelled, match="secret"):
        bench.run()
    assert len(bench.calls) == 1


@WHOLE_SHAPE
def test_after_redirect_takes_the_targets_output(kind: Kind, shape: Shape) -> None:
    """The target is called too; the after hooks are not asked about it again."""
    bench = Bench(kind, shape)
    hook = answering(Redirect("other"), Redirect("other"))
    Hook.register(AFTER[kind], hook)
    assert bench.run() == "other ab"
    assert len(bench.calls) == 1


@WHOLE_SHAPE
def test_after_replace_is_the_output(kind: Kind, shape: Shape) -> None:
    """And no hook is asked about it again."""
    bench = Bench(kind, shape)
    hook = answering(Replace("value"), Replace("again"))
    Hook.register(AFTER[kind], hook)
    assert bench.run() == "value"
    assert len(hook.contexts) == 1


@WHOLE_SHAPE
def test_after_retry_calls_again(kind: Kind, shape: Shape) -> None:
    """Until the hook is content, or as often as it said in all."""
    bench = Bench(kind, shape)
    Hook.register(AFTER[kind], answering(*[Retry(delay=0, max_attempts=3)] * 9))
    assert bench.run() == "abab"
    assert len(bench.calls) == 3


@WHOLE_SHAPE
def test_after_fork_runs_branches(kind: Kind, shape: Shape) -> None:
    """They have ended when the caller gets its output."""
    bench = Bench(kind, shape)
    ran: list[int] = []
    Hook.register(AFTER[kind], answering(Fork([lambda: ran.append(1)] * 3)))
    assert bench.run() == "abab"
    assert ran == [1, 1, 1]


@WHOLE_SHAPE
def test_after_cache_stores(kind: Kind, shape: Shape) -> None:
    """What is stored is a copy of the output."""
    bench = Bench(kind, shape)
    Hook.register(AFTER[kind], answering(Cache(key="k", ttl=60)))
    bench.run()
    assert conditions.store.get("k") == "abab"


@STREAMED
@pytest.mark.parametrize(
    "result",
    [Replace("late"), Cancel("late"), Modified({"output": "late"}), Retry(delay=0)],
    ids=lambda result: result.kind,
)
def test_after_a_stream_was_handed_over_results_change_nothing(
    kind: Kind, shape: Shape, result: Any
) -> None:
    """The chunks are the consumer's already; the hook only sees what they amount to."""
    bench = Bench(kind, shape)
    hook = answering(result)
    Hook.register(AFTER[kind], hook)
    assert bench.run() == "abab"
    assert [context["output"] for context in hook.contexts] == [list("abab")]
    assert len(bench.calls) == 1


# -- error


@EVERY_SHAPE
@pytest.mark.parametrize("result", [None, Skipped("no"), Cache(key="k")], ids=repr)
def test_error_passes_untouched(kind: Kind, shape: Shape, result: Any) -> None:
    """The caller gets the very error, with its traceback; nothing is stored."""
    bench = Bench(kind, shape, fail=9)
    hook = answering(result)
    Hook.register(ERROR[kind], hook)
    with pytest.raises(TroubleError) as caught:
        bench.run()
    assert [context["error"] for context in hook.contexts] == [caught.value]
    assert any(entry.name == "_work" for entry in caught.traceback)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert len(conditions.store) == 0  # type: ignore[arg-type]


@WHOLE_SHAPE
def test_error_modified_changes_the_error(kind: Kind, shape: Shape) -> None:
    """Another exception is raised in its place; a text is added to it as a note."""
    bench = Bench(kind, shape, fail=9)
    Hook.register(ERROR[kind], answering(Modified({"error": "a note"})), name="a")
    Hook.register(ERROR[kind], answering(None, Modified({"error": KeyError("other")})), name="b")
    with pytest.raises(TroubleError) as caught:
        bench.run()
    assert caught.value.__notes__ == ["a note"]
    with pytest.raises(KeyError, match="other"):
        bench.run()


@WHOLE_SHAPE
def test_error_cancel_has_the_error_as_its_cause(kind: Kind, shape: Shape) -> None:
    """The refusal says what it came of."""
    bench = Bench(kind, shape, fail=9)
    Hook.register(ERROR[kind], answering(Cancel("enough")))
    with pytest.raises(OperationCancelled, match="enough") as caught:
        bench.run()
    assert isinstance(caught.value.__cause__, TroubleError)


@WHOLE_SHAPE
def test_error_redirect_is_a_fallback(kind: Kind, shape: Shape) -> None:
    """The target's output is taken."""
    bench = Bench(kind, shape, fail=9)
    Hook.register(ERROR[kind], answering(Redirect("other")))
    assert bench.run() == "other ab"


@WHOLE_SHAPE
def test_error_replace_recovers(kind: Kind, shape: Shape) -> None:
    """The value is the output, and is not put into a cache."""
    bench = Bench(kind, shape, fail=9)
    Hook.register(BEFORE[kind], answering(Cache(key="k")))
    Hook.register(ERROR[kind], answering(Replace("value")))
    assert bench.run() == "value"
    assert len(conditions.store) == 0  # type: ignore[arg-type]


@WHOLE_SHAPE
def test_error_retry_calls_until_it_succeeds(kind: Kind, shape: Shape) -> None:
    """Failing twice, then well, is three calls."""
    bench = Bench(kind, shape, fail=2)
    hook = answering(*[Retry(delay=0, max_attempts=5)] * 9)
    Hook.register(ERROR[kind], hook)
    assert bench.run() == "abab"
    assert len(bench.calls) == 3
    assert len(hook.contexts) == 2


@WHOLE_SHAPE
def test_error_retry_ends_at_its_ceiling(kind: Kind, shape: Shape) -> None:
    """Then the last error is raised."""
    bench = Bench(kind, shape, fail=9)
    Hook.register(ERROR[kind], answering(*[Retry(delay=0, max_attempts=3)] * 9))
    with pytest.raises(TroubleError):
        bench.run()
    assert len(bench.calls) == 3


@WHOLE_SHAPE
def test_error_fork_runs_branches(kind: Kind, shape: Shape) -> None:
    """The error is raised after they have ended."""
    bench = Bench(kind, shape, fail=9)
    ran: list[int] = []
    Hook.register(ERROR[kind], answering(Fork([lambda: ran.append(1)])))
    with pytest.raises(TroubleError):
        bench.run()
    assert ran == [1]
