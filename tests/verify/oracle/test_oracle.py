"""The oracle: against transformers' own classes in float64, and against what a forward pass must satisfy."""

from __future__ import annotations

import importlib.util
import json
import math
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlingua.convert.source import Asked, open_checkpoint
from interlingua.formats.dtypes import numpy_dtype
from interlingua.mappings.conventions import BEHIND_PADDING, CANONICAL, FROM_ZERO, UNBIASED
from interlingua.mappings.schema import ENCODER, FAMILIES
from interlingua.verify import oracle
from interlingua.verify.canonical import canonical_blocks, canonical_steps
from interlingua.verify.oracle import BFLOAT16, FLOAT16, FLOAT32, Arithmetic, Model
from interlingua.verify.oracle.arithmetic import FLOAT64, activate, layer_norm, softmax
from interlingua.verify.parity.batch import Batch
from tests.frameworks import run_in

pytest.importorskip("scipy", reason="scipy is not installed")

VOCAB, HIDDEN, INNER, LAYERS, HEADS, PLACES, LABELS, PAD = 29, 12, 20, 3, 3, 16, 3, 1
PROGRAM = Path(__file__).with_name("transformers_in_float64.py")

SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": PLACES,
    "type_vocab_size": 2,
    "layer_norm_eps": 3e-3,
    "pad_token_id": PAD,
    "hidden_act": "gelu",
    "tie_word_embeddings": True,
}
DISTIL = {"dim": HIDDEN, "hidden_dim": INNER, "n_layers": LAYERS, "n_heads": HEADS, "activation": "gelu_new"}
TASKS = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice")

JOBS: dict[str, tuple[str, str, tuple[str, ...], dict[str, object]]] = {
    "bert": ("bert", "Bert", ("ForPreTraining", *TASKS), {}),
    "bert-tanh": ("bert", "Bert", ("ForMaskedLM",), {"hidden_act": "gelu_new"}),
    "bert-silu": ("bert", "Bert", ("ForMaskedLM",), {"hidden_act": "silu", "tie_word_embeddings": False}),
    "ernie": ("ernie", "Ernie", ("ForPreTraining", *TASKS), {"use_task_id": True, "task_type_vocab_size": 3}),
    "ernie-no-tasks": ("ernie", "Ernie", ("ForPreTraining",), {"use_task_id": False, "hidden_act": "relu"}),
    "albert": ("albert", "Albert", ("ForPreTraining", *TASKS), {"embedding_size": 8, "hidden_act": "gelu_new"}),
    "albert-groups": ("albert", "Albert", ("ForMaskedLM",), {"embedding_size": 8, "num_hidden_groups": 2}),
    "roberta": ("roberta", "Roberta", ("ForMaskedLM", *TASKS), {"hidden_act": "relu"}),
    "xlm-roberta": ("xlm-roberta", "XLMRoberta", ("ForMaskedLM", *TASKS), {}),
    "electra": ("electra", "Electra", ("ForMaskedLM", "ForPreTraining", *TASKS), {"embedding_size": 8}),
    "electra-relu": ("electra", "Electra", ("ForMaskedLM", "ForPreTraining", *TASKS), {"hidden_act": "relu"}),
    "distilbert": ("distilbert", "DistilBert", ("ForMaskedLM", *TASKS), DISTIL),
    "nezha": ("nezha", "Nezha", ("ForPreTraining", *TASKS), {"max_relative_position": 4}),
}
"""Name -> family, the prefix of transformers' classes, their endings, further configuration."""

CASES = [(name, prefix + ending) for name, (_, prefix, endings, _) in JOBS.items() for ending in endings]

HEADS_OF = {
    "ForMaskedLM": {"masked_lm"},
    "ForSequenceClassification": {"sequence_classification"},
    "ForTokenClassification": {"token_classification"},
    "ForQuestionAnswering": {"span_qa"},
    "ForMultipleChoice": {"multiple_choice"},
}
PRETRAINED = {"albert": {"masked_lm", "sentence_order"}, "electra": {"replaced_token_detection"}}
"""Heads of a class ``ForPreTraining``; all other families' have BERT's."""

