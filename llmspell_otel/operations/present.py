"""The present OpenTelemetry context, read and written as directly as its runtime allows."""

from contextvars import ContextVar
from typing import Final

from opentelemetry import context as context_api
from opentelemetry.context import Context

_STANDARD: Final = "current_context"
"""What `ContextVarsRuntimeContext` calls its variable."""


class _ThroughTheApi:
    """The way that suits every runtime context, which `OTEL_PYTHON_CONTEXT` may choose."""

    get = staticmethod(context_api.get_current)
    set = staticmethod(context_api.attach)


def _shortest() -> "ContextVar[Context] | _ThroughTheApi":
    """The variable itself, where the runtime is the standard one: four calls fewer each time."""
    token = context_api.attach(context_api.get_current())
    try:
        variable = getattr(token, "var", None)
        if isinstance(variable, ContextVar) and variable.name == _STANDARD:
            return variable
        return _ThroughTheApi()
    finally:
        context_api.detach(token)


present: Final = _shortest()
"""What `opentelemetry.context.get_current` gives (`get`) and `attach` changes (`set`)."""
