"""Object headers of HDF5, in both generations."""

from __future__ import annotations

import numpy as np
import pytest

from interlingua.errors import FormatError
from interlingua.formats import hdf5_objects
from interlingua.formats.base import SourceFile
from interlingua.formats.hdf5 import open_reader
from interlingua.formats.hdf5_image import Image
from interlingua.formats.hdf5_objects import ATTRIBUTE, DATASPACE, find_message, read_messages
from tests.formats.hdf5_files import LIBVERS, patch, resealed, write


def root_messages(path):
    with SourceFile(path) as file:
        image = Image(file)
        return read_messages(image, image.root)


@pytest.mark.parametrize("libver", LIBVERS)
def test_headers_go_on_in_other_blocks(tmp_path, libver):
    def fill(file):
        for index in range(7):
            file.attrs[f"name {index}"] = np.arange(index * 20)
            file.create_group(f"between {index}")

    messages = root_messages(write(tmp_path / "x.h5", fill, libver))
    assert sum(message.kind == ATTRIBUTE for message in messages) == 7


def test_a_message_is_where_it_says(tmp_path):
    path = write(tmp_path / "x.h5", lambda file: file.attrs.create("name", np.bytes_(b"some text")))
    message = find_message(root_messages(path), ATTRIBUTE)
    assert path.read_bytes()[message.offset :].startswith(message.data)
    assert b"some text" in message.data
    assert find_message(root_messages(path), DATASPACE) is None


def test_an_unknown_header_is_refused(tmp_path):
    path = write(tmp_path / "x.h5", lambda file: None)
    patch(path, 96, b"\x07")
    with pytest.raises(FormatError, match="version 7"):
        root_messages(path)


def continued(path):
    """A file whose root header is continued; return the place of the continuation message's body."""

    def fill(file):
        for index in range(6):
            file.attrs[f"name {index}"] = np.arange(20)

    write(path, fill)
    return path.read_bytes().index(b"\x10\0\x10\0", 96) + 8


def test_a_header_that_goes_round_in_circles_is_refused(tmp_path):
    path = tmp_path / "x.h5"
    at = continued(path)
    data = path.read_bytes()
    block = int.from_bytes(data[at : at + 8], "little")
    inner = data.index(b"\x10\0\x10\0", block) + 8 if b"\x10\0\x10\0" in data[block : block + 400] else at
    patch(path, inner, (112).to_bytes(8, "little"))
    with pytest.raises(FormatError, match="in circles"):
        root_messages(path)


def test_a_continuation_of_absurd_length_is_refused(tmp_path):
    path = tmp_path / "x.h5"
    patch(path, continued(path) + 8, b"\xff" * 7 + b"\x7f")
    with pytest.raises(FormatError, match="far too long"):
        root_messages(path)


def test_a_message_longer_than_its_header_is_refused(tmp_path):
    path = write(tmp_path / "x.h5", lambda file: None)
    patch(path, 96 + 16 + 2, b"\xff\xff")
    with pytest.raises(FormatError, match="ends too early"):
        root_messages(path)


def test_more_messages_than_can_be_counted_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5_objects, "MAX_MESSAGES", 3)
    path = write(tmp_path / "x.h5", lambda file: [file.attrs.create(f"{index}", 1) for index in range(5)])
    with pytest.raises(FormatError, match="more than 3 properties"):
        root_messages(path)


def test_a_message_nobody_knows_is_skipped_unless_it_forbids_that(tmp_path):
    path = write(tmp_path / "x.h5", lambda file: file.attrs.create("name", 1), "latest")
    data = path.read_bytes()
    start = data.index(b"OHDR")
    at = data.index(b"name", start) - 13
    while data[at] != ATTRIBUTE:
        at -= 1
    width = 1 << (data[start + 5] & 3)
    prefix = 6 + (16 if data[start + 5] & 0x20 else 0) + width
    size = prefix + int.from_bytes(data[start + prefix - width : start + prefix], "little") + 4
    for flags, known in ((0, True), (0x80, False)):
        changed = data[:at] + b"\x77" + data[at + 1 : at + 3] + bytes([flags]) + data[at + 4 :]
        path.write_bytes(resealed(changed, start, size))
        if known:
            assert ATTRIBUTE not in [message.kind for message in root_messages(path)]
        else:
            with pytest.raises(FormatError, match="unknown kind 119"):
                root_messages(path)


def test_a_type_that_is_kept_elsewhere_is_refused(tmp_path):
    def fill(file):
        file["type"] = np.dtype("f4")
        file.create_dataset("x", data=np.zeros(3, "f4"), dtype=file["type"])

    with pytest.raises(FormatError, match="shared between objects"):
        open_reader(write(tmp_path / "x.h5", fill))
