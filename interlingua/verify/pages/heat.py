"""Errors by position as coloured cells: where in the batch, and in which layer, two sides part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from interlingua.verify.pages.chart import short
from interlingua.verify.pages.reading import called, error, first_beyond, units, worst_of
from interlingua.verify.parity.outcome import Gap, Thresholds

MOST_COLUMNS, MOST_ROWS = 64, 40
"""Cells of a map; longer rows are put into bins, each as bad as its worst element."""

WIDTH, ROW, LEFT, BOTTOM = 480.0, 16.0, 84.0, 22.0
"""Width of a map, height of one of its rows, and margins, in the units of its drawing."""

EDGES = (0.1, 0.3, 1.0)
"""Units of the greatest noise at which a cell's tint changes, below what passes."""

FACTORS = (1, 10, 1000)
"""Multiples of the greatest error that passes at which it changes again."""

LOST = "lost"
"""The level of a cell that holds NaN or an infinity; the others are numbers, 0 to 7."""

Grid = Sequence[Sequence[float]]


@dataclass(frozen=True, slots=True)
class Cell:
    """One bin: a rectangle, its level, and what it says."""

    x: float
    y: float
    width: float
    level: str
    title: str


@dataclass(frozen=True, slots=True)
class Label:
    """Text beside a row (at ``y``), or below a column (at ``x``)."""

    x: float
    y: float
    text: str


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Cells with labels.

    Attributes:
        title: what is shown.
        description: the same for those who do not see it.
        height: the drawing's height.
        cells: the cells.
        rows: labels of rows.
        columns: labels of columns.
    """

    title: str
    description: str
    height: float
    cells: tuple[Cell, ...]
    rows: tuple[Label, ...]
    columns: tuple[Label, ...]


def heat_maps(gaps: Sequence[Gap], thresholds: Thresholds) -> list[HeatMap]:
    """Return the maps of one comparison: for each batch one of rows by positions, and one of layers by positions.

    The first shows the first activation that is beyond noise, or the worst where none is. The second shows the worst
    row of each activation that has as many positions as the first one of the batch.
    """
    made = []
    for batch in dict.fromkeys(gap.batch for gap in gaps):
        there = [gap for gap in gaps if gap.batch == batch and any(gap.by_position)]
        if not there:
            continue
        sized = [gap for gap in there if list(map(len, gap.by_position)) == list(map(len, there[0].by_position))]
        gap = first_beyond(sized, thresholds) or worst_of(tuple(sized), thresholds)
        names = [f"row {row}" for row in range(len(gap.by_position))]
        of_rows = [gap] * len(names)
        made.append(_map(f"Rows by positions: {called(gap)}", names, gap.by_position, of_rows, thresholds))
        layers = [[_worst(column) for column in _columns(layer.by_position)] for layer in sized]
        made.append(
            _map(f"Layers by positions: {batch} batch", [layer.name for layer in sized], layers, sized, thresholds)
        )
    return made


def _columns(rows: Grid) -> list[list[float]]:
    width = max(map(len, rows))
    return [[row[index] for row in rows if index < len(row)] for index in range(width)]


def _worst(values: Sequence[float]) -> float:
    return max(values, key=lambda value: (math.isnan(value), value))


def _map(title: str, names: Sequence[str], rows: Grid, gaps: Sequence[Gap], thresholds: Thresholds) -> HeatMap:
    length = max(map(len, rows))
    bin_size, row_bin = math.ceil(length / MOST_COLUMNS), math.ceil(len(rows) / MOST_ROWS)
    count = math.ceil(length / bin_size)
    width = (WIDTH - LEFT) / max(count, 16)
    cells: list[Cell] = []
    labels = []
    for line, first in enumerate(range(0, len(rows), row_bin)):
        group = range(first, min(first + row_bin, len(rows)))
        name = names[first] if len(group) == 1 else f"{names[first]} to {names[group[-1]]}"
        labels.append(Label(LEFT - 6, line * ROW + ROW / 2, short(name)))
        for column in range(count):
            span = range(column * bin_size, min((column + 1) * bin_size, length))
            values = [(rows[row][at], gaps[row]) for row in group for at in span if at < len(rows[row])]
            if values:
                cells.append(_cell(values, name, span, LEFT + column * width, line * ROW, width, thresholds))
    height = len(labels) * ROW + BOTTOM
    beyond = sum(cell.level in (*"567", LOST) for cell in cells)
    return HeatMap(
        title,
        f"Greatest error by position; {beyond} of {len(cells)} cells are beyond noise.",
        height,
        tuple(cells),
        tuple(labels),
        tuple(_positions(length, bin_size, width, height)),
    )


def _cell(
    values: Sequence[tuple[float, Gap]],
    name: str,
    span: range,
    x: float,
    y: float,
    width: float,
    thresholds: Thresholds,
) -> Cell:
    value, gap = max(values, key=lambda pair: _severity(pair[0], pair[1], thresholds))
    ratio = _ratio(value, gap.noise_max)
    where = f"position {span[0]}" if len(span) == 1 else f"positions {span[0]} to {span[-1]}"
    title = f"{name}, {where}: {error(value)} ({units(ratio)} greatest noise)"
    return Cell(round(x, 2), y, round(width, 2), _level(value, ratio, thresholds.peak_limit(gap)), title)


def _severity(value: float, gap: Gap, thresholds: Thresholds) -> tuple[bool, bool, float]:
    ratio = math.inf if math.isnan(value) else _ratio(value, gap.noise_max)
    return (not math.isfinite(value), value > thresholds.peak_limit(gap), ratio)


def _ratio(value: float, noise: float) -> float:
    return value / noise if noise else (0.0 if value == 0 else math.inf)


def _level(value: float, ratio: float, limit: float) -> str:
    """Return 0 for no error, 1 to 4 for one that passes, 5 to 7 for one that does not.

    Args:
        value: the error.
        ratio: the error in units of the greatest noise.
        limit: the greatest error that passes.
    """
    if not math.isfinite(value):
        return LOST
    if value == 0:
        return "0"
    beyond = sum(value > factor * limit for factor in FACTORS)
    return str(4 + beyond if beyond else 1 + sum(ratio > edge for edge in EDGES))


def _positions(length: int, bin_size: int, width: float, height: float) -> list[Label]:
    """Return labels at about every eighth of a row."""
    step = max(1, length // 8)
    places = range(0, length, step)
    return [Label(round(LEFT + (at // bin_size + 0.5) * width, 1), height - 8, str(at)) for at in places]
