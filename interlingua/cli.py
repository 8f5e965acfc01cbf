"""The command line: parse, call, print."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from interlingua import __version__
from interlingua.errors import InterlinguaError, UsageError, printable

if TYPE_CHECKING:
    from rich.console import Console

    from interlingua.convert.batch.jobs import Job, JobResult
    from interlingua.convert.batch.schedule import Hire
    from interlingua.convert.conversion import Options as ConversionOptions
    from interlingua.convert.conversion import Result as ConversionResult
    from interlingua.convert.plan import Plan
    from interlingua.convert.source import Asked
    from interlingua.verify.parity.check import Options as ParityOptions
    from interlingua.verify.parity.outcome import Outcome

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

    return Asked(dialect, family, config or None, vocab or None, submodel)


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
    type=click.Choice(["weights", "parity", "none"]),
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
    if wanted.keep_names and options["check"] == "parity":
        raise UsageError("--check parity needs models, and --keep-names looks at none.", hint="Leave one of them out.")
    silent = options["quiet"] or options["as_json"]
    started = time.perf_counter()
    with _Progress(silent) as progress:

        def announce(plan: Plan) -> None:
            if not silent:
                from interlingua.verify.report import show_plan, show_summary

                (show_plan if options["dry_run"] else show_summary)(_console(), plan)
                if options["dry_run"] and "://" in dst:
                    click.echo(f"\nwould be uploaded to {printable(dst)}")
            if not options["dry_run"]:
                progress.start(plan.nbytes)

        result = conversion.convert(
            src,
            dst,
            wanted,
            dry_run=options["dry_run"],
            check=None if options["check"] == "none" else check_weights,
            announce=announce,
            progress=progress.advance,
        )
    seconds = time.perf_counter() - started
    outcome = _parity_of(src, result, wanted, options) if options["check"] == "parity" else None
    if options["as_json"]:
        lost = [{"name": x.name, "overflow": x.losses.overflow, "underflow": x.losses.underflow} for x in result.lost]
        path = str(result.path) if result.path else None
        found = {"parity": outcome.as_dict()} if outcome else {}
        _print_json({**result.plan.as_dict(), "path": path, "checked": result.checked, "lost": lost, **found})
    elif result.path is not None and not silent:
        from interlingua.verify.report import show_result

        show_result(_console(), result, seconds)
        if outcome is not None:
            _show_parity(outcome, {**options, "report": None, "verbose": False})
    sys.exit(outcome.exit_code() if outcome else 0)


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
    with _status("running both sides", options["quiet"] or options["as_json"]):
        return check(src, result.path, Options(a=wanted.source, b=Asked(dialect=wanted.to), command=command))


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


def sides_options(function: Command) -> Command:
    """Add the options that say what is known of the sides of a parity check: ``--config-a`` and so on."""
    known = (
        ("from", "dialect"),
        ("family", "family"),
        ("config", "config"),
        ("vocab", "vocab"),
        ("submodel", "submodel"),
    )
    for side in ("b", "a"):
        for option, name in reversed(known):
            metavar = {"from": "DIALECT", "family": "FAMILY", "submodel": "PREFIX"}.get(option, "FILE")
            words = f"As --{option} of `convert`, for {side.upper()}."
            function = click.option(f"--{option}-{side}", f"{name}_{side}", metavar=metavar, help=words)(function)
    return function


@main.command("parity", context_settings=HELP)
@click.argument("a")
@click.argument("b", required=False)
@click.option("--against", type=click.Path(), metavar="FILE", help="Compare A with activations that were kept in FILE.")
@click.option("--save-activations", "save", type=click.Path(), metavar="FILE", help="Keep A's activations in FILE.")
@sides_options
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where to run."
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    default="float32",
    show_default=True,
    help="Element type that both sides compute in.",
)
@click.option("--batch", "rows", type=click.IntRange(1, 64), default=4, show_default=True, help="Rows to run.")
@click.option("--seq-len", "length", type=click.IntRange(2, 8192), help="Tokens of the longest (default: all, to 512).")
@click.option("--seed", type=click.IntRange(0), help="Seed of the random tokens.")
@click.option("--text", type=click.Path(), metavar="FILE", help="Sentences to run besides, one a line.")
@click.option("--no-text", is_flag=True, help="Run no sentences, and leave the vocabularies alone.")
@click.option("--atol", type=click.FloatRange(0), default=0.0, help="Absolute error that passes besides noise.")
@click.option("--rtol", type=click.FloatRange(0), default=0.0, help="Relative error that passes besides noise.")
@click.option("--strict", is_flag=True, help="Exit with 1 where conventions make the outputs differ, too.")
@click.option(
    "--python", "pythons", multiple=True, metavar="FRAMEWORK=FILE", help="The Python that a framework is installed in."
)
@click.option("--own", is_flag=True, help="Run this package's own encoders, whoever else's are installed.")
@click.option("--timeout", type=click.FloatRange(1), default=900.0, show_default=True, help="Seconds a side may take.")
@click.option("--report", type=click.Path(), metavar="FILE.html", help="Write a page with everything that was found.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("-v", "--verbose", is_flag=True, help="Show a line for every layer.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing; the exit code tells.")
@failures
def parity(a: str, b: str | None, **options: Any) -> None:
    """Run the checkpoints A and B as their own systems would, and say whether they are the same model.

    A is the original and B what was made of it. Without B, A is held against the float64 oracle alone; with
    --against, against activations that another run has kept. Exit code 1 where they are different.
    """
    from interlingua.verify.parity import check as checks

    if b is not None and options["against"]:
        raise UsageError("B and --against are two ways to name the other side.", hint="Leave out one of them.")
    wanted = _parity_options(options)
    with _status("running both sides", options["quiet"] or options["as_json"]):
        if b is not None:
            outcome = checks.check(a, b, wanted)
        elif options["against"]:
            outcome = checks.check_against(a, Path(options["against"]), wanted)
        else:
            outcome = checks.check_one(a, wanted)
    _show_parity(outcome, options)
    sys.exit(outcome.exit_code(strict=options["strict"]))


def _parity_options(options: dict[str, Any]) -> ParityOptions:
    from interlingua.verify.parity.batch import SEED
    from interlingua.verify.parity.check import Options
    from interlingua.verify.parity.outcome import Thresholds
    from interlingua.verify.parity.references import FRAMEWORKS
    from interlingua.verify.parity.runs import Settings
    from interlingua.verify.text import SENTENCES, read_sentences

    interpreters = dict(entry.partition("=")[::2] for entry in options["pythons"])
    for framework, interpreter in interpreters.items():
        if framework not in FRAMEWORKS or not interpreter:
            raise UsageError(f"--python takes FRAMEWORK=FILE, FRAMEWORK one of {', '.join(FRAMEWORKS)}.")
    sides = [
        _asked(*(options[f"{key}_{side}"] for key in ("dialect", "family", "config", "vocab", "submodel")))
        for side in ("a", "b")
    ]
    sentences = tuple(read_sentences(options["text"])) if options["text"] else SENTENCES
    return Options(
        a=sides[0],
        b=sides[1],
        settings=Settings(
            device=options["device"],
            dtype=options["dtype"],
            interpreters=interpreters,
            timeout=options["timeout"],
            third_party=not options["own"],
        ),
        rows=options["rows"],
        length=options["length"],
        seed=SEED if options["seed"] is None else options["seed"],
        sentences=() if options["no_text"] else sentences,
        thresholds=Thresholds(atol=options["atol"], rtol=options["rtol"]),
        save=Path(options["save"]) if options["save"] else None,
        command=shlex.join(["parity-check", *sys.argv[2 if sys.argv[1:2] == ["parity"] else 1 :]]),
    )


def _show_parity(outcome: Outcome, options: dict[str, Any]) -> None:
    if options["report"]:
        from interlingua.verify.pages.page import write_page

        write_page(outcome, Path(options["report"]))
    if options["as_json"]:
        _print_json(outcome.as_dict())
    elif not options["quiet"]:
        from interlingua.verify.pages.terminal import show_outcome

        show_outcome(_console(), outcome, options["verbose"])


@contextlib.contextmanager
def _status(words: str, silent: bool) -> Iterator[None]:
    """Show on a terminal that something takes its time."""
    if silent or not sys.stderr.isatty():
        yield
        return
    with _console(err=True).status(words):
        yield


@main.command(context_settings=HELP)
@click.argument("manifest", type=click.Path())
@click.option("--jobs", "count", type=click.IntRange(1), metavar="N", help="Jobs at a time (default: one a core).")
@click.option("--memory", metavar="SIZE", help="Memory that all jobs at a time may take (default: what is free).")
@click.option("--fail-fast", is_flag=True, help="Start no job after one has failed.")
@click.option("--resume/--no-resume", default=True, show_default=True, help="Skip jobs that are unchanged.")
@click.option(
    "--set", "variables", multiple=True, metavar="NAME=VALUE", help="Give a variable of the manifest a value."
)
@click.option("--junit", type=click.Path(), metavar="FILE", help="Write JUnit XML: a test case a job and check.")
@click.option("--report", type=click.Path(), metavar="FILE.html", help="Write a page, and one for each parity check.")
@click.option(
    "--scheduler", metavar="ADDRESS", help="Run the jobs on Dask: tcp://HOST:PORT, tls://HOST:PORT, or local."
)
@click.option("--dry-run", is_flag=True, help="Print the plan and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@failures
def batch(manifest: str, **options: Any) -> None:
    """Carry out every conversion and check that MANIFEST asks for. Exit code 1 where a job failed."""
    from interlingua.convert.batch.manifest import jobs_of, load_manifest, output_folder

    variables = _variables(options["variables"])
    read = load_manifest(manifest)
    jobs = jobs_of(read, variables)
    if options["dry_run"]:
        _show_batch_plan(jobs, options)
        return
    _make_room_for_reports(options)
    started = time.perf_counter()
    results = _run_batch(jobs, output_folder(read, variables), options)
    _report_batch(jobs, results, manifest, time.perf_counter() - started, options)
    sys.exit(_exit_code(results))


def _make_room_for_reports(options: dict[str, Any]) -> None:
    """Make the folders that reports go to: what cannot be written must be known before the first job runs."""
    from interlingua.formats.base import output_error

    for folder in (Path(options[key]).absolute().parent for key in ("junit", "report") if options[key]):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(error, folder) from error


def _exit_code(results: Sequence[JobResult]) -> int:
    """Return 0 where all is well, 1 where a job failed, and that of an interruption where none did."""
    from interlingua.convert.batch.jobs import FAILED

    if all(result.ok for result in results):
        return 0
    return 1 if any(result.status == FAILED for result in results) else INTERRUPTED


def _variables(given: tuple[str, ...]) -> dict[str, str]:
    found = dict(entry.partition("=")[::2] for entry in given)
    if not all("=" in entry and entry.partition("=")[0] for entry in given):
        raise UsageError("--set takes NAME=VALUE.")
    return found


def _run_batch(jobs: tuple[Job, ...], folder: Path, options: dict[str, Any]) -> tuple[JobResult, ...]:
    from interlingua.convert.batch.schedule import Settings, available_memory, hire_processes, run_batch
    from interlingua.convert.conversion import parse_size
    from interlingua.verify.jobs import run_job

    scheduler = options["scheduler"]
    hire = hire_processes if scheduler is None else _hire_dask(scheduler)
    free = available_memory() if scheduler in (None, "local") else None  # Of other machines their workers say it.
    report = Path(options["report"]).absolute() if options["report"] else None
    settings = Settings(
        processes=options["count"],
        fail_fast=options["fail_fast"],
        resume=options["resume"],
        memory=parse_size(options["memory"]) if options["memory"] else free,
        reports=str(report.with_suffix("")) if report else None,
        version=__version__,
    )
    with _BatchProgress(len(jobs), options["quiet"] or options["as_json"]) as progress:
        return run_batch(jobs, run_job, settings, folder=folder, tell=progress.tell, prepare=_check_space, hire=hire)


def _hire_dask(address: str) -> Hire:
    from interlingua.convert.batch.dask_extra import require_dask

    require_dask(address)
    from interlingua.convert.batch.dask_workers import hire_dask

    return partial(hire_dask, address)


def _check_space(jobs: Sequence[Job]) -> None:
    from interlingua.convert.batch.plan import plan_batch

    plan_batch(jobs).check_space()


def _show_batch_plan(jobs: tuple[Job, ...], options: dict[str, Any]) -> None:
    from interlingua.convert.batch.plan import plan_batch

    plan = plan_batch(jobs)
    if options["as_json"]:
        _print_json(plan.as_dict())
    elif not options["quiet"]:
        from interlingua.verify.report import show_batch_plan

        show_batch_plan(_console(), plan)
    plan.check_space()
    plan.check_sources()


def _report_batch(
    jobs: tuple[Job, ...],
    results: tuple[JobResult, ...],
    manifest: str,
    seconds: float,
    options: dict[str, Any],
) -> None:
    from interlingua.verify.pages.annotations import github_annotations

    if options["junit"]:
        from interlingua.verify.pages.junit import write_junit

        write_junit(results, Path(options["junit"]), manifest)
    if options["report"]:
        from interlingua.verify.pages.batch_page import write_batch_page

        write_batch_page(jobs, results, Path(options["report"]), manifest, seconds)
    for line in github_annotations(jobs, results, manifest):
        click.echo(line, err=True)  # Standard output may be one JSON document.
    if options["as_json"]:
        from interlingua.convert.batch.results import batch_dict

        _print_json(batch_dict(results))
    elif not options["quiet"]:
        from interlingua.verify.report import show_batch

        show_batch(_console(), results, seconds)


class _BatchProgress:
    """A bar on standard error with the jobs that are done and those that run; nothing where that is no terminal."""

    def __init__(self, total: int, silent: bool) -> None:
        self.running: dict[str, None] = {}
        self.bar: Any = None
        if not silent and sys.stderr.isatty():
            from rich import progress

            self.bar = progress.Progress(
                progress.MofNCompleteColumn(),
                progress.BarColumn(),
                progress.TimeElapsedColumn(),
                progress.TextColumn("{task.description}", markup=False),
                console=_console(err=True),
                transient=True,
            )
            self.task = self.bar.add_task("", total=total)

    def tell(self, job: Job, result: JobResult | None) -> None:
        """Show that a job has started, or is over."""
        if result is None:
            self.running[job.name] = None
        else:
            self.running.pop(job.name, None)
        if self.bar is not None:
            names = printable(", ".join(self.running), 60)
            self.bar.update(self.task, advance=0 if result is None else 1, description=names)

    def __enter__(self) -> _BatchProgress:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()


@main.command(context_settings=HELP)
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
    _show_parity(outcome, options)
    sys.exit(outcome.exit_code(strict=options["strict"]))


convert_checkpoint = convert
parity_check = parity
