"""Make an output appear whole or not at all: written beside its destination, synced, then renamed."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import NamedTuple

from interlingua.errors import OutputError
from interlingua.formats.base import output_error

MARK = ".interlingua-"
"""Stands in the name of a folder that is being written, between its destination's name and a random part."""

RANDOM = 16
"""Hexadecimal digits of that part."""

STEM = 150
"""Bytes of a destination's name that its staging folders' names begin with."""

REPLACED = ".replaced"
"""Folder, among the files that are written, of those that they replace: none of them has this name."""

ATTEMPTS = 3
"""Times that removing a folder is tried: on what is far away, one of many calls may fail."""

RENAME_EXCHANGE = 2


@dataclass(frozen=True, slots=True)
class Destination:
    """Where an output goes.

    Attributes:
        path: the folder; or the weights file, where the output is one.
        single_file: whether the output is a weights file (its companions then stand beside it).
        overwrite: whether what is there may be replaced.
        sync: whether the bytes are forced to the disk before the rename.
    """

    path: Path
    single_file: bool
    overwrite: bool = False
    sync: bool = True

    @property
    def parent(self) -> Path:
        """The folder that the output, or its companions, will be in."""
        return self.path.absolute().parent

    def check(self, files: Sequence[str]) -> None:
        """Raise OutputError where something is in the way of these files."""
        if self.single_file:
            there = [name for name in files if os.path.lexists(self.parent / name)]
        else:
            there = [self.path.name] if os.path.lexists(self.path) and not _is_empty_folder(self.path) else []
        if there and not self.overwrite:
            names = ", ".join(str(self.path.parent / name) for name in there)
            raise OutputError(f"{names} is there already.", hint="Choose another place, or pass --overwrite.")
        if there and not self.single_file and not os.path.isdir(self.path):
            raise OutputError(f"{self.path}: is a file, and the output is a folder.", hint="Choose another place.")


@dataclass(frozen=True, slots=True)
class Stage:
    """A folder that an output is written in, unseen, and the folder that both are in.

    Both are held open: what is moved and cleaned up is found through them, wherever they have been moved to.

    Attributes:
        path: the folder to write in.
        fd: the same, open.
        parent: the folder that it is in, open, and where the output will be.
    """

    path: Path
    fd: int
    parent: int


@contextlib.contextmanager
def staging(destination: Destination) -> Iterator[Stage]:
    """Yield a folder beside the destination to write into; it is gone afterwards, whatever happens.

    What a killed run left behind is cleared away first: such a folder is recognised by its name and by the
    lock that its writer no longer holds.

    Raises:
        OutputError: the folder cannot be made.
    """
    parent, stem = destination.parent, _stem(destination.path.name)
    name = f"{stem}{os.urandom(RANDOM // 2).hex()}"
    made = [above for above in (parent, *parent.parents) if not os.path.lexists(above)]
    with contextlib.ExitStack() as stack:
        for above in reversed(made):
            stack.callback(_remove_if_empty, above)
        try:
            parent.mkdir(parents=True, exist_ok=True)
            place = _open_folder(parent)
            stack.callback(os.close, place)
            _clear_remains(place, stem)
            stack.callback(remove, name, place)
            os.mkdir(name, dir_fd=place)
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=place)
            stack.callback(os.close, fd)
        except OSError as error:
            raise output_error(error, parent) from error
        with contextlib.suppress(OSError):  # Where the file system has no locks, nobody clears anything away.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield Stage(parent / name, fd, place)


def clear_remains(target: Path, *, alone: bool = False) -> None:
    """Clear away what killed runs have left that were writing ``target``.

    Args:
        target: the output.
        alone: whether it is certain that nobody is writing it. What is left is then cleared away on file systems
            without locks, too, as many of those are that several machines share.
    """
    try:
        place = _open_folder(target.absolute().parent)
    except OSError:
        return
    try:
        _clear_remains(place, _stem(target.name), alone=alone and len(os.fsencode(target.name)) <= STEM)
    finally:
        os.close(place)


