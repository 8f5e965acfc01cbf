"""PyTorch's files before 1.6, against PyTorch."""

from __future__ import annotations

import pickle
import random
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlingua.errors import FormatError
from interlingua.formats import torch_legacy, torch_tar, torch_zip
from interlingua.formats.registry import probe
from tests.formats import strategies
from tests.formats import torch_cases as cases
from tests.formats.hostile import check_reader, damaged
from tests.formats.torch_cases import Call, Global, Persistent, torch


def saved(folder: Path, obj: object, **options: object) -> Path:
    path = folder / "m.pt"
    torch.save(obj, path, _use_new_zipfile_serialization=False, **options)
    return path


@settings(max_examples=150)
@given(cases.state_dicts(strategies.WILD_NAMES), st.sampled_from((2, 3, 4, 5)), st.integers(1, 100))
def test_what_pytorch_writes_is_read_bit_for_bit(tensors, protocol, block):
    with tempfile.TemporaryDirectory() as folder:
        path = saved(Path(folder), tensors, pickle_protocol=protocol)
        seen = probe(path)
        assert (torch_legacy.sniff(seen), torch_zip.sniff(seen), torch_tar.sniff(seen)) == (True, False, False)
        with torch_legacy.open_reader(path) as reader:
            cases.assert_reads(reader, tensors)
            for name in reader.tensors:
                assert cases.data_of(reader, name, block) == cases.bits(tensors[name])


def test_contiguous_tensors_are_extents_and_ties_have_equal_ones(tmp_path):
    weight = torch.arange(12.0).reshape(3, 4)
    path = saved(tmp_path, {"a": weight, "b": weight, "row": weight[1], "turned": weight.T})
    with torch_legacy.open_reader(path) as reader:
        (whole,), (row,) = reader.extents("a"), reader.extents("row")
        assert reader.extents("b") == (whole,)
        assert (row.offset - whole.offset, row.nbytes) == (16, 16)
        assert reader.extents("turned") is None


def test_nested_containers_and_objects_are_named_by_their_paths(tmp_path):
    checkpoint = {"state_dict": {"w": torch.ones(2)}, "optimizer": [{"lr": 0.1, "m": torch.zeros(3)}], "epoch": 4}
    with torch_legacy.open_reader(saved(tmp_path, checkpoint)) as reader:
        cases.assert_reads(reader, cases.flat(checkpoint))
        assert reader.objects == {"optimizer.0.lr": 0.1, "epoch": 4}


@pytest.mark.parametrize("protocol", [2, 4])
def test_numpy_arrays_are_tensors_too(tmp_path, protocol):
    arrays = {"c": np.arange(600, dtype=">f4").reshape(20, 30), "f": np.asfortranarray(np.ones((9, 50), "i2"))}
    with torch_legacy.open_reader(saved(tmp_path, arrays, pickle_protocol=protocol)) as reader:
        for name, array in arrays.items():
            assert cases.data_of(reader, name) == array.astype(array.dtype.newbyteorder("<"), order="C").tobytes()


# Files made by hand, for what PyTorch no longer writes


def stream(
    obj: object,
    keys: object,
    data: bytes,
    *,
    magic: object = torch_legacy.MAGIC,
    version: object = torch_legacy.PROTOCOL,
    little_endian: bool = True,
    protocol: int = 2,
) -> bytes:
    info = {"protocol_version": 1001, "little_endian": little_endian, "type_sizes": {"int": 4}}
    parts = [pickle.dumps(magic, protocol), pickle.dumps(version, protocol), pickle.dumps(info, protocol)]
    return b"".join((*parts, cases.dumps(obj), pickle.dumps(keys, protocol), data))


def storage(key: object = "9", numel: object = 4, part: object = None, kind: str = "FloatStorage") -> Persistent:
    return Persistent("storage", Global("torch", kind), key, "cpu", numel, part)


