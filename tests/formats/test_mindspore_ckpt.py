"""Checkpoints that MindSpore saves are read bit-exactly, and those that are written are MindSpore's own bytes."""

from __future__ import annotations

import itertools
import json
import os
import random
import stat
import struct
import tracemalloc
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlingua.errors import FormatError, MappingError
from interlingua.formats import mindspore_ckpt
from interlingua.formats.base import TensorSpec, write_at
from interlingua.formats.dtypes import BFLOAT16, DTYPES, FLOAT32, INT8, UINT8
from interlingua.formats.protobuf_wire import encode_bytes, encode_number, encode_tag, encode_varint
from interlingua.formats.registry import HEAD, probe
from tests.formats.hostile import check_reader, damaged
from tests.formats.strategies import COMMON, WILD_NAMES, Case, arrays, cases, equal_bits, shapes
from tests.frameworks import run_in

DTYPES_HERE = (*COMMON, "uint16", "uint32", "uint64")
FILLED = st.lists(st.integers(1, 5), max_size=5).map(tuple)


def write(path: Path, case: Case, metadata: dict[str, str] | None = None) -> Path:
    """Write a case through the code under test."""
    path.unlink(missing_ok=True)
    with mindspore_ckpt.open_writer(path, case.specs, metadata=metadata) as writer:
        for name, array in case.arrays.items():
            writer.write(name, array.tobytes())
        writer.finish()
    return path


def read(path: Path) -> dict[str, np.ndarray]:
    """Read a checkpoint through the code under test."""
    assert mindspore_ckpt.sniff(probe(path))
    with mindspore_ckpt.open_reader(path) as reader:
        return {name: reader.read(name) for name in reader.tensors}


def same(found: dict[str, np.ndarray], case: Case) -> bool:
    return list(found) == list(case.arrays) and all(equal_bits(found[name], a) for name, a in case.arrays.items())


def record(
    name: str | bytes, dims: Sequence[int], code: str, content: bytes, more: bytes = b"", more_tensor: bytes = b""
) -> bytes:
    """One record, as protobuf writes it."""
    tensor = b"".join(encode_number(1, n) for n in dims) + encode_bytes(2, code) + encode_bytes(3, content)
    return encode_bytes(1, encode_bytes(1, name) + encode_bytes(2, tensor + more_tensor) + more)


# ---------------------------------------------------------------------------------------- MindSpore, both ways

MANIFEST = """
import json, os, sys, time
import ml_dtypes, numpy as np, mindspore as ms
from mindspore import Tensor
folder = sys.argv[1]
os.chdir(folder)
manifest = json.load(open("manifest.json"))

def arrays(case):
    data = open(case["data"], "rb").read()
    at = 0
    for name, dtype, shape in case["tensors"]:
        dtype = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        yield name, np.frombuffer(data, dtype, count, at).reshape(shape).copy()
        at += count * dtype.itemsize
"""

SAVE = (
    MANIFEST
    + """
for number, case in enumerate(manifest):
    ms.save_checkpoint([{"name": n, "data": Tensor(a)} for n, a in arrays(case)], f"ms{number}.ckpt", **case["options"])
"""
)

LOAD = (
    MANIFEST
    + """
for number, case in enumerate(manifest):
    found = ms.load_checkpoint(f"ours{number}.ckpt")
    assert list(found) == [n for n, _ in arrays(case)], (number, list(found))
    for name, array in arrays(case):
        got = found[name].asnumpy()
        assert got.dtype.name == array.dtype.name and got.shape == array.shape, (number, name, got.dtype, got.shape)
        assert got.tobytes() == array.tobytes(), (number, name)
print(len(manifest), "loaded")
"""
)


def put_manifest(folder: Path, made: Sequence[Case], **options: object) -> None:
    """Leave cases where the code that runs in MindSpore finds them."""
    entries = []
    for number, case in enumerate(made):
        (folder / f"case{number}").write_bytes(b"".join(array.tobytes() for array in case.arrays.values()))
        tensors = [(name, array.dtype.name, array.shape) for name, array in case.arrays.items()]
        entries.append({"data": f"case{number}", "tensors": tensors, "options": options})
    (folder / "manifest.json").write_text(json.dumps(entries))


