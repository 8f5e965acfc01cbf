"""Carry out a batch of jobs: what is unchanged is skipped, the rest is given to workers, the largest first.

Who the workers are, processes here or on other machines, is somebody else's to say: what is decided here is what
runs next, and what is kept of it.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TypeAlias

from interlingua.convert.batch.digests import (
    DigestsStoppedError,
    Stamp,
    content_digest,
    file_digests,
    source_files,
    stamp,
)
from interlingua.convert.batch.jobs import DONE, FAILED, SKIPPED, STOPPED, CheckResult, Job, JobResult
from interlingua.convert.batch.keys import job_key
from interlingua.convert.batch.lock import batch_lock
from interlingua.convert.batch.places import elsewhere
from interlingua.convert.batch.processes import ProcessPool
from interlingua.convert.batch.provenance import was_written_here
from interlingua.convert.batch.remote_sources import RemoteSource, RemoteSources
from interlingua.convert.batch.state import BatchState
from interlingua.convert.batch.workers import Ended, Workers
from interlingua.convert.commit import clear_remains
from interlingua.convert.remote.uploads import versions_there
from interlingua.convert.source import Asked
from interlingua.errors import FormatError, InterlinguaError, UsageError
from interlingua.formats.base import output_error

BASE_MEMORY = 256 << 20
"""Bytes that a process takes whatever it converts: tensors are streamed."""

PARITY_MEMORY = 6
"""How many times the source's bytes a parity check takes: the models of two frameworks and the float64 oracle's."""

HEED = 0.2
"""Seconds after which a signal is heeded at the latest."""

UNKNOWN = "unknown"
"""This program's version where a caller does not say it."""

NEVER = ""
"""A key that no job has."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a batch is carried out.

    Attributes:
        processes: jobs at a time; None: as many as the workers have room for, which on this machine is one a core.
        fail_fast: start no job after one has failed.
        resume: skip what is unchanged.
        memory: bytes that all jobs at a time may take together, as far as that is known; None: what the workers have.
        reports: folder for the pages of parity checks; None: none are written.
        version: of this program: another one carries out everything again.
    """

    processes: int | None = None
    fail_fast: bool = False
    resume: bool = True
    memory: int | None = None
    reports: str | None = None
    version: str = UNKNOWN


@dataclass(frozen=True, slots=True)
class Task:
    """A job as it is handed to the process that carries it out.

    Attributes:
        job: the job.
        digest: digest of its source's content; None where that could not be read.
        fingerprint: of the source's model, where it is known already.
        reports: folder for the page of its parity check; None: none.
        version: of this program.
        source: where the source is read, where that is not as the job names it: on the Hub at a commit.
    """

    job: Job
    digest: str | None = None
    fingerprint: str | None = None
    reports: str | None = None
    version: str = UNKNOWN
    source: str | None = None


Work: TypeAlias = Callable[[Task], JobResult]
"""Carries out a task; a function at the top of a module. It raises nothing."""

Tell: TypeAlias = Callable[[Job, JobResult | None], None]
"""Told of each job when it starts, without a result, and when it is over."""

Prepare: TypeAlias = Callable[[Sequence[Job]], None]
"""Makes sure that jobs can be carried out: that there is room for what they write, for one."""


@dataclass(frozen=True, slots=True)
class _Inputs:
    """What a job reads: its files that are here with their stamps, and what is known of the source's content."""

    stamps: Mapping[Path, Stamp]
    digest: str | None = None
    key: str | None = None
    remote: RemoteSource | None = None

    @property
    def nbytes(self) -> int:
        return sum(found.size for found in self.stamps.values()) + (self.remote.nbytes if self.remote else 0)

    @property
    def unchanged(self) -> bool:
        try:
            return all(stamp(path) == found for path, found in self.stamps.items())
        except FormatError:
            return False


@dataclass(frozen=True, slots=True)
class Wanted:
    """What workers are hired for.

    Attributes:
        work: carries out a task.
        count: tasks at a time; None: as many as the workers have room for.
        sources: the files here that the jobs read, with their stamps.
        targets: the paths that they write.
        folder: where the batch's state is, with the lock's file in it.
        lock: the descriptor that holds the lock.
        stopped: set when there is no point any more.
        schemes: of the URIs that the jobs read and write.
    """

    work: Work
    count: int | None
    sources: Mapping[Path, Stamp]
    targets: Sequence[Path]
    folder: Path
    lock: int
    stopped: threading.Event
    schemes: frozenset[str] = frozenset()


Hire: TypeAlias = Callable[[Wanted], Workers[Task, JobResult]]
"""Finds workers. It raises InterlinguaError where there are none that can do what is wanted."""


