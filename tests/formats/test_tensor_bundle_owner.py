"""Tensor bundles in both directions between TensorFlow and us."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from crc32c import crc32c
from hypothesis import Phase, given, settings

from interlingua.errors import FormatError
from interlingua.formats.base import BLOCK, TensorSpec, blocks
from interlingua.formats.dtypes import DTYPES, from_numpy_dtype
from interlingua.formats.registry import probe
from interlingua.formats.tensor_bundle import TensorBundleReader, open_reader, open_writer, sniff
from interlingua.formats.tensor_bundle_index import CODE_OF
from interlingua.formats.tensor_bundle_strings import parse_payload
from tests.formats.bundles import big_endian_bundle, entry, write_bundle
from tests.formats.strategies import ALL, PLAIN_NAMES, WILD_NAMES, Case, cases, equal_bits
from tests.frameworks import run_in

PREAMBLE = """
import json, pathlib, sys, zlib
import ml_dtypes, numpy as np, tensorflow as tf
root = pathlib.Path(sys.argv[1])
def array(dtype, shape, file):
    dtype = np.dtype(getattr(ml_dtypes, dtype, dtype))
    return np.frombuffer((root / file).read_bytes(), dtype).reshape(shape)
def save(prefix, names, tensors, slices=None):
    tf.raw_ops.SaveV2(prefix=str(root / prefix), tensor_names=names,
                      shape_and_slices=slices or [""] * len(names), tensors=tensors)
def restore(prefix, name, dtype):
    return tf.raw_ops.RestoreV2(prefix=str(root / prefix), tensor_names=[name], shape_and_slices=[""],
                                dtypes=[dtype])[0]
class Model(tf.Module):
    def __init__(self, seed):
        value = lambda *shape: np.random.default_rng(seed + len(shape)).normal(size=shape).astype("f")
        self.kernel = tf.Variable(value(3, 4), name="encoder/kernel")
        self.scale = tf.Variable(value(), name="scale")
        self.stack = [tf.Variable(value(2), name="stack_0"), {"deep/er.": tf.Variable(value(1, 2, 1), name="deep")}]
        self.by_name = {"a/b": tf.Variable(value(5), name="q"), ".": tf.Variable([1, 2], name="dot")}
        self.again = self.kernel
def build(seed):
    model = Model(seed)
    adam = tf.compat.v1.train.AdamOptimizer(0.1)
    adam.apply_gradients([(tf.ones_like(v), v) for v in (model.kernel, model.scale)])
    return model, adam
"""

WRITE = (
    PREAMBLE
    + """
for number, case in enumerate(json.loads((root / "cases.json").read_text())):
    case.sort(key=lambda row: row[0].encode())  # TensorFlow's own savers hand tensors over by name
    save(f"theirs-{number}", [name for name, *_ in case], [tf.constant(array(*rest)) for _, *rest in case])

rng = np.random.default_rng(0)
names = [f"layer_{n:04d}/" + "x" * int(rng.integers(0, 200)) for n in range(2500)] + ["y" * 600_000, "z/\\0/z"]
save("blocks", names, [tf.constant(n) for n in range(len(names))])
save("large", ["a", "b"], [tf.constant(np.arange(700_000, dtype="f4")), tf.constant(np.arange(99, dtype="u1"))])

strings = [[b""], [b"a", b"x" * 300, b"\\xff\\0"], [[b"1", b"2"], [b"3", b"4"]]]
save("strings", ["list", "matrix", "none", "one", "scalar"],
     [tf.constant(strings[1]), tf.constant(strings[2]), tf.constant([], tf.string), tf.constant(strings[0]),
      tf.constant(b"hello")])

whole = np.arange(6 * 5 * 4, dtype="f4").reshape(6, 5, 4)
cuts = {
    "rows": ["6 5 4 0,2:-:-", "6 5 4 5,1:-:-", "6 5 4 2,3:-:-"],
    "columns": ["6 5 4 -:0,3:-", "6 5 4 -:3,2:-"],
    "last": ["6 5 4 -:-:0,1", "6 5 4 -:-:1,3"],
    "grid": ["6 5 4 0,4:0,2:-", "6 5 4 4,2:0,2:-", "6 5 4 0,4:2,3:-", "6 5 4 4,2:2,3:-"],
    "spelt": ["6 5 4 0,6:0,2:0,4", "6 5 4 0,6:2,3:0,4"],
    "whole": ["6 5 4 -:-:-"],
}
names, slices, parts = [], [], []
for name, specs in cuts.items():
    for spec in specs:
        extents = [None if e == "-" else tuple(map(int, e.split(","))) for e in spec.split(" ")[-1].split(":")]
        names.append(name)
        slices.append(spec)
        parts.append(tf.constant(whole[tuple(slice(None) if e is None else slice(e[0], sum(e)) for e in extents)]))
