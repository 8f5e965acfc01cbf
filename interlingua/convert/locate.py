"""Find a checkpoint's weights where a user points: a file, a folder, a prefix, or an archive that zoos publish."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from interlingua.convert.commit import remove
from interlingua.convert.remote.uris import Uri
from interlingua.errors import FormatError, InterlinguaError, OutputError
from interlingua.formats.registry import describe_unknown, probe, sniff
from interlingua.mappings.registry import DIALECTS

if TYPE_CHECKING:
    from interlingua.convert.remote.mirror import Mirror

RESIDUE = "interlingua.residue.safetensors"
"""File name of the residue, which is never taken for the weights."""

PROVENANCE = "interlingua-provenance.json"
"""File name of what a batch says of an output's origin."""

SMALL = 64 << 20
"""Bytes up to which a file of an archive is unpacked whatever it is: configurations, vocabularies, tokenizers."""

INDEX = ".index"
"""What a prefix's first file is called beyond the prefix."""

USELESS = ("__MACOSX/", ".git/")
"""Folders of an archive that nobody meant to put there."""

GRAPHS = (".meta", ".pb", ".onnx", ".msgpack", ".mindir")
"""Endings of large files that are no weights by themselves."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a checkpoint is.

    Attributes:
        weights: the file, folder or prefix that holds the weights.
        folder: the folder that holds what belongs to them.
        close: removes what was unpacked for it, or mirrored.
        unpacked: where the archive was unpacked that it comes from; None where it comes from none.
        path: what was asked for: as it was, or in a mirror of what is elsewhere.
        mirror: the mirror of what is elsewhere; None where it is here.
    """

    weights: Path
    folder: Path
    close: Callable[[], None]
    unpacked: Path | None = None
    path: Path = Path()
    mirror: Mirror | None = None

    def shown(self, text: str | os.PathLike[str]) -> str:
        """Return a path, or a text with paths, as a user knows them.

        What comes out of an archive has its name in there behind the archive's, and what is elsewhere its URI.
        """
        shown = os.fspath(text)
        if self.unpacked is not None:
            shown = _renamed(shown, self.unpacked, f"{self.path}:", f"{self.path}")
        if self.mirror is not None:
            shown = _renamed(shown, self.mirror.folder, self.mirror.uri.rstrip("/") + "/", self.mirror.uri)
        return shown

    def rename(self, error: BaseException) -> None:
        """Have an error name files as a user knows them."""
        if isinstance(error, InterlinguaError):
            error.message = self.shown(error.message)
            error.hint = error.hint and self.shown(error.hint)


def _renamed(text: str, folder: Path, start: str, whole: str) -> str:
    return text.replace(f"{folder}{os.sep}", start).replace(str(folder), whole)


def locate(source: Path | Uri) -> Place:
    """Find the weights that a path or a URI stands for; an archive is unpacked as far as needed.

    Of what is elsewhere a mirror is made, whose files are fetched as they are read.

    Raises:
        FormatError: there is none, or there are several and nothing tells them apart; or the archive is hostile;
            or what is elsewhere cannot be reached.
        UsageError: the packages that reaching it takes are not installed.
    """
    if isinstance(source, Path):
        return _locate(source)
    from interlingua.convert.remote.mirror import open_mirror

    with ExitStack() as stack:
        mirror = stack.enter_context(open_mirror(source))
        try:
            found = _locate(mirror.path)
        except InterlinguaError as error:
            Place(mirror.path, mirror.folder, mirror.close, mirror=mirror).rename(error)
            raise
        stack.callback(found.close)
        return replace(found, close=stack.pop_all().close, mirror=mirror)


def _locate(path: Path) -> Place:
    if is_archive(path):
        return _unpacked(path)
    weights = find_weights(path)
    return Place(weights, _folder_of(weights), lambda: None, path=path)


def is_archive(path: Path) -> bool:
    """Say whether a path is a file that has to be unpacked."""
    if not os.path.isfile(path) or sniff(path) is not None:
        return False
    from interlingua.formats.archive import sniff_archive

    return bool(sniff_archive(probe(path)))


