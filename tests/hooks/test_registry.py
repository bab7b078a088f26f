"""Registering hooks: order, handles, filters, bulk, and the books."""

import gc
import threading
import time
import weakref
from functools import partial
from typing import Any

import pytest

from llmspell_otel.errors import HookError, HookSignatureError, UnknownHookPointError
from llmspell_otel.hooks import Hook, HookOptions
from llmspell_otel.hooks.breaker import BreakerProfile
from llmspell_otel.hooks.registry import Registry
from llmspell_otel.hooks.registry import registry as the_registry

POINT = "custom:here"


def asked(point: str = POINT) -> list[str]:
    """Who is asked at *point*, in order."""
    data: dict[str, Any] = {"asked": []}
    Hook.fire(point, data)
    return data["asked"]


def saying(name: str) -> Any:
    """A hook that notes that it was asked."""
    return lambda context: context.data["asked"].append(name)


@pytest.mark.parametrize("point", ["BeforeToolExecution", "tool:before_execution"])
def test_both_spellings_name_one_point(point: str) -> None:
    """Whichever spelling is used, the hook stands at the same point."""
    handle = Hook.register(point, lambda context: None)
    assert handle.point is not None
    assert handle.point.name == "BeforeToolExecution"
    assert Hook.list("tool:before_execution") == Hook.list("BeforeToolExecution") == [handle]


def test_an_unknown_point_is_refused_with_the_nearest_name() -> None:
    """A misspelt point is an error that says what was meant."""
    with pytest.raises(UnknownHookPointError, match="'tool:before_execution'"):
        Hook.register("tool:before_exection", lambda context: None)


def test_lower_numbers_run_first_and_ties_in_order_of_registration() -> None:
    """Priorities are numbers or names, and the order is stable."""
    for name, priority in (("d", "low"), ("b", 0), ("a", "highest"), ("c", "normal"), ("e", 101)):
        Hook.register(POINT, saying(name), priority=priority)
    assert asked() == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(
    "option",
    [
        {"priority": "urgent"},
        {"priority": None},
        {"on_failure": "explode"},
        {"timeout": 0},
        {"timeout": "soon"},
        {"tags": "one"},
        {"before": "one"},
        {"breaker": "fast"},
    ],
    ids=str,
)
def test_an_unusable_option_is_one_clear_error(option: dict[str, Any]) -> None:
    """A wrong option is told at registration, and nothing is registered."""
    with pytest.raises(HookError, match=f"{next(iter(option))}"):
        Hook.register(POINT, lambda context: None, **option)
    assert Hook.list() == []


@pytest.mark.parametrize(
    "wrong",
    [None, 3, lambda: None, lambda a, b: None, lambda *, context: None],
    ids=["none", "number", "takes nothing", "takes two", "takes a keyword"],
)
def test_what_cannot_be_called_with_a_context_is_refused(wrong: Any) -> None:
    """The signature is checked when it can still be mended."""
    with pytest.raises(HookSignatureError, match=r"def .*context"):
        Hook.register(POINT, wrong)


def test_every_sort_of_callable_can_be_a_hook() -> None:
    """Methods, partials, builtins, unhashable objects."""

    class Unhashable:
        __hash__ = None  # type: ignore[assignment]

        def __call__(self, context: Any) -> None:
            context.data["asked"].append("object")

        def method(self, context: Any) -> None:
            context.data["asked"].append("method")

    def named(name: str, context: Any) -> None:
        context.data["asked"].append(name)

    Hook.register(POINT, Unhashable())
    Hook.register(POINT, Unhashable().method)
    handle = Hook.register(POINT, partial(named, "partial"))
    assert asked() == ["object", "method", "partial"]
    assert handle.name == "named"


def test_a_hook_is_kept_without_its_handle_and_let_go_with_its_registration() -> None:
    """Nobody has to hold a bound method's object; after unregistering nothing of ours does."""

    class Watcher:
        def look(self, context: Any) -> None:
            context.data["asked"].append("looked")

    watcher = Watcher()
    gone = weakref.ref(watcher)
    Hook.register(POINT, watcher.look)
    del watcher
    gc.collect()
    assert asked() == ["looked"]
    the_registry.clear()
    gc.collect()
    assert gone() is None


def test_unregistering_is_done_once_and_the_hook_is_called_no_more() -> None:
    """The handle says whether it was this call that took the hook out."""
    handle = Hook.register(POINT, saying("a"))
    assert asked() == ["a"]
    assert (handle.unregister(), handle.unregister(), Hook.unregister(handle)) == (
        True,
        False,
        False,
    )
    assert asked() == []
    assert Hook.list() == []
    assert handle.calls == 1
    assert handle.point is None


def test_a_firing_under_way_ends_with_the_hooks_it_began_with() -> None:
    """Changes made by hooks count from the next firing."""

    def change(context: Any) -> None:
        context.data["asked"].append("change")
        later.unregister()
        me.unregister()
        Hook.register(POINT, saying("new"))

    me = Hook.register(POINT, change)
    later = Hook.register(POINT, saying("later"))
    assert asked() == ["change", "later"]
    assert asked() == ["new"]


