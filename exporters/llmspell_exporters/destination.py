"""Where OTLP goes: the `OTEL_EXPORTER_OTLP_*` variables, per signal and for all.

Source: https://opentelemetry.io/docs/specs/otel/protocol/exporter/.
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, TypedDict, Unpack

from opentelemetry.util.re import parse_env_headers

from llmspell_exporters.ledger import Signal

Protocol: TypeAlias = Literal["http/protobuf", "grpc"]

TIMEOUT: Final = 10.0  # seconds; the specification's default
_COMPRESSIONS: Final = {"none": "", "": "", "gzip": "gzip", "deflate": "deflate"}
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """One signal's receiver, and how to talk to it; *timeout* in seconds per attempt.

    Attributes:
        endpoint: the full URL (HTTP), or the target as configured (gRPC).
        insecure: gRPC without TLS; None leaves it to the endpoint's scheme.
        compression: `gzip`, `deflate` (HTTP only) or empty.
        certificate: path of the CA bundle that the receiver is checked against.
        client_certificate: path of our own certificate, for mTLS; *client_key* its key.
    """

    signal: Signal
    protocol: Protocol
    endpoint: str
    headers: Mapping[str, str]
    timeout: float = TIMEOUT
    compression: str = ""
    insecure: bool | None = None
    certificate: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None

    def __str__(self) -> str:
        """The endpoint as it may be shown: without a user's name and password."""
        scheme, separator, rest = self.endpoint.rpartition("//")
        host, slash, path = rest.partition("/")
        return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"


class Overrides(TypedDict, total=False):
    """What may be given in place of the environment's variables; see `Destination`."""

    protocol: Protocol | None
    endpoint: str | None
    headers: Mapping[str, str] | None
    timeout: float | None
    compression: str | None
    insecure: bool | None
    certificate: str | None
    client_certificate: str | None
    client_key: str | None


def destination(signal: Signal, **given: Unpack[Overrides]) -> Destination:
    """Resolve a destination: what is *given* wins over the signal's variables, those over all's."""
    spoken = given.get("protocol") or _protocol(signal)
    timeout, insecure = given.get("timeout"), given.get("insecure")
    return Destination(
        signal=signal,
        protocol=spoken,
        endpoint=given.get("endpoint") or _endpoint(signal, spoken),
        headers=_headers(signal, given.get("headers")),
        timeout=_timeout(signal) if timeout is None else timeout,
        compression=_compression(signal, spoken, given.get("compression")),
        insecure=_insecure(signal) if insecure is None else insecure,
        certificate=given.get("certificate") or _variable(signal, "CERTIFICATE"),
        client_certificate=given.get("client_certificate")
        or _variable(signal, "CLIENT_CERTIFICATE"),
        client_key=given.get("client_key") or _variable(signal, "CLIENT_KEY"),
    )


def _variable(signal: Signal, name: str) -> str | None:
    own = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.value.upper()}_{name}", "").strip()
    return own or os.environ.get(f"OTEL_EXPORTER_OTLP_{name}", "").strip() or None


def _protocol(signal: Signal) -> Protocol:
    chosen = _variable(signal, "PROTOCOL") or "http/protobuf"
    if chosen not in ("http/protobuf", "grpc"):
        _logger.warning(
            "llmspell: OTEL_EXPORTER_OTLP_PROTOCOL is %r, which is not supported for %s;"
            " using http/protobuf (or set it to grpc)",
            chosen,
            signal.value,
        )
    return "grpc" if chosen == "grpc" else "http/protobuf"


def _endpoint(signal: Signal, protocol: Protocol) -> str:
    if protocol == "grpc":
        return _variable(signal, "ENDPOINT") or "http://localhost:4317"
    own = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.value.upper()}_ENDPOINT", "").strip()
    base = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip() or "http://localhost:4318"
    # A signal's own endpoint is used as it is; only the general one gets the signal's path.
    return own or f"{base.removesuffix('/')}/v1/{signal.value}"


def _headers(signal: Signal, given: Mapping[str, str] | None) -> Mapping[str, str]:
    configured = parse_env_headers(_variable(signal, "HEADERS") or "", liberal=True)
    return {**configured, **{name.lower(): value for name, value in (given or {}).items()}}


def _timeout(signal: Signal) -> float:
    text = _variable(signal, "TIMEOUT")
    try:
        seconds = float(text) if text else TIMEOUT
    except ValueError:
        seconds = 0.0
    if seconds > 0:
        return seconds
    _logger.warning(
        "llmspell: OTEL_EXPORTER_OTLP_TIMEOUT is %r; using %g (seconds, above 0)", text, TIMEOUT
    )
    return TIMEOUT


def _compression(signal: Signal, protocol: Protocol, given: str | None) -> str:
    chosen = (given or _variable(signal, "COMPRESSION") or "none").lower()
    if chosen not in _COMPRESSIONS or (protocol == "grpc" and chosen == "deflate"):
        _logger.warning(
            "llmspell: OTEL_EXPORTER_OTLP_COMPRESSION is %r; sending uncompressed"
            " (none, gzip, or deflate over HTTP)",
            chosen,
        )
        return ""
    return _COMPRESSIONS[chosen]


def _insecure(signal: Signal) -> bool | None:
    text = _variable(signal, "INSECURE")
    return None if text is None else text.lower() == "true"
