"""What a folder states of its tokenizer arrives wherever the target's folder has a place for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

import interlingua
from benchmarks.families import write_model
from interlingua.convert.stated_settings import stated_settings
from interlingua.errors import FormatError
from interlingua.mappings.schema import FAMILIES
from interlingua.mappings.tokenizer_settings import SILENT, TokenizerSettings
from interlingua.verify.text import compare_tokenizers

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["a", "b", "ab", "##b", "e", "\u00e9", "##e", "##\u00e9", "\u4e2d", "\u6587", "\u4e2d\u6587", "##\u6587", ","]
CAPITALS = ["A", "B", "AB", "##B"]
SPARE = [f"[unused{number}]" for number in range(37 - len(SPECIAL + WORDS + CAPITALS))]

SENTENCES = ["ab AB Ab, aB", "\u00e9 e be b\u00e9 \u00c9", "\u4e2d\u6587 a\u4e2d\u6587b", "ab b, \u4e2dA"]

STATED: dict[str, tuple[list[str], dict[str, Any]]] = {
    "cased, where no token has a capital": ([*SPECIAL, *WORDS], {"do_lower_case": False}),
    "uncased, where some tokens have": ([*SPECIAL, *WORDS, *CAPITALS], {"do_lower_case": True}),
    "uncased with accents": ([*SPECIAL, *WORDS], {"do_lower_case": True, "strip_accents": False}),
    "cased without accents": ([*SPECIAL, *WORDS, *CAPITALS], {"do_lower_case": False, "strip_accents": True}),
    "Chinese in words": ([*SPECIAL, *WORDS], {"do_lower_case": True, "tokenize_chinese_chars": False}),
}
"""What is stated -> tokens of the vocabulary, and what tokenizer_config.json says."""

DIALECTS = ("hf", "hf-tf", "mindnlp", "paddle", "keras-hub", "sentence-transformers")
"""Dialects whose folders have a place for it."""

Folders = Callable[[str, str], Path]


def a_bert(folder: Path, tokens: list[str], stated: Mapping[str, Any] | None, family: str = "bert") -> Path:
    """A small model of transformers with its pooler, that vocabulary, and that tokenizer_config.json."""
    write_model(folder, FAMILIES[family], ("pooler",), 7)
    lines = [*tokens, *SPARE][:37]
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in lines), encoding="utf-8")
    if stated is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(stated), encoding="utf-8")
    return folder


def settings_of(folder: Path, dialect: str) -> TokenizerSettings:
    with interlingua.open(folder, dialect=dialect) as checkpoint:
        assert checkpoint.match is not None
        return stated_settings(checkpoint, checkpoint.match).settings


def notes_of(folder: Path, target: str) -> str:
    return " ".join(interlingua.convert(folder, folder.parent / f"to {target}", to=target, sync=False).plan.notes)


def convert(source: Path, target: Path, dialect: str, to: str, residue: str = "drop") -> Path:
    interlingua.convert(source, target, dialect=dialect, to=to, residue=residue, sync=False)
    return target


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """A folder of any dialect, come from transformers without a residue, that states what a case has."""

    @lru_cache(None)
    def made(dialect: str, case: str) -> Path:
        folder = tmp_path_factory.mktemp("model")
        source = a_bert(folder / "source", *STATED[case])
        return source if dialect == "hf" else convert(source, folder / "model", "hf", dialect)

    return made


@pytest.mark.parametrize(("source", "target"), list(permutations(DIALECTS, 2)))
@pytest.mark.parametrize("case", STATED)
def test_what_is_stated_arrives_and_texts_are_cut_alike(
    tmp_path: Path, folders: Folders, source: str, target: str, case: str
) -> None:
    pytest.importorskip("tokenizers")
    there = convert(folders(source, case), tmp_path / "there", source, target)
    _, stated = STATED[case]
    found = settings_of(there, target)
    assert found.lower_case is stated["do_lower_case"]
    assert found.strips_accents(found.lower_case) is stated.get("strip_accents", stated["do_lower_case"])
    assert (found.split_cjk is not False) is stated.get("tokenize_chinese_chars", True)
    with (
        interlingua.open(folders("hf", case), dialect="hf") as first,
        interlingua.open(folders(source, case), dialect=source) as ours,
        interlingua.open(there, dialect=target) as theirs,
    ):
        for one in (first, ours):
            compared = compare_tokenizers(one, theirs, SENTENCES)
            assert compared.problem is None
            assert compared.compared == len(SENTENCES) + 1
            assert not compared.differences


@pytest.mark.parametrize("case", STATED)
def test_the_sentences_tell_what_is_stated(tmp_path: Path, folders: Folders, case: str) -> None:
    pytest.importorskip("tokenizers")
    tokens, _ = STATED[case]
    with (
        interlingua.open(folders("hf", case), dialect="hf") as ours,
        # What nothing states is what the vocabulary suggests, and BERT's own rules.
        interlingua.open(a_bert(tmp_path / "guessed", tokens, None), dialect="hf") as theirs,
    ):
        stated = {"do_lower_case": not any(token in tokens for token in CAPITALS)}
        (tmp_path / "guessed/tokenizer_config.json").write_text(json.dumps(stated))
        assert compare_tokenizers(ours, theirs, SENTENCES).differences


@pytest.mark.parametrize("target", [dialect for dialect in DIALECTS if dialect != "hf"])
def test_the_files_come_back_as_they_were(tmp_path: Path, target: str) -> None:
    source = a_bert(tmp_path / "source", [*SPECIAL, *WORDS], {"do_lower_case": False, "never_split": None})
    (source / "special_tokens_map.json").write_text('{"unk_token":  "[UNK]"}')
    there = convert(source, tmp_path / "there", "hf", target, "keep")
    back = convert(there, tmp_path / "back", target, "hf", "keep")
    for name in ("tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "config.json"):
        assert (back / name).read_bytes() == (source / name).read_bytes()


@pytest.mark.parametrize("target", ["hf-tf", "mindnlp", "sentence-transformers"])
def test_folders_with_the_same_files_carry_them_as_they_are(tmp_path: Path, target: str) -> None:
    source = a_bert(tmp_path / "source", [*SPECIAL, *WORDS], {"do_lower_case": False, "never_split": ["\u00e9"]})
    (source / "tokenizer.json").write_text("{ }")
    there = convert(source, tmp_path / "there", "hf", target)
    for name in ("tokenizer_config.json", "tokenizer.json"):
        assert (there / name).read_bytes() == (source / name).read_bytes()


def test_special_tokens_and_lengths_that_are_stated(tmp_path: Path) -> None:
    tokens = ["[PAD]", "[OTHER]", "[CLS]", "[SEP]", "[HIDDEN]", "[UNK]", *WORDS]
    stated = {
        "do_lower_case": True,
        "unk_token": {"content": "[OTHER]", "lstrip": False},
        "mask_token": "[HIDDEN]",
        "cls_token": "[NOWHERE]",
        "model_max_length": 11,
        "tokenizer_class": "AnotherTokenizer",
    }
    source = a_bert(tmp_path / "source", tokens, stated)
    there = json.loads((convert(source, tmp_path / "paddle", "hf", "paddle") / "tokenizer_config.json").read_text())
    assert there == {
        "do_lower_case": True,
        "model_max_length": 11,
        "tokenizer_class": "BertTokenizer",
        "unk_token": "[OTHER]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "mask_token": "[HIDDEN]",
    }
    sentences = convert(tmp_path / "paddle", tmp_path / "sentences", "paddle", "sentence-transformers")
    assert json.loads((sentences / "sentence_bert_config.json").read_text())["max_seq_length"] == 11
    preset = convert(source, tmp_path / "keras", "hf", "keras-hub")
    assert json.loads((preset / "tokenizer.json").read_text())["config"]["oov_token"] == "[OTHER]"
    assert settings_of(preset, "keras-hub").special == {"unk": "[OTHER]"}


def test_values_of_the_wrong_kind_state_nothing(tmp_path: Path) -> None:
    wrong = {
        "do_lower_case": "no",
        "strip_accents": 0,
        "tokenize_chinese_chars": None,
        "model_max_length": 1e30,
        "unk_token": ["[UNK]"],
        "cls_token": {"content": 3},
        "sep_token": "",
    }
    assert settings_of(a_bert(tmp_path / "wrong", SPECIAL, wrong), "hf") == SILENT
    endless = a_bert(tmp_path / "endless", SPECIAL, {"model_max_length": 10**30, "pad_token": "x" * 1000})
    assert settings_of(endless, "hf") == SILENT


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_damaged_file_says_nothing_and_the_plan_says_so(tmp_path: Path, content: str) -> None:
    source = a_bert(tmp_path / "source", [*SPECIAL, *WORDS], None)
    (source / "tokenizer_config.json").write_text(content)
    assert ("tokenizer_config.json cannot be read" in notes_of(source, "paddle")) is (content != "{}")


def test_the_normalizer_of_a_fast_tokenizer(tmp_path: Path) -> None:
    source = a_bert(tmp_path / "source", [*SPECIAL, *WORDS], {"strip_accents": None})
    normalizer = {"type": "BertNormalizer", "lowercase": False, "strip_accents": True, "handle_chinese_chars": False}
    (source / "tokenizer.json").write_text(json.dumps({"normalizer": normalizer}))
    expected = TokenizerSettings(lower_case=False, strip_accents=True, split_cjk=False)
    assert settings_of(source, "hf") == expected
    (source / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    assert settings_of(source, "hf") == TokenizerSettings(lower_case=True)
    (source / "tokenizer.json").write_text(json.dumps({"normalizer": {"type": "Lowercase", "lowercase": False}}))
    (source / "tokenizer_config.json").unlink()
    assert settings_of(source, "hf") == SILENT


def test_a_sentence_transformer_that_lower_cases_before_its_tokenizer(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    source = a_bert(tmp_path / "source", [*SPECIAL, *WORDS, *CAPITALS], {"do_lower_case": False})
    (source / "modules.json").write_text("[]")
    (source / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    assert settings_of(source, "hf") == TokenizerSettings(lower_case=True, strip_accents=False)
    there = convert(source, tmp_path / "there", "hf", "paddle")
    with interlingua.open(source) as ours, interlingua.open(there, dialect="paddle") as theirs:
        assert not compare_tokenizers(ours, theirs, SENTENCES).differences


@pytest.mark.parametrize("between", ["tf1", "tf2", "uer", "mindspore"])
def test_a_system_without_a_place_for_it_passes_it_on(tmp_path: Path, between: str) -> None:
    stated = {"do_lower_case": False, "strip_accents": True, "tokenize_chinese_chars": False, "mask_token": "[UNK]"}
    source = a_bert(tmp_path / "source", [*SPECIAL, *WORDS], stated)
    notes = notes_of(source, between)
    assert "Nothing in the target's folder says how texts are cut: they are not lower-cased, they lose" in notes
    there = convert(tmp_path / f"to {between}", tmp_path / "paddle", between, "paddle")
    found = json.loads((there / "tokenizer_config.json").read_text())
    assert {key: found[key] for key in stated} == stated


def test_nothing_is_noted_where_nothing_is_stated(tmp_path: Path) -> None:
    source = a_bert(tmp_path / "source", [*SPECIAL, *WORDS], None)
    assert "how texts are cut" not in notes_of(source, "tf1")
    assert "how texts are cut" not in notes_of(a_bert(tmp_path / "other", SPECIAL, {"do_lower_case": True}), "paddle")


def test_paddlenlp_s_ernie_tokenizer_knows_the_case_alone(tmp_path: Path) -> None:
    for number, (stated, kind) in enumerate(
        [
            ({"do_lower_case": True}, "ErnieTokenizer"),
            ({"do_lower_case": True, "strip_accents": True}, "ErnieTokenizer"),
            ({"do_lower_case": True, "strip_accents": False}, "BertTokenizer"),
            ({"do_lower_case": False, "tokenize_chinese_chars": False}, "BertTokenizer"),
        ]
    ):
        source = a_bert(tmp_path / f"{number}", [*SPECIAL, *WORDS], stated, "ernie")
        there = convert(source, tmp_path / f"{number} there", "hf", "paddle")
        assert json.loads((there / "tokenizer_config.json").read_text())["tokenizer_class"] == kind


def other_vocabulary(folder: Path, family: str, files: Mapping[str, str], stated: Mapping[str, Any]) -> Path:
    """A model with files in the place of its list of tokens."""
    source = a_bert(folder, SPECIAL, stated, family)
    (source / "vocab.txt").unlink()
    for name, content in files.items():
        (source / name).write_text(content, encoding="utf-8")
    return source


@pytest.mark.parametrize(("target", "kind"), [("paddle", "RobertaBPETokenizer"), ("hf-tf", None), ("mindnlp", None)])
def test_the_space_before_a_byte_level_text(tmp_path: Path, target: str, kind: str | None) -> None:
    files = {"vocab.json": '{"<s>": 0}', "merges.txt": "#version: 0.2\n"}
    stated = {"add_prefix_space": True, "model_max_length": 9, "mask_token": "<mask>"}
    source = other_vocabulary(tmp_path / "source", "roberta", files, stated)
    there = convert(source, tmp_path / "there", "hf", target)
    expected = TokenizerSettings(prefix_space=True, max_length=9, special={"mask": "<mask>"})
    assert settings_of(there, target) == expected
    if kind is not None:
        assert json.loads((there / "tokenizer_config.json").read_text())["tokenizer_class"] == kind
        back = convert(there, tmp_path / "back", target, "hf")
        assert settings_of(back, "hf") == expected
        assert json.loads((back / "tokenizer_config.json").read_text())["tokenizer_class"] == "RobertaTokenizer"


def test_the_settings_of_a_sentencepiece_model(tmp_path: Path) -> None:
    stated = {"do_lower_case": False, "keep_accents": True, "remove_space": False}
    source = other_vocabulary(tmp_path / "source", "albert", {"spiece.model": "pieces"}, stated)
    there = convert(source, tmp_path / "there", "hf", "paddle")
    found = json.loads((there / "tokenizer_config.json").read_text())
    assert found == {**stated, "tokenizer_class": "AlbertTokenizer"}
    back = convert(there, tmp_path / "back", "paddle", "hf")
    assert json.loads((back / "tokenizer_config.json").read_text()) == found
    silent = other_vocabulary(tmp_path / "silent", "albert", {"spiece.model": "pieces"}, {})
    assert not (convert(silent, tmp_path / "none", "hf", "paddle") / "tokenizer_config.json").exists()


def test_settings_that_state_nothing_are_those_of_another() -> None:
    first = TokenizerSettings(lower_case=False, special={"unk": "a"})
    other = TokenizerSettings(lower_case=True, strip_accents=True, special={"unk": "b", "cls": "c"})
    expected = replace(other, lower_case=False, special={"unk": "a", "cls": "c"})
    assert first.otherwise(other) == expected
    assert SILENT.otherwise(other) == other


@pytest.mark.parametrize("target", ["hf", "paddle"])
def test_a_vocabulary_numbered_in_another_order_and_with_gaps(tmp_path: Path, target: str) -> None:
    made = write_model(tmp_path / "made", FAMILIES["ernie"], ("pooler",), 7)
    source = convert(made, tmp_path / "source", "hf", "ernie-fluid")
    tokens = [*SPECIAL, *WORDS]
    numbered = [f"{token}\t{row}\r\n" for row, token in enumerate(tokens) if row not in (6, 9)]
    (source / "vocab.txt").write_text("".join(reversed(numbered)), encoding="utf-8", newline="")
    result = interlingua.convert(source, tmp_path / "there", to=target, dialect="ernie-fluid", sync=False)
    expected = [token if row not in (6, 9) else f"[unused{row}]" for row, token in enumerate(tokens)]
    assert (tmp_path / "there/vocab.txt").read_text(encoding="utf-8").split("\n") == [*expected, ""]
    assert "gives 2 rows no token: they are called [unused6], [unused9]" in " ".join(result.plan.notes)
    back = convert(tmp_path / "there", tmp_path / "back", target, "ernie-fluid", "keep")
    assert (back / "vocab.txt").read_bytes() == (source / "vocab.txt").read_bytes()


def test_numbers_beyond_the_word_embedding_are_refused(tmp_path: Path) -> None:
    made = write_model(tmp_path / "made", FAMILIES["ernie"], ("pooler",), 7)
    source = convert(made, tmp_path / "source", "hf", "ernie-fluid")
    (source / "vocab.txt").write_text("[PAD]\t0\n[UNK]\t37\n")
    with pytest.raises(FormatError, match="the number 37, but there are 37 rows"):
        interlingua.convert(source, tmp_path / "there", to="hf", sync=False)
