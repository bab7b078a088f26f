"""The spool's files: append-only segments of framed batches.

A frame is a state byte, a fixed header and the batch; a crc covers all but the state, which is
overwritten in place when the batch is settled. A torn tail, left by a process that was killed
while it wrote, ends a segment: nothing behind it was ever promised.
"""

import os
import struct
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EIO, ENOSPC
from pathlib import Path
from typing import Final, NamedTuple

from llmspell_exporters.ledger import Signal

MAGIC: Final = b"llspool1"
PENDING: Final = b"P"
DONE: Final = b"D"
_FACTS: Final = struct.Struct(">IIQ")  # bytes, records, nanoseconds since the epoch
_CRC: Final = struct.Struct(">I")
HEADER: Final = 1 + _FACTS.size + _CRC.size
SUFFIX: Final = ".seg"


class Name(NamedTuple):
    """What a segment's name says: whose it is, of which signal, and the how-manieth."""

    owner: str
    signal: Signal
    number: int

    @property
    def file(self) -> str:
        """The name of the file."""
        return f"{self.owner}.{self.signal.value}.{self.number:06d}{SUFFIX}"

    @classmethod
    def parse(cls, file: str) -> "Name | None":
        """Read a file's name; None if it is no segment's."""
        try:
            owner, signal, number = file.removesuffix(SUFFIX).split(".")
            return cls(owner, Signal(signal), int(number)) if file.endswith(SUFFIX) else None
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Frame:
    """Where one batch lies; *time* in nanoseconds since the epoch."""

    path: Path
    offset: int
    size: int
    count: int
    time: int


def pack(body: bytes, count: int, time: int) -> bytes:
    """Make a pending frame."""
    facts = _FACTS.pack(len(body), count, time)
    return b"".join((PENDING, facts, _CRC.pack(zlib.crc32(body, zlib.crc32(facts))), body))


def append(descriptor: int, offset: int, frame: bytes) -> None:
    """Write *frame* whole at *offset*, or cut the segment back and raise OSError."""
    try:
        written = os.pwrite(descriptor, frame, offset)
    except OSError:
        os.ftruncate(descriptor, offset)
        raise
    if written < len(frame):
        os.ftruncate(descriptor, offset)
        raise OSError(ENOSPC, "the disk took only a part")


def read(frame: Frame) -> bytes:
    """Read a batch back.

    Raises:
        OSError: it is not what was written.
    """
    with _opened(frame.path, os.O_RDONLY) as descriptor:
        found = os.pread(descriptor, HEADER + frame.size, frame.offset)
    body = _body(found)
    if body is None:
        raise OSError(EIO, f"damaged at byte {frame.offset}", str(frame.path))
    return body


def settle(frame: Frame) -> None:
    """Mark a batch as done; it takes no new space, so it works on a full disk."""
    with _opened(frame.path, os.O_WRONLY) as descriptor:
        os.pwrite(descriptor, DONE, frame.offset)


def scan(path: Path) -> tuple[list[Frame], int]:
    """Find the pending frames of a segment, and how many bytes at its end are unreadable."""
    data = path.read_bytes()
    found, offset = [], len(MAGIC)
    if not data.startswith(MAGIC):
        return [], len(data)
    while (body := _body(data[offset : offset + _length(data, offset)])) is not None:
        _, count, time = _FACTS.unpack_from(data, offset + 1)
        if data[offset : offset + 1] == PENDING:
            found.append(Frame(path, offset, len(body), count, time))
        offset += HEADER + len(body)
    return found, len(data) - offset


def _length(data: bytes, offset: int) -> int:
    if len(data) < offset + HEADER:
        return 0
    return HEADER + int(_FACTS.unpack_from(data, offset + 1)[0])


def _body(frame: bytes) -> bytes | None:
    """The batch of one whole frame; None if anything is missing or wrong."""
    if len(frame) < HEADER:
        return None
    facts, body = frame[1 : 1 + _FACTS.size], frame[HEADER:]
    (crc,) = _CRC.unpack_from(frame, 1 + _FACTS.size)
    whole = len(body) == _FACTS.unpack(facts)[0]
    return body if whole and zlib.crc32(body, zlib.crc32(facts)) == crc else None


@contextmanager
def _opened(path: Path, flags: int) -> Generator[int, None, None]:
    descriptor = os.open(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
