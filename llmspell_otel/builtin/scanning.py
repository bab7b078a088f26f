"""Looking through one value for what the rules find, and masking it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final
from weakref import WeakKeyDictionary

from llmspell_otel.builtin import access
from llmspell_otel.builtin.detection import RULES, Detector, OutOfTimeError, own_rule
from llmspell_otel.builtin.masking import (
    MAX_DEPTH,
    Limits,
    Text,
    UnscannedError,
    fields_of,
    masked,
    texts,
)
from llmspell_otel.builtin.rendering import MASK, Renderer, inert
from llmspell_otel.builtin.security_settings import SecuritySettings
from llmspell_otel.hooks.context import HookContext
from llmspell_otel.points import HookPoint, Moment

_EVERYWHERE: Final = ("secrets", "personal", "patterns")
ATTACKS: Final = ("sql", "shell", "path", "markup")
"""What is looked for in the input of tools."""
_TAIL: Final = 512  # characters of a stream that the next chunk is read together with
_TOKENS: Final = re.compile(r"(?i)tokens?$")


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that was broken, where, and what is done about it. Never what stands there."""

    rule: str
    where: str
    action: str

    def record(self) -> dict[str, str]:
        """As a plain mapping."""
        return {"rule": self.rule, "where": inert(self.where), "action": self.action}


class Scanner:
    """Looks through values as *settings* say."""

    def __init__(self, settings: SecuritySettings) -> None:
        self.settings = settings
        own = tuple(own_rule(name, text) for name, text in settings.patterns.items())
        self.detector = Detector((*own, *RULES))
        self.keys = Renderer.of(64, settings.mask_keys, ())
        self._reaches = any(
            (settings.allow_hosts, settings.deny_hosts, settings.allow_paths, settings.deny_paths)
        )
        self._names: set[str] = set()
        self._tails: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
        self._families: dict[tuple[Moment, str], frozenset[str]] = {}

    def families(self, point: HookPoint, kind: str) -> frozenset[str]:
        """What is looked for at *point* of a component of that *kind*."""
        known = self._families.get((point.moment, kind))
        if known is None:
            known = self._families[point.moment, kind] = self._wanted(point, kind)
        return known

    def _wanted(self, point: HookPoint, kind: str) -> frozenset[str]:
        wanted = [*_EVERYWHERE]
        if kind == "tool" and point.moment is Moment.BEFORE:
            wanted += ATTACKS
        reads = point.moment is Moment.BEFORE and kind in ("model", "agent")
        if reads or (kind == "tool" and point.moment is Moment.AFTER):
            wanted.append("prompt")
        return frozenset(each for each in wanted if self.settings.action(each) != "off")

    # -- whether there is anything at all: one look at all texts together

    def is_clean(self, context: HookContext, value: Any) -> bool:
        """Whether nothing can be found in *value*; False where it takes a closer look to say."""
        if self._reaches or context.point.moment is Moment.CHUNK:
            return False
        said = self._said(_readable(value))
        if said is None:
            return False
        families = self.families(context.point, context.component.type)
        room, deadline = self.settings.max_characters, None
        for text in said:
            room -= len(text)
            if room < 0:
                return False
            if self.detector.is_free(text, families):
                continue
            deadline = deadline or monotonic() + self.settings.max_seconds
            try:
                if not self.detector.is_clean(text, families, deadline):
                    return False
            except OutOfTimeError:
                return False
        return True

    def _said(self, value: Any) -> list[str] | None:
        """Every text in *value*, short ones as one; None where it takes a closer look."""
        found: list[str] = []
        level: list[Any] = [value]
        room = _AT_ONCE
        for _ in range(MAX_DEPTH):
            below = self._below(level, found)
            if not below:
                return None if below is None else _together(found)
            room -= len(below)
            if room < 0:
                return None
            level = below
        return None

    def _below(self, level: list[Any], found: list[str]) -> list[Any] | None:
        """What the values of *level* hold; their texts go to *found*."""
        below: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is str:
                found.append(item)
            elif kind is dict:
                if not self._are_plain(item):
                    return None
                below += item.values()
            elif kind is list or kind is tuple:
                below += item
            elif kind not in _BARE and not self._beside(item, found, below):
                return None
        return below

    def _beside(self, item: Any, found: list[str], below: list[Any]) -> bool:
        """Take what is none of JSON's containers and texts; False where it takes a closer look."""
        if type(item) is int:
            if abs(item) > _LONGEST_NUMBER:
                found.append(str(item) if item.bit_length() < _BITS else "0")
            return True
        if isinstance(item, (str, bytes, bytearray, Mapping, set, frozenset, list, tuple)):
            return False
        held = fields_of(item)
        if held is not None:
            below.append(held)
        return True

    def _are_plain(self, mapping: dict[Any, Any]) -> bool:
        """Whether its keys name no secrets, and hold nothing themselves."""
        names = self._names
        return all(
            key in names or type(key) is not str or self._is_plain(key, mapping[key])
            for key in mapping
        )

    def _is_plain(self, key: str, item: object) -> bool:
        if self.settings.keys != "off" and self.keys.hides(key):
            # The numbers of a model's tokens are no secrets.
            return item is None or (type(item) is int and _TOKENS.search(key) is not None)
        if not self.detector.is_clean(key, _EVERY_FAMILY):
            return False
        if len(self._names) < _REMEMBERED:
            self._names.add(key)
        return True

    # -- what there is

    def found(self, context: HookContext, part: str, value: Any) -> list[Finding]:
        """What the rules find in *value*, the *part* of the context's data."""
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
        read = self._with_tail(context, text)
        for match in self.detector.find(read, families, limits.deadline):
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

    def grow(self, context: HookContext, value: Any) -> None:
        """Remember the end of what a stream said: the next chunk is read together with it."""
        if context.operation is None:
            return
        limits = Limits(self.settings.max_characters, self.settings.max_seconds)
        for text in texts(value, "output", limits):
            if _is_piece(context, text):
                self._tails[context.operation] = (self._tail(context) + text.text)[-_TAIL:]

    # -- masking

    def masked(self, context: HookContext, part: str, value: Any) -> Any:
        """A copy of *value* with what is found masked; errors are changed in place."""
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


_AT_ONCE: Final = 4096  # values that are looked at together
_BITS: Final = 1024
_LONGEST_NUMBER: Final = 10**11  # no rule fits the digits of a smaller one
_REMEMBERED: Final = 4096  # names
_BARE: Final = frozenset({float, bool, type(None)})
_EVERY_FAMILY: Final = frozenset(rule.family for rule in RULES) | {"patterns"}
_APART: Final = "\x01"  # nothing that any rule fits, so that nothing fits across it


def _together(found: list[str]) -> list[str]:
    """*found*, the short ones as one text."""
    if len(found) == 1:
        return found
    short = [text for text in found if len(text) < _SHORT]
    long = [text for text in found if len(text) >= _SHORT]
    return [_APART.join(short), *long]


_SHORT: Final = 64


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
