"""Embeddings: `embeddings.create`."""

from typing import Any, ClassVar

from opentelemetry.util.types import AttributeValue

from llmspell_instrumentation.openai import native
from llmspell_instrumentation.openai.codec import OpenAICodec, Reader, words
from llmspell_instrumentation.reading import get, number, present, text
from llmspell_otel.operations.call import Call
from llmspell_otel.telemetry import semconv


class EmbeddingsCodec(OpenAICodec):
    """Reads and writes embeddings."""

    operation = semconv.Operation.EMBEDDINGS
    arguments: ClassVar[tuple[tuple[str, str, Reader], ...]] = (
        ("model", semconv.REQUEST_MODEL, text),
        ("dimensions", semconv.EMBEDDINGS_DIMENSION_COUNT, number),
        ("encoding_format", semconv.REQUEST_ENCODING_FORMATS, words),
    )

    def response(self, call: Call, result: Any) -> dict[str, AttributeValue]:
        """The served model, the tokens and the length of the vectors."""
        del call
        first = get((get(result, "data") or (None,))[0], "embedding")
        return present(
            {
                semconv.RESPONSE_MODEL: text(get(result, "model")),
                semconv.USAGE_INPUT_TOKENS: number(get(result, "usage", "prompt_tokens")),
                # Base64 vectors come as a text, whose length says nothing.
                semconv.EMBEDDINGS_DIMENSION_COUNT: len(first)
                if isinstance(first, (list, tuple))
                else None,
            }
        )

    def answer(self, call: Call, value: Any) -> Any:
        """*value* (a vector, several, a dict, a response) as a `CreateEmbeddingResponse`."""
        return native.embeddings(call, value)
