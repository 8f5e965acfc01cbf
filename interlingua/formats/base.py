"""The two faces that every container has: a Reader of named tensors and a Writer of named tensors.

A reader learns every name, dtype and shape without touching the data, then hands out a tensor's bytes in
bounded blocks. A writer is given every name, dtype and shape up front, fixes the whole layout at once, and
takes the bytes in any order. In both, a tensor's bytes are row-major and little-endian.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar

from interlingua.errors import FormatError, MappingError, OutputError
from interlingua.formats.dtypes import DType, numpy_dtype
from interlingua.formats.lazy_files import LazyFile, find_lazy
from interlingua.formats.preallocation import preallocate

if TYPE_CHECKING:
    from typing import Any

    import numpy as np
    from typing_extensions import Self

BLOCK = 1 << 20
"""Bytes moved at a time: large enough to hide the cost of a call, small enough to stay in a core's cache."""

MAX_BYTES = 1 << 63
"""Bytes, an axis without elements counted as one, from which on NumPy makes no array, not even an empty one."""

MAX_DIMENSIONS = 32
"""More axes than any framework's tensor has: a shape beyond it is refused as broken."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What is known of a tensor before its data is read.

    Attributes:
        name: native name, as the container spells it.
        dtype: element type.
        shape: number of elements along each axis; ``()`` for a scalar.
        encoded: bytes of the payload for a type whose elements vary in length, else None.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    encoded: int | None = None

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the row-major, little-endian data."""
        if self.encoded is not None:
            return self.encoded
        return (self.elements * self.dtype.bits + 7) // 8


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells whether a file is still the one that was looked at: which it is, how long, and when last written."""

    device: int
    inode: int
    size: int
    modified: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """Return the stamp of a file that has this status."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


CHANGED = "Let whatever writes it finish, then try again."
"""What to do about a source that was another one at the end than at the start."""


class SourceFile:
    """A regular file open for reading, every read of it checked against its size.

    Attributes:
        stamp: what it was when it was opened; whatever is read of it is held against that.
        lazy: fetches the file's bytes where they are elsewhere; None for any other file.

    Raises:
        FormatError: the path is missing, unreadable, or no regular file.
    """

    lazy: LazyFile | None = None

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path if isinstance(path, Path) else Path(path)
        try:
            # O_NONBLOCK: opening a FIFO that somebody left in the folder must not hang.
            self.fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise FormatError(f"cannot be opened: {error.strerror}", path=path) from error
        except ValueError as error:
            raise FormatError(f"cannot be opened: {error}", path=path) from error
        try:
            status = os.fstat(self.fd)
        except OSError as error:
            os.close(self.fd)
            self.fd = -1
            raise self._unreadable(error) from error
        if not stat.S_ISREG(status.st_mode):
            os.close(self.fd)
            self.fd = -1
            raise FormatError("is not a regular file", path=path)
        self.size = status.st_size
        self.stamp = Stamp.of(status)
        self.lazy = find_lazy(status)

    def check(self, offset: int, nbytes: int, what: str) -> None:
        """Raise FormatError unless ``nbytes`` bytes from ``offset`` lie inside the file."""
        if offset < 0 or nbytes < 0 or offset + nbytes > self.size:
            raise FormatError(
                f"{what} claims bytes {offset} to {offset + nbytes}, but the file ends at {self.size}",
                path=self.path,
                offset=max(0, min(offset, self.size)),
                hint="The file is truncated or damaged; fetch it again.",
            )

    def read_at(self, offset: int, nbytes: int, what: str) -> bytes:
        """Return ``nbytes`` bytes from ``offset``; ``what`` names them in an error.

        Raises:
            FormatError: the file does not hold them.
        """
        self.check(offset, nbytes, what)
        if self.lazy is not None:
            self.lazy.read_ahead(offset, nbytes)
        try:
            data = os.pread(self.fd, nbytes, offset)
            while len(data) < nbytes:
                more = os.pread(self.fd, nbytes - len(data), offset + len(data))
                if not more:
                    raise self._shrunk(offset + len(data))
                data += more
        except OSError as error:
            raise self._unreadable(error) from error
        self.check_unchanged(self.fd)
        return data

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill ``view`` (of bytes) from ``offset``.

        Raises:
            FormatError: the file does not hold as many bytes.
        """
        self.check(offset, len(view), "a tensor")
        if self.lazy is not None:
            self.lazy.read_ahead(offset, len(view))
        done = 0
        try:
            while done < len(view):
                count = os.preadv(self.fd, [view[done:]], offset + done)
                if count == 0:
                    raise self._shrunk(offset + done)
                done += count
        except OSError as error:
            raise self._unreadable(error) from error
        self.check_unchanged(self.fd)

    def check_unchanged(self, fd: int) -> None:
        """Raise FormatError where the file, open at ``fd``, is no longer as it was when it was opened.

        Bytes read before a change and bytes read after it are no checkpoint, so this is called after every read.
        """
        if self.lazy is not None:
            return  # A file that is filled while it is read; that what is elsewhere stays the same is seen there.
        try:
            status = os.fstat(fd)
        except OSError as error:
            raise self._unreadable(error) from error
        # A descriptor stays with its device and inode: of a stamp only these two can differ.
        if status.st_mtime_ns == self.stamp.modified and status.st_size == self.size:
            return
        if status.st_size < self.size:
            raise self._shrunk(status.st_size)
        if Stamp.of(status) != self.stamp:
            raise FormatError("was changed while it was read", path=self.path, hint=CHANGED)

    @contextlib.contextmanager
    def held(self) -> Iterator[int]:
        """Give a descriptor of the file that is valid in the context; ``fetch`` what is read through it."""
        yield self.fd

    def fetch(self, offset: int, nbytes: int, known: int | None = None) -> None:
        """Have bytes be in the file that are read next: of a file that is elsewhere they are fetched.

        Args:
            offset: where they begin.
            nbytes: how many.
            known: how many will be read from there on in the end, so that more may be fetched at a time.

        Raises:
            FormatError: the file does not hold them, or they cannot be fetched.
        """
        if self.lazy is not None:
            self.check(offset, nbytes, "a tensor")
            self.lazy.have_run(offset, nbytes, min(known or nbytes, self.size - offset))

    def _unreadable(self, error: OSError) -> FormatError:
        return FormatError(f"cannot be read: {error.strerror}", path=self.path)

    def _shrunk(self, offset: int) -> FormatError:
        return FormatError("became shorter while it was read", path=self.path, offset=offset)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Extent:
    """A run of bytes in a file that is, as it stands, (part of) a tensor's row-major little-endian data."""

    file: SourceFile
    offset: int
    nbytes: int