OUTPUTS = {
    "masked_lm": ("prediction_logits", "logits"),
    "next_sentence": ("seq_relationship_logits",),
    "sentence_order": ("sop_logits",),
}
"""Head -> the names that transformers has for its output; all others are ``logits``."""


def batch_of(lengths: tuple[int, ...], length: int, seed: int = 0, pad: int = PAD) -> Batch:
    """Random rows, padded to a length; padding's types and tasks are random as well."""
    rng = np.random.default_rng(seed)
    shape = (len(lengths), length)
    allowed = np.delete(np.arange(VOCAB), pad)
    mask = (np.arange(length)[None, :] < np.array(lengths)[:, None]).astype(np.int64)
    ids = np.where(mask == 1, rng.choice(allowed, shape), pad)
    predict = np.stack([rng.integers(0, count, 3) for count in lengths])
    return Batch("test", ids, rng.integers(0, 2, shape), rng.integers(0, 3, shape), mask, predict)


BATCH = batch_of((11, 4, 9, 1), 11)


def model_of(name: str, heads: tuple[str, ...], tensors: dict[str, np.ndarray]) -> Model:
    family, _, _, more = JOBS[name]
    config = {**SIZES, **more}
    spelled = str(config["activation"] if family == "distilbert" else config["hidden_act"])
    return Model(
        family=family,
        heads=heads,
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_hidden_groups=int(config.get("num_hidden_groups", 1)) if family == "albert" else None,
        hidden_act={"gelu_new": "gelu_tanh"}.get(spelled, spelled),
        layer_norm=CANONICAL,
        # modeling_distilbert.py writes the number into each LayerNorm.
        layer_norm_eps=1e-12 if family == "distilbert" else float(config["layer_norm_eps"]),
        positions=BEHIND_PADDING if "roberta" in family else FROM_ZERO,
        pad_token_id=PAD,
        max_relative_position=config.get("max_relative_position"),
    )


def inputs_of(family: str) -> dict[str, list[list[int]]]:
    keys = {"input_ids", "attention_mask"}
    keys |= {"token_type_ids"} if family != "distilbert" else set()
    keys |= {"task_type_ids"} if family == "ernie" else set()
    return {key: getattr(BATCH, key).tolist() for key in keys}


def has_nezha() -> bool:
    found = importlib.util.find_spec("transformers")
    return bool(found and found.origin) and Path(found.origin).with_name("models").joinpath("deprecated/nezha").is_dir()


@pytest.fixture(scope="session")
def transformers_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a random model of each class, each with what transformers computes of ``BATCH``."""
    folder = tmp_path_factory.mktemp("transformers")
    jobs = {
        name: {
            "model_type": family,
            "classes": [prefix + ending for ending in endings],
            "config": {**SIZES, **more},
            "labels": LABELS,
            "batch": inputs_of(family),
        }
        for name, (family, prefix, endings, more) in JOBS.items()
        if family != "nezha" or has_nezha()
    }
    run_in("transformers", PROGRAM.read_text(encoding="utf-8"), folder, json.dumps(jobs))
    return folder


def read(folder: Path, family: str) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """A checkpoint's heads, and its canonical tensors in float64, tied ones included."""
    with open_checkpoint(folder, Asked(dialect="hf", family=family)) as checkpoint:
        tensors = {}
        for name, step in canonical_steps(checkpoint).items():
            data = b"".join(canonical_blocks(step, checkpoint))
            tensors[name] = np.frombuffer(data, numpy_dtype(step.target.dtype)).reshape(step.target.shape)
        tensors |= {name: tensors[owner] for name, owner in checkpoint.ties.items()}
        return checkpoint.heads, tensors


def expected_of(found: dict[str, np.ndarray], head: str) -> np.ndarray:
    """Transformers' output of a head, in the shape that activations have."""
    if head == "span_qa":
        return np.stack([found["start_logits"], found["end_logits"]], axis=-1)
    if head in found:
        return found[head]
    array = next(found[key] for key in OUTPUTS.get(head, ("logits",)) if key in found)
    if head == "masked_lm":
        return np.take_along_axis(array, BATCH.predict[:, :, None], axis=1)
    return array[..., None] if head == "replaced_token_detection" else array


