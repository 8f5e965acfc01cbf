"""One job of a batch, and what became of it: values that manifests make, processes carry out, and reports show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from interlingua.convert.conversion import Options

CHECKS = ("weights", "parity", "golden")
"""What a job may check: every bit of what it wrote, forward passes in the frameworks, kept activations."""

DONE = "done"
SKIPPED = "skipped"
FAILED = "failed"
STOPPED = "stopped"
"""What becomes of a job: carried out; unchanged since it was; failed; not finished, as the batch was stopped."""


@dataclass(frozen=True, slots=True)
class Job:
    """One conversion of a batch.

    Attributes:
        name: unique in the batch: ``minilm/uer``.
        source: path or URI of the source.
        target: path or URI of the folder or file to make.
        options: what is asked of the conversion.
        checks: some of ``CHECKS``.
        golden: file of activations that the output is held against; None: none.
        line: line of the manifest that it comes from.
    """

    name: str
    source: str
    target: str
    options: Options
    checks: tuple[str, ...] = ("weights",)
    golden: str | None = None
    line: int = 0


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check of a job found.

    Attributes:
        name: one of ``CHECKS``, or ``convert``: the conversion itself.
        ok: whether it holds.
        text: why not, or what was found, in sentences.
        seconds: what it took.
    """

    name: str
    ok: bool
    text: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class JobResult:
    """What became of a job.

    Attributes:
        name: the job's.
        status: ``DONE``, ``SKIPPED``, ``FAILED`` or ``STOPPED``.
        checks: the conversion and its checks, in order.
        seconds: what it took.
        nbytes: bytes of tensors that it wrote.
        exit_code: the exit code that the command alone would have had.
        outputs: path in the output -> SHA-256 of the file.
        versions: of an output that is elsewhere: path in it -> size and version, as its storage says them.
        fingerprint: of the whole model; None where it was not computed.
        family: the model's family; None where it is not known.
        report: the page of its parity check; None: none.
    """

    name: str
    status: str
    checks: tuple[CheckResult, ...] = ()
    seconds: float = 0.0
    nbytes: int = 0
    exit_code: int = 0
    outputs: Mapping[str, str] = field(default_factory=dict)
    fingerprint: str | None = None
    family: str | None = None
    report: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether its output is there, and all its checks hold."""
        return self.status in (DONE, SKIPPED)
