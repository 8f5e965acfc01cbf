"""Outputs appear whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from interlingua.convert import commit as module
from interlingua.convert.commit import MARK, Destination, clear_remains, commit, staging
from interlingua.errors import OutputError
from tests.conftest import ROOT
from tests.models import HEADS, Sizes, hf, write_hf

FILES = ("weights", "config", "sub/more")


def fill(folder: Path, content: str = "new", files: tuple[str, ...] = FILES) -> None:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{content} {name}")


def put(
    destination: Destination,
    content: str = "new",
    files: tuple[str, ...] = FILES,
    meanwhile: Callable[[], object] = int,
) -> None:
    destination.check(files)
    with staging(destination) as stage:
        fill(stage.path, content, files)
        meanwhile()
        commit(stage, destination, files)


def tree(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def remains(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if MARK in path.name]


NEW = {name: f"new {name}" for name in sorted(FILES)}
OLD = {name: f"old {name}" for name in sorted(FILES)}


@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize("name", ["out", "a[b]*?", "Ä" * 100, "x" * 255, ".hidden"])
def test_a_folder_appears_with_all_its_files(tmp_path: Path, name: str, sync: bool) -> None:
    put(Destination(tmp_path / name, False, sync=sync))
    assert tree(tmp_path / name) == NEW
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_missing_folders_above_are_made(tmp_path: Path) -> None:
    put(Destination(tmp_path / "a" / "b" / "out", False))
    assert tree(tmp_path) == {f"a/b/out/{name}": text for name, text in NEW.items()}


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    put(Destination(tmp_path / "out", False))
    assert tree(tmp_path / "out") == NEW


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(OutputError, match="out is there already") as caught:
        put(Destination(tmp_path / "out", False))
    assert "--overwrite" in str(caught.value)
    assert tree(tmp_path) == {"out/mine": "mine"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_in_the_place_of_a_folder_is_left_alone(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputError):
        put(Destination(tmp_path / "out", False, overwrite))
    assert tree(tmp_path) == {"out": "mine"}


def test_a_dangling_link_in_the_place_of_a_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    for overwrite in (False, True):
        with pytest.raises(OutputError):
            put(Destination(tmp_path / "out", False, overwrite))
    assert not (tmp_path / "elsewhere").exists()


def test_overwriting_takes_all_of_the_old_away(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    fill(tmp_path / "out", "old", (*FILES, "stale"))
    put(Destination(tmp_path / "out", False, overwrite=True))
    assert tree(tmp_path) == {f"out/{name}": text for name, text in NEW.items()}
    assert remains(tmp_path) == []


def test_overwriting_a_link_to_a_folder_leaves_what_it_links_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    fill(tmp_path / "real", "old")
    (tmp_path / "out").symlink_to(tmp_path / "real")
    put(Destination(tmp_path / "out", False, overwrite=True))
    assert tree(tmp_path / "real") == OLD
    assert tree(tmp_path / "out") == NEW
    assert not (tmp_path / "out").is_symlink()
    assert remains(tmp_path) == []


def test_overwriting_works_where_folders_cannot_be_swapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Libc:
        def renameat2(self, *_: object) -> int:
            return -1

    monkeypatch.setattr(module.ctypes, "CDLL", lambda *_, **__: Libc())
    (tmp_path / "out").mkdir()
    for number in (errno.EINVAL, errno.ENOSYS):
        fill(tmp_path / "out", "old")
        monkeypatch.setattr(module.ctypes, "get_errno", lambda number=number: number)
        put(Destination(tmp_path / "out", False, overwrite=True))
        assert tree(tmp_path) == {f"out/{name}": text for name, text in NEW.items()}
        assert remains(tmp_path) == []
    monkeypatch.setattr(module.ctypes, "get_errno", lambda: errno.EACCES)
    with pytest.raises(OutputError, match="Permission denied"):
        put(Destination(tmp_path / "out", False, overwrite=True), "newer")
    assert tree(tmp_path / "out") == NEW


def test_the_old_folder_comes_back_where_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, moved = os.replace, list[str]()

    def second_fails(origin: str, target: str, **folders: int) -> None:
        moved.append(target)
        if len(moved) == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        replace(origin, target, **folders)

    monkeypatch.setattr(module.ctypes, "CDLL", lambda *_, **__: object())  # A system that cannot swap.
    monkeypatch.setattr(os, "replace", second_fails)
    fill(tmp_path / "out", "old")
    with pytest.raises(OutputError, match="Input/output error"):
        put(Destination(tmp_path / "out", False, overwrite=True))
    assert tree(tmp_path / "out") == OLD
    assert remains(tmp_path) == []


def test_what_cannot_be_opened_to_be_synced_is_not_put_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, failed = os.open, list[str]()

    def fails_once(name: str, *more: int, **folder: int) -> int:
        if name == "sub" and not failed:
            failed.append(name)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return opened(name, *more, **folder)

    monkeypatch.setattr(os, "open", fails_once)
    with pytest.raises(OutputError, match="Input/output error"):
        put(Destination(tmp_path / "out", False))
    assert list(tmp_path.iterdir()) == []


def test_one_file_that_cannot_be_removed_keeps_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unlink = os.unlink

    def but_one(name: str, **folder: int) -> None:
        if name == "config":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        unlink(name, **folder)

    monkeypatch.setattr(os, "unlink", but_one)
    fill(tmp_path / "out")
    module.remove(tmp_path / "out")
    assert list(tree(tmp_path / "out")) == ["config"]


def test_a_folder_that_appears_meanwhile_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="appeared while"):
        put(Destination(tmp_path / "out", False), meanwhile=lambda: fill(tmp_path / "out", "old"))
    assert tree(tmp_path / "out") == OLD
    assert remains(tmp_path) == []


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_that_appears_where_a_folder_is_to_be_is_left_alone(tmp_path: Path, overwrite: bool) -> None:
    with pytest.raises(OutputError, match="appeared while"):
        put(Destination(tmp_path / "out", False, overwrite), meanwhile=lambda: (tmp_path / "out").write_text("mine"))
    assert tree(tmp_path) == {"out": "mine"}


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("single", [False, True])
def test_a_place_that_is_moved_away_is_an_error_and_is_left_as_it_was(
    tmp_path: Path, single: bool, again: bool
) -> None:
    place, moved = tmp_path / "place", tmp_path / "moved"
    place.mkdir()
    (place / "mine").write_text("mine")

    def move() -> None:
        place.rename(moved)
        if again:
            place.mkdir()

    with pytest.raises(OutputError, match="another folder" if again else "No such file"):
        put(Destination(place / "out", single), meanwhile=move)
    assert tree(tmp_path) == {"moved/mine": "mine"}
    assert remains(moved) == []
    assert place.exists() == again


def test_what_was_written_in_a_place_that_was_moved_away_is_removed(tmp_path: Path) -> None:
    def move_and_fail() -> None:
        (tmp_path / "place").rename(tmp_path / "moved")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        put(Destination(tmp_path / "place" / "out", False), meanwhile=move_and_fail)
    assert list((tmp_path / "moved").iterdir()) == []


SINGLE = ("m.bin", "config.json", "vocab.txt")


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_that_cannot_be_moved_leaves_no_companion_and_no_folder_of_one(tmp_path: Path, overwrite: bool) -> None:
    files = ("m.bin", "1/2/config.json", "1/vocab.txt")
    with pytest.raises(OutputError):
        put(
            Destination(tmp_path / "m.bin", True, overwrite),
            files=files,
            meanwhile=lambda: (tmp_path / "m.bin" / "in the way").mkdir(parents=True),
        )
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["m.bin", "m.bin/in the way"]


def test_a_file_appears_with_its_companions_beside_it(tmp_path: Path) -> None:
    put(Destination(tmp_path / "sub" / "m.bin", True), files=SINGLE)
    assert tree(tmp_path) == {f"sub/{name}": f"new {name}" for name in SINGLE}


@pytest.mark.parametrize("there", SINGLE)
def test_no_file_is_replaced_unasked(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("mine")
    with pytest.raises(OutputError, match=f"{there} is there already"):
        put(Destination(tmp_path / "m.bin", True), files=SINGLE)
    assert tree(tmp_path) == {there: "mine"}
    put(Destination(tmp_path / "m.bin", True, overwrite=True), files=SINGLE)
    assert tree(tmp_path) == {name: f"new {name}" for name in sorted(SINGLE)}


def have_a_file_appear(tmp_path: Path) -> None:
    """Put a file in its place while another of its companion's name appears there, which must be left alone."""
    with pytest.raises(OutputError):
        put(
            Destination(tmp_path / "m.bin", True),
            files=SINGLE,
            meanwhile=lambda: (tmp_path / "config.json").write_text("mine"),
        )
    assert tree(tmp_path) == {"config.json": "mine"}


