"""``llmspell-otel run``: a Python program, unchanged, seen and steered."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click

from llmspell_otel.cli import endpoints
from llmspell_otel.cli.builtins import variables
from llmspell_otel.cli.options import POLICIES
from llmspell_otel.runtime import HOOKS_VARIABLE, JOURNAL_VARIABLE, PRELOAD_VARIABLE

_PRINTED: Final = {
    "OTEL_TRACES_EXPORTER": "llmspell_console",
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_LOGS_EXPORTER": "none",
    PRELOAD_VARIABLE: "true",
}


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    short_help="Run a Python program, seen and steered.",
)
@POLICIES
@click.option(
    "--builtin",
    "builtins",
    multiple=True,
    metavar="NAME[:KEY=VALUE,…]",
    help="A built-in hook to switch on, as retry:max_attempts=5; may be given several times.",
)
@click.option(
    "--profile",
    type=click.Choice(["default", "production", "conservative"]),
    help="Switch on the built-in hooks of this profile.",
)
@click.option(
    "--settings",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE.toml",
    help="The file of settings, in the place of llmspell-otel.toml.",
)
@click.option("--service-name", metavar="NAME", help="What telemetry calls the program.")
@click.option(
    "--journal",
    type=click.Path(file_okay=False),
    metavar="FOLDER",
    help="Keep every event in this folder, for `events` and `timeline`.",
)
@click.option("-m", "module", is_flag=True, help="The program is a module, as with python -m.")
@click.argument("program")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(
    policies: tuple[str, ...],
    builtins: tuple[str, ...],
    profile: str | None,
    settings: str | None,
    service_name: str | None,
    journal: str | None,
    module: bool,
    program: str,
    arguments: tuple[str, ...],
) -> None:
    """Run PROGRAM (a file, or with -m a module) with ARGUMENTS, seen and steered.

    Where the program's telemetry goes is said by the standard OTEL_* variables. If they say
    nothing, the trace is printed as a tree when the program ends.
    """
    if not module and not Path(program).exists():
        raise click.UsageError(f"there is no file {program!r}; a module is run with -m")
    environment = dict(os.environ)
    environment |= _settings(policies, service_name, program)
    environment |= variables(builtins)
    if profile:
        environment["LLMSPELL_OTEL_PROFILE"] = profile
    if settings:
        environment["LLMSPELL_OTEL_CONFIG"] = str(Path(settings).absolute())
    if journal:
        environment[JOURNAL_VARIABLE] = str(Path(journal).absolute())
    environment["PYTHONPATH"] = os.pathsep.join(_python_path(environment))
    line = [sys.executable, *(["-m"] if module else []), program, *arguments]
    os.execve(sys.executable, line, environment)  # noqa: S606 - the user's own program


def _settings(policies: tuple[str, ...], service_name: str | None, program: str) -> dict[str, str]:
    """The variables that have the program's interpreter load us first."""
    settings = {"OTEL_PYTHON_DISTRO": "llmspell", "OTEL_PYTHON_CONFIGURATOR": "llmspell"}
    if policies:
        named = os.environ.get(HOOKS_VARIABLE)
        paths = [*([named] if named else []), *(str(Path(path).absolute()) for path in policies)]
        settings[HOOKS_VARIABLE] = os.pathsep.join(paths)
    if service_name:
        settings["OTEL_SERVICE_NAME"] = service_name
    elif not _names_service(os.environ):
        settings["OTEL_SERVICE_NAME"] = Path(program).stem
    if not endpoints.decided():
        settings |= _PRINTED
    return settings


def _names_service(environment: Mapping[str, str]) -> bool:
    """Whether *environment* names the service, in either of the two standard ways."""
    pairs = environment.get("OTEL_RESOURCE_ATTRIBUTES", "").split(",")
    named = any(pair.partition("=")[0].strip() == "service.name" for pair in pairs)
    return named or bool(environment.get("OTEL_SERVICE_NAME"))


def _python_path(environment: dict[str, str]) -> list[str]:
    # The way of `opentelemetry-instrument`: its `sitecustomize` starts the distribution.
    from opentelemetry.instrumentation import auto_instrumentation

    ours = str(Path(auto_instrumentation.__file__).parent)
    present = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    return [ours, *(path for path in present if path != ours)]
