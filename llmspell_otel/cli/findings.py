"""What an examination finds: a line, and whether it is good, bad or just to be known."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol


class Finding(NamedTuple):
    """One line of the doctor's; *good* is None where nothing is judged."""

    text: str
    good: bool | None = None


class Examination(Protocol):
    """What a package of exporters has the doctor say; entry point group ``llmspell_doctor``."""

    def receiver(self, exporter: str, signal: str, timeout: float) -> Finding:
        """Ask the receiver of one *signal* of the OTLP *exporter*, for *timeout* seconds."""
        ...

    def configuration(self, path: str) -> Iterator[Finding]:
        """Read the SDK's configuration file, which `OTEL_CONFIG_FILE` names."""
        ...

    def delivery(self, *, everywhere: bool) -> Iterator[Finding]:
        """What became of what this program, or every one, exported, and what still waits."""
        ...
