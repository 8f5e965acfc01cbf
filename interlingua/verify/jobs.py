"""Carry out one job of a batch: convert, check, and say where the output comes from. Whatever happens is a result."""

from __future__ import annotations

import os
import re
import shlex
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from interlingua.convert.batch.digests import content_digest, file_digest, source_files
from interlingua.convert.batch.jobs import CHECKS, DONE, FAILED, CheckResult, Job, JobResult
from interlingua.convert.batch.places import elsewhere, readable
from interlingua.convert.batch.provenance import Origin, write_provenance
from interlingua.convert.batch.remote_sources import described, refuse_other
from interlingua.convert.batch.schedule import Task
from interlingua.convert.conversion import convert
from interlingua.convert.execute import Written
from interlingua.convert.plan import Plan
from interlingua.convert.remote.uploads import was_uploaded_here
from interlingua.convert.source import Asked, Checkpoint
from interlingua.errors import CheckError, InterlinguaError, UsageError
from interlingua.formats.base import output_error
from interlingua.verify.fingerprint import fingerprint
from interlingua.verify.written import check_weights

if TYPE_CHECKING:
    from interlingua.verify.parity.outcome import Outcome

BUG = 70
"""Exit code of a failure that is this program's own (EX_SOFTWARE of sysexits.h)."""

ORDER = ("convert", *CHECKS)
"""Order in which the parts of a job are listed."""

TAIL = 1500
"""Characters of a traceback's end that are kept."""


def run_job(task: Task | Job) -> JobResult:
    """Carry out a job and its checks; a failure is a result like any other.

    Args:
        task: the job; as a task it comes with what is known of its source.
    """
    task = Task(task) if isinstance(task, Job) else task
    return _Run(task).run()


