"""What `llmspell-otel doctor` says of exporters: who answers, what arrived, what still waits."""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Final

from llmspell_exporters import segments
from llmspell_exporters.answers import Verdict
from llmspell_exporters.books import FOLDER, Books, folders, kept
from llmspell_exporters.destination import Destination, Protocol, destination
from llmspell_exporters.ledger import Account, Signal
from llmspell_exporters.otlp import sender_to
from llmspell_exporters.segments import Frame, Name
from llmspell_exporters.spool import DIRECTORY, directory
from llmspell_otel.cli.findings import Finding

_PROTOCOLS: Final[Mapping[str, Protocol]] = {"http": "http/protobuf", "grpc": "grpc"}
_UNANSWERED: Final = {"unreachable", "timeout", "grpc_unavailable", "grpc_deadline_exceeded"}
_SERVICES: Final = 5  # whose last runs are shown
_AGES: Final = {"d": 86400, "h": 3600, "min": 60, "s": 1}
_SIZES: Final = {"MB": 10**6, "kB": 10**3, "bytes": 1}


def receiver(exporter: str, signal: str, timeout: float) -> Finding:
    """Send an empty request, which stores nothing, the way that records would go."""
    to = destination(Signal(signal), protocol=_PROTOCOLS.get(exporter.rpartition("_")[2]))
    problem = _problem(to, timeout)
    protocol = "gRPC" if to.protocol == "grpc" else "HTTP"
    return Finding(f"{signal}: {to} ({protocol}) {problem or 'answers'}", good=not problem)


def configuration(path: str) -> Finding:
    """Read the SDK's configuration file as the SDK would; nothing is set up by it."""
    shown = f"OTEL_CONFIG_FILE={path}"
    try:
        import_module("opentelemetry.configuration").load_config_file(path)
    except ImportError:
        how = "pip install 'llmspell-otel[file-configuration]'"
        return Finding(f"{shown} is not read: {how}", good=False)
    except Exception as error:
        return Finding(f"{shown} is not used: {' '.join(str(error).split())}", good=False)
    return Finding(f"{shown} alone says where telemetry goes, and can be read", good=True)


def _problem(to: Destination, timeout: float) -> str:
    client = sender_to(to)
    answer = client.send(b"", time.monotonic() + timeout)
    client.close()
    if answer.verdict is Verdict.TAKEN:
        return ""
    said = answer.message.removeprefix(f"{to}: ")
    if answer.reason in _UNANSWERED:
        return f"does not answer: {said}; start a collector there or correct the endpoint"
    return f"answers {answer.reason}: {said}; check the path, the headers and the certificates"


def delivery() -> Iterator[Finding]:
    """The books of every process that lives, and of the services' last runs; then the spools.

    Bad is what those that live and the very last run have lost; of older runs it is just shown.
    """
    found = [books for folder in folders() for books in kept(folder)]
    last = max((books.time for books in found if not books.alive), default=0.0)
    for books in _shown(found):
        yield from _of(books, judged=books.alive or books.time == last)
    if not found:
        yield Finding(_NO_BOOKS if folders() else f"no books are kept ({FOLDER}=none)")
    for spool in dict.fromkeys((str(directory() or ""), *(books.spool for books in found))):
        if spool:
            yield from _waiting(Path(spool))


_NO_BOOKS: Final = (
    "no program has exported anything in the last day; run the doctor as its user, with its"
    f" {FOLDER} and {DIRECTORY}"
)


def _shown(found: list[Books]) -> Iterator[Books]:
    """All that live, and the latest of each of the latest services."""
    seen: set[str] = set()
    for books in sorted(found, key=lambda books: (not books.alive, -books.time)):
        if books.alive or (books.service not in seen and len(seen) < _SERVICES):
            yield books
        seen.add(books.service)


def _of(books: Books, *, judged: bool) -> Iterator[Finding]:
    state = "running" if books.alive else "ended" if books.ended else "broke off"
    age = _age(time.time() - books.time)
    yield Finding(f"{books.service} (process {books.pid}, {state}), books of {age} ago:")
    for account in books.accounts:
        if account.made + account.adopted:
            gone = 0 if books.alive or books.ended else account.queued
            good = _good(account, gone) if judged else None
            yield Finding(f"  {_line(account, gone)}", good=good)


def _good(account: Account, gone: int) -> bool | None:
    if account.rejected or account.lost or gone or not account.balanced:
        return False
    return None if account.spooled else True


def _line(account: Account, gone: int) -> str:
    adopted = f" and {account.adopted} adopted" if account.adopted else ""
    parts = [
        f"{account.signal.records}: {account.made} made{adopted}",
        f"{account.queued} queued" + (", which its end has lost" if gone else ""),
        f"{account.acknowledged} acknowledged",
        _fate("rejected", account.rejected, account.messages),
        f"{account.spooled} spooled",
        _fate("lost", account.lost, account.messages),
    ]
    return ", ".join(parts) + ("" if account.balanced else "; these do not balance: a defect")


def _fate(name: str, counts: Mapping[str, int], messages: Mapping[str, str]) -> str:
    reasons = [
        f"{reason} {count}" + (f": {messages[reason]}" if messages.get(reason) else "")
        for reason, count in sorted(counts.items())
    ]
    return f"{sum(counts.values())} {name}" + (f" ({'; '.join(reasons)})" if reasons else "")


def _waiting(spool: Path) -> Iterator[Finding]:
    frames = _frames(spool)
    if not frames:
        yield Finding(f"spool {spool}: empty", good=True)
    for signal, batches in sorted(frames.items()):
        size = sum(frame.size for frame in batches)
        oldest = time.time() - min(frame.time for frame in batches) / 1e9
        yield Finding(
            f"spool {spool}: {sum(frame.count for frame in batches)} {signal.records} in"
            f" {len(batches)} batches ({_amount(size, _SIZES)}), the oldest of {_age(oldest)} ago;"
            " sent when the receiver answers a program that uses this folder"
        )


def _frames(spool: Path) -> dict[Signal, list[Frame]]:
    """What waits in *spool*, by signal; whoever owns it goes on using it."""
    found: dict[Signal, list[Frame]] = defaultdict(list)
    for path in spool.glob(f"*{segments.SUFFIX}"):
        if name := Name.parse(path.name):
            with suppress(OSError):  # sent meanwhile
                found[name.signal] += segments.scan(path)[0]
    return {signal: frames for signal, frames in found.items() if frames}


def _age(seconds: float) -> str:
    return _amount(max(seconds, 1), _AGES)


def _amount(number: float, units: Mapping[str, int]) -> str:
    unit, size = next((u for u in units.items() if number >= u[1]), list(units.items())[-1])
    return f"{number / size:.0f} {unit}"
