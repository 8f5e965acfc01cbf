"""Open what a user points at: find the weights, their configuration, vocabulary and sidecars, and say what it is."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from interlingua.convert.bfloat16 import Bfloat16Reader
from interlingua.convert.configs import Completed, complete, parse, table_of
from interlingua.convert.documents import read_object
from interlingua.convert.locate import SMALL, Place, listed, locate
from interlingua.convert.plan import SOURCE, Piece, Step
from interlingua.convert.remote.uris import resolve
from interlingua.convert.residue import FILE_NAME, Residue, open_residue
from interlingua.convert.steps import step_between
from interlingua.convert.stream import same_bytes
from interlingua.convert.vocabularies import Vocabulary, is_text, read_vocabulary
from interlingua.errors import FormatError, InterlinguaError, MappingError, UsageError, is_the_systems, suggestion
from interlingua.formats.base import CHANGED, Reader, Stamp, TensorSpec
from interlingua.formats.dtypes import UINT16
from interlingua.formats.registry import open_container
from interlingua.formats.sharded import ShardedReader
from interlingua.mappings import registry as dialects
from interlingua.mappings.config import FAMILY_KEYS, ConfigTable, Json
from interlingua.mappings.dialect import EVERYWHERE
from interlingua.mappings.match import Found, Match, listing, match, recognise

if TYPE_CHECKING:
    from typing_extensions import Self

INDEX_SUFFIX = ".index.json"
CONFIG_ENDINGS = ("_config.json", "_config.yaml")
NOT_CONFIGS = ("tokenizer_config.json", "generation_config.json")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user says of a source, beyond its path.

    Attributes:
        dialect: the dialect it is in; None: find out.
        family: the family it is of, whatever its configuration says; None: find out.
        config: its configuration's file.
        vocabulary: its vocabulary's file.
        submodel: part of the prefix of the model to take, where a file holds several.
    """

    dialect: str | None = None
    family: str | None = None
    config: str | os.PathLike[str] | None = None
    vocabulary: str | os.PathLike[str] | None = None
    submodel: str | None = None


