"""Where two systems compute differently from the same weights."""

from __future__ import annotations

from interlingua.mappings.conventions import CANONICAL, Conventions, computed_eps, differences
from interlingua.mappings.registry import DIALECTS


def conventions(layer_norm: str = CANONICAL, epsilon: float | None = None) -> Conventions:
    return Conventions(layer_norm, epsilon, "a test")


def test_equal_conventions_say_nothing() -> None:
    assert differences(conventions(), conventions(), 1e-12, 1e-12) == ()


def test_another_epsilon_is_told_with_both_values() -> None:
    (sentence,) = differences(conventions(), conventions(epsilon=1e-7), 1e-12, 1e-7)
    assert "1e-12 in the source's" in sentence
    assert "1e-07 in the target's" in sentence


def test_another_layer_norm_is_told_whatever_the_epsilon() -> None:
    (sentence,) = differences(conventions(), conventions("unbiased, outside", 1e-6), 1e-6, 1e-6)
    assert "with the biased variance and epsilon inside the root in the source's" in sentence
    assert "with the unbiased variance and epsilon outside the root in the target's" in sentence


def test_transformers_and_uer_differ() -> None:
    hf, uer = DIALECTS["hf"].tables["bert"].conventions, DIALECTS["uer"].tables["bert"].conventions
    assert len(differences(hf, uer, 1e-12, 1e-6)) == len(differences(uer, hf, 1e-6, 1e-12)) == 1
    assert differences(hf, hf, 1e-12, 1e-12) == differences(uer, uer, 1e-6, 1e-6) == ()


def test_a_fixed_epsilon_goes_before_a_stated_one_and_that_before_silence() -> None:
    assert computed_eps(conventions(epsilon=1e-7), 1e-5, 1e-12) == 1e-7
    assert computed_eps(conventions(), 1e-5, 1e-12) == 1e-5
    assert computed_eps(conventions(), None, 1e-12) == 1e-12
    successor = DIALECTS["tencentpretrain"].tables["bert"].conventions
    assert computed_eps(successor, 1e-5, 1e-12) == 1e-5
    assert computed_eps(successor, None, 1e-12) == 1e-6
