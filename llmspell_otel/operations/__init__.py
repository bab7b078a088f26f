"""Operations: calls in flight, and what hooks do to them."""

from llmspell_otel.operations.call import Attributes, Call, Codec, Fold, Held, Kind, Shape
from llmspell_otel.operations.decisions import connect
from llmspell_otel.operations.decorators import agent, shape_of, stage, tool, workflow
from llmspell_otel.operations.drivers import invoke
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

connect()
