"""Settings from files, the environment and the command line."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmspell_otel import Hook, settings_reload
from llmspell_otel.builtin import enabled
from llmspell_otel.builtin.description import Builtin
from llmspell_otel.builtin.names import HOMES
from llmspell_otel.builtin.registry import checked, describe
from llmspell_otel.hooks.conditions import DEFAULT_TIMEOUT, conditions
from llmspell_otel.settings import Settings, apply, builtins_of, load, start
from llmspell_otel.settings_there import settings_there

MINE = tuple(HOMES)


@pytest.fixture(autouse=True)
def conditions_kept() -> Any:
    """Settings change what every firing shares."""
    yield
    settings_reload.end()
    conditions.timeout = DEFAULT_TIMEOUT


def wanted(folder: Path, **variables: str) -> dict[str, Any]:
    """The built-in hooks that the settings in *folder* ask for."""
    environment = {f"LLMSPELL_OTEL_{name}": value for name, value in variables.items()}
    settings, problems = load(folder, environment)
    assert not problems
    return dict(builtins_of(settings))


def test_the_environment_wins_over_our_file_and_that_over_pyproject(tmp_path: Path) -> None:
    """Key by key."""
    (tmp_path / "pyproject.toml").write_text(
        "[tool.llmspell-otel.builtin.retry]\nmax_attempts = 9\nbase_delay = 3.0\nfactor = 4.0\n"
    )
    (tmp_path / "llmspell-otel.toml").write_text(
        "[builtin.retry]\nmax_attempts = 5\nbase_delay = 2.0\n"
    )
    found = wanted(tmp_path, BUILTIN__RETRY__MAX_ATTEMPTS="2")
    assert found == {"retry": {"max_attempts": 2, "base_delay": 2.0, "factor": 4.0}}


@pytest.mark.parametrize("word", ["true", "on", "1", "yes", "True"])
def test_a_word_switches_on(tmp_path: Path, word: str) -> None:
    """With the settings that it has."""
    assert wanted(tmp_path, BUILTIN__LOGGING=word) == {"logging": {}}


@pytest.mark.parametrize("word", ["false", "off", "0", "no"])
def test_a_word_switches_off(tmp_path: Path, word: str) -> None:
    """What a file switches on, its settings kept in the file."""
    (tmp_path / "llmspell-otel.toml").write_text("[builtin]\nretry = true\n[builtin.logging]\n")
    assert wanted(tmp_path, BUILTIN__LOGGING=word) == {"retry": {}}
    assert wanted(tmp_path, BUILTIN__LOGGING__ENABLED=word) == {"retry": {}}


def test_nested_settings_have_names_in_the_environment(tmp_path: Path) -> None:
    """Two underscores lead into a section."""
    found = wanted(tmp_path, BUILTIN__CACHING__TTL="60", BUILTIN__CACHING__INCLUDE="tool:*,model:*")
    settings = checked(describe("caching"), found["caching"])
    assert (settings.ttl, settings.include) == (60.0, ("tool:*", "model:*"))


def test_variables_of_other_parts_are_left_alone(tmp_path: Path) -> None:
    """They are not settings of ours, and not mistakes either."""
    assert wanted(tmp_path, SPOOL_DIR="x", HOOKS="a.py:b.py", PRELOAD_PRICES="true") == {}


def test_policy_files_are_found_from_the_file_that_names_them(tmp_path: Path) -> None:
    """Wherever the program is started."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "mine.toml").write_text('hooks = ["policy.py"]\n')
    settings, problems = load(tmp_path, {"LLMSPELL_OTEL_CONFIG": "conf/mine.toml"})
    assert not problems
    assert settings.hooks == (str(tmp_path / "conf" / "policy.py"),)


