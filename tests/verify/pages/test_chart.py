"""Charts: errors stand where a logarithmic axis has them, and none is lost, whatever number it is."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlingua.verify.pages.chart import (
    BEYOND,
    BOTTOM,
    EXPECTED,
    HEIGHT,
    LEFT,
    LOST,
    MOST_DECADES,
    RIGHT,
    TOP,
    WIDTH,
    WITHIN,
    Axis,
    Mark,
    Panel,
    panels,
    short,
)
from interlingua.verify.parity.outcome import Gap, Outcome, Thresholds
from tests.verify.parity.outcomes import ANY, HOSTILE, by_convention, crashed, different, gap, healthy, non_finite

FLOOR = HEIGHT - BOTTOM
NAN, INF = math.nan, math.inf
POSITIVE = st.floats(min_value=0, exclude_min=True, allow_infinity=False)


def alone(found: Gap, **more: Any) -> Panel:
    """Return the panel of one gap between A and B."""
    outcome = healthy()
    sides: dict[str, Any] = {"a": replace(outcome.a, gaps=()), "b": replace(outcome.b, gaps=())}
    (panel,) = panels(replace(outcome, agreement=(found,), **sides, **more))
    return panel


def corners(outline: str) -> list[tuple[float, float]]:
    """Return the places of an outline."""
    pairs = [pair.split(",") for pair in outline.split()]
    return [(float(x), float(y)) for x, y in pairs]


# -- the axis


def test_each_decade_is_as_high_as_the_next() -> None:
    axis = Axis(-8, 0)
    assert [axis.place(value) for value in (1e-8, 1e-4, 1.0)] == [FLOOR, round((FLOOR + TOP) / 2, 1), TOP]
    places = [axis.place(10.0**power) for power in range(-8, 1)]
    steps = [low - high for low, high in pairwise(places)]
    assert max(steps) - min(steps) < 0.21


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (0.0, FLOOR),
        (-0.0, FLOOR),
        (-1.0, FLOOR),
        (-INF, FLOOR),
        (5e-324, FLOOR),
        (1e-9, FLOOR),
        (1e300, TOP),
        (INF, TOP),
        (NAN, TOP),
    ],
)
def test_what_has_no_logarithm_stands_at_an_end(value: float, place: float) -> None:
    assert Axis(-8, 0).place(value) == place


@given(POSITIVE, POSITIVE, st.integers(-300, 290), st.integers(1, MOST_DECADES))
def test_a_greater_error_never_stands_lower(a: float, b: float, low: int, decades: int) -> None:
    axis = Axis(low, low + decades)
    assert axis.place(max(a, b)) <= axis.place(min(a, b))
    assert TOP <= axis.place(a) <= FLOOR


def test_powers_of_ten_are_marked_where_their_values_stand() -> None:
    axis = Axis(-3, 1)
    assert list(axis.marks()) == [Mark(axis.place(10.0**power), f"1e{power}") for power in range(-3, 2)]
    assert [mark.text for mark in Axis(-16, 0).marks()] == [f"1e{power}" for power in range(-16, 1, 3)]


def test_the_axis_holds_every_error_and_noise_of_all_panels() -> None:
    found = panels(healthy())
    assert len({panel.rows for panel in found}) == 1
    for panel in found:
        for point in panel.points:
            assert TOP < point.peak < point.y < FLOOR


def test_an_axis_without_any_number_is_one_all_the_same() -> None:
    panel = alone(replace(gap("pooler"), rms=0.0, max_abs=0.0, noise_rms=0.0, noise_max=0.0))
    assert panel.rows == tuple(Axis(-8, 0).marks())
    assert (panel.points[0].y, panel.points[0].peak, panel.points[0].kind) == (FLOOR, FLOOR, WITHIN)


@pytest.mark.parametrize("number", [NAN, INF, 1.7976931348623157e308])
def test_no_number_makes_an_axis_longer_than_the_paper(number: float) -> None:
    (*_, last) = alone(replace(gap("pooler"), rms=number, max_abs=number, noise_rms=5e-324)).rows
    assert len(alone(replace(gap("pooler"), rms=number, max_abs=number, noise_rms=5e-324)).rows) <= MOST_DECADES
    assert last.at >= TOP


# -- points


def test_a_point_stands_at_its_root_mean_square_and_its_greatest_element() -> None:
    noise: dict[str, Any] = {"noise_rms": 1e-4, "noise_max": 1e-3, "vectors": 100}
    panel = alone(replace(gap("pooler"), rms=1e-5, max_abs=1e-2, **noise))
    # From 1e-6, a decade below the least, to 1e-1, the next above the greatest.
    axis = Axis(-6, -1)
    (point,) = panel.points
    assert (point.x, point.y, point.peak) == ((LEFT + WIDTH - RIGHT) / 2, axis.place(1e-5), axis.place(1e-2))
    assert "pooler: root mean square 1.0e-05 (0.1x noise), at most 1.0e-02" in point.title
    assert corners(panel.peaks) == [(LEFT, axis.place(6e-3)), (WIDTH - RIGHT, axis.place(6e-3))]
    for outline, value in ((panel.noise, 1e-4), (panel.allowed, 3e-4)):
        y = axis.place(value)
        assert corners(outline) == [(LEFT, FLOOR), (LEFT, y), (WIDTH - RIGHT, y), (WIDTH - RIGHT, FLOOR)]


def test_points_go_from_left_to_right_in_the_order_of_the_forward_pass() -> None:
    for panel in panels(healthy()):
        places = [point.x for point in panel.points]
        assert places == sorted(set(places))
        assert places[0] > LEFT
        assert places[-1] < WIDTH - RIGHT
    assert [point.title.partition(":")[0] for point in panels(healthy())[0].points] == [
        found.name for found in healthy().agreement[:10]
    ]


def kinds(outcome: Outcome, title: str) -> list[str]:
    """Return the kinds of points in one panel."""
    (found,) = [panel for panel in panels(outcome) if panel.title == title]
    return [point.kind for point in found.points]


def test_an_error_beyond_noise_looks_otherwise_and_only_conventions_excuse_it() -> None:
    assert kinds(healthy(), "A against B, hard batch") == [WITHIN] * 10
    assert kinds(different(), "A against B, text batch") == [WITHIN] * 4 + [BEYOND] * 6
    assert kinds(by_convention(), "A against B, hard batch") == [EXPECTED] * 10
    # No convention excuses a side that is away from what its own system promises.
    outcome = by_convention()
    broken = replace(outcome, a=replace(outcome.a, gaps=outcome.agreement))
    assert kinds(broken, "A against its oracle, hard batch") == [BEYOND] * 10


def test_what_is_no_number_stands_at_the_top_and_is_said() -> None:
    (panel,) = [panel for panel in panels(non_finite()) if panel.title == "B against its oracle, text batch"]
    lost = [point for point in panel.points if point.kind == LOST]
    assert len(lost) == 7
    assert {(point.y, point.peak) for point in lost} == {(TOP, TOP)}
    assert all(point.title.endswith("; 384 NaN or infinite numbers") for point in lost)
    assert alone(replace(gap("pooler"), non_finite=1), verdict=by_convention().verdict).points[0].kind == LOST


def test_the_description_counts_what_is_beyond_noise_and_names_the_first() -> None:
    found = {panel.title: panel.description for panel in panels(different())}
    assert found["A against B, hard batch"].endswith("6 of 10 activations are beyond noise, the first is layer.3.")
    assert found["A against its oracle, hard batch"].endswith("0 of 10 activations are beyond noise.")


def test_there_is_a_panel_for_each_batch_of_each_comparison_that_there_is() -> None:
    assert [panel.title for panel in panels(healthy())] == [
        f"{name}, {batch} batch"
        for batch in ("hard", "text")
        for name in ("A against its oracle", "B against its oracle", "A against B")
    ]
    assert [panel.title for panel in panels(crashed())] == [
        "A against its oracle, hard batch",
        "A against its oracle, text batch",
    ]
    devices = replace(healthy(), devices={"A": (gap("pooler", "text"),)})
    assert panels(devices)[-1].title == "A on two devices, text batch"


# -- limits


@pytest.mark.parametrize("vectors", [31, 32])
def test_what_is_drawn_as_passing_passes(vectors: int) -> None:
    thresholds = Thresholds(3.0, 6.0, 1e-5, 1e-4)
    found = replace(gap("pooler"), noise_rms=1e-6, noise_max=1e-4, scale=0.1, vectors=vectors)
    wide = 2.0 if vectors < 32 else 1.0
    rms, peak = wide * 3e-6 + 2e-5, wide * 6e-4 + 2e-5
    for factor, kind in ((0.999, WITHIN), (1.001, BEYOND)):
        for one, other in ((factor, 0.9), (0.9, factor)):
            tried = replace(found, rms=rms * one, max_abs=peak * other)
            assert alone(tried, thresholds=thresholds).points[0].kind == kind
    panel = alone(replace(found, rms=rms, max_abs=peak), thresholds=thresholds)
    (point,) = panel.points
    assert min(y for _, y in corners(panel.allowed)) == point.y
    assert {y for _, y in corners(panel.peaks)} == {point.peak}


# -- names


def test_layers_are_numbered_and_all_else_is_named() -> None:
    (panel, *_) = panels(healthy())
    assert [(mark.text, mark.upright) for mark in panel.columns] == [
        ("embeddings", True),
        *((str(layer), False) for layer in range(6)),
        ("pooler", True),
        ("masked lm", True),
        ("next sentence", True),
    ]
    assert [mark.at for mark in panel.columns] == [point.x for point in panel.points]


def test_of_many_layers_some_numbers_are_left_out_and_no_point() -> None:
    gaps = tuple(replace(gap("pooler"), name=f"layer.{layer}") for layer in range(48))
    (panel, *_) = panels(replace(healthy(), agreement=gaps, a=replace(healthy().a, gaps=())))
    found = {panel.title: panel for panel in panels(replace(healthy(), agreement=gaps))}["A against B, hard batch"]
    assert len(found.points) == 48
    assert [mark.text for mark in found.columns] == [str(layer) for layer in range(0, 48, 3)]
    assert panel.columns


@pytest.mark.parametrize("name", ["layer.", "layer.²", "layer.-1", "layer.1.x", "layer." + "9" * 5000, HOSTILE])
def test_a_name_that_only_looks_like_a_layers_does_no_harm(name: str) -> None:
    panel = alone(replace(gap("pooler"), name=name))
    for mark in panel.columns:
        assert mark.text.isprintable()
        assert len(mark.text) <= 13


def test_names_are_shortened_to_the_room_there_is() -> None:
    assert short("pooler") == "pooler"
    assert short("next_sentence") == "next sentence"
    assert short("sequence_classification") == "sequence cla…"
    assert short("abcdefgh", 8) == "abcdefgh"
    assert short("abcdefghi", 8) == "abcdefg…"
    assert short("\x1b[31m") == r"\x1b[31m"


@given(ANY)
@settings(max_examples=50)
def test_any_outcome_is_drawn_within_the_panels(outcome: Outcome) -> None:
    for panel in panels(outcome):
        for point in panel.points:
            assert TOP <= point.y <= FLOOR
            assert TOP <= point.peak <= FLOOR
        for outline in (panel.noise, panel.allowed, panel.peaks):
            assert all(LEFT <= x <= WIDTH and TOP <= y <= FLOOR for x, y in corners(outline))
