"""The report of a parity check as one HTML page that needs nothing else: no script, no font, no network."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interlingua.verify.pages import chart as parity_chart
from interlingua.verify.pages.chart import panels
from interlingua.verify.pages.environment import template
from interlingua.verify.pages.files import write_whole
from interlingua.verify.pages.heat import HeatMap, heat_maps
from interlingua.verify.pages.reading import (
    answers,
    comparisons,
    differing,
    distance,
    error,
    failing,
    lines,
    next_steps,
    percent,
    units,
    worst_elements,
)
from interlingua.verify.parity.outcome import BY_CONVENTION, SAME, Gap, Outcome, Side, Worst

TEMPLATE = "page.html"

MOST_ELEMENTS, FEW_ELEMENTS = 10, 3
"""Worst elements that are shown of a comparison that is beyond noise, and of one that is not."""

MOST_DIFFERENCES = 200
"""Tensors and sentences that are listed; the JSON form has all."""

MARKS = {SAME: ("same", "✓"), BY_CONVENTION: ("convention", "≈")}
"""Verdict -> how it looks: a class, and a sign beside its words."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table that has both sides side by side."""

    name: str
    a: str
    b: str
    differs: bool


def write_page(outcome: Outcome, path: Path) -> None:
    """Write the page; it appears whole, or what was there before stays.

    Raises:
        UsageError: Jinja2 is not installed.
        OutputError: it cannot be written.
    """
    write_whole(path, page(outcome).encode("utf-8"))


def page(outcome: Outcome) -> str:
    """Return the page's text.

    Raises:
        UsageError: Jinja2 is not installed.
    """
    functions = (units, error, percent, distance, failing)
    text: str = template(TEMPLATE, **{each.__name__: each for each in functions}).render(_context(outcome))
    return text


def _context(outcome: Outcome) -> dict[str, Any]:
    name, sign = MARKS.get(outcome.verdict, ("different", "✗"))
    return {
        "outcome": outcome,
        "verdict_class": name,
        "sign": sign,
        "answers": answers(outcome),
        "steps": next_steps(outcome),
        "lines": lines(outcome),
        "panels": panels(outcome),
        "plot": parity_chart,
        "heat": _heat(outcome),
        "worst": _worst(outcome),
        "tables": _tables(outcome),
        "most": MOST_DIFFERENCES,
    }


def _worst(outcome: Outcome) -> dict[str, list[tuple[Gap, Worst]]]:
    """Return the worst elements of each comparison, those first that are beyond noise."""
    well = {name: all(map(outcome.thresholds.allows, gaps)) for name, gaps in comparisons(outcome).items()}
    return {
        name: worst_elements(comparisons(outcome)[name], FEW_ELEMENTS if well[name] else MOST_ELEMENTS)
        for name in sorted(well, key=well.__getitem__)
    }


def _heat(outcome: Outcome) -> dict[str, list[HeatMap]]:
    """Return the maps of the comparison of both sides, and of each other one that is beyond noise."""
    found = comparisons(outcome)
    wanted = [name for name, gaps in found.items() if not all(map(outcome.thresholds.allows, gaps))]
    both = "A against B"
    names = dict.fromkeys([both, *wanted] if found[both] else wanted or found)
    return {name: heat_maps(found[name], outcome.thresholds) for name in names if found[name]}


# -- both sides


def _tables(outcome: Outcome) -> dict[str, list[Row]]:
    """Return what is known of both sides, by heading."""
    a, b = outcome.a, outcome.b
    return {
        "Checkpoint": _rows(_checkpoint(a), _checkpoint(b), MAY_DIFFER),
        "What ran": _rows(_run(a), _run(b), MAY_DIFFER),
        "Settings": _rows(a.settings, b.settings),
        "Configuration, as each system computes it": _rows(a.config, b.config),
        "Conventions of the forward pass": _rows(a.conventions, b.conventions),
    }


def _checkpoint(side: Side) -> dict[str, object]:
    return {
        "path": side.path,
        "dialect": side.dialect,
        "family": side.family,
        "container": side.container,
        "heads": ", ".join(side.heads) or "none",
        "fingerprint": side.fingerprint or "not computed",
    }


def _run(side: Side) -> dict[str, object]:
    who = "somebody else" if side.third_party else "this project"
    return {
        "reference": f"{side.reference} {side.version}".strip() or "none ran",
        "written by": who if side.reference else "",
        "framework": side.framework,
        "device": side.device,
        "element type": side.dtype,
        "time": f"{side.seconds:.1f} s",
        "could not run": "; ".join(f"{name}: {why}" for name, why in side.refused) or "none",
        "failure": side.failure or "none",
    }


MAY_DIFFER = frozenset(
    {"path", "dialect", "container", "reference", "written by", "framework", "time", "could not run"}
)
"""What two sides may well differ in: such a difference is not marked."""


def _rows(a: Mapping[str, object], b: Mapping[str, object], unmarked: Collection[str] = ()) -> list[Row]:
    return [
        Row(name, _text(ours), _text(theirs), differs and name not in unmarked)
        for name, ours, theirs, differs in differing(a, b)
    ]


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return "-"
    return json.dumps(value, ensure_ascii=False, default=str)
