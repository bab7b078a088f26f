"""The order of the hooks of one point: by priority, then as `before` and `after` ask for."""

import heapq
from collections.abc import Iterator, Sequence
from graphlib import CycleError, TopologicalSorter

from llmspell_otel.errors import HookError
from llmspell_otel.hooks.registration import Registration
from llmspell_otel.points import HookPoint


def arranged(hooks: Sequence[Registration], point: HookPoint) -> tuple[Registration, ...]:
    """*hooks*, already by priority, in the order that their `before` and `after` ask for.

    Raises:
        HookError: it goes round in a circle.
    """
    earlier = _wishes_of(hooks)
    try:
        rough = tuple(TopologicalSorter(earlier).static_order())
    except CycleError as error:
        circle = " -> ".join(hooks[index].name for index in error.args[1])
        raise HookError(
            f"the hooks of {point} cannot be put in order, `before` and `after` go round:"
            f" {circle}; take one of them back"
        ) from None
    # A hook with a wish moves next to whom it names; everybody else stays where he is.
    place = list(range(len(hooks)))
    for index in reversed(rough):
        for other in earlier[index]:
            if hooks[index].name in hooks[other].before:
                place[other] = min(place[other], place[index])
    for index in rough:
        if hooks[index].after:
            place[index] = max([place[index], *(place[other] for other in earlier[index])])
    sorter = TopologicalSorter(earlier)
    sorter.prepare()
    return tuple(hooks[index] for index in _first_ready_first(sorter, place))


def _wishes_of(hooks: Sequence[Registration]) -> dict[int, set[int]]:
    """Which hooks, by index, must come before each."""
    named: dict[str, list[int]] = {}
    for index, hook in enumerate(hooks):
        named.setdefault(hook.name, []).append(index)
    earlier: dict[int, set[int]] = {index: set() for index in range(len(hooks))}
    for index, hook in enumerate(hooks):
        for name in hook.after:
            earlier[index].update(named.get(name, ()))
        for name in hook.before:
            for other in named.get(name, ()):
                earlier[other].add(index)
    return earlier


def _first_ready_first(sorter: "TopologicalSorter[int]", place: Sequence[int]) -> Iterator[int]:
    ready = [(place[index], index) for index in sorter.get_ready()]
    heapq.heapify(ready)
    while ready:
        _, index = heapq.heappop(ready)
        yield index
        sorter.done(index)
        for freed in sorter.get_ready():
            heapq.heappush(ready, (place[freed], freed))
