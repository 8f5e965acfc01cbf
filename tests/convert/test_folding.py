"""``--preserve outputs``: gammas that give the same outputs by the other formula, and come back bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import interlingua
from interlingua.convert.residue import FILE_NAME
from tests.models import SMALL, assert_same, hf, hf_config, read_safetensors, read_torch, weights_of, write_hf

pytest.importorskip("torch")

HEADS = ("pooler", "masked_lm")
GAMMAS = 1 + 2 * SMALL.layers + 1


def biased(x: np.ndarray, gamma: np.ndarray) -> np.ndarray:
    """LayerNorm as torch.nn.LayerNorm computes it, without its beta and epsilon."""
    centred = x - x.mean(-1, keepdims=True)
    return gamma.astype(np.float64) * centred / np.sqrt((centred**2).mean(-1, keepdims=True))


def unbiased(x: np.ndarray, gamma: np.ndarray) -> np.ndarray:
    """LayerNorm as UER-py's uer/layers/layer_norm.py computes it, without its beta and epsilon."""
    return gamma.astype(np.float64) * (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True, ddof=1)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_hf(tmp_path / "hf", hf(HEADS), hf_config(heads=HEADS), 37)


def gammas(arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    return [array for name, array in arrays.items() if name.endswith(("LayerNorm.weight", "gamma"))]


def test_changed_gammas_give_the_same_outputs_by_the_other_formula(tmp_path: Path, source: Path) -> None:
    interlingua.convert(source, tmp_path / "uer", to="uer", preserve="outputs")
    ours, theirs = gammas(weights_of(source)), gammas(weights_of(tmp_path / "uer"))
    assert len(ours) == len(theirs) == GAMMAS
    x = np.random.default_rng(0).standard_normal((5, SMALL.hidden))
    key = {np.argsort(gamma).tobytes(): gamma for gamma in theirs}
    for gamma in ours:
        other = key[np.argsort(gamma).tobytes()]
        assert np.abs(biased(x, gamma) - unbiased(x, other)).max() < 1e-6
        assert np.abs(biased(x, gamma) - unbiased(x, gamma)).max() > 1e-2


def test_nothing_but_gammas_changes(tmp_path: Path, source: Path) -> None:
    for name, preserve in (("plain", "weights"), ("folded", "outputs")):
        interlingua.convert(source, tmp_path / name, to="uer", preserve=preserve)
    plain, folded = (read_torch(tmp_path / name / "pytorch_model.bin") for name in ("plain", "folded"))
    assert {name for name in plain if plain[name].tobytes() != folded[name].tobytes()} == {
        name for name in plain if name.endswith("gamma")
    }


def test_they_come_back_bit_for_bit_unasked(tmp_path: Path, source: Path) -> None:
    there = interlingua.convert(source, tmp_path / "uer", to="uer", preserve="outputs")
    assert any("sqrt(H / (H - 1))" in note for note in there.plan.notes)
    back = interlingua.convert(tmp_path / "uer", tmp_path / "back", to="hf")
    assert_same(read_safetensors(tmp_path / "back" / "model.safetensors"), weights_of(source))
    assert not any("folded" in kept.name or "gamma" in kept.name for kept in back.plan.residue)


def test_they_stay_on_the_way_to_a_system_of_the_same_formula(tmp_path: Path, source: Path) -> None:
    interlingua.convert(source, tmp_path / "uer", to="uer", preserve="outputs")
    interlingua.convert(tmp_path / "uer", tmp_path / "again", to="uer", container="torch-zip")
    assert_same(weights_of(tmp_path / "again"), weights_of(tmp_path / "uer"))
    interlingua.convert(tmp_path / "again", tmp_path / "back", to="hf")
    assert_same(weights_of(tmp_path / "back"), weights_of(source))


def test_gammas_that_were_trained_on_are_divided(tmp_path: Path, source: Path) -> None:
    import torch

    interlingua.convert(source, tmp_path / "uer", to="uer", preserve="outputs")
    weights = torch.load(tmp_path / "uer" / "pytorch_model.bin")
    weights["embedding.layer_norm.gamma"] += 1
    torch.save(weights, tmp_path / "uer" / "pytorch_model.bin")
    interlingua.convert(tmp_path / "uer", tmp_path / "back", to="hf")
    found = weights_of(tmp_path / "back")["bert.embeddings.LayerNorm.weight"]
    factor = np.sqrt((SMALL.hidden - 1) / SMALL.hidden)
    expected = (weights["embedding.layer_norm.gamma"].double().numpy() * factor).astype(np.float32)
    assert found.tobytes() == expected.tobytes()


def test_the_weights_of_a_system_of_the_same_formula_are_left_alone(tmp_path: Path, source: Path) -> None:
    interlingua.convert(source, tmp_path / "again", to="hf", preserve="outputs")
    assert_same(weights_of(tmp_path / "again"), weights_of(source))
    assert not (tmp_path / "again" / FILE_NAME).exists()
