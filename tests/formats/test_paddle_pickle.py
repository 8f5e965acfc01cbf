"""Paddle's state dicts, against Paddle and against NumPy's own pickles."""

from __future__ import annotations

import collections
import json
import os
import pickle
import random
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlingua.errors import FormatError, MappingError, OutputError
from interlingua.formats import paddle_pickle, pickled_numpy
from interlingua.formats.base import TensorSpec
from interlingua.formats.dtypes import DTYPES, FLOAT32
from interlingua.formats.paddle_pickle import PaddlePickleReader, open_reader, open_writer, sniff
from interlingua.formats.registry import probe
from tests.formats import paddle_cases as cases
from tests.formats import strategies
from tests.formats.hostile import check_reader, damaged

NUMPY_DTYPES = tuple(name for name in (*strategies.ALL,) if name != "bfloat16")


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def pickled(tmp_path: Path, value: object, protocol: int = 4) -> Path:
    return put(tmp_path / "m.pdparams", pickle.dumps(value, protocol))


def read(path: Path) -> cases.Facts:
    with open_reader(path) as reader:
        return cases.read_facts(reader)


def refused(path: Path, *words: str) -> None:
    with pytest.raises(FormatError) as caught:
        open_reader(path)
    assert str(path) in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def facts_of_arrays(arrays: dict[str, np.ndarray]) -> cases.Facts:
    """What arrays hold, row-major and little-endian."""
    found = {}
    for name, array in arrays.items():
        plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)
        found[name] = plain.dtype.name, plain.shape, plain.tobytes()
    return found


# Paddle writes, we read


@settings(max_examples=2)
@given(cases.CASES)
def test_state_dicts_of_paddle_are_read_bit_for_bit_in_every_protocol(tmp_path, checkpoints):
    folder = cases.fresh(tmp_path)
    given_facts = [cases.facts_of(case) for case in checkpoints]
    cases.in_paddle(
        """
for i, checkpoint in enumerate(given):
    state = {name: tensor(*what) for name, what in checkpoint.items()}
    for j, value in enumerate(state.values()):
        value.name = f"parameter_{j}.w_0"
    for protocol in (2, 3, 4):
        paddle.save(state, f"{folder}/{i}.{protocol}", protocol=protocol)
""",
        given_facts,
        folder,
    )
    for i, facts in enumerate(given_facts):
        for protocol in (2, 3, 4):
            path = folder / f"{i}.{protocol}"
            assert sniff(probe(path))
            with open_reader(path) as reader:
                assert cases.read_facts(reader) == cases.as_stored(facts)
                assert list(reader.tensors) == list(facts)
                assert reader.parameter_names == {name: f"parameter_{j}.w_0" for j, name in enumerate(facts)}
                assert json.loads(reader.metadata["parameter_names"]) == reader.parameter_names
                assert reader.objects == {}
                if protocol > 2:
                    # Texts of protocol 2 have to be decoded; data so short that it was read is copied from memory.
                    assert all(reader.extents(name) for name, (_, _, data) in facts.items() if len(data) >= 256)


OBJECTS = """
t = {name: tensor(*what) for name, what in given.items()}
for name, value in t.items():
    value.name = f"p_{name}"
dense = core.DenseTensor()
dense.set(np.asarray(t["a"]), core.CPUPlace())
layer = paddle.nn.Linear(3, 2)
scheduler = paddle.optimizer.lr.NoamDecay(d_model=100, warmup_steps=100)
adam = paddle.optimizer.Adam(learning_rate=scheduler, parameters=layer.parameters())
layer(paddle.ones([1, 3])).sum().backward()
adam.step()
answer = {name: facts(value) for name, value in adam.state_dict().items() if name != "LR_Scheduler"}
for protocol in (2, 3, 4):
    def save(value, name):
        paddle.save(value, f"{folder}/{name}.{protocol}", protocol=protocol)
    args = {"lr": 0.5, "name": "run", "sizes": [1, 2]}
    save({"model": {"x": t["a"], "y": [t["b"], 3]}, "epoch": 7, "args": args}, "nested")
    save(t["a"], "lone")
    save([t["a"], t["b"]], "list")
    save((t["a"], {"b": t["b"]}), "tuple")
    save({"deep": {"dense": dense}, "more": [dense]}, "dense")
    save(dense, "lone_dense")
    save(adam.state_dict(), "adam")
    save({}, "empty")
    save(7, "number")
"""


