"""Activations in a file come back as they were; a file that nobody vouches for is refused, not believed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.families import config_of
from interlingua.errors import FormatError
from interlingua.mappings.conventions import CANONICAL, FROM_ZERO
from interlingua.mappings.schema import BERT
from interlingua.verify.oracle.model import Model
from interlingua.verify.parity.activations import KEY, Saved, read_activations, save_activations
from interlingua.verify.parity.batch import hard_batch
from tests.models import safetensors_bytes
from tests.verify.parity.outcomes import healthy

MODEL = Model("bert", ("pooler",), 12, 3, 6, None, "gelu", CANONICAL, 1e-12, FROM_ZERO, 0, None)


@pytest.fixture
def saved() -> Saved:
    batch = hard_batch(config_of(BERT), 17)
    rng = np.random.default_rng(5)
    arrays = {"hard/pooler": rng.standard_normal((4, 12)).astype(np.float32), "hard/layer.0": np.ones((4, 17, 12))}
    return Saved(healthy().a, MODEL, (batch,), arrays)


def test_what_is_kept_comes_back(saved: Saved, tmp_path: Path) -> None:
    save_activations(tmp_path / "a.act", saved)
    found = read_activations(tmp_path / "a.act")
    assert found.side == saved.side
    assert found.model == saved.model
    assert [batch.name for batch in found.batches] == ["hard"]
    for name, array in saved.batches[0].arrays().items():
        assert np.array_equal(found.batches[0].arrays()[name], array)
    assert set(found.activations) == set(saved.activations)
    for name, array in saved.activations.items():
        assert found.activations[name].dtype == array.dtype
        assert np.array_equal(found.activations[name], array)
    assert [path.name for path in tmp_path.iterdir()] == ["a.act"]


def test_a_file_is_replaced_whole(saved: Saved, tmp_path: Path) -> None:
    (tmp_path / "a.act").write_text("something else", encoding="utf-8")
    save_activations(tmp_path / "a.act", saved)
    assert read_activations(tmp_path / "a.act").model == MODEL


def rewritten(saved: Saved, path: Path, change: object) -> Path:
    """The file with another description."""
    save_activations(path, saved)
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    about = json.loads(header["__metadata__"][KEY])
    header["__metadata__"][KEY] = json.dumps(change(about) if callable(change) else change)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + size :])
    return path


@pytest.mark.parametrize(
    "change",
    [
        "no object",
        [],
        lambda about: {**about, "version": 2},
        lambda about: {**about, "side": None},
        lambda about: {**about, "model": {**about["model"], "layer_norm_eps": "small"}},
        lambda about: {**about, "model": {**about["model"], "command": "rm"}},
        lambda about: {key: value for key, value in about.items() if key != "model"},
    ],
)
def test_a_description_that_is_wrong_is_refused(saved: Saved, tmp_path: Path, change: object) -> None:
    with pytest.raises(FormatError):
        read_activations(rewritten(saved, tmp_path / "a.act", change))


def test_a_model_is_no_file_of_activations(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(safetensors_bytes({"x": np.ones(3, np.float32)}))
    with pytest.raises(FormatError, match="no file of activations"):
        read_activations(tmp_path / "model.safetensors")
