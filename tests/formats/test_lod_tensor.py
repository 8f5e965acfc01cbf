"""Paddle's tensor streams, one a file, against Paddle."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlingua.errors import FormatError, MappingError, OutputError
from interlingua.formats import lod_tensor
from interlingua.formats.base import TensorSpec
from interlingua.formats.dtypes import DTYPES, FLOAT32
from interlingua.formats.lod_tensor import LodTensorReader, VariableFile, open_reader, open_writer, sniff
from interlingua.formats.protobuf_wire import encode_bytes, encode_number
from interlingua.formats.registry import probe
from tests.formats import paddle_cases as cases
from tests.formats import strategies
from tests.formats.hostile import check_reader, damaged

FP32 = 5


def stream(data: bytes, dims: tuple[int, ...], code: int = FP32, lod: tuple[tuple[int, ...], ...] = ()) -> bytes:
    """A stream put together here, from the layout alone."""
    levels = b"".join(struct.pack(f"<Q{len(level)}Q", 8 * len(level), *level) for level in lod)
    desc = encode_number(1, code) + b"".join(encode_number(2, n) for n in dims)
    return struct.pack("<IQ", 0, len(lod)) + levels + struct.pack("<Ii", 0, len(desc)) + desc + data


SMALL = stream(bytes(range(24)), (2, 3))


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def refused(path: Path, *words: str) -> FormatError:
    with pytest.raises(FormatError) as caught:
        open_reader(path).close()
    message = str(caught.value)
    assert str(path) in message
    for word in words:
        assert word in message
    return caught.value


# Paddle writes, we read


@settings(max_examples=2)
@given(cases.CASES)
def test_lone_tensors_of_paddle_are_read_bit_for_bit(tmp_path, checkpoints):
    folder = cases.fresh(tmp_path)
    given_facts = [cases.facts_of(case) for case in checkpoints]
    cases.in_paddle(
        """
for i, checkpoint in enumerate(given):
    for j, (name, what) in enumerate(checkpoint.items()):
        paddle.save(tensor(*what), f"{folder}/{i}-{j}.pdtensor", use_binary_format=True)
""",
        given_facts,
        folder,
    )
    for i, checkpoint in enumerate(given_facts):
        for j, what in enumerate(checkpoint.values()):
            path = folder / f"{i}-{j}.pdtensor"
            assert sniff(probe(path))
            with open_reader(path) as reader:
                assert cases.read_facts(reader) == {f"{i}-{j}": what}


SAVE_VARS = """
paddle.enable_static()
main, start = paddle.static.Program(), paddle.static.Program()
with paddle.static.program_guard(main, start):
    hidden = paddle.static.nn.fc(paddle.static.data("x", [None, 4], "float32"), 3)
    paddle.static.nn.fc(hidden, 2, weight_attr=paddle.ParamAttr(name="encoder/layer_0/w"))
exe = paddle.static.Executor(paddle.CPUPlace())
exe.run(start)
is_parameter = lambda v: v.persistable and v.name not in ("feed", "fetch")
paddle.static.io.save_vars(exe, folder, main_program=main, predicate=is_parameter)
names = ["fc_0.w_0", "fc_0.b_0", "encoder/layer_0/w", "fc_1.b_0"]
answer = {name: facts(paddle.static.global_scope().find_var(name).get_tensor()) for name in names}
"""


@pytest.mark.parametrize("old_ir", [False, True])
def test_a_folder_of_variables_of_paddle_is_read_with_names_that_have_slashes(tmp_path, old_ir):
    folder = cases.fresh(tmp_path)
    expected = cases.in_paddle(SAVE_VARS, None, folder, old_ir=old_ir)
    assert sniff(probe(folder))
    with open_reader(folder) as reader:
        assert cases.read_facts(reader) == expected
        assert list(reader.tensors) == sorted(expected)
        assert reader.objects == {}


def test_levels_of_detail_of_paddle_are_read_and_written_again(tmp_path):
    folder = cases.fresh(tmp_path)
    cases.in_paddle(
        """
