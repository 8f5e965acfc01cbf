"""Tokenizers that the library ``tokenizers`` computes: its own files, WordPiece, and byte-level BPE.

Files are somebody else's: the library sees none that is too large, and no expression of theirs is ever matched.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from interlingua.formats.base import SourceFile
from interlingua.mappings.config import Json
from interlingua.verify.text.settings import Settings
from interlingua.verify.text.tokenizer import Cut, NoTokenizerError, quoted, refusing

MAX_FILE = 64 << 20
"""Longest ``tokenizer.json``, in bytes, that is read: XLM-R's has 17 million."""

MAX_STEPS = 64 << 10
"""Longest description, in characters, of what puts special tokens around a text."""

EXPRESSIONS = (" {2,}",)
"""Regular expressions that are matched (ALBERT's and XLM-R's): another could take for ever."""

LONGEST_WORD = 100
"""Characters of a word that WordPiece cuts; a longer one is unknown (transformers' and MindNLP's value)."""


def library() -> Any:
    """Return the library.

    Raises:
        NoTokenizerError: it is not installed.
    """
    try:
        import tokenizers
    except ImportError as error:
        raise NoTokenizerError("the package tokenizers is not installed (pip install 'interlingua[parity]')") from error
    return tokenizers


def from_file(path: Path, settings: Settings) -> tuple[Any, bool | None]:
    """Return the tokenizer that a ``tokenizer.json`` is, and whether it lower-cases (None: not BERT's way).

    What ``tokenizer_config.json`` says of lower-casing stands above the file, as in transformers
    (``models/bert/tokenization_bert*.py``). Truncation, padding and dropout are switched off.

    Raises:
        NoTokenizerError: it is too large, damaged, or does what is refused here.
    """
    tokenizers = library()
    with refusing(path.name):
        with SourceFile(path) as file:
            if file.size > MAX_FILE:
                raise NoTokenizerError(f"{path.name} is too large for a tokenizer ({file.size} bytes)")
            raw = file.read_at(0, file.size, "the tokenizer")
        made = tokenizers.Tokenizer.from_buffer(raw)
        made.no_truncation()
        made.no_padding()
        if getattr(made.model, "dropout", None):
            made.model.dropout = None
        state = _state(made.normalizer)
        _refuse_unbounded(path.name, state, _state(made.pre_tokenizer), _state(made.post_processor))
        if state.get("type") != "BertNormalizer":
            kinds = [part.get("type") for part in _objects(state)]
            return made, True if "Lowercase" in kinds else None
        lower = settings.lower_case if settings.lower_case is not None else state.get("lowercase") is True
        if lower is not state.get("lowercase"):
            made.normalizer.lowercase = lower
        return made, lower


def _state(component: Any) -> dict[str, Json]:
    """Return the JSON object that describes a component."""
    if component is None:
        return {}
    found = json.loads(component.__getstate__())
    return found if isinstance(found, dict) else {}


def _objects(value: Json) -> Iterator[dict[str, Json]]:
    """Yield every object in a JSON value."""
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _objects(item)


def _refuse_unbounded(name: str, normalizer: Json, pre_tokenizer: Json, post_processor: Json) -> None:
    """Raise NoTokenizerError where a text could grow, or take time, without bound."""
    parts = [*_objects(normalizer), *_objects(pre_tokenizer)]
    for part in parts:
        if "Regex" in part and part["Regex"] not in EXPRESSIONS:
            raise NoTokenizerError(f"{name} has a regular expression that is not matched here: {quoted(part['Regex'])}")
        if len(str(part.get("content", ""))) > 1 or len(str(part.get("prepend", ""))) > 1:
            raise NoTokenizerError(f"{name} puts longer text in the place of shorter")
    if sum(part.get("type") == "Precompiled" for part in parts) > 1:
        raise NoTokenizerError(f"{name} puts longer text in the place of shorter")
    if len(json.dumps(post_processor)) > MAX_STEPS:
        raise NoTokenizerError(f"{name} puts too much around a text")


