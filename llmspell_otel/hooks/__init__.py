"""Hooks: look at a moment of a call and say what should happen next."""

from typing import TYPE_CHECKING

from llmspell_otel.lazy import rooms

if TYPE_CHECKING:
    from llmspell_otel.hooks.api import Hook
    from llmspell_otel.hooks.context import Component, Decision, HookContext
    from llmspell_otel.hooks.registry import (
        PRIORITIES,
        HookOptions,
        Registration,
        Registry,
        RegistryStats,
    )
    from llmspell_otel.hooks.results import (
        CONTINUE,
        Cache,
        Cancel,
        Continue,
        Fork,
        Modified,
        Redirect,
        Replace,
        Result,
        Retry,
        Skipped,
        result_of,
    )
    from llmspell_otel.hooks.store import MISSING, MemoryStore, Store

__all__ = [
    "CONTINUE",
    "MISSING",
    "PRIORITIES",
    "Cache",
    "Cancel",
    "Component",
    "Continue",
    "Decision",
    "Fork",
    "Hook",
    "HookContext",
    "HookOptions",
    "MemoryStore",
    "Modified",
    "Redirect",
    "Registration",
    "Registry",
    "RegistryStats",
    "Replace",
    "Result",
    "Retry",
    "Skipped",
    "Store",
    "result_of",
]

__getattr__ = rooms(
    __name__,
    {
        "api": ("Hook",),
        "context": (
            "Component",
            "Decision",
            "HookContext",
        ),
        "registry": (
            "PRIORITIES",
            "HookOptions",
            "Registration",
            "Registry",
            "RegistryStats",
        ),
        "results": (
            "CONTINUE",
            "Cache",
            "Cancel",
            "Continue",
            "Fork",
            "Modified",
            "Redirect",
            "Replace",
            "Result",
            "Retry",
            "Skipped",
            "result_of",
        ),
        "store": (
            "MISSING",
            "MemoryStore",
            "Store",
        ),
    },
)
