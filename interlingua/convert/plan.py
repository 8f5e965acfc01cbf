"""The complete list of what a conversion will do, made before a byte is written.

A plan is a value: it can be printed, serialised and compared, and carrying it out takes no decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from interlingua.formats.base import TensorSpec
from interlingua.formats.dtypes import DType

if TYPE_CHECKING:
    from interlingua.convert.json_forms import FileForm, PlanForm

SOURCE = "source"
RESIDUE = "residue"
FILES = "files"
VOCABULARY = "vocabulary"
CONFIG = "config"
ZEROS = "zeros"
"""Where a piece's bytes come from: a tensor of the source, of its residue, a file of its folder; or zeros."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of bytes of one tensor's row-major data.

    Attributes:
        origin: the reader that has the tensor, or ``ZEROS``.
        name: the tensor's name there.
        start: first byte.
        nbytes: number of bytes.
    """

    origin: str
    name: str
    start: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Step:
    """How one tensor of the output comes about: pieces joined, then transposed, then cast.

    Attributes:
        target: name, dtype and shape that it will have.
        pieces: what to join.
        transpose: (rows, columns) of the joined matrix that is to be transposed; None: it stays as it is.
        cast_from: the pieces' element type where it is not the target's.
        scale: what every element is multiplied by, in float64; None: nothing.
        canonical: its canonical name, where it has one.
    """

    target: TensorSpec
    pieces: tuple[Piece, ...]
    transpose: tuple[int, int] | None = None
    cast_from: DType | None = None
    canonical: str | None = None
    scale: float | None = None

    @property
    def is_copy(self) -> bool:
        """Whether the bytes stay as they are."""
        return self.transpose is None and self.keeps_bits

    @property
    def keeps_bits(self) -> bool:
        """Whether every element stays as it is, wherever it goes."""
        return self.cast_from is None and self.scale is None

    @property
    def operation(self) -> str:
        """What is done, in a word or two."""
        words = []
        if any(piece.origin in (ZEROS, RESIDUE) for piece in self.pieces) and len(self.pieces) > 1:
            words.append("pad rows")
        if len(self.pieces) == 1 and self.pieces[0].start:
            words.append("drop rows")
        if self.transpose is not None:
            words.append("transpose")
        if self.scale is not None:
            words.append(f"multiply by {self.scale:.9g}")
        if self.cast_from is not None:
            words.append(f"cast from {self.cast_from}")
        return ", ".join(words) or "copy"


@dataclass(frozen=True, slots=True)
class Output:
    """One file of the output.

    Attributes:
        path: its path in the output's folder, with ``/``.
        container: its container; ``file`` for bytes as they are.
        steps: its tensors.
        ties: name -> the tensor whose data it shares.
        metadata: what the container says of itself.
        bfloat16_as_uint16: whether the container calls bfloat16 uint16, as the target's system does.
    """

    path: str
    container: str
    steps: tuple[Step, ...]
    ties: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    bfloat16_as_uint16: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors."""
        return sum(step.target.nbytes for step in self.steps)


@dataclass(frozen=True, slots=True)
class Text:
    """A small file whose content is already known."""

    path: str
    content: str


@dataclass(frozen=True, slots=True)
class Kept:
    """A line of the plan on something that goes into the residue, or is left out."""

    name: str
    nbytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a conversion will do.

    Attributes:
        source: the source's path.
        origin: its dialect; None where only the container is converted.
        target: the dialect of the output; None likewise.
        family: the model's family; None likewise.
        container: the container of the weights.
        heads: the model's heads that the output has.
        outputs: files made of tensors: the weights first.
        texts: small files besides.
        residue: what the target has no place for.
        keeps_residue: whether that is kept in a file beside the output.
        notes: sentences that a person should read.
    """

    source: str
    origin: str | None
    target: str | None
    family: str | None
    container: str
    heads: tuple[str, ...]
    outputs: tuple[Output, ...]
    texts: tuple[Text, ...]
    residue: tuple[Kept, ...]
    keeps_residue: bool
    notes: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors that will be written."""
        return sum(output.nbytes for output in self.outputs)

    @property
    def casts(self) -> bool:
        """Whether any tensor changes its element type."""
        return any(step.cast_from is not None for output in self.outputs for step in output.steps)

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that will be written."""
        return (*(output.path for output in self.outputs), *(text.path for text in self.texts))

    def as_dict(self) -> PlanForm:
        """Return the plan ready for JSON."""
        return {
            "source": self.source,
            "from": self.origin,
            "to": self.target,
            "family": self.family,
            "container": self.container,
            "heads": list(self.heads),
            "bytes": self.nbytes,
            "files": [_output_dict(output) for output in self.outputs]
            + [{"path": text.path, "bytes": len(text.content.encode("utf-8"))} for text in self.texts],
            "residue": [{"name": kept.name, "bytes": kept.nbytes, "reason": kept.reason} for kept in self.residue],
            "residue_kept": self.keeps_residue,
            "notes": list(self.notes),
        }


def _output_dict(output: Output) -> FileForm:
    if output.container == "file":
        return {"path": output.path, "bytes": output.nbytes}
    return {
        "path": output.path,
        "container": output.container,
        "bytes": output.nbytes,
        "tensors": [
            {
                "name": step.target.name,
                "dtype": step.target.dtype.name,
                "shape": list(step.target.shape),
                "from": [piece.name for piece in step.pieces if piece.origin != ZEROS],
                "operation": step.operation,
            }
            for step in output.steps
        ],
        "ties": dict(output.ties),
    }
