"""PyTorch's zip files, against PyTorch."""

from __future__ import annotations

import argparse
import collections
import pathlib
import random
import re
import struct
import subprocess
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlingua.errors import FormatError, MappingError, OutputError
from interlingua.formats import torch_zip, torch_zip_writer
from interlingua.formats.base import SourceFile, TensorSpec
from interlingua.formats.dtypes import DTYPES, FLOAT32, INT64
from interlingua.formats.registry import probe
from interlingua.formats.zip_directory import read_directory
from tests.formats import strategies
from tests.formats import torch_cases as cases
from tests.formats.hostile import check_reader, damaged
from tests.formats.torch_cases import Call, Global, Persistent, torch

quiet = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")


def saved(folder: Path, obj: object, **options: object) -> Path:
    path = folder / "m.pt"
    torch.save(obj, path, **options)
    return path


def refused(path: Path, match: str) -> FormatError:
    """Assert that opening or reading the file ends in a FormatError that says ``match``; return it."""
    with pytest.raises(FormatError, match=match) as caught:
        read_through(path)
    return caught.value


def read_through(path: Path) -> None:
    with torch_zip.open_reader(path) as reader:
        for name in reader.tensors:
            cases.data_of(reader, name)


# PyTorch writes, we read


@settings(max_examples=150)
@given(cases.state_dicts(strategies.WILD_NAMES), st.sampled_from((2, 3, 4, 5)), st.integers(1, 100))
def test_what_pytorch_writes_is_read_bit_for_bit(tensors, protocol, block):
    with tempfile.TemporaryDirectory() as folder:
        path = saved(Path(folder), tensors, pickle_protocol=protocol)
        assert torch_zip.sniff(probe(path))
        with torch_zip.open_reader(path) as reader:
            cases.assert_reads(reader, tensors)
            for name in reader.tensors:
                assert cases.data_of(reader, name, block) == cases.bits(tensors[name])


@settings(max_examples=60)
@given(cases.state_dicts(strategies.PLAIN_NAMES))
def test_a_zip_that_somebody_compressed_is_read_bit_for_bit(tensors):
    with tempfile.TemporaryDirectory() as folder:
        path = repacked(saved(Path(folder), tensors), zipfile.ZIP_DEFLATED)
        with torch_zip.open_reader(path) as reader:
            cases.assert_reads(reader, tensors)
            assert all(reader.extents(name) is None for name in reader.tensors)


def repacked(path: Path, method: int, change=lambda _, data: data) -> Path:
    """The same zip with its members packed by ``method`` and changed by ``change(name, data)`` (None drops one)."""
    out = path.with_suffix(".again.pt")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(out, "w", method) as target:
        for name in source.namelist():
            data = change(name, source.read(name))
            if data is not None:
                target.writestr(name, data)
    return out


@settings(max_examples=60)
@given(cases.state_dicts(strategies.PLAIN_NAMES, cases.TYPED))
def test_big_endian_storages_are_turned_as_pytorch_turns_them(tensors):
    with tempfile.TemporaryDirectory() as folder:
        path = repacked(
            saved(Path(folder), tensors), 0, lambda name, data: b"big" if name.endswith("/byteorder") else data
        )
        with torch_zip.open_reader(path) as reader:
            cases.assert_reads(reader, torch.load(path))


def test_contiguous_tensors_are_extents_and_row_slices_are_several(tmp_path):
    big = torch.arange(64 * 2048, dtype=torch.int32).reshape(64, 2048)
    path = saved(tmp_path, {"whole": big, "rows": big[8:16], "columns": big[:, 512:1536], "turned": big.T})
    with torch_zip.open_reader(path) as reader:
        assert [len(reader.extents(name) or ()) for name in reader.tensors] == [1, 1, 64, 0]
        assert reader.extents("rows")[0].offset == reader.extents("whole")[0].offset + 8 * 2048 * 4
        assert reader.extents("turned") is None
        cases.assert_reads(reader, torch.load(path))


def test_tied_tensors_have_equal_extents_and_others_do_not(tmp_path):
    weight = torch.ones(3, 2)
    with torch_zip.open_reader(saved(tmp_path, {"a": weight, "b": weight, "c": weight.clone()})) as reader:
        assert reader.extents("a") == reader.extents("b") != reader.extents("c")


def test_views_larger_than_a_tile_are_gathered_right(tmp_path):
    big = cases.random_tensor(torch.int16, (3, 1500, 4100), 7)
    tensors = {"turned": big.permute(2, 0, 1), "stepped": big[:, ::3, ::7], "half": big.transpose(0, 1), "all": big}
    with torch_zip.open_reader(saved(tmp_path, tensors)) as reader:
        cases.assert_reads(reader, tensors)
        part = memoryview(bytearray(1001))
        reader.read_into("turned", 20_000_001, part)
        assert bytes(part) == cases.bits(tensors["turned"])[20_000_001:20_001_002]