def commit(stage: Stage, destination: Destination, files: Sequence[str]) -> None:
    """Move what was written into place; after this it is there, before it nothing is.

    Args:
        stage: what was written.
        destination: where it goes.
        files: its files, the weights first.

    Raises:
        OutputError: something came in the way.
    """
    try:
        if destination.sync:
            _sync_tree(stage.fd)
        if not os.path.samestat(os.stat(destination.parent), os.fstat(stage.parent)):
            raise OutputError(
                f"{destination.parent}: another folder is there than the one in which the output was written.",
                hint="Run it again once nobody moves folders there.",
            )
        if destination.single_file:
            _move_files(stage, destination, files)
        else:
            _move_folder(stage, destination)
        if destination.sync:
            _sync(".", stage.parent)
    except OSError as error:
        raise output_error(error, destination.path) from error


class _Entry(NamedTuple):
    """A name in an open folder."""

    folder: int
    name: str


def _move_files(stage: Stage, destination: Destination, files: Sequence[str]) -> None:
    # The weights come last: where they are, all that belongs to them is. Older ones go first, for they must
    # never stand beside the new configuration.
    # Where one cannot be moved, those before it go back, so that all is as it was.
    os.mkdir(REPLACED, dir_fd=stage.fd)
    with contextlib.ExitStack() as undo:
        for number, name in enumerate((files[0], *reversed(files[1:]))):
            target = _Entry(stage.parent, name)
            if destination.overwrite and _is_file(target):
                aside = _Entry(stage.fd, f"{REPLACED}/{number}")
                _move(target, aside)
                undo.callback(_move_back, aside, target)
            if number:
                _move_in(_Entry(stage.fd, name), target, undo, overwrite=destination.overwrite)
        weights = files[0]
        _move_in(_Entry(stage.fd, weights), _Entry(stage.parent, weights), undo, overwrite=destination.overwrite)
        undo.pop_all()


def _move_in(file: _Entry, target: _Entry, undo: contextlib.ExitStack, *, overwrite: bool) -> None:
    """Move a new file to its place, and enter how that is undone."""
    for above in reversed(PurePath(target.name).parents[:-1]):
        with contextlib.suppress(FileExistsError):
            os.mkdir(above, dir_fd=target.folder)
            undo.callback(_remove_if_empty, above, target.folder)
    if overwrite:
        _move(file, target)
    else:
        _move_new(file, target)
    undo.callback(_move_back, target, file)


def _move(file: _Entry, target: _Entry) -> None:
    os.replace(file.name, target.name, src_dir_fd=file.folder, dst_dir_fd=target.folder)


def _move_back(moved: _Entry, origin: _Entry) -> None:
    """Undo a move as well as can be; a link is taken away again."""
    with contextlib.suppress(OSError):
        _move(moved, origin)
        os.unlink(moved.name, dir_fd=moved.folder)  # Two links to one file: moving the one onto the other does nothing.


def _move_new(file: _Entry, target: _Entry) -> None:
    """Move a file to where nothing is; raises FileExistsError where something has appeared."""
    try:
        os.link(file.name, target.name, src_dir_fd=file.folder, dst_dir_fd=target.folder)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS) or _is_there(target):
            raise
        _move(file, target)  # A file system without hard links.


def _move_folder(stage: Stage, destination: Destination) -> None:
    written, target = _Entry(stage.parent, stage.path.name), _Entry(stage.parent, destination.path.name)
    if not _is_there(target) or _is_empty_folder(target.name, target.folder):
        _move(written, target)
        # The folder that staging() clears away afterwards is then the destination's empty predecessor, or none.
        return
    is_folder = stat.S_ISDIR(os.stat(target.name, dir_fd=target.folder).st_mode)
    if not (destination.overwrite and is_folder):
        path, hint = destination.path.absolute(), "Pass --overwrite." if is_folder else "Choose another place."
        raise OutputError(f"{path}: appeared while its content was being written.", hint=hint)
    _exchange(written, target)


def _exchange(one: _Entry, other: _Entry) -> None:
    """Swap two folders in one step, where the system can; otherwise with a moment between two renames."""
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "renameat2"):
        names = (one.folder, os.fsencode(one.name), other.folder, os.fsencode(other.name))
        if libc.renameat2(*names, RENAME_EXCHANGE) == 0:
            return
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOSYS):
            raise OSError(number, os.strerror(number))
    away = one._replace(name=f"{one.name}-old")
    _move(other, away)
    try:
        _move(one, other)
    except OSError:
        _move(away, other)
        raise
    _move(away, one)


