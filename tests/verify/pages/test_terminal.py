"""What a parity check prints: the verdict first, folded while all is well, the same words with and without colours."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given, settings
from rich.console import Console

from interlingua.verify.pages.terminal import show_outcome
from interlingua.verify.parity.outcome import Outcome
from tests.verify.parity.outcomes import (
    ALL,
    ANY,
    NAMES,
    by_convention,
    crashed,
    different,
    healthy,
    hostile,
    non_finite,
)

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def printed(outcome: Outcome, width: int = 80, verbose: bool = False, terminal: bool = False) -> str:
    """Return what is printed of an outcome."""
    stream = io.StringIO()
    show_outcome(Console(file=stream, width=width, force_terminal=terminal, highlight=False), outcome, verbose)
    return stream.getvalue()


def line_of(text: str, start: str) -> str:
    """Return the one line that begins so."""
    (found,) = [line for line in text.splitlines() if line.startswith(start)]
    return " ".join(found.split())


@pytest.mark.parametrize("kind", ALL)
def test_the_first_line_is_the_verdict(kind: str) -> None:
    outcome = ALL[kind]()
    assert printed(outcome).splitlines()[0] == f"verdict: {outcome.verdict}"


def test_a_healthy_outcome_is_folded_and_verbose_unfolds_it() -> None:
    folded, whole = printed(healthy()), printed(healthy(), 120, verbose=True)
    assert not [line for line in folded.splitlines() if line.startswith("layer.")]
    assert len(folded.splitlines()) < 25
    for name in NAMES:
        for batch in ("hard", "text"):
            assert line_of(whole.partition("farthest")[0], f"{name} ({batch})").endswith(" ok")


def test_both_sides_say_what_they_are_and_what_ran() -> None:
    text = printed(healthy(), 200)
    assert "bert in hf (safetensors), pooler, masked lm, next sentence" in text
    assert "transformers.BertForPreTraining 5.23.0 on torch 2.13.0, AMD EPYC 7B13, float32" in text
    assert "own encoder 0.9.0 (written here) on paddle 3.3.1" in text
    assert "attention eager, tf32 off, threads 2" in text
    assert "ok  Are the weights the same, bit by bit? 107 tensors, nothing differs" in text


def test_a_layer_that_fails_says_so_and_those_before_it_do_not() -> None:
    text = printed(different())
    assert line_of(text, "layer.2 ").endswith(" ok")
    assert line_of(text, "layer.3 ").endswith(" FAIL A-B")
    assert "FAIL  Do A and B agree? 12 of 20 activations beyond noise" in text


def test_a_convention_is_no_failure_and_its_share_is_shown() -> None:
    text = printed(by_convention(), 120)
    assert "FAIL" not in text
    assert line_of(text, "layer.3 ").endswith(" convention")
    assert line_of(text, "LayerNorm") == "LayerNorm formula biased, inside unbiased, outside 3.1e-04 98.3%"
    assert "--strict" in text


def test_causes_weights_tokens_notes_and_the_command_are_shown() -> None:
    text = printed(different(), 200)
    assert "B's is A's transposed, bit by bit." in line_of(text, "untransposed")
    assert "147072 of 147456" in line_of(text, "encoder.layer.3")
    assert "101 4586 3062 102" in line_of(text, "Snow fell")
    assert "note: Both sides saw the same batches." in text
    assert "next: Put right the first cause" in text


def test_the_command_stays_on_one_line_so_that_it_can_be_copied() -> None:
    assert f"again: {healthy().command}" in printed(healthy(), 40).splitlines()


def test_a_side_that_died_is_a_failure_with_its_reason_and_what_was_tried() -> None:
    text = printed(crashed(), 200)
    assert "FAIL  Does B compute what its system promises? its process ended with signal SIGSEGV" in text
    assert "FAIL  Do A and B agree? nothing was compared" in text
    assert "refused: paddlenlp: No module named 'paddlenlp'" in text
    assert "next: Make B run" in text


def test_nan_is_never_within_noise() -> None:
    text = printed(non_finite())
    assert line_of(text, "layer.2 ").endswith("NaN/inf NaN/inf FAIL B A-B")
    assert "384 NaN or infinite numbers in layer.2 (hard)" in " ".join(text.split())


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("kind", ["healthy", "by convention", "different", "crashed", "non-finite"])
def test_nothing_is_wider_than_the_terminal_but_the_command(kind: str, width: int) -> None:
    for verbose in (False, True):
        lines = printed(ALL[kind](), width, verbose).splitlines()
        assert [line for line in lines if len(line) > width and not line.startswith("again: ")] == []


def test_narrow_tables_keep_their_figures_on_one_line() -> None:
    assert re.fullmatch(r"layer.3 +[\d.]+x \S+ +[\d.]+x \S+ +[\d,]+x \S+ +FAIL A-B *", rows(printed(different()))[4])


def rows(text: str) -> list[str]:
    """Return the lines of the table of activations."""
    return text.partition("activation ")[2].splitlines()[1:]


@pytest.mark.parametrize("kind", ALL)
def test_colours_say_nothing_that_words_do_not(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    coloured = printed(ALL[kind](), terminal=True)
    assert COLOUR.search(coloured)
    assert COLOUR.sub("", coloured) == printed(ALL[kind]())


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    codes = {code for found in COLOUR.findall(printed(different(), terminal=True)) for code in found[2:-1].split(";")}
    assert codes <= {"", "0", "1", "2"}, "more than bold and dim"


def test_a_name_in_a_file_moves_no_cursor() -> None:
    text = printed(hostile(), verbose=True)
    assert not {"\x1b", "\u202e"} & set(text)
    assert r"\x1b[31m\u202e" in text


@given(ANY)
@settings(max_examples=50)
def test_any_outcome_can_be_shown(outcome: Outcome) -> None:
    assert printed(outcome, verbose=True).startswith(f"verdict: {outcome.verdict}")
