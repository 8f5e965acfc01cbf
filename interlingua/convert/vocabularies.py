"""Vocabularies: the forms in which systems keep them, and what they tell of a model."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from interlingua.convert.documents import read_text
from interlingua.errors import FormatError, printable
from interlingua.mappings.dialect import LINES, NUMBERED

SENTENCEPIECE = (".model", ".spm")
"""Endings of files that hold a SentencePiece model, which is copied as it is."""

PADDING = ("[PAD]", "<pad>")

MAX_ROWS = 1 << 21
"""Most rows that numbers can make where nothing tells how many there are: more than four times the largest known."""

LONGEST_NUMBER = 9
"""Most digits of a number that can be a row's."""

SHOWN = 40
"""Most characters of a token in a message."""

_NUMBER = re.compile("[0-9]+")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A vocabulary that is a text.

    Attributes:
        tokens: the tokens, in the order of the rows of the word embedding.
        form: ``lines`` or ``numbered``.
        unnamed: rows to which the numbers give no token, so that it is a placeholder.
    """

    tokens: tuple[str, ...]
    form: str
    unnamed: tuple[int, ...] = ()

    @property
    def padding(self) -> int | None:
        """The row of the padding token, where there is one."""
        return next((self.tokens.index(token) for token in PADDING if token in self.tokens), None)

    @property
    def lower_case(self) -> bool:
        """Whether no token but a special one has a capital letter, so that texts must be lower-cased first."""
        words = (token for token in self.tokens if not (token[:1] in "[<" and token[-1:] in "]>"))
        return not any("A" <= character <= "Z" for word in words for character in word)

    def spell(self, form: str) -> str:
        """Return the text of the vocabulary in another form."""
        if form == NUMBERED:
            return "".join(f"{token}\t{number}\n" for number, token in enumerate(self.tokens))
        return "".join(f"{token}\n" for token in self.tokens)


def is_text(path: Path) -> bool:
    """Say whether a vocabulary is a list of tokens, not a SentencePiece model."""
    return not path.name.endswith(SENTENCEPIECE)


def read_vocabulary(path: Path, rows: int | None = None) -> Vocabulary:
    """Return the vocabulary that a text file holds.

    Only ``\\n`` ends a line (a carriage return before it is part of the line end): a vocabulary may hold other
    characters that Python calls line ends. A vocabulary is numbered where each line is a token, a tab and a
    number: the token's row, in whatever order the lines are (PaddlePaddle/ERNIE ``tokenization.py``,
    ``load_vocab``).

    Args:
        path: the file.
        rows: rows of the word embedding, where that is known: no number goes beyond them.

    Raises:
        FormatError: it is no UTF-8 text, or gives tokens numbers that cannot be rows.
    """
    return parse_vocabulary(read_text(path), rows, path)


def parse_vocabulary(text: str, rows: int | None = None, path: Path | None = None) -> Vocabulary:
    """Return the vocabulary that a text, found in ``path``, is.

    Raises:
        FormatError: it gives tokens numbers that cannot be rows.
    """
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if lines and not lines[-1]:
        lines.pop()
    cells = [line.rpartition("\t") for line in lines]
    if not cells or not all(tab and _NUMBER.fullmatch(number) for _, tab, number in cells):
        return Vocabulary(tuple(lines), LINES)
    if all(number == str(row) for row, (_, _, number) in enumerate(cells)):
        return Vocabulary(tuple(token for token, _, _ in cells), NUMBERED)
    try:
        return _by_number([(token, number) for token, _, number in cells], MAX_ROWS if rows is None else rows)
    except ValueError as error:
        hint = "Pass the right vocabulary with --vocab FILE."
        raise FormatError(str(error), path=path, hint=hint) from error


def _by_number(cells: Sequence[tuple[str, str]], rows: int) -> Vocabulary:
    """Return the vocabulary of tokens that each stand in the row of their number; rows between them get a name.

    Raises:
        ValueError: two tokens have one number, or a number is beyond the rows.
    """
    placed: dict[int, str] = {}
    for token, number in cells:
        # Python refuses to read a number of thousands of digits.
        row = int(number) if len(number) <= LONGEST_NUMBER else rows
        if row >= rows:
            shown = printable(token, SHOWN), printable(number, SHOWN)
            raise ValueError(f"gives {shown[0]!r} the number {shown[1]}, but there are {rows} rows at most")
        if row in placed:
            both = " and ".join(repr(printable(one, SHOWN)) for one in (placed[row], token))
            raise ValueError(f"gives {both} the same number, {row}")
        placed[row] = token
    count = max(placed) + 1
    unnamed = tuple(row for row in range(count) if row not in placed)
    taken = set(placed.values())
    placed |= {row: placeholder(row, count, taken) for row in unnamed}
    return Vocabulary(tuple(placed[row] for row in range(count)), NUMBERED, unnamed)


def placeholder(row: int, count: int, taken: Collection[str]) -> str:
    """Return what the token of a row is called that has none: BERT's word for a spare row, with a number of its own."""
    return next(name for turn in range(len(taken) + 1) if (name := f"[unused{row + turn * count}]") not in taken)
