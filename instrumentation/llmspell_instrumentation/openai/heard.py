"""Answers' headers, noted for the operation under way: the SDK parses bodies and drops them.

Every request passes `_process_response`, of 2.x and of 3.x, once, with its last HTTP response:
plain, parsed, raw and streamed ones alike.
"""

from typing import Any

from llmspell_otel.guard import guard
from llmspell_otel.operations.call import Call


def heard(_aspect: Any, call: Call) -> Any:
    """Note the headers, and let the SDK go on."""
    response = call.kwargs.get("response")
    headers = getattr(response, "headers", None)
    if headers is not None:
        from llmspell_otel.operations.answered import note_headers

        guard.contained("reading the headers of an answer", note_headers, headers)
    return call.proceed()
