"""See and steer every call of your AI agents.

``instrument()`` weaves the adapters into the libraries that are there; hooks registered with
`Hook` then act on every call, and OpenTelemetry shows them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

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

# Where each public name lives: nothing is imported before it is used.
_HOMES: Final = {
    "errors": ("LlmspellError", "OperationCancelled"),
    "events": ("Event", "UniversalEvent"),
    "hooks": (
        "Cache",
        "Cancel",
        "Component",
        "Continue",
        "Fork",
        "Hook",
        "HookContext",
        "Modified",
        "Redirect",
        "Replace",
        "Result",
        "Retry",
        "Skipped",
    ),
    "operations": ("agent", "stage", "tool", "workflow"),
    "operations.lifecycle": ("AgentLifecycle", "AsyncAgentLifecycle"),
    "runtime": ("configure", "instrument", "uninstrument"),
    "sessions": ("session",),
    "state": ("State",),
}
_HOME_OF: Final = {name: home for home, names in _HOMES.items() for name in names}

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


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