def many(strategy: st.SearchStrategy[Case], count: int) -> list[Case]:
    """Draw many cases at once: starting MindSpore takes seconds."""
    made: list[Case] = []

    @settings(max_examples=count)
    @given(strategy)
    def draw(case: Case) -> None:
        made.append(case)

    draw()
    return made


@st.composite
def filled_cases(draw: st.DrawFn) -> Case:
    """Checkpoints whose tensors all have elements: MindSpore loses the others when it saves."""
    names = draw(st.lists(WILD_NAMES, min_size=1, max_size=6, unique=True))
    return Case({name: draw(arrays(DTYPES_HERE, FILLED)) for name in names})


@pytest.mark.parametrize("crc", [False, True])
def test_reads_what_mindspore_saves_and_writes_the_same_bytes(tmp_path: Path, crc: bool) -> None:
    made = many(filled_cases(), 60)
    put_manifest(tmp_path, made, crc_check=crc)
    run_in("mindspore", SAVE, tmp_path)
    for number, case in enumerate(made):
        saved = tmp_path / f"ms{number}.ckpt"
        assert same(read(saved), case)
        written = write(tmp_path / "ours.ckpt", case).read_bytes()
        assert saved.read_bytes() == written + suffix(written) * crc


def test_mindspore_loads_what_is_written(tmp_path: Path) -> None:
    made = many(cases(DTYPES_HERE, WILD_NAMES, min_size=1), 100)
    made = [case for case in made if all(array.shape != (0,) for array in case.arrays.values())]
    assert len(made) > 30
    put_manifest(tmp_path, made)
    for number, case in enumerate(made):
        assert same(read(write(tmp_path / f"ours{number}.ckpt", case)), case)
    assert run_in("mindspore", LOAD, tmp_path) == f"{len(made)} loaded\n"


def test_append_dict_is_read_as_scalars_and_texts(tmp_path: Path) -> None:
    code = """
import os, sys, mindspore as ms, numpy as np
os.chdir(sys.argv[1])
more = {"epoch": 3, "lr": 0.5, "flag": True, "note": "héllo", "nothing": "", "table": ms.Tensor(np.ones(2, np.int8))}
ms.save_checkpoint([{"name": "w", "data": ms.Tensor(np.ones(2, np.float32))}], "a.ckpt", append_dict=more)
"""
    run_in("mindspore", code, tmp_path)
    with mindspore_ckpt.open_reader(tmp_path / "a.ckpt") as reader:
        assert reader.objects == {"note": "héllo", "nothing": ""}
        scalars = {name: (spec.dtype.name, spec.shape) for name, spec in reader.tensors.items()}
        assert scalars == {
            "w": ("float32", (2,)),
            "epoch": ("int64", ()),
            "lr": ("float32", ()),
            "flag": ("bool", ()),
            "table": ("int8", (2,)),
        }
        assert (reader.read("epoch"), reader.read("lr"), reader.read("flag")) == (3, 0.5, True)


def test_what_mindspore_does_with_tensors_without_elements(tmp_path: Path) -> None:
    code = """
import os, sys, mindspore as ms, numpy as np
os.chdir(sys.argv[1])
from mindspore import Tensor
wide = [{"name": "wide", "data": Tensor(np.zeros((2, 0), np.float32))}]
ms.save_checkpoint(wide, "lost.ckpt")
ms.save_checkpoint(wide + [{"name": "s", "data": Tensor(np.float32(3))}], "kept.ckpt", async_save=True)
while ms.async_ckpt_thread_status():
    pass
try:
    ms.load_checkpoint("lost.ckpt")
except ValueError:
    print("refused")
print(ms.load_checkpoint("ours.ckpt")["wide"].shape)
"""
    case = Case({"wide": np.zeros((2, 0), np.float32), "s": np.float32(3) * np.ones(())})
    case = Case({name: array.astype(np.float32) for name, array in case.arrays.items()})
    ours = write(tmp_path / "ours.ckpt", case)
    assert run_in("mindspore", code, tmp_path) == "refused\n(2, 0)\n"
    assert (tmp_path / "lost.ckpt").stat().st_size == 0
    assert (tmp_path / "kept.ckpt").read_bytes() == ours.read_bytes()
    with pytest.raises(FormatError, match=r"is empty.*no tensor has any element"):
        mindspore_ckpt.open_reader(tmp_path / "lost.ckpt")


