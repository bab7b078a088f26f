"""A disk spool: batches that the receiver cannot take outlive the process.

Off unless `LLMSPELL_OTEL_SPOOL_DIR` names a directory: telemetry may hold what nobody wants on a
disk by default. Several processes may share the directory. Each writes segments of its own, and
holds a lock for as long as it lives; who finds the lock free takes over what is left.
Delivery is at least once: a store that reads spans by their id sees each of them once.
"""

import fcntl
import logging
import os
import secrets
import time
import weakref
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from errno import ENOSPC
from pathlib import Path
from threading import RLock
from typing import Final

from llmspell_exporters import segments
from llmspell_exporters.exit_budget import number
from llmspell_exporters.ledger import Signal
from llmspell_exporters.segments import Frame, Name

DIRECTORY: Final = "LLMSPELL_OTEL_SPOOL_DIR"
MAX_BYTES: Final = "LLMSPELL_OTEL_SPOOL_MAX_BYTES"
FSYNC: Final = "LLMSPELL_OTEL_SPOOL_FSYNC"
DEFAULT_MAX_BYTES: Final = 256 * 2**20
_SEGMENT: Final = 4 * 2**20  # bytes at which the next segment is begun
_LOOK_EVERY: Final = 1.0  # seconds between looks at what other processes take up
_LOCK: Final = ".lock"
_logger = logging.getLogger("llmspell_exporters")


@dataclass(slots=True)
class _Segment:
    """A segment that this process may write to, or settle frames of."""

    path: Path
    size: int
    pending: int = 0
    descriptor: int | None = None


