"""Real text through checkpoints' own vocabularies, held against transformers' tokenizers on the same files."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import interlingua
from interlingua.convert.source import Asked, open_checkpoint
from interlingua.errors import FormatError, UsageError
from interlingua.mappings.registry import DIALECTS
from interlingua.verify.parity.outcome import Tokens
from interlingua.verify.text import (
    SENTENCES,
    NoTokenizerError,
    casing_note,
    compare_tokenizers,
    find_tokenizer,
    read_sentences,
    text_batch,
)
from tests import models
from tests.frameworks import run_in

tokenizers = pytest.importorskip("tokenizers")

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SIGNS = [*"abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'-()[]#@&`=\u00d7½éåλβщし一今天下午北京大学图书馆我们"]
WORDS = [
    "the",
    "quick",
    "brown",
    "cafe",
    "café",
    "angstrom",
    "model",
    "##ing",
    "##ed",
    "##tion",
    "un",
    "##able",
    "bert",
]
LOWER = [*SPECIAL, "[unused1]", *SIGNS, *(f"##{sign}" for sign in SIGNS), *WORDS]
"""A vocabulary without capital letters but in special tokens."""

CASED = [*LOWER, *"ABCDEFGHIJKLMNOPQRSTUVWXYZÅÉ", "##A", "##T", "The", "BERT"]

SPARE = 3
"""Rows of the word embeddings beyond the vocabularies."""


def write(
    folder: Path, tokens: Iterable[str] | None = None, rows: int | None = None, /, positions: int = 60, **config: object
) -> Path:
    """A folder of transformers with a random model of these tokens; ``rows`` are all of its rows."""
    tokens = None if tokens is None else list(tokens)
    sizes = replace(models.SMALL, vocab=rows or len(tokens or ()) + SPARE, positions=positions)
    stated = {"pad_token_id": 0, "hidden_act": "gelu", "layer_norm_eps": 1e-12, **config}
    models.write_hf(folder, models.bare(("pooler",), sizes), models.hf_config(sizes, ("pooler",), **stated))
    if tokens is not None:
        (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    return folder


def write_json(folder: Path, **files: object) -> Path:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return folder


def ids(folder: Path, text: str, pair: str | None = None, **asked: object) -> list[int]:
    with open_checkpoint(folder, Asked(**asked)) as checkpoint:
        return find_tokenizer(checkpoint).encode(text, pair)


def tokens_of(folder: Path, text: str) -> list[str]:
    with open_checkpoint(folder) as checkpoint:
        tokenizer = find_tokenizer(checkpoint)
        names = {row: token for token, row in tokenizer.vocabulary.items()}
        return [names[row] for row in tokenizer.encode(text)]


def refusal(folder: Path, text: str = "a b") -> str:
    with pytest.raises(NoTokenizerError) as caught:
        ids(folder, text)
    return caught.value.reason


def compared(a: Path, b: Path, sentences: Iterable[str] = SENTENCES) -> Tokens:
    with open_checkpoint(a) as one, open_checkpoint(b) as other:
        return compare_tokenizers(one, other, tuple(sentences))


def roberta(folder: Path) -> Path:
    """A folder of transformers' RoBERTa with a byte-level vocabulary trained on the sentences."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator(SENTENCES, trainer)
    write(folder, None, made.get_vocab_size(), model_type="roberta", pad_token_id=1, architectures=["RobertaModel"])
    made.model.save(str(folder))
    return folder


# -- against transformers