def test_blocks_may_be_asked_for_in_any_order_even_of_compressed_members(tmp_path):
    tensor = cases.random_tensor(torch.float32, (900, 700), 3)
    path = repacked(saved(tmp_path, {"a": tensor, "t": tensor.T}), zipfile.ZIP_DEFLATED)
    with torch_zip.open_reader(path) as reader:
        for name, expected in (("a", cases.bits(tensor)), ("t", cases.bits(tensor.T))):
            for start in (2_000_000, 17, 1_000_000, 0, 2_519_990):
                view = memoryview(bytearray(10))
                reader.read_into(name, start, view)
                assert bytes(view) == expected[start : start + 10]


def test_nested_containers_are_named_by_their_paths(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    checkpoint = {
        "state_dict": model.state_dict(prefix="module."),
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "pair": (torch.ones(1), [torch.zeros(2), None]),
    }
    with torch_zip.open_reader(saved(tmp_path, checkpoint)) as reader:
        cases.assert_reads(reader, cases.flat(checkpoint))
        assert {"state_dict.module.0.weight", "optimizer.state.0.exp_avg", "pair.1.0"} <= reader.tensors.keys()
        assert reader.objects["epoch"] == 3
        assert reader.objects["pair.1.1"] is None
        assert reader.objects["optimizer.param_groups.0.betas"] == [0.9, 0.999]
        assert reader.objects["optimizer.param_groups.0.params"] == [0, 1, 2, 3]


def test_a_lone_tensor_is_called_tensor_and_a_lone_object_object(tmp_path):
    with torch_zip.open_reader(saved(tmp_path, torch.ones(2))) as reader:
        cases.assert_reads(reader, {"tensor": torch.ones(2)})
    with torch_zip.open_reader(saved(tmp_path, 5)) as reader:
        assert (reader.tensors, reader.objects) == ({}, {"object": 5})


def test_parameters_with_and_without_state_are_their_tensors(tmp_path):
    plain, marked = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.zeros(3))
    marked.note = "mine"
    buffer = torch.nn.Buffer(torch.ones(4))
    with torch_zip.open_reader(saved(tmp_path, {"a": plain, "b": marked, "c": buffer})) as reader:
        cases.assert_reads(reader, {"a": plain, "b": marked, "c": buffer})


def test_a_tensor_dressed_as_a_subclass_is_its_tensor(tmp_path):
    inner = Global("torch._utils", "_rebuild_tensor_v2")
    args = (cases.storage(numel=4), 0, (4,), (1,), False, Call("collections", "OrderedDict"))
    dressed = Call("torch._tensor", "_rebuild_from_type_v2", inner, Global("torch.nn.parameter", "Parameter"), args, {})
    path = cases.zip_of(tmp_path / "m.pt", cases.dumps({"w": dressed}), {"0": bytes(range(16))})
    with torch_zip.open_reader(path) as reader:
        assert cases.data_of(reader, "w") == bytes(range(16))


@quiet
def test_bare_storages_are_tensors_of_one_axis(tmp_path):
    tensor = torch.arange(6, dtype=torch.int16)
    path = saved(tmp_path, {"typed": tensor.storage(), "bytes": torch.ones(2).untyped_storage()})
    with torch_zip.open_reader(path) as reader:
        cases.assert_reads(reader, {"typed": tensor, "bytes": torch.ones(2).view(torch.uint8)})


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_numpy_arrays_are_tensors_too(tmp_path, protocol):
    arrays = {
        "c": np.arange(600, dtype=">f4").reshape(20, 30),
        "fortran": np.asfortranarray(np.arange(600, dtype="<i8").reshape(20, 30)),
        "small": np.array([True, False]),
        "scalar": np.array(3.5),
    }
    path = saved(tmp_path, {**arrays, "number": np.float32(0.5)}, pickle_protocol=protocol)
    for file in (path, repacked(path, zipfile.ZIP_DEFLATED)):
        with torch_zip.open_reader(file) as reader:
            for name, array in arrays.items():
                assert reader.tensors[name].shape == array.shape
                assert cases.data_of(reader, name) == array.astype(array.dtype.newbyteorder("<"), order="C").tobytes()
            assert reader.objects == {"number": 0.5}


