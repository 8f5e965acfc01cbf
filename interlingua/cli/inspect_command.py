"""``interlingua inspect``."""

from __future__ import annotations

from typing import Any

import click

from interlingua.cli.choices import PLACE
from interlingua.cli.failures import failures
from interlingua.cli.options import HELP, asked_of, source_options
from interlingua.cli.terminal import open_console, print_json


@click.command(context_settings=HELP, short_help="Say what a checkpoint is.")
@click.argument("src", type=PLACE)
@source_options
@click.option("--canonical", is_flag=True, help="List the canonical tensors, with the names they have here.")
@click.option("--stats", is_flag=True, help="Add each tensor's range, mean, NaNs and infinities.")
@click.option("--fingerprint/--no-fingerprint", "digest", default=None, help="Compute the fingerprint, however large.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@failures
def inspect(src: str, canonical: bool, stats: bool, digest: bool | None, as_json: bool, **asked: Any) -> None:
    """Say what the checkpoint SRC is: container, dialect, family, heads, configuration, tensors."""
    from interlingua.convert.source import open_checkpoint
    from interlingua.verify.description import describe

    with open_checkpoint(src, asked_of(**asked), strict=False) as checkpoint:
        found = describe(checkpoint, digest=digest, canonical=canonical, stats=stats)
    if as_json:
        print_json(found)
    else:
        from interlingua.verify.report import show_description

        show_description(open_console(), found)
