"""What the built-in hooks are called, here and in other documentation."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from llmspell_otel.errors import UnknownBuiltinError

HOMES: Final = {
    name: f"llmspell_otel.builtin.{name}"
    for name in (
        "caching",
        "cost_tracking",
        "debugging",
        "logging",
        "metrics",
        "rate_limit",
        "retry",
        "security",
    )
}
"""The module of each, imported when it is first enabled."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A built-in hook, and the settings that another name of it stands for."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])


_PRESETS: Final = {
    "AuditLogger": Preset("security"),
    "CachingOptimizer": Preset("caching"),
    "CostTracker": Preset("cost_tracking"),
    "DebugLogger": Preset("debugging"),
    "InputSanitizer": Preset("security"),
    "MetricsCollector": Preset("metrics"),
    "PerformanceMonitor": Preset("metrics"),
    "RetryHandler": Preset("retry", {"statuses": [429, 502, 503, 504], "max_delay": 30.0}),
    "SecurityValidator": Preset("security"),
}
_REFUSED: Final = {
    "AuthorizationChecker": "answer Cancel in a hook of your own, or use 'security'",
    "CircuitBreaker": "every hook has one; choose its profile with the setting 'breaker'",
    "DependencyResolver": "order hooks with the options `before` and `after` of Hook.register",
    "HealthChecker": "run `llmspell-otel doctor`",
    "MockProvider": "use llmspell_otel.testing.ModelServer",
    "ResourceLimiter": "use 'rate_limit', which limits operations, tokens and dollars",
    "TokenOptimizer": "answer Modified in a hook of your own",
    "TracingIntegrator": "llmspell_otel.instrument() traces every call already",
    "WorkflowOrchestrator": "decorate the steps with @workflow and @stage",
}


def _folded(name: str) -> str:
    plain = "".join(letter for letter in name.lower() if letter.isalnum())
    return plain.removesuffix("hook") or plain


_KNOWN: Final = {
    **{_folded(name): Preset(name) for name in HOMES},
    **{_folded(name): preset for name, preset in _PRESETS.items()},
}
_UNAVAILABLE: Final = {_folded(name): mend for name, mend in _REFUSED.items()}


def preset_of(name: str) -> Preset:
    """The built-in hook that *name* means, in any of its spellings.

    Raises:
        UnknownBuiltinError: there is none; the error says what to use.
    """
    folded = _folded(name)
    if folded in _KNOWN:
        return _KNOWN[folded]
    if folded in _UNAVAILABLE:
        raise UnknownBuiltinError(name, _UNAVAILABLE[folded])
    near = difflib.get_close_matches(folded, [*_KNOWN, *_UNAVAILABLE], n=1, cutoff=0.6)
    if near and near[0] in _UNAVAILABLE:
        raise UnknownBuiltinError(name, _UNAVAILABLE[near[0]])
    hint = f"did you mean {_KNOWN[near[0]].name!r}? " if near else ""
    raise UnknownBuiltinError(name, f"{hint}there are {', '.join(HOMES)}")