def find_weights(path: Path) -> Path:
    """Return what holds the weights of a checkpoint that is a folder (or the path itself where it is none).

    Raises:
        FormatError: there is none, or there are several and nothing tells them apart.
    """
    if not os.path.isdir(path):
        return path
    for name in usual_names():
        if (path / name).is_file() or (path / f"{name}{INDEX}").is_file():
            return path / name
    # sentence-transformers before 2.0 kept the encoder in a folder of its own.
    if (path / "modules.json").is_file() and (path / "0_Transformer").is_dir():
        return find_weights(path / "0_Transformer")
    if sniff(path) is not None:
        return path
    fitting = [file for file in listed(path) if file.name != RESIDUE and sniff(file) is not None]
    if not fitting:
        fitting = [folder for folder in folders(path) if sniff(folder) is not None]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise FormatError(
            describe_unknown(probe(path)), path=path, hint="Name the weights file itself, if it is there."
        )
    names = ", ".join(file.name for file in fitting[:8])
    raise FormatError(f"holds {len(fitting)} checkpoints: {names}", path=path, hint="Name one of them.")


def usual_names() -> Iterator[str]:
    """Yield the names that the dialects give their weights, each dialect's default container first."""
    for dialect in DIALECTS.values():
        for container, form in product(dialect.containers, dialect.folders):
            yield form.weights[container]
            if container in form.shards:
                yield form.shards[container][1]


def listed(folder: Path) -> list[Path]:
    """Return the files of a folder, in order.

    Raises:
        FormatError: it cannot be listed.
    """
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_file())
    except OSError as error:
        raise FormatError(f"cannot be listed: {error.strerror}", path=folder) from error


def folders(folder: Path) -> list[Path]:
    """Return the folders in a folder, in order; links are not followed.

    Raises:
        FormatError: it cannot be listed.
    """
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink())
    except OSError as error:
        raise FormatError(f"cannot be listed: {error.strerror}", path=folder) from error


def _folder_of(weights: Path) -> Path:
    """Return the folder of what belongs to the weights: their own, where they are several files in one."""
    container = sniff(weights) if os.path.isdir(weights) else None
    return weights if container is not None and container.form == "prefix" else weights.parent


def _unpacked(path: Path) -> Place:
    import shutil
    import tempfile

    from interlingua.formats.archive import open_archive

    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="interlingua-"))
        stack.callback(remove, folder)
        with open_archive(path) as archive:
            chosen = _needed({name: member.size for name, member in archive.members.items()})
            free, needed = shutil.disk_usage(folder).free, sum(archive.members[name].size for name in chosen)
            if needed > free:
                raise FormatError(f"unpacks to {needed} bytes, and {folder} has {free}", path=path, hint=ROOM)
            try:
                archive.extract(chosen, folder, budget=free)
            except OutputError as error:
                raise FormatError(
                    f"cannot be unpacked into {folder}: {error.message}",
                    path=path,
                    hint=ROOM,
                ) from error
        weights = _in_archive(folder, path)
        return Place(weights, _folder_of(weights), stack.pop_all().close, folder, path)


ROOM = "Set TMPDIR to a place with more room, or unpack it yourself and name the folder."
"""What to do where an archive cannot be unpacked."""


def _needed(sizes: dict[str, int]) -> list[str]:
    """Return the members that a conversion may need: of several forms of the same weights only the best known."""
    useful = {n: size for n, size in sizes.items() if not any(part in f"/{n}" for part in map("/{}".format, USELESS))}
    large = [name for name, size in useful.items() if size > SMALL]
    kept = [name for name, size in useful.items() if size <= SMALL]
    for usual in usual_names():
        best = [name for name in large if PurePosixPath(name).name == usual]
        if best:
            return kept + best
    return kept + [name for name in large if not name.endswith(GRAPHS)]


def _in_archive(folder: Path, path: Path) -> Path:
    """Return the weights in what an archive unpacked to: in the topmost folder that has any."""
    level: Iterable[Path] = [folder]
    while level:
        found = []
        for place in level:
            try:
                found.append(find_weights(place))
            except FormatError as error:
                if "checkpoints:" in error.message:
                    raise FormatError(error.message.removeprefix(f"{place}: "), path=path, hint=UNPACK) from error
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(str(weights.relative_to(folder)) for weights in found[:8])
            raise FormatError(f"holds {len(found)} checkpoints: {names}", path=path, hint=UNPACK)
        level = [inner for place in level for inner in folders(place)]
    raise FormatError("is an archive in which no checkpoint was found", path=path)


UNPACK = "Unpack it, and name one of them."