@pytest.mark.parametrize(
    ("file", "text", "named"),
    [
        ("llmspell-otel.toml", "hook_timeout = 'long'\n[builtin]\nretry = true", "hook_timeout"),
        ("llmspell-otel.toml", "profle = 1\n[builtin]\nretry = true", "use one of profile"),
        ("pyproject.toml", "not toml", "mend the file"),
        ("llmspell-otel.toml", "\xff[", "cannot be read"),
        ("llmspell-otel.toml", "builtin = 3", "builtin"),
        ("llmspell-otel.toml", "profile = 'fast'", "'conservative'"),
    ],
)
def test_what_is_wrong_is_named_and_the_rest_holds(
    tmp_path: Path, file: str, text: str, named: str
) -> None:
    """One error for each mistake."""
    (tmp_path / file).write_bytes(text.encode("latin-1"))
    settings, problems = load(tmp_path, {})
    assert len(problems) == 1
    assert named in str(problems[0])
    assert settings.hook_timeout == DEFAULT_TIMEOUT
    assert settings.profile is None
    if "retry" in text:
        assert settings.builtin == {"retry": True}


def test_a_missing_file_of_settings_is_named(tmp_path: Path) -> None:
    """If somebody asked for it; else there need not be one."""
    _, problems = load(tmp_path, {"LLMSPELL_OTEL_CONFIG": "nowhere.toml"})
    assert "nowhere.toml" in str(problems[0])
    assert load(tmp_path, {})[1] == []


def test_an_unreadable_variable_is_named(tmp_path: Path) -> None:
    """With an example of a good one."""
    _, problems = load(tmp_path, {"LLMSPELL_OTEL_BUILTIN": "garbage"})
    assert "RETRY__MAX_ATTEMPTS=5" in str(problems[0])


def test_wrong_builtins_are_named_and_the_others_are_on() -> None:
    """Unknown ones, wrong switches and wrong settings."""
    given = {
        "retry": True,
        "caching": {"ttl": -1},
        "lodging": True,
        "MockProvider": True,
        "rate_limit": "perhaps",
    }
    problems = apply(Settings(builtin=given))
    assert set(enabled()) == {"retry"}
    told = sorted(str(problem) for problem in problems)
    assert [("lodging" in text, "logging" in text) for text in told if "lodging" in text]
    for mend in ("builtin.caching.ttl", "did you mean 'logging'", "ModelServer", "true, false"):
        assert any(mend in text for text in told)


def test_the_hooks_time_is_set() -> None:
    """For asynchronous hooks that do not say."""
    apply(Settings(hook_timeout=2.5))
    assert conditions.timeout == 2.5


@pytest.mark.parametrize("profile", ["default", "production", "conservative"])
def test_profiles_are_usable(profile: str) -> None:
    """Every setting of every profile is one there is; breakers are of the same profile."""
    for name in MINE:
        builtin: Builtin = describe(name)
        assert profile in builtin.profiles
        own = builtin.profiles[profile]
        if own is not None:
            assert checked(builtin, own).breaker == profile


def test_a_profile_switches_its_builtins_on() -> None:
    """And single settings go on top."""
    assert not apply(Settings(profile="production", builtin={"retry": {"max_attempts": 7}}))
    on = enabled()
    assert set(on) == set(HOMES)
    assert (on["retry"].settings.max_attempts, on["retry"].settings.jitter) == (7, "decorrelated")
    assert all(hook.breaker.profile.failure_threshold == 2 for hook in on["retry"].hooks)


def test_profiles_agree_with_each_other() -> None:
    """The later the more careful, and nothing of what was said is kept where it matters."""

    def of(name: str) -> list[Any]:
        builtin: Builtin = describe(name)
        own = [builtin.profiles[profile] for profile in ("default", "production", "conservative")]
        return [None if each is None else checked(builtin, each) for each in own]

    assert [each.output_tokens for each in of("cost_tracking")] == [1024, 2048, 8192]
    assert [each.sql for each in of("security")] == ["alert", "block", "block"]
    assert [each.prompt for each in of("security")] == ["alert", "alert", "block"]
    assert [each.content for each in of("debugging")] == [True, False, False]
    assert [each.content for each in of("logging")] == [False, False, False]
    assert [each.duration for each in of("metrics")] == [True, False, True]
    assert [each and each.rate for each in of("rate_limit")] == [None, 50, 10]
    assert [each.max_attempts for each in of("retry")] == [3, 4, 2]


