"""An HDF5 file as a range of bytes: its superblock, and reads of its structures that cannot leave it.

HDF5 is parsed here rather than by libhdf5, because libhdf5 trusts what it reads: of small files with a few random
bytes changed, one in fifty ends the process that opens it in a segmentation fault, and some are read for ever
(libhdf5 1.14.6). In Python a length that lies is an exception.

What bounds a hostile file: every address is checked against the file, no more than ``METADATA_BUDGET`` bytes of
structure are looked at, nothing is walked by recursion, and checksums are checked where the format has them.

Layout: HDFGroup/hdf5: doxygen/examples/H5.format.html (HDF5 File Format Specification 3.0), section II
(superblock); src/H5Fsuper.c (user blocks), src/H5checksum.c (lookup3).
"""

from __future__ import annotations

import struct

from interlingua.errors import FormatError
from interlingua.formats.base import SourceFile
from interlingua.formats.registry import HDF5

SIGNATURE = HDF5

METADATA_BUDGET = 32 << 20
"""Bytes of structure (headers, trees, heaps, attributes) that one file may make its reader look at."""

_READ = 64
"""Bytes that a read of structure counts for beside its own, so that many small ones end as soon as large ones."""

DAMAGED = "The file is truncated or damaged; fetch it again."
REWRITE = "Rewrite it with h5py or h5repack as an ordinary HDF5 file."

_FIRST_USER_BLOCK = 512
_WIDTHS = (2, 4, 8)
_CHECKSUM = 4
_OPEN_FOR_WRITING = 0x05

_FULL = 0xFFFFFFFF
_MIX = (4, 6, 8, 16, 19, 4)
_FINAL = (14, 11, 25, 16, 4, 14, 24)


def looks_like_hdf5(head: bytes) -> bool:
    """Say whether a file that begins with ``head`` is HDF5: by its signature, which a user block may precede."""
    at = 0
    while at < len(head):
        if head.startswith(SIGNATURE, at):
            return True
        at = at * 2 or _FIRST_USER_BLOCK
    return False


def lookup3(data: bytes) -> int:
    """Return the checksum of the format's newer structures: Bob Jenkins' lookup3 (``hashlittle`` with seed 0)."""
    a: int = (0xDEADBEEF + len(data)) & _FULL
    b = c = a
    if not data:
        return c
    words: tuple[int, ...] = struct.unpack(f"<{-(-len(data) // 12) * 3}I", data + bytes(-len(data) % 12))
    last = len(words) - 3
    for at in range(0, last, 3):
        a, b, c = (a + words[at]) & _FULL, (b + words[at + 1]) & _FULL, (c + words[at + 2]) & _FULL
        for bits in _MIX:
            a = ((a - c) ^ (c << bits | c >> 32 - bits)) & _FULL
            a, b, c = b, (c + b) & _FULL, a
    a, b, c = (a + words[last]) & _FULL, (b + words[last + 1]) & _FULL, (c + words[last + 2]) & _FULL
    for bits in _FINAL:
        c = ((c ^ b) - ((b << bits | b >> 32 - bits) & _FULL)) & _FULL
        a, b, c = b, c, a
    return b


