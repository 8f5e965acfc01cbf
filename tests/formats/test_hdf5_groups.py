"""Links of HDF5 groups, few and many, in all three ways of keeping them."""

from __future__ import annotations

import h5py
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlingua.errors import FormatError
from interlingua.formats import hdf5_groups
from interlingua.formats.base import SourceFile
from interlingua.formats.hdf5_groups import is_group, read_links
from interlingua.formats.hdf5_image import Image
from interlingua.formats.hdf5_objects import read_messages
from tests.formats.hdf5_files import LIBVERS, patch, replace, write

NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=30
)


def links(path):
    with SourceFile(path) as file:
        image = Image(file)
        messages = read_messages(image, image.root)
        assert is_group(messages)
        return read_links(image, messages)


@settings(max_examples=40)
@given(
    names=st.lists(NAMES.filter(lambda name: name != "."), max_size=30, unique=True), libver=st.sampled_from([*LIBVERS])
)
def test_lists_the_links_that_h5py_lists(tmp_path_factory, names, libver):
    path = tmp_path_factory.mktemp("h5") / "x.h5"
    write(path, lambda file: [file.create_group(name) for name in names], libver)
    with h5py.File(path) as file:
        expected = [(name, h5py.h5o.get_info(group.id).addr) for name, group in file.items()]
    assert links(path) == expected


@pytest.mark.parametrize("libver", LIBVERS)
@pytest.mark.parametrize("count", [0, 1, 8, 9, 300, 3000])
def test_groups_of_every_size_are_listed(tmp_path, libver, count):
    path = write(tmp_path / "x.h5", lambda file: [file.create_group(f"group {n}") for n in range(count)], libver)
    assert [name for name, _ in links(path)] == sorted(f"group {n}" for n in range(count))


@pytest.mark.parametrize("libver", LIBVERS)
def test_order_of_creation_changes_nothing(tmp_path, libver):
    path = write(
        tmp_path / "x.h5", lambda file: [file.create_group(name) for name in "cabdefghijk"], libver, track_order=True
    )
    assert [name for name, _ in links(path)] == sorted("cabdefghijk")


@pytest.mark.parametrize("libver", LIBVERS)
@pytest.mark.parametrize("name", [b"a\xff\xffa", b"a/aa", b".\0aa"])
def test_names_that_no_path_can_hold_are_refused(tmp_path, libver, name):
    path = write(tmp_path / "x.h5", lambda file: file.create_group("abcd"), libver)
    replace(path, b"abcd", name)
    if libver != "earliest":
        with pytest.raises(FormatError, match="checksum"):
            links(path)
    else:
        with pytest.raises(FormatError, match="impossible name"):
            links(path)


def test_two_links_of_one_name_are_refused(tmp_path):
    path = write(tmp_path / "x.h5", lambda file: [file.create_group(name) for name in ("abcd", "abce")])
    replace(path, b"abce", b"abcd")
    with pytest.raises(FormatError, match="two links of the name 'abcd'"):
        links(path)


@pytest.mark.parametrize("libver", LIBVERS)
def test_more_links_than_any_checkpoint_has_are_refused(tmp_path, libver, monkeypatch):
    monkeypatch.setattr(hdf5_groups, "MAX_LINKS", 20)
    path = write(tmp_path / "x.h5", lambda file: [file.create_group(f"{n}") for n in range(21)], libver)
    with pytest.raises(FormatError, match="more than 20 links"):
        links(path)


def test_a_table_of_links_that_is_none_is_refused(tmp_path):
    path = write(tmp_path / "x.h5", lambda file: file.create_group("abcd"))
    patch(path, path.read_bytes().index(b"SNOD"), b"XXXX")
    with pytest.raises(FormatError, match="not where it should be"):
        links(path)


def test_a_link_that_leads_outside_the_file_is_refused(tmp_path):
    path = write(tmp_path / "x.h5", lambda file: file.create_group("abcd"))
    at = path.read_bytes().index(b"SNOD") + 16
    with SourceFile(patch(path, at, b"\xff" * 7 + b"\x7f")) as file:
        image = Image(file)
        ((_, target),) = read_links(image, read_messages(image, image.root))
        with pytest.raises(FormatError, match="the file ends at"):
            read_messages(image, target)
