"""Jobs of a batch that would be in each other's way: they run in any order, and many at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import TypeAlias

from interlingua.convert.batch.jobs import Job
from interlingua.convert.batch.places import identity
from interlingua.errors import UsageError
from interlingua.formats.registry import WEIGHT_SUFFIXES

_Place: TypeAlias = tuple[str, ...]
"""The parts of a path or a URI."""


def refuse_conflicts(jobs: Sequence[Job], manifest: Path) -> None:
    """Hold every job's target against all other targets and all sources.

    Raises:
        UsageError: two jobs have one name or one target, or a target and a target or source lie in each other.
    """
    _refuse_names(jobs, manifest)
    targets = _refuse_targets(jobs, manifest)
    sources: dict[_Place, Job] = {}
    for job in jobs:
        sources.setdefault(identity(job.source), job)
    for place, job in sources.items():
        for above in (place, *_above(place)):
            if above in targets:
                other = targets[above]
                hint = "Jobs run in any order: put the second one into a manifest of its own."
                raise _error(manifest, job, f"its source {job.source} is the target of {other.name!r}", hint)
    for place, job in targets.items():
        for above in _above(place):
            if above in sources:
                source = sources[above].source
                raise _error(manifest, job, f"its target {job.target} is in the source {source}", PLACE)


PLACE = "Choose another `output` or `folder`."


def _refuse_names(jobs: Sequence[Job], manifest: Path) -> None:
    names: dict[str, Job] = {}
    for job in jobs:
        other = names.setdefault(job.name, job)
        if other is not job:
            text = f"there is a job of that name on line {other.line}, of {other.source}"
            raise _error(manifest, job, text, "Give one a `name`; {stem} and {parent} come from the source's path.")


def _refuse_targets(jobs: Sequence[Job], manifest: Path) -> dict[_Place, Job]:
    """Return the jobs by their targets, none of which is in another one."""
    targets: dict[_Place, Job] = {}
    folders: dict[_Place, Job] = {}
    for job in jobs:
        place = identity(job.target)
        other = targets.setdefault(place, job)
        if other is not job:
            hint = "Have {name} and {to} in `output`, and the variables of a matrix."
            raise _error(manifest, job, f"its target {job.target} is that of {other.name!r} (line {other.line})", hint)
        if PurePath(place[-1]).suffix in WEIGHT_SUFFIXES and not job.options.keep_names:
            # The configuration stands beside a single file of weights, and there is room for one.
            other = folders.setdefault(place[:-1], job)
            if other is not job:
                text = f"its configuration would be that of {other.name!r}, in one folder with it"
                raise _error(manifest, job, text, PLACE)
    for place, job in targets.items():
        for above in _above(place):
            if above in targets:
                raise _error(manifest, job, f"its target {job.target} is in that of {targets[above].name!r}", PLACE)
    return targets


def _above(place: _Place) -> Iterator[_Place]:
    """Return what a place is in, the innermost first."""
    return (place[:count] for count in range(len(place) - 1, 1, -1))


def _error(manifest: Path, job: Job, problem: str, hint: str) -> UsageError:
    return UsageError(f"{manifest}:{job.line}: {job.name}: {problem}", hint=hint)