@pytest.mark.parametrize(("name", "class_name"), CASES, ids=["-".join(case) for case in CASES])
def test_every_family_and_head_computes_what_transformers_computes_in_float64(
    name: str, class_name: str, transformers_models: Path
) -> None:
    if not (transformers_models / name).is_dir():
        pytest.skip(f"this transformers has no {class_name}")
    folder = transformers_models / name / class_name
    heads, tensors = read(folder, JOBS[name][0])
    model = model_of(name, heads, tensors)
    with np.load(folder / "activations.npz") as file:
        theirs = {key: file[key] for key in file.files}

    ours = dict(oracle.forward(tensors.__getitem__, model, BATCH))

    pretrained = PRETRAINED.get(JOBS[name][0], {"masked_lm", "next_sentence"})
    assert {*heads} - {"pooler"} == HEADS_OF.get(class_name.removeprefix(JOBS[name][1]), pretrained)
    assert [*ours] == ["embeddings", *(f"layer.{index}" for index in range(LAYERS)), *heads]
    for key, array in ours.items():
        assert array.dtype == np.float64
        expected = oracle.real_tokens(expected_of(theirs, key), key, BATCH)
        np.testing.assert_allclose(array, expected, rtol=0, atol=1e-12, err_msg=key)


# ----------------------------------------------------------------------- Models made here, for what follows

SHAPES = {
    "vocab": VOCAB,
    "positions": PLACES,
    "types": 2,
    "tasks": 3,
    "hidden": HIDDEN,
    "intermediate": INNER,
    "embedding": 8,
    "labels": LABELS,
    "relative": 9,
    "head_size": HIDDEN // HEADS,
    "attention_heads": HEADS,
}

PLAIN = {
    "heads": (),
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_hidden_groups": None,
    "hidden_act": "gelu",
    "layer_norm": CANONICAL,
    "layer_norm_eps": 1e-12,
    "positions": FROM_ZERO,
    "pad_token_id": PAD,
    "max_relative_position": None,
}


@lru_cache(None)
def random_model(family: str) -> tuple[Model, dict[str, np.ndarray]]:
    """A model of a family with all of its heads and optional tensors, its float64 values exact in float32."""
    rng = np.random.default_rng(len(family))
    known = FAMILIES[family]
    groups = 1 if known.counts == "num_hidden_groups" else None
    tensors = {}
    for name, tensor in known.instances(groups or LAYERS):
        shape = tuple(int(symbol) if symbol.isdigit() else SHAPES[symbol] for symbol in tensor.shape)
        around = 1.0 if name.endswith("LayerNorm.weight") else 0.0
        drawn = (around + 0.3 * rng.standard_normal(shape)).astype(np.float32)
        tensors[name] = tensors[tensor.tied_to] if tensor.tied_to else drawn.astype(np.float64)
    far = 4 if "max_relative_position" in known.values else None
    values = {**PLAIN, "heads": known.heads, "num_hidden_groups": groups, "max_relative_position": far}
    if "roberta" in family:
        values["positions"] = BEHIND_PADDING
    return Model(family=family, **values), tensors


def run(
    model: Model, tensors: dict[str, np.ndarray], batch: Batch = BATCH, arithmetic: Arithmetic = FLOAT64
) -> dict[str, np.ndarray]:
    return dict(oracle.forward(tensors.__getitem__, model, batch, arithmetic))


families = pytest.mark.parametrize("family", FAMILIES)
arrays = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).standard_normal((5, 7)))


def shifted(array: np.ndarray) -> np.ndarray:
    """Other values than an array's, by different amounts."""
    return array + 0.1 * np.cos(1.0 + np.arange(array.size)).reshape(array.shape)