t = core.DenseTensor()
t.set(np.arange(6, dtype="float32").reshape(3, 2), core.CPUPlace())
t.set_lod([[0, 2], [0, 1, 3]])
core.save_dense_tensor(t, folder + "/words")
""",
        None,
        folder,
    )
    with open_reader(folder) as reader:
        assert reader.objects == {"words.lod": [[0, 2], [0, 1, 3]]}
        assert reader.metadata == {"words.lod": "[[0, 2], [0, 1, 3]]"}
        facts = cases.read_facts(reader)
        cases.write_facts(
            open_writer(tmp_path / "again", list(reader.tensors.values()), metadata=reader.metadata), facts
        )
    assert (tmp_path / "again/words").read_bytes() == (folder / "words").read_bytes()


# We write, Paddle reads


@settings(max_examples=2)
@given(cases.CASES)
def test_paddle_loads_the_folders_we_write_bit_for_bit(tmp_path, checkpoints):
    folder = cases.fresh(tmp_path)
    expected = [cases.facts_of(case) for case in checkpoints]
    for i, facts in enumerate(expected):
        cases.write_facts(open_writer(folder / str(i), cases.specs_of(facts)), facts)
    found = cases.in_paddle(
        "answer = [{k: facts(v) for k, v in paddle.load(f'{folder}/{i}').items()} for i in range(given)]",
        len(expected),
        folder,
    )
    assert found == expected


def test_paddle_loads_nested_names_as_a_program_state(tmp_path):
    folder = cases.fresh(tmp_path)
    facts = cases.random_facts(
        {"encoder/layer_0/w": (3, 2), "encoder/layer_0/b": (2,), "word_embedding": (7, 3), "s": ()}
    )
    cases.write_facts(open_writer(folder, cases.specs_of(facts)), facts)
    found = cases.in_paddle(
        "paddle.enable_static(); state = paddle.static.load_program_state(folder)\n"
        "answer = {name: facts(value) for name, value in state.items()}",
        None,
        folder,
        old_ir=True,
    )
    assert found == facts


# Without Paddle


@settings(max_examples=60)
@given(strategies.cases(cases.DTYPE_NAMES))
def test_what_is_written_is_read_again(tmp_path, case):
    folder = cases.fresh(tmp_path)
    facts = cases.facts_of(case)
    with open_writer(folder, case.specs) as writer:
        assert writer.paths == tuple(folder / name for name in facts)
        cases.write_facts(writer, facts)
    if not facts:
        refused(folder, "without a single")
        return
    with open_reader(folder) as reader:
        assert cases.read_facts(reader) == facts
        assert reader.metadata == {}
    for name, (dtype, shape, data) in facts.items():
        code = next(code for code, found in lod_tensor.CODES.items() if found.name == dtype)
        assert (folder / name).read_bytes() == stream(data, shape, code)


def test_the_worked_example_of_paddle_is_written_byte_for_byte(tmp_path):
    with open_writer(tmp_path / "params", [TensorSpec("pooled_fc.w_0", FLOAT32, (3, 4))]) as writer:
        writer.write("pooled_fc.w_0", bytes(48))
        writer.finish()
    head = bytes.fromhex("00000000 0000000000000000 00000000 06000000 08 05 10 03 10 04")
    assert (tmp_path / "params/pooled_fc.w_0").read_bytes() == head + bytes(48)


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2", "uint16", "uint32", "uint64", "string"])
def test_element_types_that_paddle_cannot_load_are_not_written(tmp_path, name):
    with pytest.raises(MappingError) as caught:
        open_writer(tmp_path / "params", [TensorSpec("odd", DTYPES[name], (2,))])
    assert caught.value.names == ("odd",)
    assert not (tmp_path / "params").exists()


@pytest.mark.parametrize(
    ("code", "name"), [(32, "float8_e4m3fn"), (33, "float8_e5m2"), (36, "uint16"), (37, "uint32"), (38, "uint64")]
)
def test_newer_element_types_are_read(tmp_path, code, name):
    size = 2 * DTYPES[name].itemsize
    with open_reader(put(tmp_path / "odd", stream(bytes(range(size)), (2,), code))) as reader:
        assert cases.read_facts(reader) == {"odd": (name, (2,), bytes(range(size)))}


def test_packed_dimensions_and_unknown_fields_of_a_descriptor_are_read(tmp_path):
    desc = encode_bytes(2, bytes([2, 3])) + encode_bytes(9, b"later") + encode_number(1, FP32)
    data = struct.pack("<IQIi", 0, 0, 0, len(desc)) + desc + bytes(24)
    with open_reader(put(tmp_path / "w", data)) as reader:
        assert reader.tensors["w"].shape == (2, 3)


def test_a_tensor_may_have_as_many_dimensions_as_numpy_allows(tmp_path):
    with open_reader(put(tmp_path / "w", stream(bytes(4), (1,) * 32))) as reader:
        assert reader.tensors["w"].shape == (1,) * 32


@pytest.mark.parametrize(
    ("file", "name"),
    [("fc_0.w_0", "fc_0.w_0"), ("emb.weight.pdtensor", "emb.weight"), ("word_embedding", "word_embedding")],
)
def test_a_lone_tensor_is_named_by_its_file_less_an_ending_that_says_tensor(tmp_path, file, name):
    with open_reader(put(tmp_path / file, SMALL)) as reader:
        assert list(reader.tensors) == [name]


def test_the_fixtures_hold_what_paddle_says(fixtures_dir, tmp_path):
    sources = [
        fixtures_dir / "PaddlePaddle__PARL/deepes/demo/paddle/cartpole_init_model",
        fixtures_dir / "PaddlePaddle__Serving/python/paddle_serving_server/env_check/fit_a_line/uci_housing_model",
    ]
    found = []
    for source in sources:
        assert sniff(probe(source))
        with open_reader(source) as reader:
            found.append(cases.read_facts(reader))
            assert {name for name in os.listdir(source) if name.startswith("fc_")} == set(found[-1])
            assert "__model__" in reader.objects
        shutil.copytree(source, tmp_path / "folder" / source.name)
    code = "answer = [{n: facts(paddle.load(f'{folder}/{d}/{n}')) for n in names} for d, names in given]"
    questions = [(source.name, list(facts)) for source, facts in zip(sources, found, strict=True)]
    assert cases.in_paddle(code, questions, tmp_path / "folder") == found


def test_files_that_are_no_streams_are_told_and_not_read(tmp_path):
    put(tmp_path / "d/fc.w_0", SMALL)
    put(tmp_path / "d/__model__", b"\x0a\x03abc")
    put(tmp_path / "d/empty", b"")
    put(tmp_path / "d/logs/train.log", b"step 1\n")
    with open_reader(tmp_path / "d") as reader:
        assert list(reader.tensors) == ["fc.w_0"]
        assert reader.objects == {
            "__model__": "<not a tensor: a file of 5 bytes that is no tensor stream>",
            "empty": "<not a tensor: an empty file>",
            "logs/train.log": "<not a tensor: a file of 7 bytes that is no tensor stream>",
        }


def test_a_reader_and_a_writer_need_few_descriptors_for_many_tensors(tmp_path):
    code = """
