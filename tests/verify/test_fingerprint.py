"""Fingerprints, held against a reckoning of our own from the words of their description."""

from __future__ import annotations

import hashlib
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import interlingua
from interlingua.convert.source import Checkpoint, open_checkpoint
from interlingua.errors import FormatError, InterlinguaError
from interlingua.formats.base import TensorSpec
from interlingua.formats.dtypes import FLOAT32
from interlingua.verify.canonical import canonical_steps
from interlingua.verify.fingerprint import Fingerprint, fingerprint, line_of
from tests.models import (
    DECODER,
    HEAD_SETS,
    bare,
    fingerprints,
    hf,
    hf_config,
    safetensors_bytes,
    uer,
    write_hf,
    write_uer,
)

ALL = ("pooler", "masked_lm", "next_sentence")


def digest(path: Path) -> Fingerprint:
    with open_checkpoint(path) as checkpoint:
        return fingerprint(checkpoint)


def config_of(heads: tuple[str, ...]) -> dict[str, object]:
    single = {"architectures": ["BertForSequenceClassification"]} if heads == ("sequence_classification",) else {}
    return hf_config(heads=heads, **single)


@pytest.mark.parametrize("heads", HEAD_SETS, ids="+".join)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16], ids=["f32", "f16", "bf16"])
def test_it_is_what_the_description_says(tmp_path: Path, heads: tuple[str, ...], dtype) -> None:
    found = digest(write_hf(tmp_path, hf(heads, dtype=dtype), config_of(heads)))
    assert (found.model, found.encoder) == fingerprints(bare(heads, dtype=dtype), heads)


def test_a_line_is_name_type_shape_and_digest() -> None:
    assert line_of(TensorSpec("a.b", FLOAT32, (30522, 384)), "00ff") == "a.b float32 30522x384 00ff\n"
    assert line_of(TensorSpec("a", FLOAT32, ()), "00") == "a float32 - 00\n"


def test_lines_make_the_digest(tmp_path: Path) -> None:
    found = digest(write_hf(tmp_path, hf(ALL), hf_config(heads=ALL)))
    assert hashlib.sha256("".join(found.lines).encode()).hexdigest() == found.model
    word = hashlib.sha256(bare(ALL)["embeddings.word_embeddings.weight"].tobytes()).hexdigest()
    assert found.lines[0] == f"embeddings.word_embeddings.weight float32 37x12 {word}\n"
    assert not any("masked_lm.decoder.weight" in line for line in found.lines)  # tied: counted once


def test_nothing_but_the_model_counts(tmp_path: Path) -> None:
    """Order in the file, wrappers, leftovers, the dialect and its padding make no difference."""
    arrays = hf(ALL)
    expected = fingerprints(bare(ALL), ALL)
    variants = {
        "plain": arrays,
        "backwards": dict(reversed(arrays.items())),
        "wrapped": {f"module.{name}": array for name, array in arrays.items()},
        "with leftovers": arrays | {"bert.embeddings.position_ids": np.arange(17)[None], "x.y": np.ones(3)},
        "with its decoder": arrays | {DECODER: arrays["bert.embeddings.word_embeddings.weight"]},
    }
    for name, variant in variants.items():
        found = digest(write_hf(tmp_path / name, variant, hf_config(heads=ALL)))
        assert (found.model, found.encoder) == expected, name


def test_the_padding_row_of_uer_does_not_count(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    for padding in (False, True):
        found = digest(write_uer(tmp_path / str(padding), uer(ALL, padding=padding)))
        assert (found.model, found.encoder) == fingerprints(bare(ALL), ALL)


@pytest.mark.parametrize("name", list(bare(ALL)))
def test_one_bit_of_any_tensor_makes_another(tmp_path: Path, name: str) -> None:
    arrays = bare(ALL)
    arrays[name].reshape(-1).view(np.uint32)[-1] ^= 1
    found = digest(write_hf(tmp_path, arrays, hf_config(heads=ALL)))
    model, encoder = fingerprints(bare(ALL), ALL)
    assert found.model != model
    assert (found.encoder != encoder) is name.startswith(("embeddings.", "encoder."))


def test_type_and_shape_count_too(tmp_path: Path) -> None:
    arrays = {name: np.zeros_like(array) for name, array in hf(("pooler",)).items()}
    wide = {name: np.zeros(array.shape, np.float64) for name, array in arrays.items()}
    first, second = (digest(write_hf(tmp_path / n, a, hf_config())) for n, a in (("a", arrays), ("b", wide)))
    assert first.model != second.model
    assert first.encoder != second.encoder


def test_a_head_changes_the_model_and_not_the_encoder(tmp_path: Path) -> None:
    with_head = digest(write_hf(tmp_path / "a", hf(("pooler",)), hf_config()))
    without = digest(write_hf(tmp_path / "b", {n: a for n, a in hf(("pooler",)).items() if "pooler" not in n}))
    assert with_head.encoder == without.encoder == without.model
    assert with_head.model != without.model


def test_progress_adds_up_to_the_bytes_hashed(tmp_path: Path) -> None:
    told: list[int] = []
    with open_checkpoint(write_hf(tmp_path, hf(ALL), hf_config(heads=ALL))) as checkpoint:
        fingerprint(checkpoint, told.append)
    assert sum(told) == sum(array.nbytes for array in hf(ALL).values())


def unknown(folder: Path) -> Checkpoint:
    (folder / "x").write_bytes(safetensors_bytes({"a": np.zeros(2)}))
    return interlingua.open(folder / "x")


def test_a_model_of_nobody_has_none(tmp_path: Path) -> None:
    with unknown(tmp_path) as checkpoint:
        with pytest.raises(InterlinguaError, match="no model"):
            interlingua.fingerprint(checkpoint)
        checkpoint.problem = None
        with pytest.raises(InterlinguaError, match="No dialect"):
            canonical_steps(checkpoint)


def test_a_file_that_became_shorter_is_an_error(tmp_path: Path) -> None:
    folder = write_hf(tmp_path, hf(), hf_config())
    with open_checkpoint(folder) as checkpoint:
        with (folder / "model.safetensors").open("r+b") as file:
            file.truncate(5000)
        with pytest.raises(FormatError, match="became shorter"):
            fingerprint(checkpoint)
