"""What somebody gets who installs the package: the wheel's content, the commands, one version everywhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import interlingua

ROOT = Path(__file__).resolve().parent.parent
DATA = (
    "interlingua/verify/pages/batch_page.html",
    "interlingua/verify/pages/page.html",
    "interlingua/verify/text/sentences.txt",
)
"""Files of the package that are no code."""

COMMANDS = ("interlingua", "convert-checkpoint", "parity-check")


NOT_COPIED = ("__pycache__", ".git", ".venv*", ".*_cache", ".demo", ".hypothesis", "build", "dist", "site")
"""What a working tree has besides the sources."""

EXTRA_MODULES = (
    *("torch", "transformers", "tensorflow", "keras", "paddle", "paddlenlp", "mindspore", "mindone"),
    *("scipy", "tokenizers", "jinja2", "pydantic", "dask", "distributed", "cryptography"),
    *("fsspec", "s3fs", "gcsfs", "aiohttp", "huggingface_hub", "httpx2", "h5py"),
)
"""What the extras bring, as modules."""

MOMENT = 1_700_000_000
"""The moment, in seconds, that stands for the release's."""


def build(tree: Path, moment: int) -> dict[str, bytes]:
    """Build sdist and wheel from a tree, offline; return what was made, name -> bytes."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(moment), "PIP_NO_INDEX": "1"}
    command = [sys.executable, "-m", "hatchling", "build", "-d", "dist"]
    subprocess.run(command, cwd=tree, env=environment, check=True, capture_output=True, timeout=120)
    return {path.name: path.read_bytes() for path in (tree / "dist").iterdir()}


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two copies of this tree: of other names, lengths and times, and with other permissions for others."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("trees")
    one, other = folder / "one", folder / "a longer name" / "other"
    shutil.copytree(ROOT, one, ignore=shutil.ignore_patterns(*NOT_COPIED))
    shutil.copytree(one, other, copy_function=shutil.copyfile)
    for path in other.rglob("*"):
        os.utime(path, (1, MOMENT - 10**6))
        path.chmod(path.stat().st_mode & 0o700)
    return one, other


@pytest.fixture(scope="module")
def built(trees: tuple[Path, Path]) -> dict[str, bytes]:
    """Sdist and wheel, built from one of the two trees."""
    return build(trees[0], MOMENT)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this tree."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the wheel is installed in, apart from this tree."""
    pytest.importorskip("pip")
    folder = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(folder)]
    subprocess.run([*command, str(wheel)], check=True, capture_output=True, timeout=120)
    return folder


