"""The disk spool: what is written comes back, once, whatever happens to the file or the process."""

import os
import resource
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmspell_exporters import segments
from llmspell_exporters.ledger import Signal
from llmspell_exporters.segments import Frame
from llmspell_exporters.spool import Spool, configured

TRACES = Signal.TRACES


def die_after_writing(directory: Path, *bodies: str, ending: str = "os._exit(0)") -> None:
    """Write batches in a process of its own, which then ends without a word."""
    program = textwrap.dedent(f"""
        import os, signal
        from pathlib import Path
        from llmspell_exporters.ledger import Signal
        from llmspell_exporters.spool import Spool
        spool = Spool(Path({str(directory)!r}))
        for body in {bodies!r}:
            spool.write(Signal.TRACES, body.encode(), 1)
        {ending}
    """)
    subprocess.run([sys.executable, "-c", program], check=False, timeout=30)


def files(directory: Path) -> list[str]:
    """The segments that lie in the directory."""
    return sorted(path.name for path in directory.glob("*.seg"))


def test_a_batch_comes_back_as_it_was(tmp_path: Path) -> None:
    """Bytes are stored as they are, and a settled segment is removed."""
    spool = Spool(tmp_path / "new" / "spool")
    places = [spool.write(TRACES, body, 3) for body in (b"first", b"", bytes(100_000))]
    assert [spool.read(place) for place in places] == [b"first", b"", bytes(100_000)]
    for place in places:
        spool.done(place)
    assert files(spool.directory) == []
    again = spool.write(TRACES, b"later", 1)
    assert spool.read(again) == b"later"


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    """Telemetry may hold what is nobody else's business."""
    spool = Spool(tmp_path / "spool")
    place = spool.write(TRACES, b"secret", 1)
    assert spool.directory.stat().st_mode & 0o777 == 0o700
    assert place.path.stat().st_mode & 0o777 == 0o600


def test_what_a_killed_process_wrote_is_taken_over_in_order(tmp_path: Path) -> None:
    """Two dead processes' batches come oldest first, each once, and then their files go."""
    die_after_writing(tmp_path, "a", "b", ending="os.kill(os.getpid(), signal.SIGKILL)")
    die_after_writing(tmp_path, "c")
    spool = Spool(tmp_path)
    found = list(spool.adopt(TRACES))
    assert [spool.read(place) for place in found] == [b"a", b"b", b"c"]
    assert list(spool.adopt(TRACES)) == []
    assert list(spool.adopt(Signal.LOGS)) == []
    for place in found:
        spool.done(place)
    assert list(tmp_path.iterdir()) == []


def test_a_settled_batch_is_not_taken_over(tmp_path: Path) -> None:
    """What was sent before the process died is not sent again."""
    die_after_writing(tmp_path, "sent", "unsent")
    first = Spool(tmp_path)
    sent, _ = first.adopt(TRACES)
    first.done(sent)
    for descriptor in first._locks.values():
        os.close(descriptor)  # as the death of the process would
    second = Spool(tmp_path)
    assert [second.read(place) for place in second.adopt(TRACES)] == [b"unsent"]


def test_a_living_process_keeps_its_own(tmp_path: Path) -> None:
    """Another spool on the same directory takes nothing from one that lives."""
    mine, other = Spool(tmp_path), Spool(tmp_path)
    place = mine.write(TRACES, b"mine", 1)
    assert list(other.adopt(TRACES)) == []
    theirs = other.write(TRACES, b"theirs", 1)
    assert mine.read(place) == b"mine"
    assert other.read(theirs) == b"theirs"


@settings(deadline=None, max_examples=60)
@given(st.lists(st.binary(max_size=60), min_size=1, max_size=6), st.data())
def test_a_torn_tail_is_cut(
    tmp_path_factory: pytest.TempPathFactory, bodies: list[bytes], data: st.DataObject
) -> None:
    """Cut a segment at any byte: every batch that is whole is found, and nothing else."""
    path = tmp_path_factory.mktemp("torn") / "x.traces.000001.seg"
    frames = [segments.pack(body, 1, 7) for body in bodies]
    whole = segments.MAGIC + b"".join(frames)
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    found, unreadable = segments.scan(path)
    ends = [len(segments.MAGIC) + sum(map(len, frames[: n + 1])) for n in range(len(frames))]
    complete = [body for body, end in zip(bodies, ends, strict=True) if end <= cut]
    assert [segments.read(frame) for frame in found] == complete
    last = max((end for end in ends if end <= cut), default=len(segments.MAGIC))
    assert unreadable == (cut - last if cut >= len(segments.MAGIC) else cut)


