"""A shield before our scope's span processors: one that raises hurts neither host nor peers."""

from typing import Any, Final

from llmspell_otel.guard import Guard

_PARTS: Final = "_span_processors"


class ShieldedProcessors:
    """Calls each of a provider's span processors by itself, containing what it raises.

    The SDK's own fan-out stops at the first processor that raises, so that the ones behind it
    lose the span, and lets the exception through to whoever started or ended it.
    """

    def __init__(self, inner: Any, guard: Guard) -> None:
        self.inner = inner
        # The synchronous fan-out keeps its processors in a tuple that it replaces on every
        # addition; whatever keeps them otherwise (the concurrent one) is called as a whole.
        together = type(vars(inner).get(_PARTS)) is tuple
        self._state: dict[str, Any] = vars(inner) if together else {}
        self._whole = () if together else (inner,)
        self._guard = guard

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """Pass the start of *span* on."""
        for processor in self._state.get(_PARTS) or self._whole:
            try:
                processor.on_start(span, parent_context=parent_context)
            except Exception as error:
                self._guard.report(f"{type(processor).__name__}.on_start", error)

    def _on_ending(self, span: Any) -> None:
        for processor in self._state.get(_PARTS) or self._whole:
            try:
                processor._on_ending(span)  # noqa: SLF001 - the SDK calls it so
            except Exception as error:
                self._guard.report(f"{type(processor).__name__}._on_ending", error)

    def on_end(self, span: Any) -> None:
        """Pass the ended *span* on."""
        for processor in self._state.get(_PARTS) or self._whole:
            try:
                processor.on_end(span)
            except Exception as error:
                self._guard.report(f"{type(processor).__name__}.on_end", error)


def shield(tracer: Any, guard: Guard) -> None:
    """Put the shield before the span processors of *tracer*, if it has them in the open."""
    inner = getattr(tracer, "span_processor", None)
    if inner is None or isinstance(inner, ShieldedProcessors):
        return
    if callable(getattr(inner, "on_end", None)) and hasattr(inner, "__dict__"):
        tracer.span_processor = ShieldedProcessors(inner, guard)
