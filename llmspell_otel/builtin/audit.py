"""The audit trail: lines of JSON that are only ever added, each sealed with the one before.

A line that is changed, taken out or put in breaks the chain; so does a new chain, if it was
sealed with a key that its writer does not have. A trail whose end is cut off is whole in
itself: keep the last seal somewhere else, and give it to `verify`.
"""

import csv
import hashlib
import hmac
import io
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

from llmspell_otel.hooks.forks import watch_forks

try:
    import fcntl
except ImportError:  # Windows: one process at a time
    fcntl = None  # type: ignore[assignment]

GENESIS: Final = "0" * 64
"""What the first line is sealed with."""
_TAIL: Final = 65_536  # bytes in which the last line lies
_COLUMNS: Final = ("seq", "time", "what", "point", "component", "user", "correlation", "rules")


class AuditTrail:
    """Adds lines to the file *path*, which several threads and processes may share.

    Args:
        path: The file; it and its folders are made, readable for their owner only.
        key: What lines are sealed with, beside the line before; empty for nothing.
        sync: Whether each line survives a power cut before the call goes on.
    """

    def __init__(self, path: Path, *, key: bytes = b"", sync: bool = False) -> None:
        self.path = path
        self._key = key
        self._sync = sync
        self._size = -1
        self._last = (0, GENESIS)
        self.after_fork()
        watch_forks(self)

    def after_fork(self) -> None:
        """Take a new lock."""
        self._lock = threading.Lock()

    def add(self, entry: Mapping[str, Any]) -> None:
        """Add *entry*, with its number, time and seal.

        Raises:
            OSError: the file cannot be written.
        """
        with self._lock, self._opened() as file:
            _locked(file)
            size = file.seek(0, os.SEEK_END)
            if size != self._size:
                self._last = self._found(file, size)
            number, seal = self._last[0] + 1, self._last[1]
            body = {"seq": number, "time": time.time_ns(), **entry, "previous": seal}
            sealed = _seal(body, self._key)
            line = json.dumps({**body, "seal": sealed}, default=_named).encode() + b"\n"
            file.write(line)
            file.flush()
            if self._sync:
                os.fsync(file.fileno())
            self._last, self._size = (number, sealed), file.tell()

    def _opened(self) -> BinaryIO:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        return os.fdopen(descriptor, "a+b")

    def _found(self, file: BinaryIO, size: int) -> tuple[int, str]:
        """The number and seal of the last whole line; a torn one is ended, and shows."""
        file.seek(max(0, size - _TAIL))
        lines = file.read().splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):
            file.write(b"\n")
        for line in reversed(lines):
            entry = _read(line)
            if entry is not None:
                return int(entry["seq"]), str(entry["seal"])
        return 0, GENESIS


@dataclass(frozen=True, slots=True)
class Verified:
    """What became of looking at a trail; *problem* is empty if it is whole."""

    entries: int
    last: str
    problem: str = ""

    @property
    def whole(self) -> bool:
        """Whether nothing was changed, taken out or put in."""
        return not self.problem


def verify(path: str | Path, *, key: bytes = b"", last: str = "") -> Verified:
    """Whether the trail at *path* is as it was written, up to the seal *last* if that is given.

    Raises:
        OSError: the file cannot be read.
    """
    number, seal, seals = 0, GENESIS, {GENESIS}
    with Path(path).open("rb") as file:
        for at, line in enumerate(file, 1):
            problem = _problem(_read(line), number, seal, key)
            if problem:
                return Verified(number, seal, f"line {at} {problem}")
            number, seal = number + 1, str((_read(line) or {})["seal"])
            if last:
                seals.add(seal)
    if last and last not in seals:
        return Verified(number, seal, "its end was cut off: the expected seal is missing")
    return Verified(number, seal)


def _problem(entry: dict[str, Any] | None, number: int, seal: str, key: bytes) -> str:
    if entry is None:
        return "is no entry"
    if entry["seq"] != number + 1 or entry["previous"] != seal:
        return f"does not follow entry {number}"
    body = {name: value for name, value in entry.items() if name != "seal"}
    if not hmac.compare_digest(_seal(body, key), str(entry["seal"])):
        return "was changed, or sealed with another key"
    return ""


def entries(path: str | Path) -> Iterator[dict[str, Any]]:
    """Every entry of the trail at *path*, unverified.

    Raises:
        OSError: the file cannot be read.
    """
    with Path(path).open("rb") as file:
        for line in file:
            if (entry := _read(line)) is not None:
                yield entry


def export(path: str | Path, form: Literal["json", "csv"] = "json") -> Iterator[str]:
    """The trail at *path* as one JSON array, or as a table for spreadsheets, in lines.

    Raises:
        OSError: the file cannot be read.
    """
    if form == "json":
        yield "["
        separator = ""
        for entry in entries(path):
            yield separator + json.dumps(entry)
            separator = ","
        yield "]"
        return
    yield _row(_COLUMNS)
    for entry in entries(path):
        yield _row([_cell(entry.get(name, "")) for name in _COLUMNS])


def _row(cells: Any) -> str:
    written = io.StringIO()
    csv.writer(written, lineterminator="").writerow(cells)
    return written.getvalue()


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    # A spreadsheet takes what begins like this for a formula.
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _seal(body: Mapping[str, Any], key: bytes) -> str:
    plain = json.dumps(body, sort_keys=True, separators=(",", ":"), default=_named).encode()
    if key:
        return hmac.new(key, plain, hashlib.sha256).hexdigest()
    return hashlib.sha256(plain).hexdigest()


def _read(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    needed = ("seq", "previous", "seal")
    good = isinstance(entry, dict) and all(name in entry for name in needed)
    return entry if good else None


def _named(value: object) -> str:
    return type(value).__name__


def _locked(file: BinaryIO) -> None:
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX)  # let go of by closing