class Reader(ABC):
    """Named tensors in a container that is open for reading; also a context manager that closes it.

    A subclass fills ``tensors`` when it is constructed and gives each tensor's bytes either as extents
    (bytes that can be copied as they stand) or, where they must be computed (other byte order, strides,
    compression), by overriding ``read_into``.

    Attributes:
        container: name of the container.
        path: the file, folder or prefix that was opened.
        tensors: specs by native name, in the file's own order.
        metadata: strings that the container keeps about itself (safetensors' ``__metadata__``).
        objects: what else was found beside the tensors, by path of names: numbers, strings, lists of them.
    """

    container: ClassVar[str]

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.tensors: dict[str, TensorSpec] = {}
        self.metadata: dict[str, str] = {}
        self.objects: dict[str, object] = {}

    @abstractmethod
    def extents(self, name: str) -> tuple[Extent, ...] | None:
        """Return the runs that, joined, are the tensor's data; None where the data must be computed.

        Two tensors with equal extents are one tensor under two names (tied).
        """

    def read_into(self, name: str, start: int, view: memoryview) -> None:
        """Fill ``view`` with the tensor's bytes from ``start`` (of its row-major little-endian data).

        Callers ask for consecutive blocks; a subclass may make other orders slow, never wrong.

        Raises:
            FormatError: the data is damaged, or not where the container says.
        """
        extents = self.extents(name)
        if extents is None:
            raise NotImplementedError(f"{type(self).__name__} must compute {name!r}")
        read_extents(extents, start, view)

    @property
    def carried(self) -> dict[str, str]:
        """What a writer of the same container takes as ``metadata`` to write it as it was."""
        return self.metadata

    def expected_checksum(self, name: str) -> tuple[str, int] | None:
        """Return (kind, value) of the checksum that the container keeps of the tensor's data, or None.

        Whoever copies extents past ``read_into`` holds the data against it.
        """
        return None

    @abstractmethod
    def close(self) -> None:
        """Close every file; the reader is of no use afterwards."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self, name: str) -> np.ndarray[Any, Any]:
        """Return the tensor as a NumPy array of its own memory.

        Raises:
            KeyError: there is no such tensor.
            TypeError: NumPy has no dtype for it.
        """
        import numpy as np

        spec = self.tensors[name]
        array = np.empty(spec.shape, numpy_dtype(spec.dtype))
        if array.nbytes:
            self.read_into(name, 0, array.reshape(-1).view(np.uint8).data)
        return array


def read_extents(extents: Sequence[Extent], start: int, view: memoryview) -> None:
    """Fill ``view`` with the bytes from ``start`` of the extents' concatenation."""
    done = 0
    for extent in extents:
        if start >= extent.nbytes:
            start -= extent.nbytes
            continue
        count = min(extent.nbytes - start, len(view) - done)
        extent.file.fetch(extent.offset + start, count, extent.nbytes - start)
        extent.file.read_into(extent.offset + start, view[done : done + count])
        done += count
        start = 0
        if done == len(view):
            return
    if done < len(view):
        raise ValueError("asked for more bytes than the tensor has")


