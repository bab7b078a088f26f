"""Operations: calls in flight, and what hooks do to them."""

from typing import TYPE_CHECKING

from llmspell_otel.lazy import rooms

if TYPE_CHECKING:
    from llmspell_otel.operations.call import Attributes, Call, Codec, Fold, Held, Kind, Shape
    from llmspell_otel.operations.decorators import shape_of
    from llmspell_otel.operations.drivers import invoke
    from llmspell_otel.operations.marks import agent, stage, tool, workflow
    from llmspell_otel.operations.operation import Aspect, Operation, current

__all__ = [
    "Aspect",
    "Attributes",
    "Call",
    "Codec",
    "Fold",
    "Held",
    "Kind",
    "Operation",
    "Shape",
    "agent",
    "current",
    "invoke",
    "shape_of",
    "stage",
    "tool",
    "workflow",
]

__getattr__ = rooms(
    __name__,
    {
        "call": (
            "Attributes",
            "Call",
            "Codec",
            "Fold",
            "Held",
            "Kind",
            "Shape",
        ),
        "decorators": ("shape_of",),
        "drivers": ("invoke",),
        "marks": ("agent", "stage", "tool", "workflow"),
        "operation": (
            "Aspect",
            "Operation",
            "current",
        ),
    },
)