AGAINST = """
import json, sys
import transformers
from hypothesis import HealthCheck, given, settings, strategies as st
from interlingua.convert.source import open_checkpoint
from interlingua.verify.text import SENTENCES, find_tokenizer

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
known = [word for sentence in SENTENCES for word in sentence.split()]
words = st.lists(st.sampled_from([*known, "the", "The", "A", "café", " "]), max_size=9)

def check(folder, name):
    theirs = getattr(transformers, name).from_pretrained(folder)
    with open_checkpoint(folder) as checkpoint:
        ours = find_tokenizer(checkpoint)

    def same(text, pair, most):
        found = theirs(text, pair, truncation="longest_first", max_length=most, return_token_type_ids=True)
        assert ours.encode(text, pair, limit=most) == found["input_ids"], (folder, text, pair, most)
        if pair is not None and ours.types > 1:
            assert ours.encode_pair(text, pair, limit=most)[1] == found["token_type_ids"], (folder, text, pair)

    for sentence in SENTENCES:
        same(sentence, None, ours.limit)
        same(sentence, SENTENCES[1], ours.limit)

    @settings(max_examples=150, deadline=None, derandomize=True, database=None,
              suppress_health_check=list(HealthCheck))
    @given(texts | words.map(" ".join), st.none() | texts | words.map(" ".join), st.integers(5, ours.limit))
    def any_text(text, pair, most):
        # An empty second text is none to transformers.
        same(text, pair or None, most)

    any_text()
    return len({row for sentence in SENTENCES for row in ours.encode(sentence)})

print(json.dumps({folder: check(folder, name) for folder, name in zip(sys.argv[1::2], sys.argv[2::2])}))
"""


def test_ids_are_those_of_transformers_tokenizers(tmp_path: Path) -> None:
    cases = {
        "lower": (LOWER, {"do_lower_case": True}),
        "cased": (CASED, {"do_lower_case": False}),
        "accents": (LOWER, {"do_lower_case": True, "strip_accents": False}),
        "cjk": (LOWER, {"do_lower_case": True, "tokenize_chinese_chars": False}),
        "stripped": (CASED, {"do_lower_case": False, "strip_accents": True}),
        "renamed": (["<unk>", *CASED[1:]], {"do_lower_case": False, "unk_token": "<unk>", "pad_token": "[unused1]"}),
    }
    arguments: list[str | Path] = []
    for name, (tokens, settings) in cases.items():
        write_json(write(tmp_path / name, tokens), tokenizer_config=settings)
        arguments += [tmp_path / name, "BertTokenizerFast"]
    arguments += [roberta(tmp_path / "roberta"), "RobertaTokenizerFast"]
    spaced = write_json(roberta(tmp_path / "spaced"), tokenizer_config={"add_prefix_space": True})
    arguments += [spaced, "RobertaTokenizerFast"]
    seen = json.loads(run_in("transformers", AGAINST, *arguments))
    assert min(seen.values()) > 30


def test_ids_of_real_vocabularies_are_those_of_transformers(fixtures_dir: Path, tmp_path: Path) -> None:
    arguments: list[str | Path] = []
    for number, name in enumerate(("bert", "bert-test")):
        vocabulary = fixtures_dir / "PKSHATechnology-Research__camphr/tests/fixtures" / name / "vocab.txt"
        folder = write(tmp_path / str(number), vocabulary.read_text("utf-8").splitlines())
        (folder / "vocab.txt").write_bytes(vocabulary.read_bytes())
        arguments += [write_json(folder, tokenizer_config={"do_lower_case": False}), "BertTokenizerFast"]
    assert min(json.loads(run_in("transformers", AGAINST, *arguments)).values()) > 2


def test_minilm_is_cut_as_transformers_cuts_it_with_either_of_its_files(minilm: Path, tmp_path: Path) -> None:
    for part in ("config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"):
        (tmp_path / part).symlink_to((minilm / part).resolve())
    seen = json.loads(run_in("transformers", AGAINST, minilm, "BertTokenizerFast", tmp_path, "BertTokenizerFast"))
    assert min(seen.values()) > 150
    assert compared(minilm, tmp_path) == Tokens(len(SENTENCES) + 1)


