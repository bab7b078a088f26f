"""`llmspell-otel hooks list`: who is asked where, and how its breaker stood."""

import subprocess
import sys
from pathlib import Path

import pytest

POLICY = """
from llmspell_otel import Hook

@Hook.on("tool:before_execution", priority="high", tags=("safety",), on_failure="cancel")
def guard(context): ...

@Hook.on("tool:before_execution")
def broken(context):
    raise ValueError("always")
"""
PROGRAM = """
from llmspell_otel import tool

@tool
def work():
    return 1

for _ in range(5):
    work()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A program and its policy."""
    (tmp_path / "policy.py").write_text(POLICY)
    (tmp_path / "app.py").write_text(PROGRAM)
    return tmp_path


def cli(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run one of our commands."""
    return subprocess.run(
        [sys.executable, "-m", "llmspell_otel.cli", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_hooks_are_listed_in_the_order_they_are_asked(folder: Path) -> None:
    """The high priority first, with what matters of each."""
    listed = cli("hooks", "list", "--hooks", "policy.py", cwd=folder)
    assert listed.returncode == 0, listed.stderr
    head, first, second = listed.stdout.strip().split("\n")
    assert head.split()[:3] == ["point", "hook", "priority"]
    assert first.split() == [
        *("tool:before_execution", "guard", "-100", "cancel", "python", "safety", "closed")
    ]
    assert second.split()[1] == "broken"


def test_filters_narrow_the_list(folder: Path) -> None:
    """By tag, and by point in the other spelling."""
    listed = cli("hooks", "list", "--hooks", "policy.py", "--tag", "safety", cwd=folder)
    assert "guard" in listed.stdout
    assert "broken" not in listed.stdout
    none = cli("hooks", "list", "--hooks", "policy.py", "--point", "AgentError", cwd=folder)
    assert len(none.stdout.strip().split("\n")) == 1


def test_a_breaker_that_opened_in_a_kept_run_is_shown(folder: Path) -> None:
    """When it opened, and why."""
    ran = cli("run", "--hooks", "policy.py", "--journal", "kept", "app.py", cwd=folder)
    assert ran.returncode == 0, ran.stderr
    listed = cli("hooks", "list", "--hooks", "policy.py", "--journal", "kept", cwd=folder)
    line = next(line for line in listed.stdout.split("\n") if " broken " in line)
    assert "open since 20" in line
    assert "3 failures" in line


def test_an_unknown_point_is_said_to_be_unknown(folder: Path) -> None:
    """With the nearest one."""
    listed = cli("hooks", "list", "--point", "tool:befor_execution", cwd=folder)
    assert listed.returncode == 1
    assert "did you mean 'tool:before_execution'?" in listed.stderr
