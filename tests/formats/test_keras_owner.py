"""Keras' three kinds of file, both ways against Keras 3, tf_keras and transformers' TF classes.

Each framework is started twice for all its tests: once to write what we then read, once to load what we wrote.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from interlingua.formats import keras_archive, keras_hdf5, keras_weights_hdf5
from interlingua.formats.base import Reader, TensorSpec
from interlingua.formats.dtypes import DTYPES
from tests.formats.keras_models import KERAS, LEGACY_MODELS, TF_KERAS, TRANSFORMERS
from tests.frameworks import run_in

MODELS = ("plain", "functional", "many")

Dump = dict[str, tuple[str, tuple[int, ...], bytes]]


def load_dump(path: Path) -> Dump:
    return {
        name: (dtype, tuple(shape), bytes.fromhex(data))
        for name, (dtype, shape, data) in json.loads(path.read_text()).items()
    }


def dumped(reader: Reader, names: dict[str, str] | None = None) -> Dump:
    """What a reader has, in the form of a dump; with ``names`` (tensor -> name in the dump) only those."""
    found = {}
    for name, spec in reader.tensors.items():
        if names is None or name in names:
            found[name if names is None else names[name]] = (spec.dtype.name, spec.shape, reader.read(name).tobytes())
    return found


def by_layer(reader: keras_weights_hdf5.KerasWeightsReader) -> dict[str, str]:
    """Map tensors to ``<name of the layer>/<number>``, for all but the optimizer's."""
    found = {}
    for name in reader.tensors:
        group, _, number = name.rpartition("/")
        if not group.startswith("optimizer"):
            found[name] = f"{reader.names[group]}/{number}"
    return found


def fresh(specs: dict[str, TensorSpec], seed: int) -> dict[str, bytes]:
    """Random bits for every tensor: any at all for numbers, 0 or 1 for bools."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.integers(0, 2, spec.nbytes).astype("u1").tobytes()
        if spec.dtype.name == "bool"
        else rng.bytes(spec.nbytes)
        for name, spec in specs.items()
    }


def rewrite(module, reader: Reader, path: Path, seed: int = 0) -> Path:
    """Write other values under the names of a file that the framework wrote."""
    with module.open_writer(path, list(reader.tensors.values()), metadata=reader.metadata) as writer:
        for name, data in fresh(reader.tensors, seed).items():
            writer.write(name, data)
        writer.finish()
    return path


@pytest.fixture(scope="module")
def keras_files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("keras")
    save = """
for name, model in models().items():
    model.save_weights(f"{sys.argv[1]}/{name}.weights.h5")
    model.save(f"{sys.argv[1]}/{name}.keras")
    model.save(f"{sys.argv[1]}/{name}.h5")
    dump(f"{sys.argv[1]}/{name}.legacy.json", legacy(model))
    dump(f"{sys.argv[1]}/{name}.json", by_layer(model))
