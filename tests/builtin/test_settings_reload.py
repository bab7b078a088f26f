"""Settings that change while the program runs."""

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmspell_otel import Hook, tool
from llmspell_otel.builtin import enabled
from llmspell_otel.builtin.cost_tracking import around
from llmspell_otel.hooks.conditions import DEFAULT_TIMEOUT, conditions
from llmspell_otel.hooks.policies import loaded
from llmspell_otel.settings import apply, load
from llmspell_otel.settings_reload import Reloader

Log = pytest.LogCaptureFixture


class File:
    """A file of settings in force, and what looks for changes of it."""

    def __init__(self, folder: Path, text: str) -> None:
        self.path = folder / "llmspell-otel.toml"
        self.path.write_text(text)
        settings, problems = load(folder, {})
        assert not [*problems, *apply(settings)]
        self.reloader = Reloader(settings, folder, {})

    def say(self, text: str) -> None:
        """Change the file, and have the change seen."""
        stamp = self.path.stat().st_mtime_ns
        self.path.write_text(text)
        os.utime(self.path, ns=(stamp + 1_000_000, stamp + 1_000_000))
        self.reloader.reload_if_changed()


@pytest.fixture(autouse=True)
def conditions_kept() -> Iterator[None]:
    """Settings change what every firing shares."""
    yield
    conditions.timeout = DEFAULT_TIMEOUT
    for policy in tuple(loaded.values()):
        policy.unload()


@pytest.fixture
def changes() -> list[Any]:
    """What `ConfigurationChange` tells of."""
    told: list[Any] = []
    Hook.register("system:configuration_change", lambda c: told.append(dict(c.data)))
    return told


def setting(name: str, key: str) -> Any:
    """A setting in force."""
    return getattr(enabled()[name].settings, key)


def test_a_changed_file_takes_effect(tmp_path: Path, changes: list[Any]) -> None:
    """New, changed and gone hooks, and the time of asynchronous ones; one change is told of."""
    file = File(tmp_path, "[builtin]\nretry = true\nmetrics = true\ndebugging = true\n")
    untouched = enabled()["metrics"]
    file.say(
        "hook_timeout = 3.0\n[builtin]\nmetrics = true\nlogging = true\nretry = {factor = 5}\n"
    )
    assert set(enabled()) == {"logging", "metrics", "retry"}
    assert setting("retry", "factor") == 5.0
    assert enabled()["metrics"] is untouched
    assert conditions.timeout == 3.0
    (change,) = changes
    assert sorted(change["changed"]) == [
        "builtin.debugging",
        "builtin.logging",
        "builtin.retry",
        "hook_timeout",
    ]


def test_an_unchanged_file_is_left_alone(tmp_path: Path, changes: list[Any]) -> None:
    """Nothing is exchanged, and nothing told; neither for a change of form."""
    file = File(tmp_path, "[builtin]\nretry = true\n")
    before = enabled()["retry"]
    assert file.reloader.reload_if_changed() is False
    file.say("# A remark.\n[builtin]\nretry = true\n")
    assert enabled()["retry"] is before
    assert changes == []


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[builtin", "cannot be read"),
        ("[builtin.retry]\nmax_attempts = 0\n[builtin.logging]\n", "builtin.retry.max_attempts"),
        ("[builtin]\nlogging = true\nlodging = true\n", "did you mean 'logging'"),
        ("[builtin.logging]\n[builtin.caching]\nredis = 'nowhere'\n", "builtin.caching.redis"),
        ("hooks = ['missing.py']\n[builtin.logging]\n", "missing.py"),
        ("hook_timeout = -1\n[builtin.logging]\n", "hook_timeout"),
    ],
)
def test_a_bad_file_changes_nothing_and_is_named_once(
    tmp_path: Path, caplog: Log, changes: list[Any], text: str, named: str
) -> None:
    """However often it is looked at; the next good one is taken."""
    file = File(tmp_path, "[builtin]\nretry = {factor = 3}\n")
    before = enabled()["retry"]
    file.say(text)
    for _ in range(3):
        assert file.reloader.reload_if_changed() is False
    assert enabled() == {"retry": before}
    assert before.in_force
    (line,) = [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]
    assert named in line
    assert "stay as they were" in line
    assert changes == []
    file.say("[builtin]\nretry = {factor = 4}\n")
    assert setting("retry", "factor") == 4.0


def test_what_the_program_enabled_stays(tmp_path: Path) -> None:
    """Also where the file said something about it before, and says the same still."""
    file = File(tmp_path, "[builtin]\nretry = true\n")
    Hook.enable_builtin("retry", factor=7)
    Hook.enable_builtin("caching")
    file.say("[builtin]\nretry = true\nlogging = true\n")
    assert setting("retry", "factor") == 7.0
    assert set(enabled()) == {"caching", "logging", "retry"}