def test_what_training_code_saves_beside_tensors_is_described_and_never_made(tmp_path):
    checkpoint = {
        "args": argparse.Namespace(lr=0.1, out=pathlib.PurePosixPath("/a/b"), mean=torch.ones(2)),
        "count": collections.Counter("aab"),
        "by": collections.defaultdict(list, {"x": [1, 2]}),
        "last": collections.deque([1.5, 2.5], maxlen=4),
        "names": {"one", "two"},
        "frozen": frozenset([1]),
        "size": torch.ones(2, 3).size(),
        "device": torch.device("cuda", 1),
        "dtype": torch.float16,
        "z": 1 + 2j,
        "raw": b"\0\xff",
        "long": "x" * 1000,
        "pairs": [("a", 1), ("b", 2)],
        "nothing": {},
        "texts": ["a", None, True],
        ("a", 1): 7,
    }
    with torch_zip.open_reader(saved(tmp_path, checkpoint)) as reader:
        assert list(reader.tensors) == ["args.mean"]
        assert reader.objects == {
            "args.lr": 0.1,
            "args.out": "/a/b",
            "count.a": 2,
            "count.b": 1,
            "by.x": [1, 2],
            "last": [1.5, 2.5],
            "names": "<a set of 2>",
            "frozen": "<a set of 1>",
            "size": [2, 3],
            "device": "<torch.device 'cuda' 1>",
            "dtype": "<torch.float16>",
            "z": "<(1+2j)>",
            "raw": "<2 bytes>",
            "long": "x" * 1000,
            "pairs.0": ["a", 1],
            "pairs.1": ["b", 2],
            "nothing": "<an empty dict>",
            "texts": ["a", None, True],
            "('a', 1)": 7,
        }


def test_a_lightning_checkpoint_is_read(tmp_path):
    attributes = Call("pytorch_lightning.utilities.parsing", "AttributeDict")
    callback = Global("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint")
    data = cases.dumps(
        {"hyper_parameters": attributes, "state_dict": {"w": cases.rebuilt(cases.storage(), 0, (4,), (1,))}}
    )
    with torch_zip.open_reader(cases.zip_of(tmp_path / "a.pt", data, {"0": bytes(16)})) as reader:
        assert list(reader.tensors) == ["state_dict.w"]
    refused(cases.zip_of(tmp_path / "b.pt", cases.dumps({"callbacks": [callback]}), {}), "ModelCheckpoint")


# Kinds of tensors that have no plain elements are refused by name


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: torch.ones(2, device="meta"), "meta"),
        (lambda: torch.eye(2).to_sparse(), "sparse"),
        (lambda: torch.eye(2).to_sparse_csr(), "sparse"),
        (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "quantised"),
        (
            lambda: torch.quantize_per_channel(torch.ones(3, 2), torch.ones(3), torch.zeros(3), 0, torch.quint8),
            "quantised",
        ),
        (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "nested"),
        (lambda: torch.ones(2, dtype=torch.complex64).conj(), "conjugated"),
        (lambda: torch.ones(2, dtype=torch.complex64).conj().imag, "negated"),
        (lambda: torch.zeros(2, dtype=torch.complex32), "complex32"),
        (lambda: torch.zeros(2, dtype=torch.uint8).view(torch.float4_e2m1fn_x2), "float4_e2m1fn_x2"),
    ],
)
def test_a_tensor_without_plain_elements_is_refused_by_name_and_kind(tmp_path, make, kind):
    error = refused(saved(tmp_path, {"fine": torch.ones(1), "the.odd.one": make()}), kind)
    assert "'the.odd.one'" in str(error)


def test_two_tensors_whose_paths_join_to_one_name_are_refused(tmp_path):
    refused(saved(tmp_path, {"a": {"b": torch.ones(1)}, "a.b": torch.ones(1)}), "both be called 'a.b'")
    refused(saved(tmp_path, {1: torch.ones(1), "1": torch.ones(1)}), "both be called '1'")


def test_two_objects_whose_paths_join_to_one_name_do_not_hide_the_tensors(tmp_path):
    with torch_zip.open_reader(saved(tmp_path, {"a": {"b": 1}, "a.b": 2, "w": torch.ones(1)})) as reader:
        assert reader.objects == {"a.b": "<several objects of this name>"}
        assert list(reader.tensors) == ["w"]


def test_a_torchscript_program_is_named_for_what_it_is(tmp_path):
    path = tmp_path / "program.pt"
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), str(path))
    refused(path, "TorchScript")


def test_a_whole_pickled_module_is_refused_and_not_imported(tmp_path):
    error = refused(saved(tmp_path, torch.nn.Linear(2, 2)), "torch.nn.modules.linear.Linear")
    assert "not run" in str(error)
    assert "state dict" in str(error)


# We write, PyTorch reads


