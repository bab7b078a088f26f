"""`llmspell-otel doctor`: what is wrong, said in one line each."""

import os
import subprocess
import sys
from pathlib import Path

from tests.kit.otlp import OtlpReceiver


def doctor(**environment: str) -> subprocess.CompletedProcess[str]:
    """Ask the doctor, with no telemetry variable set but *environment*."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    return subprocess.run(
        [sys.executable, "-m", "llmspell_otel.cli", "doctor"],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_it_tells_what_is_installed_and_woven() -> None:
    """Versions, adapters with their join points, and that nothing is sent yet."""
    ran = doctor()
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "opentelemetry-sdk 1." in ran.stdout
    assert "openai 3." in ran.stdout
    assert "join points" in ran.stdout
    assert "traces: printed as a tree by `run`" in ran.stdout
    assert "metrics: left out by `run`" in ran.stdout


def test_an_endpoint_that_answers_is_well() -> None:
    """A real receiver is asked, and says yes."""
    with OtlpReceiver() as receiver:
        ran = doctor(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.http_endpoint)
    assert ran.returncode == 0, ran.stdout
    assert ran.stdout.count("answers") == 3


def test_an_endpoint_that_does_not_answer_is_named() -> None:
    """The address, the reason, and what to do."""
    ran = doctor(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    assert ran.returncode == 1
    assert "http://127.0.0.1:9/v1/traces" in ran.stdout
    assert "start a collector there or correct the endpoint" in ran.stdout


def test_a_policy_that_does_not_load_is_named(tmp_path: Path) -> None:
    """The file, the line, the error."""
    (tmp_path / "policy.py").write_text("1/0\n")
    ran = doctor(LLMSPELL_OTEL_HOOKS=str(tmp_path / "policy.py"))
    assert ran.returncode == 1
    assert "line 1: ZeroDivisionError" in ran.stdout