def test_other_types_that_mindspore_saves_are_read(tmp_path: Path) -> None:
    code = """
import os, sys, mindspore as ms, numpy as np
os.chdir(sys.argv[1])
from mindspore import Tensor
def save(name, tensor):
    ms.save_checkpoint([{"name": "t", "data": tensor}], name + ".ckpt")
save("c64", Tensor(np.array([1 + 2j], np.complex64)))
save("c128", Tensor(np.array([1 + 2j], np.complex128)))
save("i4", Tensor(np.arange(-4, 4).astype(np.int8), dtype=ms.qint4x2))
save("e4m3", Tensor(np.zeros(2, np.float32), dtype=ms.float8_e4m3fn))
save("e5m2", Tensor(np.zeros(2, np.float32), dtype=ms.float8_e5m2))
save("hif8", Tensor(np.zeros(2, np.float32), dtype=ms.hifloat8))
"""
    run_in("mindspore", code, tmp_path)
    found = {}
    for file in ("c64", "c128", "e4m3", "e5m2"):
        with mindspore_ckpt.open_reader(tmp_path / f"{file}.ckpt") as reader:
            found[file] = reader.tensors["t"].dtype.name
    assert found == {"c64": "complex64", "c128": "complex128", "e4m3": "float8_e4m3fn", "e5m2": "float8_e5m2"}
    with mindspore_ckpt.open_reader(tmp_path / "i4.ckpt") as reader:
        packed = Case({"t": reader.read("t")})
        assert packed.arrays["t"].tolist() == [-4, -3, -2, -1, 0, 1, 2, 3]
        again = write(tmp_path / "again.ckpt", packed, reader.metadata)
    assert again.read_bytes() == (tmp_path / "i4.ckpt").read_bytes()
    assert mindspore_ckpt.sniff(probe(tmp_path / "hif8.ckpt"))
    with pytest.raises(FormatError, match="'t' has the unknown type 'HiFloat8'"):
        mindspore_ckpt.open_reader(tmp_path / "hif8.ckpt")


def test_encrypted_checkpoints_are_recognised_and_refused(tmp_path: Path) -> None:
    code = """
import os, sys, mindspore as ms, numpy as np
os.chdir(sys.argv[1])
net = [{"name": "w", "data": ms.Tensor(np.ones(2, np.float32))}]
for mode in ("AES-GCM", "AES-CBC", "SM4-CBC"):
    ms.save_checkpoint(net, mode + ".ckpt", enc_key=b"0123456789ABCDEF", enc_mode=mode)
"""
    run_in("mindspore", code, tmp_path)
    for mode in ("AES-GCM", "AES-CBC", "SM4-CBC"):
        assert mindspore_ckpt.sniff(probe(tmp_path / f"{mode}.ckpt"))
        with pytest.raises(FormatError, match=f"encrypted with {mode}"):
            mindspore_ckpt.open_reader(tmp_path / f"{mode}.ckpt")


def test_parameter_over_512_mib_is_split_as_mindspore_splits_it(tmp_path: Path) -> None:
    code = """
import os, sys, mindspore as ms, numpy as np
os.chdir(sys.argv[1])
big = np.zeros((70001, 2500), np.float32)
big[:, 0] = np.arange(70001)
parameters = [("a", np.ones(3, np.float32)), ("big", big), ("z", np.ones(2, np.int8))]
ms.save_checkpoint([{"name": n, "data": ms.Tensor(a)} for n, a in parameters], "ms.ckpt")
"""
    run_in("mindspore", code, tmp_path)
    big = np.zeros((70001, 2500), np.float32)
    big[:, 0] = np.arange(70001)
    case = Case({"a": np.ones(3, np.float32), "big": big, "z": np.ones(2, np.int8)})
    with mindspore_ckpt.open_reader(tmp_path / "ms.ckpt") as reader:
        extents = reader.extents("big")
        assert [extent.nbytes for extent in extents] == [512 << 20, big.nbytes - (512 << 20)]
        assert np.array_equal(reader.read("big"), big)
    ours = write(tmp_path / "ours.ckpt", case)
    assert same_bytes(ours, tmp_path / "ms.ckpt")


