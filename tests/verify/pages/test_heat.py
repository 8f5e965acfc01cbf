"""Heat maps: a cell is as bad as its worst element, stands where that is, and no NaN hides behind a number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from interlingua.verify.pages.heat import LEFT, LOST, MOST_COLUMNS, MOST_ROWS, ROW, WIDTH, Cell, HeatMap, heat_maps
from interlingua.verify.parity.outcome import Gap, Outcome, Thresholds
from tests.verify.parity.outcomes import ANY, HOSTILE, different, gap, healthy, non_finite

THRESHOLDS = Thresholds()
NAN, INF = math.nan, math.inf
Rows = Sequence[Sequence[float]]


def grid(rows: Rows, name: str = "embeddings", noise: float = 1.0, **more: Any) -> Gap:
    """Return an error with these greatest differences by [row][position]."""
    found = replace(gap("embeddings"), name=name, **{"noise_max": noise, "vectors": 100, **more})
    return replace(found, by_position=tuple(tuple(row) for row in rows))


def maps(*gaps: Gap) -> tuple[HeatMap, HeatMap]:
    """Return the maps of one batch: rows by positions, and layers by positions."""
    rows, layers = heat_maps(gaps, THRESHOLDS)
    return rows, layers


def levels(found: HeatMap) -> list[list[str]]:
    """Return the levels of the cells, line by line."""
    lines: dict[float, list[Cell]] = {}
    for cell in found.cells:
        lines.setdefault(cell.y, []).append(cell)
    return [[cell.level for cell in sorted(line, key=lambda cell: cell.x)] for _, line in sorted(lines.items())]


# -- tints


@pytest.mark.parametrize(
    ("value", "level"),
    [
        (0.0, "0"),
        (5e-324, "1"),
        (0.1, "1"),
        (0.11, "2"),
        (0.3, "2"),
        (0.31, "3"),
        (1.0, "3"),
        (1.01, "4"),
        (6.0, "4"),
        (6.01, "5"),
        (60.0, "5"),
        (61.0, "6"),
        (6000.0, "6"),
        (6001.0, "7"),
        (1e308, "7"),
        (INF, LOST),
        (NAN, LOST),
    ],
)
def test_a_tint_says_how_an_error_stands_to_noise_and_threshold(value: float, level: str) -> None:
    rows, _ = maps(grid([[value, 0.05]]))
    assert rows.cells[0].level == level


def test_other_thresholds_move_the_tints_of_what_is_beyond_noise() -> None:
    (rows, _) = heat_maps([grid([[10.0, 1.0]])], Thresholds(peak=20.0))
    assert [cell.level for cell in rows.cells] == ["4", "3"]


@pytest.mark.parametrize("peak", [0.05, 0.2, 0.5, 6.0])
@pytest.mark.parametrize("vectors", [1, 31, 32, 1000])
@pytest.mark.parametrize("slack", [0.0, 3.0])
def test_what_looks_as_if_it_passes_does(peak: float, vectors: int, slack: float) -> None:
    thresholds = Thresholds(rms=1e9, peak=peak, atol=slack)
    for value in (0.01, 0.09, 0.11, 0.3, 0.5, 0.9, 2.9, 3.3, 5.9, 6.1, 11.9, 12.1, 15.1, 1e4):
        found = grid([[value]], max_abs=value, vectors=vectors)
        for each in heat_maps([found], thresholds):
            beyond = not thresholds.allows(found)
            assert (each.cells[0].level in "567") == beyond
            assert each.description.endswith(f"{int(beyond)} of 1 cells are beyond noise.")


def test_where_nothing_may_differ_every_error_is_the_worst() -> None:
    rows, _ = maps(grid([[1e-30, 0.0]], noise=0.0))
    assert [cell.level for cell in rows.cells] == ["7", "0"]
    assert rows.cells[0].title == "row 0, position 0: 1.0e-30 (inf greatest noise)"


def test_a_cell_says_where_it_is_and_how_far_off() -> None:
    rows, layers = maps(grid([[0.5, 2.0], [0.25, 50.0]], noise=0.5))
    assert [cell.title for cell in rows.cells] == [
        "row 0, position 0: 5.0e-01 (1.0x greatest noise)",
        "row 0, position 1: 2.0e+00 (4.0x greatest noise)",
        "row 1, position 0: 2.5e-01 (0.5x greatest noise)",
        "row 1, position 1: 5.0e+01 (100x greatest noise)",
    ]
    assert [cell.title for cell in layers.cells] == [
        "embeddings, position 0: 5.0e-01 (1.0x greatest noise)",
        "embeddings, position 1: 5.0e+01 (100x greatest noise)",
    ]
    assert rows.description == "Greatest error by position; 1 of 4 cells are beyond noise."


# -- places


def test_rows_of_other_lengths_end_where_their_tokens_do() -> None:
    rows, layers = maps(grid([[1.0, 1.0, 1.0], [1.0]]))
    assert levels(rows) == [["3", "3", "3"], ["3"]]
    assert levels(layers) == [["3", "3", "3"]]
    assert [cell.y for cell in rows.cells] == [0.0, 0.0, 0.0, ROW]
    assert rows.cells[0].x == rows.cells[3].x == LEFT
    assert [label.text for label in rows.rows] == ["row 0", "row 1"]
    assert [label.text for label in rows.columns] == ["0", "1", "2"]


def test_the_layers_map_has_a_line_for_each_activation_with_the_worst_of_its_rows() -> None:
    _, layers = maps(
        grid([[0.05, 2.0], [0.2, 0.05]]),
        grid([[0.0, 0.0], [0.0, 700.0]], "layer.0", 10.0),
        grid([[1.0]], "pooler"),
    )
    assert levels(layers) == [["2", "4"], ["0", "6"]]
    assert [label.text for label in layers.rows] == ["embeddings", "layer.0"]


def test_cells_lie_side_by_side_without_holes_and_fill_the_width() -> None:
    rows, _ = maps(grid([[1.0] * 40]))
    for left, right in zip(rows.cells, rows.cells[1:], strict=False):
        assert right.x == pytest.approx(left.x + left.width, abs=0.02)
    assert rows.cells[-1].x + rows.cells[-1].width == pytest.approx(WIDTH, abs=0.3)


# -- folding


@pytest.mark.parametrize("bad", [100.0, INF, NAN])
@pytest.mark.parametrize("at", [0, 7, 8, 299, 511])
def test_a_bin_is_as_bad_as_its_worst_position(bad: float, at: int) -> None:
    row = [1.0] * 512
    row[at] = bad
    rows, layers = maps(grid([row]))
    for found in (rows, layers):
        assert len(found.cells) == MOST_COLUMNS
        (worst,) = [number for number, cell in enumerate(found.cells) if cell.level not in "3"]
        assert worst == at // 8
        assert f"positions {at // 8 * 8} to {at // 8 * 8 + 7}: " in found.cells[worst].title
        assert found.cells[worst].level == ("6" if bad == 100.0 else LOST)


@pytest.mark.parametrize("lost", [NAN, INF])
def test_in_a_bin_no_error_hides_what_is_no_number(lost: float) -> None:
    for pair in ([lost, 1e9], [1e9, lost]):
        rows, layers = maps(grid([[*pair, *[1.0] * 126]]))
        assert (rows.cells[0].level, layers.cells[0].level) == (LOST, LOST)


def test_the_last_bin_may_be_smaller() -> None:
    rows, _ = maps(grid([[1.0] * 65]))
    assert len(rows.cells) == 33
    assert rows.cells[-1].title.startswith("row 0, position 64: ")


@pytest.mark.parametrize("at", [0, 1, 57, 99])
def test_many_rows_share_lines_that_are_as_bad_as_their_worst(at: int) -> None:
    values = [[1.0] for _ in range(100)]
    values[at] = [NAN]
    rows, layers = maps(grid(values))
    assert len(rows.cells) == 34 <= MOST_ROWS
    assert [number for number, cell in enumerate(rows.cells) if cell.level == LOST] == [at // 3]
    assert rows.rows[0].text == "row 0 to row…"
    assert rows.cells[-1].title.startswith("row 99, position 0")
    assert [cell.level for cell in layers.cells] == [LOST]


def test_activations_of_other_noise_in_one_line_are_each_held_to_their_own() -> None:
    gaps = [grid([[5.0]], f"layer.{number}", 10.0 if number % 2 else 0.001) for number in range(2 * MOST_ROWS)]
    layers = maps(*gaps)[1]
    assert {cell.level for cell in layers.cells} == {"6"}
    assert len(layers.cells) == MOST_ROWS
    # Of few vectors 8 units pass, and of many they do not: the worse is not the one with more units.
    gaps = [
        grid([[7.0 if number % 2 else 8.0]], f"layer.{number}", vectors=100 if number % 2 else 1)
        for number in range(2 * MOST_ROWS)
    ]
    assert {cell.level for cell in maps(*gaps)[1].cells} == {"5"}


# -- what is shown


def test_the_first_map_is_of_the_first_activation_beyond_noise_else_of_the_worst() -> None:
    titles = [found.title for found in heat_maps(different().agreement, THRESHOLDS)]
    assert titles == [
        "Rows by positions: layer.3 (hard)",
        "Layers by positions: hard batch",
        "Rows by positions: layer.3 (text)",
        "Layers by positions: text batch",
    ]
    well = [gap("layer.0", factor=0.2), gap("layer.1", factor=1.2), gap("layer.2", factor=0.2)]
    assert heat_maps(well, THRESHOLDS)[0].title == "Rows by positions: layer.1 (hard)"


def test_nan_is_beyond_noise_in_the_description_too() -> None:
    found = heat_maps(non_finite().agreement, THRESHOLDS)
    assert found[0].title == "Rows by positions: layer.2 (hard)"
    bad = [cell for cell in found[0].cells if cell.level == LOST]
    assert len(bad) == 2
    assert found[0].description.startswith("Greatest error by position; 2 of ")


def test_what_has_no_positions_has_no_map() -> None:
    assert heat_maps([], THRESHOLDS) == []
    assert heat_maps([grid([]), grid([[], []])], THRESHOLDS) == []
    assert len(heat_maps([grid([]), grid([[1.0]], "layer.0")], THRESHOLDS)) == 2


def test_names_are_shortened_and_cannot_move_a_cursor() -> None:
    _, layers = maps(grid([[1.0]], HOSTILE))
    assert len(layers.rows[0].text) <= 13
    _, layers = maps(grid([[1.0]], "\x1b\u202e"))
    assert layers.rows[0].text.isprintable()


@given(ANY)
@settings(max_examples=50)
def test_any_outcome_is_drawn_within_the_maps(outcome: Outcome) -> None:
    for found in heat_maps(outcome.agreement, THRESHOLDS):
        assert found.cells
        for cell in found.cells:
            assert LEFT <= cell.x <= cell.x + cell.width <= WIDTH + 0.02
            assert 0 <= cell.y < found.height
            assert cell.level in (*"01234567", LOST)


def test_healthy_maps_have_no_cell_beyond_noise() -> None:
    for found in heat_maps(healthy().agreement, THRESHOLDS):
        assert {cell.level for cell in found.cells} <= set("01234")