@dataclass(eq=False)
class Checkpoint:
    """A checkpoint open for reading; also a context manager that closes it.

    Attributes:
        path: what was asked for; in a mirror of what is elsewhere (``name`` is what a user knows it by).
        place: where its weights and what belongs to them are.
        reader: its tensors under their native names.
        container: the container's name.
        match: what it is in canonical terms; None where no dialect knows it.
        problem: why ``match`` is None, or what is wrong beside it.
        native_config: its own configuration, empty where there is none.
        config_path: where that was found.
        vocabulary: its vocabulary's file, where there is one.
        sidecars: further files that belong to it, by their path in the folder.
        residue: what an earlier conversion kept for it.
        stamps: what its files were when it was opened; empty where they are files of our own, fetched or unpacked.
    """

    path: Path
    place: Place
    reader: Reader
    container: str
    asked: Asked
    match: Match | None = None
    problem: InterlinguaError | None = None
    native_config: dict[str, Json] = field(default_factory=dict)
    config_path: Path | None = None
    vocabulary: Path | None = None
    sidecars: tuple[str, ...] = ()
    residue: Residue | None = None
    stamps: Mapping[Path, Stamp] = field(default_factory=dict)

    @property
    def weights(self) -> Path:
        """The file (or folder, or prefix) that holds the weights."""
        return self.place.weights

    @property
    def folder(self) -> Path:
        """The folder that holds what belongs to the weights."""
        return self.place.folder

    def shown(self, path: Path) -> str:
        """Return one of its files as a user knows it: what comes out of an archive by its name in there."""
        return self.place.shown(path)

    @property
    def name(self) -> str:
        """What was asked for, as a user knows it: a path, or a URI."""
        return self.place.shown(self.path)

    @property
    def tensors(self) -> Mapping[str, TensorSpec]:
        """Specs by native name, in the file's order."""
        return self.reader.tensors

    @property
    def dialect(self) -> str | None:
        """Name of the dialect."""
        return self.match.dialect.name if self.match else None

    @property
    def family(self) -> str | None:
        """Name of the family."""
        return self.match.table.family.name if self.match else None

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the heads."""
        return self.match.heads if self.match else ()

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that it is read from."""
        shards = self.reader.files if isinstance(self.reader, ShardedReader) else ()
        beside = (self.config_path, self.vocabulary, self.residue.reader.path if self.residue else None)
        sidecars = (self.folder / name for name in self.sidecars)
        return (self.weights, *shards, *(path for path in beside if path is not None), *sidecars)

    def check_unchanged(self) -> None:
        """Raise FormatError where a file that it is read from is another one than when it was opened, or gone.

        Each file's own reads are held against that file alone; this is for files that changed one after the other.
        """
        runs = (run for name in self.tensors for run in self.reader.extents(name) or ())
        expected = {**{run.file.path: run.file.stamp for run in runs if run.file.lazy is None}, **self.stamps}
        now = _stamps(expected)
        for path, stamp in expected.items():
            if now.get(path) != stamp:
                what = "was changed" if path in now else "vanished"
                raise FormatError(f"{what} while it was read", path=path, hint=CHANGED)

    def complete(self) -> None:
        """Have every file be here that another process may read by its path, where the checkpoint is elsewhere.

        Raises:
            FormatError: one cannot be fetched, or there is no room for it.
        """
        mirror = self.place.mirror
        if mirror is not None and self.place.unpacked is None:
            start, own = str(self.weights), set(self.files)
            sizes = mirror.sizes()
            mirror.complete(p for p in sizes if str(p).startswith(start) or p in own or sizes[p] <= SMALL)

    @cached_property
    def ties(self) -> dict[str, str]:
        """Canonical tensors that share another's data: name -> the other's name.

        A tensor is tied when the source leaves it out, when both lie in the same bytes, or when their
        bytes are equal.
        """
        if self.match is None:
            return {}
        found = {}
        for name, tensor in self.match.table.family.instances(self.match.layers):
            if tensor.tied_to is None or tensor.part not in self.match.heads:
                continue
            here = self.match.tensors.get(name)
            owner = self.match.tensors[tensor.tied_to]
            if here is None or self._same_tensor(here, owner):
                found[name] = tensor.tied_to
        return found

    def _same_tensor(self, one: Found, other: Found) -> bool:
        """Whether two native tensors are equal canonically: one may lie there transposed."""
        if one.rule.operation == other.rule.operation:
            return self.same_data(one.native, other.native)
        left, right = (
            step_between(self.tensors[entry.native], entry.rule.operation, None, entry.native, entry.rule.canonical)
            for entry in (one, other)
        )
        readers = {SOURCE: self.reader}
        alike = (left.target.dtype, left.target.shape) == (right.target.dtype, right.target.shape)
        return alike and same_bytes(left, readers, right, readers)

    def same_data(self, one: str, other: str) -> bool:
        """Whether two native tensors have the same dtype, shape and bytes."""
        a, b = self.tensors[one], self.tensors[other]
        if (a.dtype, a.shape) != (b.dtype, b.shape):
            return False
        extents = self.reader.extents(one)
        if extents is not None and extents == self.reader.extents(other):
            return True
        left, right = (Step(spec, (Piece(SOURCE, spec.name, 0, spec.nbytes),)) for spec in (a, b))
        readers = {SOURCE: self.reader}
        return same_bytes(left, readers, right, readers)

    @cached_property
    def completed(self) -> Completed:
        """The canonical configuration, and what of it nothing stated.

        Raises:
            FormatError: configuration, weights and vocabulary contradict each other.
            MappingError: a value is told by nothing, or there is no model here.
        """
        if self.match is None:
            raise self.problem or MappingError("No dialect knows this checkpoint, so it has no configuration.")
        name = self.config_path.name if self.config_path else "no configuration"
        values = self.stated
        listed = self.tokens
        count = len(listed.tokens) if listed else None
        try:
            found = complete(values, self._kept(), self.match, name, count, listed.padding if listed else None)
        except FormatError as error:
            raise FormatError(error.message, path=self.config_path or self.path, hint=error.hint) from error
        if "masked_lm" not in self.heads:
            return found
        return replace(found, config=replace(found.config, tie_word_embeddings=bool(self.ties)))

    @cached_property
    def stated(self) -> dict[str, Json]:
        """The canonical values that its own configuration states.

        Raises:
            FormatError: the configuration is of no dialect, or holds what none of its keys can.
        """
        name = self.config_path.name if self.config_path else "no configuration"
        return self._stated(self.native_config, name, self.config_path)

    @cached_property
    def tokens(self) -> Vocabulary | None:
        """The vocabulary; None where there is none, or it is no text.

        Raises:
            FormatError: it cannot be read.
        """
        if self.vocabulary is None or not is_text(self.vocabulary):
            return None
        return read_vocabulary(self.vocabulary, self.match.sizes.get("vocab") if self.match else None)

    def _stated(self, native: Mapping[str, Json], name: str, path: Path | None) -> dict[str, Json]:
        """Return the canonical values that a configuration states, whichever dialect it is written in."""
        if not native or self.match is None:
            return {}
        if self.asked.family:
            native = {key: value for key, value in native.items() if key not in FAMILY_KEYS}
        return parse(native, self._table_of(native, path), name)

    def _table_of(self, native: Mapping[str, Json], path: Path | None) -> ConfigTable:
        table = table_of(native, self.match, dialects.DIALECTS.values()) if self.match else None
        if table is None:
            raise FormatError("is no configuration of a dialect that is known here", path=path)
        return table

    def _kept(self) -> dict[str, Json]:
        """Return what the residue knows of the configuration, what its systems take for granted included.

        The model's first system, whose entries are the last, has the last word. Where that is the source's own,
        the others know only what it has no words for.
        """
        if self.residue is None or self.match is None:
            return {}
        kept: dict[str, Json] = {}
        if next(iter(self.residue.families), None) == self.match.dialect.name:
            for entry in self.residue.of_kind("config"):
                kept |= self._stated(self.residue.json(entry), entry.name, self.residue.reader.path)
            form = self.match.table.config
            return {key: value for key, value in kept.items() if key not in form.keys and key not in form.defaults}
        for entry in self.residue.of_kind("config"):
            native, path = self.residue.json(entry), self.residue.reader.path
            granted = {k: v for k, v in self._table_of(native, path).defaults.items() if k != "labels"}
            kept |= {**granted, **self._stated(native, entry.name, path)}
        return kept

    @property
    def remarks(self) -> list[str]:
        """A sentence on what is in the file besides tensors, and on no way to anywhere."""
        names = [name for name in self.reader.objects if name not in self.reader.carried]
        return [f"{len(names)} values that are no tensors are left out: {listing(names)}."] if names else []

    def close(self) -> None:
        """Close every file."""
        self.reader.close()
        if self.residue:
            self.residue.reader.close()
        self.place.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.place.rename(error)
        self.close()


