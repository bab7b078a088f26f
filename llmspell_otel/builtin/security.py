"""The security hook: checks, masks and refuses; fails closed."""

import logging
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final
from weakref import WeakKeyDictionary

from llmspell_otel.builtin import access
from llmspell_otel.builtin.audit import AuditTrail
from llmspell_otel.builtin.description import Builtin, Row
from llmspell_otel.builtin.identity import Identity, identity_of
from llmspell_otel.builtin.rendering import inert
from llmspell_otel.builtin.scanning import ATTACKS, Finding, Scanner
from llmspell_otel.builtin.security_settings import RANK, SecuritySettings
from llmspell_otel.builtin.validation import Check, check_of
from llmspell_otel.hooks.context import HookContext
from llmspell_otel.hooks.options import HookOptions
from llmspell_otel.hooks.results import Cancel, Modified, Result
from llmspell_otel.points import POINTS, HookPoint, Moment
from llmspell_otel.system import security_violation
from llmspell_otel.telemetry import names

_logger: Final = logging.getLogger("llmspell_otel.security")
_GROUPS: Final = ("tool", "model", "agent", "workflow")
_MOST: Final = 100  # findings of one moment that are told one by one
_CHECK: Final = "ToolValidation"  # comes before `BeforeToolExecution`, with the same input
_PART: Final = {Moment.BEFORE: "input", Moment.ERROR: "error"}


class Guardian:
    """Everything that the hooks of all points share."""

    def __init__(self, settings: SecuritySettings) -> None:
        self.settings = settings
        self.scanner = Scanner(settings)
        self.schemas: dict[str, Check] = {
            tool: check_of(schema) for tool, schema in settings.schemas.items()
        }
        self.trail = self._trail()
        self._told: WeakKeyDictionary[Any, list[Finding]] = WeakKeyDictionary()
        self._untold = True
        lists = (settings.allow_tools, settings.deny_tools, settings.allow_models)
        refuses = any((*lists, settings.deny_models, settings.roles, settings.schemas))
        self._is_idle = not refuses and settings.audit is None
        """Whether there is nothing to do about a value that is clean."""

    def _trail(self) -> AuditTrail | None:
        settings = self.settings
        if settings.audit is None:
            return None
        key = settings.audit_key.get_secret_value().encode() if settings.audit_key else b""
        return AuditTrail(settings.audit, key=key, sync=settings.audit_sync)

    # -- one moment

    def judge(self, context: HookContext) -> Result | None:
        """What is to be done at the moment of *context*."""
        moment = context.point.moment
        part = _PART.get(moment, "output")
        value = context.data.get(part)
        clean = self.scanner.is_clean(context, value)
        if clean and self._is_idle and moment is not Moment.ERROR:
            return None
        identity = identity_of(context, trust_baggage=self.settings.trust_baggage)
        findings = list(self._refused(context, identity))
        if not clean:
            findings += self.scanner.found(context, part, value)
        findings = self._new(context, findings)
        self._redact_recorded(context)
        changed = None
        if any(each.action == "mask" for each in findings):
            changed = self.scanner.masked(context, part, value)
        return self._answer(context, identity, findings, changed)

    def _new(self, context: HookContext, findings: list[Finding]) -> list[Finding]:
        """*findings* without those that checking a tool's input has told of already."""
        operation = context.operation
        if operation is None or context.component.type != "tool":
            return findings
        if context.point.name == _CHECK:
            self._told[operation] = findings
            return findings
        told = self._told.pop(operation, ())
        return [each for each in findings if each not in told or each.action in ("mask", "block")]

    def _redact_recorded(self, context: HookContext) -> None:
        """Take the secrets out of what is recorded of a stream that broke off."""
        operation: Any = context.operation
        if context.point.moment is Moment.ERROR and getattr(operation, "handed_over", False):
            operation.output = self.scanner.masked(context, "output", operation.output)

    def _refused(self, context: HookContext, identity: Identity) -> Iterator[Finding]:
        """What the component, its input's form and the user's roles break."""
        if context.point.moment is not Moment.BEFORE:
            return
        settings, kind, name = self.settings, context.component.type, context.component.name
        lists = {
            "tool": (settings.allow_tools, settings.deny_tools),
            "model": (settings.allow_models, settings.deny_models),
        }
        if kind in lists and not access.permitted(name, *lists[kind]):
            yield Finding(f"{kind}_not_allowed", name[:200], "block")
        if access.missing_role(f"{kind}:{name}", settings.roles, identity) is not None:
            yield Finding("role_missing", f"{kind}:{name}"[:200], "block")
        if kind == "tool":
            yield from self._misshapen(name, context.data.get("input"))

    def _misshapen(self, name: str, given: Any) -> Iterator[Finding]:
        for pattern, check in self.schemas.items():
            if fnmatchcase(name, pattern):
                problem = check(given if isinstance(given, Mapping) else {})
                if problem is not None:
                    yield Finding("schema", problem, self.settings.on_invalid)

    # -- the answer

    def _answer(
        self, context: HookContext, identity: Identity, findings: list[Finding], changed: Any
    ) -> Result | None:
        moment = context.point.moment
        if moment is Moment.CHUNK:
            self.scanner.grow(context, context.data.get("output"))
        recorded = self._record(context, identity, findings)
        for finding in findings[:_MOST]:
            self._tell(context, finding)
        worst = max(findings, key=lambda each: RANK.index(each.action), default=None)
        if worst is not None and worst.action == "block":
            context.notes.update(_notes(context, worst))
            return Cancel(f"security: {worst.rule} ({inert(worst.where)})")
        if not recorded:
            return Cancel("security: the audit trail cannot be written")
        if worst is None or changed is None:
            return None
        context.notes.update(_notes(context, worst))
        if getattr(context.operation, "handed_over", False) and moment is Moment.AFTER:
            # The stream is with its caller already; what is recorded of it is not.
            setattr(context.operation, "output", changed)  # noqa: B010 - hooks see it read-only
        return Modified({_PART.get(moment, "output"): changed})

    def _tell(self, context: HookContext, finding: Finding) -> None:
        component = context.component
        _logger.log(
            logging.INFO if finding.action in ("log", "mask") else logging.WARNING,
            "security: %s in %s of %s:%s: %s",
            finding.rule,
            inert(finding.where),
            component.type,
            inert(component.name[:200]),
            finding.action,
        )
        if finding.action in ("alert", "block"):
            detail = {
                "where": inert(finding.where),
                "action": finding.action,
                "point": context.point.spelling,
            }
            security_violation(finding.rule, component, detail=detail, operation=context.operation)

    def _record(self, context: HookContext, identity: Identity, findings: list[Finding]) -> bool:
        """Put it down in the audit trail; False if the call must not go on without."""
        trail, point = self.trail, context.point
        is_call = point.moment is not Moment.CHUNK and point.name != _CHECK
        if trail is None or not (findings or (self.settings.audit_calls and is_call)):
            return True
        try:
            trail.add(_entry(context, identity, findings))
        except OSError as error:
            closed = self.settings.on_audit_failure == "cancel"
            if self._untold:
                self._untold = False
                then = "calls are refused" if closed else "calls go on unrecorded"
                _logger.warning("security: the audit trail cannot be written (%s); %s", error, then)
            return not closed
        self._untold = True
        return True


