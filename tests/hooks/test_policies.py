"""Policy files: loaded, exchanged and taken out as one unit."""

import logging
import os
import threading
import time
from pathlib import Path

import pytest

from llmspell_otel.errors import PolicyError
from llmspell_otel.events import Event, default_bus
from llmspell_otel.hooks import Hook, Replace
from llmspell_otel.hooks.policies import Policy, load_policy, watch

POINT = "custom:policy"
ANSWER = """
from dataclasses import dataclass
from llmspell_otel.hooks import Hook, Replace
from llmspell_otel.hooks.breaker import BreakerProfile

@dataclass
class Note:
    text: "str"

@Hook.on("custom:policy", breaker=BreakerProfile(slow_call_duration=60))
def answer(context):
    return Replace({answer!r})

@Hook.on("tool:error")
def other(context): ...
"""

REGISTERING = """
from llmspell_otel.hooks import Hook
Hook.register('tool:error', print)
Hook.register({})
"""


def written(path: Path, text: str) -> Path:
    """*text* in a file whose time differs from that of its last version."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(text)
    if path.stat().st_mtime_ns == before:
        os.utime(path, ns=(before + 1, before + 1))
    return path


def answer() -> object:
    """What the hooks at the point say."""
    result = Hook.fire(POINT)
    return result.value if isinstance(result, Replace) else None


def test_a_policy_is_loaded_and_unloaded_as_one(tmp_path: Path) -> None:
    """All its hooks come together and go together."""
    policy = load_policy(written(tmp_path / "p.py", ANSWER.format(answer=1)))
    assert [hook.name for hook in policy.hooks] == ["answer", "other"]
    assert Hook.list() == sorted(policy.hooks, key=Hook.list().index)
    assert answer() == 1
    policy.unload()
    policy.unload()
    assert (Hook.list(), policy.hooks, answer()) == ([], [], None)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("def (:", "line 1: "),
        ("import nothing_of_that_name", "line 1: ModuleNotFoundError"),
        ("\n\n1 / 0", "line 3: ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "line 1: SystemExit: 3"),
        (
            ANSWER.format(answer=1) + "\nHook.register('tool:eror', print)",
            "line 17: UnknownHookPointError: .*did",
        ),
        (
            ANSWER.format(answer=1) + "\nHook.register('tool:error', lambda: None)",
            "line 17: HookSignatureError",
        ),
        ("\0", "null bytes"),
    ],
)
def test_a_policy_that_does_not_load_says_where_and_leaves_nothing(
    tmp_path: Path, text: str, problem: str
) -> None:
    """One error, with path, line and cause; not one of its hooks is in force."""
    path = written(tmp_path / "p.py", text)
    with pytest.raises(PolicyError, match=f"p.py' was not loaded: .*{problem}") as caught:
        load_policy(path)
    assert caught.value.path == str(path)
    assert Hook.list() == []


def test_a_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    """So is a folder."""
    with pytest.raises(PolicyError, match="No such file"):
        load_policy(tmp_path / "absent.py")
    with pytest.raises(PolicyError, match="Is a directory"):
        load_policy(tmp_path)


def test_a_change_is_taken_over_and_a_broken_one_is_not(tmp_path: Path) -> None:
    """The earlier policy stays until a later one loads; each broken version is told once."""
    path = written(tmp_path / "p.py", ANSWER.format(answer=1))
    policy = load_policy(path)
    assert policy.reload_if_changed() is False
    written(path, ANSWER.format(answer=2))
    assert policy.reload_if_changed() is True
    assert answer() == 2
    written(path, ANSWER.format(answer=3) + "\n1/0")
    with pytest.raises(PolicyError, match="ZeroDivisionError"):
        policy.reload_if_changed()
    assert policy.reload_if_changed() is False
    assert answer() == 2
    written(path, ANSWER.format(answer=4))
    assert policy.reload_if_changed() is True
    assert answer() == 4
    assert len(Hook.list()) == 2


def test_a_policy_whose_hooks_cannot_be_ordered_changes_nothing(tmp_path: Path) -> None:
    """What is found wrong at the last moment still leaves the earlier policy in force."""
    path = written(tmp_path / "p.py", ANSWER.format(answer=1))
    policy = load_policy(path)
    circle = "\nHook.register('custom:policy', print, name='x', before=['x'])"
    written(path, ANSWER.format(answer=2) + circle)
    with pytest.raises(PolicyError, match="go round"):
        policy.reload()
    assert answer() == 1
    assert [hook.point is None for hook in policy.hooks] == [False, False]


def test_subscriptions_of_a_policy_come_and_go_with_it(tmp_path: Path) -> None:
    """A reloaded policy does not hear everything twice."""
    text = "from llmspell_otel.events import Event\nheard = []\n@Event.on('news:*')\n"
    path = written(tmp_path / "p.py", text + "def hear(event): heard.append(event.data)\n")
    before = len(default_bus().subscriptions())
    policy = load_policy(path)
    policy.reload()
    assert len(default_bus().subscriptions()) == before + 1
    Event.publish("news:today", 1)
    assert policy.module is not None
    assert policy.module.heard == [1]
    policy.unload()
    assert len(default_bus().subscriptions()) == before


def test_no_call_is_lost_while_policies_are_exchanged(tmp_path: Path) -> None:
    """Whatever the moment, a firing meets the old hook or the new one."""
    path = written(tmp_path / "p.py", ANSWER.format(answer=1))
    policy = load_policy(path)
    answers: list[object] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            answers.append(answer())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(60):
        path.write_text(ANSWER.format(answer=turn % 2))
        policy.reload()
    ended.set()
    for thread in threads:
        thread.join()
    assert set(answers) == {0, 1}
    assert len(Hook.list()) == 2


def test_registering_elsewhere_meanwhile_is_not_part_of_the_policy(tmp_path: Path) -> None:
    """What another thread registers while a policy loads takes effect, and is not taken out."""
    text = "import time\ntime.sleep(0.1)\n" + ANSWER.format(answer=1)
    path = written(tmp_path / "p.py", text)
    loaded: list[Policy] = []
    thread = threading.Thread(target=lambda: loaded.append(load_policy(path)))
    thread.start()
    time.sleep(0.02)
    mine = Hook.register(POINT, lambda context: None)
    assert Hook.list(POINT) == [mine]
    thread.join()
    loaded[0].unload()
    assert Hook.list() == [mine]


def test_watching_reloads_and_reports(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A watched policy follows its file; a broken file is logged once and changes nothing."""
    path = written(tmp_path / "p.py", ANSWER.format(answer=1))
    end = watch([load_policy(path)], interval=0.01)
    try:
        written(path, ANSWER.format(answer=2))
        _until(lambda: answer() == 2)
        with caplog.at_level(logging.ERROR, "llmspell_otel.hooks"):
            written(path, "broken(")
            _until(lambda: bool(caplog.records))
            time.sleep(0.05)
        assert len(caplog.records) == 1
        assert "stays in force" in caplog.text
        assert answer() == 2
    finally:
        end()


def _until(true: object, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.005)
