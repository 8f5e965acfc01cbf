"""``interlingua diff``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from interlingua.cli.choices import PLACE
from interlingua.cli.failures import failures
from interlingua.cli.options import HELP
from interlingua.cli.terminal import open_console, print_json

if TYPE_CHECKING:
    from interlingua.convert.json_forms import ComparisonForm
    from interlingua.verify.difference import Comparison


@click.command(context_settings=HELP, short_help="Compare two checkpoints, tensor by tensor.")
@click.argument("a", type=PLACE)
@click.argument("b", type=PLACE)
@click.option("--atol", type=float, help="Greatest absolute difference that counts as the same (default: none).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing; the exit code tells.")
@failures
def diff(a: str, b: str, atol: float | None, as_json: bool, quiet: bool) -> None:
    """Compare the checkpoints A and B tensor by tensor, across dialects. Exit code 1 where they differ."""
    from interlingua.convert.source import open_checkpoint
    from interlingua.verify.difference import compare

    with open_checkpoint(a) as left, open_checkpoint(b) as right:
        comparison = compare(left, right, atol=atol)
    if as_json:
        print_json(_form(a, b, comparison))
    elif not quiet:
        from interlingua.verify.report import show_comparison

        show_comparison(open_console(), comparison)
    sys.exit(0 if comparison.same else 1)


def _form(a: str, b: str, comparison: Comparison) -> ComparisonForm:
    from interlingua.convert.json_forms import VERSION

    return {
        "schema": VERSION,
        "a": a,
        "b": b,
        "same": comparison.same,
        "compared": comparison.compared,
        "differences": [
            {
                "name": found.name,
                "what": found.what,
                "detail": found.detail,
                "greatest": _finite(found.greatest),
                "differing": found.differing,
            }
            for found in comparison.differences
        ],
    }


def _finite(value: float | None) -> float | str | None:
    return value if value is None or abs(value) < float("inf") else str(value)