names += ["long", "long", "fp64", "fp64"]
slices += ["70000 3 0,100:-", "70000 3 100,69900:-", "3 300 -:0,129", "3 300 -:129,171"]
tall, wide = np.arange(210_000, dtype="i8").reshape(70_000, 3), np.arange(900.).reshape(3, 300)
parts += map(tf.constant, (tall[:100], tall[100:], wide[:, :129], wide[:, 129:]))
save("sliced", names, parts, slices)

save("shard-a", ["a", "cut"], [tf.constant([1., 2.]), tf.constant(whole[:, :, :1])], ["", "6 5 4 -:-:0,1"])
save("shard-b", ["b", "cut"], [tf.constant([[3]]), tf.constant(whole[:, :, 1:])], ["", "6 5 4 -:-:1,3"])
save("shard-c", ["c"], [tf.constant(b"text")])
tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=[str(root / f"shard-{n}") for n in "abc"],
                              destination_prefix=str(root / "merged"), delete_old_dirs=False)

model, adam = build(1)
checkpoint = tf.train.Checkpoint(model=model, optimizer=adam)
checkpoint.save(str(root / "tf2" / "ckpt"))
checkpoint.write(str(root / "written"))
values = {}
reader = tf.train.load_checkpoint(str(root / "tf2" / "ckpt-1"))
for name in reader.get_variable_to_shape_map():
    value = reader.get_tensor(name)
    if not isinstance(value, bytes):
        values[name] = [value.dtype.name, list(value.shape), f"tf2-{len(values)}.bin"]
        (root / values[name][2]).write_bytes(value.tobytes())
(root / "tf2.json").write_text(json.dumps(values))

(root / "v1").mkdir()
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    for name in ("v", "b/kernel", "a", "b/kernel/adam_m", "B", "a10", "a9"):
        tf.compat.v1.get_variable(name, initializer=tf.constant([[1., 2., len(name)]]), use_resource=False)
    session.run(tf.compat.v1.global_variables_initializer())
    tf.compat.v1.train.Saver(write_version=1).save(session, str(root / "v1" / "model.ckpt"))
    tf.compat.v1.train.Saver().save(session, str(root / "v2" / "model.ckpt") if (root / "v2").mkdir() is None else "")
