"""``interlingua batch``."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interlingua import __version__
from interlingua.cli.failures import INTERRUPTED, failures
from interlingua.cli.options import HELP
from interlingua.cli.progress import BatchProgress
from interlingua.cli.terminal import open_console, print_json
from interlingua.errors import UsageError

if TYPE_CHECKING:
    from interlingua.convert.batch.jobs import Job, JobResult
    from interlingua.convert.batch.schedule import Hire


@click.command(context_settings=HELP, short_help="Carry out the conversions that a manifest lists.")
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
    from interlingua.convert.batch.manifest import jobs_of, load_manifest, state_folder

    variables = _variables(options["variables"])
    read = load_manifest(manifest)
    jobs = jobs_of(read, variables)
    if options["dry_run"]:
        _show_batch_plan(jobs, options)
        return
    _make_room_for_reports(options)
    started = time.perf_counter()
    results = _run_batch(jobs, state_folder(read, variables), options)
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
    with BatchProgress(len(jobs), options["quiet"] or options["as_json"]) as progress:
        prepare = partial(_prepare, progress, _at_a_time(options))
        return run_batch(jobs, run_job, settings, folder=folder, tell=progress.tell, prepare=prepare, hire=hire)


def _hire_dask(address: str) -> Hire:
    from interlingua.convert.batch.dask_extra import require_dask

    require_dask(address)
    from interlingua.convert.batch.dask_workers import hire_dask

    return partial(hire_dask, address)


def _at_a_time(options: dict[str, Any]) -> int | None:
    """Return how many jobs have temporary files on this machine at a time: none, where other machines run them."""
    return options["count"] if options["scheduler"] in (None, "local") else 0


def _prepare(progress: BatchProgress, at_a_time: int | None, jobs: Sequence[Job]) -> None:
    """Check that there is room for the jobs that are to run, and tell the bar how large they are."""
    from interlingua.convert.batch.plan import plan_batch

    plan = plan_batch(jobs, at_a_time=at_a_time)
    plan.check_space()
    progress.weigh({planned.job.name: planned.traffic for planned in plan.jobs})


def _show_batch_plan(jobs: tuple[Job, ...], options: dict[str, Any]) -> None:
    from interlingua.convert.batch.plan import plan_batch

    plan = plan_batch(jobs, at_a_time=_at_a_time(options))
    if options["as_json"]:
        print_json(plan.as_dict())
    elif not options["quiet"]:
        from interlingua.verify.batch_report import show_batch_plan

        show_batch_plan(open_console(), plan)
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

        print_json(batch_dict(results))
    elif not options["quiet"]:
        from interlingua.verify.batch_report import show_batch

        show_batch(open_console(), results, seconds)