def test_whatever_paddle_saves_is_read_with_names_that_are_paths(tmp_path):
    folder = cases.fresh(tmp_path)
    facts = cases.random_facts({"a": (3, 2), "b": (400,)})
    a, b = facts.values()
    adam = cases.in_paddle(OBJECTS, facts, folder)
    expected = {
        "nested": {"model.x": a, "model.y.0": b},
        "lone": {"tensor": a},
        "list": {"0": a, "1": b},
        "tuple": {"0": a, "1.b": b},
        "dense": {"deep.dense": a, "more.0": a},
        "lone_dense": {"tensor": a},
        "adam": adam,
        "empty": {},
        "number": {},
    }
    for protocol in (2, 3, 4):
        for name, tensors in expected.items():
            path = folder / f"{name}.{protocol}"
            assert sniff(probe(path)) == (name != "number")
            assert read(path) == tensors
        with open_reader(folder / f"nested.{protocol}") as reader:
            assert reader.parameter_names == {"model.x": "p_a", "model.y.0": "p_b"}
            assert reader.objects == {
                "model.y.1": 3,
                "epoch": 7,
                "args.lr": 0.5,
                "args.name": "run",
                "args.sizes": [1, 2],
            }
        with open_reader(folder / f"lone.{protocol}") as reader:
            assert reader.parameter_names == {"tensor": "p_a"}
        with open_reader(folder / f"adam.{protocol}") as reader:
            assert reader.objects["LR_Scheduler.last_epoch"] == 0
            assert isinstance(reader.objects["LR_Scheduler.last_lr"], float)
        with open_reader(folder / f"number.{protocol}") as reader:
            assert reader.objects == {"tensor": 7}


STATIC = """
paddle.enable_static()
main, start = paddle.static.Program(), paddle.static.Program()
with paddle.static.program_guard(main, start):
    paddle.static.nn.fc(paddle.static.data("x", [None, 4], "float32"), 300)
exe = paddle.static.Executor(paddle.CPUPlace())
exe.run(start)
paddle.static.save(main, folder + "/m")
answer = {name: facts(paddle.static.global_scope().find_var(name).get_tensor()) for name in ["fc_0.w_0", "fc_0.b_0"]}
"""


def test_parameters_of_a_program_are_read(tmp_path):
    folder = cases.fresh(tmp_path)
    expected = cases.in_paddle(STATIC, None, folder)
    assert read(folder / "m.pdparams") == expected
    with open_reader(folder / "m.pdopt") as reader:
        assert (reader.tensors, reader.objects) == ({}, {})


SLICED = """
import inspect
from paddle.framework import io, io_utils
# The very function, with a limit of 64 bytes in the place of 2**30 - 1.
source = inspect.getsource(io_utils._unpack_saved_dict)
assert "2**30 - 1" in source
exec(source.replace("2**30 - 1", "64"), io_utils.__dict__)
io._unpack_saved_dict = io_utils._unpack_saved_dict
for protocol in (2, 3):
    paddle.save({name: tensor(*what) for name, what in given.items()}, f"{folder}/m.{protocol}", protocol=protocol)
    loaded = paddle.load(f"{folder}/m.{protocol}")
    assert all(facts(loaded[name]) == what for name, what in given.items())
"""


def test_big_parameters_that_paddle_has_sliced_are_joined(tmp_path):
    folder = cases.fresh(tmp_path)
    facts = cases.random_facts({"a": (7, 11), "small": (3,), "b": (2, 3, 100), "scalar": ()})
    cases.in_paddle(SLICED, facts, folder)
    for protocol in (2, 3):
        assert b"UnpackBigParamInfor@@" in (folder / f"m.{protocol}").read_bytes()
        assert read(folder / f"m.{protocol}") == facts


def test_the_fixtures_hold_what_numpy_and_paddle_say(fixtures_dir, tmp_path):
    paths = sorted(fixtures_dir.glob("PaddlePaddle__*/**/*.pdparams"))
    assert len(paths) == 3
    loaded = cases.in_paddle(
        "answer = [{n: facts(v) for n, v in paddle.load(path).items()} for path in given]",
        [str(path) for path in paths],
        cases.fresh(tmp_path),
    )
    for path, expected in zip(paths, loaded, strict=True):
        assert sniff(probe(path))
        with open_reader(path) as reader:
            assert cases.read_facts(reader) == expected
            assert set(reader.parameter_names) == set(expected)
            # NumPy reads the same, and what Paddle made of the parameters' names is left out of it.
            plain = pickle.loads(path.read_bytes(), encoding="latin1")
            assert reader.parameter_names == plain.pop("StructuredToParameterName@@")
            assert cases.read_facts(reader) == facts_of_arrays(plain)