def same_bytes(one: Path, other: Path) -> bool:
    with one.open("rb") as a, other.open("rb") as b:
        return all(x == y for x, y in zip(chunks(a), chunks(b), strict=True))


def chunks(file: object) -> Iterator[bytes]:
    while chunk := file.read(1 << 20):
        yield chunk


# -------------------------------------------------------------------------------------------- files of others

FIXTURES = {
    "2024-MindSpore-1__Code3": ("pde_net_step20_epoch200.ckpt", 18),
    "mindspore-ai__golden-stick": ("test_sq_predict_simplenet_2stage_fp.ckpt", 2),
    "mindspore-ai__serving": ("lenet_ascend_v111*.ckpt", 21),
}


def fixture(fixtures_dir: Path, folder: str) -> tuple[Path, int]:
    pattern, count = FIXTURES[folder]
    (path,) = (fixtures_dir / folder).rglob(pattern)
    return path, count


@pytest.mark.parametrize("folder", FIXTURES)
def test_real_file_is_read_and_written_again(fixtures_dir: Path, tmp_path: Path, folder: str) -> None:
    path, count = fixture(fixtures_dir, folder)
    found = read(path)
    assert len(found) == count
    assert all(np.isfinite(array).all() and array.any() for name, array in found.items() if "weight" in name)
    assert same(read(write(tmp_path / "again.ckpt", Case(found))), Case(found))


def test_scalars_of_mindspore_1_are_stored_with_dims_0(fixtures_dir: Path) -> None:
    path, _ = fixture(fixtures_dir, "mindspore-ai__serving")
    found = read(path)
    scalars = {name: array for name, array in found.items() if array.shape == ()}
    assert {array.dtype.name for array in scalars.values()} == {"int32", "float32"}
    assert encode_number(1, 0) in path.read_bytes()


@pytest.mark.parametrize("folder", FIXTURES)
def test_real_file_is_read_as_mindspore_reads_it(fixtures_dir: Path, tmp_path: Path, folder: str) -> None:
    path, _ = fixture(fixtures_dir, folder)
    code = """
import os, sys, mindspore as ms, numpy as np
os.chdir(sys.argv[1])
np.savez("a.npz", **{n: p.asnumpy() for n, p in ms.load_checkpoint(sys.argv[2]).items()})
"""
    run_in("mindspore", code, tmp_path, path)
    with np.load(tmp_path / "a.npz") as loaded:
        assert same(read(path), Case(dict(loaded)))


def test_nothing_else_is_claimed(fixtures_dir: Path) -> None:
    others = [path for path in fixtures_dir.rglob("*") if path.is_file() and path.suffix != ".ckpt"]
    assert len(others) > 50
    assert [path for path in others if mindspore_ckpt.sniff(probe(path))] == []


