"""The command line: parse, call, print."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from interlingua import __version__
from interlingua.errors import InterlinguaError, printable

if TYPE_CHECKING:
    from rich.console import Console

    from interlingua.convert.plan import Plan
    from interlingua.convert.source import Asked

Command = TypeVar("Command", bound=Callable[..., Any])

BUG = 70
"""Exit code of a failure that is this program's own (EX_SOFTWARE of sysexits.h)."""

FAULTS = (OSError, MemoryError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RuntimeError)
"""What that failure looks like."""

MOST = 4000
"""Characters of an error that are shown: names in a hostile file may be megabytes long."""

INTERRUPTED = 130

HELP = {"help_option_names": ["-h", "--help"]}
"""Settings of every command that has a name of its own: ``-h`` helps there too."""


def failures(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command --debug, and turn failures into one paragraph on standard error and an exit code."""

    @click.option("--debug", is_flag=True, help="Show a traceback on failure.")
    @wraps(function)
    def guarded(*args: Any, debug: bool, **options: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # A terminal may lack what a name is spelled with.
        try:
            return function(*args, **options)
        except (InterlinguaError, KeyboardInterrupt, *FAULTS) as error:
            if debug or isinstance(error, BrokenPipeError):
                raise
            message, code = _explain(error)
            click.echo(f"interlingua: {printable(message, MOST)}", err=True)
            sys.exit(code)

    return guarded


def _explain(error: BaseException) -> tuple[str, int]:
    if isinstance(error, InterlinguaError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted: the output is there whole, or not at all.", INTERRUPTED
    kind = type(error).__name__
    return f"this is a fault of interlingua itself ({kind}: {error}). Run again with --debug and report it.", BUG


def source_options(function: Command) -> Command:
    """Add the options that say what is known of a source."""
    for option in (
        click.option("--from", "dialect", metavar="DIALECT", help="The source's dialect (default: found out)."),
        click.option("--family", metavar="FAMILY", help="The model's family, whatever its configuration says."),
        click.option("--config", metavar="FILE", help="The source's configuration."),
        click.option("--vocab", metavar="FILE", help="The source's vocabulary."),
        click.option("--submodel", metavar="PREFIX", help="Which model to take where a file holds several."),
    ):
        function = option(function)
    return function


def _asked(
    dialect: str | None, family: str | None, config: str | None, vocab: str | None, submodel: str | None
) -> Asked:
    from interlingua.convert.source import Asked

    return Asked(dialect, family, Path(config) if config else None, Path(vocab) if vocab else None, submodel)


def _console(*, err: bool = False) -> Console:
    from rich.console import Console

    stream = sys.stderr if err else sys.stdout
    # What is piped or redirected is for programs and files: no line is broken there.
    return Console(stderr=err, highlight=False, soft_wrap=not stream.isatty(), width=None if stream.isatty() else 250)


def _print_json(value: object) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:  # A path that is no text, or a terminal without Unicode: JSON has escapes for both.
        text = json.dumps(value, indent=2, allow_nan=False)
    click.echo(text)


@click.group(context_settings=HELP)
@click.version_option(__version__, prog_name="interlingua")
def main() -> None:
    """Convert checkpoints of BERT-family encoders between systems, losslessly, and prove it."""


@main.command(context_settings=HELP)
@click.argument("src")
@click.argument("dst")
@click.option("--to", metavar="DIALECT", help="The output's dialect.")
@source_options
@click.option("--container", metavar="CONTAINER", help="The output's container (default: the dialect's own).")
@click.option(
    "--dtype",
    type=click.Choice(["keep", "float32", "float16", "bfloat16"]),
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
    type=click.Choice(["keep", "drop", "error"]),
    default="keep",
    show_default=True,
    help="What the target cannot hold: keep it in a file beside the output, leave it out, or refuse.",
)
@click.option(
    "--preserve",
    type=click.Choice(["weights", "outputs"]),
    default="weights",
    show_default=True,
    help="Move every number as it is; or change LayerNorm's gammas where the target computes it otherwise.",
)
@click.option("--keep-names", is_flag=True, help="Convert the container alone, of any model.")
@click.option("--dry-run", is_flag=True, help="Print the plan and write nothing.")
@click.option(
    "--check",
    type=click.Choice(["weights", "none"]),
    default="weights",
    show_default=True,
    help="Read the output back and hold it against the source.",
)
@click.option("--no-sync", is_flag=True, help="Leave writing to disk to the system, as cp does.")
@click.option("--overwrite", is_flag=True, help="Replace a checkpoint that is at DST.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@failures
def convert(src: str, dst: str, **options: Any) -> None:
    """Convert the checkpoint SRC to DST, in another dialect or container.

    SRC is a weights file, an index of shards, or a folder with either. DST is a folder to make; or a weights
    file, where its name ends in a weights file's suffix.
    """
    from interlingua.convert import conversion
    from interlingua.verify.written import check_weights

    asked = _asked(*(options[key] for key in ("dialect", "family", "config", "vocab", "submodel")))
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
    silent = options["quiet"] or options["as_json"]
    started = time.perf_counter()
    with _Progress(silent) as progress:

        def announce(plan: Plan) -> None:
            if not silent:
                from interlingua.verify.report import show_plan, show_summary

                (show_plan if options["dry_run"] else show_summary)(_console(), plan)
            if not options["dry_run"]:
                progress.start(plan.nbytes)

        result = conversion.convert(
            src,
            dst,
            wanted,
            dry_run=options["dry_run"],
            check=check_weights if options["check"] == "weights" else None,
            announce=announce,
            progress=progress.advance,
        )
    seconds = time.perf_counter() - started
    if options["as_json"]:
        lost = [{"name": x.name, "overflow": x.losses.overflow, "underflow": x.losses.underflow} for x in result.lost]
        path = str(result.path) if result.path else None
        _print_json({**result.plan.as_dict(), "path": path, "checked": result.checked, "lost": lost})
    elif result.path is not None and not silent:
        from interlingua.verify.report import show_result

        show_result(_console(), result, seconds)


class _Progress:
    """A bar on standard error with bytes, rate and memory; nothing where that is no terminal."""

    def __init__(self, silent: bool) -> None:
        self.shown = not silent and sys.stderr.isatty()
        self.bar: Any = None

    def start(self, total: int) -> None:
        """Show the bar."""
        if not self.shown:
            return
        from rich import progress

        self.bar = progress.Progress(
            progress.TextColumn("writing"),
            progress.BarColumn(),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[memory]}"),
            console=_console(err=True),
            transient=True,
        )
        self.bar.start()
        self.task = self.bar.add_task("writing", total=total, memory=_memory())

    def advance(self, count: int) -> None:
        """Move the bar by a number of bytes."""
        if self.bar is not None:
            self.bar.update(self.task, advance=count, memory=_memory())

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()


def _memory() -> str:
    """Return the peak of resident memory so far."""
    import resource

    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MB"


@main.command()
@click.argument("src")
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

    with open_checkpoint(src, _asked(**asked), strict=False) as checkpoint:
        found = describe(checkpoint, digest=digest, canonical=canonical, stats=stats)
    if as_json:
        _print_json(found)
    else:
        from interlingua.verify.report import show_description

        show_description(_console(), found)


@main.command()
@click.argument("a")
@click.argument("b")
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
        rows = [
            {
                "name": x.name,
                "what": x.what,
                "detail": x.detail,
                "greatest": _finite(x.greatest),
                "differing": x.differing,
            }
            for x in comparison.differences
        ]
        _print_json({"a": a, "b": b, "same": comparison.same, "compared": comparison.compared, "differences": rows})
    elif not quiet:
        from interlingua.verify.report import show_comparison

        show_comparison(_console(), comparison)
    sys.exit(0 if comparison.same else 1)


def _finite(value: float | None) -> float | str | None:
    return value if value is None or abs(value) < float("inf") else str(value)


@main.command()
@click.argument("sources", nargs=-1, required=True, metavar="SRC...")
@click.option("--encoder", is_flag=True, help="Of the encoder alone, without pooler and heads.")
@click.option("--tensors", is_flag=True, help="Print the lines that the digest is made of.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@failures
def fingerprint(sources: tuple[str, ...], encoder: bool, tensors: bool, as_json: bool) -> None:
    """Print one digest for each checkpoint SRC: equal for the same model in any dialect."""
    from interlingua.convert.source import open_checkpoint
    from interlingua.verify import fingerprint as fingerprints

    found = []
    for source in sources:
        with open_checkpoint(source) as checkpoint:
            digest = fingerprints.fingerprint(checkpoint)
        found.append((source, digest))
        if not as_json:
            if tensors:
                click.echo("".join(digest.lines), nl=False)
            click.echo(f"{digest.encoder if encoder else digest.model}  {source}")
    if as_json:
        _print_json([{"path": p, "fingerprint": d.model, "encoder_fingerprint": d.encoder} for p, d in found])


@main.command()
@click.option("--family", metavar="F", help="Show what one family's models convert to.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@failures
def matrix(family: str | None, as_json: bool) -> None:
    """Print which dialect converts to which, by family, and which containers are read and written."""
    from interlingua.verify.matrix import as_dict, tables

    if as_json:
        _print_json(as_dict())
        return
    console = _console()
    for table in tables(family):
        console.print(table)
        console.print()


@click.command(context_settings={**HELP, "ignore_unknown_options": True})
@click.argument("_rest", nargs=-1, type=click.UNPROCESSED)
def parity_check(_rest: tuple[str, ...]) -> None:
    """Run both checkpoints in their own frameworks and compare: not in this version yet."""
    click.echo(
        f"interlingua: parity is not in version {__version__} yet; `interlingua diff A B` compares weights.", err=True
    )
    sys.exit(2)


main.add_command(parity_check, "parity")
convert_checkpoint = convert