@families
def test_every_tensor_tells_in_an_output_and_a_heads_in_its_own_alone(family: str) -> None:
    model, tensors = random_model(family)
    base = run(model, tensors)
    stored_only = {
        "ernie-gram": "embeddings.rel_pos_embeddings.weight",
        "nezha": "embeddings.position_embeddings.weight",
    }
    for name in tensors:
        changed = run(model, {**tensors, name: shifted(tensors[name])})
        moved = {key for key in base if np.abs(changed[key] - base[key]).max() > 1e-9}
        part = FAMILIES[family].find(name).part
        # A key's bias adds the same to all scores of a query.
        if name == stored_only.get(family) or name.endswith("attention.self.key.bias"):
            assert not moved, name
        elif part == ENCODER:
            assert {key for key in base if key != "embeddings" and not key.startswith("layer.")} <= moved, name
        elif part == "pooler":
            assert "pooler" in moved, name
            assert not any(key == "embeddings" or key.startswith("layer.") for key in moved), name
        else:
            assert moved == {part}, name


@families
def test_a_layers_own_tensors_tell_from_that_layer_on(family: str) -> None:
    model, tensors = random_model(family)
    base = run(model, tensors)
    name = f"{oracle.layer_prefix(model, 1)}intermediate.dense.weight"
    changed = run(model, {**tensors, name: shifted(tensors[name])})
    same = [key for key in base if (changed[key] == base[key]).all()]
    assert same == (["embeddings"] if model.num_hidden_groups else ["embeddings", "layer.0"])


@pytest.mark.parametrize("family", ["bert", "ernie", "roberta", "nezha", "electra"])
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple), more=st.integers(0, 4))
def test_what_stands_in_padding_and_how_much_of_it_changes_nothing(
    family: str, lengths: tuple[int, ...], more: int
) -> None:
    model, tensors = random_model(family)
    longest = max(lengths)
    batch, other = batch_of(lengths, longest), batch_of(lengths, longest + more, seed=1)
    real = batch.attention_mask == 1
    ids, types, tasks = (getattr(other, key).copy() for key in ("input_ids", "token_type_ids", "task_type_ids"))
    for wide, key in ((ids, "input_ids"), (types, "token_type_ids"), (tasks, "task_type_ids")):
        wide[:, :longest][real] = getattr(batch, key)[real]
    other = replace(other, input_ids=ids, token_type_ids=types, task_type_ids=tasks, predict=batch.predict)

    found = run(model, tensors, other)
    for key, array in run(model, tensors, batch).items():
        np.testing.assert_array_equal(found[key], array, err_msg=key)


@families
def test_a_row_computes_the_same_alone_as_among_others(family: str) -> None:
    model, tensors = random_model(family)
    whole = run(model, tensors)
    start = 0
    for row, length in enumerate(BATCH.lengths):
        cut = {key: getattr(BATCH, key)[row : row + 1] for key in Batch.ARRAYS}
        alone = run(model, tensors, Batch("row", **cut))
        for key, array in alone.items():
            width = 3 if key == "masked_lm" else 1
            by_token = len(array) == length and len(whole[key]) == sum(BATCH.lengths)
            first, count = (start, length) if by_token else (row * width, width)
            np.testing.assert_allclose(array, whole[key][first : first + count], rtol=0, atol=1e-12, err_msg=key)
        start += length


@given(order=st.permutations(range(9)), family=st.sampled_from(["bert", "distilbert", "albert"]))
def test_without_positions_tokens_may_stand_in_any_order(order: list[int], family: str) -> None:
    model, tensors = random_model(family)
    places = "embeddings.position_embeddings.weight"
    tensors = {**tensors, places: np.zeros_like(tensors[places])}
    batch = batch_of((9,), 9)
    moved = {key: getattr(batch, key)[:, order] for key in Batch.ARRAYS if key != "predict"}
    last = f"layer.{LAYERS - 1}"
    found = run(model, tensors, replace(batch, **moved))[last]
    np.testing.assert_allclose(found, run(model, tensors, batch)[last][order], rtol=0, atol=1e-12)


def test_positions_begin_behind_the_padding_row_where_they_do() -> None:
    model, _ = random_model("roberta")
    assert oracle.position_ids(replace(model, pad_token_id=3), BATCH)[1].tolist() == list(range(4, 15))
    assert oracle.position_ids(replace(model, positions=FROM_ZERO), BATCH)[1].tolist() == list(range(11))


