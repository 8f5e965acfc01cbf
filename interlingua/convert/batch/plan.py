"""What a batch will take, before a byte is written: bytes, time, and room on each file system."""

from __future__ import annotations

import heapq
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from interlingua.convert.batch.jobs import Job
from interlingua.convert.batch.places import elsewhere
from interlingua.convert.batch.remote_sources import mirrored
from interlingua.convert.batch.schedule import available_cores
from interlingua.convert.json_forms import VERSION, BatchPlanForm, PlannedJobForm
from interlingua.convert.locate import is_archive
from interlingua.convert.source import Asked, Checkpoint, open_checkpoint
from interlingua.convert.steps import find_dtype
from interlingua.errors import CheckError, InterlinguaError, OutputError
from interlingua.formats.base import TensorSpec, output_error

RATE = 500_000_000
"""Bytes read or written in a second that the estimate assumes: a common SSD, and one job at a time."""

OVERHEAD = 1 << 20
"""Bytes that an output is assumed to have beyond tensors and copied files: headers, configuration, alignment."""


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """One job, and what it will take.

    Attributes:
        job: the job.
        nbytes: bytes of its source's tensors.
        disk: bytes that its output takes at most.
        family: the model's family; None where it is not known.
        problem: why its source cannot be opened; None where it can.
    """

    job: Job
    nbytes: int = 0
    disk: int = 0
    family: str | None = None
    problem: str | None = None

    @property
    def temporary(self) -> int:
        """Bytes of temporary space that it takes: for what is fetched, and for an output until it is uploaded."""
        fetched = self.nbytes if elsewhere(self.job.source) else 0
        return fetched + (self.disk if elsewhere(self.job.target) else 0)

    @property
    def traffic(self) -> int:
        """Bytes read and written, those included that the checks read again."""
        return self.nbytes + self.disk * (2 if self.job.checks else 1)


@dataclass(frozen=True, slots=True)
class FileSystem:
    """A file system that is written to.

    Attributes:
        path: a folder on it.
        needed: bytes that outputs and temporary files need.
        free: bytes that are free for this user.
    """

    path: str
    needed: int
    free: int


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """What a batch will take.

    Attributes:
        jobs: the largest first; those whose sources cannot be opened are the last.
        file_systems: those that outputs and temporary files go to.
        rate: bytes in a second that the time is estimated with.
    """

    jobs: tuple[PlannedJob, ...]
    file_systems: tuple[FileSystem, ...]
    rate: int = RATE

    @property
    def nbytes(self) -> int:
        """Bytes of tensors that are converted; a source counts once for each of its targets."""
        return sum(planned.nbytes for planned in self.jobs)

    @property
    def disk(self) -> int:
        """Bytes that all outputs need."""
        return sum(planned.disk for planned in self.jobs)

    @property
    def seconds(self) -> float:
        """What it takes at that rate, one job after the other; forward passes of checks are not in it."""
        return sum(planned.traffic for planned in self.jobs) / self.rate

    @property
    def problems(self) -> tuple[PlannedJob, ...]:
        """Jobs whose sources cannot be opened."""
        return tuple(planned for planned in self.jobs if planned.problem is not None)

    def check_space(self) -> None:
        """Make sure that there is room for all outputs, which appear whole beside what they replace.

        Of what is elsewhere only the temporary files count.

        Raises:
            OutputError: a file system has too little; with what is needed and what is there.
        """
        for system in self.file_systems:
            if system.needed > system.free:
                raise OutputError(
                    f"{system.path}: the outputs need {system.needed:,} bytes, and {system.free:,} are free",
                    hint="Free some space, choose another `folder` (of what is elsewhere: another TMPDIR), or split "
                    "the manifest.",
                )

    def check_sources(self) -> None:
        """Make sure that every source can be opened.

        Raises:
            CheckError: some cannot, so that their jobs would fail; with the first one's reason.
        """
        if self.problems:
            first = self.problems[0]
            raise CheckError(
                f"{len(self.problems)} of {len(self.jobs)} jobs would fail: {first.job.name}: {first.problem}",
                hint="The plan says so of each of them.",
            )

    def as_dict(self) -> BatchPlanForm:
        """Return it as JSON has it."""
        return {
            "schema": VERSION,
            "jobs": [_as_dict(planned) for planned in self.jobs],
            "bytes": self.nbytes,
            "disk": self.disk,
            "seconds": round(self.seconds, 3),
            "assumed_rate": self.rate,
            "file_systems": [{"path": s.path, "needed": s.needed, "free": s.free} for s in self.file_systems],
        }


def _as_dict(planned: PlannedJob) -> PlannedJobForm:
    job = planned.job
    return {
        "name": job.name,
        "source": job.source,
        "target": job.target,
        "to": job.options.to,
        "checks": list(job.checks),
        "line": job.line,
        "family": planned.family,
        "bytes": planned.nbytes,
        "disk": planned.disk,
        "problem": planned.problem,
    }


