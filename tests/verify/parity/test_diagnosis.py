"""Causes are looked for where something is wrong, on the side that is wrong, and nowhere else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from interlingua.verify.parity import diagnosis
from interlingua.verify.parity.batch import Batch
from interlingua.verify.parity.comparison import Subject
from interlingua.verify.parity.diagnosis import diagnose
from interlingua.verify.parity.outcome import BY_CONVENTION, DIFFERENT, SAME, Cause, Outcome, WeightsGate
from interlingua.verify.parity.side import Opened
from tests.verify.parity.outcomes import different, healthy

BATCH = cast("Batch", SimpleNamespace(name="hard"))
TEXT = cast("Batch", SimpleNamespace(name="text"))
SIDES = {label: cast("Opened", SimpleNamespace(label=label)) for label in "AB"}
SUBJECTS = [
    Subject(label, {}, lambda name: None, cast("Any", SimpleNamespace(heads=("pooler", "masked_lm")))) for label in "AB"
]
FAULTY = WeightsGate(3, differences=(("x", "values", ""),))


@pytest.fixture(autouse=True)
def found(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What each way of looking finds: by default a cause named after itself and the side that it looked at."""
    kept: dict[str, Any] = {"layers": True, "dtypes": []}

    def weights(gate: WeightsGate, a: Any, b: Any) -> tuple[Cause, ...]:
        return (Cause("weights", f"{a.label}, {b.label}", str(len(gate.differences))),)

    def forward(subject: Subject, batch: Batch, arithmetic: Any, thresholds: Any) -> tuple[Cause, ...]:
        kept["dtypes"].append(arithmetic.name)
        return (Cause("forward", subject.label, batch.name),) if kept["layers"] else ()

    def heads(subject: Subject, names: list[str], batch: Batch, arithmetic: Any, thresholds: Any) -> tuple[Cause, ...]:
        return (Cause("heads", subject.label, " ".join(names)),)

    monkeypatch.setattr(diagnosis, "weight_causes", weights)
    monkeypatch.setattr(diagnosis, "forward_causes", forward)
    monkeypatch.setattr(diagnosis, "head_causes", heads)
    return kept


def causes(outcome: Outcome, sides: Mapping[str, Opened] = SIDES) -> list[tuple[str, str, str]]:
    """Return the causes of an outcome."""
    return [(each.name, each.where, each.evidence) for each in diagnose(outcome, sides, SUBJECTS, [BATCH, TEXT])]


def with_gap(label: str, **change: Any) -> Outcome:
    """Return an outcome that is different for one changed gap of one side."""
    outcome = replace(healthy(), verdict=DIFFERENT)
    side = {"A": outcome.a, "B": outcome.b}[label]
    name = change.pop("name", "pooler")
    batch = change.pop("batch", "hard")
    gaps = tuple(replace(each, **change) if (each.name, each.batch) == (name, batch) else each for each in side.gaps)
    return replace(outcome, **{label.lower(): replace(side, gaps=gaps)})


@pytest.mark.parametrize("verdict", [SAME, BY_CONVENTION])
def test_what_is_one_model_has_no_cause(verdict: str) -> None:
    assert causes(replace(different(), verdict=verdict, weights=FAULTY)) == []


def test_weights_that_differ_are_looked_into_first_as_to_b() -> None:
    outcome = replace(with_gap("B", rms=1.0), weights=FAULTY)
    assert causes(outcome) == [("weights", "A, B", "1"), ("forward", "B", "hard")]


def test_weights_are_not_looked_into_where_they_are_the_same_or_one_side_has_none() -> None:
    assert causes(replace(healthy(), verdict=DIFFERENT)) == []
    assert causes(replace(healthy(), verdict=DIFFERENT, weights=None)) == []
    assert causes(replace(healthy(), verdict=DIFFERENT, weights=FAULTY), {"A": SIDES["A"]}) == []


@pytest.mark.parametrize("label", ["A", "B"])
def test_a_side_beyond_its_noise_is_looked_into_and_the_other_is_not(label: str) -> None:
    assert causes(with_gap(label, rms=1.0)) == [("forward", label, "hard")]


@pytest.mark.parametrize("label", ["A", "B"])
def test_heads_are_looked_into_where_no_layer_tells(found: dict[str, Any], label: str) -> None:
    found["layers"] = False
    assert causes(with_gap(label, rms=1.0, name="masked_lm")) == [("heads", label, "masked_lm")]
    assert causes(with_gap(label, rms=1.0, name="layer.1")) == [("heads", label, "")]


@pytest.mark.parametrize("bad", [{"non_finite": 3}, {"non_finite": 1, "rms": math.nan}])
@pytest.mark.parametrize("batch", ["hard", "text"])
def test_the_first_nan_of_any_batch_is_the_cause_and_nothing_is_looked_for_behind_it(
    bad: dict[str, Any], batch: str
) -> None:
    assert [cause[:2] for cause in causes(with_gap("B", name="layer.2", batch=batch, **bad))] == [
        ("not finite", "side B, layer.2")
    ]


def test_what_was_not_computed_is_no_error_of_a_layer() -> None:
    assert causes(with_gap("A", elements=0)) == []


def test_only_the_hard_batch_is_looked_into() -> None:
    assert causes(with_gap("A", batch="text", rms=1.0)) == []


def test_each_side_is_looked_into_in_its_own_element_type(found: dict[str, Any]) -> None:
    outcome = with_gap("B", rms=1.0)
    causes(replace(outcome, b=replace(outcome.b, dtype="bfloat16")))
    assert found["dtypes"] == ["bfloat16"]
