"""Build each server from its pins into a cache, under the hash of those pins."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

DEPLOY = Path(__file__).resolve().parents[1]
_LINK_FLAGS = "-ldflags=-s -w"


class BinaryMissingError(FileNotFoundError):
    """A server that a test needs was never built."""

    def __init__(self, name: str, where: Path) -> None:
        super().__init__(f"{name} is not at {where}: build it with `make binaries`")


class BinaryBuildError(RuntimeError):
    """Go could not build a server; the message ends with what Go said."""

    def __init__(self, command: list[str], folder: Path, output: str) -> None:
        super().__init__(f"`{' '.join(command)}` failed in {folder}:\n{output[-4000:]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary:
    """One program: its *name*, *pins* and *tags* that decide its bytes, and how to *make* it."""

    name: str
    pins: tuple[Path, ...]
    make: Callable[[Path], None]
    tags: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The hash of every pinned file and tag: another pin, another binary."""
        content = b"\0".join(
            (*(pin.read_bytes() for pin in self.pins), *(tag.encode() for tag in self.tags))
        )
        return hashlib.sha256(content).hexdigest()[:16]


def cache_folder() -> Path:
    """Where what was built stays: `LLMSPELL_CACHE`, or `~/.cache/llmspell-otel`."""
    chosen = os.environ.get("LLMSPELL_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "llmspell-otel"


def path_of(name: str) -> Path:
    """The built program called *name*.

    Raises:
        BinaryMissingError: If it was not built from the pins of this tree.
    """
    target = _target(BINARIES[name])
    if not target.is_file():
        raise BinaryMissingError(name, target)
    return target


def is_built(name: str) -> bool:
    """Whether the cache has *name*, built from the pins of this tree."""
    return _target(BINARIES[name]).is_file()


def build(name: str) -> Path:
    """Build *name* unless the cache has it; two processes may ask at once.

    Raises:
        BinaryBuildError: If Go fails.
    """
    binary, target = BINARIES[name], _target(BINARIES[name])
    target.parent.mkdir(parents=True, exist_ok=True)
    with _lock(target.parent / ".lock"):
        if not target.is_file():
            unfinished = target.with_suffix(".part")
            binary.make(unfinished)
            unfinished.replace(target)
    return target


def _target(binary: Binary) -> Path:
    return cache_folder() / "bin" / binary.digest / binary.name


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _run(command: list[str], folder: Path) -> None:
    environment = os.environ | {
        "CGO_ENABLED": "0",
        "GOFLAGS": "-trimpath -buildvcs=false",
        "GOWORK": "off",
    }
    patient = ["nice", *command] if shutil.which("nice") else command
    done = subprocess.run(
        patient,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BinaryBuildError(command, folder, done.stdout)


def _collector(tier: str, name: str) -> Binary:
    manifest = DEPLOY / "collector" / "builder" / f"{tier}.yaml"
    pins = tuple(manifest.with_suffix("") / pin for pin in ("go.mod", "go.sum"))

    def make(target: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            sources = generate_collector(manifest, Path(folder), resolve=False)
            for pin in pins:
                shutil.copyfile(pin, sources / pin.name)
            tags = ["-tags", "grpcnotrace"]
            _run(["go", "build", *tags, _LINK_FLAGS, "-o", str(target), "."], sources)

    return Binary(name=name, pins=(manifest, *pins), make=make)


def generate_collector(manifest: Path, folder: Path, *, resolve: bool) -> Path:
    """Let the collector's builder write its sources; *resolve* also chooses the modules anew."""
    found = re.search(r"^  version: (\S+)$", manifest.read_text(), re.MULTILINE)
    if found is None:
        raise ValueError(f"{manifest} names no version under dist")
    builder = f"go.opentelemetry.io/collector/cmd/builder@v{found[1]}"
    keep = [] if resolve else ["--skip-get-modules"]
    _run(["go", "run", builder, f"--config={manifest}", "--skip-compilation", *keep], folder)
    return folder / "_build"


def _module(folder: str, name: str, package: str, *tags: str) -> Binary:
    source = DEPLOY / "build" / folder
    pins = tuple(
        sorted(path for path in source.iterdir() if path.suffix in {".mod", ".sum", ".go"})
    )

    def make(target: Path) -> None:
        _run(["go", "build", *tags, _LINK_FLAGS, "-o", str(target), package], source)

    return Binary(name=name, pins=pins, make=make, tags=tags)


# Of Prometheus's service discoveries, only the one that deploy/kubernetes needs.
_TAGS = "-tags=remove_all_sd,enable_dns_sd"
_PROMETHEUS = "github.com/prometheus/prometheus/cmd"

# In the order of building: the collector first, because most of what the others need is in it.
BINARIES = {
    binary.name: binary
    for binary in (
        _collector("sidecar", "otelcol-llmspell"),
        _collector("gateway", "otelcol-llmspell-gateway"),
        _module("prometheus", "prometheus", f"{_PROMETHEUS}/prometheus", _TAGS),
        _module("prometheus", "promtool", f"{_PROMETHEUS}/promtool", _TAGS),
        _module("jaeger", "jaeger", "github.com/jaegertracing/jaeger/cmd/jaeger"),
        _module("kafka", "kafka-trial", "."),
        _module("loki", "loki", "github.com/grafana/loki/v3/cmd/loki"),
    )
}
