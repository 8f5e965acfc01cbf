"""Make an output appear whole or not at all: written beside its destination, synced, then renamed."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import glob
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

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

AT_FDCWD = -100
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


@contextlib.contextmanager
def staging(destination: Destination) -> Iterator[Path]:
    """Yield a folder beside the destination to write into; it is gone afterwards, whatever happens.

    What a killed run left behind is cleared away first: such a folder is recognised by its name and by the
    lock that its writer no longer holds.

    Raises:
        OutputError: the folder cannot be made.
    """
    parent, stem = destination.parent, _stem(destination.path.name)
    folder = parent / f"{stem}{os.urandom(RANDOM // 2).hex()}"
    made = [above for above in (parent, *parent.parents) if not os.path.lexists(above)]
    lock = -1
    try:
        try:
            parent.mkdir(parents=True, exist_ok=True)
            _clear_remains(parent, stem)
            folder.mkdir(mode=0o777)
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise output_error(error, parent) from error
        with contextlib.suppress(OSError):  # Where the file system has no locks, nobody clears anything away.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
    finally:
        if lock >= 0:
            os.close(lock)
        remove(folder)
        for above in made:
            with contextlib.suppress(OSError):
                above.rmdir()  # Only where it is empty, so that nothing was written.


def clear_remains(target: Path, *, alone: bool = False) -> None:
    """Clear away what killed runs have left that were writing ``target``.

    Args:
        target: the output.
        alone: whether it is certain that nobody is writing it. What is left is then cleared away on file systems
            without locks, too, as many of those are that several machines share.
    """
    parent, stem = target.absolute().parent, _stem(target.name)
    _clear_remains(parent, stem, alone=alone and len(os.fsencode(target.name)) <= STEM)


def commit(folder: Path, destination: Destination, files: Sequence[str]) -> None:
    """Move what was written into place; after this it is there, before it nothing is.

    Args:
        folder: the staging folder.
        destination: where its content goes.
        files: its files, the weights first.

    Raises:
        OutputError: something came in the way.
    """
    try:
        if destination.sync:
            _sync_tree(folder)
        if destination.single_file:
            _move_files(folder, destination, files)
        else:
            _move_folder(folder, destination)
        if destination.sync:
            _sync(destination.parent)
    except OSError as error:
        raise output_error(error, destination.path) from error


def _move_files(folder: Path, destination: Destination, files: Sequence[str]) -> None:
    # The weights come last: where they are, all that belongs to them is. Older ones go first, for they must
    # never stand beside the new configuration.
    # Where one cannot be moved, those before it go back, so that all is as it was.
    aside = folder / REPLACED
    aside.mkdir()
    moves: list[tuple[Path, Path]] = []

    def move(file: Path, target: Path, *, new: bool) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        if new:
            _move_new(file, target)
        else:
            file.replace(target)
        moves.append((file, target))

    try:
        for number, name in enumerate((files[0], *reversed(files[1:]))):
            if destination.overwrite and os.path.isfile(destination.parent / name):
                move(destination.parent / name, aside / str(number), new=False)
            if number:
                move(folder / name, destination.parent / name, new=not destination.overwrite)
        move(folder / files[0], destination.parent / files[0], new=not destination.overwrite)
    except OSError:
        for origin, moved in reversed(moves):
            _move_back(moved, origin)
        raise


def _move_back(moved: Path, origin: Path) -> None:
    """Undo a move as well as can be; a link is taken away again."""
    with contextlib.suppress(OSError):
        moved.replace(origin)
        if os.path.lexists(moved):
            moved.unlink()  # Two links to one file: the move of the one onto the other does nothing.


def _move_new(file: Path, target: Path) -> None:
    """Move a file to where nothing is; raises FileExistsError where something has appeared."""
    try:
        os.link(file, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS) or os.path.lexists(target):
            raise
        file.rename(target)  # A file system without hard links.


def _move_folder(folder: Path, destination: Destination) -> None:
    path = destination.path.absolute()
    if not os.path.lexists(path) or _is_empty_folder(path):
        folder.rename(path)
        # The folder that staging() clears away afterwards is then the destination's empty predecessor, or none.
        return
    if not destination.overwrite:
        raise OutputError(f"{path}: appeared while its content was being written.", hint="Pass --overwrite.")
    _exchange(folder, path)


def _exchange(one: Path, other: Path) -> None:
    """Swap two folders in one step, where the system can; otherwise with a moment between two renames."""
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "renameat2"):
        done = libc.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE)
        if done == 0:
            return
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOSYS):
            raise OSError(number, os.strerror(number))
    away = one.with_name(f"{one.name}-old")
    other.rename(away)
    try:
        one.rename(other)
    except OSError:
        away.rename(other)
        raise
    away.rename(one)


def _stem(name: str) -> str:
    """Return how the names of a destination's staging folders begin; short enough for any file system."""
    return f".{os.fsencode(name)[:STEM].decode('utf-8', 'ignore')}{MARK}"


def remove(folder: Path) -> None:
    """Remove what is there after an exchange or a failure: a folder, or a link to one."""
    for _ in range(ATTEMPTS):
        with contextlib.suppress(OSError):  # Of some calls rmtree itself does not ignore that they fail.
            if os.path.islink(folder):
                folder.unlink()
            else:
                shutil.rmtree(folder, ignore_errors=True)
        if not os.path.lexists(folder):
            return


def _clear_remains(parent: Path, stem: str, *, alone: bool = False) -> None:
    for folder in parent.glob(glob.escape(stem) + "[0-9a-f]" * RANDOM):
        with contextlib.suppress(OSError):
            if folder.is_symlink():
                folder.unlink()
                continue
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                if _unlocked(fd, alone):
                    shutil.rmtree(folder, ignore_errors=True)
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


def _is_empty_folder(path: Path) -> bool:
    return os.path.isdir(path) and not path.is_symlink() and not any(path.iterdir())


def _sync_tree(folder: Path) -> None:
    for base, _, names in os.walk(folder):
        for name in names:
            _sync(Path(base, name))
        _sync(Path(base))


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