def hire_processes(wanted: Wanted) -> Workers[Task, JobResult]:
    """Return processes on this machine: as many as are wanted, or one a core."""
    return ProcessPool(wanted.work, wanted.lock, wanted.count or available_cores())


def run_batch(
    jobs: Sequence[Job],
    work: Work,
    settings: Settings | None = None,
    *,
    folder: Path | None = None,
    tell: Tell | None = None,
    prepare: Prepare | None = None,
    hire: Hire = hire_processes,
) -> tuple[JobResult, ...]:
    """Carry out jobs; return what became of each, in the order of the jobs.

    SIGINT and SIGTERM end it in seconds: jobs that are not finished are ``STOPPED``, nothing half-written is
    left, and the next batch goes on from there.

    Args:
        jobs: the jobs; no two of one name, or with one target.
        work: carries out one of them.
        settings: how.
        folder: where the state is kept; None: the folder that all outputs are in.
        tell: told of each job as it starts and ends.
        prepare: shown the jobs that are not skipped, before the first of them starts; what it raises ends the batch.
        hire: finds the workers, where there are jobs that are not skipped.

    Raises:
        UsageError: two jobs have one name, or one target.
        FormatError: the state is damaged.
        OutputError: another batch is at work here, or the state cannot be written.
    """
    settings = settings or Settings()
    refuse_collisions(jobs)
    folder = folder or common_folder(jobs)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(error, folder) from error
    with ExitStack() as stack:
        lock = stack.enter_context(batch_lock(folder))
        state = stack.enter_context(BatchState(folder))
        stopped = stack.enter_context(_signals())
        batch = _Batch(jobs, settings, state, stopped, tell or _tell_nobody)

        def hired(left: Sequence[Job]) -> Workers[Task, JobResult]:
            wanted = (work, settings.processes, batch.stamps(left), batch.targets(left), folder, lock, stopped)
            return hire(Wanted(*wanted, schemes_of(left)))

        return batch.run(prepare, hired)


def _tell_nobody(_job: Job, _result: JobResult | None) -> None:
    pass


def refuse_collisions(jobs: Sequence[Job]) -> None:
    """Refuse jobs of one name, or with one target.

    Raises:
        UsageError: there are such.
    """
    for what, values in (
        ("name", [job.name for job in jobs]),
        ("target", [job.target if elsewhere(job.target) else os.path.abspath(job.target) for job in jobs]),
    ):
        twice = next((value for value, count in Counter(values).items() if count > 1), None)
        if twice is not None:
            raise UsageError(f"Two jobs have the {what} {twice}.", hint="Give each its own.")


