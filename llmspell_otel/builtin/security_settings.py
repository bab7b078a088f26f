"""What the security hook can be told."""

from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, SecretStr, field_validator

from llmspell_otel.builtin.description import BuiltinSettings, Words
from llmspell_otel.builtin.detection import own_rule
from llmspell_otel.builtin.rendering import SECRET_KEYS
from llmspell_otel.builtin.validation import check_of

Action = Literal["off", "log", "alert", "mask", "block"]
"""What a finding does: nothing, a line in log and audit trail, that and the point
`SecurityViolation`, a masked copy, or a refusal (with the point)."""

RANK: Final = ("off", "log", "alert", "mask", "block")


class SecuritySettings(BuiltinSettings):
    """What is looked for, what a finding does, and who may call what."""

    keys: Action = "mask"
    """Values under the names in `mask_keys`, at every depth."""
    mask_keys: Words = SECRET_KEYS
    """Names of secrets, also as the end of a longer name."""
    secrets: Action = "mask"
    """Keys, tokens and passwords known by their form."""
    personal: Action = "log"
    """Addresses, telephone, card, account and social security numbers."""
    sql: Action = "alert"
    """Injected SQL in the input of tools."""
    shell: Action = "alert"
    """Injected commands in the input of tools."""
    path: Action = "alert"
    """Paths in the input of tools that lead out of where they begin."""
    markup: Action = "alert"
    """Injected scripts in the input of tools."""
    prompt: Action = "alert"
    """Instructions to the model in what tools give back, and in its own input."""
    patterns: dict[str, str] = Field(default_factory=dict)
    """Regular expressions of your own, by name, with bounded repetitions."""
    on_patterns: Action = "mask"
    """What they do."""

    schemas: dict[str, Any] = Field(default_factory=dict)
    """By tool, with wildcards: a JSON Schema, a pydantic model, or `"module:Model"`."""
    on_invalid: Literal["alert", "block"] = "block"
    """What an input does that does not fit its schema."""
    allow_tools: Words = ()
    deny_tools: Words = ()
    """Names of tools, with wildcards. Nothing allowed means that everything is."""
    allow_models: Words = ()
    deny_models: Words = ()
    """Names of models, with wildcards."""
    allow_hosts: Words = ()
    deny_hosts: Words = ()
    """Domains, with their subdomains, that inputs of tools and models may name."""
    allow_paths: Words = ()
    deny_paths: Words = ()
    """Folders, with what is in them, that inputs of tools may name."""
    roles: dict[str, Words] = Field(default_factory=dict)
    """By component (`tool:refund`), with wildcards: roles, of which one is needed."""
    trust_baggage: bool = False
    """Whether user and roles are also read from OpenTelemetry baggage."""

    max_characters: int = Field(2_000_000, ge=1)
    """Characters of one input or output that are looked through."""
    max_seconds: float = Field(1.0, gt=0, le=60)
    """Seconds that looking through one input or output may take."""
    on_unscanned: Literal["block", "alert"] = "block"
    """What a value does that is too large, too deep or takes too long."""
    on_failure: Literal["cancel", "skip"] = "cancel"
    """Whether a call is refused when the hook itself fails."""

    audit: Path | None = None
    """The file of the audit trail."""
    audit_calls: bool = True
    """Whether it has every call, or findings only."""
    audit_key: SecretStr | None = None
    """What its lines are sealed with."""
    audit_sync: bool = False
    """Whether each line is on the disk before the call goes on."""
    on_audit_failure: Literal["cancel", "continue"] = "cancel"
    """Whether calls are refused while the trail cannot be written."""

    @field_validator("patterns")
    @classmethod
    def _bounded(cls, patterns: dict[str, str]) -> dict[str, str]:
        for name, pattern in patterns.items():
            own_rule(name, pattern)
        return patterns

    @field_validator("schemas")
    @classmethod
    def _checkable(cls, schemas: dict[str, Any]) -> dict[str, Any]:
        for schema in schemas.values():
            check_of(schema)
        return schemas

    def action(self, family: str) -> str:
        """What a finding of *family* does."""
        named: str = self.on_patterns if family == "patterns" else getattr(self, family)
        return named
