"""Find a checkpoint's tokenizer: the form that its own system would take of what lies in its folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from interlingua.convert.documents import read_object, read_text
from interlingua.convert.source import Checkpoint
from interlingua.convert.vocabularies import Vocabulary
from interlingua.errors import InterlinguaError
from interlingua.mappings.dialect import LINES
from interlingua.verify.parity.batch import longest_row
from interlingua.verify.text.fast import byte_level, cutting, from_file, word_piece
from interlingua.verify.text.sentence_pieces import pieces
from interlingua.verify.text.settings import Settings, case_in_name, read_settings
from interlingua.verify.text.tokenizer import Cut, NoTokenizerError, Tokenizer, checked, quoted

OF_THE_LIBRARY = ("hf", "hf-tf", "sentence-transformers", "mindnlp")
"""Dialects whose systems read ``tokenizer.json`` before any vocabulary."""

FILE = "tokenizer.json"
MERGES = "merges.txt"
NUMBERS = "vocab.json"

BLANK_OF_BYTES = "\u0120"
"""How byte-level vocabularies spell a blank."""

_NUMBER = re.compile("[0-9]{1,9}")


def find_tokenizer(checkpoint: Checkpoint, lower_case: bool | None = None) -> Tokenizer:
    """Return the tokenizer of a checkpoint, made from what lies in its folder.

    Whether it lower-cases is what its settings say; else what ``lower_case`` says; else what the folder's name says
    (``uncased``); else it does unless some token has a capital letter.

    Args:
        checkpoint: the open checkpoint.
        lower_case: what is known of lower-casing where its folder does not say.

    Raises:
        NoTokenizerError: it has none, or none that is understood here.
    """
    try:
        settings = read_settings(checkpoint)
        if _takes_the_file(checkpoint):
            return _of_file(checkpoint, settings)
        if checkpoint.vocabulary is not None and checkpoint.tokens is None:
            return _of_pieces(checkpoint, settings, lower_case)
        return _of_list(checkpoint, settings, lower_case)
    except NoTokenizerError:
        raise
    except InterlinguaError as error:
        raise NoTokenizerError(str(error)) from error


def _takes_the_file(checkpoint: Checkpoint) -> bool:
    if checkpoint.asked.vocabulary or checkpoint.dialect == "keras-hub":
        return False
    there = (checkpoint.folder / FILE).is_file()
    return there and (checkpoint.dialect in OF_THE_LIBRARY or checkpoint.vocabulary is None)


def _finished(
    checkpoint: Checkpoint, origin: str, vocabulary: Mapping[str, int], lower: bool | None, certain: bool, cut: Cut
) -> Tokenizer:
    if checkpoint.match is None:
        raise NoTokenizerError("no dialect knows the checkpoint")
    config = checkpoint.completed.config
    return Tokenizer(
        origin=origin,
        vocabulary=checked(vocabulary, config.vocab_size, origin),
        lower_case=lower,
        certain=certain,
        limit=longest_row(config, checkpoint.match.table.conventions.positions),
        rows=config.vocab_size,
        types=config.type_vocab_size,
        cut=cut,
    )


def _of_file(checkpoint: Checkpoint, settings: Settings) -> Tokenizer:
    """Return the tokenizer that ``tokenizer.json`` is; a vocabulary beside it must say the same."""
    made, lower = from_file(checkpoint.folder / FILE, settings)
    vocabulary = made.get_vocab(with_added_tokens=True)
    beside = _listed(checkpoint)
    if beside is not None:
        origin, tokens = beside
        wrong = next((token for token, row in tokens.items() if vocabulary.get(token) != row), None)
        if wrong is not None:
            theirs = vocabulary.get(wrong, "no id")
            raise NoTokenizerError(f"{origin} gives {quoted(wrong)} the id {tokens[wrong]}, {FILE} {theirs}")
    return _finished(checkpoint, FILE, vocabulary, lower, True, cutting(made, settings))


def _of_pieces(checkpoint: Checkpoint, settings: Settings, lower_case: bool | None) -> Tokenizer:
    """Return the tokenizer that a SentencePiece model is."""
    if checkpoint.vocabulary is None:
        raise NoTokenizerError("there is no vocabulary")
    certain = settings.lower_case is not None
    known = settings if certain else replace(settings, lower_case=lower_case)
    found = pieces(checkpoint.vocabulary, checkpoint.family, known)
    sure = certain or found.lower_case is None
    return _finished(checkpoint, checkpoint.vocabulary.name, found.vocabulary, found.lower_case, sure, found.cut)


def _of_list(checkpoint: Checkpoint, settings: Settings, lower_case: bool | None) -> Tokenizer:
    """Return the tokenizer of a vocabulary that is a text: byte-level BPE, or WordPiece."""
    listed = _listed(checkpoint)
    if listed is None:
        raise NoTokenizerError("there is no vocabulary")
    origin, tokens = listed
    # Checked before a library sees it.
    vocabulary = checked({**tokens, **settings.added}, checkpoint.completed.config.vocab_size, origin)
    if origin == NUMBERS or any(token.startswith(BLANK_OF_BYTES) for token in vocabulary):
        merges = checkpoint.folder / _place(checkpoint, MERGES)
        if not merges.is_file():
            raise NoTokenizerError(f"{origin} is a byte-level vocabulary, and there is no {MERGES}")
        made = byte_level(vocabulary, read_text(merges), settings)
        return _finished(checkpoint, f"{origin} and {MERGES}", vocabulary, None, True, cutting(made, settings))
    lower, certain = _casing(checkpoint, settings, lower_case, vocabulary)
    made = word_piece(vocabulary, settings, lower_case=lower)
    return _finished(checkpoint, origin, vocabulary, lower, certain, cutting(made, settings))


def _casing(
    checkpoint: Checkpoint, settings: Settings, lower_case: bool | None, vocabulary: Mapping[str, int]
) -> tuple[bool, bool]:
    """Return whether texts are lower-cased, and whether the folder says so."""
    if settings.lower_case is not None:
        return settings.lower_case, True
    named = case_in_name(checkpoint)
    if lower_case is None and named is not None:
        return named, True
    if lower_case is not None:
        return lower_case, False
    words = tuple(token for token in vocabulary if token not in settings.added)
    return Vocabulary(words, LINES).lower_case, False


def _listed(checkpoint: Checkpoint) -> tuple[str, dict[str, int]] | None:
    """Return (file name, token -> id) of a vocabulary that is a text; None where there is none."""
    if checkpoint.tokens is not None and checkpoint.vocabulary is not None:
        name = checkpoint.vocabulary.name
        return name, numbered(checkpoint.tokens, name)
    numbers = checkpoint.folder / _place(checkpoint, NUMBERS)
    if checkpoint.vocabulary is not None or not numbers.is_file():
        return None
    found = read_object(numbers)
    wrong = next((key for key, row in found.items() if isinstance(row, bool) or not isinstance(row, int)), None)
    if wrong is not None:
        raise NoTokenizerError(f"{NUMBERS} gives {quoted(wrong)} no number")
    return NUMBERS, found


def _place(checkpoint: Checkpoint, name: str) -> str:
    """Return where a file that every system has lies in the folders of this one."""
    if checkpoint.match is None:
        return name
    form = checkpoint.match.dialect.folder_of(checkpoint.match.table.family.name)
    return form.places.get(name, name)


def numbered(vocabulary: Vocabulary, origin: str) -> dict[str, int]:
    """Return token -> id of a vocabulary: a line's own number where it has one, else the line's place.

    Numbers stand behind a tab, and need be in no order (PaddlePaddle/ERNIE ``tokenization.py``, ``load_vocab``).
    Empty lines are rows that nothing is cut into.

    Raises:
        NoTokenizerError: a token stands there twice.
    """
    found: dict[str, int] = {}
    for place, line in enumerate(vocabulary.tokens):
        token, tab, number = line.rpartition("\t")
        has_number = bool(tab) and _NUMBER.fullmatch(number) is not None
        token, row = (token, int(number)) if has_number else (line, place)
        if token and found.setdefault(token, row) != row:
            raise NoTokenizerError(f"{origin} has {quoted(token)} twice, as {found[token]} and as {row}")
    return found