@settings(deadline=None, max_examples=60)
@given(st.binary(min_size=1, max_size=60), st.data())
def test_a_flipped_bit_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, body: bytes, data: st.DataObject
) -> None:
    """No damaged batch is ever read back as a good one."""
    path = tmp_path_factory.mktemp("flipped") / "x.traces.000001.seg"
    frame = bytearray(segments.pack(body, 1, 7))
    position = data.draw(st.integers(1, len(frame) - 1))  # byte 0 is the state
    frame[position] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(segments.MAGIC + bytes(frame))
    assert segments.scan(path)[0] == []
    with pytest.raises(OSError, match="damaged"):
        segments.read(Frame(path, len(segments.MAGIC), len(body), 1, 7))


def test_the_directory_is_bounded(tmp_path: Path) -> None:
    """A batch too many for both processes is refused; room that is given back is used."""
    mine, other = Spool(tmp_path, max_bytes=3000), Spool(tmp_path, max_bytes=3000)
    place = mine.write(TRACES, bytes(1500), 1)
    other.write(TRACES, bytes(1000), 1)
    with pytest.raises(OSError, match="has its 3000 bytes"):
        other.write(TRACES, bytes(1000), 1)
    mine.done(place)
    mine.write(TRACES, bytes(1000), 1)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the system refuse to grow files beyond *size* bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_short_write_leaves_the_segment_whole(tmp_path: Path) -> None:
    """The disk takes half a batch: the half is cut off, and later batches are readable."""
    spool = Spool(tmp_path)
    first = spool.write(TRACES, bytes(1000), 1)
    with largest_file(1500), pytest.raises(OSError):  # the system's own words
        spool.write(TRACES, bytes(1000), 1)
    later = spool.write(TRACES, b"later", 1)
    assert spool.read(first) == bytes(1000)
    assert spool.read(later) == b"later"
    found, unreadable = segments.scan(later.path)
    assert (len(found), unreadable) == (2, 0)


def test_a_forked_child_has_a_spool_of_its_own(tmp_path: Path) -> None:
    """The child neither takes the parent's batches nor frees its lock."""
    spool = Spool(tmp_path)
    place = spool.write(TRACES, b"parent's", 1)
    with spool._lock:
        child = os.fork()
        if child == 0:
            written = spool.write(TRACES, b"child's", 1)
            alone = list(spool.adopt(TRACES)) == [] and spool.read(written) == b"child's"
            os._exit(0 if alone and written.path != place.path else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert list(Spool(tmp_path).adopt(TRACES)) != []  # the child is dead, the parent is not
    assert spool.read(place) == b"parent's"


def test_other_peoples_files_are_left_alone(tmp_path: Path) -> None:
    """Whatever else lies in the directory is neither read nor removed."""
    for name in ("README", "a.b.c.seg", "x.traces.seg", ".hidden"):
        (tmp_path / name).write_text("mine")
    (tmp_path / "x.traces.000001.seg").write_text("no magic")
    assert list(Spool(tmp_path).adopt(TRACES)) == []
    left = {"README", "a.b.c.seg", "x.traces.seg", ".hidden"}
    assert left <= {path.name for path in tmp_path.iterdir()}


def test_it_is_off_unless_a_directory_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No directory, no spool; one directory, one spool for the process."""
    monkeypatch.delenv("LLMSPELL_OTEL_SPOOL_DIR", raising=False)
    assert configured() is None
    monkeypatch.setenv("LLMSPELL_OTEL_SPOOL_DIR", str(tmp_path))
    monkeypatch.setenv("LLMSPELL_OTEL_SPOOL_MAX_BYTES", "a lot")
    assert configured() is configured() is not None