@settings(max_examples=120)
@given(cases.state_dicts(strategies.WILD_NAMES, plain=True))
def test_what_is_written_pytorch_loads_bit_for_bit(tensors):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.bin"
        with torch_zip.open_writer(path, cases.specs_of(tensors)) as writer:
            cases.write_all(writer, tensors)
        assert torch_zip.sniff(probe(path))
        with torch_zip.open_reader(path) as reader:
            cases.assert_reads(reader, tensors)
        for mmap in (False, True):
            loaded = torch.load(path, weights_only=True, mmap=mmap)
            assert type(loaded) is collections.OrderedDict
            assert list(loaded) == list(tensors)
            for name, tensor in loaded.items():
                assert (tensor.dtype, tensor.shape) == (tensors[name].dtype, tensors[name].shape)
                assert tensor.is_contiguous()
                assert cases.bits(tensor) == cases.bits(tensors[name])


def test_more_tensors_than_one_batch_are_written(tmp_path):
    tensors = {f"layer.{i}": torch.full((i % 3,), float(i)) for i in range(2001)}
    with torch_zip.open_writer(tmp_path / "m.bin", cases.specs_of(tensors)) as writer:
        cases.write_all(writer, tensors)
    loaded = torch.load(tmp_path / "m.bin")
    assert list(loaded) == list(tensors)
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)


def written(path: Path, tensors: dict[str, torch.Tensor], **options: object) -> bytes:
    with torch_zip.open_writer(path, cases.specs_of(tensors), **options) as writer:
        cases.write_all(writer, tensors)
    return path.read_bytes()


SOME = {
    "w": cases.random_tensor(torch.float32, (5, 7), 1),
    "half": cases.random_tensor(torch.bfloat16, (3,), 2),
    "none": torch.zeros(0, 4),
    "count": torch.tensor(7),
    "narrow": cases.random_tensor(torch.float8_e5m2, (9,), 3),
}


def test_the_zip_is_clean_aligned_and_laid_out_as_pytorch_lays_it_out(tmp_path):
    written(tmp_path / "my.model.bin", SOME)
    with zipfile.ZipFile(tmp_path / "my.model.bin") as found:
        assert found.testzip() is None
        infos = found.infolist()
    names = ["data.pkl", "byteorder", *(f"data/{i}" for i in range(5)), "version"]
    assert [info.filename for info in infos] == [f"my.model/{name}" for name in names]
    assert {info.date_time for info in infos} == {(1980, 1, 1, 0, 0, 0)}
    with torch_zip.open_reader(tmp_path / "my.model.bin") as reader:
        assert all(e.offset % 64 == 0 for name in reader.tensors for e in reader.extents(name) or ())
    done = subprocess.run(["unzip", "-t", tmp_path / "my.model.bin"], capture_output=True, text=True, check=False)
    assert "No errors detected" in done.stdout


def test_the_same_tensors_make_the_same_bytes(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    first = written(tmp_path / "one" / "m.bin", SOME)
    with torch_zip.open_writer(tmp_path / "two" / "m.bin", cases.specs_of(SOME), metadata={"format": "pt"}) as writer:
        for name in SOME:
            writer.write(name, cases.bits(SOME[name]))
        writer.finish()
    assert (tmp_path / "two" / "m.bin").read_bytes() == first


@pytest.mark.parametrize("mmap", [False, True])
def test_tied_tensors_share_one_storage(tmp_path, mmap):
    weight = cases.random_tensor(torch.float32, (4, 3), 5)
    tensors = {"early": weight, "owner": weight, "flat": weight.reshape(12), "other": weight.clone()}
    data = written(tmp_path / "m.bin", tensors, ties={"early": "owner", "flat": "owner"})
    assert data.count(cases.bits(weight)) == 2
    loaded = torch.load(tmp_path / "m.bin", mmap=mmap)
    assert list(loaded) == list(tensors)
    assert loaded["early"].data_ptr() == loaded["owner"].data_ptr() == loaded["flat"].data_ptr()
    assert loaded["flat"].shape == (12,)
    assert loaded["other"].data_ptr() != loaded["owner"].data_ptr()
    with torch_zip.open_reader(tmp_path / "m.bin") as reader:
        assert reader.extents("early") == reader.extents("flat") != reader.extents("other")


@pytest.mark.parametrize("ties", [{"a": "b", "b": "a"}, {"a": "c"}, {"a": "d"}])
def test_ties_that_cannot_be_are_a_mistake_of_the_caller(tmp_path, ties):
    tensors = {"a": torch.ones(2), "b": torch.ones(2), "c": torch.ones(3), "d": torch.ones(2, dtype=torch.int32)}
    with pytest.raises(ValueError, match="share"):
        torch_zip.open_writer(tmp_path / "m.bin", cases.specs_of(tensors), ties=ties)
    assert not (tmp_path / "m.bin").exists()


@pytest.mark.parametrize("name", sorted(DTYPES.keys() - {cases.name_of(dtype) for dtype in cases.ALL}))
def test_a_type_that_pytorch_lacks_is_refused_by_name(tmp_path, name):
    with pytest.raises(MappingError, match=f"{name}.*'odd'"):
        torch_zip.open_writer(
            tmp_path / "m.bin", [TensorSpec("odd", DTYPES[name], (2,), 5 if name == "string" else None)]
        )
    assert not (tmp_path / "m.bin").exists()


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "m.bin").write_text("mine")
    with pytest.raises(OutputError):
        torch_zip.open_writer(tmp_path / "m.bin", [])
    assert (tmp_path / "m.bin").read_text() == "mine"