def test_policies_come_change_and_go(tmp_path: Path, caplog: Log) -> None:
    """With the file that names them, and with their own files."""
    policy = tmp_path / "policy.py"
    source = (
        "from llmspell_otel import Hook\nHook.register('tool:before_execution', print, name='{}')\n"
    )
    policy.write_text(source.format("one"))
    file = File(tmp_path, "[builtin]\n")
    file.say("hooks = ['policy.py']\n[builtin]\n")
    assert [each.name for each in Hook.list()] == ["one"]
    policy.write_text(source.format("another"))
    file.reloader.reload_if_changed()
    assert [each.name for each in Hook.list()] == ["another"]
    policy.write_text("broken(")
    for _ in range(2):
        file.reloader.reload_if_changed()
    assert [each.name for each in Hook.list()] == ["another"]
    assert len([each for each in caplog.records if each.levelno >= logging.ERROR]) == 1
    file.say("hooks = []\n[builtin]\n")
    assert Hook.list() == []


def test_budgets_change_and_sums_stay(tmp_path: Path) -> None:
    """Raising a limit forgets nothing that was spent."""
    text = "[builtin.cost_tracking]\nbudgets = [{{limit = '{}'}}]\n"
    file = File(tmp_path, text.format(1))
    assert around.tracker is not None
    ledger = around.tracker.ledger
    file.say(text.format(2))
    assert around.tracker.ledger is ledger
    assert setting("cost_tracking", "budgets")[0].limit == 2


def test_no_call_is_lost_meanwhile(tmp_path: Path) -> None:
    """Every call is guarded by the old settings or the new ones, never by none."""
    text = "[builtin.security]\ndeny_tools = ['forbidden']\nmax_characters = {}\n[builtin.retry]\n"
    file = File(tmp_path, text.format(1000))
    ended = threading.Event()
    through: list[str] = []
    done: list[int] = []

    @tool("forbidden")
    def forbidden() -> None:
        through.append("reached")

    @tool("allowed")
    def allowed(number: int) -> int:
        return number

    def call() -> None:
        number = 0
        while not ended.is_set():
            with pytest.raises(Exception, match="tool_not_allowed"):
                forbidden()
            assert allowed(number) == number
            number += 1
        done.append(number)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(60):
        file.say(text.format(1001 + number))
        time.sleep(0.002)
    ended.set()
    for thread in threads:
        thread.join()
    assert through == []
    assert len(done) == 3
    assert setting("security", "max_characters") == 1060


PROGRAM = """
import sys, time, llmspell_otel
from pathlib import Path
from llmspell_otel import Hook
llmspell_otel.instrument()
print(sorted(each.name for each in Hook.list()), flush=True)
Path("llmspell-otel.toml").write_text("reload = 0.05\\n[builtin.retry]\\nfactor = 9\\n")
deadline = time.monotonic() + 20
while not Hook.is_builtin_enabled("retry") and time.monotonic() < deadline:
    time.sleep(0.02)
print(Hook.is_builtin_enabled("retry"), Hook.is_builtin_enabled("logging"))
"""


def test_a_running_program_takes_it_over_by_itself(tmp_path: Path) -> None:
    """A real process, started by us, whose file changes."""
    (tmp_path / "llmspell-otel.toml").write_text(
        "reload = 0.05\n[builtin.logging]\nlevel = 'error'\n"
    )
    (tmp_path / "program.py").write_text(PROGRAM)
    line = [sys.executable, "-m", "llmspell_otel.cli", "run", "program.py"]
    environment = {**os.environ, "OTEL_TRACES_EXPORTER": "none"}
    ran = subprocess.run(
        line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout.splitlines()[-1] == "True False", ran.stderr


FORKING = """
import os, time, llmspell_otel
from pathlib import Path
from llmspell_otel import Hook
llmspell_otel.instrument()
def seen():
    deadline = time.monotonic() + 20
    while not Hook.is_builtin_enabled("retry") and time.monotonic() < deadline:
        time.sleep(0.02)
    return Hook.is_builtin_enabled("retry") and not Hook.is_builtin_enabled("logging")
child = os.fork()
if child == 0:
    os._exit(0 if seen() else 1)
time.sleep(0.2)
Path("llmspell-otel.toml").write_text("reload = 0.05\\n[builtin.retry]\\nfactor = 9\\n")
print(seen(), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_watches_the_file_too(tmp_path: Path) -> None:
    """The thread that watches stays with the parent; the child begins its own."""
    (tmp_path / "llmspell-otel.toml").write_text(
        "reload = 0.05\n[builtin.logging]\nlevel = 'error'\n"
    )
    (tmp_path / "program.py").write_text(FORKING)
    line = [sys.executable, "-m", "llmspell_otel.cli", "run", "program.py"]
    environment = {**os.environ, "OTEL_TRACES_EXPORTER": "none"}
    ran = subprocess.run(
        line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout.splitlines()[-1] == "True 0", ran.stderr