# We write, Paddle reads


@settings(max_examples=2)
@given(
    st.lists(strategies.cases((*cases.DTYPE_NAMES, "uint16"), strategies.WILD_NAMES, 1, 6), min_size=20, max_size=20)
)
def test_paddle_loads_what_we_write_bit_for_bit(tmp_path, checkpoints):
    folder = cases.fresh(tmp_path)
    expected = [cases.facts_of(case) for case in checkpoints]
    for i, facts in enumerate(expected):
        names = json.dumps({name: f"parameter_{j}" for j, name in enumerate(facts)})
        cases.write_facts(
            open_writer(folder / f"{i}.named", cases.specs_of(facts), metadata={"parameter_names": names}), facts
        )
        cases.write_facts(open_writer(folder / f"{i}.plain", cases.specs_of(facts)), facts)
    answer = cases.in_paddle(
        """
answer = []
for i in range(given):
    named, plain = paddle.load(f"{folder}/{i}.named"), paddle.load(f"{folder}/{i}.plain")
    assert all(isinstance(value, paddle.Tensor) for value in [*named.values(), *plain.values()])
    table = {name: value.name for name, value in named.items()}
    answer.append(({n: facts(v) for n, v in named.items()}, {n: facts(v) for n, v in plain.items()}, table))
""",
        len(expected),
        folder,
    )
    for facts, (named, plain, table) in zip(expected, answer, strict=True):
        # Paddle has no uint16 and takes all of it for bfloat16.
        facts = {n: ("bfloat16" if d == "uint16" else d, shape, data) for n, (d, shape, data) in facts.items()}
        assert named == plain == facts
        assert list(named) == list(facts)
        assert table == {name: f"parameter_{j}" for j, name in enumerate(facts)}


LAYER = """
layer = paddle.nn.Sequential(paddle.nn.Embedding(7, 300), paddle.nn.LayerNorm(300), paddle.nn.Linear(300, 70))
state = layer.state_dict()
if given is None:
    paddle.save(state, folder + "/m.pdparams")
else:
    missing, unexpected = layer.set_state_dict(paddle.load(folder + "/ours.pdparams"))
    assert not missing and not unexpected
answer = {name: facts(value) for name, value in layer.state_dict().items()}
"""


def test_a_layer_takes_what_we_write_and_the_file_is_byte_for_byte_paddles_own(tmp_path):
    folder = cases.fresh(tmp_path)
    expected = cases.in_paddle(LAYER, None, folder)
    with open_reader(folder / "m.pdparams") as reader:
        facts = cases.read_facts(reader)
        writer = open_writer(folder / "ours.pdparams", list(reader.tensors.values()), metadata=reader.metadata)
        cases.write_facts(writer, facts)
    assert facts == expected
    assert cases.in_paddle(LAYER, 1, folder) == expected
    if np.__version__.startswith("1."):
        assert (folder / "ours.pdparams").read_bytes() == (folder / "m.pdparams").read_bytes()


# Without Paddle


@settings(max_examples=60)
@given(strategies.cases((*cases.DTYPE_NAMES, "uint16"), strategies.WILD_NAMES))
def test_what_is_written_is_read_again(tmp_path, case):
    path = cases.fresh(tmp_path) / "m.pdparams"
    facts = cases.facts_of(case)
    cases.write_facts(open_writer(path, case.specs), facts)
    with open_reader(path) as reader:
        assert cases.read_facts(reader) == cases.as_stored(facts)
        assert reader.metadata == reader.objects == reader.parameter_names == {}
    assert list(pickle.loads(path.read_bytes())) == list(facts)