for number, name in enumerate(["plain", "gr\\u00f6\\u00dfe", 'q"u\\\\o\\'te', "tab\\t\\x01\\x7f\\n"]):
    folder = root / f"state-{number}"
    folder.mkdir()
    tf.train.Checkpoint(x=tf.Variable(1.)).write(str(folder / "w"))
    from tensorflow.python.checkpoint.checkpoint_management import update_checkpoint_state_internal
    update_checkpoint_state_internal(str(folder), name, [name], save_relative_paths=True)
    (folder / "name").write_text(name, newline="")

from tensorflow.core.framework import types_pb2
(root / "types.json").write_text(json.dumps({number: name for name, number in types_pb2.DataType.items()}))
real = {}
for folder in sys.argv[2:]:
    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(folder) or folder + "/bert_model.ckpt")
    for name in reader.get_variable_to_shape_map():
        value = reader.get_tensor(name)
        data = value if isinstance(value, bytes) else value.tobytes()
        real[folder + ":" + name] = [list(getattr(value, "shape", [])), zlib.crc32(data)]
(root / "real.json").write_text(json.dumps(real))
"""
)

READ = (
    PREAMBLE
    + """
checked = 0
for number, case in enumerate(json.loads((root / "cases.json").read_text())):
    reader = tf.train.load_checkpoint(str(root / f"ours-{number}"))
    assert set(reader.get_variable_to_shape_map()) == {name for name, *_ in case}
    for name, *rest in case:
        expected = array(*rest)
        value = restore(f"ours-{number}", name, tf.as_dtype(expected.dtype)).numpy()
        assert value.shape == expected.shape and value.tobytes() == expected.tobytes(), name
        checked += 1

for name, (dtype, shape, file) in json.loads((root / "big.json").read_text()).items():
    if dtype == "string":
        assert restore("big", name, tf.string).numpy().tolist() == [text.encode() for text in shape]
    else:
        assert restore("big", name, tf.as_dtype(array(dtype, shape, file).dtype)).numpy().tobytes() == array(
            dtype, shape, file).tobytes(), name
    checked += 1

values = json.loads((root / "tf2.json").read_text())
for prefix, with_optimizer in (("regraphed", True), ("carried", True), ("bare", False), ("uncounted", False)):
    model, adam = build(2)
    pieces = {"model": model, **({"optimizer": adam} if with_optimizer else {})}
    checkpoint = tf.train.Checkpoint(**pieces)
    if prefix == "uncounted":
        checkpoint.read(str(root / prefix)).assert_consumed().assert_existing_objects_matched()
    else:
        checkpoint.restore(str(root / prefix)).assert_consumed().assert_existing_objects_matched()
    found = {
        "model/kernel": model.kernel, "model/scale": model.scale, "model/stack/0": model.stack[0],
        "model/stack/1/deep.Ser..": model.stack[1]["deep/er."], "model/by_name/a.Sb": model.by_name["a/b"],
        "model/by_name/..": model.by_name["."],
    }
    if with_optimizer:
        for variable in ("kernel", "scale"):
            for slot in ("m", "v"):
                found[f"model/{variable}/.OPTIMIZER_SLOT/optimizer/{slot}"] = adam.get_slot(
                    getattr(model, variable), slot)
        found["optimizer/beta1_power"], found["optimizer/beta2_power"] = adam._get_beta_accumulators()
    if prefix != "uncounted":
        found["save_counter"] = checkpoint.save_counter
    expected = {name[: -len("/.ATTRIBUTES/VARIABLE_VALUE")] for name in values}
    if with_optimizer:
        assert set(found) == expected, set(found) ^ expected
    for name, variable in found.items():
        value = array(*values[name + "/.ATTRIBUTES/VARIABLE_VALUE"])
        assert variable.numpy().tobytes() == value.tobytes(), (prefix, name)
        checked += 1
    graph = tf.train.load_checkpoint(str(root / prefix)).get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH")
    from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph
    parsed = TrackableObjectGraph.FromString(graph)
    assert all(node.has_checkpoint_values.value for node in parsed.nodes), prefix
    (root / f"{prefix}.names").write_text(json.dumps(
        {a.checkpoint_key: a.full_name for node in parsed.nodes for a in node.attributes}))
assert tf.train.latest_checkpoint(str(root / "latest")) == str(root / "latest" / "model.ckpt")
(root / "checked").write_text(str(checked))
"""
)

REAL = (
    "CyberZHG__keras-bert/tests/test_checkpoint",
    "google-deepmind__sonnet/sonnet/src/conformance/checkpoints/mean_2x2",
    "keras-team__tf-keras/tf_keras/mixed_precision/testdata/lso_ckpt_tf2.2",
)

FLOAT8 = ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz")


def collected(count: int) -> list[Case]:
    """Checkpoints of every kind, drawn by hypothesis all at once: one process of TensorFlow then sees them all."""
    found: list[Case] = []

    @settings(max_examples=count, phases=[Phase.generate], database=None)
    @given(cases(ALL, PLAIN_NAMES | WILD_NAMES, min_size=1))
    def draw(case: Case) -> None:
        found.append(case)

    draw()
    extra = {name: np.arange(7).astype("u1").view(getattr(ml_dtypes, name)) for name in FLOAT8}
    return [*found, Case(extra), Case({f"layer_{n}": np.array([n]) for n in range(40)})]


def swappable(drawn: list[Case]) -> dict[str, np.ndarray]:
    """All arrays at once, but those that TensorFlow does not read from a machine of the other byte order."""
    arrays = {f"{number}/{name}": array for number, case in enumerate(drawn) for name, array in case.arrays.items()}
    return {name: array for name, array in arrays.items() if not array.dtype.name.startswith("float8")}


def dump(folder: Path, name: str, arrays: dict[str, np.ndarray]) -> list[tuple[str, str, Sequence[int], str]]:
    out = []
    for number, (key, array) in enumerate(arrays.items()):
        (folder / f"{name}-{number}.bin").write_bytes(array.tobytes())
        out.append((key, array.dtype.name, array.shape, f"{name}-{number}.bin"))
    return out


@pytest.fixture(scope="module")
def drawn() -> list[Case]:
    return collected(60)


@pytest.fixture(scope="module")
def real(request: pytest.FixtureRequest) -> list[Path]:
    """Folders of real checkpoints; none where they are not here."""
    try:
        return [request.getfixturevalue("fixtures_dir") / name for name in REAL]
    except pytest.skip.Exception:
        return []


@pytest.fixture(scope="module")
def theirs(drawn: list[Case], real: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of what TensorFlow has written, and of what it has read of the real checkpoints."""
    folder = tmp_path_factory.mktemp("theirs")
    dumped = [dump(folder, f"case-{number}", case.arrays) for number, case in enumerate(drawn)]
    (folder / "cases.json").write_text(json.dumps(dumped))
    run_in("tensorflow", WRITE, folder, *real)
    return folder


def write(prefix: Path, arrays: dict[str, np.ndarray]) -> None:
    specs = Case(arrays).specs
    with open_writer(prefix, specs[::-1]) as writer:
        for name, array in arrays.items():
            writer.write(name, array.tobytes())
        writer.finish()


def read_blocks(reader: TensorBundleReader, name: str, size: int = BLOCK) -> bytes:
    nbytes = reader.tensors[name].nbytes
    out = memoryview(bytearray(nbytes))
    for start, length in blocks(nbytes, size):
        reader.read_into(name, start, out[start : start + length])
    data = bytes(out)
    expected = reader.expected_checksum(name)
    extents = reader.extents(name)
    assert (expected is None) == (extents is None)
    if extents is not None:
        assert expected == ("crc32c", crc32c(data))
        assert b"".join(e.file.read_at(e.offset, e.nbytes, "") for e in extents) == data
    return data


def copied(source: Path, target: Path, *, without: Sequence[str] = (), metadata: dict[str, str] | None = None) -> None:
    """Copy a bundle tensor by tensor through our reader and writer."""
    with open_reader(source) as reader:
        specs = [spec for name, spec in reader.tensors.items() if name not in without]
        with open_writer(target, specs, metadata=metadata) as writer:
            for spec in specs:
                writer.write(spec.name, read_blocks(reader, spec.name))
            writer.finish()


def files_of(prefix: Path) -> dict[str, bytes]:
    return {p.name[len(prefix.name) :]: p.read_bytes() for p in prefix.parent.glob(prefix.name + ".[id]*")}


def test_what_tensorflow_writes_is_read_to_the_bit(drawn: list[Case], theirs: Path) -> None:
    for number, case in enumerate(drawn):
        with open_reader(theirs / f"theirs-{number}") as reader:
            assert list(reader.tensors) == sorted(case.arrays, key=str.encode)
            for name, array in case.arrays.items():
                assert reader.tensors[name] == TensorSpec(name, from_numpy_dtype(array.dtype), array.shape)
                assert equal_bits(reader.read(name), array)
                assert read_blocks(reader, name, 13) == array.tobytes()
            assert reader.full_names == {}


def test_what_we_write_is_to_the_byte_what_tensorflow_writes(drawn: list[Case], theirs: Path, tmp_path: Path) -> None:
    for number, case in enumerate(drawn):
        folder = tmp_path / str(number)
        folder.mkdir()
        write(folder / "ours", case.arrays)
        assert files_of(folder / "ours") == files_of(theirs / f"theirs-{number}")


@pytest.mark.parametrize("name", ["blocks", "large", "strings", "v2/model.ckpt"])
def test_copies_are_to_the_byte_what_tensorflow_wrote(theirs: Path, tmp_path: Path, name: str) -> None:
    """Blocks of the index, long keys, blocks of data, strings, what a Saver writes."""
    copied(theirs / name, tmp_path / "copy")
    assert files_of(tmp_path / "copy") == files_of(theirs / name)


def test_element_types_have_tensorflows_numbers_and_names(theirs: Path, tmp_path: Path) -> None:
    names = {"half": "float16", "float": "float32", "double": "float64"}
    numbers = json.loads((theirs / "types.json").read_text())
    known = {int(number): name.removeprefix("DT_").lower() for number, name in numbers.items() if 0 < int(number) < 100}
    for name, number in CODE_OF.items():
        assert names.get(known[number], known[number]) == name
    for number in set(known) - set(CODE_OF.values()):
        with pytest.raises(FormatError, match=f"'a' is of the element type {known[number]}, which is not read"):
            open_reader(write_bundle(tmp_path / "m", {b"a": entry(number)}, bytes(4)))


def test_real_checkpoints_are_read_as_tensorflow_reads_them(theirs: Path, real: list[Path]) -> None:
    if not real:
        pytest.skip("the folder of real checkpoints is not here")
    ours = {}
    for folder in real:
        assert sniff(probe(folder))
        with open_reader(folder) as reader:
            for name, spec in reader.tensors.items():
                data = read_blocks(reader, name)
                strings = parse_payload(
                    lambda at, n, data=data: data[at : at + n], len(data), 1, big_endian=False, what=name, path=folder
                ) if spec.dtype is DTYPES["string"] else None  # fmt: skip
                start = 0 if strings is None else strings.head
                ours[f"{folder}:{name}"] = [list(spec.shape), zlib.crc32(data[start:])]
    assert ours == json.loads((theirs / "real.json").read_text())


def test_strings_are_carried_with_their_payload(theirs: Path) -> None:
    with open_reader(theirs / "strings") as reader:
        shapes = {name: spec.shape for name, spec in reader.tensors.items()}
        assert shapes == {"list": (3,), "matrix": (2, 2), "none": (0,), "one": (1,), "scalar": ()}
        assert all(spec.dtype is DTYPES["string"] for spec in reader.tensors.values())
        assert reader.tensors["scalar"].nbytes == reader.tensors["scalar"].encoded == 1 + 4 + 5
        assert read_blocks(reader, "scalar", 3)[5:] == b"hello"
        assert read_blocks(reader, "list")[4 + 4 :] == b"a" + b"x" * 300 + b"\xff\0"


def test_partitioned_variables_are_joined(theirs: Path) -> None:
    whole = np.arange(6 * 5 * 4, dtype="f4").reshape(6, 5, 4)
    expected = dict.fromkeys(("columns", "grid", "last", "rows", "spelt", "whole"), whole)
    expected["long"] = np.arange(210_000, dtype="i8").reshape(70_000, 3)
    expected["fp64"] = np.arange(900.0).reshape(3, 300)
    with open_reader(theirs / "sliced") as reader:
        assert set(reader.tensors) == set(expected)
        for name, array in expected.items():
            assert equal_bits(reader.read(name), array)
            assert read_blocks(reader, name, array.nbytes // 100 + 7) == array.tobytes()
        runs = {name: None if (e := reader.extents(name)) is None else len(e) for name in expected}
        assert runs == {
            "columns": None, "grid": None, "last": None, "rows": 3, "spelt": None, "whole": 1, "long": 2, "fp64": None
        }  # fmt: skip


def test_several_shards_are_one_checkpoint(theirs: Path) -> None:
    assert len(list(theirs.glob("merged.data-*-of-00003"))) == 3
    whole = np.arange(6 * 5 * 4, dtype="f4").reshape(6, 5, 4)
    for name in ("merged", "merged.index", "merged.data-00001-of-00003"):
        with open_reader(theirs / name) as reader:
            assert list(reader.tensors) == ["a", "b", "c", "cut"]
            assert equal_bits(reader.read("a"), np.array([1, 2], "f4"))
            assert equal_bits(reader.read("b"), np.array([[3]], "i4"))
            assert equal_bits(reader.read("cut"), whole)
            assert read_blocks(reader, "c")[5:] == b"text"


def test_the_object_graph_gives_full_names(theirs: Path) -> None:
    with open_reader(theirs / "tf2") as reader:
        names = {key.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE"): name for key, name in reader.full_names.items()}
    assert names == {
        "model/kernel": "encoder/kernel",
        "model/scale": "scale",
        "model/stack/0": "stack_0",
        "model/stack/1/deep.Ser..": "deep",
        "model/by_name/a.Sb": "q",
        "model/by_name/..": "dot",
        "model/kernel/.OPTIMIZER_SLOT/optimizer/m": names["model/kernel/.OPTIMIZER_SLOT/optimizer/m"],
        "model/kernel/.OPTIMIZER_SLOT/optimizer/v": names["model/kernel/.OPTIMIZER_SLOT/optimizer/v"],
        "model/scale/.OPTIMIZER_SLOT/optimizer/m": names["model/scale/.OPTIMIZER_SLOT/optimizer/m"],
        "model/scale/.OPTIMIZER_SLOT/optimizer/v": names["model/scale/.OPTIMIZER_SLOT/optimizer/v"],
        "optimizer/beta1_power": "beta1_power",
        "optimizer/beta2_power": "beta2_power",
        "save_counter": "save_counter",
    }


def test_a_checkpoint_of_version_1_is_refused_with_what_to_do(theirs: Path) -> None:
    for path in (theirs / "v1", theirs / "v1" / "model.ckpt"):
        with pytest.raises(FormatError, match=r"version 1.*SaverDef\.V2"):
            open_reader(path)


def test_the_state_file_is_to_the_byte_what_tensorflow_writes(theirs: Path, tmp_path: Path) -> None:
    for number in range(4):
        name = (theirs / f"state-{number}" / "name").read_bytes().decode()
        folder = tmp_path / str(number)
        folder.mkdir()
        write(folder / name, {"x": np.zeros(1)})
        assert (folder / "checkpoint").read_bytes() == (theirs / f"state-{number}" / "checkpoint").read_bytes()
        with open_reader(folder) as reader:
            assert list(reader.tensors) == ["x"]


@pytest.fixture(scope="module")
def read_back(drawn: list[Case], theirs: Path) -> Path:
    """The folder, after TensorFlow has read and compared what we wrote there."""
    folder = theirs
    for number, case in enumerate(drawn):
        home = folder / f"home-{number}"
        home.mkdir()
        write(home / f"ours-{number}", case.arrays)
        for path in home.glob("ours-*"):
            path.rename(folder / path.name)
    big = swappable(drawn)
    strings = ["", "abc", "x" * 300]
    big_endian_bundle(folder / "big", {**big, "strings": [text.encode() for text in strings]})
    rows = {key: rest for key, *rest in dump(folder, "big", big)}
    (folder / "big.json").write_text(json.dumps({**rows, "strings": ["string", strings, ""]}))
    with open_reader(folder / "tf2") as reader:
        full_names = json.dumps(reader.full_names)
        keys = list(reader.tensors)
    graph, counter = "_CHECKPOINTABLE_OBJECT_GRAPH", "save_counter/.ATTRIBUTES/VARIABLE_VALUE"
    optimizer = [key for key in keys if "optimizer" in key]
    for name, without in (
        ("regraphed", [graph]),
        ("carried", []),
        ("bare", [graph, *optimizer]),
        ("uncounted", [graph, counter, *optimizer]),
    ):
        (folder / f"of-{name}").mkdir()
        target = folder / f"of-{name}" / name
        copied(folder / "tf2", target, without=without, metadata={"full_names": full_names})
        for path in target.parent.glob(name + ".*"):
            path.rename(folder / path.name)
    (folder / "latest").mkdir()
    write(folder / "latest" / "model.ckpt", {"x": np.zeros(3)})
    run_in("tensorflow", READ, folder)
    return folder


def test_tensorflow_reads_what_we_write_to_the_bit(drawn: list[Case], read_back: Path) -> None:
    assert int((read_back / "checked").read_text()) > 2 * sum(len(case.arrays) for case in drawn)


def test_tensorflow_restores_objects_from_the_graph_that_we_make(read_back: Path) -> None:
    """``assert_consumed`` held in its process; the graph names each variable as TensorFlow's own does."""
    own = json.loads((read_back / "carried.names").read_text())
    assert json.loads((read_back / "regraphed.names").read_text()) == own
    bare = json.loads((read_back / "bare.names").read_text())
    assert bare == {key: name for key, name in own.items() if "optimizer" not in key}


def test_big_endian_bundles_are_read_as_tensorflow_reads_them(
    drawn: list[Case], read_back: Path, tmp_path: Path
) -> None:
    with open_reader(read_back / "big") as reader:
        for name, array in swappable(drawn).items():
            assert read_blocks(reader, name, 13) == array.tobytes()
        payload = read_blocks(reader, "strings", 3)
        assert payload.endswith(b"abc" + b"x" * 300)
    copied(read_back / "big", tmp_path / "little")
    with open_reader(tmp_path / "little") as reader:
        assert read_blocks(reader, "strings") == payload
