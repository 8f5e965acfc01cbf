"""What ``inspect`` says, and what people read of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import interlingua
from interlingua.verify.description import _jsonable, describe
from interlingua.verify.report import count, folded, size
from tests.models import DECODER, Sizes, hf, hf_config, safetensors_bytes, shapes, sparse_safetensors, write_hf


def described(path: Path, **options: object) -> dict[str, object]:
    with interlingua.open(path) as checkpoint:
        return json.loads(json.dumps(describe(checkpoint, **options), allow_nan=False))


ZOO = [
    (Sizes(12, 768, 12, 3072, 21128, 512), "102.3M"),
    (Sizes(24, 1024, 16, 4096, 21128, 512), "325.5M"),
    (Sizes(36, 1024, 16, 4096, 21128, 512), "476.7M"),
    (Sizes(2, 128, 2, 512, 21128, 512), "3.2M"),
    (Sizes(4, 256, 4, 1024, 21128, 512), "8.8M"),
    (Sizes(12, 768, 12, 3072, 30522, 512), "109.5M"),
]


@pytest.mark.parametrize(("sizes", "printed"), ZOO, ids=[printed for _, printed in ZOO])
def test_parameters_are_counted_as_model_zoos_do(tmp_path: Path, sizes: Sizes, printed: str) -> None:
    path = sparse_safetensors(tmp_path / "model.safetensors", shapes(("pooler",), sizes))
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": sizes.heads}))
    assert path.stat().st_blocks * 512 < 1 << 20
    found = described(path)
    assert count(found["parameters"]) == printed
    assert found["config"]["num_hidden_layers"] == sizes.layers
    if found["bytes"] > 128 << 20:
        assert found["fingerprint"] is None


def test_heads_padding_and_buffers_are_no_parameters_of_the_encoder(tmp_path: Path) -> None:
    heads = ("pooler", "masked_lm", "next_sentence")
    plain = described(write_hf(tmp_path / "a", hf(("pooler",)), hf_config()))["parameters"]
    arrays = hf(heads) | {"bert.embeddings.position_ids": np.arange(17)[None]}
    arrays[DECODER] = arrays["bert.embeddings.word_embeddings.weight"]
    found = described(write_hf(tmp_path / "b", arrays, hf_config(heads=heads)))
    assert found["parameters"] == plain == sum(array.size for array in hf(("pooler",)).values())
    assert found["stored_parameters"] == sum(array.size for array in arrays.values())


def test_everything_that_is_known_is_said(tmp_path: Path) -> None:
    arrays = hf(("masked_lm",)) | {"crf.transitions": np.ones((2, 2))}
    folder = write_hf(tmp_path, arrays, hf_config(heads=("masked_lm",)), 37)
    found = described(folder)
    assert found["path"] == str(folder)
    assert (found["container"], found["dialect"], found["family"]) == ("safetensors", "hf", "bert")
    assert found["heads"] == ["masked_lm"]
    assert found["config"]["hidden_act"] == "gelu_tanh"
    assert found["tied"] == {"masked_lm.decoder.weight": "embeddings.word_embeddings.weight"}
    assert found["tensors"] == [
        {"name": name, "shape": list(array.shape), "dtype": array.dtype.name} for name, array in arrays.items()
    ]
    assert list(found["leftovers"]) == ["crf.transitions"]
    assert found["metadata"] == {"format": "pt"}
    assert found["problem"] is None
    with interlingua.open(folder) as checkpoint:
        assert found["fingerprint"] == interlingua.fingerprint(checkpoint).model


def test_the_fingerprint_can_be_asked_for_or_not(tmp_path: Path) -> None:
    folder = write_hf(tmp_path, hf(), hf_config())
    assert described(folder, digest=False)["fingerprint"] is None
    assert described(folder, digest=True)["fingerprint"]


def test_canonical_names_are_listed_with_the_native_ones(tmp_path: Path) -> None:
    found = described(write_hf(tmp_path, hf(("masked_lm",)), hf_config()), canonical=True)
    by_name = {tensor["name"]: tensor["native"] for tensor in found["tensors"]}
    assert by_name["masked_lm.decoder.bias"] == "cls.predictions.bias"
    assert by_name["embeddings.LayerNorm.bias"] == "bert.embeddings.LayerNorm.bias"


def test_a_model_of_nobody_is_described_with_nulls(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(safetensors_bytes({"a": np.zeros((2, 3)), "b": np.zeros(2, np.int8)}))
    found = described(tmp_path / "x", canonical=True)
    assert [found[key] for key in ("dialect", "family", "heads", "config", "fingerprint")] == [None] * 5
    assert found["parameters"] == 8
    assert len(found["tensors"]) == 2
    assert "no model" in found["problem"]


def test_a_broken_configuration_is_a_problem_and_no_end(tmp_path: Path) -> None:
    folder = write_hf(tmp_path, hf(("pooler",)))
    (folder / "config.json").write_text("{")
    assert "no valid JSON" in described(folder)["problem"]
    (folder / "config.json").write_text(json.dumps(hf_config(hidden_size=99)))
    found = described(folder)
    assert "hidden_size = 99" in found["problem"]
    assert found["config"] is None
    assert found["dialect"] == "hf"


def stats(tmp_path: Path, array: np.ndarray) -> dict[str, object] | None:
    (tmp_path / "x").write_bytes(safetensors_bytes({"a": array}))
    return described(tmp_path / "x", stats=True)["tensors"][0]["stats"]


def test_statistics_are_numpys(tmp_path: Path) -> None:
    array = np.random.default_rng(0).standard_normal((700, 1000)).astype(np.float32)  # more than two blocks
    found = stats(tmp_path, array)
    assert (found["min"], found["max"], found["nan"], found["inf"]) == (float(array.min()), float(array.max()), 0, 0)
    assert found["mean"] == pytest.approx(float(array.astype(np.float64).mean()), rel=1e-9)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, np.nan, 3.0, np.inf, -np.inf], {"min": 1.0, "max": 3.0, "mean": 2.0, "nan": 1, "inf": 2}),
        ([np.nan, np.inf], {"min": None, "max": None, "mean": None, "nan": 1, "inf": 1}),
        ([], {"min": None, "max": None, "mean": None, "nan": 0, "inf": 0}),
        ([1.7e308, 1.7e308], {"min": 1.7e308, "max": 1.7e308, "mean": None, "nan": 0, "inf": 0}),
    ],
)
def test_statistics_of_what_is_no_number(tmp_path: Path, values: list[float], expected) -> None:
    assert stats(tmp_path, np.array(values)) == expected


def test_statistics_of_other_types(tmp_path: Path) -> None:
    assert stats(tmp_path, np.array([True, False]))["mean"] == 0.5
    assert stats(tmp_path, np.array([-3, 5], np.int8)) == {"min": -3.0, "max": 5.0, "mean": 1.0, "nan": 0, "inf": 0}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True),
        (None, None),
        ("a", "a"),
        (7, 7),
        (1 << 64, "0x10000000000000000"),
        (1 << 20_000, hex(1 << 20_000)),
        (0.5, 0.5),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
        ([1, 2], "[1, 2]"),
    ],
    ids=lambda value: str(type(value)),
)
def test_any_object_becomes_json(value: object, expected: object) -> None:
    assert _jsonable(value) == expected
    json.dumps(_jsonable(value), allow_nan=False)


# For people.


def test_layers_are_folded_into_one_row() -> None:
    rows = [(f"encoder.layer.{n}.a", f"x/{n}/b", "f32") for n in range(12)] + [("pooler.a", "p", "f32")]
    assert folded(rows) == [("encoder.layer.{0…11}.a", "x/{0…11}/b", "f32"), ("pooler.a", "p", "f32")]


def test_rows_that_differ_in_more_than_the_layer_stay_apart() -> None:
    rows = [("l.0.a", "f32"), ("l.1.a", "f16"), ("l.2.a", "f32"), ("l.3.a", "f32")]
    assert folded(rows) == [("l.{0,2,3}.a", "f32"), ("l.1.a", "f16")]
    assert folded([("l.7.a",)]) == [("l.7.a",)]
    assert folded([]) == []


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (90_868_376, "90.9 MB"),
        (5 * 10**9, "5.0 GB"),
        (3 * 10**12, "3.0 TB"),
    ],
)
def test_sizes_are_written_in_powers_of_ten(nbytes: int, text: str) -> None:
    assert size(nbytes) == text


@pytest.mark.parametrize(("number", "text"), [(102_267_648, "102.3M"), (0, "0.0M"), (1_500_000_000, "1.50B")])
def test_parameters_are_written_as_zoos_write_them(number: int, text: str) -> None:
    assert count(number) == text