@dataclass
class _Run:
    """A job on its way, and what is known of it so far."""

    task: Task
    checks: list[CheckResult] = field(default_factory=list)
    exit_code: int = 0
    nbytes: int = 0
    outputs: Mapping[str, str] = field(default_factory=dict)
    fingerprint: str | None = None
    family: str | None = None
    report: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """Where the source is: a branch on the Hub is read as the commit that it was when the batch began."""
        return self.task.source or self.task.job.source

    def run(self) -> JobResult:
        """Convert and, where that has gone well, check."""
        job, started = self.task.job, time.monotonic()
        converted = self._step("convert", self._convert)
        for name, check in (("parity", self._parity), ("golden", self._golden)):
            if converted and name in job.checks:
                self._step(name, check)
        good = all(check.ok for check in self.checks)
        return JobResult(
            name=job.name,
            status=DONE if good else FAILED,
            checks=tuple(sorted(self.checks, key=lambda check: ORDER.index(check.name))),
            seconds=time.monotonic() - started,
            nbytes=self.nbytes,
            exit_code=self.exit_code,
            outputs=dict(self.outputs),
            fingerprint=self.fingerprint,
            family=self.family,
            report=self.report,
            versions=dict(self.versions),
        )

    def _step(self, name: str, work: Callable[[], str]) -> bool:
        """Do a part of the job that says what it found, or raises; say whether it holds."""
        started = time.monotonic()
        try:
            text, code = work(), 0
        except _CheckFailedError as error:
            name, text, code = error.check, str(error.reason), error.reason.exit_code
        except InterlinguaError as error:
            text, code = str(error), error.exit_code
        except Exception as error:  # A fault of this program must not end the others' jobs.
            text, code = _bug(error), BUG
        if name == "weights":  # They are read back within the conversion, which has then gone well.
            self.checks.append(CheckResult("convert", True))
        self.checks.append(CheckResult(name, not code, text, time.monotonic() - started))
        self.exit_code = self.exit_code or code
        return not code

    # -- the conversion

    def _convert(self) -> str:
        job = self.task.job
        checked = "weights" in job.checks
        uri, options = elsewhere(job.target), job.options
        if uri is not None and not options.overwrite and was_uploaded_here(uri):
            options = replace(options, overwrite=True)  # What a batch has made is a batch's to make again.
        result = convert(
            self.source,
            job.target,
            options,
            check=self._check_weights if checked else None,
            finish=self._finish,
        )
        self.nbytes, self.family, self.versions = result.plan.nbytes, result.plan.family, result.versions
        lost = f" Narrowing lost values of {len(result.lost)} tensors." if result.lost else ""
        return f"{len(self.outputs)} files were written.{lost}"

    def _check_weights(self, source: Checkpoint, path: Path, plan: Plan, written: Written) -> None:
        started = time.monotonic()
        try:
            check_weights(source, path, plan, written)
        except InterlinguaError as error:
            raise _CheckFailedError("weights", error) from error
        self.checks.append(CheckResult("weights", True, "Every tensor is the source's.", time.monotonic() - started))

    def _finish(self, source: Checkpoint, folder: Path, _plan: Plan, written: Written) -> Sequence[str]:
        job = self.task.job
        origin = self._origin(source)
        single = readable(job.target).name in written.files and not os.path.isdir(job.target)
        self.outputs = write_provenance(job, origin, folder, written.files, single_file=single)
        return [name for name in self.outputs if name not in written.files]

    def _origin(self, source: Checkpoint) -> Origin:
        task, uri, mirror = self.task, elsewhere(self.source), source.place.mirror
        remote = None
        if uri is not None and mirror is not None:
            remote = described(uri, mirror, task.job.options.source, model=not task.job.options.keep_names)
            refuse_other(remote, task.digest)
        if source.match is not None:
            self.fingerprint = task.fingerprint or fingerprint(source).model
        digest = remote.digest if remote is not None else task.digest or _digest(task.job)
        return Origin(digest, self.fingerprint, task.version, remote)

    # -- the checks that run models

    def _parity(self) -> str:
        from interlingua.verify.parity.check import Options, check

        job = self.task.job
        command = shlex.join(["parity-check", self.source, job.target])
        asked = Options(a=job.options.source, b=Asked(dialect=job.options.to), command=command)
        return self._judged("parity", check(self.source, job.target, asked))

    def _golden(self) -> str:
        from interlingua.verify.parity.check import Options, check_against

        job = self.task.job
        if job.golden is None:
            raise UsageError("Nothing says which activations the output is held against.")
        command = shlex.join(["parity-check", job.target, "--against", job.golden])
        asked = Options(a=Asked(dialect=job.options.to), command=command)
        return self._judged("golden", check_against(job.target, Path(job.golden), asked))

    def _judged(self, name: str, outcome: Outcome) -> str:
        """Write the outcome's page and return its verdict; raises CheckError where that is bad."""
        page = self._write_report(name, outcome)
        if name == "parity" or self.report is None:
            self.report = page
        text = "; ".join((f"The verdict is: {outcome.verdict}", *outcome.reasons))
        if outcome.exit_code():
            raise CheckError(text)
        return text if text.endswith(".") else f"{text}."

    def _write_report(self, name: str, outcome: Outcome) -> str | None:
        if self.task.reports is None:
            return None
        from interlingua.verify.pages.page import write_page

        folder = Path(self.task.reports)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(error, folder) from error
        path = folder / report_name(self.task.job.name, name)
        write_page(outcome, path)
        return str(path)


class _CheckFailedError(Exception):
    """A check that runs within the conversion has failed: which one, and why."""

    def __init__(self, check: str, reason: InterlinguaError) -> None:
        super().__init__(str(reason))
        self.check, self.reason = check, reason


def report_name(job: str, check: str) -> str:
    """Return the file name of a job's page: its name, with a sign of no file's name spelled as ``=`` and its code."""
    spelled = re.sub(r"[^A-Za-z0-9._-]", lambda found: "".join(f"={byte:02X}" for byte in found[0].encode()), job)
    return f"{spelled}.{check}.html"


def _digest(job: Job) -> str:
    files = source_files(Path(job.source), job.options.source, model=not job.options.keep_names)
    return content_digest({name: file_digest(path) for name, path in files.items()})


def _bug(error: Exception) -> str:
    tail = "".join(traceback.format_exception(error))[-TAIL:]
    return f"This is a fault of interlingua itself ({type(error).__name__}: {error}). Report it:\n{tail}"
