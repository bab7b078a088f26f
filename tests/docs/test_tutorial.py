"""The tutorial, followed to the letter: its files, its commands, what it says they print."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("agents", reason="the tutorial's program is one of openai-agents")

PAGE = Path(__file__).parents[2] / "docs/tutorial/steer-an-agent.md"
TEXT = PAGE.read_text("utf-8")
FILES = re.findall(r"`(\w+\.py)`[^`]*?:\n\n```python\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()
]
TREES = re.findall(r"```\n(desk\n.*?)```", TEXT, re.DOTALL)
(COSTS,) = re.findall(r"```\n(name .*?)```", TEXT, re.DOTALL)
# Each command imports the SDK anew, which on a machine that is busy takes its time.
pytestmark = pytest.mark.timeout(300)


def timeless(text: str) -> list[str]:
    """The lines of *text* without what differs from run to run."""
    shown = re.sub(r"[\d,.]+ (ms|s)\b|trace [0-9a-f]{32}", "", text)
    return [re.sub(r" +", " ", line).strip() for line in shown.strip().splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The reader's folder, with the files of the tutorial."""
    assert [name for name, _ in FILES] == ["model.py", "desk.py", "policy.py"]
    for name, source in FILES:
        (tmp_path / name).write_text(source)
    return tmp_path


@pytest.fixture
def environment(folder: Path) -> Iterator[dict[str, str]]:
    """The reader's first terminal; in the second one the model is served."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    (serve,) = (line for line in COMMANDS if "llmspell_otel.testing" in line)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    clean["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{clean['PATH']}"
    exported = " ".join(line for line in COMMANDS if line.startswith("export"))
    pairs = dict(pair.split("=", 1) for pair in exported.split() if "=" in pair)
    with subprocess.Popen(
        serve.replace("8089", port).split(),
        cwd=folder,
        env=clean,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            said = {server.stdout.readline().strip() for _ in range(2)}
            told = {key: value.replace("8089", port) for key, value in pairs.items()}
            told_too = {line.removeprefix("export ") for line in said}
            assert told_too <= {f"{key}={value}" for key, value in told.items()}
            yield clean | told
        finally:
            server.send_signal(signal.SIGINT)


def test_the_tutorial_holds(folder: Path, environment: dict[str, str]) -> None:
    """Every command works, and the trees and the costs are those that the page shows."""

    def shell(command: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, (command, done.stderr)
        return done

    seen, steered, kept, *later = (line for line in COMMANDS if line.startswith("llmspell-otel"))
    watched, guarded = shell(seen), shell(steered)
    assert "Ada is gone!" in watched.stdout
    assert timeless(watched.stderr) == timeless(TREES[0])
    assert "gone" not in guarded.stdout
    assert timeless(guarded.stderr) == timeless(TREES[1])
    assert timeless(shell(kept).stderr) == timeless(TREES[1])
    timeline, events, costs = (shell(line).stdout for line in later)
    assert "nobody_is_deleted" in timeline
    assert [line.split()[1] for line in events.splitlines()] == ["hook:replaced", "hook:cancelled"]
    assert timeless(costs) == timeless(COSTS)


def test_its_links_lead_somewhere() -> None:
    """No page is promised that is not there."""
    links = re.findall(r"\]\((?!http)([^)#]+)\)", TEXT)
    assert links
    assert [link for link in links if not (PAGE.parent / link).exists()] == []
