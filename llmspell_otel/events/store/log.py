"""The append-only log: one file per writer, made of checked blocks.

A file begins with `MAGIC`. A block is `MARK`, the number of its events, its length and its CRC-32,
begun with the number (little-endian, 32 bits each), and the events as lines of JSON, each an
array of some. Whoever writes a file holds a lock on it; a file
without one belongs to nobody any more. A torn end is cut; a damaged block is stepped over.
"""

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import time_ns
from typing import NamedTuple

from llmspell_otel.events.ids import time_of, uuid7

try:
    import fcntl
except ImportError:  # Windows: nobody else may use the folder there
    fcntl = None  # type: ignore[assignment]

_KIND = b"llmspell-journal "
MAGIC = _KIND + b"2\n"
MARK = b"\xf5LJB"
SUFFIX = ".log"
_HEADER = struct.Struct("<4sIII")
_MAX_BLOCK = 1 << 30


class Writer:
    """Appends blocks to one new file.

    Attributes:
        path: The file.
        size: Bytes of whole blocks, the beginning included.
        broken: Whether the file may end with a part of a block.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self.broken = False
        # Under another name until it is locked: nobody may take it for abandoned.
        temporary = path.with_suffix(".new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._file = os.open(temporary, flags, 0o600)
        try:
            lock(self._file)
            self._append(MAGIC)
            temporary.rename(path)
        except OSError:
            os.close(self._file)
            temporary.unlink(missing_ok=True)
            raise

    def write(self, chunks: Sequence[bytes | bytearray], count: int) -> None:
        """Append *chunks*, arrays of *count* events together, as one block.

        After an error the file is as it was, or `broken`.

        Raises:
            OSError: the system refused, or took only a part.
        """
        first, *rest = chunks
        # Joined once, its header in place: a block is some megabytes long.
        block = bytearray(b"\n").join((bytes(_HEADER.size) + first, *rest))
        body = memoryview(block)[_HEADER.size :]
        _HEADER.pack_into(block, 0, MARK, count, len(body), zlib.crc32(body, count))
        self._append(block)

    def sync(self) -> None:
        """Wait until everything written survives a power cut.

        Raises:
            OSError: the device failed; nobody knows what it has kept.
        """
        getattr(os, "fdatasync", os.fsync)(self._file)

    def close(self) -> None:
        """Let the file, and the lock, go."""
        os.close(self._file)

    def _append(self, data: bytes | bytearray) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            self.broken = True
            os.ftruncate(self._file, self.size)
            self.broken = False
            raise
        self.size += len(data)


class Block(NamedTuple):
    """What a reader found.

    Attributes:
        body: Lines of JSON, each an array of events; or nothing.
        events: How many there are in it.
        end: Where the next block begins.
        damaged: Bytes that were stepped over.
    """

    body: bytes
    events: int
    end: int
    damaged: int


def following(folder: Path) -> Path:
    """A file for a new log: it sorts after all logs in *folder*, whatever the clock does."""
    latest = max((time_of(path.stem) for path in folder.glob(f"*{SUFFIX}")), default=0)
    return folder / f"{uuid7(max(time_ns(), latest + 1_000_000))}{SUFFIX}"


def read(path: Path, start: int = 0, *, whole: bool = False) -> Iterator[Block]:
    """Read the blocks of *path* from offset *start*, as far as they are complete.

    With *whole*, nobody writes there any more: damage is stepped over, and a torn end is told as
    a last block without a body.
    """
    with path.open("rb") as file:
        file.seek(start)
        data = file.read()
    return blocks(data, start, whole=whole)


def blocks(data: bytes, start: int, *, whole: bool) -> Iterator[Block]:
    """The blocks in *data*, which begins at offset *start* of its file. See `read`."""
    position = 0 if start else len(MAGIC)
    while position < len(data):
        count, end = _head(data, position)
        if end:
            yield Block(data[position + _HEADER.size : end], count, start + end, 0)
            position = end
            continue
        if not whole:
            return
        found = data.find(MARK, position + 1)
        found = len(data) if found < 0 else found
        yield Block(b"", 0, start + found, found - position)
        position = found


def is_foreign(path: Path) -> bool:
    """Whether *path* is a log of another format: none of this library's business."""
    try:
        with path.open("rb") as file:
            head = file.read(len(MAGIC))
    except OSError:
        return False
    return head.startswith(_KIND) and not MAGIC.startswith(head)


def is_abandoned(path: Path) -> bool:
    """Whether no living process writes to *path*."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(file)


def lock(file: int) -> None:
    """Hold *file* until it is closed, or its process ends."""
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX)


def _head(data: bytes, position: int) -> tuple[int, int]:
    """How many events the block at *position* has, and where it ends; zeros if it is not whole."""
    if position + _HEADER.size > len(data):
        return 0, 0
    mark, count, length, check = _HEADER.unpack_from(data, position)
    end: int = position + _HEADER.size + length
    if mark != MARK or length > _MAX_BLOCK or end > len(data):
        return 0, 0
    body = memoryview(data)[position + _HEADER.size : end]
    return (count, end) if zlib.crc32(body, count) == check else (0, 0)


def sync_file(path: Path) -> None:
    """Let what anybody has written to *path* survive a power cut; its name, too.

    Raises:
        OSError: there is no such file, or the device failed.
    """
    file = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(file)
    finally:
        os.close(file)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Let the names of new files survive a power cut."""
    if os.name == "posix":
        file = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)
