"""Holding every hook to its share of the time of the operations it watches."""

import logging
from typing import TYPE_CHECKING, Final

from llmspell_otel.hooks.budget import OverheadBudget
from llmspell_otel.hooks.slots import Registration

if TYPE_CHECKING:
    from llmspell_otel.operations.operation import Operation

_logger = logging.getLogger("llmspell_otel.hooks")

SAMPLED: Final = 7
"""A mask: one operation in eight is weighed, chosen by its random span id."""


def weigh(operation: "Operation", elapsed: int) -> None:
    """Note what each hook took of an *operation* that took *elapsed* nanoseconds.

    A hook that is asked alone is weighed by its firing. Several at one point are weighed by what
    each took when it was last timed by itself; the next firing times them again.
    """
    for firing in operation.firings:
        hooks = firing.slot.hooks
        if len(hooks) == 1:
            _weigh(hooks[0], firing.elapsed, elapsed)
            continue
        for hook in hooks:
            if hook.took:
                _weigh(hook, hook.took, elapsed)
        firing.slot.watch = max(1, firing.slot.watch)


def _weigh(hook: Registration, took: int, elapsed: int) -> None:
    budget = hook.budget
    if budget is None:
        budget = hook.budget = OverheadBudget()
    if not budget.observe(took, elapsed):
        return
    reason = (
        f"takes {budget.share:.1%} of the time it watches, more than {float(budget.budget):.0%}"
    )
    budget.reset()
    if hook.on_failure == "cancel":
        # An agent is not to be shut down because its guard is slow: it is only told of.
        _logger.warning("hook %r %s", hook.name, reason)
    else:
        hook.breaker.trip(reason)
