"""There and back again: every bit of every tensor, and the configuration in its meaning."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import interlingua
from tests.models import (
    CLASSES,
    DECODER,
    HEAD_SETS,
    Arrays,
    Sizes,
    assert_same,
    bare,
    fingerprints,
    hf,
    hf_config,
    uer,
    uer_config,
    weights_of,
    write_hf,
    write_uer,
)

pytest.importorskip("torch")

PHASES = (Phase.explicit, Phase.generate)
"""A failing model is small enough as it is; a smaller one would take minutes to find."""


@dataclass(frozen=True)
class Model:
    """What hypothesis varies."""

    heads: tuple[str, ...]
    sizes: Sizes
    dtype: type
    seed: int
    untied: bool
    extra: bool
    configured: bool


SIZES = st.builds(
    Sizes,
    layers=st.integers(1, 4),
    hidden=st.sampled_from([6, 12, 18]),
    intermediate=st.integers(1, 25),
    vocab=st.integers(1, 40),
    positions=st.integers(1, 20),
    labels=st.integers(1, 9),
)
MODELS = st.builds(
    Model,
    heads=st.sampled_from(HEAD_SETS),
    sizes=SIZES,
    dtype=st.sampled_from([np.float32, np.float16, np.float64, ml_dtypes.bfloat16]),
    seed=st.integers(0, 1 << 30),
    untied=st.booleans(),
    extra=st.booleans(),
    configured=st.booleans(),
)


def convert(source: Path, target: Path, to: str, **options: object) -> Path:
    return interlingua.convert(source, target, to=to, sync=False, **options).path


def digests(path: Path) -> tuple[str, str]:
    with interlingua.open(path) as checkpoint:
        found = interlingua.fingerprint(checkpoint)
        return found.model, found.encoder


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def decoder_of(model: Model) -> np.ndarray | None:
    if not model.untied or "masked_lm" not in model.heads:
        return None
    shape = model.sizes.vocab, model.sizes.hidden
    return np.random.default_rng(model.seed + 7).standard_normal(shape).astype(model.dtype)


def expected_digests(model: Model) -> tuple[str, str]:
    arrays = bare(model.heads, model.sizes, model.seed, model.dtype)
    decoder = decoder_of(model)
    return fingerprints(arrays if decoder is None else arrays | {DECODER: decoder}, model.heads)


def with_extra(arrays: Mapping[str, np.ndarray], model: Model, name: str) -> Arrays:
    return {**arrays, **({name: np.arange(model.sizes.positions)[None]} if model.extra else {})}


@settings(max_examples=20, phases=PHASES)
@given(MODELS)
def test_from_transformers_to_uer_and_back(tmp_path_factory, model: Model) -> None:
    folder = tmp_path_factory.mktemp("trip")
    arrays = hf(model.heads, model.sizes, model.seed, model.dtype)
    decoder = decoder_of(model)
    if decoder is not None:
        copy = "cls.predictions.decoder.bias"
        arrays |= {DECODER: decoder, copy: arrays["cls.predictions.bias"]}
    base = "bert." if set(model.heads) - {"pooler"} else ""
    arrays = with_extra(arrays, model, f"{base}embeddings.position_ids")
    tied = {"tie_word_embeddings": decoder is None}
    config = hf_config(model.sizes, model.heads, **tied) if model.configured else {"num_attention_heads": 6, **tied}
    if not {"sequence_classification", "token_classification"}.isdisjoint(model.heads):
        config["architectures"] = [CLASSES.get(model.heads, "BertForSequenceClassification")]
        if not model.configured and model.sizes.labels != 2:
            config["id2label"] = {str(number): str(number) for number in range(model.sizes.labels)}
    source = write_hf(folder / "a", arrays, config, model.sizes.vocab)
    there = convert(source, folder / "b", "uer")
    back = convert(there, folder / "c", "hf")
    assert_same(weights_of(back), arrays)
    assert digests(source) == digests(there) == digests(back) == expected_digests(model)
    if model.configured:
        assert (back / "config.json").read_bytes() == (source / "config.json").read_bytes()
    else:
        # What was missing is there now; what was said is said as it was.
        assert json.loads((back / "config.json").read_text()).items() >= config.items()
    assert (back / "vocab.txt").read_bytes() == (source / "vocab.txt").read_bytes()
    # What is written in UER's names is what UER's own model has.
    expected = uer(model.heads, model.sizes, model.seed, model.dtype)
    if decoder is not None:
        expected["target.mlm.linear_2.weight"] = decoder
    assert_same(weights_of(there), expected)
    # Once more over the same ground, and every file is the same.
    assert files(convert(source, folder / "b2", "uer")) == files(there)
    assert files(convert(back, folder / "d", "uer"))["pytorch_model.bin"] == files(there)["pytorch_model.bin"]


@settings(max_examples=20, phases=PHASES)
@given(MODELS, st.sampled_from(["safetensors", "torch-zip"]), st.sampled_from([None, 500, 3000]))
def test_from_uer_to_transformers_and_back(tmp_path_factory, model: Model, container: str, shard: int | None) -> None:
    folder = tmp_path_factory.mktemp("trip")
    arrays = uer(model.heads, model.sizes, model.seed, model.dtype, padding=True)
    decoder = decoder_of(model)
    if decoder is not None:
        arrays["target.mlm.linear_2.weight"] = decoder
    arrays = with_extra(arrays, model, "embedding.sinusoidalpos.pe")
    labels = {"labels_num": model.sizes.labels} if "token_classification" in model.heads else {}
    config = uer_config(model.sizes, tie_weights=decoder is None, a_key_of_somebody=[1, "é"], **labels)
    source = write_uer(folder / "a", arrays, config, model.sizes.vocab)
    there = convert(source, folder / "b", "hf", container=container, max_shard_size=shard)
    back = convert(there, folder / "c", "uer")
    assert_same(weights_of(back), arrays)
    assert digests(source) == digests(there) == digests(back) == expected_digests(model)
    assert (back / "config.json").read_bytes() == (source / "config.json").read_bytes()
    assert (back / "vocab.txt").read_bytes() == (source / "vocab.txt").read_bytes()
    again = convert(source, folder / "b2", "hf", container=container, max_shard_size=shard)
    assert files(again) == files(there)


@settings(max_examples=10, phases=PHASES)
@given(MODELS)
def test_without_configuration_and_residue_the_weights_still_come_back(tmp_path_factory, model: Model) -> None:
    folder = tmp_path_factory.mktemp("trip")
    arrays = hf(model.heads, model.sizes, model.seed, model.dtype)
    architecture = CLASSES.get(
        model.heads, "BertForSequenceClassification" if model.heads[:1] == ("sequence_classification",) else "BertModel"
    )
    config = {"num_attention_heads": 6, "architectures": [architecture]}
    source = write_hf(folder / "a", arrays, config)
    there = convert(source, folder / "b", "uer", residue="drop")
    back = convert(there, folder / "c", "hf", residue="drop")
    assert_same(weights_of(back), arrays)
    assert not (there / "interlingua.residue.safetensors").exists()


@pytest.mark.parametrize("heads", HEAD_SETS, ids="+".join)
def test_the_meaning_of_the_configuration_survives_both_ways(tmp_path: Path, heads: tuple[str, ...]) -> None:
    source = write_hf(tmp_path / "a", hf(heads), hf_config(heads=heads))
    if heads == ("sequence_classification",):
        source = write_hf(
            tmp_path / "a", hf(heads), hf_config(heads=heads, architectures=["BertForSequenceClassification"])
        )
    there = convert(source, tmp_path / "b", "uer")
    back = convert(there, tmp_path / "c", "hf")
    with interlingua.open(source) as a, interlingua.open(there) as b, interlingua.open(back) as c:
        assert a.completed.config == b.completed.config == c.completed.config
        assert a.heads == b.heads == c.heads == heads


def test_a_mended_configuration_is_not_undone_by_what_was_kept(tmp_path: Path) -> None:
    """Somebody changes the dropout on the way: the change, not the past, comes back."""
    source = write_hf(tmp_path / "a", hf(), hf_config())
    there = convert(source, tmp_path / "b", "uer")
    config = json.loads((there / "config.json").read_text())
    (there / "config.json").write_text(json.dumps({**config, "dropout": 0.77}))
    back = json.loads((convert(there, tmp_path / "c", "hf") / "config.json").read_text())
    assert back == {**hf_config(), "hidden_dropout_prob": 0.77}


def test_retrained_weights_are_not_undone_by_what_was_kept(tmp_path: Path) -> None:
    source = write_uer(tmp_path / "a", uer(("pooler",), padding=True), uer_config())
    there = convert(source, tmp_path / "b", "hf")
    trained = hf(("pooler",), seed=99)
    write_hf(there, trained)
    back = weights_of(convert(there, tmp_path / "c", "uer"))
    expected = uer(("pooler",), seed=99)
    expected["embedding.seg.embedding.weight"][0] = uer(("pooler",), padding=True)["embedding.seg.embedding.weight"][0]
    assert_same(back, expected)


def test_a_model_that_grew_token_types_meanwhile_is_refused_with_the_reason(tmp_path: Path) -> None:
    source = write_uer(tmp_path / "a", uer(), uer_config())
    there = convert(source, tmp_path / "b", "hf")
    write_hf(there, hf((), Sizes(types=3)), hf_config(Sizes(types=3)))
    with pytest.raises(interlingua.errors.MappingError, match="always has 3 rows, but 4 are due"):
        convert(there, tmp_path / "c", "uer")


def test_minilm_goes_round(minilm: Path, tmp_path: Path) -> None:
    there = convert(minilm, tmp_path / "uer", "uer")
    back = convert(there, tmp_path / "hf", "hf")
    assert_same(weights_of(back), weights_of(minilm))
    assert digests(minilm) == digests(there) == digests(back)
    for name in ("config.json", "vocab.txt", "modules.json", "1_Pooling/config.json", "tokenizer.json"):
        assert (back / name).read_bytes() == (minilm / name).read_bytes()
