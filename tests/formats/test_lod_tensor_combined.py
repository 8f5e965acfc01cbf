"""Paddle's combined parameter files, against Paddle."""

from __future__ import annotations

import os
import pickle
import random
import shutil
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlingua.errors import FormatError, MappingError, OutputError
from interlingua.formats import lod_tensor, lod_tensor_combined
from interlingua.formats.base import TensorSpec
from interlingua.formats.dtypes import DTYPES, FLOAT32
from interlingua.formats.lod_tensor_combined import open_reader, open_writer, program_beside, sniff
from interlingua.formats.paddle_program import encode_pir, encode_program
from interlingua.formats.registry import probe
from tests.formats import paddle_cases as cases
from tests.formats import strategies
from tests.formats.hostile import check_reader, damaged

FACTS = cases.random_facts({"layer_2.w_0": (3, 2), "fc_0.b_0": (3,), "fc_0.w_0": (4, 3), "layer_10.w_0": ()})
"""In the order that a program may have; sorted by characters, layer 10 comes before layer 2."""


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def streams(facts: cases.Facts, metadata: dict[str, str] | None = None) -> bytes:
    heads = {spec.name: lod_tensor.encode_head(spec) for spec in cases.specs_of(facts)}
    return b"".join(heads[name] + facts[name][2] for name in sorted(facts))


def read(path: Path) -> cases.Facts:
    with open_reader(path) as reader:
        return cases.read_facts(reader)


def refused(path: Path, *words: str) -> None:
    with pytest.raises(FormatError) as caught:
        open_reader(path)
    for word in words:
        assert word in str(caught.value)


# Paddle writes, we read

SAVE = """
paddle.enable_static()
main, start = paddle.static.Program(), paddle.static.Program()
with paddle.static.program_guard(main, start):
    x = hidden = paddle.static.data("x", [None, 4], "float32")
    for i in range(12):
        hidden = paddle.static.nn.fc(hidden, 4)
exe = paddle.static.Executor(paddle.CPUPlace())
exe.run(start)
paddle.static.save_inference_model(folder + "/m", [x], [hidden], exe, program=main)
is_parameter = lambda v: v.persistable and v.name not in ("feed", "fetch")
paddle.static.io.save_vars(exe, folder, main_program=main, predicate=is_parameter, filename="__params__")
names = [f"fc_{i}.{part}_0" for i in range(12) for part in "wb"]
answer = {name: facts(paddle.static.global_scope().find_var(name).get_tensor()) for name in names}
"""


@pytest.mark.parametrize("old_ir", [False, True])
def test_inference_models_of_paddle_are_read_with_the_names_of_their_program(tmp_path, old_ir):
    folder = cases.fresh(tmp_path)
    expected = cases.in_paddle(SAVE, None, folder, old_ir=old_ir)
    program = "m.pdmodel" if old_ir else "m.json"
    assert sniff(probe(folder / "m.pdiparams"))
    with open_reader(folder / "m.pdiparams") as reader:
        assert reader.objects == {"names": f"<from {program}>"}
        assert cases.read_facts(reader) == expected
        assert list(reader.tensors) == sorted(expected)
    shutil.copy(folder / program, folder / "__model__")
    assert read(folder / "__params__") == expected


LAYER = """
import paddle
class Model(paddle.nn.Layer):
    def __init__(self):
        super().__init__()
        self.dense = paddle.nn.Linear(4, 3)
    def forward(self, x):
        return self.dense(x)
"""

JIT = """
sys.path.insert(0, folder)
import layer_of_the_test
model = layer_of_the_test.Model()
model.eval()
paddle.jit.save(model, folder + "/m", input_spec=[paddle.static.InputSpec([None, 4], "float32")])
answer = {p.name: facts(p) for p in model.parameters()}
"""


def test_a_layer_saved_by_paddle_is_read(tmp_path):
    folder = cases.fresh(tmp_path)
    # Paddle translates the layer's source, which has to lie in a file.
    put(folder / "layer_of_the_test.py", LAYER.encode())
    expected = cases.in_paddle(JIT, None, folder)
    assert read(folder / "m.pdiparams") == expected


