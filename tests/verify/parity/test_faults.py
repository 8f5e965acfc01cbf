"""Every fault that conversion scripts make is caught and named; no right conversion is called different."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pytest

from benchmarks.families import realistic, write_model
from benchmarks.faults import FAULTS, HEADS, Fault, InProcess, break_it, causes_of, convert, healthy, run_check
from interlingua.mappings.schema import FAMILIES, Family
from interlingua.verify.parity.outcome import DIFFERENT

pytest.importorskip("torch")
pytest.importorskip("scipy")

FIXED = frozenset({"ernie-gram", "distilbert"})
"""Families whose epsilon no configuration decides."""

NO_POOLER = frozenset({"roberta", "xlm-roberta", "electra", "distilbert"})
"""Families whose model of these tests has no pooler."""

IMPOSSIBLE = {
    "two layers exchanged": frozenset({"albert"}),
    "segment rows shifted by one": frozenset({"distilbert"}),
    "positions shifted by two": frozenset({"nezha"}),
    "positions beyond row 10 zeroed": frozenset({"nezha"}),
    "decoder untied": frozenset({"ernie-gram"}),
    "pooler missing": NO_POOLER,
    "epsilon 1e-5 for 1e-12": FIXED,
    "epsilon 1e-7 for 1e-12": FIXED,
    "gelu by tanh": frozenset({"ernie-gram"}),
}
"""Fault -> families to whose models it cannot happen: they have no such tensor, or no such value."""


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory):
    @lru_cache(None)
    def made(family: str) -> Path:
        folder = tmp_path_factory.mktemp("faults") / "model"
        return write_model(folder, FAMILIES[family], HEADS[family], 7, draw=realistic)

    return made


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_a_fault_is_caught_and_its_cause_named(models, tmp_path: Path, family: Family, fault: Fault) -> None:
    source = models(family.name)
    target = convert(source, tmp_path / "model", family, fault)
    assert break_it(target, fault) == (family.name not in IMPOSSIBLE.get(fault.name, ()))
    outcome = run_check(source, target, family.name, InProcess())
    if family.name in IMPOSSIBLE.get(fault.name, ()):
        assert outcome.exit_code() == 0
    else:
        assert outcome.verdict == DIFFERENT
        assert fault.cause in causes_of(outcome)


@pytest.mark.parametrize("seed", range(5))
def test_no_right_conversion_is_called_different(seed: int) -> None:
    checked = list(healthy(8, 1000 * seed + 17))
    assert len(checked) == 8
    assert {case.words: case.outcome.reasons for case in checked if case.outcome.verdict == DIFFERENT} == {}
