"""The plan of ``--keep-names``: every tensor in another container, of whatever model, under the name that it has."""

from __future__ import annotations

from interlingua.convert.plan import SOURCE, Kept, Output, Plan, Step
from interlingua.convert.source import Checkpoint
from interlingua.convert.steps import cast_step, whole
from interlingua.errors import MappingError, UsageError
from interlingua.formats.dtypes import DType
from interlingua.formats.registry import Container
from interlingua.mappings.match import listing


def plan_keep_names(source: Checkpoint, container: Container, file: str, dtype: DType | None, residue: str) -> Plan:
    """Return the plan that moves every tensor to another container under the name that it has.

    Args:
        source: the source, of whatever model.
        container: the target's container.
        file: the name of the file (folder, prefix) to write.
        dtype: the element type of floating-point tensors; None keeps each as it is.
        residue: ``error`` refuses a source with anything that the container cannot hold; otherwise it is left
            out, and the plan says so.

    Raises:
        UsageError: the container cannot be written.
        MappingError: ``residue`` is ``error``, and something would be left out.
    """
    if not container.writes:
        raise UsageError(f"{container.title} is read, but not written.")
    same = source.container == container.name
    texts = [] if same else [spec for spec in source.tensors.values() if spec.dtype.kind == "s"]
    kept = tuple(Kept(spec.name, spec.nbytes, f"strings, which {container.title} does not hold") for spec in texts)
    if kept and residue == "error":
        names = [spec.name for spec in texts]
        raise MappingError(f"{container.title} cannot hold strings: {listing(names)}.", names=names)
    steps: list[Step] = []
    ties: dict[str, str] = {}
    seen: dict[object, str] = {}
    for name, spec in source.tensors.items():
        if spec in texts:
            continue
        extents = source.reader.extents(name) if container.shares else None
        shared = seen.setdefault((extents, spec.dtype, spec.shape), name) if extents and spec.nbytes else name
        if shared != name:
            ties[name] = shared
        else:
            steps.append(cast_step(Step(spec, (whole(SOURCE, spec),)), dtype))
    return Plan(
        source=source.name,
        origin=None,
        target=None,
        family=None,
        container=container.name,
        heads=(),
        outputs=(Output(file, container.name, tuple(steps), ties, source.reader.carried if same else {}),),
        texts=(),
        residue=kept,
        keeps_residue=False,
        notes=tuple(source.remarks),
    )