def test_a_file_that_appears_meanwhile_is_left_alone_and_the_weights_stay_away(tmp_path: Path) -> None:
    have_a_file_appear(tmp_path)


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_weights_come_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool) -> None:
    moved: list[str] = []
    link, replace = os.link, os.replace
    monkeypatch.setattr(os, "link", lambda a, b, **more: (moved.append(b), link(a, b, **more)))
    monkeypatch.setattr(os, "replace", lambda a, b, **more: (moved.append(b), replace(a, b, **more)))
    put(Destination(tmp_path / "m.bin", True, overwrite), files=SINGLE)
    assert moved == ["vocab.txt", "config.json", "m.bin"]


def test_older_weights_come_back_where_a_companion_cannot_be_replaced(tmp_path: Path) -> None:
    fill(tmp_path, "old", SINGLE)
    (tmp_path / "vocab.txt").unlink()
    (tmp_path / "vocab.txt" / "in the way").mkdir(parents=True)
    with pytest.raises(OutputError):
        put(Destination(tmp_path / "m.bin", True, overwrite=True), files=SINGLE)
    assert tree(tmp_path) == {name: f"old {name}" for name in ("config.json", "m.bin")}


@pytest.fixture(params=[errno.EPERM, errno.EOPNOTSUPP])
def without_links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that has no hard links."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(request.param, "no links here")

    monkeypatch.setattr(os, "link", refuse)


