"""``interlingua judge``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from interlingua.cli.failures import failures
from interlingua.cli.options import HELP
from interlingua.cli.parity_command import show_parity


@click.command(context_settings=HELP, short_help="Judge a parity check again, by other thresholds.")
@click.argument("result", type=click.Path())
@click.option("--rms", type=click.FloatRange(0), help="Units of noise that an error's root mean square may have.")
@click.option("--peak", type=click.FloatRange(0), help="Units of noise that an error's greatest element may have.")
@click.option("--atol", type=click.FloatRange(0), help="Absolute error that passes besides.")
@click.option("--rtol", type=click.FloatRange(0), help="Relative error that passes besides.")
@click.option("--strict", is_flag=True, help="Exit with 1 where conventions make the outputs differ, too.")
@click.option("--report", type=click.Path(), metavar="FILE.html", help="Write a page with everything that was found.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("-v", "--verbose", is_flag=True, help="Show a line for every layer.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing; the exit code tells.")
@failures
def judge(result: str, **options: Any) -> None:
    """Judge again, by other thresholds, what `parity --json` printed into the file RESULT; nothing is run."""
    from dataclasses import replace

    from interlingua.convert.documents import read_object
    from interlingua.verify.parity import judgement
    from interlingua.verify.parity.outcome import outcome_from_dict

    stored = outcome_from_dict(read_object(Path(result)))
    given = {key: options[key] for key in ("rms", "peak", "atol", "rtol") if options[key] is not None}
    outcome = judgement.judge(stored, replace(stored.thresholds, **given))
    show_parity(outcome, options)
    sys.exit(outcome.exit_code(strict=options["strict"]))
