"""Vocabularies: their forms, and what they tell."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlingua.convert.vocabularies import is_text, parse_vocabulary, read_vocabulary
from interlingua.errors import FormatError
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


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\t")), min_size=1))
def test_every_token_is_an_entry(tmp_path_factory: pytest.TempPathFactory, tokens: list[str]) -> None:
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
    assert parse_vocabulary("a\t1\nb\n").form == LINES


@given(st.lists(TOKENS, min_size=1).flatmap(lambda tokens: st.permutations(list(enumerate(tokens)))))
def test_a_token_stands_in_the_row_of_its_number(numbered: list[tuple[int, str]]) -> None:
    found = parse_vocabulary("".join(f"{token}\t{row}\n" for row, token in numbered))
    assert found.form == NUMBERED
    assert found.tokens == tuple(token for _, token in sorted(numbered))
    assert found.unnamed == ()


def test_rows_without_a_token_get_a_name_that_no_token_has() -> None:
    found = parse_vocabulary("[unused2]\t5\n的\t1\n[unused0]\t3\n")
    assert found.tokens == ("[unused6]", "的", "[unused8]", "[unused0]", "[unused4]", "[unused2]")
    assert found.unnamed == (0, 2, 4)
    assert parse_vocabulary(found.spell(NUMBERED)).tokens == found.tokens


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a\t1\nb\t0\nc\t1\n", "gives 'a' and 'c' the same number, 1"),
        ("a\t1\nb\t01\n", "gives 'a' and 'b' the same number, 1"),
        ("a\t0\nb\t5\n", "gives 'b' the number 5, but there are 5 rows"),
        ("a\t0\nb\t999999999\n", "gives 'b' the number 999999999"),
        (f"a\t0\nb\t{'9' * 5000}\n", "gives 'b' the number 9999"),
    ],
)
def test_numbers_that_cannot_be_rows_are_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(FormatError, match=re.escape(words)) as caught:
        read_vocabulary(a_file(tmp_path, text.encode()), rows=5)
    assert caught.value.path == tmp_path / "vocab.txt"
    assert len(str(caught.value)) < 500


def test_numbers_are_bounded_where_no_weights_are_known() -> None:
    with pytest.raises(FormatError, match="rows at most"):
        parse_vocabulary("a\t0\nb\t999999999\n")


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
