"""The package's front door."""

import subprocess
import sys

import pytest

from llmspell_otel import telemetry


@pytest.mark.parametrize("name", telemetry.__all__)
def test_every_exported_name_is_there(name: str) -> None:
    """And is what its module holds."""
    assert getattr(telemetry, name) is not None


def test_nothing_else_is_there() -> None:
    """A wrong name is an ordinary attribute error."""
    with pytest.raises(AttributeError, match=r"llmspell_otel\.telemetry.*Telemetri"):
        _ = telemetry.Telemetri


def test_the_names_of_the_conventions_come_alone() -> None:
    """Whoever spells an attribute does not pay for instruments and prices."""
    code = (
        "import sys; from llmspell_otel.telemetry import semconv;"
        "rooms = [m for m in sys.modules if m.startswith('llmspell_otel.telemetry.')];"
        "assert rooms == ['llmspell_otel.telemetry.semconv'], rooms"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
