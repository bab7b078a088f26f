"""A fork in the middle of things: the child neither hangs nor waits for the parent's threads."""

import os
import threading
import time
from collections.abc import Callable

import pytest

from llmspell_otel.hooks import delays
from llmspell_otel.hooks.breaker import Breaker, BreakerState
from llmspell_otel.hooks.budget import OverheadBudget
from llmspell_otel.hooks.composite import parallel
from llmspell_otel.hooks.context import HookContext
from llmspell_otel.hooks.results import Cancel
from tests.hooks.composite_bench import a_context, says

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def in_a_fork(work: Callable[[], bool]) -> bool:
    """Whether *work* succeeds in a forked child, within ten seconds."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.005)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return False


def test_locks_held_during_a_fork_do_not_hang_the_child() -> None:
    """A fork while another thread holds a lock leaves the child's breaker and budget usable."""
    breaker, budget = Breaker(), OverheadBudget()
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with breaker._lock, budget._lock, breaker._changes._telling:
            held.set()
            let_go.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)

    def work() -> bool:
        breaker.trip("test")
        budget.observe(1, 1)
        return breaker.state is BreakerState.OPEN and budget.observations == 1

    try:
        assert in_a_fork(work)
    finally:
        let_go.set()
        thread.join(10)


def test_a_hook_left_behind_in_the_parent_is_asked_in_the_child() -> None:
    """Threads do not survive a fork: what hangs in the parent does not count in the child."""
    let_go = threading.Event()

    def hangs_once(context: HookContext) -> object:
        let_go.wait(30)
        return Cancel("asked")

    composite = parallel(hangs_once, says(None), timeout=0.05)
    composite(a_context())
    assert composite.left_behind == 1

    def work() -> bool:
        let_go.set()
        return composite(a_context()) == Cancel("asked")

    try:
        assert in_a_fork(work)
        assert composite.left_behind == 1
    finally:
        let_go.set()
        while composite.left_behind:
            time.sleep(0.002)


def test_what_a_thread_waited_before_a_fork_is_not_known_in_the_child() -> None:
    """Its books begin anew with the child's processor time."""
    delays.take(time.perf_counter())

    def work() -> bool:
        return 0 <= delays.foreign(time.perf_counter()) < 5

    assert in_a_fork(work)
