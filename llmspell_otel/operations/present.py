"""The present OpenTelemetry context, read and written as directly as its runtime allows."""

from contextvars import ContextVar, Token
from typing import Final

from opentelemetry import context as context_api
from opentelemetry.context import Context


class _ThroughTheApi:
    """The way that suits every runtime context, which `OTEL_PYTHON_CONTEXT` may choose."""

    get = staticmethod(context_api.get_current)
    set = staticmethod(context_api.attach)


def _shortest() -> "ContextVar[Context] | _ThroughTheApi":
    """The variable itself, where the runtime is the standard one: four calls fewer each time."""
    token = context_api.attach(context_api.get_current())
    try:
        if isinstance(token, Token) and token.var.name == "current_context":
            return token.var
        return _ThroughTheApi()
    finally:
        context_api.detach(token)


present: Final = _shortest()
"""What `opentelemetry.context.get_current` gives (`get`) and `attach` changes (`set`)."""