@pytest.mark.usefixtures("without_links")
def test_a_file_system_without_hard_links_will_do(tmp_path: Path) -> None:
    put(Destination(tmp_path / "m.bin", True), files=SINGLE)
    assert tree(tmp_path) == {name: f"new {name}" for name in sorted(SINGLE)}


@pytest.mark.usefixtures("without_links")
def test_without_hard_links_too_a_file_that_appears_is_left_alone(tmp_path: Path) -> None:
    have_a_file_appear(tmp_path)


def test_a_file_system_without_locks_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    put(Destination(tmp_path / "out", False))
    assert tree(tmp_path / "out") == NEW


def fail(destination: Destination) -> None:
    """Fail after something was written."""

    def work() -> None:
        with staging(destination) as stage:
            fill(stage.path)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        work()


@pytest.mark.parametrize("single", [False, True])
def test_a_failure_leaves_nothing_not_even_the_folders_above(tmp_path: Path, single: bool) -> None:
    fail(Destination(tmp_path / "a" / "b" / "m.bin", single))
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_folders_that_were_there(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    fail(Destination(tmp_path / "a" / "b" / "out", False))
    assert [path.name for path in tmp_path.rglob("*")] == ["a"]


def test_what_a_killed_run_left_is_cleared_and_nothing_else(tmp_path: Path) -> None:
    left = tmp_path / f".out{MARK}{'0123456789abcdef'}"
    others = [
        tmp_path / f".out{MARK}mine",
        tmp_path / f".out{MARK}{'0' * 17}",
        tmp_path / f".out2{MARK}{'0' * 16}",
        tmp_path / "out.interlingua-0123456789abcdef",
    ]
    for folder in (left, *others):
        folder.mkdir()
        fill(folder, "old")
    put(Destination(tmp_path / "out", False))
    assert not left.exists()
    assert all(tree(folder) == OLD for folder in others)


def test_a_link_that_is_called_as_remains_are_is_cleared_and_what_it_leads_to_is_not(tmp_path: Path) -> None:
    fill(tmp_path / "mine", "old")
    link = tmp_path / f".out{MARK}{'0123456789abcdef'}"
    link.symlink_to(tmp_path / "mine")
    clear_remains(tmp_path / "out")
    assert not link.is_symlink()
    assert tree(tmp_path / "mine") == OLD


def test_remains_are_those_of_one_name(tmp_path: Path) -> None:
    left, other = (tmp_path / f".{name}{MARK}{'0' * 16}" for name in ("a.b+(c", "axb+(c"))
    left.mkdir()
    other.mkdir()
    clear_remains(tmp_path / "a.b+(c")
    assert (left.exists(), other.exists()) == (False, True)


def test_a_run_that_still_works_is_not_cleared(tmp_path: Path) -> None:
    destination = Destination(tmp_path / "out", False, overwrite=True)
    with staging(destination) as first:
        fill(first.path, "old")
        put(destination)
        assert tree(first.path) == OLD
        assert tree(tmp_path / "out") == NEW
    assert remains(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "alone", "cleared"), [("out", True, True), ("out", False, False), ("n" * 151, True, False)]
)
def test_where_there_are_no_locks_remains_are_cleared_by_who_is_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, alone: bool, cleared: bool
) -> None:
    def refuse(fd: int, operation: int) -> None:
        raise OSError(errno.EBADF, "no locks on folders")

    remains = tmp_path / f".{name[:150]}{MARK}{'0' * 16}"
    remains.mkdir()
    monkeypatch.setattr(module.fcntl, "flock", refuse)
    clear_remains(tmp_path / name, alone=alone)
    assert remains.exists() != cleared


