"""``interlingua matrix``."""

from __future__ import annotations

import click

from interlingua.cli.choices import FAMILY
from interlingua.cli.failures import failures
from interlingua.cli.options import HELP
from interlingua.cli.terminal import open_console, print_json


@click.command(context_settings=HELP, short_help="Print what converts to what.")
@click.option("--family", type=FAMILY, metavar="FAMILY", help="Show what one family's models convert to.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@failures
def matrix(family: str | None, as_json: bool) -> None:
    """Print which dialect converts to which, by family, and which containers are read and written."""
    from interlingua.verify.matrix import as_dict, tables

    if as_json:
        print_json(as_dict())
        return
    console = open_console()
    for table in tables(family):
        console.print(table)
        console.print()
