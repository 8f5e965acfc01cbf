"""The pages of docs/ say what the code does."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import numpy as np
import pytest

import interlingua
from interlingua.convert import residue
from interlingua.errors import InterlinguaError
from interlingua.mappings.huggingface import BERT_TABLE
from interlingua.mappings.registry import DIALECTS
from interlingua.mappings.schema import BERT

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
GENERATED = runpy.run_path(str(DOCS / "generate.py"))["pages"]()


def small_model(folder: Path) -> dict[str, np.ndarray]:
    """Write a Hugging Face BERT with every pre-training head and return its canonical tensors, in order."""
    sizes = {"vocab": 11, "positions": 6, "types": 2, "hidden": 4, "intermediate": 8}
    heads = ("pooler", "masked_lm", "next_sentence")
    rng = np.random.default_rng(1)
    canonical, native = {}, {}
    for name, tensor in BERT.instances(2):
        if tensor.part in ("encoder", *heads) and tensor.tied_to is None:
            shape = tuple(int(size) if size.isdigit() else sizes[size] for size in tensor.shape)
            canonical[name] = rng.standard_normal(shape).astype(np.float32)
            rule = BERT_TABLE.rule(name, heads)
            native[BERT_TABLE.spell(rule.native, name, heads)] = canonical[name]
    folder.mkdir()
    pytest.importorskip("safetensors.numpy").save_file(native, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "num_attention_heads": 2}))
    return canonical


@pytest.mark.parametrize("page", GENERATED)
def test_a_generated_page_is_what_the_tables_say_now(page: str) -> None:
    assert (DOCS / page).read_text(encoding="utf-8") == GENERATED[page], "stale: run `make docs`"


def test_there_is_a_page_for_every_dialect_and_for_nothing_else() -> None:
    pages = {path.stem for path in (DOCS / "dialects").glob("*.md")}
    assert pages == set(DIALECTS)


def test_the_recipe_on_the_fingerprint_page_gives_the_fingerprint(tmp_path: Path) -> None:
    tensors = small_model(tmp_path / "model")
    recipe = re.search(r"```python\n(.+?)```", (DOCS / "fingerprint.md").read_text(encoding="utf-8"), re.DOTALL)
    assert recipe is not None
    names: dict[str, object] = {}
    exec(recipe.group(1), names)
    with interlingua.open(tmp_path / "model") as checkpoint:
        found = interlingua.fingerprint(checkpoint)
    by_hand = names["fingerprint"]
    assert callable(by_hand)
    assert by_hand(tensors) == found.model
    encoder = {name: array for name, array in tensors.items() if name.startswith(("embeddings.", "encoder."))}
    assert by_hand(encoder) == found.encoder


def test_the_residue_page_describes_the_file_that_a_conversion_leaves(tmp_path: Path) -> None:
    small_model(tmp_path / "model")
    interlingua.convert(tmp_path / "model", tmp_path / "uer", to="uer")
    raw = (tmp_path / "uer" / residue.FILE_NAME).read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    metadata = header.pop("__metadata__")
    page = (DOCS / "residue.md").read_text(encoding="utf-8")
    assert f"`{residue.FILE_NAME}`" in page
    assert all(f"| `{key}` |" in page for key in metadata)
    assert all(f"`{metadata[key]}`" in page for key in ("format", "version"))
    entries = json.loads(metadata["entries"])
    assert {entry["key"] for entry in entries} == set(header)
    for entry in entries:
        assert all(f"| `{key}` |" in page for key in entry)
        assert entry["key"] == f"{entry['dialect']}/{entry['kind']}/{entry['name']}"
    assert set(
        re.findall(r"^\| `(\w+)` \| (?:a whole|the first|the bytes|a tensor|a string|no data)", page, re.MULTILINE)
    ) == set(residue.KINDS)


def test_no_page_links_to_a_page_that_is_not_there() -> None:
    for page in (*ROOT.glob("*.md"), *DOCS.rglob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)}: {target}"


def test_the_python_example_on_the_first_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small_model(tmp_path / "all-MiniLM-L6-v2")
    monkeypatch.chdir(tmp_path)
    exec(python_examples()[0], {})
    assert re.fullmatch(r"uer \('pooler', 'masked_lm', 'next_sentence'\) [0-9a-f]{64}\n", capsys.readouterr().out)


def test_the_python_example_of_parity_runs_on_what_the_first_one_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    small_model(tmp_path / "all-MiniLM-L6-v2")
    monkeypatch.chdir(tmp_path)
    for example in python_examples():
        exec(example, {})
    assert "\nsame model, outputs differ by convention [('LayerNorm formula', " in capsys.readouterr().out


def python_examples() -> list[str]:
    """The Python on the first page."""
    found = re.findall(r"```python\n(.+?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(found) == 2
    return found


def test_the_exit_codes_on_the_first_page_are_those_of_the_errors() -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    codes = {int(code) for code in re.findall(r"^\| (\d) \|", page, re.MULTILINE)}
    kinds = InterlinguaError.__subclasses__()
    assert codes == {0, *(kind.exit_code for kind in kinds)}


def test_every_make_target_that_a_page_names_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):.*##", makefile, re.MULTILINE))
    for page in (*ROOT.glob("*.md"), *DOCS.rglob("*.md")):
        named = set(re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE))
        assert named <= targets, page.name


def test_the_changelog_names_every_dialect() -> None:
    page = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert [name for name in DIALECTS if f"`{name}`" not in page] == []