def counted(data: bytes, width: int = 4) -> bytes:
    return struct.pack("<q", len(data) // width) + data


def tensor(source: object, offset: object = 0, size: object = (4,), stride: object = (1,)) -> Call:
    return cases.rebuilt(source, offset, size, stride)


DATA = struct.pack("<8f", *range(8))


def written(folder: Path, data: bytes) -> Path:
    (folder / "m.pt").write_bytes(data)
    return folder / "m.pt"


def assert_as_pytorch(path: Path) -> None:
    expected = torch.load(path, weights_only=False)
    with torch_legacy.open_reader(path) as reader:
        cases.assert_reads(reader, cases.flat(expected))


def test_parts_of_a_storage_are_read_as_pytorch_reads_them(tmp_path):
    whole, part = storage(numel=8), storage(numel=8, part=("77", 3, 4))
    obj = {"a": tensor(whole, 1), "b": tensor(part), "c": tensor(part, 1, (3,)), "d": tensor(part, 0, (2, 2), (1, 2))}
    path = written(tmp_path, stream(obj, ["9"], counted(DATA)))
    assert_as_pytorch(path)
    with torch_legacy.open_reader(path) as reader:
        assert cases.data_of(reader, "b") == DATA[12:28]


def test_a_bare_part_of_a_storage_is_a_tensor_of_one_axis(tmp_path):
    path = written(tmp_path, stream({"p": storage(numel=8, part=("77", 3, 4))}, ["9"], counted(DATA)))
    with torch_legacy.open_reader(path) as reader:
        assert reader.tensors["p"].shape == (4,)
        assert cases.data_of(reader, "p") == DATA[12:28]


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_the_magic_number_is_known_in_every_protocol(tmp_path, protocol):
    path = written(tmp_path, stream({"w": tensor(storage(numel=8))}, ["9"], counted(DATA), protocol=protocol))
    assert torch_legacy.sniff(probe(path))
    assert_as_pytorch(path)


def test_elements_are_little_endian_whatever_the_machine_was_as_pytorch_has_it(tmp_path):
    path = written(tmp_path, stream({"w": tensor(storage(numel=8))}, ["9"], counted(DATA), little_endian=False))
    assert_as_pytorch(path)


def test_storages_lie_in_the_order_of_the_list_of_keys(tmp_path):
    obj = {"a": tensor(storage("1")), "b": tensor(storage("2"))}
    path = written(tmp_path, stream(obj, ["2", "1"], counted(DATA[:16]) + counted(DATA[16:])))
    assert_as_pytorch(path)
    with torch_legacy.open_reader(path) as reader:
        assert cases.data_of(reader, "b") == DATA[:16]


def test_old_classes_of_parameters_and_of_the_gpu_are_known(tmp_path):
    gpu = Persistent("storage", Global("torch.cuda", "FloatStorage"), "9", "cuda:0", 8, None)
    old = Call("torch._utils", "_rebuild_tensor", gpu, 2, (2, 2), (2, 1))
    obj = {
        "p": Call("torch.nn.parameter", "Parameter", old),
        "v": Call("torch.autograd.variable", "Variable", old, False),
    }
    path = written(tmp_path, stream(obj, ["9"], counted(DATA)))
    with torch_legacy.open_reader(path) as reader:
        assert cases.data_of(reader, "p") == cases.data_of(reader, "v") == DATA[8:24]


def test_several_objects_saved_into_one_file_are_the_first_as_for_pytorch(tmp_path):
    with open(tmp_path / "m.pt", "wb") as out:
        for value in (1.0, 2.0):
            torch.save({"w": torch.full((3,), value)}, out, _use_new_zipfile_serialization=False)
    assert_as_pytorch(tmp_path / "m.pt")


ONE = {"w": tensor(storage(numel=8))}


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (stream(ONE, ["9"], counted(DATA), magic=5), "magic number"),
        (stream(ONE, ["9"], counted(DATA), version=1002), "version"),
        (stream(ONE, [], b""), "lacks the storage '9'"),
        (stream(ONE, ["9", "9"], counted(DATA) * 2), "lists the storage"),
        (stream(ONE, ["9", "8"], counted(DATA) * 2), "lists the storage"),
        (stream(ONE, [9], counted(DATA)), "lists the storage"),
        (stream(ONE, [["9"]], counted(DATA)), "lists the storage"),
        (stream(ONE, {"9": 1}, counted(DATA)), "no list of storages"),
        (stream(ONE, "9", counted(DATA)), "no list of storages"),
        (stream(ONE, ["9"], counted(DATA[:28])), "has 7 elements"),
        (stream(ONE, ["9"], struct.pack("<q", -8) + DATA), "has -8 elements"),
        (stream(ONE, ["9"], struct.pack("<q", 1 << 62) + DATA), "elements in storage"),
        (stream(ONE, ["9"], counted(DATA)[:-1]), "the file ends"),
        (stream(ONE, ["9"], counted(DATA)[:5]), "the file ends"),
        (stream(ONE, ["9"], b""), "the file ends"),
        (stream({"w": tensor(storage(numel=1 << 40))}, ["9"], struct.pack("<q", 1 << 40)), "the file ends"),
        (stream({"w": tensor(storage(numel=8, part=("7", 6, 4)))}, ["9"], counted(DATA)), "refused"),
        (stream({"w": tensor(storage(numel=8, part=("7", -1, 4)))}, ["9"], counted(DATA)), "refused"),
        (stream({"w": tensor(storage(numel=8, part=("7", 4, 2)))}, ["9"], counted(DATA)), "beyond its storage"),
        (stream({"w": tensor(storage(numel=8, part=("7", 0)))}, ["9"], counted(DATA)), "refused"),
        (stream({"w": tensor(storage(numel=8, part=5))}, ["9"], counted(DATA)), "refused"),
        (stream({"w": tensor(storage(numel=8), 5)}, ["9"], counted(DATA)), "beyond its storage"),
        (
            stream({"a": tensor(storage(numel=8)), "b": tensor(storage(numel=4))}, ["9"], counted(DATA)),
            "two types or sizes",
        ),
        (
            stream(
                {"a": tensor(storage(numel=8)), "b": tensor(storage(numel=8, kind="IntStorage"))}, ["9"], counted(DATA)
            ),
            "two types or sizes",
        ),
        (stream({"w": tensor(cases.storage())}, ["0"], counted(DATA)), "refused"),
        (stream(Persistent("module", Global("torch", "Tensor"), "f.py", "code"), [], b""), "state_dict"),
        (stream(Call("os", "system", "true"), [], b""), "os.system, .*not run"),
    ],
)
def test_a_stream_that_lies_is_refused(tmp_path, data, match):
    with pytest.raises(FormatError, match=match):
        torch_legacy.open_reader(written(tmp_path, data))


