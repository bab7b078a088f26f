"""Switching built-in hooks on and off, by name."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from llmspell_otel import Hook, tool
from llmspell_otel.builtin import enabled, name_of
from llmspell_otel.builtin.cost_tracking import around
from llmspell_otel.builtin.debugging import recorder
from llmspell_otel.builtin.description import BuiltinSettings
from llmspell_otel.builtin.registry import switchboard
from llmspell_otel.errors import SettingsError, UnknownBuiltinError
from llmspell_otel.hooks.policies import load_policy
from llmspell_otel.hooks.registry import registry

ALIASES = {
    "AuditLogger": "security",
    "CachingOptimizer": "caching",
    "CostTracker": "cost_tracking",
    "DebugLogger": "debugging",
    "InputSanitizer": "security",
    "MetricsCollector": "metrics",
    "PerformanceMonitor": "metrics",
    "RetryHandler": "retry",
    "SecurityValidator": "security",
    "LoggingHook": "logging",
    "RateLimitHook": "rate_limit",
    "rate-limit": "rate_limit",
}
REFUSED = {
    "AuthorizationChecker": "'security'",
    "CircuitBreaker": "'breaker'",
    "DependencyResolver": "`before`",
    "HealthChecker": "llmspell-otel doctor",
    "MockProvider": "ModelServer",
    "ResourceLimiter": "'rate_limit'",
    "TokenOptimizer": "Modified",
    "TracingIntegrator": "instrument()",
    "WorkflowOrchestrator": "@workflow",
}


def test_a_builtin_is_on_from_enabling_to_disabling() -> None:
    """Enabling registers its hooks, disabling takes out exactly those."""
    other = Hook.register("tool:error", lambda context: None)
    handle = Hook.enable_builtin("logging")
    assert handle.name == "logging"
    assert set(Hook.list(tag="logging")) == set(handle.hooks)
    assert Hook.is_builtin_enabled("logging")
    assert Hook.disable_builtin("logging")
    assert not Hook.is_builtin_enabled("logging")
    assert not Hook.disable_builtin("logging")
    assert registry.hooks() == [other]


def test_enabling_again_exchanges_the_settings() -> None:
    """The same settings change nothing; others take the place of the old ones."""
    first = Hook.enable_builtin("logging", level="error")
    assert Hook.enable_builtin("logging", {"level": "error"}) is first
    second = Hook.enable_builtin("logging", level="info")
    assert set(registry.hooks()) == set(second.hooks)
    assert enabled()["logging"] is second


def test_all_are_switched_off_at_once() -> None:
    """It tells how many were on."""
    Hook.enable_builtin("logging")
    assert Hook.disable_all_builtin() == 1
    assert Hook.disable_all_builtin() == 0
    assert not registry.hooks()


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_other_names_mean_a_builtin(alias: str, name: str) -> None:
    """Names of other documentation, and other spellings, lead to the built-in hook."""
    assert name_of(alias) == name


@pytest.mark.parametrize(("name", "mend"), REFUSED.items())
def test_names_without_a_builtin_are_refused_with_what_to_use(name: str, mend: str) -> None:
    """What other documentation promises and is done elsewhere names that place."""
    with pytest.raises(UnknownBuiltinError) as refused:
        Hook.enable_builtin(name)
    assert mend in str(refused.value)


@pytest.mark.parametrize("call", [Hook.enable_builtin, Hook.disable_builtin])
def test_a_mistyped_name_is_told_the_right_one(call: object) -> None:
    """The error names the nearest."""
    with pytest.raises(UnknownBuiltinError, match="did you mean 'caching'"):
        call("cashing")  # type: ignore[operator]
    with pytest.raises(UnknownBuiltinError, match="there are caching, cost_tracking"):
        call("zzz")  # type: ignore[operator]


@pytest.mark.parametrize(
    ("settings", "named", "mend"),
    [
        ({"level": "loud"}, "builtin.logging.level", "'warning'"),
        ({"levle": "info"}, "builtin.logging.levle", "use one of"),
        ({"levels": {"tool:*": "x"}}, "builtin.logging.levels.tool:*", "'warning'"),
        ({"max_bytes": "many"}, "builtin.logging.max_bytes", "integer"),
        ({"redact_patterns": ["("]}, "builtin.logging.redact_patterns", "regular expression"),
        ({"breaker": "none"}, "builtin.logging.breaker", "'production'"),
    ],
)
def test_a_wrong_setting_names_itself_and_its_mend(
    settings: dict[str, object], named: str, mend: str
) -> None:
    """And what was in force stays in force."""
    before = Hook.enable_builtin("logging")
    with pytest.raises(SettingsError) as wrong:
        Hook.enable_builtin("logging", settings)
    assert wrong.value.name == named
    assert mend in str(wrong.value)
    assert enabled()["logging"] is before


def test_a_policy_brings_its_builtins_and_takes_them_along(tmp_path: Path) -> None:
    """They live and are exchanged with the policy; a policy that fails leaves none."""
    path = tmp_path / "policy.py"
    path.write_text("from llmspell_otel import Hook\nHook.enable_builtin('logging')\n")
    policy = load_policy(path)
    assert Hook.is_builtin_enabled("logging")
    path.write_text("from llmspell_otel import Hook\nHook.enable_builtin('logging', level='error')")
    policy.reload()
    assert {hook.name for hook in registry.hooks()} == {"logging"}
    assert set(registry.hooks()) == set(enabled()["logging"].hooks)
    policy.unload()
    assert not Hook.is_builtin_enabled("logging")
    assert not registry.hooks()


def test_texts_are_read_as_lists() -> None:
    """Variables and command lines have no lists: commas do."""
    given = BuiltinSettings.model_validate({"include": "tool:a*, model:*"})
    assert given.include == ("tool:a*", "model:*")


def test_asking_what_is_on_imports_no_settings_machinery() -> None:
    """Pydantic is imported when the first built-in hook is enabled, not before."""
    program = (
        "import sys; from llmspell_otel import Hook;"
        "assert not Hook.is_builtin_enabled('logging');"
        "assert 'pydantic' not in sys.modules;"
        "Hook.enable_builtin('logging'); assert 'pydantic' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_those_who_look_on_see_failures_that_are_mended(caplog: pytest.LogCaptureFixture) -> None:
    """What the retry hook retries is logged and kept all the same."""
    from llmspell_otel.builtin.debugging import recorder

    for name in ("retry", "logging", "debugging"):
        Hook.enable_builtin(
            name, **({"tools": ["flaky"], "base_delay": 0} if name == "retry" else {})
        )
    calls: list[None] = []

    @tool("flaky")
    def flaky() -> str:
        calls.append(None)
        if len(calls) < 3:
            raise ConnectionError("reset")
        return "done"

    with caplog.at_level(logging.INFO, "llmspell_otel.calls"):
        assert flaky() == "done"
    assert caplog.text.count("error=ConnectionError") == 2
    kept = recorder()
    assert kept is not None
    assert [each["attempt"] for each in kept.find(point="tool:error")] == [1, 2]


def test_what_cannot_be_built_takes_nothing_away() -> None:
    """The sums, moments and counts at hand are those in force, before and after a failure."""
    for name in ("cost_tracking", "debugging", "metrics"):
        Hook.enable_builtin(name)
    before = around.tracker, recorder(), enabled()["metrics"].parts
    wanted = {"cost_tracking": {"window": 60}, "debugging": {"entries": 7}, "metrics": {}}
    with pytest.raises(SettingsError, match=r"builtin\.caching\.redis"):
        switchboard.exchange({**wanted, "caching": {"redis": "nowhere"}}, ())
    assert (around.tracker, recorder(), enabled()["metrics"].parts) == before
    assert around.tracker is not None
    switchboard.exchange(wanted, ())
    assert around.tracker not in before
    assert recorder() not in (None, *before)
    Hook.disable_all_builtin()
    assert (around.tracker, recorder()) == (None, None)
