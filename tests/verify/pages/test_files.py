"""A report's file appears whole, under any name that the file system takes, or what was there stays."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from interlingua.errors import OutputError
from interlingua.verify.pages import files
from interlingua.verify.pages.files import write_whole


def test_what_is_there_is_replaced_and_nothing_is_left_beside(tmp_path: Path) -> None:
    path = tmp_path / "report"
    path.write_bytes(b"something longer than what follows")
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["report"]


def test_who_reads_the_old_file_goes_on_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "report"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        write_whole(path, b"new")
        assert reader.read() == b"old"


def test_a_write_that_breaks_off_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report"
    path.write_bytes(b"old")

    def full(fd: int, offset: int, data: bytes) -> None:
        os.pwrite(fd, data[:1], offset)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_at", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["report"]


def test_the_longest_name_that_the_file_system_takes_is_taken(tmp_path: Path) -> None:
    path = tmp_path / ("r" * 250 + ".html")
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"


def test_others_may_read_it_as_far_as_the_umask_says(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    write_whole(tmp_path / "report", b"new")
    assert stat.S_IMODE((tmp_path / "report").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(os.listdir("/dev/fd"))
    for _ in range(5):
        write_whole(tmp_path / "report", b"new")
    assert len(os.listdir("/dev/fd")) <= before
