"""Text for a terminal, which obeys some characters: escape sequences, overstrikes, directions."""

import json
import unicodedata


def plain(text: str) -> str:
    """The *text* on one line, with nothing in it that a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(
        character if unicodedata.category(character)[0] != "C" else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )


def escaped(line: bytes) -> bytes:
    """A *line* of JSON that means the same, with nothing in it that a terminal would obey."""
    text = line.decode()
    if text.isprintable():
        return line
    return "".join(
        each if each.isprintable() else json.dumps(each)[1:-1] if each != "\x7f" else "\\u007f"
        for each in text
    ).encode()