def test_who_believes_to_be_alone_does_not_clear_what_is_locked(tmp_path: Path) -> None:
    with staging(Destination(tmp_path / "out", False)) as stage:
        clear_remains(tmp_path / "out", alone=True)
        assert stage.path.exists()


def test_a_place_that_cannot_be_written_is_an_error_of_the_output(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "out", Path("/proc/nothing/out"), tmp_path / ("y" * 300) / "out"):
        with pytest.raises(OutputError):
            put(Destination(path, False))


@pytest.mark.parametrize("single", [False, True])
def test_everything_is_synced_before_it_is_moved_and_the_folder_after(
    tmp_path: Path, monkeypatch, single: bool
) -> None:
    events: list[str] = []
    fsync, replace, link = os.fsync, os.replace, os.link

    def note(fd: int) -> None:
        events.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(os, "replace", lambda a, b, **more: (events.append("MOVE"), replace(a, b, **more)))
    monkeypatch.setattr(os, "link", lambda a, b, **more: (events.append("MOVE"), link(a, b, **more)))
    files = SINGLE if single else FILES
    put(Destination(tmp_path / "m.bin", single, sync=True), files=files)
    before = events[: events.index("MOVE")]
    assert {Path(name).name for name in files} <= set(before)
    assert any(MARK in name for name in before)
    assert events[-1] == tmp_path.name
    events.clear()
    put(Destination(tmp_path / "n.bin", single, sync=False, overwrite=True), files=files)
    assert [event for event in events if event != "MOVE"] == []


def test_the_folder_has_the_mode_of_the_umask(tmp_path: Path) -> None:
    for umask, mode in ((0o022, 0o755), (0o077, 0o700)):
        before = os.umask(umask)
        try:
            put(Destination(tmp_path / str(mode), False))
        finally:
            os.umask(before)
        assert (tmp_path / str(mode)).stat().st_mode & 0o777 == mode


