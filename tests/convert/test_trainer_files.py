"""What training programs save around an encoder: MoCo's two encoders, DataParallel, Lightning, and other wrappers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import interlingua
from interlingua.errors import UsageError
from tests.models import (
    SMALL,
    Arrays,
    assert_same,
    bare,
    hf,
    hf_config,
    prefixed,
    read_safetensors,
    shapes,
    torch_dict,
    uer,
    weights_of,
    write_companions,
)

pytest.importorskip("torch")

BODY = ("pooler",)


def encoder(base: str, seed: int) -> Arrays:
    """A base model with its pooler, behind its prefix; an ERNIE's names are a BERT's."""
    return prefixed(bare(BODY, seed=seed), base)


def save(folder: Path, content: object, name: str, model_type: str = "bert") -> Path:
    """A file of ``torch.save``, and the configuration of the model that is in it."""
    torch = pytest.importorskip("torch")
    folder.mkdir()
    torch.save(content, folder / name)
    write_companions(folder, hf_config(model_type=model_type), SMALL.vocab)
    return folder / name


def moco(folder: Path, base: str) -> Path:
    """What Ryanro/CERT-ERNIE-Pytorch (``MOCO.py``, ``moco/builder.py``) saves: ``moco.tar``."""
    torch = pytest.importorskip("torch")
    state = {}
    for part, seed in (("encoder_q", 1), ("encoder_k", 2)):
        rng = np.random.default_rng(seed)
        head = {
            "classifier.0.weight": rng.standard_normal((12, 12)).astype(np.float32),
            "classifier.0.bias": rng.standard_normal(12).astype(np.float32),
            "classifier.2.weight": rng.standard_normal((5, 12)).astype(np.float32),
            "classifier.2.bias": rng.standard_normal(5).astype(np.float32),
        }
        state |= {f"module.{part}.{name}": array for name, array in {**encoder(base, seed), **head}.items()}
    tensors = {
        **torch_dict(state),
        "module.queue": torch.randn(5, 16),
        "module.queue_ptr": torch.zeros(1, dtype=torch.long),
    }
    moments = {0: {"step": 3, "momentum_buffer": torch.randn(12, 12)}}
    optimizer = {"state": moments, "param_groups": [{"lr": 0.03, "params": [0]}]}
    content = {"epoch": 7, "arch": "resnet50", "state_dict": tensors, "optimizer": optimizer}
    return save(folder, content, "moco.tar", base.rstrip("."))


@pytest.mark.parametrize("base", ["bert.", "ernie."])
@pytest.mark.parametrize(("submodel", "seed"), [(None, 1), ("encoder_q", 1), ("encoder_k", 2)])
def test_the_encoder_is_found_in_a_moco_checkpoint(tmp_path: Path, base: str, submodel: str | None, seed: int) -> None:
    source = moco(tmp_path / "in", base)
    plan = interlingua.convert(source, tmp_path / "out", to="hf", submodel=submodel, sync=False).plan
    assert plan.family == base.rstrip(".")
    assert_same(read_safetensors(tmp_path / "out" / "model.safetensors"), bare(BODY, seed=seed))
    other = {None: "encoder_k", "encoder_q": "encoder_k", "encoder_k": "encoder_q"}[submodel]
    kept = {entry.name for entry in plan.residue}
    assert {"state_dict.module.queue", "state_dict.module.queue_ptr"} <= kept
    assert f"state_dict.module.{other}.{base}embeddings.word_embeddings.weight" in kept
    assert any(name.startswith("optimizer.") and "momentum_buffer" in name for name in kept)
    assert sum("classifier" in name for name in kept) == 8
    if submodel is None:
        assert any("moving average" in note for note in plan.notes)


def test_an_encoder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    source = moco(tmp_path / "in", "bert.")
    with pytest.raises(UsageError, match="fits 0 of the models"):
        interlingua.convert(source, tmp_path / "out", to="hf", submodel="encoder_x")


def lightning(state: dict[str, object]) -> dict[str, object]:
    """What Lightning's ``Trainer.save_checkpoint`` writes around a module's state."""
    return {
        "epoch": 1,
        "global_step": 20,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": state,
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {},
        "optimizer_states": [],
        "lr_schedulers": [],
    }


WRAPPERS = {
    "DataParallel": ("module.", lambda state: state),
    "DataParallel in a dictionary": ("module.", lambda state: {"model": state, "epoch": 3}),
    "Lightning": ("model.", lightning),
    "Lightning and compile": ("model._orig_mod.", lightning),
    "a class of one's own": ("encoder.backbone.", lambda state: state),
    "an average of weights": ("", lambda state: {"model_state_dict": state, "best_f1": 0.5}),
}


@pytest.mark.parametrize("base", ["bert.", "ernie."])
@pytest.mark.parametrize(("prefix", "wrap"), WRAPPERS.values(), ids=WRAPPERS)
def test_the_encoder_is_found_inside_a_wrapper(tmp_path: Path, base: str, prefix: str, wrap) -> None:
    model = {f"{prefix}{name}": array for name, array in encoder(base, 4).items()}
    further = {f"{prefix}fc.weight": np.ones((3, 12), np.float32)}
    source = save(tmp_path / "in", wrap(torch_dict({**model, **further})), "best.ckpt", base.rstrip("."))
    plan = interlingua.convert(source, tmp_path / "out", to="hf", sync=False).plan
    assert plan.family == base.rstrip(".")
    assert_same(read_safetensors(tmp_path / "out" / "model.safetensors"), bare(BODY, seed=4))
    assert [entry.name.rpartition(f"{prefix}fc")[2] for entry in plan.residue if entry.name.endswith("fc.weight")] == [
        ".weight"
    ]


def test_a_wrapped_uer_is_found_too(tmp_path: Path) -> None:
    heads = ("pooler", "masked_lm", "next_sentence")
    state = {f"module.{name}": array for name, array in uer(heads).items()}
    source = save(tmp_path / "in", {"model": torch_dict(state)}, "model.bin")
    interlingua.convert(source, tmp_path / "out", to="hf", sync=False)
    assert_same(weights_of(tmp_path / "out"), hf(heads))


def test_two_models_of_equal_rank_have_to_be_told_apart(tmp_path: Path) -> None:
    state = {
        **{f"student.{name}": array for name, array in encoder("bert.", 5).items()},
        **{f"teacher.{name}": array for name, array in encoder("bert.", 6).items()},
    }
    source = save(tmp_path / "in", torch_dict(state), "distil.bin")
    with pytest.raises(UsageError, match="There are 2 models in here"):
        interlingua.convert(source, tmp_path / "out", to="hf")
    plan = interlingua.convert(source, tmp_path / "out", to="hf", submodel="student", sync=False).plan
    assert_same(read_safetensors(tmp_path / "out" / "model.safetensors"), bare(BODY, seed=5))
    assert len(plan.residue) >= len(shapes(BODY))