def test_an_unfinished_file_is_no_checkpoint(tmp_path):
    with torch_zip.open_writer(tmp_path / "m.bin", cases.specs_of(SOME)) as writer:
        writer.write("w", cases.bits(SOME["w"]))
        with pytest.raises(ValueError, match="never sealed"):
            writer.finish()
    assert not torch_zip.sniff(probe(tmp_path / "m.bin"))
    assert not zipfile.is_zipfile(tmp_path / "m.bin")


@pytest.mark.parametrize(
    "name", ["model.bin", "a.b.pt", "plain", "with space.pt", "back\\slash.pt", "über.pt", "...pt", ".pt"]
)
def test_the_folder_in_the_zip_is_the_name_that_pytorch_gives_it(tmp_path, name):
    written(tmp_path / name, SOME)
    with zipfile.ZipFile(tmp_path / name) as found:
        root = found.namelist()[0].partition("/")[0]
    if name in ("...pt", ".pt"):
        # PyTorch refuses the one and writes a zip that climbs out of its folder for the other.
        assert root in ("archive", ".pt")
    else:
        (tmp_path / "theirs").mkdir()
        torch.save(SOME, str(tmp_path / "theirs" / name))
        with zipfile.ZipFile(tmp_path / "theirs" / name) as found:
            assert found.namelist()[0].partition("/")[0] == root
    assert torch.equal(torch.load(tmp_path / name)["w"].view(torch.uint8), SOME["w"].view(torch.uint8))


@pytest.mark.usefixtures("holes")
def test_more_than_four_gigabytes_are_written_and_read_through_64_bit_fields(tmp_path):
    path = tmp_path / "m.bin"
    big = TensorSpec("big", DTYPES["uint8"], ((1 << 32) + 5,))
    specs = [TensorSpec("first", INT64, (1,)), big, TensorSpec("last", FLOAT32, (2,))]
    # The middle of the tensor is left as a hole, so the test takes no room; its checksum is not looked at here.
    with torch_zip.open_writer(path, specs) as writer:
        writer.write("first", b"firsttt!")
        with writer.slot("big") as slot:
            torch_zip_writer.write_at(slot.fd, slot.offset, b"begin")
            torch_zip_writer.write_at(slot.fd, slot.offset + big.nbytes - 3, b"end")
        writer.seal("big", 0)
        writer.write("last", b"lastlast")
        writer.finish()
    assert path.stat().st_blocks * 512 < 1 << 20
    with torch_zip.open_reader(path) as reader:
        assert list(reader.tensors.values()) == specs
        (extent,) = reader.extents("big")
        assert (extent.nbytes, extent.offset % 64) == (big.nbytes, 0)
        assert cases.data_of(reader, "last") == b"lastlast"
        view = memoryview(bytearray(4))
        reader.read_into("big", big.nbytes - 4, view)
        assert bytes(view) == b"\0end"
    with zipfile.ZipFile(path) as found:
        assert found.read("m/data/2") == b"lastlast"
        assert found.getinfo("m/data/1").file_size == big.nbytes
    loaded = torch.load(path, mmap=True)
    assert bytes(loaded["big"][-3:].tolist()) == b"end"
    assert loaded["first"].view(torch.uint8).tolist() == list(b"firsttt!")


def test_more_members_than_16_bits_can_count_are_written(tmp_path):
    specs = [TensorSpec(f"t{i}", FLOAT32, (0,)) for i in range(65_534)]
    with torch_zip.open_writer(tmp_path / "m.bin", specs) as writer:
        writer.finish()
    with SourceFile(tmp_path / "m.bin") as file:
        assert len(read_directory(file)) == 65_537
    with zipfile.ZipFile(tmp_path / "m.bin") as found:
        assert found.namelist()[-2:] == ["m/data/65533", "m/version"]


# Zips that lie


def four(path: Path, data: bytes = bytes(16), **options: object) -> Path:
    """A valid zip of one tensor ``w`` of four float32."""
    return cases.zip_of(path, cases.dumps({"w": cases.rebuilt(cases.storage(), 0, (4,), (1,))}), {"0": data}, **options)


def changed(path: Path, old: bytes, new: bytes, count: int = -1) -> Path:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, count))
    return path


def test_the_zip_that_the_attacks_start_from_is_read(tmp_path):
    with torch_zip.open_reader(four(tmp_path / "m.pt", bytes(range(16)))) as reader:
        assert cases.data_of(reader, "w") == bytes(range(16))


