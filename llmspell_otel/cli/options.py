"""Options that several commands share."""

from typing import Final

import click

POLICIES: Final = click.option(
    "--hooks",
    "policies",
    multiple=True,
    type=click.Path(dir_okay=False),
    metavar="POLICY.py",
    help="A file of hooks to load; may be given several times.",
)