def test_structured_names_beside_the_file_are_told(tmp_path):
    path = put(tmp_path / "m.pdiparams", streams(FACTS))
    put(tmp_path / "m.pdmodel", encode_program(cases.specs_of(FACTS)))
    entries = {name: {"structured_name": f"layer.{name}", "trainable": True} for name in FACTS}
    put(tmp_path / "m.pdiparams.info", pickle.dumps({**entries, "other": {}, "fc_0.b_0": {}}, protocol=2))
    with open_reader(path) as reader:
        assert reader.structured_names == {name: f"layer.{name}" for name in FACTS if name != "fc_0.b_0"}
        assert reader.objects["structured_names"] == reader.structured_names
    put(tmp_path / "m.pdiparams.info", pickle.dumps([]))
    refused(path, "m.pdiparams.info", "no table")
    put(tmp_path / "m.pdiparams.info", pickle.dumps(print))
    refused(path, "m.pdiparams.info", "not run")


def test_the_fixture_holds_what_paddle_says(fixtures_dir, tmp_path):
    source = fixtures_dir / "PaddlePaddle__Paddle-Lite/PaddleLite-generic-demo/tools/model_utilities/simple_model"
    assert sniff(probe(source / "model.pdiparams"))
    found = read(source / "model.pdiparams")
    assert {name: shape for name, (_, shape, _) in found.items()} == {
        **dict.fromkeys(["conv1_bn_mean", "conv1_bn_offset", "conv1_bn_scale", "conv1_bn_variance"], (32,)),
        "conv1_weights": (32, 3, 3, 3),
    }
    assert found == cases.in_paddle(
        LOAD, list(found), shutil.copytree(source, tmp_path / "copy") / "model", old_ir=True
    )


# We write, Paddle reads

LOAD = """
paddle.enable_static()
exe = paddle.static.Executor(paddle.CPUPlace())
paddle.static.load_inference_model(folder, exe)
answer = {name: facts(paddle.static.global_scope().find_var(name).get_tensor()) for name in given}
"""

LOAD_ALL = """
paddle.enable_static()
answer = []
for i, names in enumerate(given):
    with paddle.static.scope_guard(paddle.static.Scope()):
        exe = paddle.static.Executor(paddle.CPUPlace())
        paddle.static.load_inference_model(f"{folder}/{i}/m", exe)
        scope = paddle.static.global_scope()
        answer.append({name: facts(scope.find_var(name).get_tensor()) for name in names})
"""


@pytest.mark.parametrize("old_ir", [False, True])
@settings(max_examples=2)
@given(cases.CASES)
def test_paddle_loads_what_we_write_by_the_programs_beside_it(tmp_path, old_ir, checkpoints):
    folder = cases.fresh(tmp_path)
    expected = [cases.facts_of(case) for case in checkpoints]
    for i, facts in enumerate(expected):
        (folder / str(i)).mkdir()
        cases.write_facts(open_writer(folder / str(i) / "m.pdiparams", cases.specs_of(facts)), facts)
    found = cases.in_paddle(LOAD_ALL, [list(facts) for facts in expected], folder, old_ir=old_ir)
    assert found == expected


def test_paddle_loads_a_layer_from_what_we_write(tmp_path):
    folder = cases.fresh(tmp_path)
    cases.write_facts(open_writer(folder / "m.pdiparams", cases.specs_of(FACTS)), FACTS)
    code = "answer = sorted(facts(p) for p in paddle.jit.load(folder + '/m').parameters())"
    assert cases.in_paddle(code, None, folder) == sorted(FACTS.values())


# Without Paddle


@settings(max_examples=60)
@given(strategies.cases(cases.DTYPE_NAMES, strategies.WILD_NAMES, min_size=1))
def test_what_is_written_is_read_again_and_sorted_by_name(tmp_path, case):
    folder = cases.fresh(tmp_path)
    facts = cases.facts_of(case)
    for name in ("m.pdiparams", "__params__", "params"):
        cases.write_facts(open_writer(folder / name, case.specs), facts)
        with open_reader(folder / name) as reader:
            assert cases.read_facts(reader) == facts
            assert list(reader.tensors) == sorted(facts)
            assert reader.metadata == {}
        assert (folder / name).read_bytes() == streams(facts)
        assert sniff(probe(folder / name))
        assert not lod_tensor.sniff(probe(folder / name))


@pytest.mark.parametrize(
    ("name", "programs"),
    [
        ("m.pdiparams", ["m.pdmodel", "m.json"]),
        ("__params__", ["__model__"]),
        ("params", ["model"]),
        ("m", ["m.pdmodel", "m.json"]),
    ],
)
def test_the_programs_written_are_told_with_the_file(tmp_path, name, programs):
    with open_writer(tmp_path / name, cases.specs_of(FACTS)) as writer:
        assert writer.paths == tuple(tmp_path / file for file in (name, *programs))
        assert all(path.is_file() for path in writer.paths)


