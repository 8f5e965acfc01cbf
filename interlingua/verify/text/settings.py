"""What a folder says of its tokenizer besides the vocabulary, whichever system wrote it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from interlingua.convert.documents import read_object
from interlingua.convert.source import Checkpoint
from interlingua.errors import InterlinguaError
from interlingua.mappings.config import Json
from interlingua.verify.text.tokenizer import NoTokenizerError

CONFIG = "tokenizer_config.json"
SPECIAL = "special_tokens_map.json"
ADDED = "added_tokens.json"
"""Files of transformers, PaddleNLP and MindNLP."""

KERAS_HUB = "tokenizer.json"
"""KerasHub's tokenizer, which has the name that transformers gives to another form."""

SENTENCES = "sentence_bert_config.json"
"""Settings of sentence-transformers' first module."""

ROLES: Mapping[str, tuple[str, ...]] = {
    "unk": ("[UNK]", "<unk>"),
    "cls": ("[CLS]", "<s>"),
    "sep": ("[SEP]", "</s>"),
    "pad": ("[PAD]", "<pad>"),
    "mask": ("[MASK]", "<mask>"),
}
"""What special tokens are for -> how systems call them: BERT's line of models, then RoBERTa's."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a folder states of its tokenizer; None where it states nothing.

    Attributes:
        lower_case: whether texts are lower-cased.
        strip_accents: whether accents are taken away; where nothing is stated, whenever texts are lower-cased.
        split_cjk: whether every CJK ideograph is a word of its own.
        prefix_space: whether a byte-level text begins with a space.
        keep_accents: whether a SentencePiece text keeps its accents.
        before: whether a text is stripped of outer blanks before anything else (sentence-transformers).
        lower_before: whether it is then lower-cased by Python.
        named: role -> the special token's text.
        added: tokens beside the vocabulary -> id.
    """

    lower_case: bool | None = None
    strip_accents: bool | None = None
    split_cjk: bool = True
    prefix_space: bool = False
    keep_accents: bool = False
    before: bool = False
    lower_before: bool = False
    named: Mapping[str, str] = field(default_factory=dict)
    added: Mapping[str, int] = field(default_factory=dict)

    def special(self, vocabulary: Mapping[str, int]) -> dict[str, str]:
        """Return role -> token of every special token that the vocabulary has."""
        found = {}
        for role, names in ROLES.items():
            stated = (self.named[role],) if role in self.named else ()
            token = next((name for name in (*stated, *names) if name in vocabulary), None)
            if token is not None:
                found[role] = token
        return found


def read_settings(checkpoint: Checkpoint) -> Settings:
    """Return what the folder of a checkpoint says of its tokenizer.

    Sources of the keys: huggingface/transformers ``tokenization_utils_base.py`` (``added_tokens_decoder``),
    ``models/bert/tokenization_bert.py`` (``do_lower_case``, ``strip_accents``, ``tokenize_chinese_chars``),
    ``models/roberta/tokenization_roberta.py`` (``add_prefix_space``), ``models/albert/tokenization_albert.py``
    (``keep_accents``); PaddlePaddle/PaddleNLP
    ``paddlenlp/transformers/bert/tokenizer.py`` (the same names); keras-team/keras-hub
    ``keras_hub/src/tokenizers/word_piece_tokenizer.py`` (``lowercase``, ``strip_accents``, ``split_on_cjk``);
    UKPLab/sentence-transformers ``models/Transformer.py`` (``do_lower_case``: before the tokenizer).

    Raises:
        NoTokenizerError: one of the files is damaged.
    """
    folder = checkpoint.folder
    stated = {**_read(folder / SPECIAL), **_read(folder / CONFIG)}
    keras = _read(folder / KERAS_HUB).get("config") if checkpoint.dialect == "keras-hub" else None
    keras = keras if isinstance(keras, dict) else {}
    sentences = "modules.json" in checkpoint.sidecars
    first = _read(folder / SENTENCES) if sentences else {}
    lower = (stated.get("do_lower_case"), keras.get("lowercase"), checkpoint.native_config.get("do_lower_case"))
    return Settings(
        lower_case=next((value for value in lower if isinstance(value, bool)), None),
        strip_accents=_flag(stated.get("strip_accents"), _flag(keras.get("strip_accents"), None)),
        split_cjk=bool(_flag(stated.get("tokenize_chinese_chars"), _flag(keras.get("split_on_cjk"), True))),
        prefix_space=stated.get("add_prefix_space") is True,
        keep_accents=stated.get("keep_accents") is True,
        before=sentences,
        lower_before=first.get("do_lower_case") is True,
        named=dict(_named(stated)),
        added={**_added(stated.get("added_tokens_decoder")), **_numbers(_read(folder / ADDED))},
    )


def case_in_name(checkpoint: Checkpoint) -> bool | None:
    """Return what the folder's name says of lower-casing: ``uncased_L-12_H-768_A-12``, ``bert-base-cased``.

    Google's tools take the name as such a statement, too (google-research/bert ``tokenization.py``,
    ``validate_case_matches_checkpoint``). None where it says nothing.
    """
    words = re.split(r"[^a-z]+", checkpoint.folder.resolve().name.lower())
    return True if "uncased" in words else False if "cased" in words else None


def _read(path: Path) -> Mapping[str, Json]:
    if not path.is_file():
        return {}
    try:
        return read_object(path)
    except InterlinguaError as error:
        raise NoTokenizerError(str(error)) from error


def _flag(value: Json, otherwise: bool | None) -> bool | None:
    return value if isinstance(value, bool) else otherwise


def _named(stated: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
    """Yield (role, token): a token is a text, or an object with its ``content``."""
    for role in ROLES:
        value = stated.get(f"{role}_token")
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str):
            yield role, text


def _added(value: Json) -> dict[str, int]:
    """Return token -> id of an object of id -> {"content": token}."""
    found = {}
    for number, entry in value.items() if isinstance(value, dict) else ():
        text = entry.get("content") if isinstance(entry, dict) else None
        if isinstance(text, str) and re.fullmatch("[0-9]{1,9}", number):
            found[text] = int(number)
    return found


def _numbers(value: Mapping[str, Json]) -> dict[str, int]:
    return {token: row for token, row in value.items() if isinstance(row, int) and not isinstance(row, bool)}