def open_checkpoint(
    path: str | os.PathLike[str], asked: Asked | None = None, *, strict: bool = True, model: bool = True
) -> Checkpoint:
    """Open a checkpoint: a weights file, an index of shards, or a folder with either; here, or by its URI elsewhere.

    Args:
        path: what to open: a path, or a URI (``s3://bucket/folder``), which must be a text.
        asked: what is known of it beforehand.
        strict: raise when no dialect knows it; otherwise it is described as far as it can be, and
            ``problem`` says why.
        model: look for a model in it; without, its tensors are all that is known.

    Raises:
        FormatError: it is missing, damaged, unsafe, or of no known container.
        MappingError: no dialect knows it (with ``strict``).
        UsageError: ``asked`` does not fit it.
    """
    asked = asked or Asked()
    source = resolve(path)
    families = dialects.families()
    if asked.dialect is not None:
        dialects.find(asked.dialect)
    if asked.family not in (None, *families):
        raise UsageError(f"There is no family {asked.family!r}.", hint=suggestion(asked.family or "", families))
    with reading(path), ExitStack() as stack:
        place = locate(source)
        stack.callback(place.close)
        stack.push(_renaming(place))
        reader = stack.enter_context(_open_weights(place.weights))
        found = Checkpoint(place.path, place, reader, _container_name(reader), asked)
        if model:
            _find_companions(found, strict)
            _find_model(found, strict)
        if (residue := found.folder / FILE_NAME).is_file() and residue != found.weights:
            found.residue = open_residue(residue)
        if found.problem is not None:
            place.rename(found.problem)
        if place.unpacked is None and place.mirror is None:
            found.stamps = _stamps(found.files)
        stack.pop_all()
    return found


