"""The books on disk: what `llmspell-otel doctor` reads while a program runs, and after it.

Each process that exports writes one small file of counts, every few seconds and when it ends,
into `LLMSPELL_OTEL_STATE_DIR`; else beside the spool; else into a folder of its user's under the
system's temporary one. `none` writes nothing. No telemetry is in it: counts, reasons, and the
receiver's last words. The file is locked for as long as its process lives.
"""

import fcntl
import os
import secrets
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Final

import msgspec
from opentelemetry import trace

from llmspell_exporters.ledger import Account, Ledger, ledger
from llmspell_exporters.spool import directory
from llmspell_otel.guard import guard

FOLDER: Final = "LLMSPELL_OTEL_STATE_DIR"
EVERY: Final = 3.0
"""Seconds between two looks whether there is something new to write."""
KEPT: Final = 86400.0
"""Seconds that the books of a process that is gone are kept."""
SUFFIX: Final = ".books"
_MOST: Final = 64  # files of processes that are gone
_ATTEMPTS, _MOMENT = 5, 0.01  # seconds between attempts to read what is being written
_PAGE: Final = 4096  # what is written is padded to this, and so covers what was there


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What the books of one process said when they were last written.

    Attributes:
        service: the program's `service.name`.
        pid: its process id, in its own namespace.
        time: when they were written, in seconds since the epoch.
        ended: whether the process had shut its exporters down and was about to end.
        spool: the folder of its spool, or nothing.
        started_in: the working folder that it was started in, or nothing.
        accounts: one for each signal.
        alive: whether the process lives; not in the file, but known by its lock.
    """

    service: str
    pid: int
    time: float
    ended: bool
    spool: str
    accounts: tuple[Account, ...]
    started_in: str = ""
    alive: bool = False


def folders() -> tuple[Path, ...]:
    """Where books may lie, the one that is written to first; none if none are wanted."""
    named = os.environ.get(FOLDER, "").strip()
    if named.lower() == "none":
        return ()
    if named:
        return (Path(named).absolute(),)
    spool = directory()
    return (spool, common()) if spool else (common(),)


def common() -> Path:
    """The folder that all programs of this user share, unless they name one."""
    return Path(tempfile.gettempdir()) / f"llmspell-otel-{os.getuid()}"


def working_folder() -> str:
    """The working folder; nothing if it is gone."""
    with suppress(OSError):
        return str(Path.cwd())
    return ""


def kept(folder: Path) -> list[Books]:
    """The books that lie in *folder*, the latest first; what cannot be read is left out."""
    found = [books for path in folder.glob(f"*{SUFFIX}") if (books := _read(path))]
    return sorted(found, key=lambda books: books.time, reverse=True)


def _read(path: Path) -> Books | None:
    for _ in range(_ATTEMPTS):
        with suppress(OSError, msgspec.DecodeError), path.open("rb") as file:
            if not (data := file.read()):
                return None
            books = msgspec.json.decode(data, type=Books)
            return replace(books, alive=_locked(file.fileno()))
        time.sleep(_MOMENT)  # it is being written: pages are whole, files need not be
    return None


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


class Keeper:
    """Writes the books of *ledger* while the process lives; at most one for each ledger."""

    def __init__(self, books_of: Ledger) -> None:
        self._ledger = books_of
        self._reset()
        books_of.at_end(self.end)
        os.register_at_fork(after_in_child=self._after_fork)

    def _reset(self) -> None:
        self._lock = Lock()
        self._starting = Lock()  # of its own: who exports does not wait for a slow disk
        self._ending = Event()
        self._thread: Thread | None = None
        self._descriptor: int | None = None
        self._written = b""
        self._room = 0

    def _after_fork(self) -> None:
        """The child has books of its own; closing our copy does not free the parent's lock."""
        if self._descriptor is not None:
            with suppress(OSError):
                os.close(self._descriptor)
        self._reset()

    def start(self) -> None:
        """Write from now on, in a thread of its own; doing it twice is doing it once."""
        with self._starting:
            if self._thread is None and not self._ending.is_set() and folders():
                self._thread = Thread(target=self._run, name="llmspell-books", daemon=True)
                with suppress(RuntimeError):  # too late for threads: `end` writes what there is
                    self._thread.start()

    def end(self) -> None:
        """Write for the last time."""
        if self._thread is not None and not self._ending.is_set():
            self._ending.set()
            guard.contained("keeping the books", self._keep, ended=True)

    def _run(self) -> None:
        while not self._ending.wait(EVERY):
            guard.contained("keeping the books", self._keep)

    def _keep(self, *, ended: bool = False) -> None:
        with suppress(OSError):  # a full disk, or none: the books are in memory all the same
            self._write(ended=ended)

    def _write(self, *, ended: bool) -> None:
        accounts = self._ledger.snapshot().accounts
        body = msgspec.json.encode(accounts, enc_hook=dict)
        with self._lock:
            nothing = not any(account.made + account.adopted for account in accounts)
            if nothing or (body == self._written and not ended):
                return
            if self._descriptor is None:
                self._descriptor = _opened(folders()[0])
            text = msgspec.json.encode(_books(accounts, ended=ended), enc_hook=dict)
            self._room = max(self._room, -(-len(text) // _PAGE) * _PAGE)
            os.pwrite(self._descriptor, text.ljust(self._room), 0)
            self._written = body


def _books(accounts: tuple[Account, ...], *, ended: bool) -> Books:
    return Books(
        service=_service(),
        pid=os.getpid(),
        time=time.time(),
        ended=ended,
        spool=str(directory() or ""),
        accounts=accounts,
        started_in=_STARTED_IN,
    )


def _service() -> str:
    resource = getattr(trace.get_tracer_provider(), "resource", None)
    named = getattr(resource, "attributes", {}).get("service.name")
    return str(named or os.environ.get("OTEL_SERVICE_NAME") or Path(sys.argv[0]).name)


def _opened(folder: Path) -> int:
    """A new file of ours in *folder*, locked.

    Raises:
        OSError: it cannot be made, or the folder under the temporary one is not ours.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder == common() and (folder.is_symlink() or folder.stat().st_uid != os.getuid()):
        raise PermissionError(f"{folder} is somebody else's; set {FOLDER}")
    _prune(folder)
    name = f"{time.time_ns():020d}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
    descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def _prune(folder: Path) -> None:
    """Remove the books of processes that are long gone, and the oldest of too many."""
    latest = sorted(folder.glob(f"*{SUFFIX}"), reverse=True)
    for number, path in enumerate(latest):
        with suppress(OSError):
            old = number >= _MOST or path.stat().st_mtime < time.time() - KEPT
            if old and not _in_use(path):
                path.unlink(missing_ok=True)


def _in_use(path: Path) -> bool:
    with path.open("rb") as file:
        return _locked(file.fileno())


_STARTED_IN: Final = working_folder()  # before the program goes elsewhere

keeper: Final = Keeper(ledger)
"""Keeps the books of this process."""
