"""Conventions are named with what they explain, and nothing is left over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import interlingua
from benchmarks.families import realistic, write_model
from interlingua.convert.source import Asked, open_checkpoint
from interlingua.mappings.schema import FAMILIES, TASK_TYPES
from interlingua.verify.parity.check import configuration_faults
from interlingua.verify.parity.shares import shares
from interlingua.verify.parity.side import Opened, open_side
from interlingua.verify.parity.weights import compare_weights, severed, unmatched_heads

pytest.importorskip("scipy")


class Pairs:
    """Opens a model and its conversion."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.stack, self.folder = stack, folder

    def __call__(self, family: str, heads: tuple[str, ...], to: str, **options: object) -> tuple[Opened, Opened]:
        source = write_model(self.folder / "a", FAMILIES[family], heads, 3, draw=realistic)
        interlingua.convert(source, self.folder / "b", to=to, sync=False, **options)
        return self.open(source), self.open(self.folder / "b", to)

    def open(self, path: Path, dialect: str | None = None) -> Opened:
        return open_side(self.stack.enter_context(open_checkpoint(path, Asked(dialect=dialect))))


@pytest.fixture
def pairs(tmp_path: Path) -> Iterator[Pairs]:
    with ExitStack() as stack:
        yield Pairs(stack, tmp_path)


@pytest.mark.parametrize(
    ("to", "options", "names"),
    [
        ("uer", {}, ["LayerNorm formula", "epsilon"]),
        ("uer", {"preserve": "outputs"}, ["LayerNorm formula, folded into gammas", "epsilon"]),
        ("tf1", {}, ["activation"]),
        ("mindspore", {}, ["epsilon", "activation"]),
        ("hf", {"dtype": "bfloat16"}, ["weights"]),
        ("tf1", {"dtype": "float16"}, ["weights", "activation"]),
        ("paddle", {}, []),
    ],
)
def test_the_conventions_of_a_way_explain_all_of_it(pairs: Pairs, to: str, options: dict, names: list[str]) -> None:
    a, b = pairs("bert", ("pooler", "masked_lm", "next_sentence"), to, **options)
    found = shares(a, b.model, b)
    assert [share.convention for share in found] == names
    assert not found or sum(share.share for share in found) == pytest.approx(1.0)
    assert compare_weights(a, b)[0].ok


def test_folding_leaves_of_the_formula_what_rounding_leaves(pairs: Pairs) -> None:
    a, b = pairs("bert", ("pooler",), "uer", preserve="outputs")
    formula, epsilon = shares(a, b.model, b)
    assert formula.share < 0.1 < epsilon.share


def test_task_types_without_a_place_are_a_convention_and_no_missing_tensor(pairs: Pairs) -> None:
    a, b = pairs("ernie", ("pooler",), "uer")
    gate, notes = compare_weights(a, b)
    assert gate.ok
    assert any(TASK_TYPES in note for note in notes)
    assert severed(a, b) == (TASK_TYPES,)
    first = shares(a, b.model, b)[0]
    assert (first.convention, first.b) == (TASK_TYPES, "no place for it")
    assert first.rms > 0


def test_a_task_embedding_that_a_configuration_switches_off_is_stored_and_not_computed_with(pairs: Pairs) -> None:
    a, _ = pairs("ernie", ("pooler",), "hf", overwrite=True)
    path = pairs.folder / "a" / "config.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"use_task_id": true', '"use_task_id": false'))
    off = pairs.open(pairs.folder / "a")
    assert a.tensor(TASK_TYPES).shape == off.stored(TASK_TYPES).shape
    with pytest.raises(KeyError):
        off.tensor(TASK_TYPES)
    assert compare_weights(a, off)[0].ok
    assert [fault.where for fault in configuration_faults(a, off)] == ["B's configuration, use_task_id"]


@pytest.mark.parametrize("to", ["paddle", "uer"])
def test_what_a_model_does_not_compute_with_is_missed_nowhere(pairs: Pairs, to: str) -> None:
    pairs("ernie", ("pooler",), "hf", overwrite=True)
    path = pairs.folder / "a" / "config.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"use_task_id": true', '"use_task_id": false'))
    interlingua.convert(pairs.folder / "a", pairs.folder / "c", to=to, sync=False)
    off, other = pairs.open(pairs.folder / "a"), pairs.open(pairs.folder / "c", to)
    gate, notes = compare_weights(off, other)
    assert gate.ok
    assert any(TASK_TYPES in note for note in notes)
    assert severed(off, other) == ()
    assert not configuration_faults(off, other)


def test_a_successors_epsilon_is_the_layers_alone(pairs: Pairs) -> None:
    a, b = pairs("bert", ("pooler", "masked_lm"), "tencentpretrain")
    assert (b.model.layer_norm_eps, b.model.embeddings_eps, dict(b.model.head_eps)) == (1e-6, 1e-6, {"masked_lm": 1e-6})
    path = pairs.folder / "b" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "layernorm_eps": 1e-3}))
    changed = pairs.open(pairs.folder / "b", "tencentpretrain")
    assert (changed.model.layer_norm_eps, changed.model.embeddings_eps) == (1e-3, 1e-6)
    assert changed.model.head_eps == {"masked_lm": 1e-6}
    assert [fault.where for fault in configuration_faults(a, changed)] == ["B's configuration, layer_norm_eps"]
    assert [share.convention for share in shares(b, changed.model, changed)] == ["epsilon"]


def test_a_head_that_goes_its_own_way_is_weighed_on_its_output(pairs: Pairs) -> None:
    a, b = pairs("albert", ("pooler", "masked_lm", "sentence_order"), "paddle")
    (head,) = shares(a, b.model, b)
    assert head.convention.startswith("masked_lm")
    assert (head.a, head.b) == ("as the layers", "1e-05")
    assert head.share == pytest.approx(1.0)


def test_a_head_is_missed_only_where_it_has_a_place(pairs: Pairs) -> None:
    a, b = pairs("bert", ("span_qa",), "keras-hub")
    assert unmatched_heads(a, b) == {}
    assert compare_weights(a, b)[0].ok
    plain = pairs.open(write_model(pairs.folder / "c", FAMILIES["bert"], (), 3, draw=realistic))
    assert unmatched_heads(a, plain) == {"span_qa": "B"}
    assert unmatched_heads(plain, a) == {"span_qa": "A"}