class Spool:
    """Keeps encoded batches in *directory*.

    Args:
        directory: made if it is not there, readable for its owner only.
        max_bytes: that all processes together may take up there.
        fsync: wait for the disk after every batch, so that a power cut loses none; without it
            a batch survives the process, not the machine.
    """

    def __init__(
        self, directory: Path, *, max_bytes: int = DEFAULT_MAX_BYTES, fsync: bool = False
    ) -> None:
        self.directory = directory
        self._max_bytes = max_bytes
        self._fsync = fsync
        self._locks: dict[str, int] = {}
        self._segments: dict[Path, _Segment] = {}
        self._reset()
        reset = weakref.WeakMethod(self._after_fork)
        os.register_at_fork(after_in_child=lambda: (method := reset()) and method())

    def _reset(self) -> None:
        self._lock = RLock()
        self._owner: str | None = None
        self._active: dict[Signal, _Segment] = {}
        self._segments = {}
        self._locks = {}
        self._found: dict[Signal, list[Frame]] = {signal: [] for signal in Signal}
        self._numbers = 0
        self._others = (float("-inf"), 0)

    def _after_fork(self) -> None:
        """Leave everything to the parent: closing our copies does not free its locks."""
        inherited = [*self._locks.values(), *(each.descriptor for each in self._segments.values())]
        for descriptor in inherited:
            if descriptor is not None:
                with suppress(OSError):
                    os.close(descriptor)
        self._reset()

    # --- what delivery asks -------------------------------------------------------------------

    def write(self, signal: Signal, body: bytes, count: int) -> Frame:
        """Store one batch.

        Raises:
            OSError: it is not stored, and the segment is as it was.
        """
        with self._lock:
            now = time.time_ns()
            packed = segments.pack(body, count, now)
            if self._used() + len(packed) > self._max_bytes:
                raise OSError(ENOSPC, f"the spool has its {self._max_bytes} bytes")
            segment = self._segment(signal)
            descriptor = segment.descriptor or 0
            segments.append(descriptor, segment.size, packed)
            if self._fsync:
                os.fdatasync(descriptor)
            frame = Frame(segment.path, segment.size, len(body), count, now)
            segment.size += len(packed)
            segment.pending += 1
            return frame

    def read(self, place: Frame) -> bytes:
        """Read one batch back; raises OSError if it is damaged."""
        return segments.read(place)

    def done(self, place: Frame) -> None:
        """Mark one batch as settled; a segment without any other is removed."""
        with self._lock:
            segment = self._segments[place.path]
            segment.pending -= 1
            if segment.pending == 0:
                self._remove(segment)
            else:
                segments.settle(place)

    def adopt(self, signal: Signal) -> Iterable[Frame]:
        """Take over what dead processes left of *signal*, oldest first; each frame only once."""
        with self._lock:
            if self.directory.is_dir():
                for owner in sorted(self._owners()):
                    if owner not in self._locks and self._seize(owner):
                        self._gather(owner)
            found, self._found[signal] = self._found[signal], []
            return sorted(found, key=lambda frame: (frame.time, frame.path.name, frame.offset))

    # --- ours ---------------------------------------------------------------------------------

    def _segment(self, signal: Signal) -> _Segment:
        active = self._active.get(signal)
        if active is not None and active.size < _SEGMENT:
            return active
        if active is not None:
            self._finish(active)
        self._numbers += 1
        path = self.directory / Name(self._identity(), signal, self._numbers).file
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        segment = _Segment(path, len(segments.MAGIC), descriptor=descriptor)
        try:
            segments.append(descriptor, 0, segments.MAGIC)
            self._sync(self.directory)
        except OSError:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        self._segments[path] = self._active[signal] = segment
        return segment

    def _identity(self) -> str:
        """Our name in this directory, begun with the time, and the lock that says we live."""
        self._make(self.directory)
        while self._owner is None:
            name = f"{time.time_ns():020d}-{os.getpid()}-{secrets.token_hex(4)}"
            if self._seize(name):
                self._owner = name
        return self._owner

    def _finish(self, segment: _Segment) -> None:
        if segment.descriptor is not None:
            os.close(segment.descriptor)
            segment.descriptor = None

    def _remove(self, segment: _Segment) -> None:
        self._finish(segment)
        del self._segments[segment.path]
        for signal in [key for key, active in self._active.items() if active is segment]:
            del self._active[signal]
        segment.path.unlink(missing_ok=True)
        self._release(segment.path.name.split(".")[0])

    def _release(self, owner: str) -> None:
        """Give up the lock of an owner that has no segment left; our own goes when we go."""
        left = any(path.name.startswith(f"{owner}.") for path in self._segments)
        if owner != self._owner and not left and owner in self._locks:
            (self.directory / f"{owner}{_LOCK}").unlink(missing_ok=True)
            os.close(self._locks.pop(owner))

    def _make(self, folder: Path) -> None:
        """Make *folder* and those above it, so that their names outlive a power cut as well."""
        if not folder.is_dir():
            self._make(folder.parent)
            folder.mkdir(mode=0o700, exist_ok=True)
            self._sync(folder.parent)

    def _sync(self, folder: Path) -> None:
        """Wait until the names in *folder* are on the disk."""
        if self._fsync:
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _used(self) -> int:
        """Bytes in the directory: ours exactly, the others' as of at most a second ago."""
        looked, others = self._others
        if time.monotonic() > looked + _LOOK_EVERY and self.directory.is_dir():
            others = 0
            for entry in os.scandir(self.directory):
                if Path(entry.path) not in self._segments:
                    with suppress(OSError):  # removed meanwhile
                        others += entry.stat().st_size
            self._others = (time.monotonic(), others)
        return others + sum(segment.size for segment in self._segments.values())

    # --- what others left ---------------------------------------------------------------------

    def _owners(self) -> set[str]:
        return {
            entry.name.split(".")[0]
            for entry in os.scandir(self.directory)
            if entry.name.endswith(_LOCK) or Name.parse(entry.name)
        }

    def _seize(self, owner: str) -> bool:
        """Lock an owner's name; False if the owner lives, or somebody else was faster."""
        path = self.directory / f"{owner}{_LOCK}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Who had the lock may have removed the file after we opened it.
            ours = os.fstat(descriptor).st_ino == path.stat().st_ino
        except OSError:
            ours = False
        if ours:
            self._locks[owner] = descriptor
        else:
            os.close(descriptor)
        return ours

    def _gather(self, owner: str) -> None:
        for entry in os.scandir(self.directory):
            name = Name.parse(entry.name)
            if name is not None and name.owner == owner:
                self._take_over(Path(entry.path), name.signal)
        self._release(owner)

    def _take_over(self, path: Path, signal: Signal) -> None:
        frames, unreadable = segments.scan(path)
        if unreadable:
            _logger.warning(
                "llmspell: %s: %d bytes at its end were not written whole, and are cut",
                path,
                unreadable,
            )
        if not frames:
            path.unlink(missing_ok=True)
            return
        self._segments[path] = _Segment(path, path.stat().st_size, pending=len(frames))
        self._found[signal].extend(frames)


def directory() -> Path | None:
    """The directory that the environment names, or None."""
    named = os.environ.get(DIRECTORY, "").strip()
    return Path(named).absolute() if named else None


def configured() -> Spool | None:
    """The spool that the environment asks for, one for the whole process; None if it asks for none.

    `LLMSPELL_OTEL_SPOOL_DIR`, `LLMSPELL_OTEL_SPOOL_MAX_BYTES` (256 MiB) and
    `LLMSPELL_OTEL_SPOOL_FSYNC` (false).
    """
    key = directory()
    if key is None:
        return None
    with _configuring:
        if key not in _configured:
            limit = int(number(MAX_BYTES, DEFAULT_MAX_BYTES))
            fsync = os.environ.get(FSYNC, "").strip().lower() == "true"
            _configured[key] = Spool(key, max_bytes=limit, fsync=fsync)
        return _configured[key]


_configured: dict[Path, Spool] = {}
_configuring = RLock()