PIECES = """
import json, sys
from pathlib import Path
import sentencepiece, transformers
from interlingua.verify.text.sentence_pieces import pieces
from interlingua.verify.text import SENTENCES
from interlingua.verify.text.settings import Settings

if int(transformers.__version__.split(".")[0]) > 4:
    sys.exit(print("null"))
folder = Path(sys.argv[1])
texts = folder / "texts.txt"
texts.write_text("\\n".join(SENTENCES * 4 + ("prices of 12,345 and 9,99 or 7,", "x")), "utf-8")
common = dict(input=str(texts), vocab_size=300, hard_vocab_limit=False, minloglevel=2)
sentencepiece.SentencePieceTrainer.train(
    model_prefix=str(folder / "albert"), pad_id=0, unk_id=1, bos_id=-1, eos_id=-1,
    control_symbols="[CLS],[SEP],[MASK]", **common)
sentencepiece.SentencePieceTrainer.train(model_prefix=str(folder / "xlm"), **common)
texts = [*SENTENCES, "12,345, and 9,99,", "7,8,", "  outer   blanks ", "``quoted''", "Ünïcödé", "", "𠮷"]
cases = [
    ("albert", Settings(), transformers.AlbertTokenizer(str(folder / "albert.model"))),
    ("albert", Settings(lower_case=False, keep_accents=True),
     transformers.AlbertTokenizer(str(folder / "albert.model"), do_lower_case=False, keep_accents=True)),
    ("xlm-roberta", Settings(), transformers.XLMRobertaTokenizer(str(folder / "xlm.model"))),
]
for family, settings, theirs in cases:
    found = pieces(folder / f"{family.split('-')[0]}.model", family, settings)
    for text in texts:
        for pair in (None, "A second text, of 1,234 things."):
            for most in (9, 400):
                ids, types = found.cut(text, pair, most)
                expected = theirs(text, pair, truncation="longest_first", max_length=most, return_token_type_ids=True)
                assert ids == expected["input_ids"], (family, text, pair, most, ids, expected["input_ids"])
                assert types == expected["token_type_ids"], (family, text, pair, most)
    assert {token: row for token, row in theirs.get_vocab().items()} == dict(found.vocabulary), family
print(json.dumps(len(texts)))
"""