def test_the_json_program_is_read_where_it_is_the_only_one(tmp_path):
    cases.write_facts(open_writer(tmp_path / "m.pdiparams", cases.specs_of(FACTS)), FACTS)
    (tmp_path / "m.pdmodel").unlink()
    with open_reader(tmp_path / "m.pdiparams") as reader:
        assert cases.read_facts(reader) == FACTS
        assert reader.objects["names"] == "<from m.json>"


def test_without_a_program_the_tensors_are_numbered_and_that_is_said(tmp_path):
    path = put(tmp_path / "weights", streams(FACTS))
    put(tmp_path / "weights.json", b'{"hidden_size": 4}')
    with open_reader(path) as reader:
        found = cases.read_facts(reader)
        assert "numbered" in str(reader.objects["names"])
    assert found == {f"stream.{i}": FACTS[name] for i, name in enumerate(sorted(FACTS))}


def test_a_file_whose_name_leaves_no_room_for_an_ending_is_read(tmp_path):
    path = put(tmp_path / ("w" * 255), streams(FACTS))
    assert sniff(probe(path))
    assert len(read(path)) == len(FACTS)


def test_a_json_program_that_cannot_be_opened_is_no_program(tmp_path):
    path = put(tmp_path / "m.pdiparams", streams(FACTS))
    os.mkfifo(tmp_path / "m.json")
    assert program_beside(path) is None
    (tmp_path / "m.json").unlink()
    put(tmp_path / "m.json", b"{" * 50)
    assert program_beside(path) is None


def test_a_fluid_program_names_the_one_combined_file_beside_it_whatever_it_is_called(tmp_path):
    path = put(tmp_path / "weights", streams(FACTS))
    put(tmp_path / "__model__", encode_program(cases.specs_of(FACTS)))
    assert read(path) == FACTS


def test_one_stream_is_combined_only_where_its_program_says_so(tmp_path):
    facts = cases.random_facts({"w": (3,)})
    lone = put(tmp_path / "fluid/w", streams(facts))
    put(tmp_path / "fluid/__model__", encode_program(cases.specs_of(facts)))
    assert not sniff(probe(lone))
    assert lod_tensor.sniff(probe(lone))
    combined = put(tmp_path / "m.pdiparams", streams(facts))
    put(tmp_path / "m.json", encode_pir(cases.specs_of(facts)))
    assert sniff(probe(combined))
    assert not lod_tensor.sniff(probe(combined))
    assert read(combined) == facts


def test_levels_of_detail_are_written_again(tmp_path):
    facts = cases.random_facts({"w": (3,), "v": (3,)})
    metadata = {"w.lod": "[[0, 1, 3]]"}
    cases.write_facts(open_writer(tmp_path / "m", cases.specs_of(facts), metadata=metadata), facts)
    with open_reader(tmp_path / "m") as reader:
        assert cases.read_facts(reader) == facts
        assert reader.metadata == metadata
        assert reader.objects["w.lod"] == [[0, 1, 3]]


def test_equal_tensors_make_equal_files(tmp_path):
    for place in "xy":
        (tmp_path / place).mkdir()
        order = FACTS if place == "x" else dict(reversed(FACTS.items()))
        cases.write_facts(open_writer(tmp_path / place / "m.pdiparams", cases.specs_of(order)), order)
    for name in ("m.pdiparams", "m.pdmodel", "m.json"):
        assert (tmp_path / "x" / name).read_bytes() == (tmp_path / "y" / name).read_bytes()


def test_what_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(MappingError) as caught:
        open_writer(tmp_path / "m.pdiparams", [TensorSpec("odd", DTYPES["uint64"], ())])
    assert caught.value.names == ("odd",)
    with pytest.raises(MappingError, match="no text"):
        open_writer(tmp_path / "m.pdiparams", [TensorSpec("\udc80", FLOAT32, ())])
    with pytest.raises(OutputError, match="is the name of the program"):
        open_writer(tmp_path / "m.json", [TensorSpec("w", FLOAT32, ())])
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_over(tmp_path):
    put(tmp_path / "m.json", b"kept")
    with pytest.raises(OutputError, match="cannot be created"):
        open_writer(tmp_path / "m.pdiparams", [TensorSpec("w", FLOAT32, ())])
    with pytest.raises(OutputError, match="cannot be created"):
        open_writer(tmp_path / "m.pdiparams", [TensorSpec("w", FLOAT32, ())])
    assert (tmp_path / "m.json").read_bytes() == b"kept"


# Recognition


