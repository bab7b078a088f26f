"""What the codecs of all OpenAI endpoints have in common."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from opentelemetry.util.types import AttributeValue

from llmspell_instrumentation.openai import client
from llmspell_instrumentation.openai.whole import Whole, WholeFold
from llmspell_instrumentation.reading import number, text
from llmspell_otel.operations.call import Call, Codec, Fold
from llmspell_otel.telemetry import semconv

_TRANSPORT = frozenset({"extra_headers", "extra_query"})
"""Arguments that steer the request, not the model, and may hold secrets: hooks do not see them."""

MODEL_CALL = "model call"
"""One model call however many libraries it passes: a framework's model class, then an SDK."""

_UNSET = frozenset({"Omit", "NotGiven"})

Reader = Callable[[Any], Any]


def given(value: Any) -> bool:
    """Whether an argument was given: neither None nor one of the SDK's "not given" sentinels."""
    return value is not None and type(value).__name__ not in _UNSET


def words(value: Any) -> list[str] | None:
    """A text or a sequence of texts as a list."""
    if isinstance(value, str):
        return [value]
    return [str(item) for item in value] if isinstance(value, (list, tuple)) else None


class OpenAICodec(Codec):
    """A keyword-only SDK method that takes a `model`."""

    operation: ClassVar[str]
    arguments: ClassVar[tuple[tuple[str, str, Reader], ...]] = ()
    """Rows of argument, attribute, and what makes the one the other."""

    def name(self, call: Call) -> str:
        """The model that was asked for."""
        return text(call.kwargs.get("model")) or self.operation

    def identity(self, call: Call) -> object:
        """A call below another model call is the same call."""
        del call
        return MODEL_CALL

    def input(self, call: Call) -> dict[str, Any]:
        """The arguments given, without transport details."""
        return {
            name: value
            for name, value in call.kwargs.items()
            if name not in _TRANSPORT and given(value)
        }

    def with_input(self, call: Call, given: Mapping[str, Any]) -> Call:
        """The *call* with its arguments replaced by *given*, transport details kept."""
        kept = {name: value for name, value in call.kwargs.items() if name in _TRANSPORT}
        return replace(call, kwargs={**kept, **given})

    def request(self, call: Call) -> dict[str, AttributeValue]:
        """The model, the peer and the parameters."""
        arguments = call.kwargs
        attributes: dict[str, AttributeValue] = {semconv.OPERATION_NAME: self.operation}
        attributes.update(client.peer(call))
        for argument, attribute, read in self.arguments:
            if argument in arguments:
                value = read(arguments[argument])
                if value is not None:
                    attributes[attribute] = value
        return attributes

    def streams(self, call: Call, result: Any) -> bool:
        """Whether *result* is one of the SDK's streams, or a body yet to be read."""
        if call.kwargs.get("stream"):
            return hasattr(result, "_iterator")
        return isinstance(result, Whole)

    def fold(self, call: Call) -> Fold:
        """Adds up the chunks of a stream into a response."""
        return self.stream_fold(call) if call.kwargs.get("stream") else WholeFold()

    def stream_fold(self, call: Call) -> Fold:
        """A fresh fold for the events of this endpoint."""
        return super().fold(call)

    def redirect(self, call: Call, target: str) -> Call:
        """The same call to another model."""
        return call.with_arguments(model=target)

    def error_type(self, error: BaseException) -> str | None:
        """The provider's error code or HTTP status."""
        return client.error_type(error)


MODEL_ARGUMENTS: tuple[tuple[str, str, Reader], ...] = (
    ("model", semconv.REQUEST_MODEL, text),
    ("temperature", semconv.REQUEST_TEMPERATURE, number),
    ("top_p", semconv.REQUEST_TOP_P, number),
    ("stream", semconv.REQUEST_STREAM, lambda value: True if value is True else None),
    (
        "service_tier",
        semconv.OPENAI_REQUEST_SERVICE_TIER,
        lambda value: None if value == "auto" else text(value),
    ),
)
"""The arguments that the chat and responses endpoints share."""