def test_nezha_computes_sinusoids_where_no_table_is_stored_and_distances_are_cut_off() -> None:
    model, tensors = random_model("nezha")
    stored = [name for name in tensors if name.endswith("relative_positions.weight")]
    without = {name: array for name, array in tensors.items() if name not in stored}
    table = oracle.relative_table(without.__getitem__, model, 0)
    size = HIDDEN // HEADS
    expected = [
        [(math.sin, math.cos)[axis % 2](place / 10000 ** ((axis - axis % 2) / size)) for axis in range(size)]
        for place in range(9)
    ]
    np.testing.assert_allclose(table, expected, rtol=0, atol=1e-14)
    again = run(model, {**tensors, **dict.fromkeys(stored, table)})
    for key, array in run(model, without).items():
        np.testing.assert_array_equal(array, again[key])
    # The row of the farthest distance stands for all beyond it, which only rows of more than 4 tokens have.
    far = run(model, {**without, **dict.fromkeys(stored, np.concatenate([shifted(table[:1]), table[1:]]))})["layer.0"]
    near = run(model, without)["layer.0"]
    starts = np.cumsum([0, *BATCH.lengths])
    unmoved = [np.allclose(far[a:b], near[a:b], atol=1e-12) for a, b in pairwise(starts)]
    assert unmoved == [length <= 4 for length in BATCH.lengths]
    with pytest.raises(ValueError, match="max_relative_position"):
        run(replace(model, max_relative_position=None), without)


def test_attention_with_a_learned_table_is_the_papers_sum_over_pairs() -> None:
    model, tensors = random_model("nezha")
    batch = batch_of((7,), 7)
    x = np.random.default_rng(5).standard_normal((7, HIDDEN))
    found = oracle.attention_context(tensors.__getitem__, model, 0, x, batch)
    prefix, size = "encoder.layer.0.attention.self.", HIDDEN // HEADS
    q, k, v = (x @ tensors[f"{prefix}{p}.weight"].T + tensors[f"{prefix}{p}.bias"] for p in ("query", "key", "value"))
    table = tensors[f"{prefix}relative_positions.weight"]
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        for i in range(7):
            near = [table[min(max(j - i, -4), 4) + 4] for j in range(7)]
            scores = [float(q[i, part] @ (k[j, part] + near[j])) / math.sqrt(size) for j in range(7)]
            total = sum(map(math.exp, scores))
            wanted = sum(math.exp(scores[j]) / total * (v[j, part] + near[j]) for j in range(7))
            np.testing.assert_allclose(found[i, part], wanted, rtol=0, atol=1e-12)


def test_groups_of_layers_share_their_weights_in_runs_of_equal_length() -> None:
    model = replace(random_model("albert")[0], num_hidden_layers=6, num_hidden_groups=2)
    prefixes = [oracle.layer_prefix(model, index) for index in range(6)]
    assert prefixes == ["encoder.group.0."] * 3 + ["encoder.group.1."] * 3


# ------------------------------------------------------------------------------------------------- Operations


@given(x=arrays, scale=st.floats(0.01, 100), shift=st.floats(-50, 50), formula=st.sampled_from([CANONICAL, UNBIASED]))
def test_layer_norm_takes_away_scale_and_shift(x: np.ndarray, scale: float, shift: float, formula: str) -> None:
    gamma, beta = np.linspace(0.5, 2, 7), np.linspace(-1, 1, 7)
    found = layer_norm(scale * x + shift, gamma, beta, 0.0, formula, FLOAT64)
    np.testing.assert_allclose(found, layer_norm(x, gamma, beta, 0.0, formula, FLOAT64), rtol=0, atol=1e-9)


@given(x=arrays)
def test_the_two_formulas_differ_by_the_root_of_n_over_n_minus_one(x: np.ndarray) -> None:
    gamma, beta = np.linspace(0.5, 2, 7), np.zeros(7)
    biased, unbiased = (layer_norm(x, gamma, beta, 0.0, formula, FLOAT64) for formula in (CANONICAL, UNBIASED))
    np.testing.assert_allclose(biased, unbiased * math.sqrt(7 / 6), rtol=1e-12)


