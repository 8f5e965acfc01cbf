"""What a parity check prints: the verdict first, folded while all is well, the same words with and without colours."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from rich.console import Console

from interlingua.verify.pages.terminal import show_outcome
from interlingua.verify.parity.outcome import Outcome, Tokens, WeightsGate
from interlingua.verify.report import MOST
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


def test_a_broken_side_stays_a_failure_where_outputs_differ_by_convention() -> None:
    outcome = by_convention()
    broken = replace(outcome, b=replace(outcome.b, gaps=outcome.agreement))
    assert line_of(printed(broken, 120), "layer.3 ").endswith(" FAIL B A-B")
    alone = replace(broken, agreement=healthy().agreement)
    assert line_of(printed(alone, 120), "layer.3 ").endswith(" FAIL B")


def test_a_difference_that_no_convention_explains_is_a_failure_in_every_line() -> None:
    assert "convention" not in rows(printed(different()))[4]


def test_of_one_batch_lines_do_not_repeat_its_name() -> None:
    outcome = healthy()
    hard = {
        side: replace(getattr(outcome, side), gaps=tuple(gap for gap in outcome.a.gaps if gap.batch == "hard"))
        for side in ("a", "b")
    }
    agreement = tuple(gap for gap in outcome.agreement if gap.batch == "hard")
    text = printed(replace(outcome, agreement=agreement, **hard), 120, verbose=True)
    found = line_of(text.partition("farthest")[0], "pooler ")
    assert found.endswith(" ok")
    assert "(hard)" not in found
    assert "the worst of all batches" not in text
    assert "the worst of all batches" in printed(different(), 120)


@pytest.mark.parametrize(("more", "rest"), [(0, None), (1, "... and 1 more (--json lists them)")])
def test_of_many_differences_some_are_listed_and_the_others_counted(more: int, rest: str | None) -> None:
    number = MOST + more
    names = [f"tensor.{letter}{number}" for number, letter in enumerate("abcdefghijklmnopqrstuvwxyz"[:number])]
    gate = WeightsGate(99, differences=tuple((name, "values", "1 element") for name in names))
    tokens = Tokens(99, tuple((f"sentence {name}", (1,), (2,)) for name in names))
    for outcome in (
        replace(different(), weights=gate, tokens=Tokens(1)),
        replace(different(), weights=WeightsGate(1), tokens=tokens),
    ):
        text = printed(outcome, 200)
        assert [name for name in names if name in text] == names[:MOST]
        assert [line for line in text.splitlines() if line.startswith("... and")] == ([rest] if rest else [])


def test_ids_and_values_stand_under_the_side_that_they_are_of() -> None:
    text = printed(different(), 200, verbose=True)
    assert line_of(text, "Snow fell") == "Snow fell on the harbour. 101 4586 3062 102 102 4586 3062 101"
    outcome = healthy()
    (far, *_) = outcome.agreement[0].worst
    gap = replace(outcome.agreement[0], worst=(replace(far, row=2, position=5, feature=9, value=1.5, expected=-0.25),))
    found = printed(replace(outcome, agreement=(gap,)), 200, verbose=True).partition("farthest element")[2]
    assert line_of(found, "embeddings (hard)") == "embeddings (hard) 2 5 9 1.5 -0.25"


def test_verbose_says_all_of_a_side_and_else_what_matters() -> None:
    whole, short = printed(by_convention(), 200, verbose=True), printed(by_convention(), 200)
    for words in ("fingerprint 6d1c", "4.2 s", "refused: uer: the package uer is not installed"):
        assert words in whole
        assert words not in short


def test_a_name_in_a_file_moves_no_cursor() -> None:
    text = printed(hostile(), verbose=True)
    assert not {"\x1b", "\u202e"} & set(text)
    assert r"\x1b[31m\u202e" in text


@given(ANY)
@settings(max_examples=50)
def test_any_outcome_can_be_shown(outcome: Outcome) -> None:
    assert printed(outcome, verbose=True).startswith(f"verdict: {outcome.verdict}")
