"""The audit trail: whole, shared, sealed, and what happens when it cannot be written."""

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmspell_otel import Hook, tool
from llmspell_otel.builtin.audit import AuditTrail, entries, export, verify
from llmspell_otel.builtin.identity import acting_as
from llmspell_otel.errors import OperationCancelled

KEY = "sk-" + "proj-a1B2c3D4e5F6g7H8i9J0k1L2"
WRITER = """
import sys
from pathlib import Path
from llmspell_otel.builtin.audit import AuditTrail
trail = AuditTrail(Path(sys.argv[1]))
for number in range(100):
    trail.add({"what": "call", "number": number})
"""


@tool
def echo(value: Any) -> Any:
    """Give back what was given."""
    return value


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the trail is."""
    return tmp_path / "new" / "audit.jsonl"


def test_calls_and_findings_are_recorded(path: Path) -> None:
    """Who, what, when and which rule; never what was found."""
    Hook.enable_builtin("security", audit=path)
    with acting_as("ada\n\x1b[31m", session="s1"):
        echo(KEY)
    before, *_, after = entries(path)
    assert before["what"] == "violation"
    assert before["user"] == "ada\\n\\u001b[31m"
    assert before["session"] == "s1"
    assert before["rules"][0] == {"rule": "openai_key", "where": "input.value", "action": "mask"}
    assert (after["what"], after["point"]) == ("call", "tool:after_execution")
    assert KEY not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    assert verify(path).whole


def test_findings_only(path: Path) -> None:
    """With `audit_calls` off, clean calls leave no line."""
    Hook.enable_builtin("security", audit=path, audit_calls=False, audit_sync=True)
    echo("clean")
    echo(KEY)
    assert [entry["what"] for entry in entries(path)] == ["violation"]


@pytest.mark.parametrize("key", [b"", b"sealed"])
def test_changes_show(path: Path, key: bytes) -> None:
    """A changed, removed, inserted, reordered or cut line is found, and named."""
    trail = AuditTrail(path, key=key)
    for number in range(5):
        trail.add({"what": "call", "number": number})
    whole = verify(path, key=key)
    assert (whole.entries, whole.whole) == (5, True)
    lines = path.read_bytes().splitlines(keepends=True)
    for changed in (
        [*lines[:2], lines[2].replace(b'"number": 2', b'"number": 9'), *lines[3:]],
        [*lines[:2], *lines[3:]],
        [*lines[:3], lines[2], *lines[3:]],
        [lines[1], lines[0], *lines[2:]],
        [*lines[:2], b"junk\n", *lines[3:]],
    ):
        path.write_bytes(b"".join(changed))
        assert not verify(path, key=key).whole
    path.write_bytes(b"".join(lines[:3]))
    assert verify(path, key=key).whole
    assert "cut off" in verify(path, key=key, last=whole.last).problem


def test_without_the_key_no_chain_can_be_forged(path: Path) -> None:
    """A chain made with another key, or none, does not pass."""
    AuditTrail(path, key=b"wrong").add({"what": "call"})
    assert "another key" in verify(path, key=b"right").problem


def test_processes_share_a_trail(path: Path) -> None:
    """Three writers at once, one chain."""
    running = [subprocess.Popen([sys.executable, "-c", WRITER, str(path)]) for _ in range(3)]
    assert [each.wait(60) for each in running] == [0, 0, 0]
    assert verify(path).entries == 300
    assert verify(path).whole


def test_a_torn_line_is_ended_and_shows(path: Path) -> None:
    """After a crash in the middle of a line the trail goes on, and tells of it."""
    trail = AuditTrail(path)
    trail.add({"what": "call"})
    with path.open("ab") as file:
        file.write(b'{"seq": 2, "ti')
    trail.add({"what": "call"})
    assert [entry["seq"] for entry in entries(path)] == [1, 2]
    assert verify(path).problem == "line 2 is no entry"


def test_a_trail_that_cannot_be_written_refuses_calls(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning; calls are refused until it can be, or go on if so told."""
    path = tmp_path / "audit"
    path.mkdir()
    Hook.enable_builtin("security", audit=path)
    with caplog.at_level(logging.WARNING, "llmspell_otel.security"):
        for _ in range(3):
            with pytest.raises(OperationCancelled, match="audit trail cannot be written"):
                echo(1)
        assert len(caplog.records) == 1
        path.rmdir()
        assert echo(1) == 1
        assert verify(path).whole
    path.unlink()
    path.mkdir()
    Hook.enable_builtin("security", audit=path, on_audit_failure="continue")
    assert echo(1) == 1


def test_it_can_be_exported(path: Path) -> None:
    """As JSON and as a table in which nothing is a formula."""
    trail = AuditTrail(path)
    trail.add({"what": "call", "user": "=HYPERLINK(1)", "rules": []})
    assert json.loads("".join(export(path)))[0]["user"] == "=HYPERLINK(1)"
    assert "'=HYPERLINK(1)" in list(export(path, "csv"))[1]