def test_nothing_in_a_stream_is_run(tmp_path):
    sentinel = tmp_path / "ran"
    for module, name in (("os", "system"), ("posix", "system"), ("builtins", "eval"), ("subprocess", "call")):
        evil = cases.dumps(Call(module, name, f"touch {sentinel}"))
        clean = [pickle.dumps(torch_legacy.MAGIC, 2), pickle.dumps(1001, 2), pickle.dumps({}, 2), cases.dumps(ONE)]
        for place in range(5):
            parts = [*clean[:place], evil, *clean[place:]]
            with pytest.raises(FormatError, match="not run"):
                torch_legacy.open_reader(written(tmp_path, b"".join(parts)))
    assert not sentinel.exists()


def test_damaged_files_end_in_a_format_error_or_are_read(tmp_path):
    rng = random.Random(30)
    weight = cases.random_tensor(torch.float32, (5, 7), 1)
    original = saved(tmp_path, {"w": weight, "t": weight.T, "a": np.arange(90.0), "n": {"x": [1, None]}}).read_bytes()
    views = stream({"w": tensor(storage(numel=8, part=("77", 3, 4)))}, ["9"], counted(DATA))
    good = 0
    for i in range(900):
        check = check_reader(torch_legacy.open_reader, written(tmp_path, damaged((original, views)[i % 2], rng)))
        good += check
    assert 0 < good < 900


@pytest.mark.parametrize(
    ("folder", "count"),
    [("nlpodyssey__gopickle", 20), ("elixir-nx__bumblebee", 6), ("PKSHATechnology-Research__camphr", 3)],
)
def test_real_files_are_read_as_pytorch_reads_them(fixtures_dir, folder, count):
    seen = 0
    for path in sorted((fixtures_dir / folder).rglob("*")):
        if path.suffix not in (".pt", ".bin") or not torch_legacy.sniff(probe(path)):
            continue
        seen += 1
        with torch_legacy.open_reader(path) as reader:
            cases.assert_reads(reader, cases.as_tensors(torch.load(path, weights_only=False)))
    assert seen == count
