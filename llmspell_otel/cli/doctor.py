"""``llmspell-otel doctor``: what is installed, what is instrumented, where telemetry goes."""

import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import click

from llmspell_otel.cli import endpoints
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
_OK, _BAD, _INFO = ("ok", "green"), ("!!", "red"), ("--", "yellow")


@click.command(short_help="Tell what is installed, instrumented, and where telemetry goes.")
@click.option("--timeout", default=2.0, show_default=True, help="Seconds to wait for an endpoint.")
def command(timeout: float) -> None:
    """Tell what is installed, what would be instrumented, and where telemetry goes.

    Ends with 1 if something is wrong: an endpoint that does not answer, a policy file that does
    not load, an adapter whose library has an unsupported version.
    """
    healthy = True
    for title, rows in (
        ("installed", _installed()),
        ("adapters", _adapters()),
        ("hooks", _hooks()),
        ("telemetry", _telemetry(timeout)),
    ):
        click.secho(title, bold=True)
        for (mark, colour), text in rows:
            click.echo(f"  {click.style(mark, fg=colour)} {text}")
            healthy = healthy and mark != _BAD[0]
    raise SystemExit(0 if healthy else 1)


_Row = tuple[tuple[str, str], str]


def _installed() -> Iterator[_Row]:
    yield _OK, f"Python {platform.python_version()}"
    for package in _PACKAGES:
        try:
            yield _OK, f"{package} {version(package)}"
        except PackageNotFoundError:
            yield _INFO, f"{package} is not installed"
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        yield _BAD, "OTEL_SDK_DISABLED=true: nothing is recorded; unset it"


def _adapters() -> Iterator[_Row]:
    try:
        instrumented = weaver()
    except MissingWeaverError as error:
        yield _BAD, str(error)
        return
    statuses = instrumented.instrument()
    instrumented.uninstrument()
    for status in statuses:
        what = f"{status.adapter} {status.version or ''}".strip()
        if status.state in ("attached", "pending"):
            points = len(status.found) + len(status.pending)
            yield _OK, f"{what}: {points} join points"
            for target in status.missing:
                yield _INFO, f"{what}: this version has no {target}"
        elif status.state == "missing":
            yield _INFO, f"{what}: its library is not installed"
        else:
            yield _BAD, status.message or f"{what}: {status.state}"


def _hooks() -> Iterator[_Row]:
    from llmspell_otel.errors import PolicyError
    from llmspell_otel.hooks.policies import load_policy

    paths = [path for path in os.environ.get(HOOKS_VARIABLE, "").split(os.pathsep) if path]
    if not paths:
        yield _INFO, f"no policy files ({HOOKS_VARIABLE} is not set)"
    for path in paths:
        try:
            policy = load_policy(path)
        except PolicyError as error:
            yield _BAD, str(error)
        else:
            yield _OK, f"{path}: {len(policy.hooks)} hooks"
            policy.unload()


def _telemetry(timeout: float) -> Iterator[_Row]:
    for signal, exporters in endpoints.exporters():
        if not exporters:
            yield _INFO, f"{signal}: printed as a tree by `run`; name an exporter to send it"
        for exporter in exporters:
            if exporter != "otlp":
                yield _INFO, f"{signal}: {exporter}"
                continue
            target = endpoints.target(signal)
            problem = endpoints.probe(target, signal, timeout)
            yield (_BAD if problem else _OK), f"{signal}: {target} {problem or 'answers'}"
