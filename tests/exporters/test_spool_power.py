"""A power cut: what `fsync=True` has said is stored is there, whatever else is gone."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from llmspell_exporters import spool as spooling
from llmspell_exporters.ledger import Signal
from llmspell_exporters.spool import Spool


class Disk:
    """What of a tree would outlive a power cut: bytes and names that were synced, no others."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: dict[int, int] = {}
        self.names: dict[int, set[str]] = {}
        for name in ("fsync", "fdatasync"):
            monkeypatch.setattr(spooling.os, name, self._noting(getattr(os, name)))

    def _noting(self, sync: Callable[[int], None]) -> Callable[[int], None]:
        def noting(file: int) -> None:
            sync(file)
            found = os.fstat(file)
            if stat.S_ISDIR(found.st_mode):
                self.names[found.st_ino] = set(os.listdir(file))
            else:
                self.sizes[found.st_ino] = found.st_size

        return noting

    def after_a_power_cut(self, root: Path, to: Path) -> Path:
        """Copy what is left of *root*, whose own name is taken to be there, to the new *to*."""
        to.mkdir()
        for path in root.iterdir():
            if path.name in self.names.get(root.stat().st_ino, set()):
                if path.is_dir():
                    self.after_a_power_cut(path, to / path.name)
                else:
                    size = self.sizes.get(path.stat().st_ino, 0)
                    (to / path.name).write_bytes(path.read_bytes()[:size])
        return to


def found(directory: Path) -> set[bytes]:
    """Every batch that a new process finds there."""
    spool = Spool(directory)
    return {spool.read(place) for signal in Signal for place in spool.adopt(signal)}


def test_what_was_stored_outlives_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut the power after every single batch, of every signal, over several segments."""
    monkeypatch.setattr(spooling, "_SEGMENT", 300)
    disk = Disk(monkeypatch)
    (tmp_path / "disk").mkdir()
    spool = Spool(tmp_path / "disk" / "new" / "spool", fsync=True)
    stored = set()
    for number in range(12):
        body = bytes([number]) * (50 + 20 * number)
        spool.write(list(Signal)[number % 3], body, 1)
        stored.add(body)
        left = disk.after_a_power_cut(tmp_path / "disk", tmp_path / f"left {number}")
        assert found(left / "new" / "spool") == stored


def test_without_it_a_power_cut_may_take_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default promises a batch to outlive the process only; and the test above can fail."""
    disk = Disk(monkeypatch)
    (tmp_path / "disk").mkdir()
    Spool(tmp_path / "disk" / "spool").write(Signal.TRACES, b"body", 1)
    left = disk.after_a_power_cut(tmp_path / "disk", tmp_path / "left")
    assert list(left.iterdir()) == []


def test_a_disk_that_cannot_sync_has_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed sync is an error to who stores; batches before and after it are whole."""
    spool = Spool(tmp_path, fsync=True)
    spool.write(Signal.TRACES, b"before", 1)
    sync = os.fdatasync

    def broken(_: int) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(spooling.os, "fdatasync", broken)
    with pytest.raises(OSError, match="broken"):
        spool.write(Signal.TRACES, b"a longer one that is not stored", 1)
    monkeypatch.setattr(spooling.os, "fdatasync", sync)
    spool.write(Signal.TRACES, b"after", 1)
    (tmp_path / "copy").mkdir()
    for path in tmp_path.glob("*.seg"):
        (tmp_path / "copy" / path.name).write_bytes(path.read_bytes())
    assert found(tmp_path / "copy") == {b"before", b"after"}
