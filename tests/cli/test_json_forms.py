"""What commands print with --json is what the published schemas say, in each of its variants."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner

from interlingua.cli import main
from tests.models import hf, hf_config, write_hf

SCHEMAS = Path(__file__).parents[2] / "docs/schemas"
HEADS = ("pooler", "masked_lm")

Say = Callable[..., Any]


@pytest.fixture
def say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Say:
    """Run a command in a folder of its own with a model, and return the JSON document that it prints."""
    monkeypatch.chdir(tmp_path)
    arrays = hf(HEADS)
    arrays["extra.table"] = np.array([[1.0, np.nan], [np.inf, 1e6]], np.float32)
    write_hf(tmp_path / "model", arrays, hf_config(heads=HEADS), 37)

    def run(*arguments: str) -> Any:
        done = CliRunner().invoke(main, [*arguments, "--json"])
        assert done.exit_code in (0, 1), done.output
        return json.loads(done.stdout)

    return run


def validator(name: str) -> jsonschema.Draft202012Validator:
    """Return what holds a document against a published schema."""
    schema = json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


CONVERSIONS = {
    "renamed": ("--to", "uer"),
    "transposed, with residue": ("--to", "tf1"),
    "nothing written": ("--to", "paddle", "--dry-run"),
    "in shards": ("--to", "hf", "--max-shard-size", "20kB"),
    "names kept": ("--keep-names", "--container", "npz"),
    "narrowed": ("--to", "hf", "--dtype", "float16"),
    "unchecked": ("--to", "mindspore", "--check", "none"),
}


@pytest.mark.parametrize("options", CONVERSIONS.values(), ids=CONVERSIONS)
def test_a_conversion(options: tuple[str, ...], say: Say) -> None:
    validator("convert-1").validate(say("convert", "model", "out", *options))


def test_a_cast_that_loses_is_in_the_form_of_a_conversion(say: Say) -> None:
    found = say("convert", "model", "out", "--keep-names", "--container", "safetensors", "--dtype", "float16")
    assert found["lost"]
    validator("convert-1").validate(found)


def test_a_conversion_with_its_parity_check(say: Say) -> None:
    pytest.importorskip("torch")
    found = say("convert", "model", "out", "--to", "uer", "--check", "parity")
    validator("convert-1").validate(found)
    validator("parity-1").validate(found["parity"])


@pytest.mark.parametrize(
    "options", [(), ("--stats",), ("--canonical",), ("--stats", "--canonical", "--no-fingerprint")]
)
def test_a_description(options: tuple[str, ...], say: Say) -> None:
    found = say("inspect", "model", *options)
    assert found["leftovers"]
    validator("inspect-1").validate(found)


def test_a_description_of_what_is_of_no_dialect(say: Say, tmp_path: Path) -> None:
    np.savez(tmp_path / "some.npz", a=np.zeros((2, 3)), b=np.array([True]))
    validator("inspect-1").validate(say("inspect", "some.npz", "--stats"))


def test_a_comparison(say: Say, tmp_path: Path) -> None:
    other = hf(HEADS, seed=1)
    other["cls.predictions.bias"][0] = np.nan
    write_hf(tmp_path / "other", other, hf_config(heads=HEADS), 37)
    for b in ("model", "other"):
        found = say("diff", "model", b)
        assert found["same"] is (b == "model")
        validator("diff-1").validate(found)


def test_fingerprints(say: Say) -> None:
    validator("fingerprint-1").validate(say("fingerprint", "model", "model"))


def test_the_matrix(say: Say) -> None:
    validator("matrix-1").validate(say("matrix"))


def test_a_batch_and_its_plan(say: Say, tmp_path: Path) -> None:
    pytest.importorskip("pydantic")
    (tmp_path / "zoo.yaml").write_text(
        "version: 1\ndefaults: {folder: zoo}\njobs:\n"
        "  - {name: one, source: model, to: uer, output: one}\n"
        "  - {name: two, source: nothing, to: uer, output: two}\n",
        encoding="utf-8",
    )
    validator("batch-plan-1").validate(say("batch", "zoo.yaml", "--dry-run"))
    found = say("batch", "zoo.yaml", "--jobs", "1")
    assert (found["done"], found["failed"]) == (1, 1)
    validator("batch-result-1").validate(found)
    assert say("batch", "zoo.yaml", "--jobs", "1")["skipped"] == 1


def faults(document: Any) -> Iterator[Any]:
    """Yield documents that are each wrong in one key of their top level."""
    for key in document:
        yield {name: value for name, value in document.items() if name != key}
        yield {**document, key: {"wrong": object}}
    yield {**document, "unheard of": 1}


def test_the_schemas_refuse_what_lacks_a_key_or_has_a_wrong_one(say: Say) -> None:
    """A schema that lets everything pass would hold the tests above, too."""
    found = say("convert", "model", "out", "--to", "uer")
    for wrong in faults(found):
        assert not validator("convert-1").is_valid(wrong)
    tensors = copy.deepcopy(found)
    del tensors["files"][0]["tensors"][0]["from"]
    assert not validator("convert-1").is_valid(tensors)
