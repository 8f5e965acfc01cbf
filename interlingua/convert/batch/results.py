"""Results of jobs as JSON: what the state keeps of a job, and what a batch prints for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal, TypedDict

from interlingua.convert.batch.jobs import DONE, FAILED, SKIPPED, STOPPED, CheckResult, JobResult
from interlingua.convert.json_forms import VERSION


class BatchForm(TypedDict):
    """What became of a batch.

    Attributes:
        schema: version of this form.
        ok: whether no job failed or was stopped.
        done: number of jobs that ran, and whose checks are true.
        skipped: number of jobs with nothing to do.
        failed: number of jobs that failed.
        stopped: number of jobs that were not run to their end.
        jobs: what became of each.
    """

    schema: Literal[1]
    ok: bool
    done: int
    skipped: int
    failed: int
    stopped: int
    jobs: list[JobResult]


def result_dict(result: JobResult) -> dict[str, Any]:
    """Return a result ready for JSON."""
    checks = [asdict(check) for check in result.checks]
    return {**asdict(result), "checks": checks, "outputs": dict(result.outputs), "versions": dict(result.versions)}


def result_from_dict(value: Any) -> JobResult:
    """Return the result that ``result_dict`` made.

    Raises:
        TypeError: it is something else.
    """
    return JobResult(**{**value, "checks": tuple(CheckResult(**check) for check in value["checks"])})


def batch_dict(results: Sequence[JobResult]) -> dict[str, Any]:
    """Return what became of a batch, ready for JSON: counts by status, then every job."""
    counts = {status: sum(result.status == status for result in results) for status in (DONE, SKIPPED, FAILED, STOPPED)}
    return {
        "schema": VERSION,
        "ok": all(result.ok for result in results),
        **counts,
        "jobs": [result_dict(result) for result in results],
    }
