"""Vocabularies: the forms in which systems keep them, and what they tell of a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from interlingua.convert.documents import read_text
from interlingua.mappings.dialect import LINES, NUMBERED

SENTENCEPIECE = (".model", ".spm")
"""Endings of files that hold a SentencePiece model, which is copied as it is."""

PADDING = ("[PAD]", "<pad>")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A vocabulary that is a text.

    Attributes:
        tokens: the tokens, in the order of the rows of the word embedding.
        form: ``lines`` or ``numbered``.
    """

    tokens: tuple[str, ...]
    form: str

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


def read_vocabulary(path: Path) -> Vocabulary:
    """Return the vocabulary that a text file holds.

    Only ``\\n`` ends a line (a carriage return before it is part of the line end): a vocabulary may hold other
    characters that Python calls line ends. A vocabulary is numbered where each line is a token, a tab and a
    number, the numbers counting from 0 (PaddlePaddle/ERNIE ``tokenization.py``, ``load_vocab``).

    Raises:
        FormatError: it is no UTF-8 text.
    """
    return parse_vocabulary(read_text(path))


def parse_vocabulary(text: str) -> Vocabulary:
    """Return the vocabulary that a text is."""
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if lines and not lines[-1]:
        lines.pop()
    cells = [line.rpartition("\t") for line in lines]
    if cells and all((tab, number) == ("\t", str(row)) for row, (_, tab, number) in enumerate(cells)):
        return Vocabulary(tuple(token for token, _, _ in cells), NUMBERED)
    return Vocabulary(tuple(lines), LINES)