@settings(max_examples=60)
@given(
    st.dictionaries(strategies.WILD_NAMES, strategies.arrays(NUMPY_DTYPES), max_size=5),
    st.integers(0, 5),
    st.booleans(),
)
def test_plain_pickles_of_arrays_are_read_in_every_protocol_order_and_byte_order(tmp_path, arrays, protocol, swap):
    folder = cases.fresh(tmp_path)
    if swap:
        arrays = {name: array.astype(array.dtype.newbyteorder(">")) for name, array in arrays.items()}
    for order, kind in (("C", dict), ("F", collections.OrderedDict)):
        state = kind((name, np.array(array, order=order)) for name, array in arrays.items())
        assert read(put(folder / order, pickle.dumps(state, protocol))) == facts_of_arrays(arrays)


def test_large_arrays_of_odd_layouts_are_read_from_any_place_and_several_at_a_time(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {f"w{i}": np.asfortranarray(rng.standard_normal((100, 2000)).astype(">f4")) for i in range(12)}
    path = pickled(tmp_path, arrays, 2)
    with open_reader(path) as reader:
        for name, (_, _, data) in facts_of_arrays(arrays).items():
            assert reader.extents(name) is None
            for start in (799_990, 400_000, 0):
                view = memoryview(bytearray(10))
                reader.read_into(name, start, view)
                assert view == data[start : start + 10]
        assert len(reader._blocks) < len(arrays)


def test_pickles_of_python_2_are_read(tmp_path):
    data = bytes(range(250, 256)) + b"\x80\0\0\0ab"
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\0\x85U\x01btR(K\x01K\x03\x85cnumpy\ndtype\n"
        b"(U\x02f4K\0K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89U\x0c" + data + b"tb"
    )
    path = put(tmp_path / "m", b"\x80\x02}U\x01w" + array + b"s.")
    assert sniff(probe(path))
    assert read(path) == {"w": ("float32", (3,), data)}


def test_pairs_of_a_name_and_an_array_are_tensors_wherever_they_lie(tmp_path):
    array = np.arange(3)
    path = pickled(tmp_path, {"a": ("p_a", array), "b": [("p_b", array)], "c": ("x" * 300, array)})
    with open_reader(path) as reader:
        assert list(reader.tensors) == ["a", "b.0", "c"]
        assert reader.parameter_names == {"a": "p_a", "b.0": "p_b"}
    with open_reader(pickled(tmp_path, ("p", array))) as reader:
        assert list(reader.tensors) == ["tensor"]


def test_one_array_under_two_names_has_the_same_extents(tmp_path):
    array = np.arange(100.0)
    with open_reader(pickled(tmp_path, {"a": array, "b": array, "c": array.copy()})) as reader:
        assert reader.extents("a") == reader.extents("b") != reader.extents("c")


def test_numbers_of_numpy_are_objects(tmp_path):
    value = {"w": np.ones(2), "step": np.int64(7), "lr": np.float32(0.5), "none": None}
    with open_reader(pickled(tmp_path, value, 2)) as reader:
        assert list(reader.tensors) == ["w"]
        assert reader.objects == {"step": 7, "lr": 0.5, "none": None}


def test_long_texts_are_read_as_long_as_they_are_not_too_many(tmp_path, monkeypatch):
    texts = {f"t{i}": str(i) * 400 for i in range(9)}
    table = {"w": "p" * 300, "v": "p"}
    path = pickled(tmp_path, {"w": np.ones(2), **texts, "StructuredToParameterName@@": table})
    with open_reader(path) as reader:
        assert reader.objects == texts
        assert reader.parameter_names == {"v": "p"}
    monkeypatch.setattr(paddle_pickle, "_MAX_TEXT", 1000)
    with open_reader(path) as reader:
        assert [len(text) for text in reader.objects.values()] == [400, 400] + [len("<a text of 400 bytes>")] * 7


@pytest.mark.parametrize("name", ["uint32", "uint64", "float8_e4m3fn", "string", "int4"])
def test_element_types_that_paddle_cannot_load_are_not_written(tmp_path, name):
    with pytest.raises(MappingError) as caught:
        open_writer(tmp_path / "m", [TensorSpec("good", FLOAT32, ()), TensorSpec("odd", DTYPES[name], (2,))])
    assert caught.value.names == ("odd",)
    assert not (tmp_path / "m").exists()


def test_the_table_of_names_has_only_tensors_that_are_there(tmp_path):
    table = {"w": "p", "gone": "q"}
    with open_writer(
        tmp_path / "m", [TensorSpec("w", FLOAT32, ())], metadata={"parameter_names": json.dumps(table)}
    ) as w:
        w.write("w", bytes(4))
        w.finish()
    assert pickle.loads((tmp_path / "m").read_bytes())["StructuredToParameterName@@"] == {"w": "p"}


@pytest.mark.parametrize("table", ["[]", "nonsense", '{"w": 1}', "[" * 100000, '{"w": "\\ud800"}'])
def test_metadata_that_is_no_table_of_names_is_refused(tmp_path, table):
    with pytest.raises(MappingError):
        open_writer(tmp_path / "m", [TensorSpec("w", FLOAT32, ())], metadata={"parameter_names": table})
    assert not (tmp_path / "m").exists()


def test_a_name_that_is_no_text_and_a_file_that_exists_are_refused(tmp_path):
    with pytest.raises(MappingError, match="UTF-8"):
        open_writer(tmp_path / "m", [TensorSpec("\udc80", FLOAT32, ())])
    put(tmp_path / "m", b"kept")
    with pytest.raises(OutputError, match="cannot be created"):
        open_writer(tmp_path / "m", [TensorSpec("w", FLOAT32, ())])
    assert (tmp_path / "m").read_bytes() == b"kept"


def test_equal_tensors_make_equal_files(tmp_path):
    facts = cases.random_facts({"b": (300,), "a": (2, 2)})
    for name in "xy":
        cases.write_facts(open_writer(tmp_path / name, cases.specs_of(facts)), facts)
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()


@pytest.mark.usefixtures("holes")
def test_tensors_over_4_gib_are_written_and_read_where_they_lie(tmp_path):
    specs = [
        TensorSpec("before", FLOAT32, (3,)),
        TensorSpec("big", FLOAT32, (1 << 30, 2)),
        TensorSpec("after", FLOAT32, (3,)),
    ]
    path = tmp_path / "m.pdparams"
    with open_writer(path, specs) as writer:
        writer.write("before", b"before......")
        with writer.slot("big") as slot:
            os.pwrite(slot.fd, b"the end.", slot.offset + (1 << 33) - 8)
        writer.write("after", b"after.......")
        writer.finish()
    with open_reader(path) as reader:
        assert list(reader.tensors.values()) == specs
        (extent,) = reader.extents("big")
        assert extent.nbytes == 1 << 33
        view = memoryview(bytearray(8))
        reader.read_into("big", (1 << 33) - 8, view)
        assert view == b"the end."
        assert reader.read("after").tobytes() == b"after......."


# Recognition


def test_other_pickles_and_files_are_not_recognised(tmp_path):
    torch_magic = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."
    others = [
        b"",
        b"\x80",
        b"\x80\x04",
        torch_magic,
        pickle.dumps({"a": 1, "numpy": "numpy.core.multiarray _reconstruct"}),
        pickle.dumps([1, 2]),
        pickle.dumps((5, np.ones(2))),
        pickle.dumps("StructuredToParameterName"),
        b"PK\x03\x04" + bytes(100),
        b'{"a": 1}',
        b"}x",
        bytes(4096),
        b"\x89HDF\r\n\x1a\n",
        b"\x80\x04\x8e" + b"\xff" * 8,
    ]
    for data in others:
        assert not sniff(probe(put(tmp_path / "f", data)))
    assert not sniff(probe(tmp_path))
    assert not sniff(probe(tmp_path / "missing"))


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_arrays_are_recognised_by_their_start(tmp_path, protocol):
    for value in (
        {"w": np.ones(5000)},
        collections.OrderedDict(w=np.ones(5000)),
        [np.ones(5000)],
        ("p", np.ones(5000)),
        np.ones(5000),
        {"epoch": 3, "model": {"w": np.ones(2)}},
        {"StructuredToParameterName@@": {}},
    ):
        path = pickled(tmp_path, value, protocol)
        assert sniff(probe(path))


@settings(max_examples=300)
@given(st.binary(max_size=60), st.sampled_from([b"", b"\x80\x02}", b"\x80\x04\x95", b"(dp0\n", b"\x80\x04}\x94(\x8c"]))
def test_recognition_survives_any_bytes(tmp_path, data, start):
    sniff(probe(put(tmp_path / "f", start + data)))


# Hostile files


class Evil:
    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self) -> object:
        return self.call[0], self.call[1:]


