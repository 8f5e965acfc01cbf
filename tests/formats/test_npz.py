"""What NumPy saves is read bit-exactly, what is written NumPy loads bit-exactly, and no header is ever evaluated."""

from __future__ import annotations

import io
import os
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlingua.errors import FormatError, MappingError, OutputError
from interlingua.formats import npz
from interlingua.formats.base import BLOCK, TensorSpec, crc32, write_at
from interlingua.formats.dtypes import BFLOAT16, DTYPES, FLOAT32, UINT8, from_numpy_dtype
from interlingua.formats.registry import probe
from tests.formats.hostile import check_reader, damaged
from tests.formats.strategies import ALL, Case, arrays, cases, equal_bits

SAFE_NAMES = st.from_regex(r"[\w:.+-]{1,10}(/[\w:+-]{1,10}){0,2}", fullmatch=True).filter(
    lambda name: npz.name_flaw(name) is None and npz.plain_name(name) == name
)


def write(path: Path, case: Case) -> Path:
    """Write a case through the code under test."""
    path.unlink(missing_ok=True)
    with npz.open_writer(path, case.specs) as writer:
        for name, array in case.arrays.items():
            assert writer.offsets[name] % npz.ALIGNMENT == 0
            writer.write(name, array.tobytes())
        writer.finish()
    return path


def read(path: Path) -> dict[str, np.ndarray]:
    """Read a file through the code under test, once whole and once in blocks."""
    with npz.open_reader(path) as reader:
        found = {name: reader.read(name) for name in reader.tensors}
        for name, array in found.items():
            joined = b""
            while len(joined) < array.nbytes:
                view = bytearray(min(7, array.nbytes - len(joined)))
                reader.read_into(name, len(joined), memoryview(view))
                joined += view
            assert joined == array.tobytes()
            extents = reader.extents(name)
            if extents is not None:
                (extent,) = extents
                assert extent.file.read_at(extent.offset, extent.nbytes, name) == joined
            expected = reader.expected_checksum(name)
            if expected is not None:
                assert expected == ("crc32", crc32(joined))
        return found


def same(found: dict[str, np.ndarray], case: Case) -> bool:
    return list(found) == list(case.arrays) and all(equal_bits(found[name], a) for name, a in case.arrays.items())


def in_layout(array: np.ndarray, layout: str) -> np.ndarray:
    """The same numbers, laid out as NumPy can save them."""
    if "F" in layout:
        array = np.array(array, order="F")
    if ">" in layout:
        array = array.astype(array.dtype.newbyteorder(">"), order="K")
    return array


# ------------------------------------------------------------------------------------------ NumPy, both ways


@given(cases(ALL, SAFE_NAMES), st.sampled_from([np.savez, np.savez_compressed]), st.sampled_from(["C", "F", ">", "F>"]))
def test_reads_what_numpy_saves(tmp_path: Path, case: Case, save: Callable, layout: str) -> None:
    path = tmp_path / "a.npz"
    laid_out = {name: in_layout(array, layout) for name, array in case.arrays.items()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if save is np.savez_compressed else 0) as archive:
        for name, array in laid_out.items():
            with archive.open(name + ".npy", "w") as member:
                np.lib.format.write_array(member, array)
    assert npz.sniff(probe(path))
    assert same(read(path), case)


@given(arrays(ALL), st.sampled_from([(1, 0), (2, 0), (3, 0)]))
def test_reads_a_lone_array_of_every_version(tmp_path: Path, array: np.ndarray, version: tuple[int, int]) -> None:
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array(file, array, version)
    assert npz.sniff(probe(tmp_path / "a.npy"))
    assert same(read(tmp_path / "a.npy"), Case({"array": array}))


@given(cases(ALL, SAFE_NAMES))
def test_numpy_loads_what_is_written(tmp_path: Path, case: Case) -> None:
    path = write(tmp_path / "a.npz", case)
    assert zipfile.ZipFile(path).testzip() is None
    with np.load(path) as loaded:
        assert loaded.files == list(case.arrays)
        for name, array in case.arrays.items():
            found = loaded[name]
            # NumPy forgets what bfloat16 was, of its own files, too.
            assert equal_bits(found.view(array.dtype) if array.dtype == ml_dtypes.bfloat16 else found, array)
    assert same(read(path), case)


