"""Real text through a checkpoint's own vocabulary, and whether two folders cut it into the same tokens."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from interlingua.convert.documents import read_text
from interlingua.convert.source import Checkpoint
from interlingua.errors import UsageError
from interlingua.verify.parity.batch import Batch, padded_batch
from interlingua.verify.parity.outcome import Tokens
from interlingua.verify.text.finding import find_tokenizer
from interlingua.verify.text.tokenizer import NoTokenizerError, Tokenizer, quoted

__all__ = [
    "SENTENCES",
    "NoTokenizerError",
    "Tokenizer",
    "casing_note",
    "compare_tokenizers",
    "find_tokenizer",
    "read_sentences",
    "text_batch",
]

SENTENCES: tuple[str, ...] = tuple(Path(__file__).with_name("sentences.txt").read_text("utf-8").split("\n")[:-1])
"""English and Chinese: case, accents, punctuation, numbers, rare characters, mixed scripts, emoji, and a long one."""

MAX_SENTENCES = 64
"""Most sentences of a file: every one is run through both models with all its hidden states kept."""

MAX_TEXT = 1 << 20
"""Most characters of such a file."""

SHOWN = 8
"""Tokens with two ids that a comparison lists."""


def read_sentences(path: str | os.PathLike[str]) -> list[str]:
    """Return the sentences of a UTF-8 text file, one a line; blank lines are left out.

    Raises:
        FormatError: it cannot be read, or is no UTF-8.
        UsageError: it is too long, or has no sentence.
    """
    path = Path(path)
    text = read_text(path)
    if len(text) > MAX_TEXT:
        raise UsageError(f"{path}: has {len(text)} characters, and {MAX_TEXT} are read at most.")
    found = [line.strip() for line in text.split("\n") if line.strip()]
    if not found:
        raise UsageError(f"{path}: has no sentences.", hint="Write one a line.")
    if len(found) > MAX_SENTENCES:
        raise UsageError(f"{path}: has {len(found)} sentences, and {MAX_SENTENCES} are run at most.")
    return found


def text_batch(checkpoint: Checkpoint, sentences: Sequence[str], limit: int) -> Batch:
    """Return sentences as a batch: each by itself, then the first two as a pair (one alone: with itself).

    A sentence that has the padding token in it is left out: padding stands nowhere but behind.

    Args:
        checkpoint: whose tokenizer cuts them.
        sentences: the sentences.
        limit: most tokens of a row, besides what the model itself can take.

    Raises:
        NoTokenizerError: it has no tokenizer, or not a sentence is left.
    """
    tokenizer = find_tokenizer(checkpoint)
    pad = checkpoint.completed.config.pad_token_id
    rows = [(ids := tokenizer.encode(sentence, limit=limit), [0] * len(ids)) for sentence in sentences]
    rows += [tokenizer.encode_pair(one, other, limit=limit) for one, other in _pairs(sentences)]
    fitting = [(ids, types) for ids, types in rows if len(ids) > 1 and pad not in ids]
    if not fitting:
        raise NoTokenizerError(f"{tokenizer.origin} cuts no sentence into two tokens or more without padding")
    return padded_batch("text", fitting, pad)


def _pairs(sentences: Sequence[str]) -> list[tuple[str, str]]:
    return [(sentences[0], sentences[min(1, len(sentences) - 1)])] if sentences else []


def compare_tokenizers(a: Checkpoint, b: Checkpoint, sentences: Sequence[str]) -> Tokens:
    """Return whether two checkpoints cut the sentences, and the first two as a pair, into the same ids.

    Both vocabularies are compared whole as well, since no few sentences meet every token: a token with two ids
    (or one) stands among the differences as ``the token 'x'``. Where one folder alone says whether texts are
    lower-cased, the other, whose system must be told, is told the same (see ``casing_note``).
    """
    try:
        one, other = _both(a, b)
        cuts = [
            (shown, one.encode(*texts, limit=other.limit), other.encode(*texts, limit=one.limit))
            for shown, texts in (
                *((sentence, (sentence,)) for sentence in sentences),
                *((f"{first} [and] {second}", (first, second)) for first, second in _pairs(sentences)),
            )
        ]
    except NoTokenizerError as error:
        return Tokens(problem=str(error))
    if not cuts:
        return Tokens(problem="There are no sentences.")
    differing = [(shown, tuple(ours), tuple(theirs)) for shown, ours, theirs in cuts if ours != theirs]
    return Tokens(len(cuts), (*differing, *islice(_renumbered(one, other), SHOWN)))


def _both(a: Checkpoint, b: Checkpoint) -> tuple[Tokenizer, Tokenizer]:
    """Return both tokenizers, what one alone is certain of being told to the other."""
    found = []
    for label, checkpoint in (("A", a), ("B", b)):
        try:
            found.append(find_tokenizer(checkpoint))
        except NoTokenizerError as error:
            raise NoTokenizerError(f"{label}: {error.reason}") from error
    one, other = found
    if one.certain and not other.certain and one.lower_case is not None:
        other = find_tokenizer(b, one.lower_case)
    elif other.certain and not one.certain and other.lower_case is not None:
        one = find_tokenizer(a, other.lower_case)
    return one, other


def _renumbered(one: Tokenizer, other: Tokenizer) -> Iterator[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """Yield each token that has not the same id in both."""
    ours, theirs = one.vocabulary, other.vocabulary
    for token in {**ours, **theirs}:
        rows = [(table[token],) if token in table else () for table in (ours, theirs)]
        if rows[0] != rows[1]:
            yield f"the token {quoted(token)}", rows[0], rows[1]


def casing_note(a: Checkpoint, b: Checkpoint) -> str | None:
    """Return a sentence on the folders that do not say whether texts are lower-cased; None where there is none.

    Raises:
        NoTokenizerError: one of them has no tokenizer.
    """
    both = _both(a, b)
    silent = [label for label, found in zip("AB", both, strict=True) if not found.certain]
    if not silent:
        return None
    does = "are" if both["AB".index(silent[0])].lower_case else "are not"
    why = "as the vocabulary suggests" if len(silent) == 2 else "as the other one says"
    return f"Nothing in {' and '.join(silent)} says whether texts are lower-cased; {why}, they {does}."