def test_sentencepiece_models_are_cut_as_transformers_cuts_them(tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece")
    if json.loads(run_in("transformers", PIECES, tmp_path)) is None:
        pytest.skip("this version of transformers does not compute SentencePiece models with their own library")


PADDLE = """
import json, sys
from paddlenlp.transformers import BertTokenizer
cutters = {folder: BertTokenizer.from_pretrained(folder) for folder in sys.argv[2:]}
print(json.dumps([[list(cut(text)["input_ids"]) for text in json.loads(sys.argv[1])] for cut in cutters.values()]))
"""
KERAS_HUB = """
import json, sys
import keras_hub
cutters = [keras_hub.tokenizers.BertTokenizer.from_preset(folder) for folder in sys.argv[2:]]
texts = json.loads(sys.argv[1])
print(json.dumps([[[cut.cls_token_id, *map(int, cut(text)), cut.sep_token_id] for text in texts] for cut in cutters]))
"""


@pytest.mark.parametrize(
    ("dialect", "package", "code"),
    [("paddle", "paddlenlp", PADDLE), ("keras-hub", "keras_hub", KERAS_HUB)],
    ids=["paddle", "keras-hub"],
)
def test_other_systems_tokenizers_give_these_ids_of_converted_folders(
    tmp_path: Path, dialect: str, package: str, code: str
) -> None:
    """In texts without emoji and full-width signs, which both have rules of their own for."""
    texts = SENTENCES[:2]
    for name, tokens in (("lower", LOWER), ("cased", CASED)):
        write_json(write(tmp_path / name, tokens, positions=99), tokenizer_config={"do_lower_case": name == "lower"})
        interlingua.convert(tmp_path / name, tmp_path / dialect / name, to=dialect, sync=False)
    folders = [tmp_path / dialect / name for name in ("lower", "cased")]
    found = json.loads(run_in(package, code, json.dumps(texts), *folders).splitlines()[-1])
    assert found == [[ids(folder, text) for text in texts] for folder in folders]


# -- what decides how text is cut


def test_texts_are_lower_cased_unless_a_token_has_a_capital_letter(tmp_path: Path) -> None:
    assert tokens_of(write(tmp_path / "a", LOWER), "The CAFÉ") == ["[CLS]", "the", "cafe", "[SEP]"]
    assert tokens_of(write(tmp_path / "b", CASED), "The café") == ["[CLS]", "The", "café", "[SEP]"]


@pytest.mark.parametrize("lower", [True, False])
def test_what_the_settings_say_stands_above_name_and_vocabulary(tmp_path: Path, lower: bool) -> None:
    folder = write(tmp_path / ("bert-cased" if lower else "uncased_L-2"), CASED if lower else LOWER)
    write_json(folder, tokenizer_config={"do_lower_case": lower})
    assert tokens_of(folder, "BERT") == ["[CLS]", "bert" if lower else "[UNK]", "[SEP]"]


def test_a_folder_s_name_says_whether_texts_are_lower_cased(tmp_path: Path) -> None:
    for name, first in (("uncased_L-3_H-12_A-6", "the"), ("multi_cased_L-3", "The"), ("bert-base-cased", "The")):
        assert tokens_of(write(tmp_path / name, CASED), "The")[1] == first


def test_numbers_of_a_numbered_vocabulary_are_the_ids(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain", LOWER)
    numbered = write(tmp_path / "numbered", [f"{token}\t{row}" for row, token in enumerate(LOWER)])
    assert compared(plain, numbered) == Tokens(len(SENTENCES) + 1)
    order = random.Random(0).sample(range(len(LOWER)), len(LOWER))
    shuffled = write(tmp_path / "shuffled", [f"{LOWER[row]}\t{row}" for row in order])
    assert compared(plain, shuffled) == Tokens(len(SENTENCES) + 1)
    gaps = write(tmp_path / "gaps", [f"{token}\t{row + 2}" for row, token in enumerate(LOWER)])
    assert ids(gaps, SENTENCES[0]) == [row + 2 for row in ids(plain, SENTENCES[0])]


def test_added_tokens_keep_their_ids(tmp_path: Path) -> None:
    folder = write(tmp_path, LOWER)
    write_json(folder, added_tokens={"<entity>": len(LOWER) + 1})
    assert ids(folder, "the <entity> model")[2] == len(LOWER) + 1


def test_sentence_transformers_lower_cases_before_the_tokenizer_where_it_says_so(tmp_path: Path) -> None:
    folder = write(tmp_path, CASED)
    modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    write_json(folder, modules=modules, tokenizer_config={"do_lower_case": False})
    assert tokens_of(folder, "The")[1] == "The"
    write_json(folder, sentence_bert_config={"max_seq_length": 9, "do_lower_case": True})
    assert tokens_of(folder, "The")[1] == "the"


def test_a_vocabulary_that_was_asked_for_stands_above_tokenizer_json(tmp_path: Path) -> None:
    folder = with_file(write(tmp_path / "a", LOWER), LOWER)
    other = [*LOWER[:5], *reversed(LOWER[5:])]
    asked = write(tmp_path / "b", other) / "vocab.txt"
    assert ids(folder, "the", vocabulary=asked) == [2, other.index("the"), 3]


# -- tokenizer.json


def with_file(folder: Path, tokens: Iterable[str], **changes: object) -> Path:
    """The same folder with a ``tokenizer.json`` of those tokens, which truncates and pads unless that is undone."""
    vocabulary = {token: row for row, token in enumerate(tokens)}
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    made.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    made.enable_truncation(4)
    made.enable_padding(length=12)
    return write_json(folder, tokenizer={**json.loads(made.to_str()), **changes})


def test_tokenizer_json_neither_truncates_nor_pads_here(tmp_path: Path) -> None:
    plain, folder = write(tmp_path / "plain", LOWER), with_file(write(tmp_path / "file", LOWER), LOWER)
    assert compared(plain, folder) == Tokens(len(SENTENCES) + 1)
    assert len(ids(folder, SENTENCES[0])) > 12
    assert ids(folder, "the") == [2, LOWER.index("the"), 3]


def test_a_vocabulary_that_contradicts_tokenizer_json_is_said(tmp_path: Path) -> None:
    swapped = [*LOWER[:-2], LOWER[-1], LOWER[-2]]
    assert f"vocab.txt gives '{LOWER[-1]}' the id {len(LOWER) - 2}" in refusal(
        with_file(write(tmp_path, swapped), LOWER)
    )


TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [99_999], "tokens": ["[CLS]"]}},
}
HOSTILE = {
    "an expression": (
        {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}},
        "regular expression",
    ),
    "growth": (
        {"normalizer": {"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaa"}},
        "longer text",
    ),
    "an id beyond the embedding": ({"post_processor": TEMPLATE}, "99999"),
    "an added token beyond the embedding": (
        {
            "added_tokens": [
                {
                    "id": len(LOWER),
                    "content": "beyond",
                    "single_word": False,
                    "lstrip": False,
                    "rstrip": False,
                    "normalized": False,
                    "special": False,
                }
            ]
        },
        "'beyond' the id",
    ),
    "no model": ({"model": {}}, "tokenizer.json"),
    "much around a text": (
        {"post_processor": {**TEMPLATE, "single": TEMPLATE["single"] * 3000}},
        "too much around",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_tokenizer_json_is_refused(tmp_path: Path, case: str) -> None:
    changes, reason = HOSTILE[case]
    folder = with_file(write(tmp_path, LOWER, len(LOWER)), LOWER, **changes)
    assert reason in refusal(folder)


def test_a_damaged_tokenizer_json_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, LOWER)
    for content in (b"", b"[]", b"\xff\xfe", b'{"version": "1.0"', b"[" * 100_000):
        (folder / "tokenizer.json").write_bytes(content)
        assert "tokenizer.json" in refusal(folder)
    with (folder / "tokenizer.json").open("wb") as file:
        file.truncate((64 << 20) + 1)
    assert "too large" in refusal(folder)


