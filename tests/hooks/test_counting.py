"""Every call is counted, whichever way a firing takes; and its time begins with its context."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from llmspell_otel.hooks import Cancel, Component, Hook, HookContext, Registration
from llmspell_otel.hooks.breaker import BreakerProfile, BreakerState
from llmspell_otel.hooks.engine import fire
from llmspell_otel.hooks.registry import registry
from llmspell_otel.hooks.slots import Slot

POINT = "custom:counted"
QUICK = BreakerProfile(
    failure_threshold=1, success_threshold=1, open_duration=0.5, slow_call_duration=60
)


class Counting:
    """A hook that counts its own calls, and does as it is told."""

    def __init__(self, **options: Any) -> None:
        self.asked = 0
        self.answer: Any = None
        self.handle: Registration = Hook.register(
            POINT, self, breaker=options.pop("breaker", QUICK), **options
        )

    def __call__(self, context: HookContext) -> Any:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def slot() -> Iterator[Slot]:
    """The point's slot."""
    yield registry.slot(POINT)
    registry.clear()


def asked(slot: Slot) -> Any:
    """Fire once."""
    return fire(slot, HookContext(slot.point, Component("custom", "counted"), {}))


@pytest.mark.parametrize("beside", [0, 1, 3])
def test_calls_are_exact_while_a_breaker_opens_and_closes(slot: Slot, beside: int) -> None:
    """Left out, probed, called again: the count is that of the calls, for the others too."""
    hook, others = Counting(), [Counting() for _ in range(beside)]
    hook.answer = ValueError("not now")
    asked(slot)
    hook.answer = None
    assert hook.handle.breaker.state is BreakerState.OPEN
    for _ in range(5):
        asked(slot)
    assert hook.asked == hook.handle.calls == 1
    time.sleep(0.51)
    for _ in range(5):
        asked(slot)
    assert hook.asked == hook.handle.calls == 6
    assert [each.handle.calls for each in others] == [each.asked for each in others]
    assert all(each.asked == 11 for each in others)


def test_calls_are_exact_while_hooks_are_timed_one_by_one(slot: Slot) -> None:
    """A firing that is watched counts as one that is not."""
    hooks = [Counting() for _ in range(3)]
    for watched in (0, 2, 1, 0):
        slot.watch = watched
        for _ in range(4):
            asked(slot)
    assert [each.handle.calls for each in hooks] == [each.asked for each in hooks] == [16] * 3


@pytest.mark.parametrize("watched", [0, 1])
def test_those_that_a_verdict_passes_over_are_not_counted(slot: Slot, watched: int) -> None:
    """Neither by a plain firing nor by a watched one."""
    hooks = [Counting() for _ in range(3)]
    hooks[1].answer = Cancel("enough")
    slot.watch = watched
    assert asked(slot).result == Cancel("enough")
    assert [each.handle.calls for each in hooks] == [each.asked for each in hooks] == [1, 1, 0]


def test_a_hook_taken_out_while_it_is_asked_keeps_its_count(slot: Slot) -> None:
    """The firing under way counts for it, and the next one does not."""
    hook = Counting()
    leaving = Hook.register(POINT, lambda context: leaving.unregister() and None)
    for _ in range(3):
        asked(slot)
    assert (leaving.calls, hook.handle.calls, hook.asked) == (1, 3, 3)


def test_the_time_of_a_firing_begins_with_its_context(slot: Slot) -> None:
    """One clock is read instead of two; its wall-clock form stays the same once it is read."""
    context = HookContext(slot.point, Component("custom", "counted"), {})
    now, told = time.time_ns(), context.timestamp
    assert 0 <= now - told < 1_000_000_000
    hook = Counting(breaker=BreakerProfile(slow_call_threshold=1, slow_call_duration=0.02))
    fire(slot, context)
    fire(slot, context)
    assert context.timestamp == told
    assert hook.handle.breaker.passing
