"""The check after a conversion notices what went wrong on the way."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import interlingua
from interlingua.convert import stream
from interlingua.convert.conversion import Options, convert
from interlingua.convert.plan import SOURCE, Piece, Step
from interlingua.convert.source import Asked
from interlingua.errors import CheckError, InterlinguaError
from interlingua.formats.base import TensorSpec
from interlingua.formats.dtypes import FLOAT16, FLOAT32
from interlingua.verify import written
from interlingua.verify.canonical import resolve
from interlingua.verify.difference import compare_steps
from interlingua.verify.written import check_weights
from tests.models import hf, hf_config, safetensors_bytes, write_hf

pytest.importorskip("torch")

ALL = ("pooler", "masked_lm", "next_sentence")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_hf(tmp_path / "src", hf(ALL), hf_config(heads=ALL), 37)


def flip(path: Path, data: bytes) -> None:
    """Change one bit of the place in a file where ``data`` lies."""
    content = bytearray(path.read_bytes())
    place = content.index(data)
    content[place] ^= 1
    path.write_bytes(content)


def checked(source: Path, target: Path, damage, *, trusted: bool = True, **options: object) -> None:
    """Convert, do damage once the output is in place, and check."""

    def check(opened, path, plan, written) -> None:
        damage(path)
        check_weights(opened, path, plan, written if trusted else replace(written, places={}))

    convert(source, target, Options(sync=False, **options), check=check)


@pytest.mark.parametrize("to", ["uer", "hf"])
@pytest.mark.parametrize("name", ["bert.pooler.dense.bias", "bert.embeddings.token_type_embeddings.weight"])
def test_one_bit_in_the_output_is_noticed(source: Path, tmp_path: Path, to: str, name: str) -> None:
    def damage(path: Path) -> None:
        flip(path / ("pytorch_model.bin" if to == "uer" else "model.safetensors"), hf(ALL)[name].tobytes())

    with pytest.raises(InterlinguaError) as caught:
        checked(source, tmp_path / "out", damage, to=to, trusted=False)
    if isinstance(caught.value, CheckError):
        assert name.removeprefix("bert.") in str(caught.value)
    assert caught.value.exit_code in (1, 3)


def test_an_output_without_damage_passes(source: Path, tmp_path: Path) -> None:
    for number, (to, trusted) in enumerate((to, trusted) for to in ("hf", "uer") for trusted in (True, False)):
        checked(source, tmp_path / str(number), lambda _: None, to=to, trusted=trusted)


def test_a_cast_is_checked_against_the_cast_of_the_source(source: Path, tmp_path: Path) -> None:
    checked(source, tmp_path / "good", lambda _: None, to="hf", dtype="float16")
    data = hf(ALL)["bert.pooler.dense.weight"].astype(np.float16).tobytes()
    with pytest.raises(CheckError, match=r"pooler\.dense\.weight \(values\)"):
        checked(source, tmp_path / "bad", lambda p: flip(p / "model.safetensors", data), to="hf", dtype="float16")


@pytest.mark.parametrize("to", ["paddle", "hf"])
def test_bfloat16_is_checked_in_containers_that_keep_it_as_its_bits_alone(
    source: Path, tmp_path: Path, to: str
) -> None:
    checked(source, tmp_path / "good", lambda _: None, to=to, dtype="bfloat16", trusted=False)


@pytest.mark.parametrize("trusted", [True, False])
def test_gammas_that_are_multiplied_are_checked_against_those_of_the_source_multiplied(
    source: Path, tmp_path: Path, trusted: bool
) -> None:
    checked(source, tmp_path / "good", lambda _: None, to="uer", preserve="outputs", trusted=trusted)


def test_a_container_alone_is_checked_under_its_own_names(tmp_path: Path) -> None:
    arrays = {"x.y": np.arange(40, dtype=np.float32), "z": np.arange(3)}
    (tmp_path / "a").write_bytes(safetensors_bytes(arrays))
    options = {"keep_names": True, "trusted": False}
    checked(tmp_path / "a", tmp_path / "good.safetensors", lambda _: None, **options)
    with pytest.raises(CheckError, match=r"x\.y \(values\)"):
        checked(tmp_path / "a", tmp_path / "bad.safetensors", lambda p: flip(p, arrays["x.y"].tobytes()), **options)


def test_a_tensor_that_is_written_wrongly_never_gets_to_its_place(source: Path, tmp_path: Path, monkeypatch) -> None:
    bias = hf(ALL)["bert.encoder.layer.1.output.dense.bias"].tobytes()
    write_at = stream.write_at

    def careless(fd: int, offset: int, data: bytes | memoryview) -> None:
        wrong = bytes(data) == bias
        write_at(fd, offset, bytes([bias[0] ^ 1]) + bias[1:] if wrong else data)

    monkeypatch.setattr(stream, "write_at", careless)
    with pytest.raises(CheckError, match="read back, is not what was written"):
        interlingua.convert(source, tmp_path / "deep" / "out", to="uer", sync=False)
    assert os.listdir(tmp_path) == ["src"]
    interlingua.convert(source, tmp_path / "unchecked", to="uer", sync=False, check=False)


@pytest.mark.parametrize("to", ["uer", "hf", "paddle"])
def test_a_plan_that_swaps_two_tensors_does_not_vouch_for_itself(
    source: Path, tmp_path: Path, to: str, monkeypatch
) -> None:
    from interlingua.convert import planning

    step_of = planning._Planner._step

    def swapped(self, canonical, found, ours, do):
        names = {"query": "key", "key": "query"}
        for one, other in names.items():
            if f"layer.0.attention.self.{one}." in canonical:
                found = self.match.tensors[canonical.replace(f"self.{one}", f"self.{other}")]
                break
        return step_of(self, canonical, found, ours, do)

    monkeypatch.setattr(planning._Planner, "_step", swapped)
    with pytest.raises(CheckError, match=r"layer\.0\.attention\.self\.query\.weight \(values\)"):
        interlingua.convert(source, tmp_path / "out", to=to, sync=False)


def test_a_plan_that_forgets_to_turn_a_square_matrix_is_noticed(source: Path, tmp_path: Path, monkeypatch) -> None:
    from interlingua.convert import planning

    step_of = planning._Planner._step

    def forgetful(self, canonical, found, ours, do):
        step = step_of(self, canonical, found, ours, do)
        return replace(step, transpose=None) if "self.query.weight" in canonical else step

    monkeypatch.setattr(planning._Planner, "_step", forgetful)
    with pytest.raises(CheckError, match=r"layer\.0\.attention\.self\.query\.weight \(values\)"):
        interlingua.convert(source, tmp_path / "out", to="paddle", sync=False)


@pytest.mark.parametrize(("first", "second"), [("paddle", "hf"), ("paddle", "tf1"), ("hf", "ernie-fluid")])
def test_what_was_compared_as_it_was_written_is_not_read_again(
    source: Path, tmp_path: Path, monkeypatch, first: str, second: str
) -> None:
    interlingua.convert(source, tmp_path / "first", to=first, sync=False, check=False)
    compared: list[str] = []

    def compare(ours, *arguments):
        compared.extend(ours)
        return compare_steps(ours, *arguments)

    monkeypatch.setattr(written, "compare_steps", compare)
    interlingua.convert(tmp_path / "first", tmp_path / "second", to=second, sync=False)
    assert compared == []


MATRIX = TensorSpec("m", FLOAT32, (2, 3))


@pytest.mark.parametrize(
    ("made", "read", "ours", "undone"),
    [
        ({}, {}, {}, True),
        ({}, {"transpose": (2, 3)}, {"transpose": (2, 3)}, True),
        ({}, {"transpose": (2, 3)}, {}, False),
        ({}, {}, {"transpose": (2, 3)}, False),
        ({}, {"transpose": (2, 3)}, {"transpose": (3, 2)}, False),
        ({"transpose": (2, 3)}, {}, {"transpose": (2, 3)}, True),
        ({"transpose": (2, 3)}, {"transpose": (3, 2)}, {}, True),
        ({"transpose": (2, 3)}, {"transpose": (2, 3)}, {}, False),
        ({"transpose": (2, 3)}, {}, {}, False),
        ({"transpose": (2, 3)}, {"transpose": (3, 2)}, {"transpose": (2, 3)}, False),
        ({"transpose": (2, 3)}, {"pieces": (Piece(SOURCE, "m", 0, 12),)}, {"transpose": (2, 3)}, False),
        ({"transpose": (2, 3), "pieces": (Piece(SOURCE, "other", 0, 24),)}, {}, {"transpose": (2, 3)}, False),
        ({"pieces": (Piece(SOURCE, "other", 0, 24),)}, {}, {}, False),
        ({"pieces": (Piece(SOURCE, "a", 0, 12), Piece(SOURCE, "b", 0, 12))}, {}, {}, False),
        ({"cast_from": FLOAT16}, {}, {}, False),
        ({"scale": 0.5}, {}, {}, False),
        ({}, {"cast_from": FLOAT16}, {"cast_from": FLOAT16}, False),
    ],
)
def test_only_what_gives_the_sources_tensor_back_needs_no_second_look(made, read, ours, undone: bool) -> None:
    whole = (Piece(SOURCE, "m", 0, 24),)
    steps = [Step(MATRIX, **{"pieces": whole, **changes}) for changes in (made, read, ours)]
    assert written._is_undone(*steps) is undone


def test_a_plan_that_forgets_a_tensor_is_noticed(source: Path, tmp_path: Path, monkeypatch) -> None:
    from interlingua.convert import planning

    weights = planning._Planner._weights

    def forgetful(self):
        steps, ties = weights(self)
        return [step for step in steps if "pooler" not in (step.canonical or "")], ties

    monkeypatch.setattr(planning._Planner, "_weights", forgetful)
    with pytest.raises(CheckError, match=r"pooler\.dense\.weight \(only in A\)"):
        interlingua.convert(source, tmp_path / "out", to="hf", sync=False)


def test_nothing_compared_is_no_proof(source: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(safetensors_bytes({}))
    with pytest.raises(CheckError, match="nothing could be compared"):
        interlingua.convert(tmp_path / "empty", tmp_path / "out.safetensors", keep_names=True, sync=False)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Piece("x", "t", 0, 10), (Piece("zeros", "z", 0, 4), Piece("source", "a", 2, 6))),
        (Piece("x", "t", 4, 6), (Piece("source", "a", 2, 6),)),
        (Piece("x", "t", 3, 2), (Piece("zeros", "z", 3, 1), Piece("source", "a", 2, 1))),
        (Piece("x", "t", 5, 1), (Piece("source", "a", 3, 1),)),
        (Piece("x", "t", 10, 0), ()),
    ],
)
def test_a_run_of_an_output_is_traced_to_what_it_is_made_of(wanted: Piece, expected: tuple[Piece, ...]) -> None:
    assert resolve((Piece("zeros", "z", 0, 4), Piece("source", "a", 2, 6)), wanted) == expected


def test_what_is_asked_of_the_source_is_not_asked_of_the_output(tmp_path: Path) -> None:
    arrays = {f"a.{n}": array for n, array in hf().items()} | {f"b.{n}": array for n, array in hf(seed=1).items()}
    source = write_hf(tmp_path / "src", arrays, hf_config(heads=()))
    convert(source, tmp_path / "out", Options("uer", Asked(submodel="b"), sync=False), check=check_weights)
