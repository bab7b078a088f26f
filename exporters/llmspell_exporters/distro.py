"""Our OpenTelemetry distribution: the SDK set up as the standard variables say."""

import logging
import os
from typing import Any, Final

from opentelemetry.instrumentation.distro import BaseDistro  # type: ignore[attr-defined]
from opentelemetry.sdk._configuration import _OTelSDKConfigurator

DEFAULTS: Final = {
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_METRICS_EXPORTER": "otlp",
    "OTEL_LOGS_EXPORTER": "otlp",
    # The specification's default; the upstream distribution still says grpc.
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
}


_LOADER: Final = "opentelemetry.instrumentation.auto_instrumentation._load"


class Distro(BaseDistro):  # type: ignore[misc] # it is untyped upstream
    """Sends all three signals by OTLP where the environment does not say otherwise."""

    def _configure(self, **kwargs: Any) -> None:
        del kwargs
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
        logging.getLogger(_LOADER).addFilter(_not_about_others)


def _not_about_others(record: logging.LogRecord) -> bool:
    # That another distribution is installed and was not asked for is nothing to warn of.
    return "not loaded because" not in str(record.msg)


class Configurator(_OTelSDKConfigurator):
    """The SDK's own configurator; every ``OTEL_*`` variable means what it means there."""


def set_up() -> None:
    """Set the SDK up in this process, as ``opentelemetry-instrument`` would."""
    Distro().configure()
    Configurator().configure(auto_instrumentation_version="")  # type: ignore[no-untyped-call]