import resource, sys
from pathlib import Path
from interlingua.formats.lod_tensor import open_reader, open_writer
from interlingua.formats.base import TensorSpec
from interlingua.formats.dtypes import FLOAT32
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
specs = [TensorSpec(f"w_{i}", FLOAT32, (2,)) for i in range(300)]
with open_writer(Path(sys.argv[1]), specs) as writer:
    for i, spec in enumerate(specs):
        writer.write(spec.name, bytes([i % 256]) * 8)
    writer.finish()
with open_reader(Path(sys.argv[1])) as reader:
    for i, spec in enumerate(specs):
        view = memoryview(bytearray(8))
        reader.read_into(spec.name, 0, view)
        assert view == bytes([i % 256]) * 8
        with reader.extents(spec.name)[0].file.held() as fd:
            assert fd >= 0
"""
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= 64
    subprocess.run([sys.executable, "-c", code, tmp_path / "params"], check=True, cwd=Path(__file__).parents[2])


def test_a_descriptor_once_taken_stays_open_until_the_reader_is_closed(tmp_path):
    put(tmp_path / "d/w", SMALL)
    with open_reader(tmp_path / "d") as reader:
        (extent,) = reader.extents("w")
        fd = extent.file.fd
        assert extent.file.fd == fd
        reader.read("w")
        assert os.pread(fd, extent.nbytes, extent.offset) == bytes(range(24))
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


def test_a_file_that_is_replaced_while_it_is_read_is_refused(tmp_path):
    path = put(tmp_path / "d/w", SMALL)
    with open_reader(tmp_path / "d") as reader:
        put(tmp_path / "new", stream(bytes(24), (2, 3))).rename(path)
        with pytest.raises(FormatError, match="replaced"):
            reader.read("w")
        with pytest.raises(FormatError, match="replaced"):
            _ = reader.extents("w")[0].file.fd


def test_equal_tensors_make_equal_folders(tmp_path):
    facts = cases.random_facts({"a": (3,), "b/c": (2, 2), "d": ()})
    for place in "xy":
        cases.write_facts(open_writer(tmp_path / place, cases.specs_of(facts)), facts)
    for name in facts:
        assert (tmp_path / "x" / name).read_bytes() == (tmp_path / "y" / name).read_bytes()


# Names that are no file names


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/etc/passwd",
        "../up",
        "a/../../b",
        "a//b",
        "a/",
        "./a",
        ".",
        "..",
        "a\0b",
        "x" * 256,
        "é" * 128,
        "\udc80",
        "__model__",
    ],
)
def test_names_that_are_no_safe_paths_are_not_written(tmp_path, name):
    with pytest.raises(MappingError) as caught:
        open_writer(tmp_path / "d" / "params", [TensorSpec("good", FLOAT32, ()), TensorSpec(name, FLOAT32, ())])
    assert caught.value.names == (name,)
    assert not (tmp_path / "d").exists()


def test_a_name_that_is_another_names_folder_is_not_written(tmp_path):
    with pytest.raises(MappingError) as caught:
        open_writer(tmp_path / "params", [TensorSpec("a", FLOAT32, ()), TensorSpec("a/b", FLOAT32, ())])
    assert caught.value.names == ("a",)


def test_nothing_is_written_over(tmp_path):
    put(tmp_path / "params/old", b"kept")
    with pytest.raises(OutputError, match="not empty"):
        open_writer(tmp_path / "params", [TensorSpec("w", FLOAT32, ())])
    with pytest.raises(OutputError, match="cannot be created"):
        open_writer(tmp_path / "params/old", [TensorSpec("w", FLOAT32, ())])
    assert os.listdir(tmp_path / "params") == ["old"]


@pytest.mark.parametrize(
    "lod", ["{}", "[1]", "[[-1]]", "[[1.5]]", "[[true]]", "[" * 100000, "nonsense", json.dumps([[]] * 33)]
)
def test_metadata_that_is_no_level_of_detail_is_refused(tmp_path, lod):
    with pytest.raises(MappingError, match=r"w\.lod"):
        open_writer(tmp_path / "params", [TensorSpec("w", FLOAT32, ())], metadata={"w.lod": lod})


# Recognition


def test_streams_and_folders_of_them_are_recognised(tmp_path):
    assert sniff(probe(put(tmp_path / "lod", stream(bytes(24), (2, 3), lod=((0, 1, 2),)))))
    assert sniff(probe(put(tmp_path / "of_lod/w", stream(bytes(24), (2, 3), lod=((0, 1, 2),))).parent))
    put(tmp_path / "d/w", SMALL)
    put(tmp_path / "d/odd.pt", SMALL)
    put(tmp_path / "d/ernie_config.json", b"{}")
    assert sniff(probe(tmp_path / "d/w"))
    assert sniff(probe(tmp_path / "d"))


def test_a_stream_that_is_cut_short_is_recognised_so_that_it_can_be_told(tmp_path):
    path = put(tmp_path / "w", SMALL[:-1])
    assert sniff(probe(path))
    refused(path, "needs 24 bytes, but only 23")


def test_folders_that_belong_to_others_are_not_recognised(tmp_path):
    put(tmp_path / "parent/params/w", SMALL)
    assert not sniff(probe(tmp_path / "parent"))
    for other in ("model.safetensors", "pytorch_model.bin", "m.pdparams", "bert_model.ckpt.index", "model.ckpt"):
        folder = tmp_path / f"beside-{other}"
        put(folder / "w", SMALL)
        put(folder / other, b"something else")
        assert not sniff(probe(folder))
    for combined in ("__params__", "m.pdiparams"):
        assert not sniff(probe(put(tmp_path / f"of-{combined}" / combined, SMALL).parent))
    put(tmp_path / "none/readme.txt", b"hello")
    assert not sniff(probe(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    assert not sniff(probe(tmp_path / "empty"))
    assert not sniff(probe(tmp_path / "missing"))


@pytest.mark.parametrize(
    "data", [b"", bytes(4), bytes(20), bytes(4096), b"\x00\x01\x00\x00" + bytes(40), b"PK\x03\x04"]
)
def test_other_files_are_not_recognised(tmp_path, data):
    assert not sniff(probe(put(tmp_path / "f", data)))


# Hostile files


@settings(max_examples=300)
@given(st.integers(0, 2**32))
def test_damaged_streams_are_read_or_refused(tmp_path, seed):
    rng = random.Random(seed)
    lod = rng.choice([(), ((0, 1, 2),), ((0, 2), (0, 1, 3))])
    shape = rng.choice([(2, 3), (), (0,), (300,), (1, 2, 3, 4)])
    data = rng.randbytes(4 * int(np.prod(shape)))
    folder = cases.fresh(tmp_path)
    put(folder / "w", damaged(stream(data, shape, lod=lod), rng))
    put(folder / "good", SMALL)
    sniff(probe(folder))
    sniff(probe(folder / "w"))
    check_reader(open_reader, folder, 32)
    check_reader(open_reader, folder / "w", 32)


def test_a_stream_cut_anywhere_is_refused(tmp_path):
    whole = stream(bytes(range(24)), (2, 3), lod=((0, 1, 2),))
    for length in range(1, len(whole)):
        refused(put(tmp_path / "w", whole[:length]))
        refused_in_folder = put(tmp_path / f"d{length}/w", whole[:length])
        with pytest.raises(FormatError) as caught:
            open_reader(refused_in_folder.parent)
        assert str(refused_in_folder) in str(caught.value)


def with_bytes(at: int, data: bytes) -> bytes:
    return SMALL[:at] + data + SMALL[at + len(data) :]


ATTACKS = {
    "LoD version": with_bytes(0, b"\1"),
    "LoD levels": with_bytes(4, struct.pack("<Q", 2**63)),
    "tensor version": with_bytes(12, b"\1"),
    "descriptor of -1 bytes": with_bytes(16, struct.pack("<i", -1)),
    "descriptor of 0 bytes": with_bytes(16, struct.pack("<i", 0)),
    "descriptor of 2147483647 bytes": with_bytes(16, struct.pack("<i", 2**31 - 1)),
    "claims bytes": with_bytes(16, struct.pack("<i", 4000)),
    "element type 7": stream(b"", (1,), 7),
    "element type 19": stream(bytes(8), (1,), 19),
    "element type 18446744073709551615": stream(b"", (1,), -1),
    "element type None": struct.pack("<IQIi", 0, 0, 0, 2) + encode_number(2, 1) + bytes(4),
    "impossible shape": stream(b"", (-1,)),
    "needs": stream(bytes(4), (2**40,)),
    "more elements than any tensor": stream(bytes(4), (2**31, 2**31, 4)),
    "no natural number": stream(b"", (0, 2**62)),
    "too many dimensions": stream(bytes(4), (1,) * 33),
    "1 bytes behind": SMALL + b"\0",
}


@pytest.mark.parametrize("words", ATTACKS)
def test_lies_in_a_head_are_refused(tmp_path, words):
    refused(put(tmp_path / "w", ATTACKS[words]), words)


@pytest.mark.parametrize("nbytes", [7, 2**20 + 8, 2**62, 2**64 - 8])
def test_sizes_of_lod_levels_that_lie_are_refused(tmp_path, nbytes):
    refused(put(tmp_path / "w", struct.pack("<IQQ", 0, 1, nbytes) + bytes(64)), "LoD level")


def test_lod_levels_that_are_too_much_together_are_refused(tmp_path):
    level = struct.pack("<Q", 2**19) + bytes(2**19)
    refused(put(tmp_path / "w", struct.pack("<IQ", 0, 3) + 3 * level + bytes(64)), "LoD level")
    lod = (tuple(range(2**16)),)
    for i in range(3):
        put(tmp_path / f"d/w{i}", stream(bytes(4), (1,), lod=lod))
    refused(tmp_path / "d", "more LoD")


def test_a_huge_file_of_zeros_is_refused_at_once(tmp_path):
    path = tmp_path / "d" / "zeros"
    path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert not sniff(probe(path))
    assert not sniff(probe(path.parent))
    refused(path, "descriptor of 0 bytes")
    with pytest.raises(FormatError, match="descriptor of 0 bytes"):
        open_reader(path.parent)


def test_nothing_outside_of_the_folder_is_opened(tmp_path):
    put(tmp_path / "secret", SMALL)
    put(tmp_path / "other/w", SMALL)
    put(tmp_path / "d/w", SMALL)
    (tmp_path / "d/up").symlink_to("../secret")
    (tmp_path / "d/away").symlink_to("../other")
    (tmp_path / "d/self").symlink_to(".")
    (tmp_path / "d/gone").symlink_to("nowhere")
    (tmp_path / "d/loop").symlink_to("loop")
    (tmp_path / "d/same").symlink_to("w")
    os.mkfifo(tmp_path / "d/pipe")
    assert sniff(probe(tmp_path / "d"))
    with open_reader(tmp_path / "d") as reader:
        assert list(reader.tensors) == ["same", "w"]
        assert set(reader.objects) == {"up", "away", "self", "gone", "loop", "pipe"}
        assert "unreadable" in reader.objects["loop"]
        assert "out of the folder" in reader.objects["up"]


def test_a_name_that_is_no_utf_8_is_refused_for_a_tensor_only(tmp_path):
    folder = tmp_path / "d"
    put(folder / "w", SMALL)
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff")).write_bytes(b"no stream")
    with open_reader(folder) as reader:
        assert "\\xff" in reader.objects
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff")).write_bytes(SMALL)
    with pytest.raises(FormatError, match="not UTF-8"):
        open_reader(folder)


def test_a_folder_of_too_many_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(lod_tensor, "MAX_TENSORS", 5)
    for i in range(3):
        put(tmp_path / f"d/sub{i % 2}/w{i}", SMALL)
    with open_reader(tmp_path / "d") as reader:
        assert len(reader.tensors) == 3
    put(tmp_path / "d/sub1/w3", SMALL)
    with pytest.raises(FormatError, match="more than 5"):
        open_reader(tmp_path / "d")


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path, monkeypatch):
    def deny(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    put(tmp_path / "d/w", SMALL)
    monkeypatch.setattr(os, "scandir", deny)
    assert not sniff(probe(tmp_path / "d"))
    with pytest.raises(FormatError, match="Permission denied"):
        open_reader(tmp_path / "d")


def test_a_variables_file_is_checked_like_any_other(tmp_path):
    with pytest.raises(FormatError, match="cannot be opened"):
        VariableFile(tmp_path / "none")
    with pytest.raises(FormatError, match="not a regular file"):
        VariableFile(tmp_path)


def test_a_reader_that_fails_leaves_no_file_open(tmp_path):
    put(tmp_path / "d/w", SMALL[:-1])
    before = len(os.listdir("/proc/self/fd"))
    for path in (tmp_path / "d", tmp_path / "d/w"):
        with pytest.raises(FormatError):
            LodTensorReader(path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_names_that_all_lie_in_subfolders_are_refused(tmp_path):
    specs = [TensorSpec("scope/fc.w_0", FLOAT32, (2,)), TensorSpec("scope/fc.b_0", FLOAT32, (2,))]
    with pytest.raises(MappingError, match="directly in it"):
        open_writer(tmp_path / "params", specs)
    assert not (tmp_path / "params").exists()