def run(installed: Path, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of the installed commands, in a folder where this tree is not seen."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    program = [str(installed / "bin" / command), *arguments]
    return subprocess.run(
        program, cwd=installed, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def metadata(wheel: Path) -> dict[str, list[str]]:
    """Return the wheel's metadata, key -> values."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        parsed = Parser().parsestr(archive.read(name).decode("utf-8"))
    return {key: parsed.get_all(key, []) for key in set(parsed.keys())}


def test_the_wheel_has_every_module_and_its_types_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "interlingua").rglob("*.py")}
    assert names == sources | {"interlingua/py.typed", *DATA}


def test_the_wheel_carries_the_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("LICENSE"))
        assert archive.read(name) == (ROOT / "LICENSE").read_bytes()
    assert metadata(wheel)["License-Expression"] == ["Apache-2.0"]


def test_one_version_everywhere(wheel: Path, installed: Path) -> None:
    version = interlingua.__version__
    assert metadata(wheel)["Version"] == [version]
    assert run(installed, "interlingua", "--version").stdout.splitlines()[0].split()[-1] == version
    releases = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert next(release for release in releases if release != "Unreleased") == version


def test_no_framework_is_needed_to_install_it(wheel: Path) -> None:
    core = {re.split(r"[^\w-]", line)[0].lower() for line in metadata(wheel)["Requires-Dist"] if "extra ==" not in line}
    assert not core & {"torch", "transformers", "tensorflow", "tensorflow-cpu", "paddlepaddle", "mindspore", "keras"}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_installed_command_runs(installed: Path, command: str) -> None:
    done = run(installed, command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: {command} ")


def test_convert_checkpoint_is_interlingua_convert(installed: Path) -> None:
    long, short = (
        run(installed, *words, "--help").stdout for words in (("interlingua", "convert"), ("convert-checkpoint",))
    )
    assert long.replace("interlingua convert", "convert-checkpoint").split() == short.split()


def test_the_short_command_of_parity_is_the_long_one(installed: Path) -> None:
    long, short = (run(installed, *words, "--help").stdout for words in (("interlingua", "parity"), ("parity-check",)))
    assert "Usage: parity-check" in short
    assert long.replace("interlingua parity", "parity-check").split() == short.split()


def test_two_builds_are_the_same_bytes(trees: tuple[Path, Path], built: dict[str, bytes]) -> None:
    version = interlingua.__version__
    assert sorted(built) == [f"interlingua-{version}-py3-none-any.whl", f"interlingua-{version}.tar.gz"]
    assert build(trees[1], MOMENT) == built


def test_the_moment_of_the_release_is_the_files_own(built: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "built.tar.gz"
    path.write_bytes(next(data for name, data in built.items() if name.endswith(".tar.gz")))
    with tarfile.open(path) as archive:
        assert {member.mtime for member in archive} == {MOMENT}


def test_the_sdist_has_all_that_its_makefile_and_pages_name(built: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "built.tar.gz"
    path.write_bytes(next(data for name, data in built.items() if name.endswith(".tar.gz")))
    with tarfile.open(path) as archive:
        names = {member.name.partition("/")[2] for member in archive}
    files = {name for name in names if (ROOT / name).is_file()}
    assert names - files == {"PKG-INFO"}
    sources = ("*.md", "*.toml", "*.txt", "Makefile", "LICENSE")
    assert {path.name for pattern in sources for path in ROOT.glob(pattern)} <= files
    for folder in ("interlingua", "tests", "benchmarks"):
        kept = {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*.py")}
        assert kept <= files
    assert not [name for name in files if "__pycache__" in name]


def test_a_wheel_built_from_the_sdist_is_the_wheel(built: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "built.tar.gz"
    path.write_bytes(next(data for name, data in built.items() if name.endswith(".tar.gz")))
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path, filter="data")
    (tree,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert build(tree, MOMENT) == built


def test_the_core_imports_nothing_but_what_it_requires(installed: Path) -> None:
    """Every module that the commands need is loaded where no extra and no framework can be."""
    program = """
import importlib.util, pkgutil, sys
EXTRAS = set(sys.argv[1].split(","))
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in EXTRAS:
            raise ModuleNotFoundError(f"refused: {name}", name=name)
sys.meta_path.insert(0, Refuse())
import interlingua, interlingua.cli
for package in ("convert", "formats", "mappings", "verify"):
    module = importlib.import_module(f"interlingua.{package}")
    for found in pkgutil.iter_modules(module.__path__, module.__name__ + "."):
        importlib.import_module(found.name)
print(sorted(EXTRAS & {name.partition(".")[0] for name in sys.modules}), interlingua.__file__)
"""
    command = [sys.executable, "-c", program, ",".join(EXTRA_MODULES)]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        command, cwd=installed, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"[] {installed / 'interlingua' / '__init__.py'}\n"


def test_a_typed_program_is_checked_by_the_installed_types(installed: Path, tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    right, wrong = tmp_path / "right.py", tmp_path / "wrong.py"
    text = (ROOT / "tests/consumer.py").read_text(encoding="utf-8")
    right.write_text(text, encoding="utf-8")
    wrong.write_text(text.replace("heads: tuple[str, ...]", "heads: list[int]"), encoding="utf-8")
    found = [typed(installed, path, tmp_path) for path in (right, wrong)]
    assert "Success" in found[0], found[0]
    assert "wrong.py:12: error: Incompatible types in assignment" in found[1], found[1]


def typed(installed: Path, path: Path, folder: Path) -> str:
    """Return what mypy says of a file, by its strictest settings and with the installed package."""
    settings = ["--strict", "--config-file=", "--cache-dir", str(folder / "cache"), "--follow-imports=silent"]
    environment = {**os.environ, "MYPYPATH": "", "PYTHONPATH": str(installed)}
    command = [sys.executable, "-m", "mypy", *settings, str(path)]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    return done.stdout + done.stderr