@given(cases(ALL, SAFE_NAMES, min_size=1))
def test_members_are_those_that_numpy_writes(tmp_path: Path, case: Case) -> None:
    written = zipfile.ZipFile(write(tmp_path / "a.npz", case))
    for name, array in case.arrays.items():
        expected = io.BytesIO()
        np.save(expected, array)
        assert written.read(name + ".npy") == expected.getvalue()


@given(cases(ALL, SAFE_NAMES))
def test_same_tensors_give_the_same_bytes(tmp_path: Path, case: Case) -> None:
    assert write(tmp_path / "a.npz", case).read_bytes() == write(tmp_path / "b.npz", case).read_bytes()


def test_extents_are_given_for_stored_arrays_only_where_they_lie_in_order(tmp_path: Path) -> None:
    array = np.arange(12.0).reshape(3, 4)
    np.savez(tmp_path / "s.npz", c=array, f=np.asfortranarray(array), big=array.astype(">f8"), row=array[:1].copy("F"))
    np.savez_compressed(tmp_path / "d.npz", c=array)
    with npz.open_reader(tmp_path / "s.npz") as reader:
        assert {n for n in reader.tensors if reader.extents(n) is not None} == {"c", "row"}
        assert {n for n in reader.tensors if reader.expected_checksum(n) is not None} == {"c", "row"}
    with npz.open_reader(tmp_path / "d.npz") as reader:
        assert reader.extents("c") is None
        assert reader.expected_checksum("c") is None


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_large_column_major_array_is_put_in_order(tmp_path: Path, save: Callable) -> None:
    array = np.asfortranarray(np.random.default_rng(3).standard_normal((1500, 3, 700)).astype(">f4"))
    save(tmp_path / "a.npz", a=array)
    with npz.open_reader(tmp_path / "a.npz") as reader:
        assert np.array_equal(reader.read("a"), array)


def test_blocks_of_several_computed_arrays_may_be_asked_for_in_turn(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    made = {f"t{i}": np.asfortranarray(rng.standard_normal((40, 50))) for i in range(7)}
    np.savez_compressed(tmp_path / "a.npz", **made)
    with npz.open_reader(tmp_path / "a.npz") as reader:
        for start in (8000, 0, 8000):
            for name, array in made.items():
                view = bytearray(4000)
                reader.read_into(name, start, memoryview(view))
                assert view == array.tobytes("C")[start : start + 4000]


def test_temporary_file_that_cannot_be_made_is_an_output_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "a.npz", a=np.asfortranarray(np.ones((20, 30))))
    monkeypatch.setattr("tempfile.tempdir", os.fspath(tmp_path / "missing"))
    with npz.open_reader(tmp_path / "a.npz") as reader, pytest.raises(OutputError, match="cannot be written"):
        reader.read("a")


def test_column_major_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "a.npz", a=np.asfortranarray(np.zeros((2000, 300))))
    monkeypatch.setattr(npz, "RATIO_FLOOR", 1 << 20)
    with npz.open_reader(tmp_path / "a.npz") as reader, pytest.raises(FormatError, match="too many to be believed"):
        reader.read("a")


def test_arrays_of_strings_are_objects(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "a.npz",
        one=np.array("héllo"),
        row=np.array(["a", "", "ccc"]),
        big=np.array(["ä", "bc"], ">U2"),
        table=np.asfortranarray([["a", "b", "c"], ["d", "e", "f"]]),
        raw=np.array([b"x", b"yz"]),
        none=np.array([], "U3"),
        number=np.float32(3),
    )
    with npz.open_reader(tmp_path / "a.npz") as reader:
        assert reader.objects == {
            "one": "héllo",
            "row": ["a", "", "ccc"],
            "big": ["ä", "bc"],
            "table": [["a", "b", "c"], ["d", "e", "f"]],
            "raw": ["x", "yz"],
            "none": [],
        }
        assert list(reader.tensors) == ["number"]