def word_piece(vocabulary: Mapping[str, int], settings: Settings, *, lower_case: bool) -> Any:
    """Return BERT's tokenizer: words, then the longest pieces from the left.

    Some systems' own code departs from it, whatever the folder says. PaddleNLP makes a word of every symbol
    (``paddlenlp/transformers/tokenizer_utils.py``, ``_is_symbol``), so that two emoji in a row are two words.
    KerasHub folds case where it lower-cases (``keras_hub/src/tokenizers/word_piece_tokenizer.py``, ``pretokenize``),
    which takes a full-width comma for a comma and a ligature for its letters. google-research/bert and UER take
    words of up to 200 characters. What is computed here is what vocabulary and settings mean to BERT's own.

    Sources: google-research/bert ``tokenization.py`` (``BasicTokenizer``, ``WordpieceTokenizer``);
    huggingface/tokenizers ``normalizers/bert.rs``, ``pre_tokenizers/bert.rs``, ``models/wordpiece``.

    Raises:
        NoTokenizerError: a special token is missing.
    """
    tokenizers = library()
    special = _special(vocabulary, settings)
    with refusing("WordPiece"):
        model = tokenizers.models.WordPiece(
            dict(vocabulary), unk_token=special["unk"], max_input_chars_per_word=LONGEST_WORD
        )
        made = tokenizers.Tokenizer(model)
        made.normalizer = tokenizers.normalizers.BertNormalizer(
            clean_text=True,
            handle_chinese_chars=settings.split_cjk,
            strip_accents=settings.strip_accents,
            lowercase=lower_case,
        )
        made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
        _finish(made, vocabulary, settings, special)
    return made


def byte_level(vocabulary: Mapping[str, int], merges: str, settings: Settings) -> Any:
    """Return RoBERTa's tokenizer: byte-level BPE, after openai/gpt-2 ``src/encoder.py``.

    Args:
        vocabulary: token -> id.
        merges: the text of ``merges.txt``: a line a pair, the likeliest first, after a line ``#version``.
        settings: what the folder says.

    Raises:
        NoTokenizerError: a special token or a merged token is missing.
    """
    tokenizers = library()
    special = _special(vocabulary, settings)
    with refusing("merges.txt"):
        lines = [line.removesuffix("\r") for line in merges.split("\n")]
        pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
        wrong = next((pair for pair in pairs if len(pair) != 2), None)
        if wrong is not None:
            raise NoTokenizerError(f"merges.txt has a line that is no pair: {quoted(' '.join(wrong))}")
        model = tokenizers.models.BPE(vocab=dict(vocabulary), merges=[(one, other) for one, other in pairs])
        made = tokenizers.Tokenizer(model)
        made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=settings.prefix_space)
        _finish(made, vocabulary, settings, special)
    return made


def _special(vocabulary: Mapping[str, int], settings: Settings) -> dict[str, str]:
    found = settings.special(vocabulary)
    missing = [role for role in ("unk", "cls", "sep") if role not in found]
    if missing:
        wanted = ", ".join(f"[{role.upper()}]" for role in missing)
        raise NoTokenizerError(f"the vocabulary has no {wanted}, nor the like of it under another name")
    return found


def _finish(made: Any, vocabulary: Mapping[str, int], settings: Settings, special: Mapping[str, str]) -> None:
    """Have special tokens known in texts, and put around them: ``[CLS] A [SEP] B [SEP]``, ``<s> A </s></s> B </s>``."""
    tokenizers = library()
    roberta = special["cls"] == "<s>"
    ends = [(special[role], vocabulary[special[role]]) for role in ("sep", "cls")]
    kind = tokenizers.processors.RobertaProcessing if roberta else tokenizers.processors.BertProcessing
    made.post_processor = kind(*ends)
    made.add_special_tokens(
        [
            tokenizers.AddedToken(token, normalized=False, special=True, lstrip=roberta and role == "mask")
            for role, token in special.items()
        ]
    )
    # They are in the vocabulary already, so that they keep their ids.
    others = [token for token in settings.added if token not in special.values() and token in vocabulary]
    made.add_tokens([tokenizers.AddedToken(token) for token in others])


def cutting(made: Any, settings: Settings) -> Cut:
    """Return what cuts texts with a tokenizer of the library."""

    def cut(text: str, pair: str | None, most: int) -> tuple[list[int], list[int]]:
        made.enable_truncation(most)
        found = made.encode(prepared(text, settings), None if pair is None else prepared(pair, settings))
        return list(found.ids), list(found.type_ids)

    return cut


def prepared(text: str, settings: Settings) -> str:
    """Return a text as sentence-transformers hands it to its tokenizer (``models/Transformer.py``)."""
    text = text.strip() if settings.before else text
    return text.lower() if settings.lower_before else text
