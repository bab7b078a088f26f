"""What `llmspell-otel doctor` says of exporters: who answers, what arrived, what still waits."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Final

from opentelemetry.sdk.resources import OTELResourceDetector

from llmspell_exporters import segments
from llmspell_exporters.answers import Verdict
from llmspell_exporters.books import FOLDER, Books, common, folders, kept, working_folder
from llmspell_exporters.destination import Destination, Protocol, destination
from llmspell_exporters.ledger import Account, Signal
from llmspell_exporters.otlp import sender_to
from llmspell_exporters.segments import Frame, Name
from llmspell_exporters.spool import DIRECTORY, directory
from llmspell_otel.cli.findings import Finding

_PROTOCOLS: Final[Mapping[str, Protocol]] = {"http": "http/protobuf", "grpc": "grpc"}
_UNANSWERED: Final = {"unreachable", "timeout", "grpc_unavailable", "grpc_deadline_exceeded"}
_PROVIDERS: Final = ("tracer_provider", "meter_provider", "logger_provider")
_OFFICIAL: Final = ("otlp_http", "otlp_grpc")
_SERVICES: Final = 5  # whose last runs are shown
_AGES: Final = {"d": 86400, "h": 3600, "min": 60, "s": 1}
_SIZES: Final = {"MB": 10**6, "kB": 10**3, "bytes": 1}


def receiver(exporter: str, signal: str, timeout: float) -> Finding:
    """Send an empty request, which stores nothing, the way that records would go."""
    to = destination(Signal(signal), protocol=_PROTOCOLS.get(exporter.rpartition("_")[2]))
    problem = _problem(to, timeout)
    protocol = "gRPC" if to.protocol == "grpc" else "HTTP"
    return Finding(f"{signal}: {to} ({protocol}) {problem or 'answers'}", good=not problem)


def configuration(path: str) -> Iterator[Finding]:
    """Read the SDK's configuration file as the SDK would; nothing is set up by it."""
    shown = f"OTEL_CONFIG_FILE={path}"
    try:
        found = import_module("opentelemetry.configuration").load_config_file(path)
    except ImportError:
        how = "pip install 'llmspell-otel[file-configuration]'"
        yield Finding(f"{shown} is not read: {how}", good=False)
    except Exception as error:
        yield Finding(f"{shown} is not used: {' '.join(str(error).split())}", good=False)
    else:
        yield Finding(f"{shown} alone says where telemetry goes, and can be read", good=True)
        for name in _PROVIDERS:
            for exporter in sorted(_official(getattr(found, name, None))):
                yield Finding(
                    f"{name}: {exporter} is the official exporter there, which keeps no books and"
                    " no spool; ours is llmspell_otlp"
                )


def _official(part: object) -> set[str]:
    """The official OTLP exporters that *part* of a configuration names."""
    if isinstance(part, list):
        return {name for each in part for name in _official(each)}
    if not is_dataclass(part):
        return set()
    held = {field.name: getattr(part, field.name) for field in fields(part)}
    named = {name for name in _OFFICIAL if held.get(name) is not None}
    return named.union(*map(_official, held.values()))


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


def delivery(*, everywhere: bool = False) -> Iterator[Finding]:
    """The books of every process that lives, and of the services' last runs; then the spools.

    In the folder that all programs of a user share, these are the ones of the service that the
    environment names, or else those started in the working folder; *everywhere* means all.
    Bad is what those that live and the very last run have lost; of older runs it is just shown.
    """
    ours = None if everywhere else _of_this_program()
    found, others = list[Books](), list[Books]()
    for folder in folders():
        for books in kept(folder):
            shown = ours is None or folder != common() or ours(books)
            (found if shown else others).append(books)
    last = max((books.time for books in found if not books.alive), default=0.0)
    for books in _shown(found):
        yield from _of(books, judged=books.alive or books.time == last)
    if not found:
        yield Finding(_NO_BOOKS if folders() else f"no books are kept ({FOLDER}=none)")
    if others:
        yield _elsewhere(others)
    for spool in dict.fromkeys((str(directory() or ""), *(books.spool for books in found))):
        if spool:
            yield from _waiting(Path(spool))


_NO_BOOKS: Final = (
    "this program has exported nothing in the last day; run the doctor as its user, in its folder"
    f" or with its OTEL_SERVICE_NAME, {FOLDER} and {DIRECTORY}"
)


def _of_this_program() -> Callable[[Books], bool]:
    """Whether books are of the service that the environment names; without one, of this folder."""
    service = OTELResourceDetector().detect().attributes.get("service.name")
    if service:
        return lambda books: books.service == service
    here = working_folder()
    return lambda books: books.started_in == here


def _elsewhere(others: list[Books]) -> Finding:
    latest = list(dict.fromkeys(f"{books.service} ({books.started_in})" for books in others))
    more = f" and {len(latest) - _SERVICES} more" if len(latest) > _SERVICES else ""
    return Finding(
        f"not shown: {', '.join(latest[:_SERVICES])}{more}, which exported something in the last"
        " day; `llmspell-otel doctor --all` shows them"
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
