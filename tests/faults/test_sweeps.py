"""One fault in each run, at every call of a kind: never a wrong success, never half an output, the right exit code."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.harness import TRANSFERS, WRITES, Fault, Run, Scene, Server, Tree, check_message, remains, tree
from tests.faults.scenes import CONVERSIONS, WRITTEN, build, container_scene

ERRORS = {
    "transfer": Fault(WRITES, number="EIO"),
    "full disk": Fault(f"{WRITES},ftruncate,fallocate,mkdir", number="ENOSPC", lasting=True),
    "quota": Fault(f"{WRITES},ftruncate,fallocate", number="EDQUOT"),
    "sync": Fault("fsync"),
    "open": Fault("open", number="EMFILE"),
    "permission": Fault("open,mkdir", number="EACCES"),
    "move": Fault("rename,renameat2,link", number="EIO"),
    "move across": Fault("rename,renameat2,link", number="EXDEV"),
    "move without room": Fault("rename,renameat2,link", number="ENOSPC"),
    "move not permitted": Fault("rename,renameat2,link", number="EPERM"),
    "no exchange": Fault("renameat2", number="EINVAL", lasting=True),
    "remove": Fault("unlink,rmdir"),
    "look": Fault("stat,fstat"),
    "list": Fault("opendir", number="EACCES"),
    "read back": Fault(TRANSFERS),
}
"""What may befall the folder that is written in."""

SOURCE_ERRORS = {
    "read": Fault(TRANSFERS),
    "open": Fault("open", number="EACCES"),
    "too many open": Fault("open", number="EMFILE", lasting=True),
    "look": Fault("stat,fstat"),
    "list": Fault("opendir", number="EACCES"),
}
"""What may befall the folder that is read."""

SURVIVED = {
    "interrupted": Fault(f"{TRANSFERS},{WRITES},open,fsync,ftruncate,fallocate,flock", number="EINTR"),
    "short": Fault(f"{TRANSFERS},{WRITES}", action="short"),
    "no copying in the kernel": Fault("copy_file_range", number="EIO", at=0),
    "no locks": Fault("flock", number="ENOLCK"),
}
"""What is none of a user's business."""


def hold(scene: Scene, run: Run, fault: Fault, codes: tuple[int, ...], whole: tuple[Tree, ...] = ()) -> None:
    """Hold what came of a disturbed run against what is promised."""
    found, seen = tree(scene.place), f"{fault}, {run}"
    if run.code == 0:
        assert found == scene.after, seen
        assert run.output == scene.said, seen
    else:
        assert run.code in codes, seen
        check_message(run)
        assert found in (scene.before, scene.after, *whole), (seen, sorted(found))
        assert run.code != 1 or found == scene.after, seen
    assert remains(scene.place) == [], seen
    assert list((scene.server.folder / "tmp").iterdir()) == [], seen


@pytest.fixture(scope="module", params=CONVERSIONS)
def conversion(request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return build(CONVERSIONS[request.param], server, tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="module", params=WRITTEN)
def container(request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return container_scene(server, tmp_path_factory.mktemp("scene"), request.param)


@pytest.mark.parametrize("what", ERRORS)
def test_a_destination_that_fails_is_an_error_of_the_output_and_leaves_it_as_it_was(
    conversion: Scene, what: str
) -> None:
    assert conversion.place is not None
    for fault, run in conversion.each(ERRORS[what], conversion.place):
        hold(conversion, run, fault, (1, 5))


@pytest.mark.parametrize("what", SOURCE_ERRORS)
def test_a_source_that_fails_is_an_error_of_the_input(conversion: Scene, what: str) -> None:
    for fault, run in conversion.each(SOURCE_ERRORS[what], conversion.source):
        hold(conversion, run, fault, (3,))


@pytest.mark.parametrize("what", SOURCE_ERRORS)
def test_a_command_that_reads_says_what_cannot_be_read(reading: Scene, what: str) -> None:
    for fault, run in reading.each(SOURCE_ERRORS[what], reading.source):
        hold(reading, run, fault, (3,))


@pytest.mark.parametrize("what", SURVIVED)
def test_what_the_system_does_by_the_way_changes_nothing(conversion: Scene, what: str) -> None:
    root = conversion.source.parent
    for fault in (replace(SURVIVED[what], at=at) for at in (0, 1, 3)):
        if fault.number == "EINTR" and not fault.at:
            continue  # Who is always interrupted never ends.
        conversion.reset()
        run = conversion.server.disturbed(conversion.argv, fault, root)
        assert run.code == 0, (fault, run)
        hold(conversion, run, fault, ())


@pytest.mark.parametrize("what", ["full disk", "transfer", "sync", "open", "read back", "look"])
def test_each_container_is_written_whole_or_not_at_all(container: Scene, what: str) -> None:
    assert container.place is not None
    for fault, run in container.each(ERRORS[what], container.place):
        hold(container, run, fault, (1, 5))


def test_the_shim_sees_every_kind_of_call(server: Server, tmp_path: Path) -> None:
    scene = build(CONVERSIONS["file over an older one"], server, tmp_path)
    assert scene.place is not None
    for call in ("pread", "preadv", "open", "fstat", "opendir"):
        assert scene.count(Fault(call), scene.source), call
    for call in ("pwrite", "preadv", "open", "mkdir", "rename", "unlink", "rmdir", "fsync", "ftruncate", "flock"):
        assert scene.count(Fault(call), scene.place), call
    copy = build(CONVERSIONS["unchecked copy"], server, tmp_path / "copy")
    assert copy.count(Fault("copy_file_range"), copy.source)


@pytest.mark.parametrize("output", ["folder over an older one", "file"])
def test_a_destination_that_vanishes_is_an_error_of_the_output(server: Server, tmp_path: Path, output: str) -> None:
    scene = build(CONVERSIONS[output], server, tmp_path)
    place = scene.place
    assert place is not None
    fault = Fault(f"{WRITES},open,rename,renameat2,link,fsync", "vanish")
    for at in server.sweep(scene.count(fault, place)):
        gone = place.with_name(f"{place.name}.gone")
        shutil.rmtree(gone, ignore_errors=True)
        scene.reset()
        run = server.disturbed(scene.argv, replace(fault, at=at), place, target=place)
        found = tree(gone)
        assert run.disturbed
        assert found in (scene.before, scene.after), (at, run, sorted(found))
        assert remains(gone) == [], (at, run)
        assert not place.exists(), (at, run, sorted(tree(place)))
        if run.code:
            assert run.code in (1, 5), (at, run)
            check_message(run)
        else:
            assert found == scene.after, (at, run)


def test_an_archive_for_which_there_is_no_room_is_refused_with_a_way_out(server: Server, tmp_path: Path) -> None:
    scene = build(CONVERSIONS["from an archive"], server, tmp_path)
    scene.reset()
    run = server.disturbed(scene.argv, Fault("statvfs", "full"), server.folder / "tmp")
    assert run.disturbed
    assert run.code == 3
    check_message(run)
    assert "TMPDIR" in run.errors
    assert tree(scene.place) == {}


@pytest.mark.parametrize("number", ["ENOSPC", "EDQUOT", "EIO"])
def test_an_archive_that_cannot_be_unpacked_leaves_nothing(server: Server, tmp_path: Path, number: str) -> None:
    """Whatever ``statvfs`` has said of the room there is."""
    scene = build(CONVERSIONS["from an archive"], server, tmp_path)
    for fault, run in scene.each(Fault(f"{WRITES},open,mkdir,opendir", number=number), server.folder / "tmp"):
        hold(scene, run, fault, (3,))
