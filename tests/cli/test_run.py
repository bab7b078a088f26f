"""`llmspell-otel run`: programs, unchanged, seen and steered."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

AGENT = """
import sys
from llmspell_otel import agent, tool

@tool
def add(a: int, b: int) -> int:
    return a + b

@agent("adder")
def run(question: str) -> str:
    return f"{question}: {add(1, 2)}"

print(run(sys.argv[1] if len(sys.argv) > 1 else "sum"))
"""
POLICY = """
from llmspell_otel import Hook, Modified

@Hook.on("tool:before_execution")
def more(context):
    return Modified({"input": {"a": 40}})
"""


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command with no telemetry variable set but *environment*."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    return subprocess.run(
        [sys.executable, "-m", "llmspell_otel.cli", "run", *arguments],
        cwd=cwd,
        env=clean | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A directory with an agent and a policy."""
    (tmp_path / "app.py").write_text(AGENT)
    (tmp_path / "policy.py").write_text(POLICY)
    return tmp_path


def test_a_program_prints_what_it_prints_and_then_its_tree(program: Path) -> None:
    """The program's own output stays clean; the tree goes to standard error."""
    ran = run("app.py", "one", cwd=program)
    assert (ran.returncode, ran.stdout) == (0, "one: 3\n")
    assert "invoke_agent adder" in ran.stderr
    assert "execute_tool add" in ran.stderr
    assert "1 agent" in ran.stderr


def test_hooks_of_a_policy_file_act(program: Path) -> None:
    """What the policy changes is changed, and the tree says by whom."""
    ran = run("--hooks", "policy.py", "--service-name", "desk", "app.py", cwd=program)
    assert ran.stdout == "sum: 42\n"
    assert "desk" in ran.stderr
    assert "[more: modified]" in ran.stderr


def test_a_module_is_run_with_m(program: Path) -> None:
    """`-m` means what it means to Python."""
    ran = run("-m", "app", "two", cwd=program)
    assert ran.stdout == "two: 3\n"


def test_the_programs_exit_code_and_traceback_are_its_own(program: Path) -> None:
    """A program that fails fails as it would have."""
    (program / "bad.py").write_text("import sys\nprint('x')\nsys.exit(7)\n")
    (program / "worse.py").write_text("raise KeyError('lost')\n")
    assert run("bad.py", cwd=program).returncode == 7
    worse = run("worse.py", cwd=program)
    assert worse.returncode == 1
    assert worse.stderr.rstrip().endswith("KeyError: 'lost'")


@pytest.mark.parametrize(
    ("policy", "problem"),
    [
        ("import nothing_of_that_name", "line 1: ModuleNotFoundError"),
        ("def broken(:\n", "line 1: invalid syntax"),
        (
            "from llmspell_otel import Hook\nHook.register('tool:befor_execution', print)\n",
            "did you mean 'tool:before_execution'?",
        ),
        (
            "from llmspell_otel import Hook\n@Hook.on('tool:error')\ndef none(): ...\n",
            "write it as `def none(context): ...`",
        ),
    ],
    ids=["import", "syntax", "point", "signature"],
)
def test_a_policy_that_does_not_load_is_reported_and_the_agent_still_runs(
    program: Path, policy: str, problem: str
) -> None:
    """One clear line: what, where, and how to mend it."""
    (program / "policy.py").write_text(policy)
    ran = run("--hooks", "policy.py", "app.py", cwd=program)
    assert (ran.returncode, ran.stdout) == (0, "sum: 3\n")
    assert problem in ran.stderr
    assert "policy.py' was not loaded" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_program_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    """A slip in the name is answered with a hint, not a traceback."""
    ran = run("nowhere.py", cwd=tmp_path)
    assert ran.returncode == 2
    assert "there is no file 'nowhere.py'; a module is run with -m" in ran.stderr


def test_an_unreachable_endpoint_does_not_disturb_the_program(program: Path) -> None:
    """The agent's result and exit code are right, and the end comes in bounded time."""
    ran = run("app.py", cwd=program, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    assert (ran.returncode, ran.stdout) == (0, "sum: 3\n")


def test_opentelemetry_instrument_starts_us_too(program: Path) -> None:
    """The upstream command needs no word of ours."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    wanted = {
        "OTEL_PYTHON_DISTRO": "llmspell",
        "OTEL_TRACES_EXPORTER": "llmspell_console",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
    }
    command = str(Path(sys.executable).parent / "opentelemetry-instrument")
    ran = subprocess.run(
        [command, sys.executable, "app.py"],
        cwd=program,
        env=clean | wanted,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert ran.stdout == "sum: 3\n"
    assert "invoke_agent adder" in ran.stderr


def test_a_journal_keeps_the_run_for_later(program: Path) -> None:
    """Events are queried, and the run is shown as a waterfall, after the program has ended."""
    assert run("--journal", "kept", "app.py", cwd=program).returncode == 0

    def ask(*arguments: str) -> str:
        line = [sys.executable, "-m", "llmspell_otel.cli", *arguments, "--journal", "kept"]
        return subprocess.run(
            line, cwd=program, capture_output=True, text=True, check=True, timeout=60
        ).stdout

    assert ask("events", "query", "tool:execution_complete").count("add") == 1
    shown = ask("timeline", "last")
    assert "adder" in shown
    assert "add" in shown
