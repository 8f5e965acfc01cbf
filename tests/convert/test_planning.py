"""Plans: complete before anything is written, and values that can be looked at."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from interlingua.convert.keep_names import plan_keep_names
from interlingua.convert.plan import Output, Piece, Plan, Step, Text
from interlingua.convert.planning import Wanted, make_plan
from interlingua.convert.residue import FILE_NAME, Entry, key_of, metadata_of
from interlingua.convert.source import Asked, open_checkpoint
from interlingua.convert.steps import cast_step, find_dtype
from interlingua.errors import FormatError, MappingError, UsageError
from interlingua.formats.base import TensorSpec
from interlingua.formats.dtypes import BFLOAT16, DTYPES, FLOAT16, FLOAT32
from interlingua.formats.registry import CONTAINERS
from interlingua.mappings.registry import DIALECTS
from tests.models import (
    DECODER,
    SMALL,
    Sizes,
    hf,
    hf_config,
    safetensors_bytes,
    shapes,
    uer,
    uer_config,
    uer_name,
    write_hf,
    write_uer,
)

pytest.importorskip("torch")

ALL = ("pooler", "masked_lm", "next_sentence")
SEGMENTS = "embedding.seg.embedding.weight"
TYPES = "embeddings.token_type_embeddings.weight"


def plan(path: Path, to: str, container: str | None = None, **wanted: object) -> Plan:
    dialect = DIALECTS[to]
    with open_checkpoint(path, Asked()) as source:
        return make_plan(source, Wanted(dialect, CONTAINERS[container or dialect.containers[0]], **wanted))


def steps_of(found: Plan, path: str) -> dict[str, Step]:
    (output,) = [output for output in found.outputs if output.path == path]
    return {step.target.name: step for step in output.steps}


def test_a_plan_to_uer_names_every_tensor_and_where_it_comes_from(tmp_path: Path) -> None:
    source = write_hf(tmp_path, hf(ALL), hf_config(heads=ALL), 37)
    found = plan(source, "uer")
    assert (found.origin, found.target, found.family, found.container) == ("hf", "uer", "bert", "torch-zip")
    assert found.heads == ALL
    assert found.files == ("pytorch_model.bin", "vocab.txt", FILE_NAME, "config.json")
    steps = steps_of(found, "pytorch_model.bin")
    base = ("embeddings.", "encoder.", "pooler.")
    expected = {
        uer_name(name, ALL): (f"bert.{name}" if name.startswith(base) else name, shape)
        for name, shape in shapes(ALL).items()
    }
    assert set(steps) == set(expected)
    for name, (theirs, shape) in expected.items():
        step, nbytes = steps[name], 4 * int(np.prod(shape))
        if name == SEGMENTS:
            row = 12 * 4
            assert step.target.shape == (3, 12)
            assert step.pieces == (Piece("zeros", SEGMENTS, 0, row), Piece("source", theirs, 0, nbytes))
            assert step.operation == "pad rows"
        else:
            assert step.target == TensorSpec(name, FLOAT32, shape)
            assert step.pieces == (Piece("source", theirs, 0, nbytes),)
            assert step.operation == "copy"
        assert step.is_copy
    (weights,) = [output for output in found.outputs if output.path == "pytorch_model.bin"]
    assert weights.ties == {"target.mlm.linear_2.weight": "embedding.word.embedding.weight"}


def test_a_plan_to_transformers_drops_the_padding_and_keeps_it(tmp_path: Path) -> None:
    found = plan(write_uer(tmp_path, uer(ALL), uer_config(), 37), "hf")
    steps = steps_of(found, "model.safetensors")
    row = 12 * 4
    step = steps[f"bert.{TYPES}"]
    assert step.target.shape == (2, 12)
    assert step.pieces == (Piece("source", SEGMENTS, row, 2 * row),)
    assert step.operation == "drop rows"
    assert DECODER not in steps
    kept = steps_of(found, FILE_NAME)
    rows = kept[f"uer/rows/{SEGMENTS}"]
    assert rows.target.shape == (1, 12)
    assert rows.pieces == (Piece("source", SEGMENTS, 0, row),)
    (weights,) = [output for output in found.outputs if output.path == "model.safetensors"]
    assert weights.metadata == {"format": "pt"}
    assert weights.ties == {}


def test_a_plan_is_a_value_and_json(tmp_path: Path) -> None:
    source = write_hf(tmp_path, hf(ALL), hf_config(heads=ALL), 37)
    found = plan(source, "uer")
    assert found == plan(source, "uer") != plan(source, "hf")
    assert pickle.loads(pickle.dumps(found)) == found
    said = json.loads(json.dumps(found.as_dict()))
    assert (said["from"], said["to"], said["family"], said["container"]) == ("hf", "uer", "bert", "torch-zip")
    assert [entry["path"] for entry in said["files"]] == list(found.files)
    tensors = {tensor["name"]: tensor for tensor in said["files"][0]["tensors"]}
    assert tensors[SEGMENTS] == {
        "name": SEGMENTS,
        "dtype": "float32",
        "shape": [3, 12],
        "from": [f"bert.{TYPES}"],
        "operation": "pad rows",
    }
    assert said["files"][0]["ties"] == {"target.mlm.linear_2.weight": "embedding.word.embedding.weight"}
    assert said["bytes"] == sum(
        entry["bytes"] for entry in said["files"] if "tensors" in entry or entry["path"] == "vocab.txt"
    )
    assert {entry["name"]: entry["reason"] for entry in said["residue"]} == {
        "config.json": "the source's own configuration"
    }
    assert said["residue_kept"] is True


def test_a_single_file_is_called_what_the_user_called_it_and_has_no_sidecars(tmp_path: Path) -> None:
    source = write_hf(tmp_path, hf(), hf_config(), 37)
    (source / "tokenizer.json").write_text("{}")
    found = plan(source, "uer", single_file="mine.bin", max_shard=100)
    assert found.files[0] == "mine.bin"
    assert "tokenizer.json" not in found.files
    assert len([output for output in found.outputs if output.container == "torch-zip"]) == 1


@pytest.mark.parametrize("limit", [1, 2000, 5000, 13_000])
@pytest.mark.parametrize("container", ["safetensors", "torch-zip"])
def test_shards_hold_no_more_than_asked_and_are_all_listed(tmp_path: Path, limit: int, container: str) -> None:
    source = write_hf(tmp_path, hf(ALL), hf_config(heads=ALL))
    found = plan(source, "hf", container, max_shard=limit)
    parts = [output for output in found.outputs if output.container == container and output.path != FILE_NAME]
    stem, suffix = ("model", "safetensors") if container == "safetensors" else ("pytorch_model", "bin")
    assert [part.path for part in parts] == [
        f"{stem}-{number:05}-of-{len(parts):05}.{suffix}" for number in range(1, len(parts) + 1)
    ]
    assert all(part.nbytes <= limit or len(part.steps) == 1 for part in parts)
    whole = plan(source, "hf", container, max_shard=None)
    every = [step for part in parts for step in part.steps]
    assert every == list(whole.outputs[0].steps)
    # No part could have taken the first tensor of the next one.
    for part, after in pairwise(parts):
        assert part.nbytes + after.steps[0].target.nbytes > limit
    (index,) = [text for text in found.texts if text.path.endswith(".index.json")]
    assert index.path == f"{stem}.{suffix}.index.json"
    said = json.loads(index.content)
    assert said["metadata"]["total_size"] == sum(part.nbytes for part in parts)
    listed = {name: part.path for part in parts for name in (*(s.target.name for s in part.steps), *part.ties)}
    assert said["weight_map"] == listed
    assert {**{t: o for part in parts for t, o in part.ties.items()}} == dict(whole.outputs[0].ties)
    assert all(owner in {s.target.name for s in part.steps} for part in parts for owner in part.ties.values())


def test_what_fits_is_one_file_without_an_index(tmp_path: Path) -> None:
    source = write_hf(tmp_path, hf(), hf_config())
    total = sum(array.nbytes for array in hf().values())
    assert plan(source, "hf", max_shard=total).files == ("model.safetensors", "config.json")
    assert len(plan(source, "hf", max_shard=total - 1).files) == 4


def test_a_system_without_shards_gets_one_file_and_that_is_told(tmp_path: Path) -> None:
    found = plan(write_hf(tmp_path, hf(), hf_config()), "uer", max_shard=1000)
    assert found.files[0] == "pytorch_model.bin"
    assert "UER-py knows no shards: the weights are one file." in found.notes


# Ties and the names under which they are written.


@pytest.mark.parametrize(
    ("container", "names", "ties"),
    [
        ("safetensors", [], {}),
        (
            "torch-zip",
            [],
            {DECODER: "bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.bias": "cls.predictions.bias"},
        ),
    ],
)
@pytest.mark.parametrize("given", ["absent", "equal"])
def test_a_tied_decoder_is_written_as_transformers_does(tmp_path: Path, container, names, ties, given: str) -> None:
    arrays = hf(("masked_lm",))
    if given == "equal":
        arrays[DECODER] = arrays["bert.embeddings.word_embeddings.weight"]
        arrays["cls.predictions.decoder.bias"] = arrays["cls.predictions.bias"]
    found = plan(write_hf(tmp_path, arrays, hf_config(heads=("masked_lm",))), "hf", container)
    assert {s.target.name for s in found.outputs[0].steps} == set(hf(("masked_lm",)))
    assert found.outputs[0].ties == ties


def untied(decoder_bias: bool = False) -> dict[str, np.ndarray]:
    arrays = hf(("masked_lm",))
    arrays[DECODER] = arrays["bert.embeddings.word_embeddings.weight"] * 2
    if decoder_bias:
        arrays["cls.predictions.decoder.bias"] = arrays["cls.predictions.bias"] * 3
    return arrays


@pytest.mark.parametrize("container", ["safetensors", "torch-zip"])
def test_an_untied_decoder_is_written_with_its_own_bias(tmp_path: Path, container: str) -> None:
    # transformers 5 looks for both biases in a model whose weights are not tied.
    found = plan(write_hf(tmp_path, untied(), hf_config(heads=("masked_lm",))), "hf", container)
    names = {s.target.name for s in found.outputs[0].steps} | set(found.outputs[0].ties)
    assert {DECODER, "cls.predictions.bias", "cls.predictions.decoder.bias"} <= names
    assert DECODER not in found.outputs[0].ties


def test_two_biases_that_differ_go_round(tmp_path: Path) -> None:
    source = write_hf(tmp_path / "a", untied(True), hf_config(heads=("masked_lm",)))
    same = steps_of(plan(source, "hf"), "model.safetensors")
    assert same["cls.predictions.bias"].pieces[0].name == "cls.predictions.bias"
    assert same["cls.predictions.decoder.bias"].pieces[0].name == "cls.predictions.decoder.bias"
    there = plan(source, "uer")
    assert (
        steps_of(there, "pytorch_model.bin")["target.mlm.linear_2.bias"].pieces[0].name
        == "cls.predictions.decoder.bias"
    )
    assert "hf/tensor/cls.predictions.bias" in steps_of(there, FILE_NAME)


# Leftovers.


def test_leftovers_stay_in_the_same_dialect(tmp_path: Path) -> None:
    arrays = hf(ALL) | {"bert.embeddings.position_ids": np.arange(17)[None], "crf.transitions": np.ones((3, 3))}
    found = plan(write_hf(tmp_path, arrays, hf_config(heads=ALL)), "hf")
    assert set(steps_of(found, "model.safetensors")) == set(arrays)
    assert found.residue == ()
    assert FILE_NAME not in found.files


def test_leftovers_of_another_dialect_are_residue_with_their_reasons(tmp_path: Path) -> None:
    arrays = hf(ALL) | {"bert.embeddings.position_ids": np.arange(17)[None], "crf.transitions": np.ones((3, 3))}
    found = plan(write_hf(tmp_path, arrays, hf_config()), "uer")
    assert {kept.name: kept.reason for kept in found.residue} == {
        "bert.embeddings.position_ids": "a buffer, computed anew on loading",
        "crf.transitions": "a head or an addition that bert has no name for",
        "config.json": "the source's own configuration",
    }
    assert found.keeps_residue
    assert set(steps_of(found, FILE_NAME)) == {
        "hf/tensor/bert.embeddings.position_ids",
        "hf/tensor/crf.transitions",
        "hf/config/config.json",
    }


@pytest.mark.parametrize("to", ["hf", "uer"])
def test_what_a_trainer_kept_beside_a_wrapped_model_is_foreign_in_any_dialect(tmp_path: Path, to: str) -> None:
    arrays = {f"model.{name}": array for name, array in hf(ALL).items()} | {"losses": np.ones(3)}
    found = plan(write_hf(tmp_path, arrays, hf_config()), to)
    assert "hf/foreign/losses" in steps_of(found, FILE_NAME)


def test_residue_can_be_dropped_or_be_an_error(tmp_path: Path) -> None:
    source = write_uer(tmp_path, uer(ALL), uer_config())
    dropped = plan(source, "hf", residue="drop")
    assert FILE_NAME not in dropped.files
    assert [kept.name for kept in dropped.residue] == [SEGMENTS, "config.json"]
    assert not dropped.keeps_residue
    with pytest.raises(MappingError, match="no place for 2 things") as caught:
        plan(source, "hf", residue="error")
    assert caught.value.names == (SEGMENTS, "config.json")


def test_residue_error_is_silent_where_nothing_is_left(tmp_path: Path) -> None:
    assert plan(write_hf(tmp_path, hf(ALL), hf_config(heads=ALL)), "hf", residue="error").residue == ()


def test_a_model_that_the_target_does_not_know_is_refused(tmp_path: Path) -> None:
    source = write_hf(tmp_path, hf(), hf_config())
    with open_checkpoint(source) as opened, pytest.raises(MappingError, match="UER-py has no bert"):
        make_plan(opened, Wanted(replace(DIALECTS["uer"], tables={}), CONTAINERS["torch-zip"]))


def test_a_head_that_the_target_does_not_know_is_residue_with_the_reason(tmp_path: Path) -> None:
    source = write_hf(tmp_path, hf(ALL), hf_config(heads=ALL))
    table = DIALECTS["uer"].tables["bert"]
    rules = tuple(rule for rule in table.rules if not rule.canonical.startswith("next_sentence"))
    dialect = replace(DIALECTS["uer"], tables={"bert": replace(table, rules=rules)})
    with open_checkpoint(source) as opened:
        found = make_plan(opened, Wanted(dialect, CONTAINERS["torch-zip"]))
    assert found.heads == ("pooler", "masked_lm")
    reasons = {kept.name: kept.reason for kept in found.residue}
    assert reasons["cls.seq_relationship.weight"] == "UER-py has no next sentence head"


# Casting.


def test_only_floating_point_of_16_bits_and_more_is_cast() -> None:
    for name, dtype in DTYPES.items():
        spec = TensorSpec("a", dtype, (2,))
        step = cast_step(Step(spec, (Piece("source", "a", 0, spec.nbytes),)), BFLOAT16)
        is_cast = name in ("float16", "float32", "float64")
        assert (step.cast_from is dtype) is is_cast
        assert step.target.dtype is (BFLOAT16 if is_cast else dtype)
        assert cast_step(step, None) is step


def test_a_cast_is_in_the_plan_and_in_the_configuration(tmp_path: Path) -> None:
    arrays = hf(ALL) | {"bert.embeddings.position_ids": np.arange(17)[None]}
    found = plan(write_hf(tmp_path, arrays, hf_config(torch_dtype="float32")), "hf", dtype=FLOAT16)
    steps = steps_of(found, "model.safetensors")
    assert found.casts
    assert steps["bert.pooler.dense.bias"].operation == "cast from float32"
    assert steps["bert.embeddings.position_ids"].operation == "copy"
    (config,) = [text for text in found.texts if text.path == "config.json"]
    assert json.loads(config.content)["torch_dtype"] == "float16"
    assert not plan(tmp_path, "hf").casts


def test_dtypes_are_found_by_the_options_words() -> None:
    assert find_dtype("keep") is None
    assert find_dtype("bfloat16") is BFLOAT16


# Configurations and companions.


def test_an_own_configuration_is_copied_byte_by_byte(tmp_path: Path) -> None:
    source = write_hf(tmp_path, hf(), hf_config(), 37)
    found = plan(source, "hf")
    (config,) = [output for output in found.outputs if output.path == "config.json"]
    assert config.container == "file"
    assert config.steps[0].pieces[0].origin == "config"
    assert found.texts == ()


def test_sidecars_travel_in_the_same_dialect_and_are_kept_in_another(tmp_path: Path) -> None:
    source = write_hf(tmp_path, hf(), hf_config(), 37)
    (source / "1_Pooling").mkdir()
    for name in ("modules.json", "1_Pooling/config.json", "tokenizer.json"):
        (source / name).write_text(name)
    names = {"modules.json", "1_Pooling/config.json", "tokenizer.json"}
    assert names < set(plan(source, "hf").files)
    there = plan(source, "uer")
    assert not names & set(there.files)
    assert names < {kept.name for kept in there.residue}
    assert {f"hf/file/{name}" for name in names} < set(steps_of(there, FILE_NAME))


def residue_beside(folder: Path, *entries: Entry, arrays=None) -> Path:
    arrays = arrays or {entry.key: np.frombuffer(b"{}", np.uint8) for entry in entries}
    (folder / FILE_NAME).write_bytes(safetensors_bytes(arrays, metadata_of(entries)))
    return folder


def an_entry(kind: str, name: str, dialect: str = "hf") -> Entry:
    return Entry(key_of(kind, dialect, name), kind, dialect, name, "because")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", FILE_NAME])
def test_a_kept_file_cannot_take_the_place_of_another(tmp_path: Path, name: str) -> None:
    source = write_uer(tmp_path, uer(), uer_config(), 37)
    residue_beside(source, an_entry("file", name))
    with pytest.raises(FormatError, match="which the output has of its own") as caught:
        plan(source, "hf")
    assert caught.value.path == source / FILE_NAME


def test_what_is_kept_for_a_third_dialect_is_carried_on(tmp_path: Path) -> None:
    source = write_uer(tmp_path, uer(), uer_config(), 37)
    residue_beside(source, an_entry("file", "x.json", "paddle"), an_entry("foreign", "losses", "hf"))
    kept = steps_of(plan(source, "hf"), FILE_NAME)
    assert {"paddle/file/x.json", "hf/foreign/losses"} <= set(kept)


def test_rows_kept_come_back_where_they_fit_and_their_loss_is_told_where_not(tmp_path: Path) -> None:
    source = write_hf(tmp_path, hf(), hf_config(), 37)
    entry = an_entry("rows", SEGMENTS, "uer")
    for array, fits in (
        (np.ones((1, 12), np.float32), True),
        (np.ones((1, 12), np.float16), False),
        (np.ones((1, 11), np.float32), False),
        (np.ones((2, 12), np.float32), False),
    ):
        residue_beside(source, entry, arrays={entry.key: array})
        found = plan(source, "uer")
        first = steps_of(found, "pytorch_model.bin")[SEGMENTS].pieces[0]
        assert first.origin == ("residue" if fits else "zeros")
        assert any("zeros take their place" in note for note in found.notes) is not fits


def test_kept_tensors_do_not_come_twice(tmp_path: Path) -> None:
    source = write_uer(tmp_path, uer(("pooler",)), uer_config(), 37)
    entries = [an_entry("tensor", "pooler.dense.bias"), an_entry("tensor", "embeddings.position_ids")]
    arrays = {entries[0].key: np.zeros(12, np.float32), entries[1].key: np.arange(17)[None]}
    residue_beside(source, *entries, arrays=arrays)
    steps = steps_of(plan(source, "hf"), "model.safetensors")
    assert steps["pooler.dense.bias"].pieces[0].origin == "source"
    assert steps["embeddings.position_ids"].pieces == (Piece("residue", entries[1].key, 0, 17 * 8),)


@pytest.mark.parametrize("types", [0, 1, 3, 4])
def test_token_types_that_uer_cannot_hold_are_refused_with_the_reason(tmp_path: Path, types: int) -> None:
    sizes = Sizes(types=types)
    with pytest.raises(MappingError, match=rf"always has 3 rows, but {types + 1} are due") as caught:
        plan(write_hf(tmp_path, hf((), sizes), hf_config(sizes)), "uer")
    assert caught.value.names == (TYPES,)


def test_notes_tell_what_a_person_should_know(tmp_path: Path) -> None:
    notes = "\n".join(plan(write_hf(tmp_path / "a", hf(), hf_config()), "uer").notes)
    assert "LayerNorm is computed" in notes
    assert "kept as residue" in notes  # the second dropout
    without = "\n".join(plan(write_uer(tmp_path / "b", uer(), uer_config()), "hf").notes)
    assert "add_pooling_layer=False" in without
    assert "Read off the shapes" in without


# Containers alone.


def keep_names(path: Path, container: str = "safetensors", dtype=None, residue: str = "keep") -> Plan:
    with open_checkpoint(path, strict=False) as source:
        return plan_keep_names(source, CONTAINERS[container], "out", dtype, residue)


def test_names_are_kept_of_any_model(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(safetensors_bytes({"x.y": np.zeros(3), "z": np.zeros(2, np.int8)}, {"k": "v"}))
    found = keep_names(tmp_path / "a")
    assert (found.origin, found.target, found.family, found.heads) == (None, None, None, ())
    assert list(steps_of(found, "out")) == ["x.y", "z"]
    assert found.outputs[0].metadata == {"k": "v"}
    assert keep_names(tmp_path / "a", "torch-zip").outputs[0].metadata == {}


def test_one_tensor_of_two_names_stays_one_where_that_is_possible(tmp_path: Path) -> None:
    arrays = {"a": np.arange(3.0), "c": np.arange(3.0)}
    write_uer(tmp_path, {**arrays, "b": arrays["a"], "d": arrays["a"]}, name="x.bin")
    shared = keep_names(tmp_path / "x.bin", "torch-zip").outputs[0]
    assert [step.target.name for step in shared.steps] == ["a", "c"]
    assert shared.ties == {"b": "a", "d": "a"}
    apart = keep_names(tmp_path / "x.bin").outputs[0]
    assert [step.target.name for step in apart.steps] == ["a", "c", "b", "d"]
    assert apart.ties == {}


def test_values_that_are_no_tensors_are_told(tmp_path: Path) -> None:
    import torch

    torch.save({"a": torch.zeros(2), "epoch": 3, "args": {"lr": 0.1}}, tmp_path / "x.bin")
    (note,) = keep_names(tmp_path / "x.bin").notes
    assert note.startswith("2 values that are no tensors are left out")
    assert "epoch" in note


def test_a_container_that_is_only_read_is_refused(tmp_path: Path) -> None:
    write_hf(tmp_path, hf())
    with pytest.raises(UsageError, match="is read, but not written"):
        keep_names(tmp_path, "torch-legacy")


def test_what_a_step_does_is_told_in_words() -> None:
    spec = TensorSpec("a", FLOAT32, (2, 3))
    whole = Piece("source", "a", 0, 24)
    assert Step(spec, (whole,)).operation == "copy"
    assert Step(spec, (whole,), transpose=(3, 2)).operation == "transpose"
    assert Step(spec, (whole,), (3, 2), FLOAT16).operation == "transpose, cast from float16"
    assert Step(spec, (Piece("source", "a", 12, 24),)).operation == "drop rows"
    assert Step(spec, (Piece("residue", "r", 0, 12), Piece("source", "a", 0, 12))).operation == "pad rows"


def test_sizes_of_a_plan_add_up() -> None:
    steps = tuple(
        Step(TensorSpec(name, FLOAT32, (n,)), (Piece("source", name, 0, 4 * n),)) for name, n in (("a", 2), ("b", 3))
    )
    output = Output("x", "safetensors", steps)
    assert output.nbytes == 20
    found = Plan("s", None, None, None, "safetensors", (), (output, output), (Text("t", "é"),), (), False, ())
    assert found.nbytes == 40
    assert found.files == ("x", "x", "t")
    assert found.as_dict()["files"][2] == {"path": "t", "bytes": 2}
    assert not found.casts


def test_sizes_of_these_tests_are_all_different() -> None:
    sizes = [
        SMALL.layers,
        SMALL.hidden,
        SMALL.heads,
        SMALL.intermediate,
        SMALL.vocab,
        SMALL.positions,
        SMALL.types,
        SMALL.labels,
    ]
    assert len(set(sizes)) == len(sizes)