def _stamps(paths: Iterable[Path]) -> dict[Path, Stamp]:
    """Return what the files among the paths are now: none of a folder, nor of what is not there."""
    found = {}
    for path in paths:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            status = os.stat(path)
            if stat.S_ISREG(status.st_mode):
                found[path] = Stamp.of(status)
    return found


def _renaming(place: Place) -> Callable[[type[BaseException] | None, BaseException | None, TracebackType | None], bool]:
    """Return the end of a context that has errors name files as a user knows them."""

    def leave(_kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None) -> bool:
        if error is not None:
            place.rename(error)
        return False

    return leave


@contextlib.contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """Have a failure of the system, in looking for what belongs to ``path``, be one of the input.

    Raises:
        FormatError: something could not be looked at, or listed.
    """
    try:
        yield
    except OSError as error:
        raise FormatError(f"cannot be read: {error.strerror}", path=error.filename or path) from error


def _open_weights(weights: Path) -> Reader:
    if weights.name.endswith(INDEX_SUFFIX):
        return ShardedReader(weights)
    return open_container(weights)


def _container_name(reader: Reader) -> str:
    return "+".join(reader.parts) if isinstance(reader, ShardedReader) else reader.container


def _find_companions(found: Checkpoint, strict: bool) -> None:
    """Find the configuration and the vocabulary: those asked for, else those beside the weights."""
    folder, asked = found.folder, found.asked
    files = {} if not folder.is_dir() else {file.name: file for file in listed(folder)}
    found.vocabulary = _given(asked.vocabulary, "vocabulary") if asked.vocabulary else _find_vocabulary(folder)
    path = _given(asked.config, "configuration") if asked.config else _find_config(files)
    if path is None:
        return
    try:
        found.native_config = read_object(path)
        found.config_path = path
    except FormatError as error:
        if strict or asked.config or is_the_systems(error):
            raise
        found.problem = error


def _given(file: str | os.PathLike[str], what: str) -> Path:
    found = resolve(file)
    if isinstance(found, Path):
        return found
    raise UsageError(f"{found}: a {what} that is named by itself must be here.", hint="Fetch it, and name the file.")


def _find_config(files: Mapping[str, Path]) -> Path | None:
    forms = [form for dialect in dialects.DIALECTS.values() for form in dialect.folders]
    for name in (*(form.config for form in forms), *(name for form in forms for name in form.configs)):
        if name in files:
            return files[name]
    others = [file for name, file in files.items() if name.endswith(CONFIG_ENDINGS) and name not in NOT_CONFIGS]
    known = [file for file in others if _is_config(file)]
    return known[0] if len(known) == 1 else None


def _find_vocabulary(folder: Path) -> Path | None:
    """Return the vocabulary that lies beside the weights under a name that some system gives it."""
    forms = [form for dialect in dialects.DIALECTS.values() for form in dialect.folders]
    texts = [name for form in forms for name in (form.vocabulary, *form.vocabularies)]
    for name in (*texts, *(form.sentencepiece for form in forms)):
        if (folder / name).is_file():
            return folder / name
    return None


def _is_config(file: Path) -> bool:
    try:
        native = read_object(file)
    except FormatError as error:
        if is_the_systems(error):
            raise
        return False  # A file that only happens to be here, and that nobody asked for.
    return any(dialect.recognises(native) for dialect in dialects.DIALECTS.values())


def _find_model(found: Checkpoint, strict: bool) -> None:
    try:
        found.match = _choose(found)
        dialect, table = found.match.dialect, found.match.table
        if dialect.bfloat16_as_uint16:
            _restore_bfloat16(found, found.match)
        _settle_copies(found, found.match)
        form = dialect.folder_of(table.family.name)
        found.sidecars = _sidecars(found, (*form.sidecars, *EVERYWHERE), form.places.values())
        if "modules.json" in found.sidecars:
            found.match = replace(found.match, notes=(*found.match.notes, SENTENCES))
    except (MappingError, FormatError, UsageError) as error:
        if strict or is_the_systems(error):
            raise
        found.match, found.problem = None, found.problem or error


