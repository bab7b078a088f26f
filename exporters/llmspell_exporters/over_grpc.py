"""OTLP over gRPC: encoded requests out, answers read, every attempt under a deadline.

Source: https://opentelemetry.io/docs/specs/otlp/#failures (the codes that may be repeated).
"""

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from threading import Lock
from typing import Any, Final
from urllib.parse import urlsplit

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from llmspell_exporters.answers import Answer, again, refused, success
from llmspell_exporters.destination import Destination
from llmspell_exporters.ledger import Signal

_METHODS: Final = {
    Signal.TRACES: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    Signal.METRICS: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    Signal.LOGS: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}
_RETRYABLE: Final = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
_COMPRESSION: Final = {"": grpc.Compression.NoCompression, "gzip": grpc.Compression.Gzip}


class GrpcSender:
    """Calls one signal's `Export` over a channel that is kept."""

    def __init__(self, to: Destination) -> None:
        self._to = to
        self._metadata = tuple(to.headers.items())
        self.reset()

    def reset(self) -> None:
        """Forget the channel, as the child of a fork must: it does not work there."""
        self._lock = Lock()
        self._channel: grpc.Channel | None = None
        self._call: Any = None
        self._aborted = False

    def send(self, body: bytes, deadline: float) -> Answer:
        """Call `Export` with *body*; the answer comes before *deadline*. Never raises."""
        try:
            with self._lock:
                if self._aborted:
                    return again("unreachable", "shutting down")
                self._call = self._export().future(
                    body,
                    timeout=max(deadline - time.monotonic(), 0.001),
                    metadata=self._metadata,
                )
            return success(self._call.result())
        except grpc.RpcError as error:
            return self._failure(error)
        except grpc.FutureCancelledError:
            return again("unreachable", "shutting down")
        except (OSError, ValueError, RuntimeError, TypeError) as error:
            return refused("unusable_destination", f"{self._to}: {error}")

    def abort(self) -> None:
        """End an attempt under way, from another thread, and every later one."""
        with self._lock:
            self._aborted = True
            if self._call is not None:
                self._call.cancel()

    def close(self) -> None:
        """Close the channel; the next attempt opens another."""
        with self._lock:
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def _export(self) -> Any:
        self._channel = self._channel or _channel(self._to)
        # Without serializers gRPC takes and gives the bytes of the messages.
        return self._channel.unary_unary(_METHODS[self._to.signal])

    def _failure(self, error: Any) -> Answer:
        code: grpc.StatusCode = error.code()
        details = error.details() or ""
        if code is grpc.StatusCode.UNAVAILABLE:
            self.close()  # a channel in backoff would refuse at once what a new one can send
        retry_after = _retry_after(dict(error.trailing_metadata() or ()))
        told_to_wait = code is grpc.StatusCode.RESOURCE_EXHAUSTED and retry_after is not None
        if code in _RETRYABLE or told_to_wait:
            return again(f"grpc_{code.name.lower()}", details, retry_after)
        return refused(f"grpc_{code.name.lower()}", details)


def _channel(to: Destination) -> grpc.Channel:
    url = urlsplit(to.endpoint)
    target = (url.netloc or to.endpoint).rpartition("@")[2]  # gRPC knows no users in addresses
    compression = _COMPRESSION[to.compression]
    insecure = url.scheme == "http" if to.insecure is None else to.insecure
    if insecure and url.scheme != "https":
        return grpc.insecure_channel(target, compression=compression)
    return grpc.secure_channel(target, _credentials(to), compression=compression)


def _credentials(to: Destination) -> grpc.ChannelCredentials:
    provider = os.environ.get(
        f"OTEL_PYTHON_EXPORTER_OTLP_GRPC_{to.signal.value.upper()}_CREDENTIAL_PROVIDER"
    ) or os.environ.get("OTEL_PYTHON_EXPORTER_OTLP_GRPC_CREDENTIAL_PROVIDER")
    if provider:
        found = entry_points(group="opentelemetry_otlp_credential_provider", name=provider)
        for each in found:
            return each.load()()
        raise ValueError(f"no credential provider {provider!r} is installed")
    return grpc.ssl_channel_credentials(
        root_certificates=_read(to.certificate),
        private_key=_read(to.client_key),
        certificate_chain=_read(to.client_certificate),
    )


def _read(path: str | None) -> bytes | None:
    return Path(path).read_bytes() if path else None


def _retry_after(trailing: Mapping[str, Any]) -> float | None:
    """Find RetryInfo: in the status details, or under the key that Python's SDK looks at."""
    with suppress(DecodeError):
        if packed := trailing.get("google.rpc.retryinfo-bin"):
            return _delay(RetryInfo.FromString(packed))
        for detail in Status.FromString(trailing.get("grpc-status-details-bin", b"")).details:
            info = RetryInfo()
            if detail.Unpack(info):
                return _delay(info)
    return None


def _delay(info: Any) -> float:
    return float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
