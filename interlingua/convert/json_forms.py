"""Forms of the JSON documents that commands print, as types: the code that makes them is checked against these.

``docs/schemas/`` has them as JSON Schema. A form's version is in the document: it is raised when a reader of the last
one would go wrong, and a key may come without that. What a parity check and a batch print is described where it is
made: ``Outcome`` of ``interlingua.verify.parity.outcome`` and ``BatchForm`` of ``interlingua.convert.batch.results``.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

VERSION: Literal[1] = 1
"""Version of each form here."""

DRAFT = "https://json-schema.org/draft/2020-12/schema"
"""The JSON Schema that the forms are published in."""


# -- convert


class ResidueForm(TypedDict):
    """What the target has no place for.

    Attributes:
        name: a tensor, a file, or a key of the configuration.
        bytes: its size.
        reason: why there is no place.
    """

    name: str
    bytes: int
    reason: str


PlannedTensorForm = TypedDict(
    "PlannedTensorForm", {"name": str, "dtype": str, "shape": list[int], "from": list[str], "operation": str}
)
PlannedTensorForm.__doc__ = """A tensor that is written.

Attributes:
    name: its name in the output.
    dtype: its element type there.
    shape: its shape there.
    from: names in the source that it is made of; none where its rows are added.
    operation: what is done to it: `copy`, `transpose`, `pad rows` ...
"""


class _File(TypedDict):
    path: str
    bytes: int


class FileForm(_File, total=False):
    """A file that is written.

    Attributes:
        path: its path in the output.
        bytes: its size; of weights, that of their tensors.
        container: the container of weights; other files have none.
        tensors: the tensors of weights.
        ties: names under which the file has another's tensor: name -> the other.
    """

    container: str
    tensors: list[PlannedTensorForm]
    ties: dict[str, str]


_Ends = TypedDict("_Ends", {"from": str | None, "to": str | None})


class PlanForm(_Ends):
    """What a conversion will do: the keys are described in ``ConversionForm``."""

    source: str
    family: str | None
    container: str
    heads: list[str]
    bytes: int
    files: list[FileForm]
    residue: list[ResidueForm]
    residue_kept: bool
    notes: list[str]


class LostForm(TypedDict):
    """What a cast to a narrower element type lost of a tensor.

    Attributes:
        name: the tensor's name in the output.
        overflow: elements that became infinite.
        underflow: elements that became zero.
    """

    name: str
    overflow: int
    underflow: int


class Converted(PlanForm):
    """What every conversion says: the keys are described in ``ConversionForm``."""

    schema: Literal[1]
    path: str | None
    checked: bool
    lost: list[LostForm]


class ConversionForm(Converted, total=False):
    """What a conversion did, or with `--dry-run` would do.

    Attributes:
        schema: version of this form.
        source: what is converted, as it was called.
        from: the source's dialect; null with `--keep-names`.
        to: the output's dialect; null with `--keep-names`.
        family: the model's family; null with `--keep-names`.
        container: the container of the output's weights.
        heads: heads of the model.
        bytes: size of the tensors that are written.
        files: the files of the output.
        residue: what the target has no place for.
        residue_kept: whether that is kept beside the output.
        notes: sentences on what a reader would want to know.
        path: the output; null with `--dry-run`.
        checked: whether the output was read back and held against the source.
        lost: what casts to a narrower element type lost.
        parity: with `--check parity`, the outcome, as `interlingua parity --json` prints it.
    """

    parity: dict[str, Any]


# -- inspect


class StatsForm(TypedDict):
    """Statistics of a tensor, accumulated in float64.

    Attributes:
        min: the smallest finite value; null where there is none.
        max: the greatest finite value; null where there is none.
        mean: the mean of the finite values; null where there are none, or their sum is beyond float64.
        nan: number of NaNs.
        inf: number of infinities.
    """

    min: float | None
    max: float | None
    mean: float | None
    nan: int
    inf: int


class _NamedTensor(TypedDict):
    name: str
    shape: list[int]
    dtype: str


class TensorForm(_NamedTensor, total=False):
    """A tensor of a checkpoint.

    Attributes:
        name: its name in the file; with `--canonical`, the canonical one.
        shape: its shape.
        dtype: its element type.
        native: with `--canonical`, its name in the file.
        stats: with `--stats`, its statistics; null of types that are no real numbers.
    """

    native: str | None
    stats: StatsForm | None


class DescriptionForm(TypedDict):
    """What a checkpoint is.

    Attributes:
        schema: version of this form.
        path: the checkpoint, as it was called.
        weights: the file of its weights, or their index.
        container: its container.
        dialect: its dialect; null where none is recognised.
        family: its model's family; null where no dialect is recognised.
        heads: heads of its model; null where no dialect is recognised.
        submodels: prefixes under which it has models, where they have one.
        config: the configuration in canonical keys; null where there is none that can be read.
        config_file: the file that it is from.
        vocabulary: the file of the vocabulary.
        parameters: parameters of encoder and pooler, without padding rows, as model zoos count them.
        stored_parameters: elements of all tensors.
        bytes: size of all tensors.
        fingerprint: digest of the model; null where it is not computed.
        encoder_fingerprint: digest of the encoder alone; null where it is not computed.
        tied: tensors that are another's: name -> the other.
        tensors: its tensors.
        leftovers: tensors that are no part of the model: name -> why.
        objects: values of the file that are no tensors.
        metadata: the container's own metadata.
        notes: sentences on what a reader would want to know.
        problem: what keeps it from being converted; null where nothing does.
    """

    schema: Literal[1]
    path: str
    weights: str
    container: str
    dialect: str | None
    family: str | None
    heads: list[str] | None
    submodels: list[str]
    config: dict[str, Any] | None
    config_file: str | None
    vocabulary: str | None
    parameters: int
    stored_parameters: int
    bytes: int
    fingerprint: str | None
    encoder_fingerprint: str | None
    tied: dict[str, str]
    tensors: list[TensorForm]
    leftovers: dict[str, str]
    objects: dict[str, Any]
    metadata: dict[str, str]
    notes: list[str]
    problem: str | None


# -- diff


class DifferenceForm(TypedDict):
    """A tensor that differs.

    Attributes:
        name: its canonical name; or that in the files, where a dialect is not recognised.
        what: what differs: `values`, `shape`, `dtype` ...
        detail: how, in words.
        greatest: greatest absolute difference; null where there is none to compute.
        differing: number of elements that differ; null where they are not comparable.
    """

    name: str
    what: str
    detail: str
    greatest: float | str | None
    differing: int | None


class ComparisonForm(TypedDict):
    """How two checkpoints differ.

    Attributes:
        schema: version of this form.
        a: one checkpoint, as it was called.
        b: the other.
        same: whether nothing differs.
        compared: number of tensors that are in both.
        differences: the tensors that differ, or are in one only.
    """

    schema: Literal[1]
    a: str
    b: str
    same: bool
    compared: int
    differences: list[DifferenceForm]


# -- fingerprint


class FingerprintForm(TypedDict):
    """The digests of a checkpoint.

    Attributes:
        path: the checkpoint, as it was called.
        fingerprint: digest of the model.
        encoder_fingerprint: digest of the encoder alone, without pooler and heads.
    """

    path: str
    fingerprint: str
    encoder_fingerprint: str


class FingerprintsForm(TypedDict):
    """The digests of some checkpoints.

    Attributes:
        schema: version of this form.
        checkpoints: each of them, in the order in which they were named.
    """

    schema: Literal[1]
    checkpoints: list[FingerprintForm]


# -- matrix


CrossingForm = TypedDict("CrossingForm", {"from": str, "to": str, "family": str, "as": str})
CrossingForm.__doc__ = """A conversion whose output is of another family.