def attacks(mark: Path) -> dict[str, object]:
    touch = f"open({str(mark)!r}, 'w')"
    array = np.arange(3)
    return {
        "os.system": Evil(os.system, f"touch {mark}"),
        "builtins.exec": Evil(exec, touch),
        "eval of code": Evil(eval, touch),
        "eval of code with the array": Evil(eval, touch, {"data": array}),
        "eval of other data": Evil(eval, "data", {"data": 5}),
        "eval with more names": Evil(eval, "data", {"data": array, "more": array}),
        "eval without names": Evil(eval, "data"),
        "eval with locals": Evil(eval, "data", {}, {"data": array}),
        "getattr": Evil(getattr, array, "tofile"),
        "open": Evil(open, str(mark), "w"),
        "an array of objects": np.array([{}], object),
        "an array of records": np.zeros(2, [("a", "f4")]),
        "an array of texts": np.array(["a"]),
        "a class of their own": Path("x"),
    }


@pytest.mark.parametrize("attack", list(attacks(Path())))
@pytest.mark.parametrize("protocol", [2, 4])
def test_nothing_in_a_file_is_ever_run(tmp_path, attack, protocol):
    mark = tmp_path / "it-was-run"
    for value in ({"w": np.ones(2), "x": attacks(mark)[attack]}, [attacks(mark)[attack]]):
        refused(pickled(tmp_path, value, protocol), "m.pdparams")
    assert not mark.exists()


