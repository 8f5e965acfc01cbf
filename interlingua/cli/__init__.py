"""The command line: parse, call, print.

A module a command: ``convert_command.py`` has ``interlingua convert``. They share ``options.py`` (what is said of a
source), ``choices.py`` (names that shells complete), ``terminal.py`` and ``progress.py`` (what is printed where) and
``failures.py`` (exit codes).
"""

from __future__ import annotations

import click

from interlingua.cli.batch_command import batch
from interlingua.cli.completion_command import completion
from interlingua.cli.convert_command import convert
from interlingua.cli.diff_command import diff
from interlingua.cli.failures import BUG, INTERRUPTED
from interlingua.cli.fingerprint_command import fingerprint
from interlingua.cli.inspect_command import inspect
from interlingua.cli.judge_command import judge
from interlingua.cli.matrix_command import matrix
from interlingua.cli.options import HELP
from interlingua.cli.parity_command import parity
from interlingua.cli.versions import show_versions

__all__ = ["BUG", "INTERRUPTED", "convert", "convert_checkpoint", "main", "parity", "parity_check"]

COMMANDS = (convert, parity, batch, inspect, diff, fingerprint, judge, matrix, completion)


@click.group(context_settings=HELP)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=show_versions,
    help="Show the version, and those of the frameworks that are installed.",
)
def main() -> None:
    """Convert checkpoints of BERT-family encoders between systems, losslessly, and prove it."""


for command in COMMANDS:
    main.add_command(command)

convert_checkpoint = convert
parity_check = parity