def _choose(found: Checkpoint) -> Match:
    """Return what the source is, by the table that knows most of its names; of equals the first that it is whole by.

    Raises:
        FormatError: no dialect knows it, or it contradicts itself.
        MappingError: it is no whole model.
        UsageError: there is no such dialect, or several models and nothing says which to take.
    """
    asked = found.asked
    known = dialects.DIALECTS if asked.dialect is None else {asked.dialect: dialects.find(asked.dialect)}
    shapes = {name: spec.shape for name, spec in found.tensors.items()}
    candidates = recognise(known, shapes, {} if asked.family else found.native_config, found.container)
    if not candidates:
        raise _unrecognised(found, list(known))
    best = candidates[0]
    if asked.family in (None, best.table.family.name, *best.table.family.kin):
        equal = [candidate for candidate in candidates if candidate.rank == best.rank]
    else:
        equal = [candidate for candidate in candidates if candidate.table.family.name == asked.family] or [best]
    problems: list[InterlinguaError] = []
    for candidate in equal:
        try:
            return match(candidate.dialect, candidate.table, shapes, found.native_config, asked.submodel)
        except InterlinguaError as error:
            problems.append(error)
    raise problems[0]


def _restore_bfloat16(found: Checkpoint, matched: Match) -> None:
    """See the model's weights as bfloat16 where they are uint16, which no weight is."""
    names = {name for entry in matched.tensors.values() for name in (entry.native, *entry.copies)}
    if any(found.reader.tensors[name].dtype is UINT16 for name in names):
        found.reader = Bfloat16Reader(found.reader, names)


SENTENCES = "It is a sentence-transformers folder: its modules (pooling and the like) stand beside the encoder."


def _unrecognised(found: Checkpoint, known: list[str]) -> FormatError:
    names = list(found.tensors)
    seen = ", ".join(repr(name) for name in names[:3])
    return FormatError(
        f"is a {found.container} with {len(names)} tensors ({seen} ...), but no model of "
        f"{known[0] if len(known) == 1 else 'a dialect that is known here'} is among them.",
        path=found.path,
        hint="--keep-names converts the container alone; `interlingua inspect` lists the tensors.",
    )


def _settle_copies(found: Checkpoint, matched: Match) -> None:
    """Where names that are one tensor hold different data, take the one that the system computes with.

    Raises:
        FormatError: the model's weights are tied, so that they cannot differ.
    """
    for canonical, entry in list(matched.tensors.items()):
        for copy in entry.copies:
            if found.same_data(entry.native, copy):
                continue
            one = matched.table.tidy(entry.native) == matched.table.tidy(copy)
            tied = found.ties and not entry.rule.always
            if one or tied or found.tensors[copy].shape != found.tensors[entry.native].shape:
                raise FormatError(
                    f"{entry.native!r} and {copy!r} are one tensor by their names ({canonical}), but differ",
                    path=found.path,
                )
            matched.tensors[canonical] = replace(entry, native=copy, copies=())
            matched.leftovers[entry.native] = f"differs from {copy}, which is what the system computes with"


def _sidecars(found: Checkpoint, patterns: tuple[str, ...], places: Iterable[str]) -> tuple[str, ...]:
    """Return the files that travel along, by their path in the folder; only for a source that is a folder."""
    if found.place.unpacked is None and not found.path.is_dir():
        return ()
    folder = found.folder
    nested = [file for sub in sorted(folder.iterdir()) if sub.is_dir() and not sub.is_symlink() for file in listed(sub)]
    names = [file.relative_to(folder).as_posix() for file in (*listed(folder), *nested)]
    there = (name for name in places if (folder / name).is_file())
    return (*(name for name in names if any(_fits(name, pattern) for pattern in patterns)), *there)


def _fits(name: str, pattern: str) -> bool:
    return name.count("/") == pattern.count("/") and fnmatch.fnmatchcase(name, pattern)