def test_safetensors_of_mindspore_are_read(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("interlingua.formats.safetensors")
    code = """
import os, sys, mindspore as ms, numpy as np
os.chdir(sys.argv[1])
half = ms.Tensor(np.arange(6).reshape(2, 3), dtype=ms.bfloat16)
parameters = {"w": ms.Tensor(np.arange(4, dtype=np.float32)), "half": half}
parameters = [{"name": n, "data": t} for n, t in parameters.items()]
ms.save_checkpoint(parameters, "a.safetensors", format="safetensors")
"""
    run_in("mindspore", code, tmp_path)
    with safetensors.open_reader(tmp_path / "a.safetensors") as reader:
        assert reader.metadata["format"] == "ms"
        assert reader.read("w").tolist() == [0, 1, 2, 3]
        assert reader.tensors["half"] == TensorSpec("half", BFLOAT16, (2, 3))
        assert reader.read("half").astype(float).tolist() == [[0, 1, 2], [3, 4, 5]]


# ------------------------------------------------------------------------------------------- without MindSpore


@given(cases((*DTYPES_HERE,), WILD_NAMES, min_size=1))
def test_what_is_written_is_read(tmp_path: Path, case: Case) -> None:
    case = Case({n: a for n, a in case.arrays.items() if a.shape != (0,)} or {"x": np.ones(1)})
    assert same(read(write(tmp_path / "a.ckpt", case)), case)
    assert write(tmp_path / "b.ckpt", case).read_bytes() == (tmp_path / "a.ckpt").read_bytes()


@given(arrays(DTYPES_HERE, shapes()), st.lists(st.integers(0, 400), max_size=4))
def test_parameter_may_be_cut_anywhere(tmp_path: Path, array: np.ndarray, cuts: list[int]) -> None:
    data = array.tobytes()
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    code = {name: code for code, name in mindspore_ckpt.TYPES.items()}[array.dtype.name]
    records = [record("w", array.shape, code, data[a:b]) for a, b in itertools.pairwise(places)]
    path = tmp_path / "a.ckpt"
    path.write_bytes(b"".join(records) + record("other", [], "Int8", b"\5"))
    assert same(read(path), Case({"w": array, "other": np.array(5, np.int8)}))


@settings(max_examples=20)
@given(arrays(DTYPES_HERE, FILLED), st.integers(1, 60))
def test_split_parameter_is_moved_to_its_records(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, size: int
) -> None:
    folder = tmp_path_factory.mktemp("split")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mindspore_ckpt, "SLICE", size)
        path = write(folder / "a.ckpt", Case({"before": array, "w": array, "z": array}))
    with mindspore_ckpt.open_reader(path) as reader:
        for name in ("before", "w", "z"):
            sizes = [extent.nbytes for extent in reader.extents(name)]
            assert len(sizes) == -(-array.nbytes // size)
            assert all(n == size for n in sizes[:-1])
            assert equal_bits(reader.read(name), array)


@pytest.mark.parametrize("dims", [[], [0]])
def test_scalar_has_no_dims_or_the_dim_0(tmp_path: Path, dims: list[int]) -> None:
    (tmp_path / "a.ckpt").write_bytes(record("s", dims, "Int32", struct.pack("<i", -7)))
    assert same(read(tmp_path / "a.ckpt"), Case({"s": np.array(-7, np.int32)}))


def test_packed_dims_and_other_orders_are_read(tmp_path: Path) -> None:
    data = np.arange(6, dtype=np.float32).tobytes()
    packed = encode_bytes(1, encode_varint(2) + encode_varint(3)) + encode_bytes(2, "Float32") + encode_bytes(3, data)
    turned = encode_bytes(3, data) + encode_bytes(2, "Float32") + encode_number(1, 2) + encode_number(1, 3)
    path = tmp_path / "a.ckpt"
    path.write_bytes(
        encode_bytes(1, encode_bytes(1, "a") + encode_bytes(2, packed))
        + encode_bytes(1, encode_bytes(2, turned) + encode_bytes(1, "b"))
    )
    assert mindspore_ckpt.sniff(probe(path))
    expected = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert same(read(path), Case({"a": expected, "b": expected}))


def test_empty_tensor_of_one_axis_is_read_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_bytes(record("e", [0], "Float32", b""))
    assert read(tmp_path / "a.ckpt")["e"].shape == (0,)


def test_text_in_several_records_is_joined(tmp_path: Path) -> None:
    text = "äbc\U0001f600"
    data = text.encode("utf-32-le")
    (tmp_path / "a.ckpt").write_bytes(record("t", [0], "str", data[:8]) + record("t", [0], "str", data[8:] + bytes(8)))
    with mindspore_ckpt.open_reader(tmp_path / "a.ckpt") as reader:
        assert (reader.objects, reader.tensors) == ({"t": text}, {})


def test_mode_of_the_file_follows_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        path = write(tmp_path / "a.ckpt", Case({"w": np.ones(2)}))
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("dtype", ["complex64", "complex128", "float8_e4m3fn", "int4", "string"])
def test_types_that_mindspore_does_not_load_are_refused(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(MappingError, match="no element type") as caught:
        mindspore_ckpt.open_writer(tmp_path / "a.ckpt", [TensorSpec("w", DTYPES[dtype], (2,))])
    assert caught.value.names == ("w",)
    assert not (tmp_path / "a.ckpt").exists()


def test_what_mindspore_would_not_read_back_is_refused(tmp_path: Path) -> None:
    for specs, match in (
        ([TensorSpec("w", FLOAT32, (0,))], r"shape \[0\] back as a scalar"),
        ([TensorSpec("\ud800", FLOAT32, (2,))], "UTF-8"),
        ([], "without a tensor"),
    ):
        with pytest.raises(MappingError, match=match):
            mindspore_ckpt.open_writer(tmp_path / "a.ckpt", specs)
    assert not (tmp_path / "a.ckpt").exists()


@pytest.mark.usefixtures("holes")
def test_files_of_more_than_four_gigabytes_are_read_and_written(tmp_path: Path) -> None:
    big = (4 << 30) + 7
    path = tmp_path / "big.ckpt"
    specs = [TensorSpec("a", INT8, (3,)), TensorSpec("big", UINT8, (big,)), TensorSpec("z", INT8, (3,))]
    with pytest.MonkeyPatch.context() as patch:
        # As older versions did not split; and so that nothing has to be moved here.
        patch.setattr(mindspore_ckpt, "SLICE", 1 << 40)
        with mindspore_ckpt.open_writer(path, specs) as writer:
            writer.write("a", b"abc")
            with writer.slot("big") as slot:
                write_at(slot.fd, slot.offset + big - 3, b"end")
            writer.seal("big", None)
            writer.write("z", b"xyz")
            writer.finish()
    tracemalloc.start()
    with mindspore_ckpt.open_reader(path) as reader:
        assert list(reader.tensors.values()) == specs
        view = bytearray(5)
        reader.read_into("big", big - 5, memoryview(view))
        assert view == b"\0\0end"
        assert reader.read("z").tobytes() == b"xyz"
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


# --------------------------------------------------------------------------------------------------- hostile


def suffix(body: bytes) -> bytes:
    """What ``crc_check=True`` appends."""
    return b"crc_num" + zlib.crc32(body).to_bytes(10, "big")


F = np.arange(6, dtype=np.float32).tobytes()
GOOD = record("w", [2, 3], "Float32", F)

ATTACKS = {
    "more dims than bytes": (record("w", [2, 4], "Float32", F), "needs 32 bytes"),
    "fewer dims than bytes": (record("w", [2, 2], "Float32", F), "takes 16 bytes, but has 24"),
    "dims beyond everything": (record("w", [1 << 62, 1 << 62], "Float32", F), "needs"),
    "dims beyond everything of no bytes": (record("w", [0, 1 << 62, 1 << 62], "Float32", b""), "impossible shape"),
    "negative dims": (record("w", [-2, -3], "Float32", F), "impossible shape"),
    "33 dims": (record("w", [1] * 33, "Int8", b"x"), "more than 32 dimensions"),
    "endless dims": (record("w", [1] * 100_000, "Int8", b"x"), "more than 32 dimensions"),
    "endless empty packed dims": (record("w", [], "Int8", b"x", more_tensor=b"\x0a\x00" * 1000), "more than 32"),
    "packed dims of a megabyte": (
        record("w", [], "Int8", b"x", more_tensor=encode_bytes(1, bytes(1 << 20))),
        "no shape",
    ),
    "a scalar without bytes": (record("w", [], "Float32", b""), "needs 4 bytes"),
    "a scalar of many elements": (record("w", [0], "Float32", F), "takes 4 bytes, but has 24"),
    "an unknown type": (record("w", [2, 3], "Complex32", F), "unknown type 'Complex32'"),
    "a type of a megabyte": (record("w", [2, 3], "F" * (17 << 20), F), "names and texts"),
    "a name of 17 megabytes": (record("w" * (17 << 20), [2, 3], "Float32", F), "names and texts"),
    "a name that is no UTF-8": (record(b"\xff\xfe", [2, 3], "Float32", F), "no UTF-8"),
    "two names": (record("w", [2, 3], "Float32", F, more=encode_bytes(1, "v")), "two of tag"),
    "two tensors in a record": (record("w", [2, 3], "Float32", F, more=encode_bytes(2, b"")), "two of tensor"),
    "two types": (record("w", [2, 3], "Float32", F, more_tensor=encode_bytes(2, "Int8")), "two of tensor_type"),
    "two contents": (record("w", [2, 3], "Float32", F, more_tensor=encode_bytes(3, F)), "two of tensor_content"),
    "an unknown field": (record("w", [2, 3], "Float32", F, more=encode_number(9, 1)), "unknown field 9"),
    "an unknown field of a tensor": (
        record("w", [2, 3], "Float32", F, more_tensor=encode_number(4, 1)),
        "unknown field 4",
    ),
    "another field at the top": (GOOD + encode_bytes(2, F), "no field 2"),
    "a number at the top": (GOOD + encode_number(1, 5), "no field 1"),
    "a name that is a number": (encode_bytes(1, encode_number(1, 5) + encode_bytes(2, b"")), "wire type"),
    "dims of 32 bits": (record("w", [], "Float32", F, more_tensor=b"\x0d\0\0\0\0"), "no shape"),
    "no name": (encode_bytes(1, encode_bytes(2, b"")), "no name"),
    "no tensor": (encode_bytes(1, encode_bytes(1, "w")), "no tensor"),
    "no type": (encode_bytes(1, encode_bytes(1, "w") + encode_bytes(2, encode_bytes(3, F))), "no type or no content"),
    "no content": (encode_bytes(1, encode_bytes(1, "w") + encode_bytes(2, encode_bytes(2, "Int8"))), "no content"),
    "an empty record": (GOOD + b"\x0a\x00", "no name"),
    "a record beyond the file": (b"\x0a\xff\xff\xff\xff\x0f" + GOOD, "claims"),
    "a tensor beyond its record": (encode_bytes(1, encode_bytes(1, "w") + b"\x12\x7f" + F), "claims"),
    "a content beyond its tensor": (
        encode_bytes(1, encode_bytes(1, "w") + encode_bytes(2, encode_bytes(2, "Int8") + b"\x1a\x7f" + F)),
        "claims",
    ),
    "an endless varint": (b"\x0a" + b"\xff" * 30, "longer than 64 bits"),
    "a group": (GOOD + b"\x0b\x0c", "wire type 3"),
    "one parameter twice": (GOOD + GOOD, "takes 24 bytes, but has 48"),
    "one parameter in two places": (GOOD + record("v", [], "Int8", b"x") + GOOD, "'w' twice"),
    "a text under a parameter's name": (GOOD + record("v", [], "Int8", b"x") + record("w", [0], "str", b""), "twice"),
    "records that disagree in shape": (
        record("w", [2, 3], "Float32", F[:8]) + record("w", [3, 2], "Float32", F[8:]),
        "disagree",
    ),
    "records that disagree in type": (
        record("w", [2, 3], "Float32", F[:8]) + record("w", [2, 3], "Int32", F[8:]),
        "disagree",
    ),
    "a text that is no UTF-32": (record("t", [0], "str", b"\0\xd8\0\0"), "no UTF-32"),
    "a text of odd length": (record("t", [0], "str", b"abc"), "no UTF-32"),
    "a text of 17 megabytes": (record("t", [0], "str", bytes(17 << 20)), "names and texts"),
    "a table": (
        encode_bytes(1, encode_bytes(1, "emb") + encode_bytes(3, b"")),
        "'emb' is a table of an embedding service",
    ),
    "two suffixes": (GOOD + suffix(GOOD) + suffix(GOOD + suffix(GOOD)), "unknown wire type|wire type"),
    "a suffix in the middle": (GOOD + suffix(GOOD) + GOOD, "wire type"),
    "a suffix alone": (b"crc_num" + bytes(10), "is empty"),
    "no bytes": (b"", "is empty"),
    "half a suffix": (GOOD + suffix(GOOD)[:-1], "wire type"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_file_is_refused(tmp_path: Path, attack: str) -> None:
    data, match = ATTACKS[attack]
    path = tmp_path / "a.ckpt"
    path.write_bytes(data)
    with pytest.raises(FormatError, match=match):
        mindspore_ckpt.open_reader(path)
    assert not check_reader(mindspore_ckpt.open_reader, path, limit_mb=64)


def test_many_records_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mindspore_ckpt, "MAX_RECORDS", 20)
    records = [record(f"{i}", [], "Int8", b"x") for i in range(21)]
    (tmp_path / "a.ckpt").write_bytes(b"".join(records[:20]))
    assert len(read(tmp_path / "a.ckpt")) == 20
    (tmp_path / "a.ckpt").write_bytes(b"".join(records))
    with pytest.raises(FormatError, match="more than 20 records"):
        mindspore_ckpt.open_reader(tmp_path / "a.ckpt")


def test_as_many_records_as_are_read_fit_into_memory(tmp_path: Path) -> None:
    count = mindspore_ckpt.MAX_RECORDS // 50
    (tmp_path / "a.ckpt").write_bytes(b"".join(record(f"{i}", [1] * 32, "Int8", b"x") for i in range(count)))
    assert check_reader(mindspore_ckpt.open_reader, tmp_path / "a.ckpt", limit_mb=256 // 50)


def test_right_crc_is_accepted_and_a_wrong_one_noticed_when_data_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    path.write_bytes(GOOD + suffix(GOOD))
    assert read(path)["w"].tobytes() == F
    wrong = bytearray(GOOD + suffix(GOOD))
    wrong[len(GOOD) - 2] ^= 1
    for bad in (bytes(wrong), GOOD + b"crc_num" + bytes(10), GOOD + b"crc_num" + b"\1" + suffix(GOOD)[8:]):
        path.write_bytes(bad)
        with mindspore_ckpt.open_reader(path) as reader:
            assert list(reader.tensors) == ["w"]  # what it holds is known without reading it
            for look in (lambda r: r.extents("w"), lambda r: r.read("w"), lambda r: r.verify()):
                with pytest.raises(FormatError, match="does not have the CRC-32"):
                    look(reader)


def test_head_decides_what_is_claimed(tmp_path: Path) -> None:
    def claimed(data: bytes) -> bool:
        (tmp_path / "x").write_bytes(data)
        return mindspore_ckpt.sniff(probe(tmp_path / "x"))

    table = encode_bytes(1, encode_number(1, 3) + encode_bytes(2, "float32") + encode_bytes(3, F))
    assert claimed(GOOD)
    assert claimed(GOOD[:-1] + b"x" + b"junk")
    assert claimed(record("w", [2, 3], "NewType9", F))
    assert claimed(encode_bytes(1, encode_bytes(1, "emb") + encode_bytes(3, table)))
    assert claimed(record("n" * 3000, [2, 3], "Float32", bytes(9000)))
    assert not claimed(b"")
    assert not claimed(GOOD[:-1])
    assert not claimed(record("", [2, 3], "Float32", F))
    assert not claimed(record(b"\xff", [2, 3], "Float32", F))
    assert not claimed(record("w", [2, 3], "a type", F))
    assert not claimed(record("w", [2, 3], "Float32", F, more=encode_number(9, 1)))
    assert not claimed(record("w", [2, 3], "Float32", F, more_tensor=encode_number(9, 1)))
    assert not claimed(record("n" * HEAD, [2, 3], "Float32", F))
    # A GraphDef of TensorFlow: node { name, op, … }
    assert not claimed(encode_bytes(1, encode_bytes(1, "x") + encode_bytes(2, "Placeholder")))
    assert not claimed(encode_tag(1, 2) + b"\xff" * 12)
    assert not mindspore_ckpt.sniff(probe(tmp_path))


def test_damaged_files_end_in_a_format_error_or_in_success(tmp_path: Path) -> None:
    rng = random.Random(3)
    body = GOOD + record("b", [2], "BFloat16", bytes(4)) + record("t", [0], "str", "ab".encode("utf-32-le"))
    body += record("big", [600], "Int8", bytes(300)) + record("big", [600], "Int8", bytes(300))
    path = tmp_path / "a.ckpt"
    outcomes = set()
    for _ in range(1500):
        path.write_bytes(damaged(rng.choice([body, body + suffix(body)]), rng))
        mindspore_ckpt.sniff(probe(path))
        outcomes.add(check_reader(mindspore_ckpt.open_reader, path))
    assert outcomes == {True, False}


def test_bfloat16_is_what_ml_dtypes_means(tmp_path: Path) -> None:
    array = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    assert same(read(write(tmp_path / "a.ckpt", Case({"w": array}))), Case({"w": array}))
