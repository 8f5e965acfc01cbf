"""The pages of docs/ say what the code does."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import click
import numpy as np
import pytest
import yaml

import interlingua
from benchmarks.families import realistic, write_model
from interlingua import cli
from interlingua.convert import residue
from interlingua.errors import InterlinguaError
from interlingua.mappings.huggingface import BERT_TABLE
from interlingua.mappings.registry import DIALECTS
from interlingua.mappings.schema import BERT, FAMILIES
from tests.transcripts import blocks, follow

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
GENERATED = runpy.run_path(str(DOCS / "generate.py"))["pages"]()
PAGES = (*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md")))
FENCED = re.compile(r"^( *)```.*?^ *```$", re.MULTILINE | re.DOTALL)


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
    assert pages == {*DIALECTS, "index"}


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


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as code hosts and MkDocs make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings)
    return set(plain)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_no_page_links_to_a_place_that_is_not_there(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?![a-z]+:)([^)#\s]*)#?([^)\s]*)\)", prose(page)):
        there = page.parent / target if target else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_blocks_of_code_are_closed_and_are_what_they_say(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(re.findall(r"^ *```", text, re.MULTILINE)) % 2 == 0
    for language, _, block in blocks(text):
        if language == "python":
            compile(block, page.name, "exec")
        elif language == "json":
            json.loads(block)
        elif language == "yaml":
            yaml.safe_load(block)


def command_lines(page: Path) -> Iterator[tuple[str, str]]:
    """Yield (command, the rest of its line) of all that a page shows being run."""
    for block in FENCED.finditer(page.read_text(encoding="utf-8")):
        for line in block[0].splitlines():
            found = re.match(r" *(?:\$ )?(interlingua [a-z]+|convert-checkpoint|parity-check) (.*)", line)
            if found:
                yield found[1].removeprefix("interlingua "), found[2]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_command_on_a_page_has_the_options_that_it_is_shown_with(page: Path) -> None:
    commands = {**cli.main.commands, "convert-checkpoint": cli.convert_checkpoint, "parity-check": cli.parity_check}
    for name, rest in command_lines(page):
        assert name in commands
        options = {
            option
            for parameter in commands[name].get_params(click.Context(commands[name], **commands[name].context_settings))
            for option in (*parameter.opts, *parameter.secondary_opts)
        }
        shown = re.split(r"\s(?:[|;]|&&|\d?>)\s|\)", rest)[0]
        assert set(re.findall(r"(?<=\s)--[a-z][a-z-]*", f" {shown}")) <= options, f"{name} {rest}"


# -- messages


def templates(tree: ast.AST) -> Iterator[str]:
    """Yield every text of a module, with \u2026 for what is put into it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "\u2026" for part in node.values)


def test_every_message_of_the_troubleshooting_page_is_one_that_the_code_has() -> None:
    texts = {
        re.sub("\u2026+", "\u2026", text)
        for path in (ROOT / "interlingua").rglob("*.py")
        for text in templates(ast.parse(path.read_text(encoding="utf-8")))
    }
    quoted = re.findall(r"^> (.+)$", prose(DOCS / "troubleshooting.md"), re.MULTILINE)
    assert len(quoted) > 20
    assert [message for message in quoted if not any(message in text for text in texts)] == []


def test_the_commands_of_the_troubleshooting_page_fail_as_it_says(tmp_path: Path) -> None:
    write_model(tmp_path / "bert-base-chinese", FAMILIES["bert"], ("pooler", "masked_lm"), 5, draw=realistic)
    assert follow((DOCS / "troubleshooting.md").read_text(encoding="utf-8"), tmp_path) > 10


def test_every_module_that_the_page_on_the_design_names_is_there() -> None:
    found = re.findall(r"`(interlingua/[\w/]+(?:\.py|/))`", (DOCS / "design.md").read_text(encoding="utf-8"))
    assert len(found) > 20
    assert [name for name in found if not (ROOT / name).exists()] == []


# -- the site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it: strictly, so that a warning is a failure."""
    for package in ("mkdocs", "material", "mkdocstrings_handlers"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return folder


class Loaded(HTMLParser):
    """What a browser would fetch for a page, and what its links lead to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        if tag == "a":
            self.links.append(given.get("href", ""))
        else:
            self.fetched += [given[key] for key in ("src", "href", "srcset", "poster") if key in given]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_site_fetches_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        remote = [target for target in Loaded(page).fetched if re.match(r"(https?:)?//", target)]
        assert remote == [], page.name
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet.name


def test_every_link_of_the_site_leads_to_a_file_of_it(site: Path) -> None:
    for page in site.rglob("*.html"):
        for link in Loaded(page).links if page.name != "404.html" else ():
            target = link.partition("#")[0]
            if target and not re.match(r"[a-z]+:", target):
                assert (page.parent / target).exists(), f"{page.relative_to(site)}: {target}"


def test_no_markdown_is_left_unread_on_the_site(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = "".join(Loaded(page).words)
        assert "```" not in text, page.name
        assert ":::" not in text, page.name
        assert "\\|" not in text, page.name


def test_the_site_shows_what_the_functions_of_the_package_say(site: Path) -> None:
    text = " ".join("".join(Loaded(site / "reference" / "python.html").words).split())
    for function in (interlingua.convert, interlingua.parity, interlingua.open, interlingua.fingerprint):
        assert (function.__doc__ or "").partition("\n")[0] in text


def test_make_docs_writes_nothing_that_git_would_keep() -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("this is no copy of the repository")
    done = subprocess.run(["git", "check-ignore", "-q", "site/index.html"], cwd=ROOT, check=False)
    assert done.returncode == 0


# -- the first page


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
    for page in PAGES:
        named_targets = set(re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE))
        assert named_targets <= targets, page.name


def test_the_changelog_names_every_dialect() -> None:
    page = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert [name for name in DIALECTS if f"`{name}`" not in page] == []
