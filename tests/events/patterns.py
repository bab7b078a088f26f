"""A reference matcher for event patterns: slow, naive, and easy to believe."""

import itertools
import re

# Within a set, braces and commas are plain characters.
_SHIELD = {ord("{"): 0xE000, ord("}"): 0xE001, ord(","): 0xE002}


def matches(pattern: str, event_type: str) -> bool:
    """Whether *pattern* means *event_type*, by trying everything."""
    names = event_type.replace(":", ".").split(".")
    shielded = re.sub(r"\[[^\]]*\]", lambda found: found.group().translate(_SHIELD), pattern)
    return any(_alternative(text, names) for text in _expand(shielded))


def _alternative(pattern: str, names: list[str]) -> bool:
    if pattern == "*":
        return True
    return _segments(pattern.replace(":", ".").split("."), names)


def _segments(patterns: list[str], names: list[str]) -> bool:
    if not patterns:
        return not names
    if patterns[0] == "**":
        return any(_segments(patterns[1:], names[cut:]) for cut in range(len(names) + 1))
    return bool(names) and _text(patterns[0], names[0]) and _segments(patterns[1:], names[1:])


def _text(pattern: str, name: str) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "*":
        return any(_text(pattern[1:], name[cut:]) for cut in range(len(name) + 1))
    if not name:
        return False
    if pattern[0] == "[":
        end = pattern.index("]")
        return _set(pattern[1:end], name[0]) and _text(pattern[end + 1 :], name[1:])
    return pattern[0] in {"?", name[0]} and _text(pattern[1:], name[1:])


def _set(members: str, character: str) -> bool:
    members = members.translate({new: old for old, new in _SHIELD.items()})
    if members[0] == "!":
        return not _member(members[1:], character)
    return _member(members, character)


def _member(members: str, character: str) -> bool:
    if len(members) >= 3 and members[1] == "-":
        inside = members[0] <= character <= members[2]
        return inside or bool(members[3:] and _member(members[3:], character))
    return members[0] == character or bool(members[1:] and _member(members[1:], character))


def _expand(pattern: str) -> list[str]:
    close = pattern.find("}")
    if close < 0:
        return [pattern]
    start = pattern.rindex("{", 0, close)
    head, tail = pattern[:start], pattern[close + 1 :]
    inner = pattern[start + 1 : close].split(",")
    return list(itertools.chain.from_iterable(_expand(head + each + tail) for each in inner))
