"""The tutorials of docs/tutorials/, run from their first command to their last."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest

import interlingua
from benchmarks.families import realistic, write_model
from interlingua.mappings.schema import FAMILIES
from tests.transcripts import follow

DOCS = Path(__file__).resolve().parent.parent / "docs"
TUTORIALS = DOCS / "tutorials"
PROOF = "\n## Prove it\n"
PRETRAINING = ("pooler", "masked_lm", "next_sentence")
SPARE_ROWS = 3


def published(folder: Path, family: str, heads: tuple[str, ...], name: str, dialect: str) -> Path:
    """Write a model as a system publishes it, with no trace of where it comes from."""
    original = write_model(folder.parent / f"original of {name}", FAMILIES[family], heads, 1, draw=realistic)
    interlingua.convert(original, folder / name, to=dialect, residue="drop", sync=False)
    return folder / name


def ernie_1(folder: Path) -> None:
    """An ERNIE 1.0: relu, no epsilon, and an embedding with rows to spare."""
    made = published(folder, "ernie", ("pooler", "masked_lm"), "ernie-1.0", "ernie-fluid")
    config = json.loads((made / "ernie_config.json").read_text())
    assert "layer_norm_eps" not in config
    (made / "ernie_config.json").write_text(json.dumps(config | {"hidden_act": "relu"}, indent=2))
    lines = (made / "vocab.txt").read_text().splitlines(keepends=True)
    (made / "vocab.txt").write_text("".join(lines[:-SPARE_ROWS]))


def bert_of_hugging_face(folder: Path) -> None:
    write_model(folder / "bert-base-chinese", FAMILIES["bert"], PRETRAINING, 2, draw=realistic)


def bert_of_google(folder: Path) -> None:
    published(folder, "bert", PRETRAINING, "chinese_L-12_H-768_A-12", "tf1")


def zoo(folder: Path) -> None:
    (folder / "models").mkdir()
    write_model(folder / "models" / "bert-base-uncased", FAMILIES["bert"], PRETRAINING, 3, draw=realistic)
    published(folder / "models", "ernie", ("pooler",), "ernie-3.0-medium-zh", "paddle")


def minilm(folder: Path) -> None:
    write_model(folder / "minilm", FAMILIES["bert"], ("pooler",), 4, draw=realistic)


PAGES: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "ernie-to-hf": (ernie_1, ("paddle", "torch", "transformers")),
    "hf-to-mindspore": (bert_of_hugging_face, ("torch", "transformers", "mindspore")),
    "tf1-to-uer": (bert_of_google, ("tensorflow", "torch")),
    "zoo-in-ci": (zoo, ("pydantic", "jinja2", "paddle", "torch", "transformers")),
    "new-dialect": (minilm, ()),
}
"""Page -> what makes the models that it begins with, and the packages that its proof needs."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder to follow a page in."""
    made = tmp_path / "work"
    made.mkdir()
    return made


def variables(folder: Path) -> dict[str, str]:
    """Let pip install beside the tests' folder, from nowhere else, and Python find it there."""
    site = str(folder.parent / "site")
    # Of this one, pip takes "no" for what the option of that name does.
    pip = {
        "PIP_TARGET": site,
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "no",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    return {"DOCS": str(DOCS), "PYTHONPATH": site, "PYTHONDONTWRITEBYTECODE": "1", **pip}


def need(*packages: str) -> None:
    """Skip where a package is not installed; none is imported, for one process does not bear all frameworks."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


def text(name: str) -> str:
    return (TUTORIALS / f"{name}.md").read_text(encoding="utf-8")


def test_every_tutorial_is_followed_and_says_how_to_prove_it() -> None:
    assert {path.stem for path in TUTORIALS.glob("*.md")} == set(PAGES)
    assert all(PROOF in text(name) for name in PAGES)


@pytest.mark.parametrize("name", [name for name, (_, needed) in PAGES.items() if needed])
def test_a_tutorial_s_commands_print_what_it_says_without_any_framework(name: str, folder: Path) -> None:
    if name == "zoo-in-ci":
        need("pydantic", "jinja2")
    PAGES[name][0](folder)
    assert follow(text(name).partition(PROOF)[0], folder, **variables(folder)) >= 3


@pytest.mark.parametrize("name", PAGES)
def test_a_tutorial_is_true_from_its_first_command_to_its_last(name: str, folder: Path) -> None:
    make, needed = PAGES[name]
    need(*(*needed, "scipy", "jinja2") if needed else ("hatchling", "pip"))
    make(folder)
    assert follow(text(name), folder, **variables(folder)) >= 5
