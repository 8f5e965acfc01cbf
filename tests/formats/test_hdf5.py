"""HDF5 files of any layout, against h5py, which wraps the format's own library."""

from __future__ import annotations

import itertools
import random
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlingua.errors import FormatError
from interlingua.formats import hdf5, registry
from interlingua.formats.base import Extent
from interlingua.formats.hdf5 import Hdf5Reader, open_reader, sniff
from tests.formats.hdf5_files import LIBVERS, address, blind_to_checksums, contents, patch, replace, write
from tests.formats.hostile import check_reader, damaged

INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
DTYPES = ("bool", *INTEGERS, "float16", "float32", "float64", "complex64", "complex128")
PARTS = st.text(
    st.characters(codec="utf-8", exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=8
)
PATHS = st.lists(PARTS.filter(lambda part: part != "."), min_size=1, max_size=4).map("/".join)


@st.composite
def stored(draw: st.DrawFn) -> tuple[np.ndarray, dict[str, object]]:
    """An array, and how h5py is to store it: in one piece, or in chunks that any pipeline of filters may go over."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    if dtype.kind in "iufc":
        dtype = dtype.newbyteorder(draw(st.sampled_from("<>")))
    shape = tuple(draw(st.lists(st.integers(0, 5), max_size=4)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = int(np.prod(shape, dtype=np.int64))
    if dtype == np.bool_:
        array = rng.integers(0, 2, count).astype(bool).reshape(shape)
    else:
        array = np.frombuffer(rng.bytes(count * dtype.itemsize), dtype).reshape(shape)
    options: dict[str, object] = {}
    growing = len(shape) > 1 and (0 in shape or draw(st.booleans()))
    if shape and (growing or 0 not in shape) and draw(st.booleans()):
        options["chunks"] = tuple(draw(st.integers(1, max(1, n))) for n in shape)
        options["shuffle"] = draw(st.booleans())
        options["fletcher32"] = draw(st.booleans()) and dtype.kind != "c" and dtype.kind != "b"
        options["compression"] = draw(st.sampled_from([None, "gzip", "lzf"]))
        if growing:
            options["maxshape"] = (None,) * len(shape)
    return array, options


@st.composite
def files(draw: st.DrawFn) -> tuple[str, int, dict[str, tuple[np.ndarray, dict[str, object]]]]:
    """A version of the format, the size of a user block, and datasets by path."""
    paths = draw(st.lists(PATHS, max_size=8, unique=True))
    kept = [path for path in paths if not any(other != path and other.startswith(f"{path}/") for other in paths)]
    return (
        draw(st.sampled_from(sorted(LIBVERS))),
        draw(st.sampled_from([0, 512, 2048])),
        {path: draw(stored()) for path in kept},
    )


def expected_bytes(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array).tobytes()


@settings(max_examples=120)
@given(case=files())
def test_reads_what_h5py_writes_bit_for_bit(tmp_path_factory, case):
    libver, block, datasets = case
    path = tmp_path_factory.mktemp("h5") / "x.h5"

    def fill(file):
        for name, (array, options) in datasets.items():
            file.create_dataset(name, data=array, **options)

    write(path, fill, libver, userblock_size=block)
    expected = contents(path)
    with open_reader(path) as reader:
        assert set(reader.tensors) == set(expected) == set(datasets)
        for name, array in expected.items():
            assert reader.tensors[name].shape == array.shape
            assert reader.tensors[name].dtype.numpy == array.dtype.name
            assert reader.read(name).tobytes() == expected_bytes(array), name


@settings(max_examples=60)
@given(case=stored(), cuts=st.lists(st.integers(0, 5000), max_size=6), libver=st.sampled_from(sorted(LIBVERS)))
def test_blocks_cut_anywhere_join_to_the_same_bytes(tmp_path_factory, case, cuts, libver):
    array, options = case
    path = tmp_path_factory.mktemp("h5") / "x.h5"
    write(path, lambda file: file.create_dataset("x", data=array, **options), libver)
    (whole,) = contents(path).values()
    with open_reader(path) as reader:
        edges = sorted({0, whole.nbytes, *(cut for cut in cuts if cut < whole.nbytes)})
        out = bytearray(whole.nbytes)
        for start, stop in itertools.pairwise(edges):
            reader.read_into("x", start, memoryview(out)[start:stop])
    assert out == expected_bytes(whole)


def test_more_bytes_than_there_are_cannot_be_read(tmp_path):
    def fill(file):
        file["big"] = np.arange(5, dtype=">i4")
        file.create_dataset("chunked", data=np.arange(5, dtype="<i4"), chunks=(2,))

    with open_reader(write(tmp_path / "x.h5", fill)) as reader:
        for name in reader.tensors:
            with pytest.raises(ValueError, match="more bytes"):
                reader.read_into(name, 0, memoryview(bytearray(21)))


@pytest.mark.parametrize("libver", LIBVERS)
@pytest.mark.parametrize("block", [0, 1024])
def test_little_endian_data_in_one_piece_is_handed_out_as_it_lies(tmp_path, libver, block):
    data = np.arange(12, dtype="<f4").reshape(3, 4)
    path = write(tmp_path / "x.h5", lambda file: file.create_dataset("a/b", data=data), libver, userblock_size=block)
    with open_reader(path) as reader:
        (extent,) = reader.extents("a/b")
        assert (extent.offset, extent.nbytes) == (path.read_bytes().index(data.tobytes()), data.nbytes)


def test_small_data_inside_the_header_is_handed_out_as_it_lies(tmp_path):
    data = np.arange(5, dtype="<i2")

    def fill(file):
        compact = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        compact.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple(data.shape)
        h5py.h5d.create(file.id, b"x", h5py.h5t.STD_I16LE, space, compact).write(h5py.h5s.ALL, h5py.h5s.ALL, data)

    path = write(tmp_path / "x.h5", fill)
    with open_reader(path) as reader:
        (extent,) = reader.extents("x")
        assert extent.offset == path.read_bytes().index(data.tobytes())
        assert reader.read("x").tolist() == data.tolist()


def test_an_empty_tensor_has_no_bytes_anywhere(tmp_path):
    with open_reader(write(tmp_path / "x.h5", lambda file: file.create_dataset("x", (0, 3), "f4"))) as reader:
        assert reader.extents("x") == ()
        assert reader.read("x").shape == (0, 3)


def test_reads_integers_and_floats_of_every_width_and_order(fixtures_dir):
    path = fixtures_dir / "jjhelmus__pyfive/tests/dataset_datatypes.hdf5"
    expected = contents(path)
    with open_reader(path) as reader:
        assert list(reader.tensors) == list(expected)
        assert len(expected) == 20
        for name, array in expected.items():
            assert reader.tensors[name].dtype.numpy == array.dtype.name
            assert reader.read(name).tobytes() == array.tobytes()


def test_one_dataset_under_two_names_is_tied(tmp_path):
    def fill(file):
        file["a/x"] = np.arange(4.0)
        file["b/y"] = file["a/x"]
        file["c"] = np.arange(4.0)

    with open_reader(write(tmp_path / "x.h5", fill)) as reader:
        assert reader.extents("a/x") == reader.extents("b/y") != reader.extents("c")


def test_a_group_under_two_names_is_listed_once(tmp_path):
    def fill(file):
        file["a/x"] = np.arange(4.0)
        file["b"] = file["a"]

    with open_reader(write(tmp_path / "x.h5", fill)) as reader:
        assert list(reader.tensors) == ["a/x"]


@pytest.mark.parametrize("libver", LIBVERS)
def test_groups_inside_themselves_do_not_go_on_for_ever(tmp_path, libver):
    def fill(file):
        file["a/x"] = np.arange(4.0)
        file["a/b/c/again"] = file["a"]
        file["a/root"] = file["/"]

    with open_reader(write(tmp_path / "x.h5", fill, libver)) as reader:
        assert list(reader.tensors) == ["a/x"]


def test_paths_that_double_at_every_group_do_not_multiply(tmp_path):
    def fill(file):
        group = file
        for _ in range(40):
            group.create_group("left")
            group["right"] = group["left"]
            group = group["left"]
        group["x"] = 1.0

    with open_reader(write(tmp_path / "x.h5", fill)) as reader:
        assert list(reader.tensors) == ["/".join(["left"] * 40 + ["x"])]


@pytest.mark.parametrize("libver", LIBVERS)
@pytest.mark.parametrize(
    ("link", "kind"), [(h5py.SoftLink("/a"), "soft"), (h5py.ExternalLink("/etc/passwd", "/a"), "external")]
)
def test_links_that_may_lead_anywhere_are_refused(tmp_path, libver, link, kind):
    def fill(file):
        file["a"] = 1.0
        file["link"] = link

    path = write(tmp_path / "x.h5", fill, libver)
    with pytest.raises(FormatError, match=rf"holds 'link', which is an? {kind} link|is a soft link"):
        open_reader(path)


def test_data_in_other_files_is_refused(tmp_path):
    (tmp_path / "other.bin").write_bytes(bytes(80))

    def fill(file):
        file.create_dataset("x", (10,), "f8", external=[(str(tmp_path / "other.bin"), 0, 80)])

    with pytest.raises(FormatError, match="other files"):
        open_reader(write(tmp_path / "x.h5", fill))


def test_views_of_other_datasets_are_refused(tmp_path):
    def fill(file):
        layout = h5py.VirtualLayout((4,), "f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (4,))
        file.create_virtual_dataset("x", layout)

    with pytest.raises(FormatError, match="view of other datasets"):
        open_reader(write(tmp_path / "x.h5", fill, "latest"))


def test_data_that_was_never_written_is_refused(tmp_path):
    with pytest.raises(FormatError, match="never written"):
        open_reader(write(tmp_path / "x.h5", lambda file: file.create_dataset("x", (4,), "f8")))


def test_what_no_tensor_can_hold_is_noted_and_the_rest_read(tmp_path):
    def fill(file):
        file["tensor"] = np.arange(3.0)
        file["text"] = ["a", "b"]
        file["fixed"] = np.array([b"ab"])
        file["record"] = np.zeros(2, [("a", "i4"), ("b", "f4")])
        file.create_dataset("link", (1,), h5py.ref_dtype)[0] = file["tensor"].ref
        file.create_dataset("ragged", (1,), h5py.vlen_dtype(int))[0] = np.arange(2)
        file["nothing"] = h5py.Empty("f4")
        file["type"] = np.dtype("f4")

    with open_reader(write(tmp_path / "x.h5", fill)) as reader:
        assert list(reader.tensors) == ["tensor"]
        assert reader.objects == {
            "text": "<not a tensor: variable-length string>",
            "fixed": "<not a tensor: string>",
            "record": "<not a tensor: compound>",
            "link": "<not a tensor: reference>",
            "ragged": "<not a tensor: variable-length sequence>",
            "nothing": "<not a tensor: no data>",
        }


def test_attributes_of_groups_are_told(tmp_path):
    def fill(file):
        file.attrs["model_config"] = "{}"
        file.create_group("a").attrs["names"] = np.array([b"x", b"y"])
        file["a"].attrs["unreadable"] = np.zeros(1, [("a", "i4")])

    with open_reader(write(tmp_path / "x.h5", fill)) as reader:
        assert reader.objects == {"@model_config": "{}", "a@names": ["x", "y"]}


def test_a_small_file_that_claims_terabytes_is_refused(tmp_path):
    def fill(file):
        file.create_dataset("bomb", (1 << 42,), "u1", chunks=(1 << 20,), compression="gzip")

    with pytest.raises(FormatError, match="claims 4398046511104 bytes"):
        open_reader(write(tmp_path / "x.h5", fill))


def test_many_names_for_one_tensor_cannot_claim_terabytes_either(tmp_path):
    def fill(file):
        file["x"] = np.zeros(1 << 17)
        for index in range(2000):
            file[f"again/{index}"] = file["x"]

    with pytest.raises(FormatError, match="claims 2098200576 bytes"):
        open_reader(write(tmp_path / "x.h5", fill))


def test_a_shape_larger_than_its_data_is_refused(tmp_path):
    path = write(tmp_path / "x.h5", lambda file: file.create_dataset("x", data=np.zeros(0x1234, "u1")))
    data = path.read_bytes()
    patch(path, data.index(address(0x1234)), address(0x12340))
    with pytest.raises(FormatError, match="the file ends at"):
        open_reader(path)


def test_two_datasets_in_one_place_are_refused(tmp_path):
    def fill(file):
        file["a"] = np.arange(100)
        file["b"] = np.arange(100, 200)

    path = write(tmp_path / "x.h5", fill)
    with open_reader(path) as reader:
        first, second = (reader.extents(name)[0].offset for name in "ab")
    for place in (first, first + 8):
        with pytest.raises(FormatError, match="two datasets in one place"):
            open_reader(replace(path, address(second), address(place)))
        replace(path, address(place), address(second)) if place != first else path.write_bytes(
            write(tmp_path / "y.h5", fill).read_bytes()
        )


def test_groups_far_deeper_than_any_model_are_refused(tmp_path):
    path = write(tmp_path / "x.h5", lambda file: file.create_dataset("/".join("g" * 70), data=1.0))
    with pytest.raises(FormatError, match="deeper groups"):
        open_reader(path)


def test_paths_that_would_fill_the_memory_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5, "MAX_PATHS", 20_000)

    def fill(file):
        for index in range(10):
            file[f"{'long' * 100}/{index}"] = 1.0

    with pytest.raises(FormatError, match="more or deeper groups"):
        open_reader(write(tmp_path / "x.h5", fill))


def test_an_object_that_is_nothing_is_refused(tmp_path):
    path = write(tmp_path / "x.h5", lambda file: file.create_dataset("x", data=np.arange(3)))
    data = path.read_bytes()
    # The layout message of the dataset, and the datatype's, become messages of kinds that say nothing.
    for kind, size in ((8, 24), (3, 16)):
        at = data.index(kind.to_bytes(2, "little") + size.to_bytes(2, "little"), 800)
        patch(path, at, (13).to_bytes(2, "little"))
        data = path.read_bytes()
    with pytest.raises(FormatError, match="neither a group nor a dataset"):
        open_reader(path)


def test_a_truncated_file_is_refused_and_a_longer_one_is_not(tmp_path):
    path = write(tmp_path / "x.h5", lambda file: file.create_dataset("x", data=np.arange(3)))
    data = path.read_bytes()
    path.write_bytes(data + b"more")
    with open_reader(path) as reader:
        assert reader.read("x").tolist() == [0, 1, 2]
    path.write_bytes(data[:-1])
    with pytest.raises(FormatError, match="should have"):
        open_reader(path)


def test_files_are_recognised_by_their_content(tmp_path):
    path = write(tmp_path / "x.bin", lambda file: None)
    assert sniff(registry.probe(path))
    assert sniff(registry.probe(write(tmp_path / "block.bin", lambda file: None, userblock_size=1024)))
    path.write_bytes(b"\0" + path.read_bytes())
    assert not sniff(registry.probe(path))
    assert not sniff(registry.probe(tmp_path))


def test_reading_takes_no_more_memory_than_a_band_of_chunks(tmp_path):
    def fill(file):
        file.create_dataset("x", (1 << 16, 512), "f4", chunks=(1 << 12, 64), compression="gzip")[::1000] = 1.0

    path = write(tmp_path / "x.h5", fill)
    tracemalloc.start()
    try:
        with open_reader(path) as reader:
            block = memoryview(bytearray(1 << 20))
            total = 0
            for start in range(0, reader.tensors["x"].nbytes, len(block)):
                reader.read_into("x", start, block)
                total += int(np.frombuffer(block, "f4").sum())
        assert total == 66 * 512
        assert tracemalloc.get_traced_memory()[1] < 24 << 20
    finally:
        tracemalloc.stop()


def sample(path: Path, libver: str) -> Path:
    """A file with some of everything in it."""

    def fill(file):
        rng = np.random.default_rng(0)
        file.attrs["layer_names"] = np.array([b"a", b"b"])
        for layer in "ab":
            group = file.create_group(layer)
            group.attrs["weight_names"] = [b"x/kernel:0", b"bias:0"]
            group["x/kernel:0"] = rng.standard_normal((3, 4)).astype("f4")
            group.create_dataset("bias:0", data=np.ones(4, "f2"), chunks=(2,), compression="gzip", shuffle=True)
        file["swapped"] = rng.standard_normal((5, 7)).astype(">f4")
        file.create_dataset("sums", data=rng.integers(0, 9, (50, 7)), chunks=(4, 3), fletcher32=True)
        file.create_dataset("packed", data=rng.integers(0, 9, (50, 7)), chunks=(4, 7), compression="lzf")
        file.create_dataset("loose", data=rng.integers(0, 9, (9, 7)), chunks=(4, 7), maxshape=(None, None))
        file["flags"] = np.array([True, False])
        file["text"] = ["a", "b"]
        for index in range(12):
            file[f"many/{index}"] = np.float32(index)
            file["many"].attrs[f"a{index}"] = index

    return write(path, fill, libver)


@pytest.mark.parametrize("seen", ["with checksums", "without checksums"])
@pytest.mark.parametrize("libver", LIBVERS)
def test_damaged_files_are_read_or_refused_and_nothing_else(tmp_path, libver, seen, monkeypatch):
    path = sample(tmp_path / "x.h5", libver)
    data = path.read_bytes()
    rng = random.Random(f"{libver} {seen}")
    assert check_reader(Hdf5Reader, path)
    for _ in range(150):
        path.write_bytes(damaged(data, rng))
        if seen == "with checksums":
            check_reader(Hdf5Reader, path)
        else:
            with blind_to_checksums(monkeypatch):
                check_reader(Hdf5Reader, path)


@pytest.mark.parametrize("libver", ["v108", "latest"])
def test_a_changed_byte_of_a_checked_structure_is_seen(tmp_path, libver):
    path = sample(tmp_path / "x.h5", libver)
    data = path.read_bytes()
    for signature in (b"OHDR", b"BTHD", b"FRHP", b"FHDB", b"BTLF"):
        at = data.index(signature)
        path.write_bytes(data[: at + 6] + bytes([data[at + 6] ^ 0x40]) + data[at + 7 :])
        assert not check_reader(Hdf5Reader, path), signature


def test_extents_are_of_the_file_that_was_opened(tmp_path):
    path = write(tmp_path / "x.h5", lambda file: file.create_dataset("x", data=np.arange(3)))
    with open_reader(path) as reader:
        assert all(isinstance(extent, Extent) and extent.file.path == path for extent in reader.extents("x"))