def test_bfloat16_whose_type_was_lost_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", w=np.ones(3, ml_dtypes.bfloat16))
    np.savez(tmp_path / "b.npz", **np.load(tmp_path / "a.npz"))
    with npz.open_reader(tmp_path / "a.npz") as reader:
        assert reader.tensors["w"].dtype is BFLOAT16
    with pytest.raises(FormatError, match="type is lost"):
        npz.open_reader(tmp_path / "b.npz")


def test_headers_of_python_2_and_of_other_libraries_are_read(tmp_path: Path) -> None:
    for order, data in (
        ("'descr': '<i4', 'fortran_order': False, 'shape': (2L, 1L)", 8),
        ('"shape": (2, 1), "descr": "<i4", "fortran_order": False,', 8),
        ("'descr': '<i1','fortran_order':True,'shape':(8,)", 8),
    ):
        (tmp_path / "a.npy").write_bytes(npy("{" + order + "}", bytes(range(data))))
        with npz.open_reader(tmp_path / "a.npy") as reader:
            assert reader.read("array").tobytes() == bytes(range(data))


# ------------------------------------------------------------------------------------------------- recognising


def test_other_zips_are_not_claimed(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.npy", "x")
        archive.writestr("b.txt", "x")
    (tmp_path / "text").write_bytes(b"PK is no zip")
    assert not npz.sniff(probe(tmp_path / "a.zip"))
    assert not npz.sniff(probe(tmp_path / "text"))
    assert not npz.sniff(probe(tmp_path))
    with pytest.raises(FormatError, match=r"does not begin as an array|is no array"):
        npz.open_reader(tmp_path / "a.zip")


def test_empty_file_of_numpy_is_claimed(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz")
    assert npz.sniff(probe(tmp_path / "a.npz"))
    assert read(tmp_path / "a.npz") == {}


def test_damaged_file_is_claimed_by_its_first_member_and_then_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.ones(3))
    (tmp_path / "b.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:-30])
    assert npz.sniff(probe(tmp_path / "b.npz"))
    with pytest.raises(FormatError, match="directory is missing"):
        npz.open_reader(tmp_path / "b.npz")


# --------------------------------------------------------------------------------------------------- writing


def spec(name: str, dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name, DTYPES[dtype], (2,))


@pytest.mark.parametrize(
    "name", ["a\0b", "/etc/x", "../x", "a/../b", "a\\b", "C:x", "a//b", "./a", "a\nb", "x" * 300, "\ud800"]
)
def test_unsafe_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(MappingError) as caught:
        npz.open_writer(tmp_path / "a.npz", [spec(name)])
    assert caught.value.names == (name,)
    assert not (tmp_path / "a.npz").exists()


def test_empty_name_is_a_name_like_any_other(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npz", Case({"": np.arange(3)}))
    assert np.load(path)[""].tolist() == [0, 1, 2]
    assert list(read(path)) == [""]


def test_name_that_numpy_takes_for_another_is_refused(tmp_path: Path) -> None:
    # The trap itself: asked for "a.npy", NumPy hands out "a".
    np.savez(tmp_path / "trap.npz", **{"a": np.zeros(2), "a.npy": np.ones(2)})
    assert np.load(tmp_path / "trap.npz")["a.npy"].tolist() == [0, 0]
    with pytest.raises(MappingError, match=r"where 'a\.npy' is asked for"):
        npz.open_writer(tmp_path / "a.npz", [spec("a"), spec("a.npy")])


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2", "int4", "string"])
def test_types_that_numpy_lacks_are_refused(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(MappingError, match="no element type"):
        npz.open_writer(tmp_path / "a.npz", [spec("a", dtype)])


def test_unsealed_tensor_is_a_mistake(tmp_path: Path) -> None:
    with npz.open_writer(tmp_path / "a.npz", [spec("a")]) as writer, pytest.raises(ValueError, match="not sealed"):
        writer.finish()


@pytest.mark.usefixtures("holes")
def test_more_than_four_gigabytes_and_65535_members(tmp_path: Path) -> None:
    from isal.isal_zlib import crc32_combine

    big = (4 << 30) + 100
    zeros = crc32(bytes(BLOCK))
    specs = [TensorSpec("big", UINT8, (big,)), *(TensorSpec(f"t{i}", UINT8, ()) for i in range(66_000))]
    with npz.open_writer(tmp_path / "a.npz", specs) as writer:
        crc = 0
        for _ in range(big // BLOCK):
            crc = crc32_combine(crc, zeros, BLOCK)
        tail = bytes(big % BLOCK - 3) + b"end"
        with writer.slot("big") as slot:
            write_at(slot.fd, slot.offset + big - 3, b"end")
        writer.seal("big", crc32(tail, crc))
        for i in range(66_000):
            writer.write(f"t{i}", bytes([i % 256]))
        writer.finish()
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert len(archive.infolist()) == 66_001
        assert archive.getinfo("big.npy").file_size == big + 128
        assert archive.read("t65999.npy")[-1] == 65999 % 256
    with npz.open_reader(tmp_path / "a.npz") as reader:
        assert reader.tensors["big"].shape == (big,)
        assert reader.read("t65999") == 65999 % 256
        view = bytearray(8)
        (extent,) = reader.extents("big") or ()
        extent.file.read_into(extent.offset + big - 8, memoryview(view))
        assert view == b"\0\0\0\0\0end"


# --------------------------------------------------------------------------------------------------- hostile


def npy(header: str | bytes, data: bytes = b"", version: bytes = b"\1\0", length: int | None = None) -> bytes:
    raw = header.encode("latin-1") if isinstance(header, str) else header
    pack = "<H" if version == b"\1\0" else "<I"
    return npz.MAGIC + version + struct.pack(pack, len(raw) if length is None else length) + raw + data


def described(descr: str = "'<f4'", fortran: str = "False", shape: str = "(2,)", more: str = "") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, {more}}}"


EIGHT = bytes(8)
HEADERS = {
    "code as a shape": npy(described(shape="__import__('os').system('true')"), EIGHT),
    "code as a type": npy(described(descr="__import__('os')"), EIGHT),
    "code behind the dict": npy(described() + "; import os", EIGHT),
    "code instead of a dict": npy("__import__('os').system('true')", EIGHT),
    "a deep nest": npy(described(shape="(" * 3000 + ")" * 3000), EIGHT),
    "a deep nest of minus signs": npy(described(shape="(" + "-" * 9000 + "1,)"), EIGHT),
    "pickled objects": npy(described(descr="'|O'"), b"cos\nsystem\n(S'true'\ntR."),
    "a record": npy(described(descr="[('a', '<f4'), ('b', '|O')]"), EIGHT),
    "a header of 4 GB": npy(described(), EIGHT, b"\2\0", 0xFFFFFFFF),
    "a header longer than the file": npy(described(), b"", length=60_000),
    "a header of 10001 bytes": npy(described() + " " * 10_001, EIGHT),
    "an empty header": npy("", EIGHT),
    "no UTF-8": npy(b"\xff" + described().encode(), EIGHT, b"\3\0"),
    "version 4": npy(described(), EIGHT, b"\4\0"),
    "a cut magic": npz.MAGIC,
    "no shape": npy("{'descr': '<f4', 'fortran_order': False}", EIGHT),
    "a key twice": npy(described(more="'shape': (3,)"), EIGHT),
    "an unknown key": npy(described(more="'extra': True"), EIGHT),
    "a shape that is a number": npy(described(shape="(2)"), EIGHT),
    "a negative shape": npy(described(shape="(-2,)"), EIGHT),
    "a float shape": npy(described(shape="(2.0,)"), EIGHT),
    "a hole in a shape": npy(described(shape="(2,,1)"), EIGHT),
    "a huge shape": npy(described(shape="(4611686018427387904, 4611686018427387904)"), EIGHT),
    "a huge empty shape": npy(described(shape="(0, 4611686018427387904, 4)")),
    "a shape of 4000 digits": npy(described(shape="(" + "9" * 4000 + ",)"), EIGHT),
    "33 axes": npy(described(shape="(" + "1," * 33 + ")"), bytes(4)),
    "a swapped shape and flag": npy(described(shape="False", fortran="(2,)"), EIGHT),
    "more elements than bytes": npy(described(shape="(3,)"), EIGHT),
    "bytes behind the array": npy(described(), EIGHT + b"x"),
    "a type without an order": npy(described(descr="'f4'"), EIGHT),
    "a type of no known width": npy(described(descr="'<f3'"), EIGHT),
    "a long double": npy(described(descr="'<f16'"), bytes(32)),
    "a date": npy(described(descr="'<M8[ns]'"), bytes(16)),
    "strings of another length": npy(described(descr="'<U3'"), EIGHT),
    "strings without end": npy(described(descr="'<U0'", shape="(9999999999,)")),
    "strings that are no text": npy(described(descr="'<U1'"), b"\xff" * 8),
    "a string of a width beyond memory": npy(described(descr="'|S999999999'"), EIGHT),
}


@pytest.mark.parametrize("attack", HEADERS)
def test_hostile_header_is_refused(tmp_path: Path, attack: str) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(HEADERS[attack])
    assert not check_reader(npz.open_reader, path, limit_mb=4)
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as archive:
            archive.writestr("x.npy", HEADERS[attack])
        assert not check_reader(npz.open_reader, tmp_path / "a.npz", limit_mb=4)


def test_strings_that_fill_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz, "MAX_STRINGS", 1000)
    monkeypatch.setattr(npz, "MAX_TEXT", 10_000)
    many = npy(described(descr="'|S1'", shape="(1000,)"), b"a" * 1000)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(10):
            archive.writestr(f"{i}.npy", many)
    with npz.open_reader(tmp_path / "a.npz") as reader:
        assert len(reader.objects) == 10
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("one more.npy", many)
    with pytest.raises(FormatError, match="strings"):
        npz.open_reader(tmp_path / "a.npz")
    (tmp_path / "a.npy").write_bytes(npy(described(descr="'|S1'", shape="(1001,)"), b"a" * 1001))
    with pytest.raises(FormatError, match="strings"):
        npz.open_reader(tmp_path / "a.npy")


def falsify(path: Path) -> None:
    """Change the CRC of the only member, in both places."""
    data = bytearray(path.read_bytes())
    row = data.index(b"PK\1\2")
    data[14:18] = data[row + 16 : row + 20] = b"\1\2\3\4"
    path.write_bytes(data)


@pytest.mark.parametrize("layout", ["C", "F", ">"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_wrong_crc_is_noticed(tmp_path: Path, save: Callable, layout: str) -> None:
    path = tmp_path / "a.npz"
    array = np.random.default_rng(2).standard_normal((200, 30))
    save(path, a=in_layout(array, layout))
    falsify(path)
    with npz.open_reader(path) as reader:
        expected = reader.expected_checksum("a")
        assert (expected is not None) == (save is np.savez and layout == "C")
        if expected is not None:
            assert expected[1] != crc32(array.tobytes())
        with pytest.raises(FormatError, match="CRC-32"):
            reader.read("a")


def test_wrong_crc_of_a_small_array_is_noticed_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, a=np.arange(6.0))
    falsify(path)
    with pytest.raises(FormatError, match="CRC-32"):
        npz.open_reader(path)


def test_damaged_files_end_in_a_format_error_or_in_success(tmp_path: Path) -> None:
    rng = random.Random(11)
    good = []
    for save in (np.savez, np.savez_compressed):
        out = io.BytesIO()
        save(out, a=np.arange(60.0).reshape(6, 10), f=np.asfortranarray(np.ones((5, 6))), s=np.array(["x", "y"]))
        good.append(out.getvalue())
    out = io.BytesIO()
    np.save(out, np.arange(10).astype(">i4"))
    good.append(out.getvalue())
    path = tmp_path / "a.npz"
    outcomes = set()
    for _ in range(600):
        path.write_bytes(damaged(rng.choice(good), rng))
        outcomes.add(check_reader(npz.open_reader, path))
    assert outcomes == {True, False}


def test_specs_know_what_numpy_knows(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.zeros((2, 3), "f4"))
    with npz.open_reader(tmp_path / "a.npz") as reader:
        assert reader.tensors == {"a": TensorSpec("a", FLOAT32, (2, 3))}
        assert reader.tensors["a"].dtype is from_numpy_dtype(np.dtype("f4"))
