"""What a receiver answered, read for what it says.

Source: https://opentelemetry.io/docs/specs/otlp/ (full success, partial success, failures).
"""

import json
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import Any, Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

RETRYABLE_HTTP: Final = frozenset({429, 502, 503, 504})
_SHOWN: Final = 200  # characters of a receiver's text that are kept


class Verdict(Enum):
    """What became of one attempt."""

    TAKEN = auto()
    REFUSED = auto()  # and will be refused again
    UNREADABLE = auto()  # a success that is no OTLP answer: nobody said that it was taken
    AGAIN = auto()  # not now


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The outcome of one attempt; *retry_after* in seconds where the receiver named a time."""

    verdict: Verdict
    rejected: int = 0
    reason: str = ""
    message: str = ""
    retry_after: float | None = None


def again(reason: str, message: str, retry_after: float | None = None) -> Answer:
    """The attempt may be repeated."""
    return Answer(
        verdict=Verdict.AGAIN, reason=reason, message=message[:_SHOWN], retry_after=retry_after
    )


def refused(reason: str, message: str) -> Answer:
    """The attempt must not be repeated."""
    return Answer(verdict=Verdict.REFUSED, reason=reason, message=message[:_SHOWN])


def http_answer(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """Read an HTTP answer; *headers* in lower case."""
    if 200 <= status < 300:  # noqa: PLR2004 - HTTP's own ranges
        return success(body, headers.get("content-type", ""))
    text = _text(body)
    if status in RETRYABLE_HTTP:
        return again(f"http_{status}", text, _seconds(headers.get("retry-after")))
    return refused(f"http_{status}", text)


def success(body: bytes, content_type: str = "") -> Answer:
    """Read the body of a success; a partial success says how many records were refused."""
    try:
        rejected, message = _partial(body, content_type)
    except (DecodeError, ValueError, TypeError, AttributeError):
        shown = repr(bytes(body[:40]))
        return Answer(
            verdict=Verdict.UNREADABLE,
            reason="unreadable_answer",
            message=f"a success whose body is no OTLP answer: {shown}",
        )
    return Answer(
        verdict=Verdict.TAKEN,
        rejected=max(rejected, 0),
        reason="partial_success",
        message=message[:_SHOWN],
    )


def _partial(body: bytes, content_type: str) -> tuple[int, str]:
    if content_type.startswith("application/json"):
        partial: dict[str, Any] = (json.loads(body) if body.strip() else {}).get(
            "partialSuccess"
        ) or {}
        counts = [int(value) for key, value in partial.items() if key.startswith("rejected")]
        return sum(counts), str(partial.get("errorMessage", ""))
    # The three signals' responses are alike on the wire: one class reads them all.
    response = ExportTraceServiceResponse()
    response.ParseFromString(body)
    return response.partial_success.rejected_spans, response.partial_success.error_message


def _text(body: bytes) -> str:
    """The message of a google.rpc.Status, or the start of whatever came instead."""
    from google.rpc.status_pb2 import Status

    status = Status()
    with suppress(DecodeError):
        status.ParseFromString(body)
    return status.message or body[:_SHOWN].decode("utf-8", "replace")


def _seconds(value: str | None) -> float | None:
    """Read Retry-After (RFC 9110): seconds, or a date."""
    if value is None:
        return None
    with suppress(ValueError):
        seconds = float(value)
        return max(seconds, 0.0) if math.isfinite(seconds) else None
    with suppress(ValueError, TypeError):
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    return None
