"""How far one activation is from another: every figure accumulated in float64 over real tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from interlingua.verify.parity.outcome import Gap, Worst

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    Array = NDArray[Any]

TOP = 5
"""Largest logits that are compared as a set."""

KEPT = 5
"""Elements of a gap that are kept as its worst."""


@dataclass(frozen=True, slots=True)
class Noise:
    """The size of an error: its root mean square, and its greatest element."""

    rms: float = 0.0
    peak: float = 0.0

    def __add__(self, other: Noise) -> Noise:
        """Return the size of the difference of two numbers that each have such an error."""
        return Noise(math.hypot(self.rms, other.rms), math.hypot(self.peak, other.peak))

    def __or__(self, other: Noise) -> Noise:
        """Return the larger of two estimates of one error."""
        return Noise(max(self.rms, other.rms), max(self.peak, other.peak))

    @staticmethod
    def mean(sizes: Sequence[Noise]) -> Noise:
        """Return the size of errors of which these are samples, all of as many elements."""
        squares = [size.rms**2 for size in sizes]
        return Noise(math.sqrt(sum(squares) / len(squares)), max(size.peak for size in sizes))


def noise_of(noisy: Array, exact: Array) -> Noise:
    """Return the size of the error of one array against another of its shape."""
    import numpy as np

    error = np.abs(noisy.astype(np.float64) - exact)
    return Noise(float(np.sqrt(np.mean(error * error))), float(error.max(initial=0.0)))


def measure(
    name: str,
    value: Array,
    reference: Array,
    noise: Noise,
    batch: str,
    places: Array,
    *,
    logits: bool,
) -> Gap:
    """Compare one activation with another.

    Args:
        name: the activation's.
        value: [n, features], a side's, in any floating type.
        reference: [n, features], what it is held against.
        noise: the error that the element type explains.
        batch: the batch's name.
        places: [n, 2] int64, the row and position in the batch that each of the n stands at.
        logits: whether the features are logits, so that their order matters.

    Raises:
        ValueError: the shapes differ.
    """
    import numpy as np

    if value.shape != reference.shape:
        raise ValueError(f"{name}: shapes {value.shape} and {reference.shape} differ")
    given, wanted = value.astype(np.float64), reference.astype(np.float64)
    finite = np.isfinite(given) & np.isfinite(wanted)
    broken = int(given.size - np.count_nonzero(finite))
    error = np.abs(np.where(finite, given - wanted, 0.0))
    squared, energy = float(np.sum(error * error)), float(np.sum(np.where(finite, wanted, 0.0) ** 2))
    scale = float(np.sqrt(energy / max(1, wanted.size)))
    peak = float(error.max(initial=0.0))
    return Gap(
        batch=batch,
        name=name,
        elements=int(given.size),
        max_abs=peak,
        max_rel=peak / scale if scale else (0.0 if peak == 0 else float("inf")),
        rms=float(np.sqrt(squared / max(1, given.size))),
        scale=scale,
        nmse=squared / energy if energy else (0.0 if squared == 0 else float("inf")),
        cosine=_cosine(given, wanted, finite),
        top_k=_top_k(given, wanted) if logits else None,
        noise_rms=noise.rms,
        noise_max=noise.peak,
        non_finite=broken,
        by_position=_by_position(error, places),
        worst=_worst(given, wanted, error, places),
        vectors=len(places),
    )


def _cosine(a: Array, b: Array, finite: Array) -> float:
    import numpy as np

    one, other = np.where(finite, a, 0.0).reshape(-1), np.where(finite, b, 0.0).reshape(-1)
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / lengths if lengths else 1.0


def _top_k(a: Array, b: Array) -> float:
    """Return the share of rows of logits whose largest entries are the same set."""
    import numpy as np

    count = min(TOP, a.shape[-1] - 1)
    if count < 1:
        return 1.0
    one, other = (np.sort(np.argpartition(-x, count - 1, axis=-1)[..., :count], axis=-1) for x in (a, b))
    return float(np.mean(np.all(one == other, axis=-1)))


def _by_position(error: Array, places: Array) -> tuple[tuple[float, ...], ...]:
    """Return the greatest error at each position of each row."""
    import numpy as np

    peaks = error.reshape(len(error), -1).max(axis=1, initial=0.0)
    rows: list[tuple[float, ...]] = []
    for row in range(int(places[:, 0].max(initial=-1)) + 1):
        here = places[:, 0] == row
        line = np.zeros(int(places[here, 1].max(initial=-1)) + 1)
        np.maximum.at(line, places[here, 1], peaks[here])
        rows.append(tuple(float(f"{peak:.3g}") for peak in line))
    return tuple(rows)


def _worst(value: Array, reference: Array, error: Array, places: Array) -> tuple[Worst, ...]:
    import numpy as np

    flat = error.reshape(-1)
    count = min(KEPT, flat.size)
    if not count:
        return ()
    found = np.argpartition(-flat, count - 1)[:count]
    found = found[np.argsort(-flat[found], kind="stable")]
    width = error.size // len(error)
    return tuple(
        Worst(
            int(places[at // width, 0]),
            int(places[at // width, 1]),
            int(at % width),
            float(value.reshape(-1)[at]),
            float(reference.reshape(-1)[at]),
        )
        for at in found
    )
