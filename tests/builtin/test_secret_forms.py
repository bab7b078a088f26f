"""What is taken for a secret by its form."""

import pytest

from llmspell_otel.builtin.rendering import SECRET_KEYS, SECRET_PATTERNS, Renderer


@pytest.mark.parametrize("start", ["sk-proj-", "ghp_", "ghr_", "xoxb-", "AIza", "Bearer "])
def test_forms_of_secrets_are_masked_in_text(start: str) -> None:
    """Logs and dumps mask them wherever they stand in a line."""
    secret = f"{start}{'a1B2c3D4e5F6' * 3}"[: len(start) + 35]
    line = Renderer.of(1024, SECRET_KEYS, SECRET_PATTERNS).text(f"use {secret} now")
    assert line == '"use [redacted] now"'
