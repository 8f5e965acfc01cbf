"""``interlingua convert``, which is ``convert-checkpoint`` too."""

from __future__ import annotations

import shlex
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from interlingua.cli.choices import CONTAINER, DIALECT, PLACE, Choice
from interlingua.cli.failures import failures
from interlingua.cli.options import HELP, asked_of, source_options
from interlingua.cli.parity_command import show_parity
from interlingua.cli.progress import ConversionProgress
from interlingua.cli.terminal import open_console, print_json, say, working
from interlingua.errors import UsageError, printable

if TYPE_CHECKING:
    from interlingua.convert.conversion import Options as ConversionOptions
    from interlingua.convert.conversion import Result as ConversionResult
    from interlingua.convert.json_forms import ConversionForm, Converted, LostForm
    from interlingua.convert.plan import Plan
    from interlingua.verify.parity.outcome import Outcome


@click.command(context_settings=HELP, short_help="Convert a checkpoint to another dialect or container.")
@click.argument("src", type=PLACE)
@click.argument("dst", type=PLACE)
@click.option("--to", type=DIALECT, metavar="DIALECT", help="The output's dialect.")
@source_options
@click.option(
    "--container", type=CONTAINER, metavar="CONTAINER", help="The output's container (default: the dialect's own)."
)
@click.option(
    "--dtype",
    type=Choice(["keep", "float32", "float16", "bfloat16"]),
    default="keep",
    show_default=True,
    help="Element type of floating-point weights.",
)
@click.option(
    "--max-shard-size",
    default="5GB",
    show_default=True,
    metavar="SIZE",
    help="Largest weights file; more become shards.",
)
@click.option(
    "--residue",
    type=Choice(["keep", "drop", "error"]),
    default="keep",
    show_default=True,
    help="What the target cannot hold: keep it in a file beside the output, leave it out, or refuse.",
)
@click.option(
    "--preserve",
    type=Choice(["weights", "outputs"]),
    default="weights",
    show_default=True,
    help="Move every number as it is; or change LayerNorm's gammas where the target computes it otherwise.",
)
@click.option("--keep-names", is_flag=True, help="Convert the container alone, of any model.")
@click.option("--dry-run", is_flag=True, help="Print the plan and write nothing.")
@click.option(
    "--check",
    type=Choice(["weights", "parity", "none"]),
    default="weights",
    show_default=True,
    help="Read the output back and hold it against the source; `parity` runs both in their frameworks, too.",
)
@click.option("--no-sync", is_flag=True, help="Leave writing to disk to the system, as cp does.")
@click.option("--overwrite", is_flag=True, help="Replace a checkpoint that is at DST.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@failures
def convert(src: str, dst: str, **options: Any) -> None:
    """Convert the checkpoint SRC to DST, in another dialect or container.

    SRC is a weights file, an index of shards, or a folder with either. DST is a folder to make; or a weights
    file, where its name ends in a weights file's suffix. Both may be URIs (s3://, gs://, https://, hf://).
    """
    from interlingua.convert import conversion
    from interlingua.verify.written import check_weights

    _refuse_memory(dst)
    asked = asked_of(*(options[key] for key in ("dialect", "family", "config", "vocab", "submodel")))
    wanted = conversion.Options(
        to=options["to"],
        source=asked,
        container=options["container"],
        dtype=options["dtype"],
        max_shard_size=conversion.parse_size(options["max_shard_size"]),
        residue=options["residue"],
        preserve=options["preserve"],
        keep_names=options["keep_names"],
        overwrite=options["overwrite"],
        sync=not options["no_sync"],
    )
    if wanted.keep_names and options["check"] == "parity":
        raise UsageError("--check parity needs models, and --keep-names looks at none.", hint="Leave one of them out.")
    silent = options["quiet"] or options["as_json"]
    started = time.perf_counter()
    with ConversionProgress(silent) as progress:

        def announce(plan: Plan) -> None:
            if not silent:
                _announce(plan, dst, options["dry_run"])

        result = conversion.convert(
            src,
            dst,
            wanted,
            dry_run=options["dry_run"],
            check=None if options["check"] == "none" else check_weights,
            announce=announce,
            phase=progress.begin,
            progress=progress.advance,
        )
    seconds = time.perf_counter() - started
    outcome = _parity_of(src, result, wanted, options) if options["check"] == "parity" else None
    if options["as_json"]:
        print_json(_form(result, outcome))
    elif result.path is not None and not silent:
        from interlingua.verify.report import sentences_of

        say(sentences_of(result, seconds))
        if outcome is not None:
            show_parity(outcome, {**options, "report": None, "verbose": False})
    sys.exit(outcome.exit_code() if outcome else 0)


def _form(result: ConversionResult, outcome: Outcome | None) -> Converted | ConversionForm:
    from interlingua.convert.json_forms import VERSION

    lost: list[LostForm] = [
        {"name": found.name, "overflow": found.losses.overflow, "underflow": found.losses.underflow}
        for found in result.lost
    ]
    path = str(result.path) if result.path else None
    form: Converted = {
        "schema": VERSION,
        **result.plan.as_dict(),
        "path": path,
        "checked": result.checked,
        "lost": lost,
    }
    return {**form, "parity": outcome.as_dict()} if outcome is not None else form


def _announce(plan: Plan, dst: str, dry_run: bool) -> None:
    """Print what a conversion will do: all of it, where nothing else is asked for."""
    from interlingua.verify.report import show_steps, summary

    say(summary(plan))
    if dry_run:
        show_steps(open_console(), plan)
        if "://" in dst:
            click.echo(f"\nwould be uploaded to {printable(dst)}")


def _refuse_memory(dst: str) -> None:
    if dst.startswith("memory://"):
        raise UsageError(f"{dst}: this process's memory is gone when it ends.", hint="Python can write there.")


def _parity_of(
    src: str, result: ConversionResult, wanted: ConversionOptions, options: dict[str, Any]
) -> Outcome | None:
    """Run source and result in their frameworks, where there is a result."""
    from interlingua.convert.source import Asked
    from interlingua.verify.parity.check import Options, check

    if result.path is None:
        return None
    command = shlex.join(["parity-check", src, str(result.path)])
    with working("running both sides", options["quiet"] or options["as_json"]):
        return check(src, result.path, Options(a=wanted.source, b=Asked(dialect=wanted.to), command=command))