@pytest.mark.parametrize("profile", ["default", "production", "conservative"])
def test_the_table_of_profiles_names_every_builtin(profile: str) -> None:
    """Off is off there, and on is on."""
    page = (Path(__file__).parents[2] / "docs/how-to/builtin-hooks.md").read_text("utf-8")
    column = 3 + ["default", "production", "conservative"].index(profile)
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| [`")]
    told = {row[1].split("`")[1]: row[column].strip() != "off" for row in rows}
    assert told == {name: describe(name).profiles[profile] is not None for name in HOMES}


def test_a_profile_can_be_told_to_leave_one_out() -> None:
    """Off is off."""
    apply(Settings(profile="production", builtin={"caching": False}))
    assert "caching" not in enabled()
    assert "retry" in enabled()


def test_settings_are_looked_for_before_anything_is_imported(tmp_path: Path) -> None:
    """Where there are none, reading them costs nothing."""
    assert not settings_there(tmp_path, {"LLMSPELL_OTEL_HOOKS": "x", "HOME": "y"})
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    assert not settings_there(tmp_path, {})
    (tmp_path / "pyproject.toml").write_text("[tool.llmspell-otel.builtin]\n")
    assert settings_there(tmp_path, {})
    (tmp_path / "pyproject.toml").unlink()
    (tmp_path / "llmspell-otel.toml").write_text("")
    assert settings_there(tmp_path, {})
    assert settings_there(tmp_path / "no", {"LLMSPELL_OTEL_PROFILE": "production"})


def test_what_is_wrong_is_logged_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is raised."""
    (tmp_path / "llmspell-otel.toml").write_text("hooks = ['p.py']\n[builtin.retry]\nfactor = 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LLMSPELL_OTEL_HOOKS", raising=False)
    with caplog.at_level(logging.ERROR, "llmspell_otel"):
        assert start() == (str(tmp_path / "p.py"),)
        monkeypatch.setenv("LLMSPELL_OTEL_HOOKS", "other.py")
        assert start() == ()
    assert "builtin.retry.factor" in caplog.text
    assert not Hook.is_builtin_enabled("retry")


PROGRAM = """
import json, llmspell_otel
from llmspell_otel.builtin import enabled
llmspell_otel.instrument()
print(json.dumps({name: each.settings.model_dump(mode="json") for name, each in enabled().items()}))
"""


def _run(folder: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    path = folder / "program.py"
    path.write_text(PROGRAM)
    environment = {**os.environ, "OTEL_TRACES_EXPORTER": "none", **variables}
    line = [sys.executable, "-m", "llmspell_otel.cli", "run", *options, str(path)]
    return subprocess.run(
        line, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_a_program_started_by_us_has_its_builtins(tmp_path: Path) -> None:
    """From the file in its folder, the environment and the command line."""
    (tmp_path / "llmspell-otel.toml").write_text(
        "[builtin.retry]\nmax_attempts = 5\nfactor = 3.0\n[builtin.caching]\nttl = -1\n"
    )
    ended = _run(
        tmp_path,
        "--builtin",
        "logging:level=error,points=tool:*,model:*",
        "--builtin",
        "retry:factor=4",
    )
    assert ended.returncode == 0, ended.stderr
    on = json.loads(ended.stdout.splitlines()[0])
    assert set(on) == {"logging", "retry"}
    assert (on["retry"]["max_attempts"], on["retry"]["factor"]) == (5, 4.0)
    assert on["logging"]["points"] == ["tool:*", "model:*"]
    assert "builtin.caching.ttl" in ended.stderr


@pytest.mark.parametrize(
    ("option", "mend"),
    [
        ("lodging", "did you mean 'logging'"),
        ("retry:max_attempts=many", "builtin.retry.max_attempts"),
        ("retry:often", "KEY=VALUE"),
        ("retry:tries=3", "use one of"),
    ],
)
def test_the_command_line_refuses_what_is_wrong(tmp_path: Path, option: str, mend: str) -> None:
    """Before the program starts."""
    ended = _run(tmp_path, "--builtin", option)
    assert ended.returncode == 2
    assert mend in " ".join(ended.stderr.split())
    assert not ended.stdout


def test_every_builtin_has_a_home() -> None:
    """All eight can be described."""
    assert len(MINE) == 8
    assert [describe(name).name for name in MINE] == list(MINE)