SLICES = {"m@@.0": np.arange(4.0), "m@@.1": np.arange(2.0)}


def sliced(shape: object = (2, 3), slices: object = ("m@@.0", "m@@.1"), **more: object) -> dict[str, object]:
    return {**SLICES, **more, "UnpackBigParamInfor@@": {"m": {"OriginShape": shape, "slices": slices}}}


def test_slices_are_joined_in_the_order_of_their_table(tmp_path):
    with open_reader(pickled(tmp_path, sliced(slices=["m@@.1", "m@@.0"]))) as reader:
        assert reader.read("m").tolist() == [[0, 1, 0], [1, 2, 3]]
        ((_, _, data),) = cases.read_facts(reader).values()
        assert data == reader.read("m").tobytes()
        assert list(reader.tensors) == ["m"]


LIES = {
    "lacks 'm@@.2'": sliced(slices=["m@@.0", "m@@.1", "m@@.2"]),
    "uses it twice": sliced(slices=["m@@.0", "m@@.1", "m@@.1"], shape=(2, 4)),
    "lacks 'm'": sliced(slices=["m", "m@@.0"]),
    "lacks 7": sliced(slices=[7]),
    "slices of 6 elements": sliced(shape=(2, 4)),
    "of shape [1099511627776]": sliced(shape=(1 << 40,)),
    "impossible shape": sliced(shape=(-2, -3)),
    "impossible shape: a shape": sliced(shape=(1 << 63, 0)),
    "impossible shape: a shape cannot": sliced(shape="23"),
    "does not say which slices": sliced(slices=[]),
    "does not say which slices 'm' has": sliced(slices=None),
    "not flat": sliced(**{"m@@.1": np.ones((1, 2))}),
    "several types": sliced(**{"m@@.1": np.arange(2)}),
    "wrong entry, 'm'": sliced(m=np.ones(3)),
    "wrong entry, 7": {"UnpackBigParamInfor@@": {7: {}}},
    "wrong entry": {"UnpackBigParamInfor@@": {"m": []}},
    "for its table of slices": {"UnpackBigParamInfor@@": [1]},
    "for its table of parameter names": {"StructuredToParameterName@@": [1]},
    "something else than texts": {"StructuredToParameterName@@": {"w": 1}},
    "something else": {"StructuredToParameterName@@": {1: "w"}},
    "two tensors that would both be called 'a.b'": {"a.b": np.ones(2), "a": {"b": np.ones(2)}},
}


@pytest.mark.parametrize("words", LIES)
def test_tables_that_lie_are_refused(tmp_path, words):
    refused(pickled(tmp_path, LIES[words]), words)


def test_objects_that_hold_themselves_are_refused(tmp_path):
    loop: dict[str, object] = {"w": np.ones(2)}
    loop["again"] = loop
    refused(pickled(tmp_path, loop), "holds itself")
    twice: list[object] = [np.ones(2)]
    for _ in range(60):
        twice = [twice, twice]
    refused(pickled(tmp_path, twice), "too many")
    deep: list[object] = [np.ones(2)]
    for _ in range(80):
        deep = [deep]
    refused(pickled(tmp_path, deep), "too deep")


