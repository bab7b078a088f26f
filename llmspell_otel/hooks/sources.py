"""Points that nobody fires until somebody asks: what fires them starts with the first hook."""

from importlib import import_module
from typing import TYPE_CHECKING, Final

from llmspell_otel.guard import guard

if TYPE_CHECKING:
    from llmspell_otel.hooks.slots import Slot

_EMISSION: Final = "llmspell_otel.hooks.emission"
_MONITOR: Final = "llmspell_otel.monitor"

SOURCES: Final = {
    "BeforeEventEmit": _EMISSION,
    "AfterEventEmit": _EMISSION,
    "EventHandlerError": _EMISSION,
    "PerformanceThresholdExceeded": _MONITOR,
    "MemoryUsageHigh": _MONITOR,
    "CpuUsageHigh": _MONITOR,
}
"""The modules that fire a point on demand. Each has a function ``hooks_changed()``."""

_started: Final[set[str]] = set()


def look_after(slot: "Slot") -> None:
    """Tell the source of *slot* that its hooks changed; import it with the first of them."""
    source = SOURCES[slot.point.name]
    if slot.hooks or source in _started:
        guard.contained(f"starting {source}", _tell, source)


def _tell(source: str) -> None:
    module = import_module(source)
    _started.add(source)
    module.hooks_changed()