# -- what there is no tokenizer of


def test_a_vocabulary_that_is_ambiguous_or_incomplete_is_refused(tmp_path: Path) -> None:
    cases = {
        "twice, as": [*LOWER, "the"],
        "the same id": [*LOWER, "other\t5"],
        "but the word embedding has": [*LOWER[:-1], "far\t4000"],
        "no [UNK]": ["[PAD]", "[CLS]", "[SEP]", "a"],
        "no [CLS], [SEP]": ["[PAD]", "[UNK]", "a"],
        "no merges.txt": [*LOWER, "\u0120the"],
    }
    for number, (reason, tokens) in enumerate(cases.items()):
        assert reason in refusal(write(tmp_path / str(number), tokens)), reason


def test_a_folder_without_a_vocabulary_has_no_tokenizer(tmp_path: Path) -> None:
    folder = write(tmp_path / "bare", None, 20)
    assert "no vocabulary" in refusal(folder)
    (folder / "spiece.model").write_bytes(b"not a model")
    assert "spiece.model" in refusal(folder)
    broken = write_json(write(tmp_path / "broken", LOWER))
    (broken / "tokenizer_config.json").write_text("{")
    assert "tokenizer_config.json" in refusal(broken)


def test_damaged_merges_are_refused(tmp_path: Path) -> None:
    folder = roberta(tmp_path)
    (folder / "merges.txt").write_text("#version: 0.2\na b c\n")
    assert "no pair" in refusal(folder)
    (folder / "merges.txt").write_text("#version: 0.2\nthere nothing\n")
    assert "merges.txt" in refusal(folder)
    (folder / "merges.txt").unlink()
    assert "no merges.txt" in refusal(folder)
    write_json(folder, vocab={"<s>": "zero"})
    assert "no number" in refusal(folder)


# -- batches


def test_a_batch_has_every_sentence_and_a_pair(tmp_path: Path) -> None:
    with open_checkpoint(write(tmp_path, LOWER)) as checkpoint:
        tokenizer = find_tokenizer(checkpoint)
        batch = text_batch(checkpoint, SENTENCES, 40)
        assert batch.name == "text"
        assert len(batch.lengths) == len(SENTENCES) + 1
        assert batch.input_ids.shape == (len(SENTENCES) + 1, 40)
        for row, sentence in enumerate(SENTENCES):
            cut = tokenizer.encode(sentence, limit=40)
            assert batch.input_ids[row, : len(cut)].tolist() == cut
            assert not batch.token_type_ids[row].any()
        ids, types = tokenizer.encode_pair(*SENTENCES[:2], limit=40)
        assert (batch.input_ids[-1].tolist(), batch.token_type_ids[-1].tolist()) == (ids, types)
        assert set(types) == {0, 1}
        assert np.array_equal(batch.input_ids == 0, batch.attention_mask == 0)


