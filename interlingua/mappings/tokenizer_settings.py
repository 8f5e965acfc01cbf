"""What a folder states of its tokenizer besides the vocabulary, and how transformers' kind of folder spells it.

Sources: huggingface/transformers ``tokenization_utils_base.py`` (``from_pretrained``, ``VERY_LARGE_INTEGER``,
``added_tokens``), ``models/bert/tokenization_bert.py`` (``do_lower_case``, ``strip_accents``,
``tokenize_chinese_chars``), ``models/bert/tokenization_bert_fast.py`` (the normalizer of ``tokenizer.json``),
``models/roberta/tokenization_roberta.py`` (``add_prefix_space``), ``models/albert/tokenization_albert.py``
(``remove_space``, ``keep_accents``); huggingface/tokenizers ``normalizers/bert.rs``; PaddlePaddle/PaddleNLP 2.8.1
``paddlenlp/transformers/{bert,roberta,albert}/tokenizer.py`` (the same names); UKPLab/sentence-transformers
``sentence_transformers/models/Transformer.py`` (``do_lower_case``: before the tokenizer sees a text).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields, replace

from interlingua.mappings.config import Json

SmallFiles = Callable[[str], Mapping[str, Json]]
"""Returns the JSON object that a file of a folder holds; an empty one where there is no such file."""

CONFIG = "tokenizer_config.json"
SPECIAL = "special_tokens_map.json"
FAST = "tokenizer.json"
SENTENCES = "sentence_bert_config.json"

ROLES = ("unk", "sep", "pad", "cls", "mask")
"""What special tokens are for."""

ENDLESS = 10**9
"""Lengths from here on say that there is no limit: transformers writes its ``VERY_LARGE_INTEGER``, 10^30."""

LONGEST_TOKEN = 256
"""Most characters of a special token that is carried."""


@dataclass(frozen=True, slots=True)
class TokenizerSettings:
    """What is stated of a tokenizer; None where nothing is.

    Attributes:
        lower_case: whether texts are lower-cased.
        strip_accents: whether accents are taken away; where it is not stated, whenever texts are lower-cased.
        split_cjk: whether every CJK ideograph is a word of its own.
        prefix_space: whether a byte-level text begins with a space.
        remove_space: whether blanks around a SentencePiece text, and double ones in it, are taken away.
        keep_accents: whether a SentencePiece text keeps its accents.
        max_length: most tokens of a text, the special ones included.
        special: role -> the special token's text.
    """

    lower_case: bool | None = None
    strip_accents: bool | None = None
    split_cjk: bool | None = None
    prefix_space: bool | None = None
    remove_space: bool | None = None
    keep_accents: bool | None = None
    max_length: int | None = None
    special: Mapping[str, str] = field(default_factory=dict)

    def otherwise(self, other: TokenizerSettings) -> TokenizerSettings:
        """Return these settings, with another's where these state nothing."""
        missing = {part.name: getattr(other, part.name) for part in fields(self) if getattr(self, part.name) is None}
        return replace(self, **missing, special={**other.special, **self.special})

    def strips_accents(self, lower_case: bool | None) -> bool:
        """Say whether accents are taken away where texts are lower-cased, or are not: BERT's own rule."""
        return bool(lower_case) if self.strip_accents is None else self.strip_accents

    @property
    def words(self) -> tuple[str, ...]:
        """What is stated of how texts are cut into words, as ends of a sentence on texts."""
        found = []
        if self.lower_case is not None:
            found.append("they are lower-cased" if self.lower_case else "they are not lower-cased")
        if self.strip_accents is not None:
            found.append("they lose their accents" if self.strip_accents else "they keep their accents")
        if self.split_cjk is False:
            found.append("CJK ideographs are not split from each other")
        return tuple(found)


SILENT = TokenizerSettings()
"""The settings of a folder that states none."""

FLAGS = {
    "lower_case": "do_lower_case",
    "strip_accents": "strip_accents",
    "split_cjk": "tokenize_chinese_chars",
    "prefix_space": "add_prefix_space",
    "remove_space": "remove_space",
    "keep_accents": "keep_accents",
}
"""Field -> key of ``tokenizer_config.json``."""

NORMALIZER = {"lower_case": "lowercase", "strip_accents": "strip_accents", "split_cjk": "handle_chinese_chars"}
"""Field -> key of a ``BertNormalizer`` in ``tokenizer.json``."""


def of_flags(stated: Mapping[str, Json], keys: Mapping[str, str]) -> TokenizerSettings:
    """Return the settings that are true or false, from the values under their keys."""
    found: dict[str, Json] = {name: flag(stated.get(key)) for name, key in keys.items()}
    return TokenizerSettings(**found)


def flag(value: Json) -> bool | None:
    """Return a value that is true or false; None for any other."""
    return value if isinstance(value, bool) else None


def text(value: Json) -> str | None:
    """Return a special token's text, which is the value or its ``content``; None where it is none."""
    found = value.get("content") if isinstance(value, dict) else value
    return found if isinstance(found, str) and 0 < len(found) <= LONGEST_TOKEN else None


def length(value: Json) -> int | None:
    """Return a length that is a limit; None for any other value."""
    return value if type(value) is int and 0 < value < ENDLESS else None


def of_transformers(read: SmallFiles, listed: bool) -> TokenizerSettings:
    """Return what transformers, PaddleNLP and MindNLP find in their folders.

    ``tokenizer_config.json`` stands above the two others. A ``tokenizer.json`` is asked only where the vocabulary is
    ``listed``, a token a line: another one's is long, and says nothing that is carried.
    """
    stated = {**read(SPECIAL), **read(CONFIG)}
    found = replace(
        of_flags(stated, FLAGS),
        max_length=length(stated.get("model_max_length")),
        special={role: token for role in ROLES if (token := text(stated.get(f"{role}_token"))) is not None},
    )
    if listed and found.lower_case is None:
        found = found.otherwise(of_normalizer(read(FAST).get("normalizer")))
    return lower_cased_before(found) if read(SENTENCES).get("do_lower_case") is True else found


def of_normalizer(normalizer: Json) -> TokenizerSettings:
    """Return what the normalizer of a ``tokenizer.json`` states, where it is BERT's."""
    if not isinstance(normalizer, dict) or normalizer.get("type") != "BertNormalizer":
        return SILENT
    return of_flags(normalizer, NORMALIZER)


def lower_cased_before(settings: TokenizerSettings) -> TokenizerSettings:
    """Return the settings of a tokenizer that texts reach lower-cased: it still strips accents as it says itself."""
    return replace(settings, lower_case=True, strip_accents=settings.strips_accents(settings.lower_case))


def to_transformers(settings: TokenizerSettings, tokens: Collection[str] | None) -> dict[str, Json]:
    """Return what of the settings is stated, under the keys of ``tokenizer_config.json``.

    Special tokens are among them where the vocabulary has them, or is none that is listed.
    """
    flags = {key: getattr(settings, name) for name, key in FLAGS.items()}
    special = {role: settings.special[role] for role in ROLES if role in settings.special}
    return {
        **{key: value for key, value in flags.items() if value is not None},
        **({} if settings.max_length is None else {"model_max_length": settings.max_length}),
        **{f"{role}_token": token for role, token in special.items() if tokens is None or token in tokens},
    }
