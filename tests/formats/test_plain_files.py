"""Whole files as tensors of bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlingua.errors import FormatError, OutputError
from interlingua.formats.base import TensorSpec
from interlingua.formats.dtypes import UINT8
from interlingua.formats.plain_files import PlainFiles, PlainFileWriter


def test_files_are_tensors_of_their_bytes_by_their_paths(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.json").write_bytes(b"\xff\x00{}")
    (tmp_path / "empty").write_bytes(b"")
    with PlainFiles(tmp_path, ["sub/a.json", "empty"]) as reader:
        assert list(reader.tensors.values()) == [
            TensorSpec("sub/a.json", UINT8, (4,)),
            TensorSpec("empty", UINT8, (0,)),
        ]
        assert reader.read("sub/a.json").tobytes() == b"\xff\x00{}"
        assert reader.read("empty").tobytes() == b""
        (extent,) = reader.extents("sub/a.json")
        assert (extent.offset, extent.nbytes) == (0, 4)


@pytest.mark.parametrize("name", ["missing", "."])
def test_what_is_no_file_is_refused_and_the_others_closed(tmp_path: Path, name: str) -> None:
    (tmp_path / "there").write_bytes(b"1")
    with pytest.raises(FormatError):
        PlainFiles(tmp_path, ["there", name])


def test_a_tensor_of_bytes_is_written_as_a_file(tmp_path: Path) -> None:
    with PlainFileWriter(tmp_path / "out", [TensorSpec("x", UINT8, (3,))]) as writer:
        writer.write("x", b"abc")
        writer.finish()
    assert (tmp_path / "out").read_bytes() == b"abc"
    with pytest.raises(OutputError):
        PlainFileWriter(tmp_path / "out", [TensorSpec("x", UINT8, (3,))])
