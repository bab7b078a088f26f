"""What a server said of its limits beside its answer, by operation: SDKs parse that away."""

from collections.abc import Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

from llmspell_otel.operations.operation import current

_TOLD: Final = ("ratelimit", "rate-limit", "retry-after", "request-id")
"""Parts of the names of headers that are kept. Cookies and the like are nobody's business."""
_headers: Final[WeakKeyDictionary[Any, Mapping[str, str]]] = WeakKeyDictionary()


def note_headers(headers: Mapping[str, str]) -> None:
    """Keep of an answer's *headers* what tells of limits, for the operation that is current."""
    operation = current.get()
    if operation is not None:
        named = {key.lower(): value for key, value in headers.items()}
        _headers[operation] = {
            key: value for key, value in named.items() if any(part in key for part in _TOLD)
        }


def headers_of(operation: object) -> Mapping[str, str]:
    """What was kept of the latest answer to *operation*, names in lower case; may be empty."""
    return _headers.get(operation, {}) if operation is not None else {}
