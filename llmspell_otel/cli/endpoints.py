"""What the environment says of where telemetry goes."""

import os
from collections.abc import Iterator
from typing import Final

SIGNALS: Final = ("traces", "metrics", "logs")
DECIDING: Final = (
    *(f"OTEL_{signal.upper()}_EXPORTER" for signal in SIGNALS),
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    *(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT" for signal in SIGNALS),
    "OTEL_CONFIG_FILE",
)
"""Variables that say where telemetry goes; with none of them `run` prints it."""


def decided() -> bool:
    """Whether the environment says where telemetry goes."""
    return any(os.environ.get(name) for name in DECIDING)


def exporters() -> Iterator[tuple[str, list[str]]]:
    """By signal, the names of its exporters; none if nothing is said at all."""
    for signal in SIGNALS:
        named = os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "otlp" if decided() else "")
        yield signal, [name.strip() for name in named.split(",") if name.strip()]
