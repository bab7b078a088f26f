"""The built-in hooks: ready-made, switched on by name.

``Hook.enable_builtin("retry", max_attempts=5)``, a file of settings, the environment and
``llmspell-otel run --builtin`` all go through the switchboard in `registry`.
"""

from llmspell_otel.builtin.registry import (
    NAMES,
    Enabled,
    available,
    disable,
    disable_all,
    enable,
    enabled,
    is_enabled,
    name_of,
)

__all__ = [
    "NAMES",
    "Enabled",
    "available",
    "disable",
    "disable_all",
    "enable",
    "enabled",
    "is_enabled",
    "name_of",
]
