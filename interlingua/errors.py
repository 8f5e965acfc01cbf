"""Every way a command can fail, and the exit code each failure has.

The codes are part of the command line's contract: 1 a check failed, 2 wrong usage, 3 the input cannot be
read, 4 the target cannot hold it, 5 the output cannot be written.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import ClassVar


class InterlinguaError(Exception):
    """A failure that is the user's to read: one paragraph that says what, where, and what to do next."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        end = "" if self.message.endswith((".", "!", "?")) else "."
        return f"{self.message}{end} {self.hint}" if self.hint else f"{self.message}{end}"


class CheckError(InterlinguaError):
    """A check that ran says no: two checkpoints differ, or a written file is not what was meant."""

    exit_code = 1


class UsageError(InterlinguaError):
    """The request itself cannot be carried out as it was put."""

    exit_code = 2


class FormatError(InterlinguaError):
    """The input is missing, broken, unsafe or of no known kind.

    Args:
        message: what is wrong, as the end of a sentence that begins with the file's name.
        path: the file it was seen in.
        offset: the byte of that file at which it was seen, where one is known.
        hint: what to do next.
    """

    exit_code = 3

    def __init__(
        self,
        message: str,
        *,
        path: str | os.PathLike[str] | None = None,
        offset: int | None = None,
        hint: str | None = None,
    ) -> None:
        place = "" if path is None else f"{os.fspath(path)}: "
        where = "" if offset is None else f" (at byte {offset})"
        super().__init__(f"{place}{message}{where}", hint=hint)
        self.path = path
        self.offset = offset


class MappingError(InterlinguaError):
    """The target cannot hold the source, or lacks what it needs; ``names`` lists the tensors concerned."""

    exit_code = 4

    def __init__(self, message: str, *, names: Sequence[str] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.names = tuple(names)


class OutputError(InterlinguaError):
    """The output cannot be written: it exists, the disk is full, or permission is missing."""

    exit_code = 5


def counted(number: int, thing: str) -> str:
    """Return how many there are of a thing: ``1 job``, ``2 jobs``."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def nearest(name: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """Return the name that was probably meant; None where none is as like it (1: the same) as that."""
    from difflib import get_close_matches  # Who makes no mistake need not wait for it.

    names = list(known)
    near = get_close_matches(name, names, 1, likeness) or get_close_matches(name.lower(), names, 1, likeness)
    return near[0] if near else None


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the sentence that names what was probably meant, or all that there is."""
    names = list(known)
    near = nearest(name, names)
    if near is not None:
        return f"Did you mean {near!r}?"
    return f"There are: {', '.join(names)}." if names else "There is none."


def is_the_systems(error: BaseException) -> bool:
    """Whether the system failed (no permission, a broken disk), so that nothing is known of the input."""
    cause = error.__cause__
    return cause is not None and (isinstance(cause, OSError) or is_the_systems(cause))


def printable(text: str, most: int | None = None) -> str:
    """Return the text on one line: what moves a terminal's cursor or is no text at all is spelled as an escape.

    Names in a checkpoint are somebody else's; ``most`` characters of the result are kept.
    """
    if most is not None and len(text) > most:
        text = f"{text[:most]} ... ({len(text) - most} more characters)"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
