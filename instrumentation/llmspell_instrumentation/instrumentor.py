"""Us as an OpenTelemetry instrumentor: what ``opentelemetry-instrument`` starts."""

import logging
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, ClassVar

from opentelemetry.instrumentation.instrumentor import (  # type: ignore[attr-defined]
    BaseInstrumentor,
)

from llmspell_otel import instrument, uninstrument

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What a declarative configuration file may say of us."""

    adapters: tuple[str, ...] = ()
    """Libraries to instrument; empty means all."""
    hooks: tuple[str, ...] = field(default=())
    """Policy files."""


class LlmspellInstrumentor(BaseInstrumentor):  # type: ignore[misc] # it is untyped upstream
    """Weaves every adapter whose library is installed. Never raises: others come after us."""

    configuration: ClassVar[type[Configuration]] = Configuration

    def instrumentation_dependencies(self) -> Collection[str]:
        """None: each adapter checks the version of its own library."""
        return ()

    def _instrument(self, **options: Any) -> None:
        try:
            instrument(*options.get("adapters", ()), hooks=options.get("hooks", ()))
        except Exception:
            _logger.exception("llmspell: instrumenting failed; the program goes on without")

    def _uninstrument(self, **options: Any) -> None:
        try:
            uninstrument(*options.get("adapters", ()))
        except Exception:
            _logger.exception("llmspell: uninstrumenting failed")
