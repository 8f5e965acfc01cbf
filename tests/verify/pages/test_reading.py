"""What an outcome means in words: each question answered by what was found, and nothing counted as a pass by chance."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from interlingua.verify.pages.reading import (
    CONVENTION,
    NO,
    UNASKED,
    YES,
    Answer,
    Line,
    about,
    answers,
    comparisons,
    differing,
    distance,
    error,
    failing,
    first_beyond,
    lines,
    merged,
    next_steps,
    percent,
    units,
    worst_elements,
    worst_of,
)
from interlingua.verify.parity.outcome import Outcome, Thresholds, Tokens, WeightsGate, Worst
from tests.verify.parity.outcomes import HF, by_convention, crashed, different, gap, healthy, non_finite

WEIGHTS, PROMISE_A, PROMISE_B, AGREE, TOKENS = range(5)
NAN, INF = math.nan, math.inf
THRESHOLDS = Thresholds()


def answer(outcome: Outcome, which: int) -> Answer:
    return answers(outcome)[which]


# -- questions


def test_each_question_is_asked_once_and_in_order() -> None:
    outcome = replace(healthy(), devices={"A": healthy().agreement})
    assert [(found.question, found.word) for found in answers(outcome)] == [
        ("Are the weights the same, bit by bit?", YES),
        ("Does A compute what its system promises?", YES),
        ("Does B compute what its system promises?", YES),
        ("Do A and B agree?", YES),
        ("Does A agree with itself on another device?", YES),
        ("Do both tokenise alike?", YES),
    ]


@pytest.mark.parametrize(
    ("gate", "word", "figures"),
    [
        (None, UNASKED, "a file of activations has no weights"),
        (WeightsGate(0), NO, "no tensor was compared"),
        (WeightsGate(9), YES, "9 tensors, nothing differs"),
        (WeightsGate(9, "float16"), YES, "9 tensors, nothing differs; one side is narrowed to float16"),
        (WeightsGate(9, folded=4), YES, "9 tensors, nothing differs; 4 gammas multiplied to preserve outputs"),
        (WeightsGate(9, differences=(("x", "values", ""),)), NO, "1 difference in 9 compared tensors"),
        (WeightsGate(0, differences=(("x", "only in A", ""),) * 2), NO, "2 differences in 0 compared tensors"),
    ],
)
def test_weights(gate: WeightsGate | None, word: str, figures: str) -> None:
    found = answer(replace(healthy(), weights=gate), WEIGHTS)
    assert (found.word, found.figures) == (word, figures)


@pytest.mark.parametrize(
    ("tokens", "word", "figures"),
    [
        (Tokens(), UNASKED, "no sentence was tokenised"),
        (Tokens(8), YES, "8 sentences, the same ids"),
        (Tokens(8, problem="A has no vocabulary."), UNASKED, "A has no vocabulary."),
        (Tokens(8, (("x", (1,), (2,)),)), NO, "other ids in 1 of 8 sentences"),
    ],
)
def test_tokens(tokens: Tokens, word: str, figures: str) -> None:
    found = answer(replace(healthy(), tokens=tokens), TOKENS)
    assert (found.word, found.figures) == (word, figures)


def test_nothing_compared_is_no_pass_of_anything() -> None:
    outcome = healthy()
    empty = replace(
        outcome, a=replace(outcome.a, gaps=()), b=replace(outcome.b, gaps=()), agreement=(), devices={"A": ()}
    )
    for which in (PROMISE_A, PROMISE_B, AGREE, AGREE + 1):
        assert (answer(empty, which).word, answer(empty, which).figures) == (NO, "nothing was compared")


def test_an_activation_without_elements_is_no_pass() -> None:
    outcome = healthy()
    absent = replace(outcome.agreement[0], elements=0)
    found = answer(replace(outcome, agreement=(absent, *outcome.agreement[1:])), AGREE)
    assert found.word == NO
    assert found.figures.startswith("1 of 20 activations beyond noise")


def test_a_side_that_died_fails_its_own_question_and_no_other_sides() -> None:
    outcome = crashed()
    assert answer(outcome, PROMISE_A).word == YES
    assert answer(outcome, PROMISE_B) == Answer("Does B compute what its system promises?", NO, str(outcome.b.failure))


def test_a_convention_explains_outputs_that_differ_and_nothing_else() -> None:
    outcome = by_convention()
    assert answer(outcome, AGREE).word == CONVENTION
    assert answer(different(), AGREE).word == NO
    broken = replace(outcome, a=replace(outcome.a, gaps=outcome.agreement))
    assert answer(broken, PROMISE_A).word == NO
    assert answer(replace(outcome, agreement=healthy().agreement), AGREE).word == YES


def test_the_worst_activation_is_named_with_its_figures() -> None:
    bad = replace(gap("layer.2", "text"), rms=4e-3, noise_rms=1e-6, max_abs=0.25)
    outcome = replace(healthy(), agreement=(*healthy().agreement, bad))
    assert answer(outcome, AGREE).figures == (
        "1 of 21 activations beyond noise; worst layer.2 (text): 4,000x noise, 2.5e-01 at most"
    )


def test_nan_is_counted_before_any_error_however_large() -> None:
    far = replace(gap("layer.1"), rms=1e9)
    lost = replace(gap("layer.4"), non_finite=5)
    found = answer(replace(healthy(), agreement=(far, lost)), AGREE)
    assert found.figures == "2 of 2 activations beyond noise; 5 NaN or infinite numbers in layer.4 (hard)"


# -- lines


def test_each_comparison_stands_in_its_own_column() -> None:
    outcome = healthy()
    found = lines(outcome)
    assert [(line.batch, line.name) for line in found] == [(each.batch, each.name) for each in outcome.agreement]
    for line, a, b, both in zip(found, outcome.a.gaps, outcome.b.gaps, outcome.agreement, strict=True):
        assert (line.a, line.b, line.both) == (a, b, both)
    assert list(comparisons(outcome).values()) == [outcome.a.gaps, outcome.b.gaps, outcome.agreement]
    devices = replace(outcome, devices={"B": outcome.agreement[:1]})
    assert comparisons(devices)["B on two devices"] == outcome.agreement[:1]


def test_what_one_comparison_has_alone_is_a_line_all_the_same() -> None:
    outcome = healthy()
    head = replace(gap("pooler"), name="span_qa")
    found = lines(replace(outcome, b=replace(outcome.b, gaps=(head,)), agreement=()))
    assert len(found) == len(outcome.a.gaps) + 1
    assert (found[-1].name, found[-1].a, found[-1].b, found[-1].both) == ("span_qa", None, head, None)
    assert {(line.b, line.both) for line in found[:-1]} == {(None, None)}


def test_a_merged_line_has_the_worst_of_its_batches_in_each_column() -> None:
    good, bad = gap("pooler", "hard"), gap("pooler", "text", factor=50.0)
    lost = replace(good, non_finite=1)
    found = merged([Line("hard", "pooler", bad, good, None), Line("text", "pooler", good, lost, None)], THRESHOLDS)
    assert found == [Line("hard, text", "pooler", bad, lost, None)]


def test_a_line_says_which_comparisons_fail() -> None:
    good, bad = gap("pooler"), gap("pooler", factor=50.0)
    assert failing(Line("hard", "pooler", good, good, good), healthy()) == []
    assert failing(Line("hard", "pooler", None, None, None), healthy()) == []
    assert failing(Line("hard", "pooler", bad, good, good), healthy()) == ["A"]
    assert failing(Line("hard", "pooler", good, bad, bad), healthy()) == ["B", "A-B"]


def test_the_worst_is_that_beyond_noise_then_that_with_nan_then_that_farthest_off() -> None:
    near, far, lost = gap("pooler", factor=0.1), gap("layer.0", factor=40.0), replace(gap("layer.1"), non_finite=1)
    undefined = replace(gap("layer.2"), rms=NAN)
    assert worst_of((near, far), THRESHOLDS) is far
    assert worst_of((lost, far, near), THRESHOLDS) is lost
    assert worst_of((far, undefined), THRESHOLDS) is undefined
    # Allowed by an absolute slack, it is not worse than what nothing allows.
    slack = Thresholds(atol=1.0)
    small = replace(gap("pooler", factor=1.1), non_finite=1)
    assert worst_of((far, small), slack) is small


def test_the_first_beyond_noise_is_that_of_the_forward_pass() -> None:
    assert first_beyond(healthy().agreement, THRESHOLDS) is None
    found = first_beyond(different().agreement, THRESHOLDS)
    assert found is not None
    assert (found.name, found.batch) == ("layer.3", "hard")


def test_elements_are_ordered_by_noise_and_nan_comes_first() -> None:
    quiet = replace(gap("pooler"), noise_max=1.0, worst=(Worst(0, 0, 0, 3.0, 0.0), Worst(0, 0, 1, -2.0, 0.0)))
    loud = replace(gap("layer.0"), noise_max=100.0, worst=(Worst(1, 0, 0, 50.0, 0.0), Worst(1, 0, 1, NAN, 0.0)))
    found = [element.value for _, element in worst_elements((quiet, loud), 9)]
    assert math.isnan(found[0])
    assert found[1:] == [3.0, -2.0, 50.0]
    assert len(worst_elements((quiet, loud), 2)) == 2


@pytest.mark.parametrize(
    ("value", "expected", "noise", "wanted"),
    [(1.0, 3.0, 0.5, 4.0), (3.0, 1.0, 0.5, 4.0), (1.0, 1.0, 0.0, 0.0), (1.0, 2.0, 0.0, INF)],
)
def test_distance_is_in_units_of_the_greatest_noise(value: float, expected: float, noise: float, wanted: float) -> None:
    assert distance(replace(gap("pooler"), noise_max=noise), Worst(0, 0, 0, value, expected)) == wanted


# -- sentences


def test_a_side_says_what_it_is_and_who_wrote_what_ran() -> None:
    assert list(about(HF)) == [
        "bert in hf (safetensors), pooler, masked lm, next sentence",
        "transformers.BertForPreTraining 5.23.0 on torch 2.13.0, AMD EPYC 7B13, float32",
        "attention eager, tf32 off, threads 2",
    ]
    ours = list(about(replace(HF, third_party=False, settings={}, heads=())))
    assert ours[0].endswith("(safetensors), no heads")
    assert "(written here)" in ours[1]
    assert len(ours) == 2
    assert list(about(replace(HF, family="", failure="it died", settings={}))) == [
        "safetensors",
        "did not run to its end",
    ]


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (healthy(), []),
        (by_convention(), ["--strict makes it a failure"]),
        (crashed(), ["Make B run"]),
        (non_finite(), ["Look for NaN and infinities"]),
        (different(), ["Compare the weights", "Compare the vocabularies", "Put right the first cause"]),
        (
            replace(different(), weights=WeightsGate(1), tokens=Tokens(1), causes=()),
            ["Run it again with --verbose"],
        ),
    ],
)
def test_next_steps_follow_from_what_was_found(outcome: Outcome, words: list[str]) -> None:
    found = next_steps(outcome)
    assert len(found) == len(words)
    for step, wanted in zip(found, words, strict=True):
        assert wanted in step


# -- figures


@pytest.mark.parametrize(
    ("number", "wanted"),
    [
        (0.0, "0.0x"),
        (1.25, "1.2x"),
        (99.94, "99.9x"),
        (100.0, "100x"),
        (1234.5, "1,234x"),
        (2.5e6, "2e+06x"),
        (-2.0, "-2.0x"),
        (INF, "inf"),
        (-INF, "inf"),
        (NAN, "nan"),
    ],
)
def test_units_of_noise(number: float, wanted: str) -> None:
    assert units(number) == wanted


def test_errors_and_shares() -> None:
    assert [error(number) for number in (0.0, 3.14e-7, INF, NAN)] == ["0", "3.1e-07", "inf", "nan"]
    assert [percent(share) for share in (0.983, -0.02, NAN, INF)] == ["98.3%", "-2.0%", "nan", "nan"]


def test_keys_of_both_sides_stand_beside_each_other_and_say_whether_they_differ() -> None:
    assert differing({"x": 1, "y": None, "z": [1]}, {"z": [1], "x": 2, "w": 0}) == [
        ("x", 1, 2, True),
        ("y", None, None, False),
        ("z", [1], [1], False),
        ("w", None, 0, True),
    ]
