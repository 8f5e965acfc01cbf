"""What an archive unpacks to is bounded, and all of it is verified."""

from __future__ import annotations

import gzip
import lzma
import os
import tracemalloc
from pathlib import Path

import pytest

from interlingua.errors import FormatError
from interlingua.formats import archive_streams
from interlingua.formats.archive import open_archive
from tests.formats.archives import (
    END,
    HEADER,
    PACK,
    PLAIN,
    changed,
    files_below,
    new_folder,
    packed,
    put,
    tarred,
    unpack,
)


def test_several_compressed_streams_and_padding_are_one_archive(tmp_path: Path) -> None:
    data = tarred({"a": os.urandom(3000)})
    for kind in ("tar.gz", "tar.bz2", "tar.xz"):
        pieces = [PACK[kind](data[i : i + 1000]) for i in range(0, len(data), 1000)]
        path = put(tmp_path / "a", b"".join(pieces) + bytes(512))
        assert unpack(path, new_folder(tmp_path)) == {"a": data[512:3512]}


@pytest.mark.parametrize("kind", ["zip-deflated", "tar.gz", "tar.bz2", "tar.xz"])
def test_bomb_is_refused_before_it_fills_disk_or_memory(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_streams, "RATIO_FLOOR", 3 << 20)
    path = put(tmp_path / "a", packed(kind, {"a": bytes(2 << 20), "b": bytes(30 << 20)}))
    assert path.stat().st_size * archive_streams.MAX_RATIO < 32 << 20
    folder = new_folder(tmp_path)
    tracemalloc.start()
    # Also where nothing in it is wanted: to pass over it is to unpack it.
    for wanted in ({"b"}, set()):
        with pytest.raises(FormatError, match="although it has only"), open_archive(path) as opened:
            opened.extract(wanted, folder)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()
    assert files_below(folder) == {}


def test_bomb_whose_headers_are_humble_is_refused_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Bytes that no header speaks of: the headers themselves, and zeros behind the end.
    monkeypatch.setattr(archive_streams, "RATIO_FLOOR", 1 << 20)
    monkeypatch.setattr(archive_streams, "MAX_RATIO", 1)
    headers = b"".join(changed(HEADER, 0, b"%d" % i) for i in range(3000))
    for bomb in (PLAIN + END + bytes(2 << 20), headers + END):
        path = put(tmp_path / "a", lzma.compress(bomb, preset=1))
        with open_archive(path) as opened, pytest.raises(FormatError, match="although it has only"):
            opened.extract([], new_folder(tmp_path))


def test_xz_that_wants_gigabytes_is_refused(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 512 << 20, "preset": 0}]
    block = bytearray(
        lzma.compress(tarred({"a": b"1"}), lzma.FORMAT_XZ, filters=[{**filters[0], "dict_size": 1 << 20}])
    )
    # The dictionary's size is one byte of the block header, whose CRC-32 follows.
    at = block.index(b"\x21\x01") + 2
    block[at] = 38
    size = (block[12] + 1) * 4
    block[12 + size - 4 : 12 + size] = archive_streams.zlib.crc32(bytes(block[12 : 12 + size - 4])).to_bytes(
        4, "little"
    )
    with pytest.raises(FormatError, match=r"xz stream.*[Mm]emory"):
        unpack(put(tmp_path / "a", bytes(block)), new_folder(tmp_path))


def test_thousands_of_empty_streams_are_refused(tmp_path: Path) -> None:
    path = put(tmp_path / "a", gzip.compress(PLAIN + END, mtime=0) + gzip.compress(b"", mtime=0) * 2000)
    with pytest.raises(FormatError, match="cut into"):
        unpack(path, new_folder(tmp_path))


@pytest.mark.parametrize("kind", ["tar.gz", "tar.bz2", "tar.xz"])
def test_damaged_stream_is_noticed_even_behind_the_last_member(tmp_path: Path, kind: str) -> None:
    good = packed(kind, {"a": os.urandom(5000)})
    for bad in (good[:-9], good[:-1], good[:-8] + bytes([good[-8] ^ 1]) + good[-7:], good + b"junk"):
        with pytest.raises(FormatError):
            unpack(put(tmp_path / "a", bad), new_folder(tmp_path))
