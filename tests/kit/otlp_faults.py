"""The ways in which a test's OTLP receiver can misbehave."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What to do with an export instead of answering well.

    Over gRPC an HTTP status becomes the status that the OTLP specification pairs with it.
    """

    status: int = 200
    retry_after: float | None = None
    rejected: int = 0
    message: str = ""
    body: bytes | None = None
    hang: float = 0.0
    drip: float = 0.0
    disconnect: bool = False

    @property
    def accepts(self) -> bool:
        """Whether the records of the export are kept, as far as the sender can know."""
        return self.status == 200 and not self.disconnect and not self.hang


def error(status: int, *, retry_after: float | None = None, message: str = "refused") -> Fault:
    """Answer with an error status, if asked with Retry-After (or RetryInfo) in seconds."""
    return Fault(status=status, retry_after=retry_after, message=message)


def partial(rejected: int, message: str = "some were rejected") -> Fault:
    """Accept the export, but say that *rejected* of its records were not kept."""
    return Fault(rejected=rejected, message=message)


def garbage(body: bytes = b"\xff\xff not a protobuf") -> Fault:
    """Accept the export, and answer 200 with bytes that are no message."""
    return Fault(body=body)


def hang(seconds: float = 60.0) -> Fault:
    """Say nothing for *seconds*, or until the receiver closes; then drop the connection."""
    return Fault(hang=seconds)


def drip(seconds: float = 0.05) -> Fault:
    """Answer well, but one byte at a time, *seconds* apart."""
    return Fault(drip=seconds, message="thank you")


def disconnect() -> Fault:
    """Close the connection without an answer."""
    return Fault(disconnect=True)
