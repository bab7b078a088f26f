"""See and steer every call of your AI agents.

``instrument()`` weaves the adapters into the libraries that are there; hooks registered with
`Hook` then act on every call, and OpenTelemetry shows them.
"""

from typing import TYPE_CHECKING, Final

from llmspell_otel.lazy import rooms

if TYPE_CHECKING:
    from llmspell_otel.errors import LlmspellError, OperationCancelled
    from llmspell_otel.events import Event, UniversalEvent
    from llmspell_otel.hooks import (
        Cache,
        Cancel,
        Component,
        Continue,
        Fork,
        Hook,
        HookContext,
        Modified,
        Redirect,
        Replace,
        Result,
        Retry,
        Skipped,
    )
    from llmspell_otel.operations import agent, stage, tool, workflow
    from llmspell_otel.operations.lifecycle import AgentLifecycle, AsyncAgentLifecycle
    from llmspell_otel.runtime import configure, instrument, uninstrument
    from llmspell_otel.sessions import session
    from llmspell_otel.state import State

__version__: Final = "0.1.0"

__all__ = [
    "AgentLifecycle",
    "AsyncAgentLifecycle",
    "Cache",
    "Cancel",
    "Component",
    "Continue",
    "Event",
    "Fork",
    "Hook",
    "HookContext",
    "LlmspellError",
    "Modified",
    "OperationCancelled",
    "Redirect",
    "Replace",
    "Result",
    "Retry",
    "Skipped",
    "State",
    "UniversalEvent",
    "__version__",
    "agent",
    "configure",
    "instrument",
    "session",
    "stage",
    "tool",
    "uninstrument",
    "workflow",
]


__getattr__ = rooms(
    __name__,
    {
        "errors": ("LlmspellError", "OperationCancelled"),
        "events.api": ("Event",),
        "events.event": ("UniversalEvent",),
        "hooks.api": ("Hook",),
        "hooks.context": ("Component", "HookContext"),
        "hooks.results": (
            "Cache",
            "Cancel",
            "Continue",
            "Fork",
            "Modified",
            "Redirect",
            "Replace",
            "Result",
            "Retry",
            "Skipped",
        ),
        "operations.marks": ("agent", "stage", "tool", "workflow"),
        "operations.lifecycle": ("AgentLifecycle", "AsyncAgentLifecycle"),
        "runtime": ("configure", "instrument", "uninstrument"),
        "sessions": ("session",),
        "state": ("State",),
    },
)


def __dir__() -> list[str]:
    return sorted(__all__)
