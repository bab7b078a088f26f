"""What a built-in hook remembers of each operation, for as long as the operation lives."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, Generic, TypeVar
from weakref import WeakKeyDictionary

from llmspell_otel.events import default_bus, make
from llmspell_otel.guard import guard
from llmspell_otel.hooks.context import HookContext

_State = TypeVar("_State")
_Found = TypeVar("_Found")


class PerOperation(Generic[_State]):
    """One value for each operation; it goes when the operation does."""

    def __init__(self) -> None:
        self._states: WeakKeyDictionary[Any, _State] = WeakKeyDictionary()

    def get(self, context: HookContext) -> _State | None:
        """What is remembered of the operation of *context*."""
        return None if context.operation is None else self._states.get(context.operation)

    def set(self, context: HookContext, state: _State) -> None:
        """Remember *state*; nothing, where no operation is under way."""
        if context.operation is not None:
            self._states[context.operation] = state

    def pop(self, context: HookContext) -> _State | None:
        """Forget, and give what was remembered."""
        return None if context.operation is None else self._states.pop(context.operation, None)


def in_event_loop() -> bool:
    """Whether blocking here would block an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def offloaded(
    blocking: Callable[[], _Found], then: Callable[[_Found], Any]
) -> Any | Coroutine[Any, Any, Any]:
    """What *then* makes of *blocking*; below an event loop a coroutine that does it in a thread."""
    return _in_thread(blocking, then) if in_event_loop() else then(blocking())


async def _in_thread(blocking: Callable[[], _Found], then: Callable[[_Found], Any]) -> Any:
    return then(await asyncio.to_thread(blocking))


def publish(event_type: str, context: HookContext, data: dict[str, Any]) -> None:
    """Publish an event about the operation of *context*, if anybody listens."""
    bus = default_bus()
    if bus.wants(event_type):
        about = {"kind": context.component.type, "name": context.component.name}
        event = make(event_type, {**about, **data}, context.correlation_id, context.traceparent)
        guard.contained("publishing an event", bus.publish, event)


_DEPTH: Final = 32


def characters_in(value: Any, depth: int = _DEPTH) -> int:
    """How many characters the texts in *value* have."""
    if isinstance(value, str):
        return len(value)
    if depth == 0:
        return 0
    if isinstance(value, Mapping):
        return sum(characters_in(each, depth - 1) for each in tuple(value.values()))
    if isinstance(value, (list, tuple)):
        return sum(characters_in(each, depth - 1) for each in value)
    return 0
