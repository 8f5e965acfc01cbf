"""Where sources and outputs may be: names, links, other file systems, permissions, and several processes at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.families import realistic, write_model
from interlingua.convert.commit import MARK
from interlingua.mappings.schema import FAMILIES
from tests.conftest import ROOT

MORTAL = """
import ctypes, os, sys
# PR_CAPBSET_DROP of CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: even root then needs the permissions that files have.
for capability in (1, 2):
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""

COMMAND = ["-m", "interlingua"]


def interlingua(*arguments: str | Path, umask: int = -1, mortal: bool = False) -> subprocess.CompletedProcess[str]:
    """Run the program; ``mortal``: without root's power to read and write whatever there is."""
    words = [*(["-c", MORTAL] if mortal else []), *COMMAND, *map(str, arguments)]
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.fspath(ROOT)},
        umask=umask,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


def convert(
    source: Path, target: Path, *more: str, umask: int = -1, mortal: bool = False
) -> subprocess.CompletedProcess[str]:
    return interlingua("convert", "--to", "uer", "--no-sync", *more, "--", source, target, umask=umask, mortal=mortal)


def same(one: Path, other: Path) -> bool:
    return interlingua("diff", one, other).returncode == 0


def refused(done: subprocess.CompletedProcess[str], code: int) -> bool:
    """Whether a command has failed as promised: with this exit code, and one paragraph."""
    return done.returncode == code and done.stderr.startswith("interlingua: ") and done.stderr.count("\n") == 1


def remains(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if MARK in path.name]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_model(tmp_path / "src", FAMILIES["bert"], ("pooler",), 1, draw=realistic)


NAMES = ["two words", " spaces around ", "Ünïcödé-模型-🙂", "new\nline", "-dash", "x" * 255, "模" * 85, "100%s{}$HOME"]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name[:20]))
def test_any_name_will_do_for_a_source_and_for_an_output(source: Path, tmp_path: Path, name: str) -> None:
    here = tmp_path / "in"
    here.mkdir()
    moved = source.rename(here / name)
    out = tmp_path / "out" / name
    done = convert(moved, out)
    assert done.returncode == 0, done.stderr
    assert same(moved, out)
    assert [path.name for path in out.parent.iterdir()] == [name]
    again = convert(moved, out)
    assert refused(again, 5), again.stderr


def test_a_file_may_have_a_name_as_long_as_names_can_be(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    out = tmp_path / "out" / ("é" * 125 + "x.bin")
    assert len(os.fsencode(out.name)) == 255
    assert convert(source, out).returncode == 0
    assert same(source, out)
    assert convert(source, out, "--overwrite").returncode == 0
    assert remains(out.parent) == []


def test_a_name_that_is_no_text_will_do(source: Path, tmp_path: Path) -> None:
    moved = source.rename(tmp_path / os.fsdecode(b"caf\xe9"))
    out = tmp_path / os.fsdecode(b"out\xff")
    done = convert(moved, out)
    assert done.returncode == 0, done.stderr
    assert same(moved, out)


def test_a_name_that_is_too_long_is_an_error_of_the_output(source: Path, tmp_path: Path) -> None:
    done = convert(source, tmp_path / ("x" * 256))
    assert refused(done, 5), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["src"]


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_a_source_is_not_converted_onto_itself_through_a_link(
    source: Path, tmp_path: Path, overwrite: list[str]
) -> None:
    (tmp_path / "link").symlink_to(source, target_is_directory=True)
    (tmp_path / "above").symlink_to(tmp_path, target_is_directory=True)
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    for target in (tmp_path / "above" / "src", tmp_path / "link", tmp_path / "link" / "model.bin"):
        done = convert(tmp_path / "link", target, *overwrite)
        assert refused(done, 5), (target, done.stderr)
    assert {path.name: path.read_bytes() for path in source.iterdir()} == before


def test_files_that_are_links_are_read_as_what_they_link_to(source: Path, tmp_path: Path) -> None:
    """As in the cache of huggingface_hub, whose snapshots are links into a store."""
    (tmp_path / "blobs").mkdir()
    for number, path in enumerate(sorted(source.iterdir())):
        path.rename(tmp_path / "blobs" / str(number))
        path.symlink_to(Path("..", "blobs", str(number)))
    assert convert(source, tmp_path / "out").returncode == 0
    assert same(source, tmp_path / "out")
    assert not any(path.is_symlink() for path in (tmp_path / "out").iterdir())


def test_an_output_in_a_folder_that_is_a_link_is_where_it_leads(source: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    for name in ("out", "m.bin"):
        assert convert(source, tmp_path / "link" / name).returncode == 0
        assert same(source, tmp_path / "real" / name)
    assert remains(tmp_path) == []


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system is here: /dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="interlingua-test-", dir=memory))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", ["out", "m.bin"])
def test_source_and_output_may_be_on_two_file_systems(source: Path, tmp_path: Path, elsewhere: Path, name: str) -> None:
    assert convert(source, elsewhere / "there" / name).returncode == 0
    assert same(source, elsewhere / "there" / name)
    back = interlingua("convert", elsewhere / "there" / name, tmp_path / "back", "--to", "hf")
    assert back.returncode == 0, back.stderr
    assert same(source, tmp_path / "back")
    (tmp_path / "link").symlink_to(elsewhere, target_is_directory=True)
    assert convert(source, tmp_path / "link" / "there" / name, "--overwrite").returncode == 0
    assert remains(elsewhere) == remains(tmp_path) == []


