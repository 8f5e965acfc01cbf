"""Tokenizers that a SentencePiece model is, around the package ``sentencepiece``: ALBERT's and XLM-R's."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interlingua.formats.base import SourceFile
from interlingua.verify.text.fast import prepared
from interlingua.verify.text.settings import Settings
from interlingua.verify.text.tokenizer import Cut, NoTokenizerError, refusing

MAX_MODEL = 64 << 20
"""Longest model, in bytes, that is read: XLM-R's has 5 million."""

BLANK = "\u2581"
"""Stands for a blank in pieces."""

FAIRSEQ = ("<s>", "<pad>", "</s>", "<unk>")
"""Tokens that fairseq's dictionary, and so XLM-R's word embedding, begins with."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """A SentencePiece model as a model's vocabulary.

    Attributes:
        vocabulary: piece -> id.
        cut: cuts texts.
        lower_case: whether texts are lower-cased before it.
    """

    vocabulary: Mapping[str, int]
    cut: Cut
    lower_case: bool | None


def pieces(path: Path, family: str | None, settings: Settings) -> Pieces:
    """Return the tokenizer that a SentencePiece model is in models of a family.

    Raises:
        NoTokenizerError: the package is not installed, the model is damaged or too large, or it is not known
            which ids models of this family give to its pieces.
    """
    model = _load(path)
    listed = {str(model.id_to_piece(row)): row for row in range(int(model.get_piece_size()))}
    if family == "xlm-roberta":
        return _xlm_roberta(model, listed, settings)
    if "[CLS]" in listed and "[SEP]" in listed:
        return _albert(model, listed, settings)
    raise NoTokenizerError(f"nothing says which ids models of {family} give to the pieces of {path.name}")


def _load(path: Path) -> Any:
    try:
        import sentencepiece
    except ImportError as error:
        raise NoTokenizerError(
            f"{path.name} is a SentencePiece model, and the package sentencepiece is not installed"
        ) from error
    with refusing(path.name):
        with SourceFile(path) as file:
            if file.size > MAX_MODEL:
                raise NoTokenizerError(f"{path.name} is too large for a SentencePiece model ({file.size} bytes)")
            raw = file.read_at(0, file.size, "the model")
        model = sentencepiece.SentencePieceProcessor()
        model.LoadFromSerializedProto(raw)
        return model


def _xlm_roberta(model: Any, listed: Mapping[str, int], settings: Settings) -> Pieces:
    """Return XLM-R's: fairseq's four tokens come first, the model's own three first pieces are left out.

    Source: huggingface/transformers ``models/xlm_roberta/tokenization_xlm_roberta.py`` (``fairseq_offset``).
    """
    first = dict(zip(FAIRSEQ, range(len(FAIRSEQ)), strict=True))
    vocabulary = {piece: row + 1 for piece, row in listed.items() if row > 2} | first | {"<mask>": len(listed) + 1}
    unknown = first["<unk>"]

    def ids(text: str) -> list[int]:
        return [int(row) + 1 if row else unknown for row in model.encode(prepared(text, settings), out_type=int)]

    def cut(text: str, pair: str | None, most: int) -> tuple[list[int], list[int]]:
        one, other = _shortened(ids(text), [] if pair is None else ids(pair), most - (2 if pair is None else 4))
        start, end = first["<s>"], first["</s>"]
        found = [start, *one, end] if pair is None else [start, *one, end, end, *other, end]
        return found, [0] * len(found)

    return Pieces(vocabulary, cut, None)


def _albert(model: Any, listed: Mapping[str, int], settings: Settings) -> Pieces:
    """Return ALBERT's: texts are normalised before the model, ``[CLS] A [SEP] B [SEP]``.

    Source: google-research/albert ``tokenization.py`` (``preprocess_text``, ``encode_pieces``); as there, texts
    are lower-cased unless something says otherwise.
    """
    start, end = listed["[CLS]"], listed["[SEP]"]
    lower = settings.lower_case is not False

    def ids(text: str) -> list[int]:
        normal = _normalised(prepared(text, settings), lower=lower, accents=settings.keep_accents)
        cells = [part for piece in model.encode(normal, out_type=str) for part in _without_comma(model, piece)]
        return [int(model.piece_to_id(cell)) for cell in cells]

    def cut(text: str, pair: str | None, most: int) -> tuple[list[int], list[int]]:
        one, other = _shortened(ids(text), [] if pair is None else ids(pair), most - (2 if pair is None else 3))
        front = [start, *one, end]
        back = [] if pair is None else [*other, end]
        return front + back, [0] * len(front) + [1] * len(back)

    return Pieces(listed, cut, lower)


def _normalised(text: str, *, lower: bool, accents: bool) -> str:
    text = " ".join(text.split()).replace("``", '"').replace("''", '"')
    if not accents:
        text = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return text.lower() if lower else text


def _without_comma(model: Any, piece: str) -> list[str]:
    """Return a piece that ends in a digit and a comma as the pieces of the digits, and the comma."""
    if not (len(piece) > 1 and piece[-1] == "," and piece[-2].isdigit()):
        return [piece]
    digits = list(model.encode(piece[:-1].replace(BLANK, ""), out_type=str))
    # The model begins every text with a blank; it goes where there was none.
    if piece[0] != BLANK and digits[0][0] == BLANK:
        digits = digits[1:] if len(digits[0]) == 1 else [digits[0][1:], *digits[1:]]
    return [*digits, ","]


def _shortened(one: list[int], other: list[int], most: int) -> tuple[list[int], list[int]]:
    """Return both without their ends, so that they have ``most`` ids together: the longer one gives first."""
    one, other = list(one), list(other)
    while len(one) + len(other) > max(most, 0):
        (one if len(one) > len(other) else other).pop()
    return one, other