def test_layer_norm_is_torchs_and_uers_to_the_last_digits(tmp_path: Path) -> None:
    """UER's is written out as ``uer/layers/layer_norm.py`` has it: torch's mean and std, epsilon beside the std."""
    rng = np.random.default_rng(0)
    x, gamma, beta = rng.standard_normal((6, 9)) * 3 + 1, rng.standard_normal(9), rng.standard_normal(9)
    np.savez(tmp_path / "in.npz", x=x, gamma=gamma, beta=beta)
    code = """
import sys, numpy, torch
x, gamma, beta = map(torch.tensor, numpy.load(sys.argv[1] + "/in.npz").values())
uer = gamma * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 0.01) + beta
numpy.savez(sys.argv[1] + "/out.npz", uer=uer, torch=torch.nn.functional.layer_norm(x, (9,), gamma, beta, 0.01))
"""
    run_in("torch", code, tmp_path)
    with np.load(tmp_path / "out.npz") as file:
        for formula, expected in ((UNBIASED, file["uer"]), (CANONICAL, file["torch"])):
            found = layer_norm(x, gamma, beta, 0.01, formula, FLOAT64)
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)


@given(x=arrays, shift=st.floats(-1e3, 1e3))
def test_softmax_adds_up_to_one_and_takes_away_a_shift(x: np.ndarray, shift: float) -> None:
    found = softmax(x, FLOAT64)
    np.testing.assert_allclose(found.sum(axis=-1), 1, rtol=1e-14)
    np.testing.assert_allclose(softmax(x + shift, FLOAT64), found, rtol=1e-9)
    np.testing.assert_allclose(found[:, 0] / found[:, 1], np.exp(x[:, 0] - x[:, 1]), rtol=1e-12)


@given(x=st.floats(-9, 9))
def test_activations_are_what_their_names_say(x: float) -> None:
    found = {
        name: float(activate(np.array([x]), name, FLOAT64)[0])
        for name in ("gelu", "gelu_tanh", "relu", "silu", "tanh", "linear")
    }
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    assert found == pytest.approx(
        {
            "gelu": x / 2 * math.erfc(-x / math.sqrt(2)),
            "gelu_tanh": x / 2 * (1 + math.tanh(inner)),
            "relu": max(x, 0),
            "silu": x / (1 + math.exp(-x)),
            "tanh": math.tanh(x),
            "linear": x,
        },
        rel=1e-12,
        abs=1e-14,
    )


# ------------------------------------------------------------------------------------------------ Conventions