def checked_shape(
    dims: Sequence[int], dtype: DType, available: int, what: str, path: Path, offset: int | None = None
) -> tuple[int, ...]:
    """Return ``dims``, which stand at ``offset``, as a shape whose data fits into ``available`` bytes.

    Raises:
        FormatError: a dimension is negative, there are too many, or the data would not fit.
    """
    shape = tuple(dims)
    if len(shape) > MAX_DIMENSIONS:
        raise FormatError(f"{what} has {len(shape)} dimensions", path=path, offset=offset)
    for axis, size in enumerate(shape):
        # No framework counts beyond 63 bits, however empty a further axis makes the tensor.
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 63:
            raise FormatError(f"{what} has an impossible shape (see its axis {axis})", path=path, offset=offset)
    needed = TensorSpec(what, dtype, shape).nbytes
    if needed > available:
        raise FormatError(
            f"{what} of shape {list(shape)} and type {dtype} needs {needed} bytes, but only {available} are there",
            path=path,
            offset=offset,
        )
    if math.prod(max(1, size) for size in shape) * dtype.itemsize >= MAX_BYTES:
        raise FormatError(f"{what} has an impossible shape, however empty", path=path, offset=offset)
    return shape


@dataclass(frozen=True, slots=True)
class Slot:
    """Where in the output a tensor's bytes go: ``offset`` of the file open at ``fd``."""

    fd: int
    offset: int


class Writer(ABC):
    """A container being written. Construction fixes names, order and offsets; data then comes in any order.

    Use: for each tensor, inside ``with writer.slot(name)``, write its bytes at the slot's offset, then call
    ``seal`` with its checksum where ``checksum`` says the container keeps one; at the end ``finish``.
    ``slot`` and ``seal`` may be called from several threads. What is written is no valid file before
    ``finish`` returns; putting it in its final place is the caller's business.

    Attributes:
        container: name of the container.
        checksum: ``crc32`` (zip), ``crc32c`` (Castagnoli) or None: what ``seal`` must be given.
        shares: whether ``ties`` may let one tensor's bytes serve under a second name.
    """

    container: ClassVar[str]
    checksum: ClassVar[str | None] = None
    shares: ClassVar[bool] = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        tensors: Sequence[TensorSpec],
        *,
        metadata: Mapping[str, str] | None = None,
        ties: Mapping[str, str] | None = None,
    ) -> None:
        self.path = Path(path)
        self.metadata = dict(metadata or {})
        self.ties = dict(ties or {})
        self.checksums: dict[str, int | None] = {}
        self.tensors = {spec.name: spec for spec in tensors}
        if len(self.tensors) != len(tensors):
            raise ValueError("two tensors of one name")
        if self.ties and not self.shares:
            raise ValueError(f"{self.container} cannot share one tensor under two names")

    @abstractmethod
    def slot(self, name: str) -> contextlib.AbstractContextManager[Slot]:
        """Return a context in which the tensor's bytes may be written at the slot (never for a tied name)."""

    def seal(self, name: str, checksum: int | None) -> None:
        """Record that the tensor's bytes are all written, with their checksum (None where none is kept)."""
        self.checksums[name] = checksum

    @abstractmethod
    def finish(self) -> None:
        """Write what depends on the data (checksums, directories) and close every file."""

    @abstractmethod
    def close(self) -> None:
        """Close every file without finishing; harmless after ``finish``."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that make up the output."""
        return (self.path,)

    def write(self, name: str, data: bytes | bytearray | memoryview) -> None:
        """Write a whole tensor and seal it: the short way, for small data."""
        with self.slot(name) as slot:
            write_at(slot.fd, slot.offset, data)
        self.seal(name, checksum_of(self.checksum, data))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SingleFileWriter(Writer):
    """A writer whose output is one file: construction fills ``offsets`` and opens ``_fd``."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        tensors: Sequence[TensorSpec],
        *,
        metadata: Mapping[str, str] | None = None,
        ties: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(path, tensors, metadata=metadata, ties=ties)
        self.offsets: dict[str, int] = {}
        self._fd = -1

    @contextlib.contextmanager
    def slot(self, name: str) -> Iterator[Slot]:
        yield Slot(self._fd, self.offsets[name])

    def finish(self) -> None:
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def refuse_dtype(container: str, spec: TensorSpec) -> MappingError:
    """Return the error of a container that has no code for a tensor's element type."""
    return MappingError(
        f"{container} has no element type {spec.dtype}, which {spec.name!r} has.",
        names=(spec.name,),
        hint="Choose another container with --container, or another type with --dtype.",
    )


