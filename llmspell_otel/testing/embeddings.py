"""The wire format of `/v1/embeddings`.

Source: https://platform.openai.com/docs/api-reference/embeddings
"""

import base64
import hashlib
import math
import struct
from typing import Any

from llmspell_otel.testing.request import Json, ModelRequest
from llmspell_otel.testing.script import Reply

_DIMENSIONS = 8


def complaint(request: ModelRequest) -> str | None:
    """What the API would find wrong with *request*, if anything."""
    return None if request.body.get("input") else "Missing required parameter: 'input'."


def body(request: ModelRequest, reply: Reply) -> Json:
    """The embeddings: the scripted vectors, else unit vectors made from each text's hash."""
    inputs = _inputs(request.body["input"])
    size = int(request.body.get("dimensions") or _DIMENSIONS)
    vectors = reply.vectors or tuple(_vector(str(each), size) for each in inputs)
    encode = _base64 if request.body.get("encoding_format") == "base64" else list
    tokens = reply.usage.input if reply.usage else sum(max(1, len(str(i)) // 4) for i in inputs)
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": encode(vector)}
            for index, vector in enumerate(vectors)
        ],
        "model": reply.model or request.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _inputs(given: Any) -> list[Any]:
    """One text, one list of token numbers, or a list of either."""
    one = isinstance(given, str) or isinstance(given[0], int)
    return [given] if one else list(given)


def _vector(text: str, size: int) -> tuple[float, ...]:
    digest = hashlib.shake_128(text.encode()).digest(size)
    raw = [byte - 127.5 for byte in digest]
    length = math.sqrt(sum(each * each for each in raw))
    return tuple(each / length for each in raw)


def _base64(vector: tuple[float, ...]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
