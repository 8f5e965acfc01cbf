"""What ``interlingua batch`` prints for people: its plan, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from interlingua.convert.batch.jobs import DONE, FAILED, SKIPPED, STOPPED, JobResult
from interlingua.convert.batch.plan import BatchPlan
from interlingua.errors import counted
from interlingua.verify.report import fits, plain_table, shown, size


def show_batch(console: Console, results: Sequence[JobResult], seconds: float) -> None:
    """Print what became of a batch: a line a job, and below what failed why it did."""
    table = plain_table("job", "status", "checks", "time", right=("time",))
    for result in results:
        checks = ", ".join(check.name if check.ok else f"{check.name} FAILED" for check in result.checks) or "-"
        status = f"{result.status}, unchanged" if result.status == SKIPPED else result.status
        style = "bold red" if result.status == FAILED else ""
        table.add_row(shown(result.name), shown(status, style), shown(checks), f"{result.seconds:.1f} s")
    console.print(table)
    for result in results:
        for check in result.checks:
            if not check.ok:
                console.print(shown(f"{result.name}: {check.name}: {check.text}"))
    statuses = (DONE, SKIPPED, FAILED, STOPPED)
    counts = {status: sum(result.status == status for result in results) for status in statuses}
    summary = ", ".join(f"{number} {status}" for status, number in counts.items() if number)
    console.print(shown(f"{counted(len(results), 'job')} in {seconds:.1f} s: {summary}"))


def show_batch_plan(console: Console, plan: BatchPlan) -> None:
    """Print what a batch will take: a line a job, then bytes, time and room."""
    table = plain_table("job", "from", "to", "checks", "bytes", "disk", right=("bytes", "disk"))
    rows = []
    for planned in plan.jobs:
        job = planned.job
        cells = (job.name, job.source, job.target, ", ".join(job.checks) or "none")
        figures = ("-", "-") if planned.problem else (size(planned.nbytes), size(planned.disk))
        table.add_row(*map(shown, cells), *figures)
        rows.append((*cells, *figures))
    if fits(console, table):
        console.print(table)
    else:
        for name, source, target, checks, nbytes, disk in rows:
            console.print(shown(name, "bold"))
            console.print(shown(f"  {source}"))
            console.print(shown(f"  -> {target}"))
            console.print(shown(f"     checks: {checks}; {nbytes} of tensors, {disk} on disk"))
    for planned in plan.problems:
        console.print(shown(f"{planned.job.name}: {planned.problem}"))
    console.print(
        shown(
            f"{counted(len(plan.jobs), 'job')}: {size(plan.nbytes)} of tensors, up to {size(plan.disk)} to be written, "
            f"about {plan.seconds:.0f} s at {size(plan.rate)}/s"
        )
    )
    for system in plan.file_systems:
        console.print(shown(f"{system.path}: {size(system.needed)} needed, {size(system.free)} free"))
