"""A side as its own system computes it: its tensors, its configuration, and what its process is asked."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import interlingua
from benchmarks.families import realistic, write_model
from benchmarks.faults import HEADS
from interlingua.convert.source import open_checkpoint
from interlingua.formats.dtypes import numpy_dtype
from interlingua.mappings.schema import FAMILIES
from interlingua.verify.encoders.request import make_tensors
from interlingua.verify.parity.side import Opened, as_computed, expected, make_request, open_side, stored_types


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("side")


@contextmanager
def opened(path: Path) -> Iterator[Opened]:
    with open_checkpoint(path) as checkpoint:
        yield open_side(checkpoint)


def model_in(folder: Path, family: str, to: str = "hf") -> Path:
    """Return a small model of a family in a dialect, made once."""
    source, path = folder / f"{family}-source", folder / f"{family}-{to}"
    if not source.exists():
        write_model(source, FAMILIES[family], HEADS[family], 7, draw=realistic)
    if not path.exists():
        interlingua.convert(source, path, to=to, sync=False)
    return path


def native(path: str) -> dict[str, np.ndarray]:
    """Return a file's tensors as a loader gives them."""
    with open_checkpoint(path, model=False) as checkpoint:
        found = {}
        for name, spec in checkpoint.tensors.items():
            data = bytearray(spec.nbytes)
            checkpoint.reader.read_into(name, 0, memoryview(data))
            found[name] = np.frombuffer(data, numpy_dtype(spec.dtype)).reshape(spec.shape)
        return found


@pytest.mark.parametrize(
    ("family", "to"),
    [("bert", to) for to in ("hf", "uer", "tf1", "paddle", "mindspore")]
    + [("ernie", "hf"), ("ernie", "paddle"), ("albert", "hf"), ("nezha", "hf"), ("roberta", "hf")],
)
def test_what_a_process_makes_of_its_recipes_is_what_the_oracle_is_given(folder: Path, family: str, to: str) -> None:
    with opened(model_in(folder, family, to)) as side:
        request = make_request(side, folder / "batches", folder / "output")
        made = make_tensors(request, native(request.weights))
        assert set(made) == {*side.steps, *side.checkpoint.ties} - side.unused
        for name, array in made.items():
            wanted = side.tensor(name)
            assert array.shape == wanted.shape, name
            assert np.array_equal(array.astype(np.float64), wanted), name


def test_a_request_says_what_its_own_system_computes(folder: Path) -> None:
    with opened(model_in(folder, "bert", "uer")) as side:
        request = make_request(side, folder / "batches", folder / "output")
        assert (request.framework, request.references) == ("torch", ("uer", "own"))
        assert (request.dialect, request.family, request.heads) == ("uer", "bert", side.heads)
        assert request.config["layer_norm_eps"] == side.table.conventions.layer_norm_eps == 1e-6
        assert side.checkpoint.completed.config.layer_norm_eps != 1e-6
        assert request.conventions["layer_norm"] == "unbiased, outside"
        assert (request.device, request.dtype, request.threads) == ("cpu", "float32", 0)
        assert os.path.isabs(request.weights)
        asked = make_request(side, folder / "batches", folder / "output", references=("own",))
        assert asked == replace(request, references=("own",))


def test_the_oracle_computes_by_the_conventions_of_the_table(folder: Path) -> None:
    for family, to in (("bert", "hf"), ("bert", "uer"), ("roberta", "hf"), ("albert", "hf"), ("nezha", "hf")):
        with opened(model_in(folder, family, to)) as side:
            model, conventions = side.model, side.table.conventions
            assert (model.layer_norm, model.positions) == (conventions.layer_norm, conventions.positions)
            assert (model.layer_norm_eps, model.hidden_act) == (side.config.layer_norm_eps, side.config.hidden_act)
            assert (model.family, model.heads) == (family, side.heads)
            assert model.num_hidden_groups == side.config.num_hidden_groups
            assert model.max_relative_position == side.config.max_relative_position


def test_what_a_systems_configuration_says_goes_before_what_the_model_wants(folder: Path) -> None:
    with opened(model_in(folder, "bert", "hf")) as side:
        config, table = side.config, side.table
    stated = as_computed(config, {"layer_norm_eps": 1e-3, "hidden_act": "relu"}, table)
    assert (stated.layer_norm_eps, stated.hidden_act) == (1e-3, "relu")
    # Where the file says nothing, the system's own default is computed with.
    silent = as_computed(replace(config, layer_norm_eps=1e-3, hidden_act="relu"), {}, table)
    assert (silent.layer_norm_eps, silent.hidden_act) == (1e-12, "gelu")
    with opened(model_in(folder, "bert", "uer")) as side:
        fixed = as_computed(side.config, {"layer_norm_eps": 1e-3}, side.table)
    assert fixed.layer_norm_eps == 1e-6


def test_a_conversion_is_expected_to_say_what_it_says(folder: Path) -> None:
    for family, to in (("bert", "uer"), ("bert", "paddle"), ("ernie", "paddle"), ("albert", "hf"), ("nezha", "hf")):
        converted = model_in(folder, family, to)  # Makes the source, too.
        with opened(folder / f"{family}-source") as source, opened(converted) as target:
            wanted, found = expected(source, target), target.config.as_dict()
            assert {key: found.get(key) for key in wanted} == wanted
            assert {"hidden_act", "layer_norm_eps", "num_attention_heads"} <= set(wanted)


def test_task_types_that_are_switched_off_are_stored_and_not_computed_with(folder: Path, tmp_path: Path) -> None:
    path = model_in(folder, "ernie", "hf")
    with opened(path) as side:
        name = "embeddings.task_type_embeddings.weight"
        assert name in side.steps
        assert side.unused == frozenset()
    (tmp_path / "model").mkdir()
    for file in path.iterdir():
        if file.is_file():
            (tmp_path / "model" / file.name).write_bytes(file.read_bytes())
    config = tmp_path / "model" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text(encoding="utf-8")), "use_task_id": False}))
    with opened(tmp_path / "model") as side:
        assert side.unused == {name}
        with pytest.raises(KeyError):
            side.tensor(name)
        assert side.stored(name).size
        assert name not in make_request(side, folder / "batches", folder / "output").recipes


def test_a_tied_tensor_is_read_of_its_owner(folder: Path) -> None:
    with opened(model_in(folder, "bert", "hf")) as side:
        assert side.checkpoint.ties
        for tied, owner in side.checkpoint.ties.items():
            assert np.array_equal(side.tensor(tied), side.tensor(owner))
        with pytest.raises(KeyError):
            side.tensor("absent")


def test_the_types_that_are_stored_are_named(folder: Path, tmp_path: Path) -> None:
    for dtype in ("float32", "float16", "bfloat16"):
        interlingua.convert(model_in(folder, "bert"), tmp_path / dtype, to="hf", dtype=dtype, sync=False)
        with opened(tmp_path / dtype) as side:
            assert stored_types(side) == {dtype}
