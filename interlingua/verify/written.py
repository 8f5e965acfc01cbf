"""Hold what a conversion has written against its source, every bit of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from interlingua.convert.execute import Written, spot
from interlingua.convert.plan import RESIDUE, SOURCE, ZEROS, Plan, Step
from interlingua.convert.source import Asked, Checkpoint, open_checkpoint
from interlingua.convert.steps import whole
from interlingua.convert.stream import AT_FAULT
from interlingua.errors import CheckError, FormatError
from interlingua.formats.dtypes import BFLOAT16, UINT16, DType
from interlingua.mappings.match import listing
from interlingua.mappings.schema import ENCODER
from interlingua.verify.canonical import canonical_steps, resolve, without_rows
from interlingua.verify.difference import compare_steps


def check_weights(source: Checkpoint, path: Path, plan: Plan, written: Written) -> None:
    """Hold an output, opened afresh, against the source.

    The output is recognised by its own names and mapped back by its own dialect's table, so that a wrong plan
    does not vouch for itself. Every canonical tensor must be there with every bit as it was; where the
    conversion cast, with the bits that casting the source gives. Bytes that were read back and compared as
    they were written are not read a third time: it is enough that the tensor lies where they were put, and
    that they are those of the canonical tensor of this name.

    Raises:
        CheckError: something is missing or different, or what was written cannot be read.
        FormatError: the source can no longer be read.
    """
    try:
        _check(source, path, plan, written)
    except FormatError as error:
        if _is_of_the_source(error, source, path):
            raise
        raise CheckError(f"what was written cannot be read back: {error.message}", hint=AT_FAULT) from error
    except OSError as error:
        raise CheckError(f"{path}: what was written cannot be read back: {error.strerror}", hint=AT_FAULT) from error


def _is_of_the_source(error: FormatError, source: Checkpoint, output: Path) -> bool:
    """Whether an error is in one of the source's files; the output may be inside the source's folder."""
    if error.path is None or Path(error.path).absolute().is_relative_to(output.absolute()):
        return False
    return Path(error.path) in source.files or os.fspath(error.path).startswith(os.fspath(source.weights))


def _check(source: Checkpoint, path: Path, plan: Plan, written: Written) -> None:
    named = plan.target is None
    weights = path / plan.outputs[0].path if named and path.is_dir() else path
    with open_checkpoint(weights, Asked(dialect=plan.target, family=plan.family), model=not named) as result:
        theirs = _native_steps(result, result.tensors) if named else canonical_steps(result)
        ours = _native_steps(source, _names(plan)) if named else _held_steps(source, plan, theirs)
        theirs = {name: _as_stored(step, ours.get(name)) for name, step in theirs.items()}
        if plan.casts:
            ours = {name: _cast_like(step, theirs.get(name)) for name, step in ours.items()}
        proven = _proven(ours, theirs, result, plan, written)
        rest = {name: step for name, step in ours.items() if name not in proven}
        outcome = compare_steps(rest, source, {n: s for n, s in theirs.items() if n not in proven}, result)
    if outcome.differences or not (proven or outcome.compared):
        names = [f"{entry.name} ({entry.what})" for entry in outcome.differences]
        raise CheckError(
            f"{path}: what was written is not what was read: {listing(names) or 'nothing could be compared'}.",
            hint=AT_FAULT,
        )


def _proven(
    ours: Mapping[str, Step], theirs: Mapping[str, Step], result: Checkpoint, plan: Plan, written: Written
) -> set[str]:
    """Return the tensors of which the comparison made while writing already says that they are the source's."""
    steps = {step.target.name: (output.path, step) for output in plan.outputs for step in output.steps}
    found = set()
    for name, step in theirs.items():
        native = step.pieces[0].name
        if name not in ours or native not in steps or ours[name].target != step.target:
            continue
        path, made = steps[native]
        extents = result.reader.extents(native)
        if extents is None or len(extents) != 1 or extents[0].nbytes != made.target.nbytes:
            continue
        with extents[0].file.held() as fd:
            lies_there = written.places.get((path, native)) == spot(fd, extents[0].offset)
        if lies_there and _is_undone(made, step, ours[name]):
            found.add(name)
    return found


