"""What is current while something of an operation runs."""

from opentelemetry.context import Context

from llmspell_otel.operations.operation import Operation, current
from llmspell_otel.operations.present import present

# Bound once: this runs in every call, and for every chunk of a stream.
_operation, _become = current.get, current.set
_context, _attach = present.get, present.set


class Scope:
    """Makes an operation current for the length of a ``with``; never held across a yield.

    Leaving restores by value, not by token: a coroutine that nobody awaited to its end is
    closed by the collector, in a context that its tokens are not valid in.
    """

    __slots__ = ("_above", "_operation", "_outer")
    _above: Operation | None
    _outer: Context | None

    def __init__(self, operation: Operation) -> None:
        self._operation = operation

    def __enter__(self) -> None:
        operation = self._operation
        self._above = _operation()
        _become(operation)
        self._outer = None
        if operation.context is not None:
            self._outer = _context()
            _attach(operation.context)

    def __exit__(self, *_: object) -> None:
        operation = self._operation
        if _operation() is operation:
            _become(self._above)
        if self._outer is not None and _context() is operation.context:
            _attach(self._outer)
