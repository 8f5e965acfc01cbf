"""The own encoder in Paddle's operations: fluid's checkpoints in each container, by Paddle's own loaders."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from interlingua.convert.source import open_checkpoint
from interlingua.formats.paddle_program import encode_pir, encode_program
from tests.verify.encoders.hf_models import HEADS
from tests.verify.encoders.paddle_models import UNITS, Judged, fluid_models, run_paddle
from tests.verify.encoders.requests import answers, make_request

MODELS = ("ErnieForPreTraining", "ErnieForQuestionAnswering", "BertForSequenceClassification")

CONTAINERS = ("lod-tensor", "paddle-pickle", "lod-tensor-combined", "lod-tensor-combined of PIR")


def combine(folder: Path, target: Path, *, pir: bool) -> Path:
    """Make one file of a folder of variables, as ``save_combine`` does, and the program that names them."""
    with open_checkpoint(folder) as checkpoint:
        specs = sorted(checkpoint.tensors.values(), key=lambda spec: spec.name)
    target.mkdir()
    name, program = ("params.pdiparams", "params.json") if pir else ("__params__", "__model__")
    (target / name).write_bytes(b"".join((folder / "params" / spec.name).read_bytes() for spec in specs))
    (target / program).write_bytes((encode_pir if pir else encode_program)(specs))
    shutil.copy(folder / "ernie_config.json", target)
    return target / name


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return fluid_models(tmp_path_factory.mktemp("fluid"), MODELS)


@pytest.fixture(scope="module")
def found(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Judged]:
    folder = tmp_path_factory.mktemp("forms")
    pickled = fluid_models(folder, MODELS, container="paddle-pickle")
    paths = {}
    for name, path in folders.items():
        combined, pir = (combine(path, folder / f"{name} {pir}", pir=pir) for pir in (False, True))
        paths |= {(name, form): at for form, at in zip(CONTAINERS, (path, pickled[name], combined, pir), strict=True)}
    return {key: judged["own"] for key, judged in run_paddle("paddle", paths, ("own",), folder / "asked").items()}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", MODELS)
def test_every_activation_is_computed_within_noise(
    found: dict[tuple[str, str], Judged], name: str, container: str
) -> None:
    judged = found[name, container]
    assert "ran" in judged.answer, judged.answer
    assert judged.request.container == container.removesuffix(" of PIR")
    assert judged.request.config["layer_norm_eps"] == 1e-5
    assert {key for key in judged.units if not key.startswith("layer.")} == {"embeddings", *HEADS[name]}
    assert max(judged.units.values()) < UNITS, judged.units


def test_what_paddle_cannot_run_is_refused_by_name(folders: dict[str, Path], tmp_path: Path) -> None:
    path = folders["BertForSequenceClassification"]
    wanted = ({"dtype": "float16"}, {"dtype": "bfloat16"}, {"device": "cuda"}, {"container": "tf-bundle"})
    requests = [make_request(path, tmp_path / str(i), "paddle", ["own"], **how) for i, how in enumerate(wanted)]
    reasons = [answer["refused"][0][1] for answer in answers("paddle", requests)]
    assert reasons == [
        "Paddle has no float16 kernel of `matmul` on CPU",
        "Paddle has no bfloat16 kernel of `matmul` on CPU",
        "this Paddle is built without CUDA",
        "Paddle has no loader of the container tf-bundle",
    ]