@pytest.mark.parametrize(
    ("umask", "file", "folder"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700), (0o002, 0o664, 0o775)]
)
def test_outputs_have_the_permissions_of_the_umask_whatever_the_source_has(
    source: Path, tmp_path: Path, umask: int, file: int, folder: int
) -> None:
    for path in source.iterdir():
        path.chmod(0o400)
    for name in ("out", "new/m.bin"):
        assert convert(source, tmp_path / name, umask=umask).returncode == 0
    made = [tmp_path / "out", *(tmp_path / "out").iterdir(), tmp_path / "new", *(tmp_path / "new").iterdir()]
    assert {path.name: path.stat().st_mode & 0o7777 for path in made} == {
        path.name: folder if path.is_dir() else file for path in made
    }


def test_a_source_that_can_only_be_read_is_read(source: Path, tmp_path: Path) -> None:
    for path in source.iterdir():
        path.chmod(0o444)
    source.chmod(0o555)
    try:
        assert convert(source, tmp_path / "out", mortal=True).returncode == 0
        inside = convert(source, source / "out", mortal=True)
        assert refused(inside, 5), inside.stderr
        assert "Permission denied" in inside.stderr
    finally:
        source.chmod(0o755)
    assert same(source, tmp_path / "out")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "."])
def test_a_source_that_must_not_be_read_is_an_error_of_the_input(source: Path, tmp_path: Path, name: str) -> None:
    (source / name).chmod(0)
    try:
        done = convert(source, tmp_path / "out", mortal=True)
    finally:
        (source / name).chmod(0o755)
    assert refused(done, 3), done
    assert "Permission denied" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["out", "m.bin"])
@pytest.mark.parametrize("there", [False, True])
def test_a_place_that_must_not_be_written_is_left_as_it_was(
    source: Path, tmp_path: Path, name: str, there: bool
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    if there:
        assert convert(source, place / name).returncode == 0
    before = sorted(place.rglob("*"))
    place.chmod(0o555)
    try:
        done = convert(source, place / name, *(["--overwrite"] if there else []), mortal=True)
    finally:
        place.chmod(0o755)
    assert refused(done, 5), done
    assert sorted(place.rglob("*")) == before


def together(source: Path, others: list[Path], target: Path, *more: str) -> list[int]:
    """Start a conversion of each source to one place at the same time; return their exit codes."""
    command = [sys.executable, *COMMAND, "convert", "-q", "--to", "uer", "--no-sync", *more]
    started = [
        subprocess.Popen(
            [*command, str(path), str(target)],
            env={**os.environ, "PYTHONPATH": os.fspath(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for path in (source, *others)
    ]
    return [process.wait(120) for process in started]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["out", "m.bin"])
def test_of_several_conversions_to_one_place_one_is_there_whole(
    source: Path, tmp_path: Path, name: str, overwrite: bool
) -> None:
    others = [write_model(tmp_path / f"src{n}", FAMILIES["bert"], ("pooler",), n, draw=realistic) for n in (2, 3)]
    target = tmp_path / "place" / name
    codes = together(source, others, target, *(["--overwrite"] if overwrite else []))
    assert set(codes) <= {0, 1, 5}, codes
    if not overwrite:
        assert codes.count(0) == 1, codes
    assert sum(same(path, target) for path in (source, *others)) == 1
    assert remains(tmp_path / "place") == []
