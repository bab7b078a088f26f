"""The security hook: checks, masks and refuses; fails closed."""

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final
from weakref import WeakKeyDictionary

from llmspell_otel.builtin import access
from llmspell_otel.builtin.audit import AuditTrail
from llmspell_otel.builtin.description import Builtin, Row
from llmspell_otel.builtin.detection import RULES, Detector, OutOfTimeError, own_rule
from llmspell_otel.builtin.identity import Identity, identity_of
from llmspell_otel.builtin.masking import Limits, Text, UnscannedError, masked, texts
from llmspell_otel.builtin.rendering import MASK, Renderer, inert
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
_EVERYWHERE: Final = ("secrets", "personal", "patterns")
_ATTACKS: Final = ("sql", "shell", "path", "markup")
_TAIL: Final = 512  # characters of a stream that the next chunk is read together with
_MOST: Final = 100  # findings of one moment that are told one by one
_CHECK: Final = "ToolValidation"  # comes before `BeforeToolExecution`, with the same input
_TOKENS: Final = re.compile(r"(?i)tokens?$")
_PART: Final = {Moment.BEFORE: "input", Moment.ERROR: "error"}


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that was broken, where, and what is done about it. Never what stands there."""

    rule: str
    where: str
    action: str

    def record(self) -> dict[str, str]:
        """As a plain mapping."""
        return {"rule": self.rule, "where": inert(self.where), "action": self.action}


class Guardian:
    """Everything that the hooks of all points share."""

    def __init__(self, settings: SecuritySettings) -> None:
        self.settings = settings
        own = tuple(own_rule(name, text) for name, text in settings.patterns.items())
        self.detector = Detector((*own, *RULES))
        self.keys = Renderer.of(64, settings.mask_keys, ())
        self.schemas: dict[str, Check] = {
            tool: check_of(schema) for tool, schema in settings.schemas.items()
        }
        self.trail = self._trail()
        self._tails: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
        self._told: WeakKeyDictionary[Any, list[Finding]] = WeakKeyDictionary()
        self._untold = True
        self._families: dict[tuple[Moment, str], frozenset[str]] = {}

    def _trail(self) -> AuditTrail | None:
        settings = self.settings
        if settings.audit is None:
            return None
        key = settings.audit_key.get_secret_value().encode() if settings.audit_key else b""
        return AuditTrail(settings.audit, key=key, sync=settings.audit_sync)

    def families(self, point: HookPoint, kind: str) -> frozenset[str]:
        """What is looked for at *point* of a component of that *kind*."""
        known = self._families.get((point.moment, kind))
        if known is None:
            known = self._families[point.moment, kind] = self._wanted(point, kind)
        return known

    def _wanted(self, point: HookPoint, kind: str) -> frozenset[str]:
        wanted = [*_EVERYWHERE]
        if kind == "tool" and point.moment is Moment.BEFORE:
            wanted += _ATTACKS
        reads = point.moment is Moment.BEFORE and kind in ("model", "agent")
        if reads or (kind == "tool" and point.moment is Moment.AFTER):
            wanted.append("prompt")
        return frozenset(each for each in wanted if self.settings.action(each) != "off")

    # -- one moment

    def judge(self, context: HookContext) -> Result | None:
        """What is to be done at the moment of *context*."""
        identity = identity_of(context, trust_baggage=self.settings.trust_baggage)
        part = _PART.get(context.point.moment, "output")
        value = context.data.get(part)
        findings = list(self._refused(context, identity))
        findings += self._found(context, part, value)
        findings = self._new(context, findings)
        self._redact_recorded(context)
        changed = None
        if any(each.action == "mask" for each in findings):
            changed = self._masked(context, part, value)
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
            operation.output = self._masked(context, "output", operation.output)

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

    def _found(self, context: HookContext, part: str, value: Any) -> list[Finding]:
        settings = self.settings
        found: dict[Finding, None] = {}
        limits = Limits(settings.max_characters, settings.max_seconds)
        families = self.families(context.point, context.component.type)
        try:
            for text in texts(_readable(value), part, limits):
                for finding in self._in_text(text, context, families, limits):
                    found[finding] = None
        except (UnscannedError, OutOfTimeError) as error:
            found[Finding("unscanned", type(error).__name__, settings.on_unscanned)] = None
        return list(found)

    def _in_text(
        self, text: Text, context: HookContext, families: frozenset[str], limits: Limits
    ) -> Iterator[Finding]:
        settings = self.settings
        if settings.keys != "off" and self._hides(text):
            yield Finding("secret_key", text.where, settings.keys)
        for match in self.detector.find(self._with_tail(context, text), families, limits.deadline):
            rule = match.rule
            yield Finding(rule.name, text.where, settings.action(rule.family))
        if context.point.moment is Moment.BEFORE and context.component.type in ("tool", "model"):
            yield from self._reaching(text, context.component.type)

    def _hides(self, text: Text) -> bool:
        if not text.key or not text.text or text.text == MASK or not self.keys.hides(text.key):
            return False
        return not _counts(text)

    def _reaching(self, text: Text, kind: str) -> Iterator[Finding]:
        settings = self.settings
        hosts, paths = (
            (settings.allow_hosts, settings.deny_hosts),
            (
                settings.allow_paths,
                settings.deny_paths,
            ),
        )
        if any(hosts):
            for host in access.hosts_in(text):
                if not access.host_permitted(host, *hosts):
                    yield Finding("host_not_allowed", text.where, "block")
        path = access.path_in(text) if any(paths) and kind == "tool" else None
        if path is not None and not access.path_permitted(path, *paths):
            yield Finding("path_not_allowed", text.where, "block")

    # -- streams: a secret may lie across chunks

    def _with_tail(self, context: HookContext, text: Text) -> str:
        return self._tail(context) + text.text if _is_piece(context, text) else text.text

    def _tail(self, context: HookContext) -> str:
        return self._tails.get(context.operation, "") if context.operation is not None else ""

    def _grow(self, context: HookContext, value: Any) -> None:
        if context.operation is None:
            return
        limits = Limits(self.settings.max_characters, self.settings.max_seconds)
        for text in texts(value, "output", limits):
            if _is_piece(context, text):
                self._tails[context.operation] = (self._tail(context) + text.text)[-_TAIL:]

    # -- masking

    def _masked(self, context: HookContext, part: str, value: Any) -> Any:
        families = frozenset(
            each
            for each in self.families(context.point, context.component.type)
            if self.settings.action(each) in ("mask", "block")
        )

        def mask(text: Text) -> str | None:
            if self.settings.keys in ("mask", "block") and self._hides(text):
                return MASK
            before = self._tail(context) if _is_piece(context, text) else ""
            spans = [
                (max(0, match.start - len(before)), match.end - len(before))
                for match in self.detector.find(before + text.text, families)
            ]
            return _blanked(text.text, [span for span in spans if span[1] > 0])

        if isinstance(value, BaseException):
            value.args = masked(value.args, part, mask)
            return None
        return masked(value, part, mask)

    # -- the answer

    def _answer(
        self, context: HookContext, identity: Identity, findings: list[Finding], changed: Any
    ) -> Result | None:
        moment = context.point.moment
        if moment is Moment.CHUNK:
            self._grow(context, context.data.get("output"))
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


def _readable(value: Any) -> Any:
    return value.args if isinstance(value, BaseException) else value


def _counts(text: Text) -> bool:
    """Whether *text* is of the tokens of a model, which are no secrets: how many, or which."""
    return _TOKENS.search(text.key) is not None and (
        text.text.isdigit() or "logprobs" in text.where
    )


def _is_piece(context: HookContext, text: Text) -> bool:
    """Whether *text* is a piece of what a stream says."""
    return context.point.moment is Moment.CHUNK and text.key in _SPOKEN


_SPOKEN: Final = frozenset({"", "content", "delta", "text", "arguments", "reasoning_content"})


def _blanked(text: str, spans: list[tuple[int, int]]) -> str | None:
    """*text* with the mask in the place of *spans*, which may overlap."""
    if not spans:
        return None
    pieces: list[str] = []
    at = 0
    for start, end in sorted(spans):
        if start >= at:
            pieces += (text[at:start], MASK)
        at = max(at, end)
    return "".join((*pieces, text[at:]))


class At:
    """The hook of one point."""

    __slots__ = ("__name__", "_guardian")

    def __init__(self, guardian: Guardian) -> None:
        self._guardian = guardian
        self.__name__ = "security"

    def __call__(self, context: HookContext) -> Result | None:
        """Judge the moment of *context*."""
        guardian = self._guardian
        if guardian.settings.selects(context.component):
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


_BLOCKING: Final = dict.fromkeys(_ATTACKS, "block")
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