CONVERT = """
import sys
from interlingua.convert import stream
import interlingua
stream.COPY = 1 << 12  # many moments at which to be killed
interlingua.convert(sys.argv[1], sys.argv[2], to="uer", overwrite=True, sync=False)
"""

EVERY_MOMENT = """
import os, shutil, signal, sys
from pathlib import Path
import interlingua

source, other, target, single = *sys.argv[1:3], Path(sys.argv[3]), sys.argv[4] == "True"
place = target.parent
MOMENTS = (
    "open", "os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir", "os.truncate", "os.scandir", "os.listdir"
)

def state():
    folder = place if single else target
    files = folder.rglob("*") if folder.exists() else ()
    return {str(p.relative_to(folder)): p.read_bytes() for p in files if p.is_file() and ".interlingua-" not in str(p)}

def where(arg):
    folder = f"/proc/self/fd/{arg}"
    return os.readlink(folder) if isinstance(arg, int) and os.path.lexists(folder) else str(arg)

def run(number):
    if (child := os.fork()) == 0:
        seen = 0
        def moment(event, args):
            nonlocal seen
            if event in MOMENTS and any(str(place) in where(arg) for arg in args):
                seen += 1
                if seen == number:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(moment)
        try:
            interlingua.convert(source, target, to="uer", overwrite=True)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

interlingua.convert(other, target, to="uer")
old = state()
interlingua.convert(source, target, to="uer", overwrite=True)
whole = state()
assert len(old) == len(whole) == 4 and not set(old.items()) & set(whole.items())
for start in ({}, old):
    number, killed = 0, True
    while killed:
        shutil.rmtree(place, ignore_errors=True)
        if start:
            interlingua.convert(other, target, to="uer", sync=False)
        number += 1
        killed = run(number) == -signal.SIGKILL
        found = state()
        if single:
            # Nothing but companions without their weights may be there besides.
            assert target.name not in found or found in (start, whole), (number, list(found))
        else:
            assert found in (start, whole), (number, list(found))
    assert number > 20, number
    assert state() == whole
    assert [p for p in place.iterdir() if ".interlingua-" in p.name] == []
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("single", [False, True])
def test_kill_9_at_every_call_leaves_the_whole_or_nothing(tmp_path: Path, single: bool) -> None:
    write_hf(tmp_path / "src", hf(("pooler",)), {"num_attention_heads": 6}, 37)
    write_hf(tmp_path / "old", hf(("pooler",), seed=1), {"num_attention_heads": 4}, 36)
    target = tmp_path / "place" / ("m.bin" if single else "out")
    with start(EVERY_MOMENT, tmp_path / "src", tmp_path / "old", target, single) as process:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors


def test_kill_9_at_random_moments_leaves_the_whole_or_nothing(tmp_path: Path) -> None:
    sizes = Sizes(hidden=48, intermediate=96, vocab=500)
    write_hf(tmp_path / "src", hf(tuple(HEADS)[:3], sizes), {"num_attention_heads": 6}, 500)
    target = tmp_path / "place" / "out"

    def run(after: float | None) -> float:
        started = time.monotonic()
        with start(CONVERT, tmp_path / "src", target) as process:
            if after is not None:
                time.sleep(after)
                os.kill(process.pid, signal.SIGKILL)
            assert process.wait() in ((0,) if after is None else (0, -9))
        return time.monotonic() - started

    def state() -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in target.iterdir()} if target.exists() else {}

    duration = run(None)
    whole = state()
    assert len(whole) == 4
    rng = random.Random(7)
    for number in range(6):
        if number % 2:
            shutil.rmtree(target.parent, ignore_errors=True)
        before = state()
        # Python takes most of the time to start: the moments of interest are near the end.
        run(duration * rng.uniform(0.5, 1.05))
        assert state() in (before, whole)
    run(None)
    assert state() == whole
    assert remains(target.parent) == []
