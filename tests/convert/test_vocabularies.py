"""Vocabularies: their forms, and what they tell."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlingua.convert.vocabularies import is_text, parse_vocabulary, read_vocabulary
from interlingua.mappings.dialect import LINES, NUMBERED

TOKENS = st.text(st.characters(codec="utf-8", exclude_characters="\n\t\r"), min_size=1)


def a_file(folder: Path, content: bytes) -> Path:
    path = folder / "vocab.txt"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", 0),
        (b"\n", 1),
        (b"a", 1),
        (b"a\n", 1),
        (b"a\nb", 2),
        (b"a\r\nb\r\n", 2),
        (b"a\n\nb\n", 3),
        (b"\xef\xbb\xbfa\n", 1),
        # What else Python takes for the end of a line may stand in a vocabulary as a token.
        ("a\u2028b\x85c\x0bd\x1ce\n".encode(), 1),
        (b"a\rb\n", 1),
    ],
)
def test_entries_of_a_vocabulary(tmp_path: Path, content: bytes, lines: int) -> None:
    assert len(read_vocabulary(a_file(tmp_path, content)).tokens) == lines


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n")), min_size=1))
def test_every_token_is_an_entry(tmp_path_factory, tokens: list[str]) -> None:
    path = a_file(tmp_path_factory.mktemp("vocab"), "".join(f"{token}\n" for token in tokens).encode())
    assert len(read_vocabulary(path).tokens) == len(tokens)


@given(st.lists(TOKENS, min_size=1), st.sampled_from([LINES, NUMBERED]))
def test_every_form_gives_the_same_tokens(tokens: list[str], form: str) -> None:
    spelled = parse_vocabulary("".join(f"{token}\n" for token in tokens)).spell(form)
    found = parse_vocabulary(spelled)
    assert (found.tokens, found.form) == (tuple(tokens), form)


def test_a_numbered_vocabulary_is_that_of_ernie() -> None:
    found = parse_vocabulary("[PAD]\t0\n[CLS]\t1\n的\t2\n")
    assert (found.tokens, found.form) == (("[PAD]", "[CLS]", "的"), NUMBERED)


def test_tabs_that_no_number_follows_belong_to_the_token() -> None:
    assert parse_vocabulary("a\tb\nc\t1\n").tokens == ("a\tb", "c\t1")
    assert parse_vocabulary("a\t1\nb\t0\n").form == LINES


@pytest.mark.parametrize(
    ("tokens", "row"), [(["[UNK]", "[PAD]"], 1), (["<s>", "<pad>"], 1), (["[PAD]"], 0), (["a", "b"], None)]
)
def test_the_padding_row_is_where_the_token_stands(tokens: list[str], row: int | None) -> None:
    assert parse_vocabulary("\n".join(tokens)).padding == row


@pytest.mark.parametrize(
    ("tokens", "lower"),
    [(["[CLS]", "the", "##s"], True), (["[CLS]", "The"], False), (["<S>", "的", "é"], True), (["##S"], False)],
)
def test_texts_are_lower_cased_for_a_vocabulary_without_capitals(tokens: list[str], lower: bool) -> None:
    assert parse_vocabulary("\n".join(tokens)).lower_case is lower


def test_a_sentencepiece_model_is_no_list_of_tokens() -> None:
    assert is_text(Path("vocab.txt"))
    assert not is_text(Path("spiece.model"))
    assert not is_text(Path("vocabulary.spm"))
