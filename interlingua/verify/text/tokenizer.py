"""A checkpoint's tokenizer: what cuts text into the token ids that its word embedding has rows for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from interlingua.errors import InterlinguaError, printable

Cut = Callable[[str, "str | None", int], tuple[list[int], list[int]]]
"""Cuts (text, second text or None, most tokens) into (token ids, token types), special tokens among them."""

LONGEST_REASON = 300
"""Characters of another library's message that are passed on."""


class NoTokenizerError(InterlinguaError):
    """A checkpoint's text cannot be cut into tokens; ``reason`` says why, as a sentence or its end."""

    @property
    def reason(self) -> str:
        """Why there is no tokenizer."""
        return self.message


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turn whatever a tokenizer's library raises into a NoTokenizerError that begins with ``what``."""
    try:
        yield
    except NoTokenizerError:
        raise
    except Exception as error:  # Of a hostile file the libraries raise what they meet.
        raise NoTokenizerError(f"{what}: {printable(str(error), LONGEST_REASON)}") from error
    except BaseException as error:
        # A panic in Rust is no Exception; its class cannot be imported from anywhere.
        if type(error).__name__ != "PanicException":
            raise
        raise NoTokenizerError(f"{what}: {printable(str(error), LONGEST_REASON)}") from error


@dataclass(frozen=True, slots=True, eq=False)
class Tokenizer:
    """Cuts text as a checkpoint's own system does.

    Attributes:
        origin: what it was made of.
        vocabulary: token -> id, every id a row of the word embedding.
        lower_case: whether texts are lower-cased; None where that is none of its notions.
        certain: whether something in the folder (or its name) says so; otherwise the vocabulary told.
        limit: tokens that the model takes at once.
        rows: rows of the word embedding.
        types: token types that the model knows.
        cut: does the work.
    """

    origin: str
    vocabulary: Mapping[str, int]
    lower_case: bool | None
    certain: bool
    limit: int
    rows: int
    types: int
    cut: Cut

    def encode(self, text: str, pair: str | None = None, *, limit: int | None = None) -> list[int]:
        """Return the ids of a text (or of two), the model's special tokens among them.

        Raises:
            NoTokenizerError: its library fails on the text, or it gives what the model has no embedding for.
        """
        return self._encode(text, pair, limit)[0]

    def encode_pair(self, text: str, pair: str, *, limit: int | None = None) -> tuple[list[int], list[int]]:
        """Return (ids, token types) of two texts as one sequence.

        The token types are all 0 for a model that does not tell two apart.

        Raises:
            NoTokenizerError: as for ``encode``.
        """
        return self._encode(text, pair, limit)

    def _encode(self, text: str, pair: str | None, limit: int | None) -> tuple[list[int], list[int]]:
        most = self.limit if limit is None else min(limit, self.limit)
        with refusing(f"{self.origin} cannot cut a text"):
            ids, types = self.cut(text, pair, most)
        if len(ids) > most:
            raise NoTokenizerError(f"{most} tokens are too few for the special tokens that {self.origin} adds")
        beyond = [row for row in ids if not 0 <= row < self.rows]
        if beyond:
            raise NoTokenizerError(f"{self.origin} gives {beyond[0]}, but the word embedding has {self.rows} rows")
        return ids, types if self.types > 1 and max(types, default=0) < self.types else [0] * len(ids)


def checked(vocabulary: Mapping[str, int], rows: int, origin: str) -> Mapping[str, int]:
    """Return a vocabulary whose ids are rows of the word embedding, each of one token.

    Raises:
        NoTokenizerError: they are not.
    """
    if not vocabulary:
        raise NoTokenizerError(f"{origin} has no tokens")
    owners: dict[int, str] = {}
    for token, row in vocabulary.items():
        if not 0 <= row < rows:
            raise NoTokenizerError(
                f"{origin} gives {quoted(token)} the id {row}, but the word embedding has {rows} rows"
            )
        if owners.setdefault(row, token) != token:
            raise NoTokenizerError(f"{origin} gives {quoted(token)} and {quoted(owners[row])} the same id {row}")
    return vocabulary


def quoted(token: str) -> str:
    """Return a token as a message shows it."""
    return f"'{printable(token, 40)}'"