"""
    run_in("keras", KERAS + save, folder)
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_weights_that_keras_3_saves_are_read(keras_files, name):
    expected = load_dump(keras_files / f"{name}.json")
    for path, module in (
        (keras_files / f"{name}.weights.h5", keras_weights_hdf5),
        (keras_files / f"{name}.keras", keras_archive),
    ):
        with module.open_reader(path) as reader:
            assert dumped(reader, by_layer(reader)) == expected


@pytest.mark.parametrize("name", MODELS)
def test_models_that_keras_3_saves_as_h5_are_read(keras_files, name):
    expected = load_dump(keras_files / f"{name}.legacy.json")
    with keras_hdf5.open_reader(keras_files / f"{name}.h5") as reader:
        found = dumped(reader)
        weights = {key: value for key, value in found.items() if not key.startswith(keras_hdf5.OPTIMIZER)}
        assert weights == expected
        assert list(weights) == list(expected)
        assert (len(found) > len(weights)) == (name == "functional")
        assert reader.metadata["backend"] == "tensorflow"
        assert "@model_config" in reader.objects


def test_the_state_of_the_optimizer_is_not_lost(keras_files):
    with keras_weights_hdf5.open_reader(keras_files / "functional.weights.h5") as reader:
        extra = set(reader.tensors) - set(by_layer(reader))
        assert {name.rpartition("/")[0] for name in extra} == {"optimizer/vars"}
        assert reader.names["optimizer/vars"] == "adam"


def test_an_archive_and_its_weights_are_the_same(keras_files):
    with (
        keras_weights_hdf5.open_reader(keras_files / "plain.weights.h5") as weights,
        keras_archive.open_reader(keras_files / "plain.keras") as archive,
    ):
        assert archive.tensors == weights.tensors
        assert archive.names == weights.names
        assert dumped(archive) == dumped(weights)
        assert "everything" in archive.objects["config.json"]
        assert archive.metadata["keras_version"]


def test_keras_3_loads_what_we_write(keras_files, tmp_path):
    expected = {}
    for name in MODELS:
        with keras_weights_hdf5.open_reader(keras_files / f"{name}.weights.h5") as reader:
            rewrite(keras_weights_hdf5, reader, tmp_path / f"{name}.weights.h5")
            names = by_layer(reader)
        with keras_weights_hdf5.open_reader(tmp_path / f"{name}.weights.h5") as reader:
            expected[name] = dumped(reader, names)
    load = """
for name, model in models().items():
    model.load_weights(f"{sys.argv[1]}/{name}.weights.h5")
    dump(f"{sys.argv[1]}/{name}.json", by_layer(model))
"""
    run_in("keras", KERAS + load, tmp_path)
    for name in MODELS:
        assert load_dump(tmp_path / f"{name}.json") == expected[name]


def test_keras_3_loads_the_older_layout_that_we_write(tmp_path):
    """By order and by name, with the names of layers that have no weights left out or not."""
    save = """
for name, model in models(bfloat16=False).items():
    model.save(f"{sys.argv[1]}/{name}.h5", include_optimizer=False)
"""
    run_in("keras", KERAS + save, tmp_path)
    for name in MODELS:
        with keras_hdf5.open_reader(tmp_path / f"{name}.h5") as reader:
            rewrite(keras_hdf5, reader, tmp_path / f"{name}.order.h5", 1)
            reader.metadata = {}
            rewrite(keras_hdf5, reader, tmp_path / f"{name}.name.h5", 2)
    load = """
for name, model in models(bfloat16=False).items():
    for how in ("order", "name"):
        model.load_weights(f"{sys.argv[1]}/{name}.{how}.h5", by_name=how == "name")
        dump(f"{sys.argv[1]}/{name}.{how}.json", legacy(model))
"""
    run_in("keras", KERAS + load, tmp_path)
    for name in MODELS:
        for how in ("order", "name"):
            with keras_hdf5.open_reader(tmp_path / f"{name}.{how}.h5") as reader:
                assert load_dump(tmp_path / f"{name}.{how}.json") == dumped(reader)


@pytest.fixture(scope="module")
def tf_keras_files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tf_keras")
    save = """
for name, model in models().items():
    model.save(f"{sys.argv[1]}/{name}.h5")
    model.save_weights(f"{sys.argv[1]}/{name}_weights.h5")
    model.save_weights(f"{sys.argv[1]}/{name}.weights.h5")
    dump(f"{sys.argv[1]}/{name}.json", weights(model))