class Fields:
    """The bytes of one structure, taken field by field from the front; to take one that is not there is a FormatError.

    Attributes:
        image: the HDF5 file, which knows how wide addresses and lengths are.
        data: the structure.
        offset: byte of the file at which it begins.
        what: its name, for errors.
        at: how much of it has been taken.
    """

    __slots__ = ("at", "data", "image", "offset", "what")

    def __init__(self, image: Image, data: bytes, offset: int, what: str) -> None:
        self.image = image
        self.data = data
        self.offset = offset
        self.what = what
        self.at = 0

    @property
    def left(self) -> int:
        """Bytes not taken yet."""
        return len(self.data) - self.at

    def take(self, count: int) -> bytes:
        """Take the next ``count`` bytes."""
        start = self.at
        end = start + count
        if end > len(self.data):
            raise self.error("ends too early", DAMAGED)
        self.at = end
        return self.data[start:end]

    def uint(self, width: int) -> int:
        """Take an unsigned little-endian number of ``width`` bytes."""
        return int.from_bytes(self.take(width), "little")

    def length(self) -> int:
        """Take a length."""
        return self.uint(self.image.length_width)

    def address(self) -> int | None:
        """Take an address; None where it is the one that stands for nowhere."""
        raw = self.take(self.image.address_width)
        return None if raw.count(0xFF) == len(raw) else int.from_bytes(raw, "little")

    def known_address(self) -> int:
        """Take an address that must lead somewhere."""
        address = self.address()
        if address is None:
            raise self.error("leads nowhere", DAMAGED)
        return address

    def part(self, count: int) -> Fields:
        """Take the next ``count`` bytes as a structure of their own."""
        start = self.at
        return Fields(self.image, self.take(count), self.offset + start, self.what)

    def text(self) -> bytes:
        """Take bytes up to a NUL, and the NUL."""
        end = self.data.find(0, self.at)
        if end < 0:
            raise self.error("holds a name without an end", DAMAGED)
        return self.take(end + 1 - self.at)[:-1]

    def version(self, *known: int) -> int:
        """Take a byte that must be one of the ``known`` versions."""
        version = self.uint(1)
        if version not in known:
            raise self.error(f"is of version {version}, which is not read here", REWRITE)
        return version

    def error(self, message: str, hint: str | None = None) -> FormatError:
        """Return the error that says what is wrong with this structure."""
        return FormatError(f"{self.what} {message}", path=self.image.file.path, offset=self.offset + self.at, hint=hint)