@pytest.mark.parametrize(
    ("change", "first"),
    [
        ({"layer_norm_eps": 1e-2}, "embeddings"),
        ({"layer_norm": UNBIASED}, "embeddings"),
        ({"positions": BEHIND_PADDING}, "embeddings"),
        ({"hidden_act": "gelu_tanh"}, "layer.0"),
        ({"num_attention_heads": 4}, "layer.0"),
        ({"head_act": {"pooler": "relu"}}, "pooler"),
        ({"head_act": {"masked_lm": "relu"}}, "masked_lm"),
        ({"head_eps": {"masked_lm": 1e-2}}, "masked_lm"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value,
)
def test_a_convention_tells_from_where_it_is_computed(change: dict[str, object], first: str) -> None:
    model, tensors = random_model("bert")
    base, changed = run(model, tensors), run(replace(model, **change), tensors)
    moved = [key for key in base if (changed[key] != base[key]).any()]
    assert moved[0] == first
    if first == "masked_lm":
        assert moved == ["masked_lm"]


def test_half_of_a_layer_can_be_computed_under_another_convention() -> None:
    model, tensors = random_model("bert")
    get, other = tensors.__getitem__, replace(model, layer_norm_eps=1e-2)
    x = oracle.embeddings(get, model, BATCH)
    attended = oracle.attention_block(get, model, 0, x, BATCH)
    whole = oracle.layer(get, model, 0, x, BATCH)
    np.testing.assert_array_equal(oracle.feed_forward_block(get, model, 0, attended), whole)
    second = oracle.feed_forward_block(get, other, 0, attended)
    first = oracle.feed_forward_block(get, model, 0, oracle.attention_block(get, other, 0, x, BATCH))
    assert len({array.tobytes() for array in (whole, first, second, oracle.layer(get, other, 0, x, BATCH))}) == 4


@pytest.mark.parametrize("family", ["electra", "distilbert", "roberta"])
def test_a_system_may_take_another_activation_for_a_head_than_its_family(family: str) -> None:
    model, tensors = random_model(family)
    base, changed = run(model, tensors), run(replace(model, head_act={"sequence_classification": "silu"}), tensors)
    assert [key for key in base if (changed[key] != base[key]).any()] == ["sequence_classification"]


# ------------------------------------------------------------------------------------------------------ Noise


def noise(family: str, arithmetic: Arithmetic) -> dict[str, float]:
    """Root mean square of the error that an element type makes, in units of the values' own."""
    model, tensors = random_model(family)
    exact, rounded = run(model, tensors), run(model, tensors, arithmetic=arithmetic)
    return {
        key: float(np.sqrt(np.mean((rounded[key] - array) ** 2) / np.mean(array**2))) for key, array in exact.items()
    }


@families
@pytest.mark.parametrize(
    ("arithmetic", "low", "high"), [(FLOAT32, 1e-8, 2e-6), (FLOAT16, 1e-4, 2e-2), (BFLOAT16, 1e-3, 1.5e-1)]
)
def test_noise_is_of_the_element_types_size(family: str, arithmetic: Arithmetic, low: float, high: float) -> None:
    found = noise(family, arithmetic)
    assert min(found.values()) > low, found
    assert max(found.values()) < high, found


@pytest.mark.parametrize(
    ("arithmetic", "dtype"), [(FLOAT32, np.float32), (FLOAT16, np.float16), (BFLOAT16, ml_dtypes.bfloat16)]
)
def test_every_result_has_values_of_the_element_type(arithmetic: Arithmetic, dtype: type) -> None:
    model, tensors = random_model("bert")
    for key, array in run(model, tensors, arithmetic=arithmetic).items():
        assert array.dtype == np.float32, key
        np.testing.assert_array_equal(array, array.astype(dtype).astype(np.float32), err_msg=key)


def test_weights_beyond_the_element_type_make_infinities_and_nans_quietly() -> None:
    model, tensors = random_model("bert")
    tensors = {**tensors, "encoder.layer.1.intermediate.dense.weight": np.full((INNER, HIDDEN), 1e6)}
    assert np.isnan(run(model, tensors, arithmetic=FLOAT16)["layer.1"]).any()
    assert np.isfinite(run(model, tensors, arithmetic=FLOAT32)["layer.1"]).all()


# ------------------------------------------------------------------------------------- A framework's activations


def test_real_tokens_leave_padding_out_and_keep_the_rows_order() -> None:
    hidden = np.arange(4 * 11 * 2).reshape(4, 11, 2)
    expected = np.concatenate([hidden[row, :length] for row, length in enumerate(BATCH.lengths)])
    for name in ("embeddings", "layer.2", "token_classification", "span_qa", "replaced_token_detection"):
        np.testing.assert_array_equal(oracle.real_tokens(hidden, name, BATCH), expected)
    logits = np.arange(4 * 3 * 5).reshape(4, 3, 5)
    np.testing.assert_array_equal(oracle.real_tokens(logits, "masked_lm", BATCH), logits.reshape(12, 5))
    pooled = np.ones((4, 2))
    np.testing.assert_array_equal(oracle.real_tokens(pooled, "pooler", BATCH), pooled)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("layer.0", (4, 10, 2)),
        ("layer.0", (3, 11, 2)),
        ("layer.0", (44, 2)),
        ("masked_lm", (4, 11, 5)),
        ("pooler", (3, 2)),
        ("pooler", (4, 11, 2)),
        ("pooler", (4,)),
    ],
)
def test_an_activation_of_another_shape_is_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=f"{name} has shape"):
        oracle.real_tokens(np.zeros(shape), name, BATCH)