"""
    run_in("tf_keras", TF_KERAS + save, folder)
    return folder


@pytest.mark.parametrize("name", LEGACY_MODELS)
def test_models_and_weights_that_tf_keras_saves_are_read(tf_keras_files, name):
    expected = load_dump(tf_keras_files / f"{name}.json")
    for path in (tf_keras_files / f"{name}_weights.h5", tf_keras_files / f"{name}.h5"):
        with keras_hdf5.open_reader(path) as reader:
            found = {n: value for n, value in dumped(reader).items() if not n.startswith(keras_hdf5.OPTIMIZER)}
            assert found == expected
    with keras_weights_hdf5.open_reader(tf_keras_files / f"{name}.weights.h5") as reader:
        values = sorted(value for n, value in dumped(reader).items() if n.startswith("layers/"))
        assert values == sorted(expected.values())


def test_tf_keras_loads_what_we_write(tf_keras_files, tmp_path):
    for name in LEGACY_MODELS:
        with keras_hdf5.open_reader(tf_keras_files / f"{name}_weights.h5") as reader:
            reader.tensors = {n: spec for n, spec in reader.tensors.items() if spec.dtype != DTYPES["bfloat16"]}
            rewrite(keras_hdf5, reader, tmp_path / f"{name}.order.h5", 1)
            rewrite(keras_hdf5, reader, tmp_path / f"{name}.name.h5", 2)
    load = """
for name, model in models(bfloat16=False).items():
    for how in ("order", "name"):
        model.load_weights(f"{sys.argv[1]}/{name}.{how}.h5", by_name=how == "name")
        dump(f"{sys.argv[1]}/{name}.{how}.json", weights(model))
"""
    run_in("tf_keras", TF_KERAS + load, tmp_path)
    for name in LEGACY_MODELS:
        for how in ("order", "name"):
            with keras_hdf5.open_reader(tmp_path / f"{name}.{how}.h5") as reader:
                assert load_dump(tmp_path / f"{name}.{how}.json") == dumped(reader)


def test_transformers_tf_models_go_both_ways(tmp_path):
    """``tf_model.h5`` whole and in shards, whose ``layer_names`` are the weights' own."""
    save = """
model = build()
model.save_pretrained(f"{sys.argv[1]}/whole", safe_serialization=False)
model.save_pretrained(f"{sys.argv[1]}/shards", safe_serialization=False, max_shard_size="3KB")
dump(f"{sys.argv[1]}/saved.json", weights(model))
"""
    if run_in("tf_keras", TRANSFORMERS + save, tmp_path).strip() == "none":
        pytest.skip("the installed transformers has no TF classes")
    saved = load_dump(tmp_path / "saved.json")
    with keras_hdf5.open_reader(tmp_path / "whole/tf_model.h5") as reader:
        whole = {name.split("/", 2)[2]: value for name, value in dumped(reader).items()}
        assert {name.split("/", 1)[1]: value for name, value in saved.items()}.items() <= whole.items()
        written = rewrite(keras_hdf5, reader, tmp_path / "tf_model.h5", 3)
    written.replace(tmp_path / "whole/tf_model.h5")
    expected = {}
    shards = sorted((tmp_path / "shards").glob("*.h5"))
    assert len(shards) > 2
    for seed, shard in enumerate(shards):
        with keras_hdf5.open_reader(shard) as reader:
            assert dumped(reader).items() <= whole.items()
            rewrite(keras_hdf5, reader, tmp_path / shard.name, seed)
        (tmp_path / shard.name).replace(shard)
        with keras_hdf5.open_reader(shard) as reader:
            expected |= dumped(reader)
    load = """
for form in ("whole", "shards"):
    model, report = TFBertForPreTraining.from_pretrained(f"{sys.argv[1]}/{form}", output_loading_info=True)
    assert not any(report.values()), report
    dump(f"{sys.argv[1]}/{form}.json", weights(model))
"""
    run_in("tf_keras", TRANSFORMERS + load, tmp_path)
    with keras_hdf5.open_reader(tmp_path / "whole/tf_model.h5") as reader:
        rewritten = {name.split("/", 2)[2]: value for name, value in dumped(reader).items()}
    loaded = {name.split("/", 1)[1]: value for name, value in load_dump(tmp_path / "whole.json").items()}
    assert loaded.items() <= rewritten.items()
    loaded = {name.split("/", 1)[1]: value for name, value in load_dump(tmp_path / "shards.json").items()}
    assert loaded == expected