def plan_batch(jobs: Iterable[Job], rate: int = RATE, at_a_time: int | None = None) -> BatchPlan:
    """Open every source, each once and without its data, and say what the batch will take.

    A source that cannot be opened is its job's problem and not the batch's. One that is an archive is unpacked, for
    there is no other way to look into it; of one that is elsewhere only the size is known.

    Args:
        jobs: the jobs.
        rate: bytes in a second that the time is estimated with.
        at_a_time: jobs that have temporary files on this machine at a time; None: as many as it has cores.

    Raises:
        OutputError: a file system cannot say how much of it is free.
    """
    groups: dict[tuple[str, Asked, bool], list[int]] = {}
    listed = tuple(jobs)
    for number, job in enumerate(listed):
        groups.setdefault((job.source, job.options.source, job.options.keep_names), []).append(number)
    planned = [PlannedJob(job) for job in listed]
    for (source, asked, keep_names), numbers in groups.items():
        made = _planned(source, asked, keep_names, [listed[number] for number in numbers])
        for number, each in zip(numbers, made, strict=True):
            planned[number] = each
    planned.sort(key=lambda each: (each.problem is not None, -each.traffic))
    return BatchPlan(tuple(planned), _file_systems(planned, at_a_time), rate)


def _planned(source: str, asked: Asked, keep_names: bool, jobs: list[Job]) -> list[PlannedJob]:
    """Return the jobs of one source."""
    try:
        with _opened(source, asked, keep_names) as opened:
            if isinstance(opened, int):
                return [PlannedJob(job, opened, opened + OVERHEAD) for job in jobs]
            return [PlannedJob(job, _tensor_bytes(opened), _output_bytes(opened, job), opened.family) for job in jobs]
    except (InterlinguaError, OSError) as error:  # OSError: it went away while it was looked at.
        return [PlannedJob(job, problem=str(error)) for job in jobs]


@contextmanager
def _opened(source: str, asked: Asked, keep_names: bool) -> Iterator[Checkpoint | int]:
    """Yield a source that is opened; of an archive that is elsewhere its size."""
    uri = elsewhere(source)
    if uri is None:
        with open_checkpoint(source, asked, model=not keep_names) as opened:
            yield opened
        return
    with mirrored(uri) as mirror:
        if is_archive(mirror.path):
            yield mirror.path.stat().st_size
            return
        with open_checkpoint(mirror.path, asked, model=not keep_names) as opened:
            yield opened


def _tensor_bytes(opened: Checkpoint) -> int:
    return sum(spec.nbytes for spec in opened.tensors.values())


def _output_bytes(opened: Checkpoint, job: Job) -> int:
    """Return the bytes that an output takes at most: all tensors (as weights or as residue) and all that is copied."""
    tensors = sum(_cast_bytes(spec, job.options.dtype) for spec in opened.tensors.values())
    residue = sum(spec.nbytes for spec in opened.residue.reader.tensors.values()) if opened.residue else 0
    beside = [opened.config_path, opened.vocabulary, *(opened.folder / name for name in opened.sidecars)]
    copied = sum(path.stat().st_size for path in beside if path is not None and path.is_file())
    return tensors + residue + copied + OVERHEAD


def _cast_bytes(spec: TensorSpec, dtype: str) -> int:
    """Return the bytes of a tensor once it is cast."""
    wanted = find_dtype(dtype)
    if wanted is None or spec.dtype.kind != "f" or spec.dtype.bits < 16:
        return spec.nbytes
    return TensorSpec(spec.name, wanted, spec.shape).nbytes


def _file_systems(planned: Sequence[PlannedJob], at_a_time: int | None) -> tuple[FileSystem, ...]:
    needed: dict[int, int] = {}
    folders: dict[int, Path] = {}

    def count(folder: Path, nbytes: int) -> None:
        try:
            device = os.stat(folder).st_dev
        except OSError as error:
            raise output_error(error, folder) from error
        folders.setdefault(device, folder)
        needed[device] = needed.get(device, 0) + nbytes

    for each in planned:
        if elsewhere(each.job.target) is None:
            count(_existing(Path(each.job.target).absolute().parent), each.disk)
    # Temporary files go with their jobs: at the worst the largest ones run together.
    count_of_jobs = available_cores() if at_a_time is None else at_a_time
    temporary = heapq.nlargest(count_of_jobs, (each.temporary for each in planned))
    if any(temporary):
        count(Path(tempfile.gettempdir()), sum(temporary))
    return tuple(FileSystem(str(folder), needed[device], _free(folder)) for device, folder in folders.items())


def _existing(folder: Path) -> Path:
    """Return the nearest folder above that is there: what is made in it is on its file system."""
    return next(above for above in (folder, *folder.parents) if os.path.isdir(above))


def _free(folder: Path) -> int:
    try:
        found = os.statvfs(folder)
    except OSError as error:
        raise output_error(error, folder) from error
    return found.f_bavail * found.f_frsize
