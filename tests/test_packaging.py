"""What somebody gets who installs the package: the wheel's content, the commands, one version everywhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
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
    assert run(installed, "interlingua", "--version").stdout == f"interlingua, version {version}\n"
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
