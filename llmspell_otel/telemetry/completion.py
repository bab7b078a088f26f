"""Completion hooks of other packages: given a call's content, to store it somewhere of their own.

The entry-point group and the keywords are those of `opentelemetry-util-genai`; messages are given
in their JSON form, lists of maps.
"""

import logging
import os
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any, Final

from opentelemetry.trace import Span

from llmspell_otel.guard import Guard
from llmspell_otel.telemetry import semconv

HOOK: Final = "OTEL_INSTRUMENTATION_GENAI_COMPLETION_HOOK"
GROUP: Final = "opentelemetry_genai_completion_hook"

_logger: Final = logging.getLogger(__name__)

Completion = Callable[[Mapping[str, Any], Span], None]
"""Takes the content attributes of a finished call, and its span."""


def completion_hook(guard: Guard, environ: Mapping[str, str] = os.environ) -> Completion | None:
    """The hook that *environ* names, contained by *guard*; None if it names none.

    A name that no installed package provides is warned of.
    """
    name = environ.get(HOOK, "").strip()
    if not name:
        return None
    try:
        found = list(entry_points(group=GROUP, name=name))
        if not found:
            _logger.warning("%s=%s names no installed completion hook", HOOK, name)
            return None
        hook = found[0].load()()
    except Exception as error:
        guard.report(f"loading the completion hook {name!r}", error)
        return None

    def complete(content: Mapping[str, Any], span: Span) -> None:
        try:
            hook.on_completion(
                inputs=content.get(semconv.INPUT_MESSAGES, []),
                outputs=content.get(semconv.OUTPUT_MESSAGES, []),
                system_instruction=content.get(semconv.SYSTEM_INSTRUCTIONS, []),
                tool_definitions=content.get(semconv.TOOL_DEFINITIONS, []),
                span=span,
                log_record=None,
            )
        except Exception as error:
            guard.report(f"the completion hook {name!r}", error)

    return complete