def _is_undone(made: Step, read: Step, ours: Step) -> bool:
    """Say whether a canonical tensor, read from a native one as that was made, is the source's own.

    Args:
        made: how the native tensor came about.
        read: how the output's canonical tensor comes of it.
        ours: how the source's canonical tensor comes of the source.
    """
    if not (made.keeps_bits and read.keeps_bits and ours.keeps_bits):
        return False
    if made.transpose is None:
        return read.transpose == ours.transpose and resolve(made.pieces, read.pieces[0]) == ours.pieces
    if read.pieces != (whole(SOURCE, made.target),) or made.pieces != ours.pieces:
        return False
    if read.transpose is None:
        return ours.transpose == made.transpose
    return ours.transpose is None and read.transpose == made.transpose[::-1]


def _held_steps(source: Checkpoint, plan: Plan, theirs: Mapping[str, Step]) -> dict[str, Step]:
    """Return the canonical tensors that the output is to have.

    They are the source's, without rows that the target's system has no place for; those that come from its residue,
    whole or the rows in front; and zeros for what the target always has and the source's system computes without.
    """
    if source.match is None:
        return {}
    family, parts = source.match.table.family, {ENCODER, *plan.heads}
    held = {
        name: without_rows(step, theirs.get(name, step))
        for name, step in canonical_steps(source).items()
        if family.find(name).part in parts and (name in theirs or name not in family.severable)
    }
    made = {step.target.name: step for output in plan.outputs for step in output.steps}
    for step in made.values():
        if step.scale is not None and step.canonical in held:
            held[step.canonical] = replace(held[step.canonical], scale=step.scale)
        elif step.canonical in held and all(piece.origin == RESIDUE for piece in step.pieces):
            held[step.canonical] = replace(held[step.canonical], pieces=step.pieces)
        elif step.canonical in held and held[step.canonical].pieces[0].origin == ZEROS:
            held[step.canonical] = _with_rows(held[step.canonical], step)
    for name, step in theirs.items():
        restored = made.get(step.pieces[0].name)
        origin = restored.pieces[0].origin if restored is not None else SOURCE
        if name not in held and restored is not None and origin in (RESIDUE, ZEROS):
            pieces = tuple(replace(piece, origin=origin, name=restored.pieces[0].name) for piece in step.pieces)
            held[name] = replace(step, pieces=pieces)
    return held


def _with_rows(held: Step, made: Step) -> Step:
    """Return a tensor with the rows in front that come from the residue, where its own system has none."""
    first, kept = held.pieces[0], made.pieces[0]
    fits = kept.origin == RESIDUE and kept.nbytes == first.nbytes
    return replace(held, pieces=(kept, *held.pieces[1:])) if fits else held


def _native_steps(checkpoint: Checkpoint, names: Iterable[str]) -> dict[str, Step]:
    specs = [checkpoint.tensors[name] for name in names]
    return {spec.name: Step(spec, (whole(SOURCE, spec),)) for spec in specs}


def _names(plan: Plan) -> list[str]:
    """Return the names of the tensors that a plan writes, tied ones among them."""
    return [name for out in plan.outputs for name in (*(step.target.name for step in out.steps), *out.ties)]


def _as_stored(step: Step, ours: Step | None) -> Step:
    """Return a step of the output with the type that it was given, where the container has only its bits.

    Paddle's pickles keep bfloat16 as uint16, without a mark (``python/paddle/framework/io.py``).
    """
    if ours is not None and step.target.dtype is UINT16 and ours.target.dtype is BFLOAT16:
        return replace(step, target=replace(step.target, dtype=BFLOAT16))
    return step


def _cast_like(step: Step, other: Step | None) -> Step:
    """Return the step with the cast that a conversion to the other's element type makes of it."""
    spec = step.target
    dtype: DType = other.target.dtype if other else spec.dtype
    if dtype is spec.dtype:
        return step
    return replace(step, target=replace(spec, dtype=dtype), cast_from=spec.dtype)
