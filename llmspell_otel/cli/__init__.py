"""The command line: one file per command, imported when it is called."""

from importlib import import_module
from typing import Final

import click

import llmspell_otel

_COMMANDS: Final = {
    "cost": "Sum what was spent, by run, agent, model, user, ….",
    "debug": "Browse what the hook debugging wrote when a call failed.",
    "doctor": "Tell what is installed and instrumented, and what became of telemetry.",
    "events": "Follow, find, export, import and count the events that were kept.",
    "hooks": "List hooks and the state of their breakers.",
    "run": "Run a Python program, seen and steered.",
    "timeline": "Show a run as a waterfall: where time and money went.",
}
"""Every command and what it does; `NAME` is the function `command` in the module of that name."""


class Commands(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands."""
        del ctx
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, if there is one."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        found: click.Command = import_module(f"{__name__}.{cmd_name}").command
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing any."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(sorted(_COMMANDS.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(llmspell_otel.__version__, prog_name="llmspell-otel")
def main() -> None:
    """See and steer every call of your AI agents."""
