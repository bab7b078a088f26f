"""Where the environment sends telemetry, and whether somebody answers there."""

import os
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

SIGNALS: Final = ("traces", "metrics", "logs")
DECIDING: Final = (
    *(f"OTEL_{signal.upper()}_EXPORTER" for signal in SIGNALS),
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    *(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT" for signal in SIGNALS),
    "OTEL_CONFIG_FILE",
)
"""Variables that say where telemetry goes; with none of them `run` prints it."""


@dataclass(frozen=True, slots=True)
class Target:
    """One OTLP endpoint."""

    url: str
    grpc: bool

    def __str__(self) -> str:
        return f"{self.url} ({'gRPC' if self.grpc else 'HTTP'})"


def decided() -> bool:
    """Whether the environment says where telemetry goes."""
    return any(os.environ.get(name) for name in DECIDING)


def exporters() -> Iterator[tuple[str, list[str]]]:
    """By signal, the names of its exporters; none if nothing is said at all."""
    for signal in SIGNALS:
        named = os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "otlp" if decided() else "")
        yield signal, [name.strip() for name in named.split(",") if name.strip()]


def target(signal: str) -> Target:
    """Where OTLP of that *signal* goes, as the OTLP exporter specification says."""

    def setting(name: str) -> str | None:
        own = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}")
        return own or os.environ.get(f"OTEL_EXPORTER_OTLP_{name}")

    grpc = (setting("PROTOCOL") or "http/protobuf") == "grpc"
    own = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
    shared = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if grpc:
        return Target(own or shared or "http://localhost:4317", grpc=True)
    if own:
        return Target(own, grpc=False)
    return Target(f"{(shared or 'http://localhost:4318').rstrip('/')}/v1/{signal}", grpc=False)


def probe(where: Target, signal: str, timeout: float) -> str:
    """What is wrong with *where*, or nothing; an empty request is sent, which stores nothing."""
    del signal
    parts = urlsplit(where.url if "//" in where.url else f"//{where.url}")
    try:
        if where.grpc:
            with socket.create_connection((parts.hostname or "", parts.port or 4317), timeout):
                return ""
        request = urllib.request.Request(  # noqa: S310 - the user's own endpoint
            where.url, data=b"", headers={"Content-Type": "application/x-protobuf"}
        )
        with urllib.request.urlopen(request, timeout=timeout):  # noqa: S310 - as above
            return ""
    except urllib.error.HTTPError as error:
        return f"answers with HTTP {error.code}; check the path and the headers"
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return f"does not answer: {reason}; start a collector there or correct the endpoint"