def test_a_batch_is_no_longer_than_the_model_can_take(tmp_path: Path) -> None:
    with open_checkpoint(write(tmp_path / "bert", LOWER, positions=11)) as checkpoint:
        assert max(text_batch(checkpoint, SENTENCES, 512).lengths) == 11
    # Of RoBERTa's 60 positions two stand before the first token's.
    with open_checkpoint(roberta(tmp_path / "roberta")) as checkpoint:
        batch = text_batch(checkpoint, SENTENCES, 512)
        assert max(batch.lengths) == 58
        assert find_tokenizer(checkpoint).encode("a", "b")[2:4] == [2, 2]


def test_token_types_that_a_model_does_not_know_are_zeros(tmp_path: Path) -> None:
    sizes = replace(models.SMALL, vocab=len(LOWER), types=1)
    models.write_hf(tmp_path, models.bare(("pooler",), sizes), models.hf_config(sizes, pad_token_id=0))
    (tmp_path / "vocab.txt").write_text("".join(f"{token}\n" for token in LOWER), encoding="utf-8")
    with open_checkpoint(tmp_path) as checkpoint:
        assert not text_batch(checkpoint, ["the model", "the café"], 16).token_type_ids.any()


def test_sentences_with_padding_in_them_are_left_out(tmp_path: Path) -> None:
    with open_checkpoint(write(tmp_path, LOWER)) as checkpoint:
        assert len(text_batch(checkpoint, ["the [PAD] model", "the model"], 16).lengths) == 1
        with pytest.raises(NoTokenizerError, match="no sentence"):
            text_batch(checkpoint, ["[PAD]"], 16)
        with pytest.raises(NoTokenizerError, match="no sentence"):
            text_batch(checkpoint, [], 16)
        with pytest.raises(NoTokenizerError, match="too few"):
            text_batch(checkpoint, SENTENCES, 2)


# -- parity


BERTS = [name for name, dialect in DIALECTS.items() if "bert" in dialect.tables]


@pytest.mark.parametrize(("tokens", "lower"), [(LOWER, True), (CASED, False)], ids=["lower", "cased"])
def test_a_converted_folder_cuts_as_its_source_does(tmp_path: Path, tokens: list[str], lower: bool) -> None:
    source = write_json(write(tmp_path / "source", tokens), tokenizer_config={"do_lower_case": lower})
    for dialect in BERTS:
        interlingua.convert(source, tmp_path / dialect, to=dialect, sync=False)
        assert compared(source, tmp_path / dialect) == Tokens(len(SENTENCES) + 1), dialect


@pytest.mark.parametrize("dialect", [name for name, dialect in DIALECTS.items() if "roberta" in dialect.tables])
def test_a_converted_roberta_cuts_as_its_source_does(tmp_path: Path, dialect: str) -> None:
    source = roberta(tmp_path / "source")
    interlingua.convert(source, tmp_path / "there", to=dialect, sync=False)
    assert compared(source, tmp_path / "there") == Tokens(len(SENTENCES) + 1)


def test_real_models_are_cut_alike_in_every_dialect(minilm: Path, fixtures_dir: Path, tmp_path: Path) -> None:
    camphr = fixtures_dir / "PKSHATechnology-Research__camphr/tests/fixtures/bert-test"
    for source, targets in ((minilm, ("uer",)), (camphr, BERTS)):
        for dialect in targets:
            interlingua.convert(source, tmp_path / source.name / dialect, to=dialect, sync=False)
            assert compared(source, tmp_path / source.name / dialect) == Tokens(len(SENTENCES) + 1), dialect


def test_two_exchanged_lines_are_reported(tmp_path: Path) -> None:
    a = write(tmp_path / "a", LOWER)
    used, other = LOWER.index("the"), LOWER.index("quick")
    b = list(LOWER)
    b[used], b[other] = b[other], b[used]
    found = compared(a, write(tmp_path / "b", b))
    assert found.compared == len(SENTENCES) + 1
    sentence, ours, theirs = found.differences[0]
    assert sentence == SENTENCES[0]
    assert ours != theirs
    assert ("the token 'the'", (used,), (other,)) in found.differences


