"""Composites as registered hooks: the engine takes them for what they are."""

from collections.abc import Iterator
from typing import Any

import pytest

from llmspell_otel.hooks import CONTINUE, Cancel, Hook, Modified, Registration, Retry
from llmspell_otel.hooks.breaker import BreakerState
from llmspell_otel.hooks.composite import parallel, sequential, voting
from tests.hooks.composite_bench import fails, fails_async, says, says_async

POINT = "custom:composites"


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    """Leave the point as empty as it was."""
    yield
    for hook in Hook.list(POINT):
        hook.unregister()


def fired(**arguments: Any) -> tuple[Any, dict[str, Any]]:
    """What firing the point decides, and the data afterwards."""
    data: dict[str, Any] = {"input": arguments}
    return Hook.fire(POINT, data), data


@pytest.mark.parametrize("speaks", [says, says_async], ids=["sync", "async"])
def test_a_registered_composite_decides_and_modifies(speaks: Any) -> None:
    """Its modification is applied before its decision, as those of plain hooks are."""
    chain = sequential(speaks(Modified({"input": {"limit": 5}})), speaks(Retry(delay=0)))
    handle = Hook.register(POINT, chain, name="chain")
    assert fired(query="cats") == (Retry(delay=0), {"input": {"query": "cats", "limit": 5}})
    assert handle.calls == 1


@pytest.mark.parametrize("broken", [fails, fails_async])
def test_a_composite_can_fail_closed(broken: Any) -> None:
    """Registered fail-closed, a failing child stops the call only if it was told to raise."""
    lenient = sequential(broken, says(None))
    strict = sequential(broken, says(None), on_child_failure="raise")
    handle = Hook.register(POINT, lenient, on_failure="cancel")
    assert fired()[0] == CONTINUE
    handle.unregister()
    Hook.register(POINT, strict, on_failure="cancel", name="guard")
    verdict, _ = fired()
    assert isinstance(verdict, Cancel)
    assert "guard" in verdict.reason


def test_a_composite_that_keeps_failing_opens_its_breaker() -> None:
    """Its one breaker stands for all its children."""
    handle: Registration = Hook.register(POINT, voting(fails, fails))
    for _ in range(10):
        assert fired()[0] == CONTINUE
    assert handle.breaker.state is BreakerState.OPEN
    assert handle.breaker.stats.total_failures == 3


def test_a_failing_child_does_not_open_the_breaker_of_all() -> None:
    """As long as others answer, the composite is a working hook."""
    composite = parallel(fails, says(Cancel("no")))
    handle = Hook.register(POINT, composite)
    for _ in range(10):
        assert fired()[0] == Cancel("no")
    assert handle.breaker.stats.total_failures == 0
    assert composite.errors == 10