def test_a_disabled_hook_is_not_called_and_keeps_its_place() -> None:
    """Switching off is not forgetting."""
    first = Hook.register(POINT, saying("first"))
    Hook.register(POINT, saying("second"))
    first.disable()
    assert asked() == ["second"]
    first.enable()
    assert asked() == ["first", "second"]
    assert first.calls == 1


def test_the_only_hook_of_a_point_can_be_switched_off_and_on() -> None:
    """A point whose hooks are all off is as good as empty, and wakes up again."""
    hook = Hook.register(POINT, saying("only"))
    hook.disable()
    assert asked() == []
    assert the_registry.slot(POINT).hooks == ()
    hook.enable()
    assert asked() == ["only"]


def test_lists_are_filtered_by_point_priority_language_and_tag() -> None:
    """Every given filter must fit."""
    one = Hook.register(POINT, saying("one"), tags=("safety", "cost"), priority="high")
    two = the_registry.register(POINT, saying("two"), HookOptions(language="Lua"))
    assert Hook.list(tag="safety") == [one]
    assert Hook.list(priority="high") == Hook.list(priority=-100) == [one]
    assert Hook.list(language="LUA") == [two]
    assert Hook.list(POINT) == [one, two]
    assert Hook.list("tool:error") == []


def test_bulk_registration_is_all_or_nothing() -> None:
    """One unusable row, and none is registered."""
    rows = [(POINT, saying("a"), HookOptions()), (POINT, saying("b"), HookOptions(priority=-1))]
    with pytest.raises(HookSignatureError):
        the_registry.register_all([*rows, (POINT, lambda: None, HookOptions())])
    circle = [
        ("custom:there", saying("c"), HookOptions()),
        (POINT, saying("x"), HookOptions(name="x", before=["y"])),
        (POINT, saying("y"), HookOptions(name="y", before=["x"])),
    ]
    with pytest.raises(HookError, match=r"x -> y -> x|y -> x -> y"):
        the_registry.register_all([*rows, *circle])
    assert Hook.list() == []
    assert len(the_registry.register_all(rows)) == 2
    assert asked() == ["b", "a"]


def test_before_and_after_outrank_priorities() -> None:
    """A hook that names others stands where it asked to; the rest keep their order."""
    Hook.register(POINT, saying("a"), name="a", priority="high")
    Hook.register(POINT, saying("b"), name="b")
    Hook.register(POINT, saying("late"), name="late", priority="highest", after=["b", "unheard"])
    Hook.register(POINT, saying("early"), name="early", priority="lowest", before=["a"])
    assert asked() == ["early", "a", "b", "late"]


def test_a_circle_of_before_and_after_is_refused_and_named() -> None:
    """The error names the hooks that wait for each other; what stood there stands."""
    Hook.register(POINT, saying("a"), name="a", after=["b"])
    Hook.register(POINT, saying("c"), name="c", after=["a"])
    with pytest.raises(HookError, match="go round"):
        Hook.register(POINT, saying("b"), name="b", after=["c"])
    assert asked() == ["a", "c"]


def test_the_books_count_calls_and_failures() -> None:
    """Calls are exact, hooks that were not reached are not counted."""

    def fail(context: Any) -> None:
        raise ValueError

    never = BreakerProfile(failure_threshold=1000)
    good = Hook.register(POINT, lambda context: None)
    bad = Hook.register(POINT, fail, breaker=never)
    stop = Hook.register(POINT, lambda context: "cancel" if context.data.get("stop") else None)
    last = Hook.register(POINT, lambda context: None)
    for turn in range(10):
        Hook.fire(POINT, {"stop": turn % 2})
    assert (good.calls, bad.calls, stop.calls, last.calls) == (10, 10, 10, 5)
    stats = the_registry.stats()
    assert (stats.hooks, stats.enabled, stats.calls, stats.failures) == (4, 4, 35, 10)
    assert stats.by_point == {POINT: 4}
    assert stats.by_language == {"python": 4}
    assert stats.by_breaker == {"closed": 4}


def test_the_books_are_kept_across_registrations_in_the_middle() -> None:
    """Hooks that come and go take nothing from the counts of the others."""
    one = Hook.register(POINT, lambda context: None)
    for turn in range(5):
        Hook.fire(POINT)
        other = Hook.register(POINT, lambda context: None)
        Hook.fire(POINT)
        if turn % 2:
            other.unregister()
            assert other.calls == 1
    assert one.calls == 10


def test_a_point_is_found_by_one_slot_in_all_threads() -> None:
    """Threads that meet at a new point share it."""
    registry_ = Registry()
    found: list[Any] = []
    barrier = threading.Barrier(8)

    def find() -> None:
        barrier.wait()
        found.append(registry_.slot("custom:new"))

    threads = [threading.Thread(target=find) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1


def test_registering_does_not_grow_with_the_number_of_hooks() -> None:
    """The last of 4,000 registrations cost about as much as the first."""

    def thousand() -> float:
        began = time.thread_time()
        for _ in range(1000):
            Hook.register(POINT, lambda context: None)
        return time.thread_time() - began

    first, *_, last = (thousand() for _ in range(4))
    assert last < 3 * first
    assert last / 1000 < 5e-4  # seconds, on a busy machine
