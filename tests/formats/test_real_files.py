"""Every checkpoint written by others is recognised for what it is, and read to its last byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlingua.formats.base import blocks
from interlingua.formats.registry import open_container, sniff

# Path below the folder of real files (a pattern stands for each file that fits) -> container, tensors, bytes.
KNOWN = {
    "2024-MindSpore-1__Code3/**/*.ckpt": ("mindspore-ckpt", 18, 1152),
    "CyberZHG__keras-bert/tests/test_bert_fit.h5": ("keras-hdf5", 825, 1160392),
    "CyberZHG__keras-bert/tests/test_checkpoint": ("tensor-bundle", 139, 8420),
    "PKSHATechnology-Research__camphr/tests/fixtures/bert/pytorch_model.bin": ("torch-legacy", 55, 2121856),
    "PKSHATechnology-Research__camphr/tests/fixtures/bert/pytorch_model@*.bin": ("torch-legacy", 39, 43520),
    "PKSHATechnology-Research__camphr/tests/fixtures/bert-test/pytorch_model.bin": ("torch-legacy", 39, 9160),
    "PaddlePaddle__PARL/**/cartpole_init_model": ("lod-tensor", 4, 568),
    "PaddlePaddle__Paddle-Lite/**/model.pdiparams": ("lod-tensor-combined", 5, 3968),
    "PaddlePaddle__PaddleScience/**/*.pdparams": ("paddle-pickle", 14, 1474564),
    "PaddlePaddle__Quantum/**/*.pdparams": ("paddle-pickle", 81, 142564),
    "PaddlePaddle__Serving/**/uci_housing_model": ("lod-tensor", 2, 56),
    "PaddlePaddle__awesome-DeepLearning/**/*.pdparams": ("paddle-pickle", 4, 604),
    "deeplearning4j__dl4j-test-resources/**/*.h5": ("keras-hdf5", 8, 256),
    "elixir-nx__bumblebee/**/tensors.zip.pt": ("torch-zip", 12, 116),
    "elixir-nx__bumblebee/**/tensors.legacy.pt": ("torch-legacy", 12, 116),
    "elixir-nx__bumblebee/**/numpy_arrays.*.pt": (None, 14, 138),
    "elixir-nx__bumblebee/**/noncontiguous_*array.*.pt": (None, 1, 48),
    "elixir-nx__bumblebee/**/noncontiguous_tensor.*.pt": (None, 1, 96),
    "elixir-nx__bumblebee/**/ordered_dict.*.pt": (None, 0, 0),
    "elixir-nx__bumblebee/**/storage_view.legacy.pt": ("torch-legacy", 2, 8),
    "google-deepmind__sonnet/**/mean_2x2": ("tensor-bundle", 4, 309),
    "jjhelmus__pyfive/**/*.hdf5": ("hdf5", 20, 336),
    "keras-team__tf-keras/**/lso_ckpt_tf2.2": ("tensor-bundle", 11, 1440),
    "mindspore-ai__golden-stick/**/*.ckpt": ("mindspore-ckpt", 2, 160),
    "mindspore-ai__serving/**/*.ckpt": ("mindspore-ckpt", 21, 493492),
    "nlpodyssey__gopickle/pytorch/testdata/*_zip.pt": ("torch-zip", 1, None),
    "nlpodyssey__gopickle/pytorch/testdata/*_proto[24].pt": ("torch-legacy", 1, None),
}


@pytest.mark.parametrize("pattern", KNOWN)
def test_a_real_file_is_what_it_is(fixtures_dir: Path, pattern: str) -> None:
    container, tensors, nbytes = KNOWN[pattern]
    paths = sorted(fixtures_dir.glob(pattern))
    assert paths
    for path in paths:
        found = sniff(path)
        assert found is not None
        assert container in (None, found.name)
        with open_container(path) as reader:
            assert len(reader.tensors) == tensors
            if nbytes is not None:
                assert sum(spec.nbytes for spec in reader.tensors.values()) == nbytes
            for name, spec in reader.tensors.items():
                for start, length in blocks(spec.nbytes):
                    reader.read_into(name, start, memoryview(bytearray(length)))


def test_no_real_checkpoint_is_left_out(fixtures_dir: Path) -> None:
    weights = {
        p for suffix in ("ckpt", "h5", "hdf5", "bin", "pt", "pdparams") for p in fixtures_dir.rglob(f"*.{suffix}")
    }
    covered = {path for pattern in KNOWN for path in fixtures_dir.glob(pattern)}
    rest = {path.name for path in weights - covered}
    assert rest <= {"state_dict_base.zip.pt", "state_dict_full.zip.pt"}