def test_one_array_under_very_many_names_is_refused(tmp_path):
    array = np.zeros(1 << 18)
    refused(pickled(tmp_path, {f"w{i}": array for i in range(200)}), "again")


def test_bytes_behind_the_pickle_are_refused(tmp_path):
    refused(put(tmp_path / "m", pickle.dumps({"w": np.ones(2)}) + b"\0"), "1 bytes behind")


def array_pickle(shape: bytes, length: int, data: bytes) -> bytes:
    state = (
        b"(K\x01(" + shape + b"tcnumpy\ndtype\n(X\x02\0\0\0f4\x89\x88tR\x89B" + struct.pack("<I", length) + data + b"tb"
    )
    return (
        b"\x80\x03}X\x01\0\0\0wcnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\0\x85C\x01btR" + state + b"s."
    )


@pytest.mark.parametrize(
    ("shape", "length"),
    [
        (b"K\x03", 2**31),
        (b"K\x03", 8),
        (b"K\x02", 12),
        (b"J\xff\xff\xff\xff", 12),
        (b"\x8a\x08" + b"\xff" * 7 + b"\x7f", 12),
        (b"K\x00\x8a\x08" + b"\xff" * 7 + b"\x7f", 0),
        (b"\x8a\x05\0\0\0\0\1" * 3, 12),
        (b"K\x01" * 40, 12),
        (b"\x88K\x03", 12),
        (b"G" + bytes(8), 12),
    ],
)
def test_shapes_and_lengths_that_lie_are_refused(tmp_path, shape, length):
    good = put(tmp_path / "good", array_pickle(b"K\x03", 12, bytes(12)))
    assert read(good) == {"w": ("float32", (3,), bytes(12))}
    refused(put(tmp_path / "bad", array_pickle(shape, length, bytes(min(length, 12)))))


@settings(max_examples=400)
@given(st.integers(0, 2**32))
def test_damaged_files_are_read_or_refused(tmp_path, seed):
    rng = random.Random(seed)
    arrays = {"w": np.arange(6.0).reshape(2, 3), "long": np.arange(300, dtype=">i2"), "f": np.ones((20, 20), order="F")}
    table = {"StructuredToParameterName@@": {"w": "p"}}
    value = rng.choice(
        [
            {**arrays, **table},
            sliced(),
            {"model": {"x": ("p", arrays["w"])}, "e": Evil(eval, "data", {"data": arrays["f"]})},
        ]
    )
    data = damaged(pickle.dumps(value, rng.choice([2, 3, 4])), rng)
    path = put(tmp_path / f"m{rng.random()}", data)
    sniff(probe(path))
    check_reader(open_reader, path, 64)
    path.unlink()


def test_texts_that_stand_for_other_bytes_are_refused_when_they_are_read(tmp_path):
    whole = pickle.dumps({"w": np.arange(1000)}, 2)
    text = np.arange(1000).tobytes().decode("latin-1").encode()
    at = whole.index(text) + 8
    assert whole[at : at + 2] == b"\1\0"
    for wrong in ("\u0100", "\x80"):
        data = whole[:at] + wrong.encode() + whole[at + 2 :]
        with open_reader(put(tmp_path / "m", data)) as reader, pytest.raises(FormatError, match="text"):
            reader.read("w")


def test_a_reader_that_fails_leaves_no_file_open(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    for data in (b"", b"\x80\x04", pickle.dumps({"w": np.ones(2)})[:-1]):
        with pytest.raises(FormatError):
            PaddlePickleReader(put(tmp_path / "m", data))
    assert len(os.listdir("/proc/self/fd")) == before


def test_beside_arrays_only_these_names_are_allowed():
    assert set(paddle_pickle.ALLOWED) - set(pickled_numpy.ALLOWED) == {
        *((module, name) for module in ("builtins", "__builtin__") for name in BUILTINS),
        ("collections", "OrderedDict"),
    }


BUILTINS = (
    *("bool", "bytearray", "bytes", "complex", "dict", "eval", "float", "frozenset", "int", "list", "long"),
    *("object", "set", "str", "tuple", "unicode"),
)
