"""The verdict: what makes two sides different, and that nothing else does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from interlingua.verify.parity.judgement import judge
from interlingua.verify.parity.outcome import (
    BY_CONVENTION,
    DIFFERENT,
    SAME,
    Cause,
    Gap,
    Outcome,
    Share,
    Thresholds,
    WeightsGate,
)
from tests.verify.parity.outcomes import healthy

FAR = 1e3


def worse(gap: Gap, factor: float) -> Gap:
    return replace(gap, rms=gap.noise_rms * factor, max_abs=gap.noise_max * factor)


@pytest.fixture
def outcome() -> Outcome:
    found = judge(healthy())
    assert found.verdict == SAME, found.reasons
    return found


def test_a_healthy_outcome_needs_no_reasons(outcome: Outcome) -> None:
    assert outcome.reasons == ()
    assert outcome.exit_code(strict=True) == 0


def test_outputs_that_differ_need_a_convention(outcome: Outcome) -> None:
    apart = replace(outcome, agreement=tuple(worse(gap, FAR) for gap in outcome.agreement))
    assert judge(replace(apart, shares=())).verdict == DIFFERENT
    shared = judge(replace(apart, shares=(Share("epsilon", "1e-12", "1e-05", 1e-3, 1.0),)))
    assert shared.verdict == BY_CONVENTION
    assert (shared.exit_code(), shared.exit_code(strict=True)) == (0, 1)


@pytest.mark.parametrize("label", ["a", "b"])
def test_a_side_beyond_its_own_noise_is_different_though_both_agree(outcome: Outcome, label: str) -> None:
    side = getattr(outcome, label)
    found = judge(replace(outcome, **{label: replace(side, gaps=(worse(side.gaps[0], FAR), *side.gaps[1:]))}))
    assert found.verdict == DIFFERENT
    assert side.gaps[0].name in found.reasons[0]


@pytest.mark.parametrize("label", ["a", "b"])
@pytest.mark.parametrize("change", [{"failure": "it died of SIGSEGV"}, {"gaps": ()}])
def test_a_side_that_did_not_run_is_no_pass(outcome: Outcome, label: str, change: dict[str, object]) -> None:
    assert judge(replace(outcome, **{label: replace(getattr(outcome, label), **change)})).verdict == DIFFERENT


def test_no_comparison_is_no_pass(outcome: Outcome) -> None:
    assert judge(replace(outcome, agreement=())).verdict == DIFFERENT
    assert judge(replace(outcome, weights=WeightsGate(0))).verdict == DIFFERENT
    absent = replace(outcome.agreement[0], elements=0)
    assert judge(replace(outcome, agreement=(absent, *outcome.agreement[1:]))).verdict == DIFFERENT


def test_weights_and_faults_decide_whatever_the_outputs_say(outcome: Outcome) -> None:
    gate = WeightsGate(10, differences=(("pooler.dense.bias", "values", "1 element"),))
    assert judge(replace(outcome, weights=gate)).verdict == DIFFERENT
    assert judge(replace(outcome, faults=(Cause("epsilon", "B's configuration", "1e-5"),))).verdict == DIFFERENT


def test_other_ids_for_the_same_text_are_a_difference(outcome: Outcome) -> None:
    tokens = replace(outcome.tokens, compared=2, differences=(("a", (1,), (2,)),), problem=None)
    assert judge(replace(outcome, tokens=tokens)).verdict == DIFFERENT


def test_a_number_that_is_not_finite_is_a_difference(outcome: Outcome) -> None:
    gaps = (replace(outcome.a.gaps[0], non_finite=1), *outcome.a.gaps[1:])
    found = judge(replace(outcome, a=replace(outcome.a, gaps=gaps)), Thresholds(atol=1e9))
    assert found.verdict == DIFFERENT


def test_stored_results_are_judged_again_by_other_thresholds(outcome: Outcome) -> None:
    gaps = tuple(worse(gap, 2.5) for gap in outcome.a.gaps)
    apart = replace(outcome, a=replace(outcome.a, gaps=gaps))
    assert judge(apart).verdict == SAME
    strict = judge(apart, Thresholds(rms=0.5, peak=0.5))
    assert strict.verdict == DIFFERENT
    assert judge(strict, Thresholds()).verdict == SAME


def test_cosine_decides_nothing(outcome: Outcome) -> None:
    gaps = tuple(replace(gap, cosine=-1.0) for gap in outcome.agreement)
    assert judge(replace(outcome, agreement=gaps)).verdict == SAME


def test_devices_are_held_to_noise_too(outcome: Outcome) -> None:
    far = tuple(worse(gap, FAR) for gap in outcome.agreement)
    assert judge(replace(outcome, devices={"A": outcome.agreement})).verdict == SAME
    assert judge(replace(outcome, devices={"A": far})).verdict == DIFFERENT
