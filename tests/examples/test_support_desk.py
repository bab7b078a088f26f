"""The support desk: the program alone, and under `llmspell-otel run` with its hooks."""

import os
import subprocess
import sys

import pytest

from docs.examples.support_desk.demo import HERE, PROVIDER
from docs.examples.support_desk.scenario import reply
from llmspell_otel.testing import ModelServer

pytest.importorskip("agents", reason="the support desk is a program of openai-agents")


def run(server: ModelServer, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command as the demo does: with the provider's variables and no others."""
    environment = os.environ | server.environment | PROVIDER | variables
    return subprocess.run(
        [sys.executable, *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_the_program_is_an_ordinary_one() -> None:
    """The program itself mentions neither this library nor telemetry."""
    source = (HERE / "app.py").read_text().lower()
    assert "llmspell" not in source
    assert "telemetry" not in source


def test_the_program_runs_alone() -> None:
    """Without hooks it runs to its end: the flaky tool fails twice, and the account is deleted."""
    with ModelServer(reply) as server:
        done = run(server, str(HERE / "app.py"))
        requests = server.requests
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("calls look_up_order") == 3
    assert "[triage]" in done.stdout
    assert "[refunds]" in done.stdout
    assert "ada.lovelace@analytical.example" in done.stdout
    assert "Customer C-7 was deleted." in done.stdout
    assert done.stdout.rstrip().endswith("Your account has been deleted.")
    assert len(requests) == 7
    assert {request.model for request in requests} == {"gpt-5-mini"}
    assert all(request.stream for request in requests)