def create(path: str | os.PathLike[str], size: int | None = None) -> int:
    """Create ``path`` for reading and writing (mode 0666 less the umask), ``size`` bytes long; return its fd.

    Raises:
        OutputError: it exists, or the disk or the permissions do not allow it.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise OutputError(f"{path}: cannot be created: {error.strerror}.") from error
    if size is not None:
        try:
            preallocate(fd, size)
        except OSError as error:
            os.close(fd)
            raise output_error(error, path) from error
    return fd


def make_folders(folder: Path, name: str) -> None:
    """Make the folders below ``folder`` that a file's name leads through.

    ``folder`` itself is not made: whoever moves it away finds what was written in it nowhere else.

    Raises:
        OSError: one cannot be made, or ``folder`` is not there.
    """
    for above in reversed(PurePath(name).parents[:-1]):
        (folder / above).mkdir(exist_ok=True)


def write_at(fd: int, offset: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of ``data`` at ``offset``, however many calls the system makes of it.

    Raises:
        OSError: as ``os.pwrite``.
    """
    view = memoryview(data).cast("B")
    done = 0
    while done < len(view):
        count = os.pwrite(fd, view[done:], offset + done)
        if count == 0:
            raise OSError(errno.EIO, "nothing was written")
        done += count


def read_own(fd: int, offset: int, nbytes: int) -> bytes:
    """Return ``nbytes`` bytes from ``offset`` of a file that is being written, however many calls it takes.

    Raises:
        OSError: as ``os.pread``, or the file is shorter than what was written of it.
    """
    data = b""
    while len(data) < nbytes:
        more = os.pread(fd, nbytes - len(data), offset + len(data))
        if not more:
            raise OSError(errno.EIO, "the output became shorter while it was written")
        data += more
    return data


def output_error(error: OSError, path: str | os.PathLike[str]) -> OutputError:
    """Return the user's form of a system error met while writing ``path``."""
    hint = "Free some space, or choose another place." if error.errno in (errno.ENOSPC, errno.EDQUOT) else None
    return OutputError(f"{path}: cannot be written: {error.strerror}.", hint=hint)


def checksum_of(kind: str | None, data: bytes | bytearray | memoryview, value: int = 0) -> int | None:
    """Return the checksum of ``data`` continued from ``value``; None where ``kind`` is None."""
    if kind is None:
        return None
    if kind == "crc32":
        return crc32(data, value)
    if kind == "crc32c":
        return crc32c(data, value)
    raise ValueError(f"no such checksum: {kind}")


def crc32(data: bytes | bytearray | memoryview, value: int = 0) -> int:
    """CRC-32 of zip and PNG (polynomial 0x04C11DB7), continued from ``value``."""
    # ISA-L folds with carry-less multiplication: some ten times as fast as the zlib that Python is built with.
    from isal import isal_zlib

    return int(isal_zlib.crc32(data, value))


def crc32c(data: bytes | bytearray | memoryview, value: int = 0) -> int:
    """CRC-32C of TensorFlow and iSCSI (polynomial 0x1EDC6F41), unmasked, continued from ``value``."""
    from crc32c import crc32c as castagnoli

    return int(castagnoli(data, value))


def blocks(nbytes: int, size: int = BLOCK) -> Iterator[tuple[int, int]]:
    """Yield (start, length) of the consecutive blocks that cover ``nbytes`` bytes."""
    for start in range(0, nbytes, size):
        yield start, min(size, nbytes - start)
