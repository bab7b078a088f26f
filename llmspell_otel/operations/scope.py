"""What is current while something of an operation runs."""

from opentelemetry import context as context_api
from opentelemetry.context import Context

from llmspell_otel.operations.operation import Operation, current


class Scope:
    """Makes an operation current for the length of a ``with``; never held across a yield.

    Leaving restores by value, not by token: a coroutine that nobody awaited to its end is
    closed by the collector, in a context that its tokens are not valid in.
    """

    __slots__ = ("_above", "_operation", "_outer")

    def __init__(self, operation: Operation) -> None:
        self._operation = operation
        self._above: Operation | None = None
        self._outer: Context | None = None

    def __enter__(self) -> None:
        operation = self._operation
        self._above = current.get()
        current.set(operation)
        if operation.context is not None:
            outer = context_api.attach(operation.context).old_value
            self._outer = outer if isinstance(outer, Context) else Context()

    def __exit__(self, *_: object) -> None:
        if current.get() is self._operation:
            current.set(self._above)
        if self._outer is not None and context_api.get_current() is self._operation.context:
            context_api.attach(self._outer)
