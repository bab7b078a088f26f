"""``llmspell-otel doctor``: what is installed, what is instrumented, what became of telemetry."""

import os
import platform
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, entry_points, version
from typing import Final

import click

from llmspell_otel.cli import endpoints
from llmspell_otel.cli.findings import Examination, Finding
from llmspell_otel.runtime import HOOKS_VARIABLE, MissingWeaverError, weaver

_PACKAGES: Final = (
    "llmspell-otel",
    "opentelemetry-api",
    "opentelemetry-sdk",
    "opentelemetry-exporter-otlp",
    "opentelemetry-instrumentation",
    "wrapt",
    "genai-prices",
)
_OTLP: Final = re.compile(r"(llmspell_)?otlp(_proto)?(_http|_grpc)?")
_MARKS: Final = {True: ("ok", "green"), False: ("!!", "red"), None: ("--", "yellow")}


@click.command(short_help="Tell what is installed, instrumented, and what became of telemetry.")
@click.option("--timeout", default=2.0, show_default=True, help="Seconds to wait for an endpoint.")
@click.option(
    "--all", "everywhere", is_flag=True, help="Show what became of every program's telemetry."
)
def command(timeout: float, *, everywhere: bool) -> None:
    """Tell what is installed, what would be instrumented, where telemetry goes, what arrived.

    Run it with the environment of the program, in its folder: it shows what became of the
    telemetry of the service that OTEL_SERVICE_NAME names, or else of what was started here. It
    ends with 1 if something is wrong: an endpoint that does not answer, a policy file that does
    not load, an adapter whose library has an unsupported version, telemetry that was lost.
    """
    examination = _examination()
    healthy = True
    for title, findings in (
        ("installed", _installed()),
        ("adapters", _adapters()),
        ("hooks", _hooks()),
        ("telemetry", _telemetry(examination, timeout)),
        ("delivery", examination.delivery(everywhere=everywhere) if examination else iter(())),
    ):
        click.secho(title, bold=True)
        for text, good in findings:
            mark, colour = _MARKS[good]
            click.echo(f"  {click.style(mark, fg=colour)} {text}")
            healthy = healthy and good is not False
    raise SystemExit(0 if healthy else 1)


def _examination() -> Examination | None:
    """What the installed exporters know; None if there are none."""
    for entry in entry_points(group="llmspell_doctor"):
        found: Examination = entry.load()
        return found
    return None


def _installed() -> Iterator[Finding]:
    yield Finding(f"Python {platform.python_version()}", good=True)
    for package in _PACKAGES:
        try:
            yield Finding(f"{package} {version(package)}", good=True)
        except PackageNotFoundError:
            yield Finding(f"{package} is not installed")
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        yield Finding("OTEL_SDK_DISABLED=true: nothing is recorded; unset it", good=False)


def _adapters() -> Iterator[Finding]:
    try:
        instrumented = weaver()
    except MissingWeaverError as error:
        yield Finding(str(error), good=False)
        return
    instrumented.instrument()
    statuses = instrumented.status()
    instrumented.uninstrument()
    for status in statuses:
        what = f"{status.adapter} {status.version or ''}".strip()
        if status.state in ("attached", "pending"):
            points = len(status.found) + len(status.pending)
            yield Finding(f"{what}: {points} join points", good=True)
            for target in status.missing:
                yield Finding(f"{what}: this version has no {target}")
        elif status.state == "missing":
            yield Finding(f"{what}: its library is not installed")
        else:
            yield Finding(status.message or f"{what}: {status.state}", good=False)


def _hooks() -> Iterator[Finding]:
    from llmspell_otel.errors import PolicyError
    from llmspell_otel.hooks.policies import load_policy

    paths = [path for path in os.environ.get(HOOKS_VARIABLE, "").split(os.pathsep) if path]
    if not paths:
        yield Finding(f"no policy files ({HOOKS_VARIABLE} is not set)")
    for path in paths:
        try:
            policy = load_policy(path)
        except PolicyError as error:
            yield Finding(str(error), good=False)
        else:
            yield Finding(f"{path}: {len(policy.hooks)} hooks", good=True)
            policy.unload()


def _telemetry(examination: Examination | None, timeout: float) -> Iterator[Finding]:
    if examination and (path := os.environ.get("OTEL_CONFIG_FILE")):
        yield from examination.configuration(path)
        return
    for signal, exporters in endpoints.exporters():
        if not exporters:
            fate = "printed as a tree" if signal == "traces" else "left out"
            yield Finding(f"{signal}: {fate} by `run`; name an exporter to send them")
        for exporter in exporters:
            if examination is None or not _OTLP.fullmatch(exporter):
                yield Finding(f"{signal}: {exporter}")
            else:
                yield examination.receiver(exporter, signal, timeout)
