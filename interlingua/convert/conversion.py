"""One conversion from beginning to end: open, plan, stream, commit, check."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from interlingua.convert.commit import Destination, commit, staging
from interlingua.convert.execute import Lost, Written, execute
from interlingua.convert.keep_names import plan_keep_names
from interlingua.convert.locate import PROVENANCE, find_weights
from interlingua.convert.plan import CONFIG, FILES, RESIDUE, SOURCE, VOCABULARY, ZEROS, Plan
from interlingua.convert.planning import Wanted, make_plan
from interlingua.convert.remote.uris import Uri, resolve
from interlingua.convert.source import Asked, Checkpoint, open_checkpoint, reading
from interlingua.convert.steps import find_dtype
from interlingua.convert.stream import Readers, fetched_ahead
from interlingua.errors import FormatError, OutputError, UsageError
from interlingua.formats import registry as containers
from interlingua.formats.base import Reader, output_error
from interlingua.formats.plain_files import PlainFiles
from interlingua.mappings import registry as dialects

if TYPE_CHECKING:
    from interlingua.convert.remote.uploads import Phase, Upload

Check = Callable[[Checkpoint, Path, Plan, Written], None]
"""Holds what was written against its source; raises CheckError where they differ."""


Finish = Callable[[Checkpoint, Path, Plan, Written], Sequence[str]]
"""Adds files to those that were written, in the folder that nobody sees yet; returns their names."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asks of a conversion; every field is an option of the command line.

    Attributes:
        to: the target's dialect; None only with ``keep_names``.
        source: what is known of the source beforehand.
        container: the target's container; None: the dialect's own.
        dtype: ``keep``, or the element type of floating-point weights.
        max_shard_size: bytes a weights file holds at most; None: one file.
        residue: ``keep``, ``drop`` or ``error``.
        preserve: ``weights``, or ``outputs``.
        keep_names: convert the container alone, of any model.
        overwrite: replace what is at the destination.
        sync: force the output to the disk before it appears.
    """

    to: str | None = None
    source: Asked = field(default_factory=Asked)
    container: str | None = None
    dtype: str = "keep"
    max_shard_size: int | None = 5_000_000_000
    residue: str = "keep"
    preserve: str = "weights"
    keep_names: bool = False
    overwrite: bool = False
    sync: bool = True


@dataclass(frozen=True, slots=True)
class Result:
    """What a conversion did.

    Attributes:
        plan: what it had to do.
        path: where the output is, or its URI; None after a dry run.
        lost: what narrowing casts lost.
        checked: whether the output was held against the source.
        versions: of an output that was uploaded: path in it -> size and version, as the storage says them.
    """

    plan: Plan
    path: Path | str | None
    lost: tuple[Lost, ...]
    checked: bool
    versions: Mapping[str, str] = field(default_factory=dict)


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    options: Options,
    *,
    dry_run: bool = False,
    check: Check | None = None,
    announce: Callable[[Plan], None] | None = None,
    phase: Phase | None = None,
    progress: Callable[[int], None] | None = None,
    finish: Finish | None = None,
) -> Result:
    """Convert a checkpoint.

    Args:
        source: a weights file, an index of shards, or a folder with either; or the URI of one, as a text.
        target: a folder to make; or a weights file, where the name ends in a container's suffix; or the URI of one,
            as a text: then it is made in a temporary folder, and uploaded when it is whole.
        options: what is asked.
        dry_run: make the plan and stop.
        check: holds the output against the source once it is in place.
        announce: shown the plan before anything is written.
        phase: told what begins that takes its time.
        progress: told bytes of the phase as they are done, from several threads; fewer than none where a request
            failed and is made again.
        finish: adds files that appear together with the output.

    Raises:
        UsageError: the options do not fit together, or not the source.
        FormatError: the source is missing, damaged, unsafe or unknown, or contradicts itself.
        MappingError: the target cannot hold the source.
        OutputError: the output cannot be written, or is in the way.
        CheckError: ``check`` says that the output is not the source.
    """
    if options.to is not None:
        dialects.find(options.to)
    place = resolve(target)
    with contextlib.ExitStack() as stack:
        upload = None if isinstance(place, Path) else stack.enter_context(_upload_to(place))
        opened = stack.enter_context(open_checkpoint(source, options.source, model=not options.keep_names))
        with reading(source):
            plan, destination = _plan(opened, upload.path if upload else Path(target), options)
        if not dry_run:
            if upload is None:
                _refuse(opened, destination, plan)
            else:
                _refuse_itself(opened, upload.uri, destination, plan)
                upload.check(single_file=destination.single_file, overwrite=options.overwrite, nbytes=plan.nbytes)
        if announce is not None:
            announce(plan)
        if dry_run:
            return Result(plan, None, (), False)
        _check_space(opened, plan)
        if phase is not None:
            phase("writing", plan.nbytes)
        with _readers(opened, plan) as readers, staging(destination) as stage:
            steps = [step for output in plan.outputs for step in output.steps]
            with fetched_ahead(steps, readers):
                written = execute(plan, readers, stage.path, verify=check is not None, progress=progress)
            more = finish(opened, stage.path, plan, written) if finish is not None else ()
            files = (*written.files, *more)
            with reading(source):
                opened.check_unchanged()
            commit(stage, destination, files)
        if check is not None:
            check(opened, destination.path, plan, written)
        checked = check is not None
        if upload is None:
            return Result(plan, destination.path, written.lost, checked)
        versions = upload.send(files, overwrite=options.overwrite, verify=checked, phase=phase, progress=progress)
        return Result(plan, str(upload.uri), written.lost, checked, versions)


def _upload_to(uri: Uri) -> AbstractContextManager[Upload]:
    from interlingua.convert.remote.uploads import upload_to

    return upload_to(uri)


def _check_space(opened: Checkpoint, plan: Plan) -> None:
    """Raise FormatError where what a plan reads of a source that is elsewhere has no room here."""
    if opened.place.mirror is not None:
        pieces = [piece for output in plan.outputs for step in output.steps for piece in step.pieces]
        needed = sum(piece.nbytes for piece in pieces if piece.origin != ZEROS)
        opened.place.mirror.check_space(min(needed, opened.place.mirror.missing()))


def _plan(opened: Checkpoint, target: Path, options: Options) -> tuple[Plan, Destination]:
    dtype = find_dtype(options.dtype)
    single = target.suffix in containers.WEIGHT_SUFFIXES and not os.path.isdir(target)
    destination = Destination(target, single, options.overwrite, options.sync)
    if options.keep_names:
        if options.to is not None:
            raise UsageError("--to names a dialect, and --keep-names keeps the names.", hint="Pass one of the two.")
        container = _keep_names_container(options, target)
        if single and container.form != "file":
            raise UsageError(f"{container.title} is not one file.", hint="Name a folder for it to be in.")
        name = target.name if single else MODEL + next(iter(container.suffixes), "")
        return plan_keep_names(opened, container, name, dtype, options.residue), destination
    if options.to is None:
        raise UsageError(
            "Nothing says what to convert to.", hint=f"Pass --to with one of {', '.join(dialects.DIALECTS)}."
        )
    dialect = dialects.find(options.to)
    wanted = Wanted(
        dialect=dialect,
        container=_container(options, target if single else None, dialect.containers, dialect.title),
        dtype=dtype,
        max_shard=options.max_shard_size,
        residue=options.residue,
        single_file=target.name if single else None,
        family=options.source.family,
        preserve=options.preserve,
    )
    return make_plan(opened, wanted), destination


def _container(options: Options, file: Path | None, allowed: tuple[str, ...], title: str) -> containers.Container:
    """Return the target's container: the one asked for, else the one the file's name says, else the default."""
    if options.container is not None:
        chosen = containers.find(options.container)
        if chosen.name not in allowed:
            raise UsageError(f"{title} does not read {chosen.title} files.", hint=f"It reads {', '.join(allowed)}.")
        return chosen
    if file is None:
        return containers.CONTAINERS[allowed[0]]
    for name in allowed:
        if file.name.endswith(containers.CONTAINERS[name].suffixes):
            return containers.CONTAINERS[name]
    raise UsageError(
        f"{title} does not keep weights in {file.suffix} files.", hint="Name a folder, or a file of another suffix."
    )


def _keep_names_container(options: Options, target: Path) -> containers.Container:
    if options.container is not None:
        return containers.find(options.container)
    found = containers.by_name(target.name)
    if found is None:
        raise UsageError(
            "Nothing says which container to write.", hint="Pass --container, or a file name with its suffix."
        )
    return found


MODEL = "model"
"""What a container is called in a folder, where only the container is converted."""


def _refuse(opened: Checkpoint, destination: Destination, plan: Plan) -> None:
    """Raise OutputError where the output must not be written, or where that cannot be found out."""
    try:
        _refuse_self(opened, destination, plan)
        destination.check(plan.files)
        _refuse_strangers(destination)
    except OSError as error:
        raise output_error(error, destination.path) from error


def _refuse_self(opened: Checkpoint, destination: Destination, plan: Plan) -> None:
    """Refuse an output that would take its own source away."""
    sources = {path.resolve() for path in (opened.path, *opened.files)}
    if destination.single_file:
        folder = destination.parent.resolve()
        targets = {folder / name for name in plan.files}
    else:
        targets = {destination.path.resolve()}
        sources |= {above for path in sources for above in path.parents}
    for taken in sorted(targets & sources):
        raise OutputError(f"{taken}: the source is there.", hint="Choose another place for the output.")


def _refuse_itself(opened: Checkpoint, uri: Uri, destination: Destination, plan: Plan) -> None:
    """Refuse an upload that would take its own source away."""
    sources = {opened.shown(path) for path in (opened.path, *opened.files)}
    targets = {f"{uri.parent}/{name}" for name in plan.files} if destination.single_file else {str(uri)}
    for taken in sorted(targets):
        if any(source == taken or source.startswith(f"{taken}/") for source in sources):
            raise OutputError(f"{taken}: the source is there.", hint="Choose another place for the output.")


def _refuse_strangers(destination: Destination) -> None:
    """Refuse to replace a folder that is no checkpoint, whatever ``--overwrite`` says: it is somebody's work."""
    if destination.single_file or not destination.overwrite or not os.path.isdir(destination.path):
        return
    if (destination.path / PROVENANCE).is_file():
        return  # It says of itself that it is an output, even where its weights are gone.
    try:
        if any(destination.path.iterdir()):
            find_weights(destination.path)
    except FormatError as error:
        raise OutputError(
            f"{destination.path}: is not replaced, since it is not one checkpoint: {error.message}.",
            hint="Choose another place, or clear it away yourself.",
        ) from error