Attributes:
    from: the source's dialect.
    to: the output's dialect.
    family: the source's family.
    as: the output's.
"""


class ContainerForm(TypedDict):
    """A container.

    Attributes:
        reads: whether it is read.
        writes: whether it is written.
        title: what it is.
    """

    reads: bool
    writes: bool
    title: str


class MatrixForm(TypedDict):
    """What converts to what.

    Attributes:
        schema: version of this form.
        dialects: dialect from -> dialect to -> families.
        written_as_another_family: conversions whose output is of another family.
        containers: containers by name.
    """

    schema: Literal[1]
    dialects: dict[str, dict[str, list[str]]]
    written_as_another_family: list[CrossingForm]
    containers: dict[str, ContainerForm]


# -- batch


class PlannedJobForm(TypedDict):
    """A job that is to run.

    Attributes:
        name: its name.
        source: the source, a path or URI.
        target: the output.
        to: the output's dialect; null where names are kept.
        checks: checks that it makes.
        line: its line in the manifest.
        family: the model's family; null where it is not known.
        bytes: size of the tensors that it writes.
        disk: what it takes on the disk, at most.
        problem: why it cannot run; null where it can.
    """

    name: str
    source: str
    target: str
    to: str | None
    checks: list[str]
    line: int | None
    family: str | None
    bytes: int
    disk: int
    problem: str | None


class FileSystemForm(TypedDict):
    """A file system that a batch writes to.

    Attributes:
        path: a folder there.
        needed: bytes that the batch needs.
        free: bytes that are free.
    """

    path: str
    needed: int
    free: int


class BatchPlanForm(TypedDict):
    """What a batch will take (`--dry-run`).

    Attributes:
        schema: version of this form.
        jobs: the jobs, as the manifest has them.
        bytes: size of the tensors that are written.
        disk: what they take on the disk, at most.
        seconds: estimate of the time.
        assumed_rate: bytes a second that the estimate goes by.
        file_systems: the file systems that are written to.
    """

    schema: Literal[1]
    jobs: list[PlannedJobForm]
    bytes: int
    disk: int
    seconds: float
    assumed_rate: int
    file_systems: list[FileSystemForm]


FORMS: dict[str, type[Any]] = {
    "convert": ConversionForm,
    "inspect": DescriptionForm,
    "diff": ComparisonForm,
    "fingerprint": FingerprintsForm,
    "matrix": MatrixForm,
    "batch-plan": BatchPlanForm,
}
"""Name of a form's schema -> the form."""
