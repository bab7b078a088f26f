"""Whether there are settings at all: asked first, because reading them imports much."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_VARIABLES: Final = tuple(
    f"LLMSPELL_OTEL_{name}" for name in ("BUILTIN", "CONFIG", "HOOK_TIMEOUT", "PROFILE", "RELOAD")
)
_SECTION: Final = b"[tool.llmspell-otel"


def settings_there(folder: Path | None = None, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a file in *folder* or a variable sets something."""
    if any(name.upper().startswith(_VARIABLES) for name in environment):
        return True
    try:
        where = Path.cwd() if folder is None else folder
        if (where / "llmspell-otel.toml").exists():
            return True
        return _SECTION in (where / "pyproject.toml").read_bytes()
    except OSError:
        return False