class Image:
    """An HDF5 file: a whole file, or the part of an archive that it is stored in.

    Args:
        file: what holds it.
        start: byte of ``file`` at which it begins.
        size: its bytes; up to the end of ``file`` where None.

    Attributes:
        address_width: bytes of an address.
        length_width: bytes of a length.
        root: address of the root group's header.

    Raises:
        FormatError: it is no HDF5 file, or is damaged, truncated, still open for writing, or split over several.
    """

    def __init__(self, file: SourceFile, start: int = 0, size: int | None = None) -> None:
        self.file = file
        self.start = start
        self.end = file.size if size is None else start + size
        self.address_width = 8
        self.length_width = 8
        self.root = 0
        self._base = start
        self._budget = METADATA_BUDGET
        self._read_superblock()

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.end - self.start

    def renew_budget(self) -> None:
        """Let as much structure be read as if nothing had been: what follows is bounded by itself."""
        self._budget = METADATA_BUDGET

    def error(self, message: str, address: int | None = None, hint: str | None = None) -> FormatError:
        """Return the error that says what is wrong at ``address``."""
        offset = None if address is None else min(self._base + address, self.file.size)
        return FormatError(message, path=self.file.path, offset=offset, hint=hint)

    def offset(self, address: int, nbytes: int, what: str) -> int:
        """Return the byte of ``file`` that ``address`` is, where ``nbytes`` bytes from it are inside.

        Raises:
            FormatError: they are not.
        """
        at = self._base + address
        if at + nbytes > self.end:
            raise FormatError(
                f"{what} claims bytes {at} to {at + nbytes}, but the file ends at {self.end}",
                path=self.file.path,
                offset=min(at, self.end),
                hint=DAMAGED,
            )
        return at

    def read(self, address: int, nbytes: int, what: str) -> bytes:
        """Return ``nbytes`` bytes of structure from ``address``.

        Raises:
            FormatError: they are not all inside the file, or too much structure has been read already.
        """
        at = self.offset(address, nbytes, what)
        self.spend(_READ + nbytes)
        return self.file.read_at(at, nbytes, what)

    def spend(self, nbytes: int) -> None:
        """Count ``nbytes`` bytes of structure as looked at.

        Raises:
            FormatError: there have been too many.
        """
        self._budget -= nbytes
        if self._budget < 0:
            raise self.error(
                f"has more than {METADATA_BUDGET} bytes of structure, or leads its reader in circles",
                hint="It holds far more than a checkpoint does, or is made to exhaust its reader.",
            )

    def fields(self, address: int, nbytes: int, what: str, signature: bytes = b"") -> Fields:
        """Return the structure of ``nbytes`` bytes at ``address``, its signature taken.

        Raises:
            FormatError: it is not inside the file, or does not begin with ``signature``.
        """
        fields = Fields(self, self.read(address, nbytes, what), self._base + address, what)
        if signature and fields.take(min(len(signature), fields.left)) != signature:
            fields.at = 0
            raise fields.error("is not where it should be", DAMAGED)
        return fields

    def checked(self, address: int, nbytes: int, what: str, signature: bytes = b"") -> Fields:
        """Return as ``fields`` does the structure whose last four bytes are its checksum, without them.

        Raises:
            FormatError: as ``fields``, or the checksum is another.
        """
        fields = self.fields(address, nbytes, what, signature)
        body = fields.data[:-_CHECKSUM]
        if lookup3(body).to_bytes(_CHECKSUM, "little") != fields.data[len(body) :]:
            fields.at = 0
            raise fields.error("has another checksum than it should", DAMAGED)
        fields.data = body
        return fields

    def _read_superblock(self) -> None:
        at = 0
        while self.start + at + len(SIGNATURE) <= self.end:
            if self.file.read_at(self.start + at, len(SIGNATURE), "the superblock") == SIGNATURE:
                break
            at = at * 2 or _FIRST_USER_BLOCK
        else:
            raise self.error("has no HDF5 superblock", hint="The file is damaged, or of another format.")
        self._base = self.start + at
        head = self.fields(0, 14, "the superblock", SIGNATURE)
        if head.version(0, 1, 2, 3) < 2:
            self._read_old_superblock(head)
        else:
            self._read_new_superblock(head)

    def _read_old_superblock(self, head: Fields) -> None:
        version = head.data[8]
        head.take(4)
        self.address_width = self._width(head)
        head = self.fields(0, 15, "the superblock")
        head.take(14)
        self.length_width = self._width(head)
        fixed = 24 if version == 0 else 28
        fields = self.fields(0, fixed + 6 * self.address_width, "the superblock")
        fields.take(fixed)
        base = fields.known_address()
        fields.address()
        eof = fields.known_address()
        if fields.address() is not None:
            raise fields.error("says that the data is in other files", "Only single-file HDF5 is read.")
        fields.take(self.address_width)
        self.root = fields.known_address()
        self._check_end(base, eof)

    def _read_new_superblock(self, head: Fields) -> None:
        version = head.data[8]
        self.address_width = self._width(head)
        self.length_width = self._width(head)
        flags = head.uint(1)
        fields = self.checked(0, 16 + 4 * self.address_width, "the superblock")
        if version == 3 and flags & _OPEN_FOR_WRITING:
            raise fields.error("says that the file is still being written", "Close it, or clear it with h5clear -s.")
        fields.take(12)
        base = fields.known_address()
        fields.address()
        eof = fields.known_address()
        self.root = fields.known_address()
        self._check_end(base, eof)

    def _width(self, fields: Fields) -> int:
        width = fields.uint(1)
        if width not in _WIDTHS:
            raise fields.error(f"has addresses or lengths of {width} bytes", DAMAGED)
        return width

    def _check_end(self, base: int, eof: int) -> None:
        # A user block put before a finished file shifts it: libhdf5 then goes by where the superblock was found.
        end = self._base + eof - base
        if end > self.end:
            raise FormatError(
                f"should have {end - self.start} bytes, but has {self.size}",
                path=self.file.path,
                offset=self.end,
                hint=DAMAGED,
            )