def common_folder(jobs: Sequence[Job]) -> Path:
    """Return the innermost folder that all outputs are in that are here; where none is, this process's folder."""
    parents = [os.path.dirname(os.path.abspath(job.target)) for job in jobs if elsewhere(job.target) is None]
    return Path(os.path.commonpath(parents)) if parents else Path.cwd()


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """Yield what SIGINT and SIGTERM set; one that comes twice has the effect that it always has."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    seen: set[int] = set()

    def heed(number: int, _frame: FrameType | None) -> None:
        stopped.set()
        if number in seen:
            signal.signal(number, before[signal.Signals(number)])
            signal.raise_signal(number)
        seen.add(number)

    for number in before:
        signal.signal(number, heed)
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Batch:
    """One run of a batch, from the first digest to the last result."""

    def __init__(
        self,
        jobs: Sequence[Job],
        settings: Settings,
        state: BatchState,
        stopped: threading.Event,
        tell: Tell,
    ) -> None:
        self.jobs, self.settings, self.state, self.stopped, self.tell = jobs, settings, state, stopped, tell
        self.threads = settings.processes or available_cores()
        self.inputs: dict[str, _Inputs] = {}
        self.results: dict[str, JobResult] = {}
        self.failed = False

    def run(
        self, prepare: Prepare | None, hired: Callable[[Sequence[Job]], Workers[Task, JobResult]]
    ) -> tuple[JobResult, ...]:
        try:
            self.inputs = self._read_inputs()
            left = [job for job in self.jobs if not self._skip(job)]
            if prepare is not None and left:
                prepare(left)
            if left and not self.stopped.is_set():
                self._carry_out(left, hired(left))
        except DigestsStoppedError:
            pass
        for job in self.jobs:
            self.results.setdefault(job.name, JobResult(job.name, STOPPED))
        return tuple(self.results[job.name] for job in self.jobs)

    def stamps(self, jobs: Sequence[Job]) -> dict[Path, Stamp]:
        """Return the files that jobs read, as they were found."""
        return {path: found for job in jobs for path, found in self.inputs[job.name].stamps.items()}

    def targets(self, jobs: Sequence[Job]) -> list[Path]:
        """Return the paths that jobs write; the page of a parity check is one."""
        pages = [Path(self.settings.reports, "page")] if self.settings.reports and _judge(jobs) else []
        return [*(Path(job.target) for job in jobs if elsewhere(job.target) is None), *pages]

    # -- what is unchanged

    def _read_inputs(self) -> dict[str, _Inputs]:
        """Return what each job reads, by its name; content that is not known yet is hashed."""
        sources = _files_of_sources(self.jobs)
        remote = _remote_sources(self.jobs, self.stopped)
        files = {job.name: sources.get(_source_of(job), {}) for job in self.jobs}
        golden = [Path(job.golden) for job in self.jobs if job.golden is not None]
        wanted = [path for found in files.values() for path in found.values()]
        stamps = _stamps([*wanted, *golden])
        digests = file_digests([*wanted, *golden], self.state, self.threads, self.stopped)
        known = (stamps, digests, self.settings.version)
        return {job.name: _inputs_of(job, files[job.name], remote.get(_source_of(job)), *known) for job in self.jobs}

    def _skip(self, job: Job) -> bool:
        """Skip a job where doing it again would change nothing; say whether it is skipped."""
        kept = self.state.job(kept_as(job)) if self.settings.resume else None
        if kept is None or self.inputs[job.name].key != kept.key or not self._is_there(job, kept.result):
            return False
        report = kept.result.report if kept.result.report and os.path.isfile(kept.result.report) else None
        if "parity" in job.checks and self.settings.reports is not None and report is None:
            return False  # A page is asked for, and there is none.
        checks = tuple(replace(check, seconds=0.0) for check in kept.result.checks)
        self._finish(job, replace(kept.result, status=SKIPPED, checks=checks, seconds=0.0, nbytes=0, report=report))
        return True

    def _is_there(self, job: Job, result: JobResult) -> bool:
        """Say whether the output of a job is what it was."""
        uri = elsewhere(job.target)
        if uri is None:
            outputs = {output_parent(job) / name: digest for name, digest in result.outputs.items()}
            return bool(outputs) and file_digests(outputs, self.state, self.threads, self.stopped) == outputs
        if self.stopped.is_set():
            raise DigestsStoppedError
        try:
            return bool(result.versions) and versions_there(uri, result.outputs) == result.versions
        except InterlinguaError:
            return False  # The job will say why, if it fares no better.

    # -- what is not

    def _carry_out(self, jobs: Sequence[Job], workers: Workers[Task, JobResult]) -> None:
        left = sorted(jobs, key=lambda job: -self.inputs[job.name].nbytes)
        try:
            while (left or workers.tasks) and not self.stopped.is_set():
                if self.settings.fail_fast and self.failed:
                    left.clear()
                self._hand_out(left, workers)
                for ended in workers.take(HEED):
                    self._take(ended)
        finally:
            unfinished = [task.job for task in workers.tasks]
            workers.end()
            for job in unfinished:
                clear_remains_of(job)

    def _hand_out(self, left: list[Job], workers: Workers[Task, JobResult]) -> None:
        """Give jobs to workers, as far as there is room."""
        while left and workers.room > 0:
            job = self._fitting(left, workers)
            if job is None:
                return
            left.remove(job)
            self.tell(job, None)
            workers.give(self._task(job))

    def _fitting(self, left: Sequence[Job], workers: Workers[Task, JobResult]) -> Job | None:
        """Return the first job for which there is memory; where nothing else runs, the first in any case."""
        memory = workers.memory if self.settings.memory is None else self.settings.memory
        if memory is None or not workers.tasks:
            return left[0]
        room = memory - sum(self._memory(task.job) for task in workers.tasks)
        return next((job for job in left if self._memory(job) <= room), None)

    def _memory(self, job: Job) -> int:
        return BASE_MEMORY + (PARITY_MEMORY * self.inputs[job.name].nbytes if _judge([job]) else 0)

    def _task(self, job: Job) -> Task:
        inputs = self.inputs[job.name]
        # An output that a batch has made is a batch's to make again; of one elsewhere its worker finds that out.
        here = elsewhere(job.target) is None
        if here and (self.state.job(kept_as(job)) is not None or was_written_here(Path(job.target))):
            job = replace(job, options=replace(job.options, overwrite=True))
        fingerprint = self.state.fingerprint(inputs.digest) if inputs.digest else None
        source = inputs.remote.uri if inputs.remote else None
        return Task(job, inputs.digest, fingerprint, self.settings.reports, self.settings.version, source)

    def _take(self, ended: Ended[Task, JobResult]) -> None:
        job = ended.asked.job
        if ended.answer is not None:
            with self.state.together():
                self._keep(job, ended.answer)
            self._finish(job, ended.answer)
            return
        if self.stopped.is_set():
            return  # Its process heard the signal, too.
        clear_remains_of(job)
        text = f"The process that carried it out {ended.death}."
        self._finish(job, JobResult(job.name, FAILED, (CheckResult("convert", False, text),), exit_code=1))

    def _keep(self, job: Job, result: JobResult) -> None:
        """Keep what a job did, so that it can be skipped next time."""
        inputs = self.inputs[job.name]
        if inputs.digest and result.fingerprint:
            self.state.keep_fingerprint(inputs.digest, result.fingerprint)
        if result.status != DONE or inputs.key is None or not inputs.unchanged:
            if self.state.job(kept_as(job)) is not None:
                # Its output is still a batch's, and is not to be relied on.
                self.state.keep_job(NEVER, result, kept_as(job))
            return
        if elsewhere(job.target) is None:
            for name, digest in result.outputs.items():
                self.state.keep_digest(stamp(output_parent(job) / name), digest)
        self.state.keep_job(inputs.key, result, kept_as(job))

    def _finish(self, job: Job, result: JobResult) -> None:
        self.failed |= not result.ok
        self.results[job.name] = result
        self.tell(job, result)


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int | None:
    """Return the bytes of memory that are free for new work; None where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) << 10
    except (OSError, LookupError, ValueError):
        return None


