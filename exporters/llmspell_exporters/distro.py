"""Our OpenTelemetry distribution: the SDK set up as the standard variables say."""

import inspect
import logging
import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry.instrumentation.distro import BaseDistro  # type: ignore[attr-defined]
from opentelemetry.sdk._configuration import _initialize_components, _OTelSDKConfigurator

from llmspell_exporters import sigterm
from llmspell_exporters.processors import log_processor, span_processor

_logger = logging.getLogger("llmspell_exporters")

CONFIG_FILE: Final = "OTEL_CONFIG_FILE"
DEFAULTS: Final = {
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_METRICS_EXPORTER": "otlp",
    "OTEL_LOGS_EXPORTER": "otlp",
    # The specification's default; the upstream distribution still says grpc.
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
}


_EXPORTERS: Final = ("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER")
_OURS: Final = {
    "otlp": "llmspell_otlp",
    "otlp_proto_http": "llmspell_otlp_http",
    "otlp_proto_grpc": "llmspell_otlp_grpc",
    "prometheus": "llmspell_prometheus",
}
_READER: Final = "opentelemetry.configuration.file._loader"
_LOADER: Final = "opentelemetry.instrumentation.auto_instrumentation._load"


class Distro(BaseDistro):  # type: ignore[misc] # it is untyped upstream
    """Sends all three signals by OTLP where the environment does not say otherwise."""

    def _configure(self, **kwargs: Any) -> None:
        del kwargs
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
        logging.getLogger(_LOADER).addFilter(_not_about_others)

    def load_instrumentor(self, entry_point: Any, **kwargs: Any) -> None:
        """Instrument, unless a configuration file has had it done with its own options."""
        if not getattr(entry_point.load()(), "is_instrumented_by_opentelemetry", False):
            super().load_instrumentor(entry_point, **kwargs)


def _not_about_others(record: logging.LogRecord) -> bool:
    # That another distribution is installed and was not asked for is nothing to warn of.
    return "not loaded because" not in str(record.msg)


def _not_about_errors(record: logging.LogRecord) -> bool:
    # They are raised, too, and said below, in one line.
    return record.levelno < logging.ERROR


class Configurator(_OTelSDKConfigurator):
    """The SDK's own configurator; every ``OTEL_*`` variable means what it means there.

    Where it says ``otlp`` or ``prometheus``, our exporters do the work: they keep exact books,
    and what the receiver cannot take.
    """

    def _configure(self, **kwargs: Any) -> None:
        if path := os.environ.get(CONFIG_FILE):
            self._by_file(path)
        else:
            with _ledgered():
                super()._configure(**_processors() | kwargs)  # type: ignore[no-untyped-call] # untyped upstream
        if sigterm.wanted():
            sigterm.install()

    def _by_file(self, path: str) -> None:
        """Let the SDK read the file, which says it all; a bad one must not end the program."""
        logging.getLogger(_READER).addFilter(_not_about_errors)
        try:
            super()._configure()  # type: ignore[no-untyped-call] # untyped upstream
        except Exception as error:
            reason = " ".join(str(error).split())  # a schema's complaints have many lines
            form = "llmspell: %s=%s is not used, so nothing is exported: %s"
            _logger.warning(form, CONFIG_FILE, path, reason)


def _processors() -> dict[str, Any]:
    """Our batch processors, for an SDK that lets them be chosen."""
    ours = {
        "export_span_processor": span_processor,
        "export_log_record_processor": log_processor,
    }
    known = inspect.signature(_initialize_components).parameters
    return {name: processor for name, processor in ours.items() if name in known}


@contextmanager
def _ledgered() -> Generator[None]:
    """Have the SDK read ``otlp`` as our own exporters; children inherit what the user said."""
    said = {name: os.environ[name] for name in _EXPORTERS if name in os.environ}
    for name, exporters in said.items():
        chosen = [exporter.strip() for exporter in exporters.split(",")]
        os.environ[name] = ",".join(_OURS.get(exporter, exporter) for exporter in chosen)
    try:
        yield
    finally:
        os.environ.update(said)


def set_up() -> None:
    """Set the SDK up in this process, as ``opentelemetry-instrument`` would."""
    Distro().configure()
    Configurator().configure(auto_instrumentation_version="")  # type: ignore[no-untyped-call]