def test_other_files_are_not_recognised(tmp_path):
    lone = cases.random_facts({"w": (3,)})
    for name, data in {"lone": streams(lone), "zeros": bytes(5000), "empty": b"", "text": b"hello"}.items():
        assert not sniff(probe(put(tmp_path / name, data)))
    assert not sniff(probe(tmp_path))
    assert not sniff(probe(tmp_path / "missing"))


def test_a_file_cut_short_is_recognised_so_that_it_can_be_told(tmp_path):
    path = put(tmp_path / "m.pdiparams", streams(FACTS)[:-1])
    assert sniff(probe(path))
    refused(path, "m.pdiparams", "stream 3")
    put(tmp_path / "m.pdmodel", encode_program(cases.specs_of(FACTS)))
    put(tmp_path / "m.pdiparams", streams(FACTS)[:50])
    assert sniff(probe(path))
    refused(path, "stream 0" if len(streams(FACTS)[:50]) < 30 else "stream 1")


# Hostile files


def beside(folder: Path, facts: cases.Facts, data: bytes | None = None) -> Path:
    """A combined file of FACTS with a program that declares ``facts``."""
    put(folder / "m.pdmodel", encode_program(cases.specs_of(facts)))
    return put(folder / "m.pdiparams", streams(FACTS) if data is None else data)


def test_a_program_that_declares_fewer_or_more_tensors_is_refused(tmp_path):
    fewer = {name: what for name, what in FACTS.items() if name != "layer_2.w_0"}
    refused(beside(tmp_path, fewer), "m.pdmodel", "declares 3 tensors, and the file holds more")
    refused(
        beside(tmp_path, {**FACTS, "z": FACTS["fc_0.b_0"]}), "m.pdmodel", "declares 5 tensors, and the file holds 4"
    )
    refused(beside(tmp_path, FACTS, b""), "holds 0")


def test_a_program_of_other_shapes_is_refused(tmp_path):
    for shape in [(4, 4), (4,), (4, 3, 1)]:
        refused(beside(tmp_path, {**FACTS, "fc_0.w_0": ("float32", shape, b"")}), "'fc_0.w_0'", "[4, 3]")


def test_a_side_that_the_program_leaves_open_may_have_any_length(tmp_path):
    assert read(beside(tmp_path, {**FACTS, "fc_0.w_0": ("float32", (-1, 3), b"")})) == FACTS


def test_a_program_that_is_none_is_refused_by_name(tmp_path):
    path = put(tmp_path / "m.pdiparams", streams(FACTS))
    put(tmp_path / "m.pdmodel", b"\xff\xff\xff")
    refused(path, "m.pdmodel")


def test_an_empty_file_is_refused(tmp_path):
    refused(put(tmp_path / "m.pdiparams", b""), "is empty")


def test_streams_without_end_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(lod_tensor, "MAX_TENSORS", 10)
    one = struct.pack("<IQIi", 0, 0, 0, 4) + bytes([8, 5, 16, 0])
    refused(put(tmp_path / "m", one * 11), "more than 10")


def test_a_huge_file_of_zeros_is_refused_at_once(tmp_path):
    with (tmp_path / "m.pdiparams").open("wb") as file:
        file.truncate(1 << 40)
    refused(tmp_path / "m.pdiparams", "descriptor of 0 bytes")


def test_a_file_cut_anywhere_is_refused(tmp_path):
    whole = streams(FACTS)
    for length in range(len(whole)):
        refused(beside(tmp_path, FACTS, whole[:length]), "m.pdiparams")


@settings(max_examples=300)
@given(st.integers(0, 2**32))
def test_damaged_files_are_read_or_refused(tmp_path, seed):
    rng = random.Random(seed)
    folder = cases.fresh(tmp_path)
    specs = cases.specs_of(FACTS)
    name, encode = rng.choice([("m.pdmodel", encode_program), ("m.json", encode_pir), ("none", encode_pir)])
    program, data = encode(specs), streams(FACTS)
    put(folder / name, damaged(program, rng) if rng.random() < 0.5 else program)
    put(folder / "m.pdiparams", damaged(data, rng) if rng.random() < 0.8 else data)
    sniff(probe(folder / "m.pdiparams"))
    check_reader(open_reader, folder / "m.pdiparams", 32)


def test_the_program_beside_a_file_is_found_by_its_place(tmp_path):
    path = put(tmp_path / "m.pdiparams", streams(FACTS))
    assert program_beside(path) is None
    for name in ("__model__", "m.json", "m.pdmodel"):
        expected = put(tmp_path / name, encode_pir(cases.specs_of(FACTS)))
        assert program_beside(path) == expected
    assert lod_tensor_combined.program_beside(tmp_path / "m.json") == tmp_path / "m.pdmodel"
