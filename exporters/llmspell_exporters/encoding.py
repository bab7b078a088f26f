"""Batches of the SDK's records as OTLP request bytes, with one bad record not spoiling the rest."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics.export import MetricsData

from llmspell_exporters.fast_encoding import logs_request, spans_request
from llmspell_exporters.ledger import Book

__all__ = ["count_points", "encoded", "logs_request", "metrics_request", "spans_request"]

R = TypeVar("R")
MOST: Final = 4 * 2**20 - 2**16
"""Bytes of one request: collectors take no gRPC message above 4 MiB by default."""


def metrics_request(metrics: MetricsData) -> bytes:
    """Encode an `ExportMetricsServiceRequest`."""
    request: bytes = encode_metrics(metrics).SerializeToString()
    return request


def count_points(metrics: MetricsData) -> int:
    """Count the points of all metrics."""
    return sum(
        len(metric.data.data_points)
        for resource in metrics.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    )


def encoded(
    encode: Callable[[Sequence[R]], bytes], batch: Sequence[R], book: Book
) -> Iterator[tuple[bytes, int]]:
    """Encode *batch*, in parts if it is larger than receivers take.

    Records that cannot be encoded are lost alone, not with their batch.
    """
    try:
        body = encode(batch)
    except Exception as error:
        good = [record for record in batch if _encodable(encode, record)]
        book.lose(len(batch) - len(good), "encode_error", f"{type(error).__name__}: {error}")
        yield from ((encode((record,)), 1) for record in good)
        return
    if len(body) <= MOST or len(batch) == 1:
        yield body, len(batch)
        return
    half = len(batch) // 2
    yield from encoded(encode, batch[:half], book)
    yield from encoded(encode, batch[half:], book)


def joined(parts: Sequence[tuple[bytes, int]]) -> Iterator[tuple[bytes, int]]:
    """Encoded *parts* in as few requests as receivers take.

    Messages of Protocol Buffers are merged by putting them one after the other.
    """
    bodies: list[bytes] = []
    count = size = 0
    for body, records in parts:
        if bodies and size + len(body) > MOST:
            yield b"".join(bodies), count
            bodies, count, size = [], 0, 0
        bodies.append(body)
        count += records
        size += len(body)
    if bodies:
        yield b"".join(bodies), count


def _encodable(encode: Callable[[Sequence[Any]], bytes], record: object) -> bool:
    try:
        encode((record,))
    except Exception:
        return False
    return True