@pytest.mark.parametrize("size", [0, 12, 15, 17, 20])
def test_a_storage_of_another_size_than_the_pickle_says_is_refused(tmp_path, size):
    refused(four(tmp_path / "m.pt", bytes(size)), f"has {size} bytes in 'archive/data/0'.*counts on 16")


def test_a_missing_storage_is_refused(tmp_path):
    data = cases.dumps({"w": cases.rebuilt(cases.storage("7"), 0, (4,), (1,))})
    refused(cases.zip_of(tmp_path / "m.pt", data, {"0": bytes(16)}), "lacks the member 'archive/data/7'")


def test_a_storage_key_cannot_lead_out_of_the_file(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(16))
    data = cases.dumps({"w": cases.rebuilt(cases.storage("../../secret"), 0, (4,), (1,))})
    refused(cases.zip_of(tmp_path / "m.pt", data, {}), "lacks the member")


def test_a_zip_without_data_pkl_is_not_pytorchs(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as out:
        out.writestr("archive/other.pkl", b"x")
    assert not torch_zip.sniff(probe(tmp_path / "m.pt"))
    refused(tmp_path / "m.pt", "0 members called data.pkl")


def test_a_zip_with_two_data_pkl_is_refused(tmp_path):
    with zipfile.ZipFile(four(tmp_path / "m.pt"), "a") as out:
        out.writestr("other/data.pkl", b"N.")
    refused(tmp_path / "m.pt", "2 members called data.pkl")


def test_a_member_that_comes_twice_is_refused(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(four(tmp_path / "m.pt"), "a") as out:
        out.writestr("archive/data/0", bytes(16))
    refused(tmp_path / "m.pt", "twice")


def test_an_encrypted_member_is_refused(tmp_path):
    path = four(tmp_path / "m.pt")
    data = bytearray(path.read_bytes())
    for found in re.finditer(b"PK\x01\x02", bytes(data)):
        data[found.start() + 8] |= 1
    for found in re.finditer(b"PK\x03\x04", bytes(data)):
        data[found.start() + 6] |= 1
    path.write_bytes(data)
    refused(path, "encrypted")


def test_members_that_overlap_are_refused(tmp_path):
    data = cases.dumps({"w": cases.rebuilt(cases.storage("0"), 0, (4,), (1,))})
    path = cases.zip_of(tmp_path / "m.pt", data, {"0": bytes(16), "1": bytes(16)})
    raw = bytearray(path.read_bytes())
    rows = [found.start() for found in re.finditer(b"PK\x01\x02", bytes(raw))]
    raw[rows[3] + 42 : rows[3] + 46] = raw[rows[2] + 42 : rows[2] + 46]
    path.write_bytes(raw)
    refused(path, "another in its own header|overlap")


def test_a_member_beyond_the_end_of_the_file_is_refused(tmp_path):
    path = four(tmp_path / "m.pt")
    raw = bytearray(path.read_bytes())
    row = raw.rindex(b"PK\x01\x02", 0, raw.rindex(b"PK\x01\x02"))
    struct.pack_into("<I", raw, row + 42, len(raw) + 1000)
    path.write_bytes(raw)
    refused(path, "reaches beyond")


def test_a_local_header_that_contradicts_the_directory_is_refused(tmp_path):
    refused(changed(four(tmp_path / "m.pt"), b"archive/data/0", b"archive/data/1", 1), "another in its own header")


def test_a_byte_order_that_nobody_knows_is_refused(tmp_path):
    refused(four(tmp_path / "m.pt", order=b"middle"), "byte order")
    refused(four(tmp_path / "n.pt", order=b"little" * 100), "byte order")


def test_a_bomb_is_refused_where_it_says_what_it_is_and_where_it_lies(tmp_path):
    honest = four(tmp_path / "m.pt", bytes(1 << 20), method=zipfile.ZIP_DEFLATED)
    refused(honest, "1048576 bytes in .*counts on 16")
    lying = bytearray(honest.read_bytes())
    for magic, at in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        for found in re.finditer(magic, bytes(lying)):
            if struct.unpack_from("<I", lying, found.start() + at) == (1 << 20,):
                struct.pack_into("<I", lying, found.start() + at, 16)
    honest.write_bytes(lying)
    refused(honest, "does not end where")


def test_a_packed_pickle_is_bounded(tmp_path):
    path = cases.zip_of(tmp_path / "m.pt", b"\x80\x02" + b"0" * (40 << 20), {}, method=zipfile.ZIP_DEFLATED)
    refused(path, "packed")


def test_a_packed_storage_cannot_be_unpacked_for_ever(tmp_path):
    views = [cases.rebuilt(cases.storage(numel=1 << 22), i, (1,), (1,)) for i in range(6000)]
    path = cases.zip_of(tmp_path / "m.pt", cases.dumps(views), {"0": bytes(1 << 24)}, method=zipfile.ZIP_DEFLATED)
    refused(path, "unpacked too often")


def test_a_packed_storage_that_is_too_large_to_be_gathered_is_refused(tmp_path):
    numel = 9 << 20
    turned = cases.rebuilt(cases.storage(numel=numel), 0, (1024, numel // 1024), (1, 1024))
    path = cases.zip_of(
        tmp_path / "m.pt", cases.dumps({"w": turned}), {"0": bytes(4 * numel)}, method=zipfile.ZIP_DEFLATED
    )
    refused(path, "zip -0")


# Pickles that lie about tensors

BEYOND = [
    (0, (5,), (1,)),
    (1, (4,), (1,)),
    (0, (2, 2), (3, 1)),
    (4, (1,), (1,)),
    (0, (1 << 40,), (1,)),
    (0, (2,), (1 << 40,)),
    (0, (2, 2), (2, 2)),
]


@pytest.mark.parametrize(("offset", "size", "stride"), BEYOND)
def test_a_view_that_reaches_beyond_its_storage_is_refused(tmp_path, offset, size, stride):
    data = cases.dumps({"w": cases.rebuilt(cases.storage(), offset, size, stride)})
    refused(cases.zip_of(tmp_path / "m.pt", data, {"0": bytes(16)}), "beyond its storage")


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (-1, (1,), (1,)),
        (0, (-1,), (1,)),
        (0, (2,), (-1,)),
        (0, (2, 2), (1,)),
        (0, (1 << 62, 1 << 62, 0), (1, 1, 1)),
        (0, (1 << 40, 1 << 40), (0, 0)),
        (1 << 70, (0,), (1,)),
        (0, (1,), (1 << 70,)),
        (0, (1,) * 100, (1,) * 100),
        (0, (True,), (1,)),
        (0, (1.0,), (1,)),
        ("0", (1,), (1,)),
        (0, None, (1,)),
        (0, (1,), "1"),
        (0, ((1,),), (1,)),
        (None, (1,), (1,)),
    ],
)
def test_a_view_of_impossible_numbers_is_refused(tmp_path, offset, size, stride):
    data = cases.dumps({"w": cases.rebuilt(cases.storage(), offset, size, stride)})
    refused(cases.zip_of(tmp_path / "m.pt", data, {"0": bytes(16)}), "refused")


def test_views_that_use_the_same_bytes_again_and_again_cannot_outgrow_every_disk(tmp_path):
    data = cases.dumps({"w": cases.rebuilt(cases.storage(), 0, (1 << 40,), (0,))})
    refused(cases.zip_of(tmp_path / "m.pt", data, {"0": bytes(16)}), "far larger than the file")


def test_a_stride_of_an_axis_of_one_may_be_anything(tmp_path):
    data = cases.dumps({"w": cases.rebuilt(cases.storage(), 0, (2, 1, 2), (2, 1 << 50, 1))})
    path = cases.zip_of(tmp_path / "m.pt", data, {"0": bytes(range(16))})
    with torch_zip.open_reader(path) as reader:
        assert cases.data_of(reader, "w") == bytes(range(16))


@pytest.mark.parametrize(
    "identity",
    [
        ("storage", Global("torch", "FloatStorage"), "0", "cpu", -4),
        ("storage", Global("torch", "FloatStorage"), "0", "cpu", "4"),
        ("storage", Global("torch", "FloatStorage"), "0", "cpu", 4.0),
        ("storage", Global("torch", "FloatStorage"), "0", "cpu", True),
        ("storage", Global("torch", "FloatStorage"), "0", "cpu", 1 << 80),
        ("storage", Global("torch", "FloatStorage"), 0, "cpu", 4),
        ("storage", Global("torch", "FloatStorage"), "0", None, 4),
        ("storage", Global("torch", "FloatStorage"), ["0"], "cpu", 4),
        ("storage", "FloatStorage", "0", "cpu", 4),
        ("storage", Global("torch", "FloatStorage"), "0", "cpu"),
        ("storage", Global("torch", "FloatStorage"), "0", "cpu", 4, None),
        ("module", Global("torch", "Tensor"), "file.py", "code"),
        ("other",),
        (),
        ("storage",),
        (b"storage", Global("torch", "FloatStorage"), "0", "cpu", 4),
    ],
)
def test_a_persistent_id_of_wrong_types_is_refused(tmp_path, identity):
    data = cases.dumps({"w": cases.rebuilt(Persistent(*identity), 0, (4,), (1,))})
    refused(cases.zip_of(tmp_path / "m.pt", data, {"0": bytes(16)}), "refused")


@pytest.mark.parametrize(
    "call",
    [
        Call("torch._utils", "_rebuild_tensor_v2", "no storage", 0, (4,), (1,), False, None),
        Call("torch._utils", "_rebuild_tensor_v2", cases.storage()),
        Call("torch._utils", "_rebuild_parameter", "no tensor", True, None),
        Call("torch._utils", "_rebuild_parameter"),
        Call("torch._tensor", "_rebuild_from_type_v2", Global("torch", "Size"), Global("torch", "Tensor"), ((1,),), {}),
        Call("torch._tensor", "_rebuild_from_type_v2", Global("torch._utils", "_rebuild_tensor_v2"), None, [1], {}),
        Call("torch", "FloatStorage", 4),
        Call("torch", "float32"),
        Call("torch", "Size", "abc"),
        Call("torch.nn.parameter", "Parameter", 5),
    ],
)
def test_a_rebuilding_of_wrong_things_is_refused(tmp_path, call):
    refused(cases.zip_of(tmp_path / "m.pt", cases.dumps({"w": call}), {"0": bytes(16)}), "refused")


def test_a_rebuilding_nested_in_itself_does_not_recurse(tmp_path):
    call = Global("torch._tensor", "_rebuild_from_type_v2")
    args: object = (call, Global("torch", "Tensor"), (), {})
    for _ in range(150):
        args = (call, Global("torch", "Tensor"), args, {})
    data = cases.dumps({"w": Call("torch._tensor", "_rebuild_from_type_v2", *args)})
    refused(cases.zip_of(tmp_path / "m.pt", data, {}), "makes no tensor")


def test_what_a_pickle_asks_to_be_run_is_not_run(tmp_path):
    sentinel = tmp_path / "ran"
    for module, name, args in (
        ("posix", "system", (f"touch {sentinel}",)),
        ("os", "system", (f"touch {sentinel}",)),
        ("builtins", "eval", (f"open({str(sentinel)!r}, 'w')",)),
        ("builtins", "exec", (f"open({str(sentinel)!r}, 'w')",)),
        ("torch", "load", (str(sentinel),)),
        ("torch.jit", "load", (str(sentinel),)),
        ("torch.storage", "_load_from_bytes", (b"x",)),
        ("builtins", "getattr", ("x", "y")),
        ("builtins", "open", (str(sentinel), "w")),
        ("torch.hub", "load", ("a", "b")),
    ):
        path = cases.zip_of(tmp_path / "m.pt", cases.dumps(Call(module, name, *args)), {})
        refused(path, f"asks for {module}.{name}, .*not run")
    assert not sentinel.exists()


def test_damaged_files_end_in_a_format_error_or_are_read(tmp_path):
    rng = random.Random(20)
    tensors = {**SOME, "turned": SOME["w"].T, "array": np.arange(300.0), "nested": {"a": [1, torch.ones(3)]}}
    plain = saved(tmp_path, tensors)
    originals = [
        plain.read_bytes(),
        repacked(plain, zipfile.ZIP_DEFLATED).read_bytes(),
        written(tmp_path / "o.pt", SOME),
    ]
    good = 0
    for i in range(900):
        (tmp_path / "x.pt").write_bytes(damaged(originals[i % 3], rng))
        probe_ok = torch_zip.sniff(probe(tmp_path / "x.pt"))
        assert probe_ok in (True, False)
        good += check_reader(torch_zip.open_reader, tmp_path / "x.pt")
    assert 0 < good < 900


def test_a_damaged_pickle_in_a_sound_zip_ends_in_a_format_error_or_is_read(tmp_path):
    rng = random.Random(21)
    path = saved(tmp_path, {**SOME, "turned": SOME["w"].T, "array": np.arange(300.0), "b": bytes(300)})
    with zipfile.ZipFile(path) as found:
        members = {name.partition("/")[2]: found.read(name) for name in found.namelist()}
    storages = {name[5:]: data for name, data in members.items() if name.startswith("data/")}
    good = 0
    for _ in range(800):
        cases.zip_of(tmp_path / "x.pt", damaged(members["data.pkl"], rng), storages)
        good += check_reader(torch_zip.open_reader, tmp_path / "x.pt")
    assert 0 < good < 800


# Files that others made


@pytest.mark.parametrize("folder", ["nlpodyssey__gopickle", "elixir-nx__bumblebee"])
def test_real_files_are_read_as_pytorch_reads_them(fixtures_dir, folder):
    seen = 0
    for path in sorted((fixtures_dir / folder).rglob("*.pt")):
        if not torch_zip.sniff(probe(path)):
            continue
        seen += 1
        loaded = cases.as_tensors(torch.load(path, weights_only=False))
        with torch_zip.open_reader(path) as reader:
            cases.assert_reads(reader, loaded)
    assert seen >= 5
