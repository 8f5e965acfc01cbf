"""Sides that were run: each in a process of its own, on the device that is asked for or else on the CPU."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from interlingua.verify.encoders.request import Request
from interlingua.verify.oracle import Get
from interlingua.verify.parity.batch import Batch
from interlingua.verify.parity.comparison import Subject, agreement
from interlingua.verify.parity.outcome import Cause, Gap, Side
from interlingua.verify.parity.process import TIMEOUT, Answer, run
from interlingua.verify.parity.side import Opened, make_request

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

TOGETHER = 1 << 30
"""Bytes of weights up to which sides run at the same time."""

CACHED = 32
"""Tensors that are kept in float64: a layer's."""

NVIDIA = Path("/dev/nvidiactl")
"""What is there where a driver for NVIDIA's devices runs."""


class Launch(Protocol):
    """Runs a request in ``folder``, and says what became of it."""

    def __call__(self, request: Request, folder: Path, *, interpreter: str | None, timeout: float) -> Answer: ...


@dataclass(frozen=True, slots=True)
class Settings:
    """How sides are run.

    Attributes:
        device: ``auto``, ``cpu`` or ``cuda``.
        dtype: element type of the run: ``float32``, ``float16`` or ``bfloat16``.
        interpreters: framework -> the Python that it is installed in.
        timeout: seconds that a side may take.
        third_party: whether others' implementations are tried; else our own encoder runs.
        launch: runs a request and answers it; tests put something quicker than a process here.
    """

    device: str = "cpu"
    dtype: str = "float32"
    interpreters: Mapping[str, str] = field(default_factory=dict)
    timeout: float = TIMEOUT
    third_party: bool = True
    launch: Launch = run

    @property
    def wanted(self) -> str:
        """The device to try first."""
        return "cuda" if self.device == "cuda" or (self.device == "auto" and NVIDIA.exists()) else "cpu"


@dataclass(frozen=True, slots=True)
class Run:
    """One side on one device: what its process answered, and where its activations are."""

    answer: Answer
    device: str
    file: Path


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """Sides that were run.

    Attributes:
        sides: label -> side.
        runs: label -> the run that counts.
        others: label -> a run of the same side on the CPU, beside one on a GPU.
        settings: how they were to be run.
    """

    sides: Mapping[str, Opened]
    runs: Mapping[str, Run]
    others: Mapping[str, Run]
    settings: Settings

    def subjects(self, *, share: bool) -> list[Subject]:
        """Return what the sides computed that ran to their end.

        Args:
            share: whether all have the first one's weights, so that they are read from one checkpoint.
        """
        gets: list[Get] = []
        found = []
        for label, one in self.runs.items():
            if one.answer.failure is None:
                get = gets[0] if share and gets else lru_cache(CACHED)(self.sides[label].tensor)
                gets.append(get)
                found.append(Subject(label, _load(one.file), get, self.sides[label].model))
        return found

    def describe(self, label: str, gaps: tuple[Gap, ...]) -> Side:
        """Return a side as an outcome has it."""
        side, one = self.sides[label], self.runs[label]
        ran = one.answer.ran
        return Side(
            label=label,
            path=side.checkpoint.name,
            dialect=side.match.dialect.name,
            family=side.table.family.name,
            container=side.checkpoint.container,
            heads=side.match.heads,
            fingerprint=None,
            reference=ran.reference if ran else "",
            version=ran.version if ran else "",
            third_party=bool(ran and ran.third_party),
            framework=ran.framework if ran else "",
            device=ran.device if ran else one.device,
            dtype=self.settings.dtype,
            settings=dict(ran.settings) if ran else {},
            config=side.config.as_dict(),
            conventions=asdict(side.table.conventions),
            seconds=one.answer.seconds,
            refused=one.answer.refused,
            failure=one.answer.failure,
            gaps=gaps,
        )

    def devices(self, batches: Sequence[Batch], gaps: Mapping[str, tuple[Gap, ...]]) -> dict[str, tuple[Gap, ...]]:
        """Return each side's distance from itself on the CPU, where it ran on a GPU: label -> gaps."""
        found = {}
        for label, other in self.others.items():
            one = self.runs[label]
            if one.answer.failure is not None or other.answer.failure is not None:
                continue
            pair = [
                Subject(label, _load(run.file), self.sides[label].tensor, self.sides[label].model)
                for run in (one, other)
            ]
            found[label] = agreement(pair[0], pair[1], batches, gaps)
        return found

    @property
    def faults(self) -> tuple[Cause, ...]:
        """Say that no side ran on the device that was asked for, where none did; and what a model class missed."""
        found = [
            Cause("reference", f"side {label}", f"{ran.reference} did not find {', '.join(ran.missing[:5])}.")
            for label, one in self.runs.items()
            if (ran := one.answer.ran) is not None and ran.missing
        ]
        if self.settings.device == "cuda" and all(one.device != "cuda" for one in self.runs.values()):
            found.append(Cause("device", "--device cuda", "no framework of either side sees a CUDA device."))
        return tuple(found)

    @property
    def notes(self) -> tuple[str, ...]:
        """Say which sides ran on the CPU though another device was wanted."""
        if self.settings.wanted == "cpu":
            return ()
        moved = [label for label, one in self.runs.items() if one.device == "cpu"]
        return tuple(f"{label}'s framework sees no CUDA device: it ran on the CPU." for label in moved)


def _load(file: Path) -> Mapping[str, Array]:
    import numpy as np

    found: Mapping[str, Array] = np.load(file, allow_pickle=False)
    return found


@contextlib.contextmanager
def run_sides(sides: Mapping[str, Opened], batches: Sequence[Batch], settings: Settings) -> Iterator[Runs]:
    """Run sides on batches; what they computed is there as long as the context is.

    Sides of small models run at the same time, large ones one after the other. Where a framework sees no
    device of the wanted kind, its side runs on the CPU; where it does, it runs on the CPU as well.
    """
    import numpy as np

    with tempfile.TemporaryDirectory(prefix="interlingua-parity-") as name:
        folder = Path(name)
        given = folder / "batches.npz"
        np.savez(given, **{key: array for batch in batches for key, array in batch.arrays().items()})
        runs = _on(settings.wanted, sides, given, folder, settings)
        others: dict[str, Run] = {}
        if settings.wanted == "cuda":
            others = _on("cpu", sides, given, folder, settings)
            refused = [label for label, one in runs.items() if one.answer.failure is not None and one.answer.refused]
            runs |= {label: others.pop(label) for label in refused}
        yield Runs(sides, runs, others, settings)


def _on(device: str, sides: Mapping[str, Opened], given: Path, folder: Path, settings: Settings) -> dict[str, Run]:
    nbytes = sum(step.target.nbytes for side in sides.values() for step in side.steps.values())
    together = nbytes <= TOGETHER
    threads = max(1, (os.cpu_count() or 2) // len(sides)) if together else 0

    def one(label: str) -> Run:
        place = folder / device / label
        place.mkdir(parents=True)
        file = place / "activations.npz"
        request = make_request(sides[label], given, file)
        references = request.references if settings.third_party else request.references[-1:]
        request = replace(request, device=device, dtype=settings.dtype, threads=threads, references=references)
        interpreter = settings.interpreters.get(request.framework)
        answer = settings.launch(request, place, interpreter=interpreter, timeout=settings.timeout)
        return Run(answer, device, file)

    with ThreadPoolExecutor(len(sides) if together else 1) as pool:
        return dict(zip(sides, pool.map(one, sides), strict=True))