def _stem(name: str) -> str:
    """Return how the names of a destination's staging folders begin; short enough for any file system."""
    return f".{os.fsencode(name)[:STEM].decode('utf-8', 'ignore')}{MARK}"


def remove(path: str | os.PathLike[str], folder: int | None = None) -> None:
    """Remove what is there after an exchange or a failure, as well as can be: a folder, or a link to one.

    Args:
        path: what is to go.
        folder: an open folder that it is in; None where the path says all.
    """
    for _ in range(ATTEMPTS):
        with contextlib.suppress(OSError):
            _remove_tree(path, folder)
        try:
            os.stat(path, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return
        except OSError:
            continue


def _remove_tree(path: str | os.PathLike[str], folder: int | None) -> None:
    # Not shutil.rmtree, which takes an open folder to begin at only from Python 3.11 on.
    if not stat.S_ISDIR(os.stat(path, dir_fd=folder, follow_symlinks=False).st_mode):
        os.unlink(path, dir_fd=folder)
        return
    for _, folders, files, fd in os.fwalk(path, topdown=False, dir_fd=folder):
        for name in (*files, *folders):
            with contextlib.suppress(OSError):
                _remove_one(name, fd)
    os.rmdir(path, dir_fd=folder)


def _remove_one(name: str, folder: int) -> None:
    """Remove a file, a link, or an empty folder."""
    try:
        os.unlink(name, dir_fd=folder)
    except IsADirectoryError:
        os.rmdir(name, dir_fd=folder)


def _remove_if_empty(path: str | os.PathLike[str], folder: int | None = None) -> None:
    with contextlib.suppress(OSError):
        os.rmdir(path, dir_fd=folder)


def _clear_remains(parent: int, stem: str, *, alone: bool = False) -> None:
    pattern = re.compile(f"{re.escape(stem)}[0-9a-f]{{{RANDOM}}}")
    names: list[str] = []
    with contextlib.suppress(OSError):  # One may be allowed to write in a folder, and not to list it.
        names = _names(".", parent)
    for name in filter(pattern.fullmatch, names):
        with contextlib.suppress(OSError):
            _clear(name, parent, alone)


def _clear(name: str, parent: int, alone: bool) -> None:
    """Remove a staging folder whose writer is gone; a link of such a name, whatever it leads to."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=parent)
    except NotADirectoryError:
        if stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=parent)
        return
    try:
        if _unlocked(fd, alone):
            remove(name, parent)
    finally:
        os.close(fd)


def _unlocked(fd: int, where_there_are_no_locks: bool) -> bool:
    """Lock a folder; say whether it was free, or what is to be said of it where the file system has no locks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return where_there_are_no_locks
    return True


def _open_folder(path: Path) -> int:
    """Open a folder that one may perhaps write in, but not list."""
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _is_there(entry: _Entry) -> bool:
    try:
        os.stat(entry.name, dir_fd=entry.folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _is_file(entry: _Entry) -> bool:
    try:
        return stat.S_ISREG(os.stat(entry.name, dir_fd=entry.folder).st_mode)
    except FileNotFoundError:
        return False


def _is_empty_folder(path: str | os.PathLike[str], folder: int | None = None) -> bool:
    """Say whether a path, or a name in an open folder, is a folder with nothing in it, and no link to one."""
    try:
        return not _names(path, folder)
    except NotADirectoryError:
        return False


def _names(path: str | os.PathLike[str], folder: int | None) -> list[str]:
    """Return the names in a folder; raise NotADirectoryError where it is none, or a link."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        return os.listdir(fd)
    finally:
        os.close(fd)


def _sync_tree(folder: int) -> None:
    for _, _, names, fd in os.fwalk(".", onerror=_give_up, dir_fd=folder):
        for name in (*names, "."):
            _sync(name, fd)


def _give_up(error: OSError) -> None:
    raise error


def _sync(name: str, folder: int) -> None:
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