@contextlib.contextmanager
def _readers(opened: Checkpoint, plan: Plan) -> Iterator[Readers]:
    """Yield what the plan's pieces come from, each file opened once."""
    folder = opened.folder
    names = {p.name for out in plan.outputs for s in out.steps for p in s.pieces if p.origin == FILES}
    with contextlib.ExitStack() as stack:
        readers: dict[str, Reader] = {SOURCE: opened.reader}
        if opened.residue is not None:
            readers[RESIDUE] = opened.residue.reader
        readers[FILES] = stack.enter_context(PlainFiles(folder, sorted(names)))
        for origin, path in ((VOCABULARY, opened.vocabulary), (CONFIG, opened.config_path)):
            if path is not None:
                readers[origin] = stack.enter_context(PlainFiles(path.parent, [path.name]))
        yield readers


_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Return a number of bytes written as ``5GB`` (powers of ten) or ``5GiB`` (powers of two).

    Raises:
        UsageError: it is none, or not above zero.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"{text!r} is no size.", hint="Write 5GB, 500MB or 2GiB.")
    whole, _, decimals = found[1].partition(".")
    power = " kmgt".index(found[2].lower() or " ")
    size: int = int(whole + decimals) * (1024 if found[3] else 1000) ** power // 10 ** len(decimals)
    if size < 1:
        raise UsageError(f"{text!r} is no size.", hint="A file holds at least one byte.")
    return size
