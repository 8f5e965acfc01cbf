"""Writing tensor bundles."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from crc32c import crc32c
from hypothesis import given

from interlingua.errors import MappingError, OutputError
from interlingua.formats.base import Slot, TensorSpec, write_at
from interlingua.formats.dtypes import DTYPES
from interlingua.formats.tensor_bundle import open_reader, open_writer
from interlingua.formats.tensor_bundle_strings import encode_payload
from interlingua.formats.tensor_bundle_writer import TensorBundleWriter
from interlingua.formats.trackable_graph import GRAPH_KEY
from tests.formats.strategies import ALL, WILD_NAMES, Case, cases, equal_bits

F32, STRING = DTYPES["float32"], DTYPES["string"]
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


def write(prefix: Path, arrays: dict[str, np.ndarray], **options: dict[str, str]) -> TensorBundleWriter:
    with open_writer(prefix, Case(arrays).specs, **options) as writer:
        for name, array in arrays.items():
            writer.write(name, array.tobytes())
        writer.finish()
    return writer


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@given(cases(ALL, WILD_NAMES))
def test_what_is_written_is_read(tmp_path: Path, case: Case) -> None:
    for path in tmp_path.iterdir():
        path.unlink()
    write(tmp_path / "m.ckpt", case.arrays)
    for path in (tmp_path, tmp_path / "m.ckpt", tmp_path / "m.ckpt.index"):
        with open_reader(path) as reader:
            assert list(reader.tensors) == sorted(case.arrays, key=str.encode)
            for name, array in case.arrays.items():
                assert equal_bits(reader.read(name), array)


def test_the_files_are_known_before_and_after(tmp_path: Path) -> None:
    writer = write(tmp_path / "m.ckpt", {"a": np.zeros(2)})
    assert set(writer.paths) == set(tmp_path.iterdir())
    assert sorted(path.name for path in writer.paths) == ["checkpoint", "m.ckpt.data-00000-of-00001", "m.ckpt.index"]
    assert (tmp_path / "checkpoint").read_text().startswith('model_checkpoint_path: "m.ckpt"\n')


def test_the_order_of_tensors_and_of_writing_changes_nothing(tmp_path: Path) -> None:
    arrays = {f"t{n}": np.arange(n, dtype="f4") for n in range(20)}
    for number, names in enumerate((list(arrays), list(arrays)[::-1])):
        (tmp_path / str(number)).mkdir()
        write(tmp_path / str(number) / "m", {name: arrays[name] for name in names})
    assert contents(tmp_path / "0") == contents(tmp_path / "1")


def test_tensors_may_be_written_from_threads_in_pieces(tmp_path: Path) -> None:
    arrays = {f"t{n}": np.full(1000 + n, n, dtype="f4") for n in range(16)}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    write(tmp_path / "a" / "m", arrays)

    def work(name: str) -> None:
        data = arrays[name].tobytes()
        with writer.slot(name) as slot:
            assert isinstance(slot, Slot)
            for start in range(0, len(data), 999):
                write_at(slot.fd, slot.offset + start, data[start : start + 999])
        writer.seal(name, crc32c(data))

    with open_writer(tmp_path / "b" / "m", Case(arrays).specs) as writer:
        threads = [threading.Thread(target=work, args=(name,)) for name in arrays]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        writer.finish()
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_empty_tensors_need_no_seal_but_others_do(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "m", [TensorSpec("a", F32, (0, 3)), TensorSpec("b", F32, ())])
    with writer, pytest.raises(ValueError, match="'b' was never sealed"):
        writer.finish()
    (tmp_path / "n").mkdir()
    with open_writer(tmp_path / "n" / "n", [TensorSpec("a", F32, (0, 3))]) as writer:
        writer.finish()
    with open_reader(tmp_path / "n") as reader:
        assert reader.read("a").shape == (0, 3)


def test_an_unfinished_bundle_is_none(tmp_path: Path) -> None:
    with open_writer(tmp_path / "m", [TensorSpec("a", F32, ())]) as writer:
        writer.write("a", bytes(4))
    assert (tmp_path / "m.index").read_bytes() == b""


@pytest.mark.usefixtures("holes")
def test_tensors_beyond_four_gigabytes_have_their_place(tmp_path: Path) -> None:
    last = np.arange(3, dtype="f4")
    specs = [TensorSpec("a", DTYPES["int8"], (5 << 30,)), TensorSpec("b", F32, (3,))]
    with open_writer(tmp_path / "m", specs) as writer:
        writer.seal("a", 0)
        writer.write("b", last.tobytes())
        writer.finish()
    with open_reader(tmp_path / "m") as reader:
        assert equal_bits(reader.read("b"), last)
        assert [extent.offset for extent in reader.extents("b") or ()] == [5 << 30]


@pytest.mark.parametrize("name", ["float4_e2m1fn", "int4", "float6_e2m3fn", "float8_e8m0fnu"])
def test_element_types_that_tensorflow_lacks_are_refused_with_the_tensors_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(MappingError, match=name) as caught:
        open_writer(tmp_path / "m", [TensorSpec("a", F32, ()), TensorSpec("b", DTYPES[name], (2,))])
    assert caught.value.names == ("b",)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "a\ud800"])
def test_names_that_tensorflow_cannot_have_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(MappingError, match="cannot hold a tensor of the name"):
        open_writer(tmp_path / "m", [TensorSpec(name, F32, ())])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["checkpoint", "m.index", "m.data-00000-of-00001"])
def test_files_that_are_there_are_not_written_over(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"mine")
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(OutputError, match="cannot be created"):
        open_writer(tmp_path / "m", [TensorSpec("a", F32, ())])
    assert (tmp_path / name).read_bytes() == b"mine"
    assert set(os.listdir("/proc/self/fd")) == before


def test_the_state_files_own_name_is_no_prefix(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="notes the newest checkpoint"):
        open_writer(tmp_path / "checkpoint", [TensorSpec("a", F32, ())])


def test_a_disk_that_fails_is_an_output_error(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "m", [TensorSpec("a", F32, ())])
    writer.write("a", bytes(4))
    os.close(writer._fds[1])
    writer._fds[1] = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(OutputError, match=r"m\.index: cannot be written: No space left"):
        writer.finish()
    writer.close()


def test_strings_are_written_as_they_came(tmp_path: Path) -> None:
    payload = encode_payload([b"abc", b"", b"x" * 300])
    spec = TensorSpec("s", STRING, (3,), len(payload))
    with open_writer(tmp_path / "m", [spec]) as writer:
        writer.write("s", payload)
        writer.finish()
    with open_reader(tmp_path / "m") as reader:
        out = bytearray(len(payload))
        reader.read_into("s", 0, memoryview(out))
        assert out == payload
        assert reader.tensors["s"] == spec


def test_strings_that_are_not_encoded_for_tensorflow_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match="has no element type string"):
        open_writer(tmp_path / "m", [TensorSpec("s", STRING, ())])
    for number, payload in enumerate((b"abcdefgh", b"\x03\0\0\0\0abc", b"\xff" * 20, encode_payload([b"a", b"b"]))):
        with open_writer(tmp_path / str(number), [TensorSpec("s", STRING, (), len(payload))]) as writer:
            writer.write("s", payload)
            with pytest.raises(MappingError, match="'s' is a tensor of strings that are not encoded") as caught:
                writer.finish()
            assert caught.value.names == ("s",)
        (tmp_path / "checkpoint").unlink()


def test_a_graph_is_made_for_paths_of_objects_and_nothing_else(tmp_path: Path) -> None:
    full_names = json.dumps({f"model/w{VALUE}": "encoder/w", "gone": "x"})
    for number, (names, has_graph) in enumerate(
        ((["bert/w"], False), ([f"model/w{VALUE}", f"save_counter{VALUE}"], True), (["bert/w", f"w{VALUE}"], True))
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        write(folder / "m", {name: np.zeros(2) for name in names}, metadata={"full_names": full_names, "format": "pt"})
        with open_reader(folder) as reader:
            assert (GRAPH_KEY in reader.tensors) is has_graph
            assert set(reader.tensors) - {GRAPH_KEY} == set(names)
            assert reader.full_names == ({f"model/w{VALUE}": "encoder/w"} if number == 1 else {})


def test_a_graph_that_is_there_is_kept(tmp_path: Path) -> None:
    payload = encode_payload([b"\x0a\x00"])
    specs = [TensorSpec(GRAPH_KEY, STRING, (), len(payload)), TensorSpec(f"w{VALUE}", F32, ())]
    with open_writer(tmp_path / "m", specs) as writer:
        writer.write(GRAPH_KEY, payload)
        writer.write(f"w{VALUE}", bytes(4))
        writer.finish()
    assert payload in (tmp_path / "m.data-00000-of-00001").read_bytes()


@pytest.mark.parametrize("text", ["", "no json", "[]", '"x"', '{"a": 1}', '{"a": {}}', "[" * 100_000, "1" * 5000])
def test_full_names_that_are_none_are_refused(tmp_path: Path, text: str) -> None:
    specs = [TensorSpec(f"w{VALUE}", F32, ())]
    with pytest.raises(MappingError, match="'full_names' is no JSON object"):
        open_writer(tmp_path / "m", specs, metadata={"full_names": text})
    open_writer(tmp_path / "m", [TensorSpec("w", F32, ())], metadata={"full_names": text}).close()


def test_a_path_that_cannot_be_restored_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match="cannot be the key"):
        open_writer(tmp_path / "m", [TensorSpec(f"a.b{VALUE}", F32, ())])
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_shared(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot share"):
        open_writer(tmp_path / "m", [TensorSpec("a", F32, ())], ties={"b": "a"})
