"""The rules of the house that no linter knows: who may import whom, what starts instantly, what is documented."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import interlingua

PACKAGE = Path(interlingua.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

MAY_IMPORT = {
    "errors": set(),
    "formats": {"errors"},
    "mappings": {"errors"},
    "convert": {"errors", "formats", "mappings"},
    "verify": {"errors", "formats", "mappings", "convert"},
    "__init__": {"errors", "formats", "mappings", "convert", "verify"},
    "cli": {"errors", "formats", "mappings", "convert", "verify", "__init__"},
    "__main__": {"cli"},
}
"""Part of the package -> the other parts that it may import."""

FRAMEWORKS = {"torch", "tensorflow", "paddle", "mindspore", "keras", "transformers", "jax", "tf_keras", "keras_hub"}

SLOW = {
    "numpy",
    "h5py",
    "ml_dtypes",
    "rich",
    "yaml",
    "isal",
    "crc32c",
    "google_crc32c",
    "safetensors",
    "pydantic",
    "scipy",
    "tokenizers",
    *FRAMEWORKS,
}
"""Modules that take longer to import than ``--help`` may take."""


def name_of(path: Path) -> str:
    """Return a module's path in the package, as tests are called by."""
    return path.relative_to(PACKAGE).as_posix()


def part_of(path: Path) -> str:
    """Return the part of the package that a module belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield every module that a module imports, at its top or inside of a function, by name or by import_module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and "import" in ast.unparse(node.func):
            yield from (
                constant.value
                for argument in node.args
                for constant in ast.walk(argument)
                if isinstance(constant, ast.Constant) and isinstance(constant.value, str)
            )


def parts_imported(tree: ast.AST) -> set[str]:
    """Return the parts of the package that a module imports."""
    found = set()
    for module in imported(tree):
        top, _, rest = module.partition(".")
        if top == "interlingua":
            part = rest.partition(".")[0]
            found.add(part if part in MAY_IMPORT else "__init__")
    return found


def run(code: str) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


def parse(path: Path) -> ast.Module:
    """Return a module's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_one_way(path: Path) -> None:
    part = part_of(path)
    assert part in MAY_IMPORT, f"{part} is no part of the house"
    assert parts_imported(parse(path)) <= MAY_IMPORT[part] | {part}


def test_an_import_the_wrong_way_is_seen_however_it_is_written() -> None:
    wrong = (
        "import interlingua.convert.plan",
        "from interlingua.convert import plan",
        "from interlingua.convert.plan import Plan",
        "def late():\n    from interlingua.convert import plan",
        "import_module('interlingua.convert.plan')",
        "importlib.import_module(f'interlingua.convert.{name}')",
    )
    for code in wrong:
        assert parts_imported(ast.parse(code)) == {"convert"}, code
    assert parts_imported(ast.parse("from interlingua import convert, __version__")) == {"convert", "__init__"}


ENCODERS = PACKAGE / "verify" / "encoders"
"""What runs in a framework's own process."""

OUTSIDE = [path for path in MODULES if ENCODERS not in path.parents]


@pytest.mark.parametrize("path", OUTSIDE, ids=name_of)
def test_no_framework_is_imported(path: Path) -> None:
    assert not {module.partition(".")[0] for module in imported(parse(path))} & FRAMEWORKS


@pytest.mark.parametrize("path", OUTSIDE, ids=name_of)
def test_no_reference_encoder_is_imported_outside_of_its_process(path: Path) -> None:
    ours = [module for module in imported(parse(path)) if module.startswith("interlingua.verify.encoders")]
    assert all(module.startswith("interlingua.verify.encoders.request.") for module in ours)


@pytest.mark.parametrize("path", sorted(ENCODERS.glob("*.py")), ids=name_of)
def test_a_reference_encoder_needs_nothing_else_of_ours(path: Path) -> None:
    ours = [module for module in imported(parse(path)) if module.partition(".")[0] == "interlingua"]
    assert all(module.startswith("interlingua.verify.encoders.") for module in ours)


@pytest.mark.parametrize(
    "code",
    [
        "import interlingua",
        "from interlingua.cli import main\nmain(['--help'], standalone_mode=False)",
        "from interlingua.cli import main\nmain(['convert', '--help'], standalone_mode=False)",
        "from interlingua.cli import main\nmain(['--version'], standalone_mode=False)",
    ],
)
def test_nothing_slow_is_imported_before_there_is_work(code: str) -> None:
    loaded = run(f"{code}\nimport sys\nprint('\\n' + ' '.join(sys.modules))").splitlines()[-1].split()
    assert "interlingua" in loaded
    assert not SLOW & set(loaded)


def test_a_command_s_process_looks_for_garbage_rarely_and_an_importer_s_as_ever() -> None:
    asked = "import gc\nprint(gc.get_threshold()[0], gc.get_freeze_count())"
    usual = run(asked)
    assert run(f"import interlingua, interlingua.cli\n{asked}") == usual
    assert run(f"import interlingua.__main__\n{asked}").split() == ["65536", usual.split()[1]]
    # Handlers are called last first: this one sees what the one of the command has done.
    late = "import atexit, gc\natexit.register(lambda: print(gc.get_freeze_count() > 10_000))"
    assert run(f"{late}\nimport interlingua.__main__").split() == ["True"]


def test_describing_a_checkpoint_imports_no_framework(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\x02\x00\x00\x00\x00\x00\x00\x00{}")
    code = f"from interlingua.cli import main\nmain(['inspect', {str(path)!r}], standalone_mode=False)"
    loaded = run(f"{code}\nimport sys\nprint('\\n' + ' '.join(sys.modules))").splitlines()[-1].split()
    assert "interlingua.formats.safetensors" in loaded
    assert not FRAMEWORKS & set(loaded)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_is_named_after_what_it_does(path: Path) -> None:
    words = [*path.stem.split("_"), path.parent.name]
    assert not {"util", "utils", "common", "helper", "helpers", "manager", "managers", "misc"} & set(words)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_everything_public_says_what_it_is(path: Path) -> None:
    tree = parse(path)
    named = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    public = [node for node in tree.body if isinstance(node, named) and not node.name.startswith("_")]
    assert ast.get_docstring(tree), "the module has no docstring"
    assert [node.name for node in public if not ast.get_docstring(node)] == []
