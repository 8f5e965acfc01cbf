"""Errors by layer as places on paper: one panel for each batch of each comparison, all on one logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from interlingua.errors import printable
from interlingua.verify.pages.reading import comparisons, error, units
from interlingua.verify.parity.outcome import BY_CONVENTION, Gap, Outcome, Thresholds

WIDTH, HEIGHT = 340.0, 250.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 6.0, 10.0, 78.0
"""Size of a panel and of its margins, in the units of its drawing."""

WITHIN, BEYOND, EXPECTED, LOST = "within", "beyond", "expected", "lost"
"""Kinds of points: explained by noise, not so, not so but expected of the conventions, no number at all."""

MOST_DECADES = 16
"""Decades that the axis shows at most: less than that below the greatest error is drawn at the bottom."""


@dataclass(frozen=True, slots=True)
class Point:
    """One gap: its root mean square at (x, y), and its greatest element at (x, peak)."""

    x: float
    y: float
    peak: float
    kind: str
    title: str


@dataclass(frozen=True, slots=True)
class Mark:
    """Text at a place of an axis; ``upright`` where it is turned by a quarter."""

    at: float
    text: str
    upright: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """The gaps of one batch in one comparison.

    Attributes:
        title: what is compared, on which batch.
        description: the same for those who do not see it.
        points: a point for each gap, in the order of the forward pass.
        noise: outline of the area below the noise's root mean square, as SVG has points of a polygon.
        allowed: likewise, below the greatest root mean square that passes.
        peaks: line at the greatest element that passes, as SVG has points of a polyline.
        rows: marks of the vertical axis.
        columns: marks of the horizontal axis.
    """

    title: str
    description: str
    points: tuple[Point, ...]
    noise: str
    allowed: str
    peaks: str
    rows: tuple[Mark, ...]
    columns: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Axis:
    """A logarithmic axis from 10 to the power of ``low`` at the bottom to that of ``high`` at the top."""

    low: int
    high: int

    def place(self, value: float) -> float:
        """Return where a value stands: at an end where it is beyond that, or no number."""
        if math.isnan(value) or value == math.inf:
            return TOP
        if value <= 0:
            return HEIGHT - BOTTOM
        return self._at(math.log10(value))

    def marks(self) -> Iterator[Mark]:
        """Yield each power of ten, or each second one where there are many."""
        for power in range(self.low, self.high + 1, 1 + (self.high - self.low) // 8):
            yield Mark(self._at(power), f"1e{power}")

    def _at(self, power: float) -> float:
        share = (power - self.low) / (self.high - self.low)
        return round(HEIGHT - BOTTOM - min(1.0, max(0.0, share)) * (HEIGHT - BOTTOM - TOP), 1)


def panels(outcome: Outcome) -> list[Panel]:
    """Return the panels of an outcome, batch by batch: as many points altogether as there are gaps."""
    found = comparisons(outcome)
    axis = _axis([gap for gaps in found.values() for gap in gaps], outcome.thresholds)
    made = []
    for batch in dict.fromkeys(gap.batch for gaps in found.values() for gap in gaps):
        for name, gaps in found.items():
            expected = name == "A against B" and outcome.verdict == BY_CONVENTION
            of_batch = [gap for gap in gaps if gap.batch == batch]
            if of_batch:
                made.append(_panel(f"{name}, {batch} batch", of_batch, axis, outcome.thresholds, expected))
    return made


def _axis(gaps: Iterable[Gap], thresholds: Thresholds) -> Axis:
    values = [value for gap in gaps for value in (gap.rms, gap.max_abs, gap.noise_rms, thresholds.peak_limit(gap))]
    powers = [math.log10(value) for value in values if 0 < value < math.inf]
    if not powers:
        return Axis(-8, 0)
    high = math.floor(max(powers)) + 1
    return Axis(max(math.floor(min(powers)) - 1, high - MOST_DECADES), high)


def _panel(title: str, gaps: Sequence[Gap], axis: Axis, thresholds: Thresholds, expected: bool) -> Panel:
    step = (WIDTH - LEFT - RIGHT) / len(gaps)
    beyond = [gap for gap in gaps if not thresholds.allows(gap)]
    counted = f"{len(beyond)} of {len(gaps)} activations are beyond noise"
    first = f", the first is {beyond[0].name}" if beyond else ""
    limits = [axis.place(thresholds.rms_limit(gap)) for gap in gaps]
    return Panel(
        title,
        f"Root mean square and greatest element of the error by layer on a logarithmic axis: {counted}{first}.",
        tuple(_point(gap, LEFT + (index + 0.5) * step, axis, thresholds, expected) for index, gap in enumerate(gaps)),
        _area([axis.place(gap.noise_rms) for gap in gaps], step),
        _area(limits, step),
        _stairs([axis.place(thresholds.peak_limit(gap)) for gap in gaps], step),
        tuple(axis.marks()),
        tuple(_columns(gaps, step)),
    )


def _point(gap: Gap, x: float, axis: Axis, thresholds: Thresholds, expected: bool) -> Point:
    kind = WITHIN if thresholds.allows(gap) else EXPECTED if expected else BEYOND
    if gap.non_finite:
        kind = LOST
    title = f"{gap.name}: root mean square {error(gap.rms)} ({units(gap.units)} noise), at most {error(gap.max_abs)}"
    if gap.non_finite:
        title += f"; {gap.non_finite} NaN or infinite numbers"
    y = TOP if kind == LOST else axis.place(gap.rms)
    return Point(round(x, 1), y, TOP if kind == LOST else axis.place(gap.max_abs), kind, title)


def _stairs(places: Sequence[float], step: float) -> str:
    corners = []
    for index, y in enumerate(places):
        corners += [(LEFT + index * step, y), (LEFT + (index + 1) * step, y)]
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)


def _area(places: Sequence[float], step: float) -> str:
    floor = HEIGHT - BOTTOM
    return f"{LEFT:.1f},{floor:.1f} {_stairs(places, step)} {LEFT + len(places) * step:.1f},{floor:.1f}"


def _columns(gaps: Sequence[Gap], step: float) -> Iterator[Mark]:
    """Yield the names of activations: of layers the numbers, and of these not all where there is no room."""
    every = max(1, math.ceil(16 / step))
    for index, gap in enumerate(gaps):
        at = round(LEFT + (index + 0.5) * step, 1)
        layer = gap.name.removeprefix("layer.")
        if layer == gap.name:
            yield Mark(at, short(gap.name), upright=True)
        elif layer.isascii() and layer.isdigit() and int(layer[:9]) % every == 0:
            yield Mark(at, layer[:9])


def short(name: str, most: int = 13) -> str:
    """Return a name as it has room beside an axis."""
    name = printable(name.replace("sequence_classification", "sequence class.").replace("_", " "))
    return name if len(name) <= most else f"{name[: most - 1]}…"