def _entry(context: HookContext, identity: Identity, findings: list[Finding]) -> dict[str, Any]:
    component = context.component
    entry: dict[str, Any] = {
        "what": "violation" if findings else "call",
        "point": context.point.spelling,
        "component": inert(f"{component.type}:{component.name}"[:256]),
        "correlation": context.correlation_id,
        "user": inert(identity.user),
        "session": inert(identity.session),
        "rules": [each.record() for each in findings[:_MOST]],
    }
    if len(findings) > _MOST:
        entry["more"] = len(findings) - _MOST
    return entry


def _notes(context: HookContext, finding: Finding) -> dict[str, Any]:
    return {
        names.GUARDRAIL_NAME: "security",
        names.GUARDRAIL_TARGET_TYPE: context.component.type,
        names.GUARDRAIL_VERDICT_TYPE: finding.rule,
        names.GUARDRAIL_ACTION_TYPE: finding.action,
    }


class At:
    """The hook of one point."""

    __slots__ = ("__name__", "_guardian")

    def __init__(self, guardian: Guardian) -> None:
        self._guardian = guardian
        self.__name__ = "security"

    def __call__(self, context: HookContext) -> Result | None:
        """Judge the moment of *context*."""
        guardian = self._guardian
        settings = guardian.settings
        if settings.selects_all or settings.selects(context.component):
            return guardian.judge(context)
        return None


def build(settings: SecuritySettings) -> list[Row]:
    """A hook at each moment of tools, models, agents and workflows."""
    guardian = Guardian(settings)
    options = HookOptions(
        name="security",
        priority="highest",
        tags=("builtin", "security"),
        on_failure=settings.on_failure,
        breaker=settings.breaker_profile,
    )
    return [(point.spelling, At(guardian), options) for point in POINTS if _watched(point)]


def _watched(point: HookPoint) -> bool:
    return point.spelling.partition(":")[0] in _GROUPS and point.moment is not Moment.NOTICE


_BLOCKING: Final = dict.fromkeys(ATTACKS, "block")
BUILTIN: Final = Builtin(
    name="security",
    about="checks inputs, masks secrets, refuses what is not allowed, keeps an audit trail",
    settings=SecuritySettings,
    build=build,
    profiles={
        "default": {},
        "production": {**_BLOCKING, "personal": "mask", "breaker": "production"},
        "conservative": {
            **_BLOCKING,
            "personal": "mask",
            "prompt": "block",
            "breaker": "conservative",
        },
    },
)