def test_exchanged_lines_that_no_sentence_meets_are_reported(tmp_path: Path) -> None:
    tokens = [*LOWER, "xylophone", "zymurgy"]
    a, b = write(tmp_path / "a", tokens), write(tmp_path / "b", [*LOWER, "zymurgy", "xylophone"])
    first, second = len(LOWER), len(LOWER) + 1
    assert compared(a, b).differences == (
        ("the token 'xylophone'", (first,), (second,)),
        ("the token 'zymurgy'", (second,), (first,)),
    )


def test_a_token_that_one_vocabulary_lacks_is_reported(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", [*LOWER, "zymurgy"]), write(tmp_path / "b", LOWER)
    assert compared(a, b).differences == (("the token 'zymurgy'", (len(LOWER),), ()),)


def settings(lower: bool) -> Mapping[str, object]:
    return {"do_lower_case": lower}


def test_settings_that_differ_are_reported(tmp_path: Path) -> None:
    a = write_json(write(tmp_path / "a", CASED), tokenizer_config=settings(True))
    b = write_json(write(tmp_path / "b", CASED), tokenizer_config=settings(False))
    assert SENTENCES[0] in [sentence for sentence, _, _ in compared(a, b).differences]
    kept = write_json(write(tmp_path / "kept", CASED), tokenizer_config={"do_lower_case": True, "strip_accents": False})
    assert SENTENCES[1] in [sentence for sentence, _, _ in compared(a, kept).differences]


@pytest.mark.parametrize("lower", [True, False])
def test_a_folder_that_says_nothing_is_told_what_the_other_says(tmp_path: Path, lower: bool) -> None:
    says = write_json(write(tmp_path / "says", LOWER if not lower else CASED), tokenizer_config=settings(lower))
    silent = write(tmp_path / "silent", LOWER if not lower else CASED)
    for a, b, label in ((says, silent, "B"), (silent, says, "A")):
        assert compared(a, b) == Tokens(len(SENTENCES) + 1)
        with open_checkpoint(a) as one, open_checkpoint(b) as other:
            assert casing_note(one, other) == (
                f"Nothing in {label} says whether texts are lower-cased; as the other one says, "
                f"they {'are' if lower else 'are not'}."
            )


def test_what_both_say_or_neither_says_of_case_is_noted(tmp_path: Path) -> None:
    silent, says = write(tmp_path / "silent", CASED), write(tmp_path / "says", CASED)
    write_json(says, tokenizer_config=settings(False))
    with ExitStack() as stack:
        one, other, third = (stack.enter_context(open_checkpoint(path)) for path in (silent, silent, says))
        assert "as the vocabulary suggests, they are not" in str(casing_note(one, other))
        assert casing_note(third, third) is None


def test_nothing_is_compared_where_a_side_has_no_tokenizer(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", LOWER), write(tmp_path / "b", None, 20)
    assert compared(a, b) == Tokens(problem="B: there is no vocabulary.")
    assert compared(b, a) == Tokens(problem="A: there is no vocabulary.")
    assert compared(a, a, ()).problem == "There are no sentences."


# -- sentences


def test_sentences_are_read_one_a_line(tmp_path: Path) -> None:
    file = tmp_path / "sentences.txt"
    file.write_bytes("\ufeffone sentence\r\n\n  另一句  \nthe\u2028last".encode())
    assert read_sentences(file) == ["one sentence", "另一句", "the\u2028last"]


def test_files_of_no_sentences_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "sentences.txt"
    for content, error, reason in (
        (b"\n \n", UsageError, "no sentences"),
        (b"a\n" * 65, UsageError, "64 are run"),
        (b"a" * ((1 << 20) + 1), UsageError, "characters"),
        (b"\xff", FormatError, "UTF-8"),
    ):
        file.write_bytes(content)
        with pytest.raises(error, match=reason):
            read_sentences(file)
    with pytest.raises(FormatError, match="cannot be opened"):
        read_sentences(tmp_path / "nowhere")


def test_the_sentences_are_of_every_kind() -> None:
    text = "".join(SENTENCES)
    assert any(char.isupper() for char in text)
    assert any("\u4e00" <= char <= "\u9fff" for char in text)
    assert any(ord(char) > 0xFFFF for char in text)
    assert any(char.isdigit() for char in text)
    assert any(len(sentence) > 300 for sentence in SENTENCES)