def _judge(jobs: Sequence[Job]) -> bool:
    """Say whether one of the jobs runs models."""
    return any({"parity", "golden"} & set(job.checks) for job in jobs)


_Source: TypeAlias = tuple[str, Asked, bool]
"""A source as a job reads it: its path, what is known of it, and whether it is a model."""


def _source_of(job: Job) -> _Source:
    return job.source, job.options.source, not job.options.keep_names


def _files_of_sources(jobs: Sequence[Job]) -> dict[_Source, dict[str, Path]]:
    """Return the files of each source, opened once; none where it cannot be opened: its jobs will say why."""
    found: dict[_Source, dict[str, Path]] = {}
    for source in dict.fromkeys(_source_of(job) for job in jobs if elsewhere(job.source) is None):
        try:
            found[source] = source_files(Path(source[0]), source[1], model=source[2])
        except (InterlinguaError, OSError, ValueError, LookupError):
            found[source] = {}
    return found


def _remote_sources(jobs: Sequence[Job], stopped: threading.Event) -> dict[_Source, RemoteSource]:
    """Return what is known of each source that is elsewhere; one that cannot be opened is left out.

    Raises:
        DigestsStoppedError: ``stopped`` was set meanwhile.
    """
    sources, found = RemoteSources(stopped), {}
    for source in dict.fromkeys(map(_source_of, jobs)):
        uri = elsewhere(source[0])
        if uri is None:
            continue
        try:
            found[source] = sources.find(uri, source[1], model=source[2])
        except (InterlinguaError, OSError, ValueError, LookupError):
            continue  # Its jobs will say why.
    return found


def _stamps(paths: Collection[Path]) -> dict[Path, Stamp]:
    found = {}
    for path in paths:
        try:
            found[path] = stamp(path)
        except FormatError:
            continue
    return found


def _inputs_of(
    job: Job,
    files: Mapping[str, Path],
    remote: RemoteSource | None,
    stamps: Mapping[Path, Stamp],
    digests: Mapping[Path, str],
    version: str,
) -> _Inputs:
    golden = Path(job.golden) if job.golden is not None else None
    paths = [*files.values(), *([golden] if golden else [])]
    known = {path: stamps[path] for path in paths if path in stamps}
    if not (files or remote) or any(path not in digests for path in paths):
        return _Inputs(known, remote=remote)
    digest = remote.digest if remote else content_digest({name: digests[path] for name, path in files.items()})
    return _Inputs(known, digest, job_key(job, digest, digests[golden] if golden else None, version), remote)


def schemes_of(jobs: Sequence[Job]) -> frozenset[str]:
    """Return the schemes of all URIs that jobs read and write."""
    uris = (elsewhere(place) for job in jobs for place in (job.source, job.target))
    return frozenset(uri.scheme for uri in uris if uri is not None)


def kept_as(job: Job) -> str:
    """Return what a job is kept as: by its name, and where its output is elsewhere by that.

    The state of such outputs is not beside them, and two manifests may have one for both.
    """
    return job.target if elsewhere(job.target) else job.name


def clear_remains_of(job: Job) -> None:
    """Remove what a process that is gone has left beside a job's output, where that is here."""
    if elsewhere(job.target) is None:
        clear_remains(Path(job.target), alone=True)


def output_parent(job: Job) -> Path:
    """Return the folder that the paths of a job's outputs begin in: its target's, or the target itself."""
    target = Path(job.target)
    return target if target.is_dir() else target.parent
