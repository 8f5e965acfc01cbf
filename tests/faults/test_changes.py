"""A source that shrinks, grows, changes or vanishes under a command: no output is made of two versions of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from interlingua.formats.registry import CONTAINERS
from tests.faults.harness import LAST, TRANSFERS, Fault, Scene, Server, check_message, remains, restore, tree
from tests.faults.scenes import CONVERSIONS, WRITTEN, arrays, build, content_of, file_of

CHANGES = ("shrink", "grow", "change", "vanish")

SCENES = ("folder", "file over an older one", "unchecked copy", "cast", "from a residue")


@pytest.fixture(scope="module", params=SCENES)
def conversion(request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return build(CONVERSIONS[request.param], server, tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="module", params=WRITTEN)
def container(request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """The conversion of arrays out of a container."""
    root, found = tmp_path_factory.mktemp("scene"), CONTAINERS[request.param]
    written = arrays(root / "m.safetensors")
    (root / "src").mkdir()
    made = server.run(
        ["convert", "-q", str(written), str(file_of(found, root / "src")), "--keep-names", "--container", found.name]
    )
    assert made.code == 0, made
    source, place = content_of(found, root / "src"), root / "place"
    argv = ["convert", "-q", str(source), str(place / "m.npz"), "--keep-names"]
    return Scene(server, argv, root / "src", place).played()


def weights(source: Path) -> Path:
    """Return the largest file of a source."""
    return max((path for path in source.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def each_change(scene: Scene, action: str) -> Iterator[tuple[Fault, int]]:
    """Change the weights before each read of the source, and yield the exit code; all is as it was afterwards."""
    kept, target = tree(scene.source), weights(scene.source)
    fault = Fault(TRANSFERS, action, offset=target.stat().st_size - 100)
    for at in scene.server.sweep(scene.count(replace(fault, at=LAST), scene.source)):
        scene.reset()
        here = replace(fault, at=at)
        run = scene.server.disturbed(scene.argv, here, scene.source, target)
        try:
            if not run.disturbed:
                continue
            assert remains(scene.place) == []
            if run.code:
                assert run.code == 3, (here, run)
                check_message(run)
                # Where it changes after the output was put in place, it is the check that fails.
                assert tree(scene.place) in (scene.before, scene.after), (here, run)
            yield here, run.code
        finally:
            restore(scene.source, kept)


def truth(scene: Scene) -> bool:
    """Whether the output is its source as it is now; both are looked at without any disturbance."""
    assert scene.place is not None
    made = scene.server.run(
        ["diff", scene.argv[2], scene.argv[3], *(["--atol", "0.01"] if "float16" in scene.argv else [])]
    )
    return made.code == 0


@pytest.mark.parametrize("action", CHANGES)
def test_an_output_is_never_made_of_two_versions_of_its_source(conversion: Scene, action: str) -> None:
    failed = 0
    for fault, code in each_change(conversion, action):
        failed += code != 0
        assert code or (tree(conversion.place) == conversion.after if action == "vanish" else truth(conversion)), fault
    assert failed


@pytest.mark.parametrize("action", CHANGES)
def test_no_container_is_read_from_two_versions_of_it(container: Scene, action: str) -> None:
    for fault, code in each_change(container, action):
        found = tree(container.place)
        if code or (action == "vanish" and found == container.after):
            continue
        container.reset()
        again = container.server.run(container.argv)
        assert again.code == 0, (fault, again)
        assert tree(container.place) == found, fault


@pytest.mark.parametrize("action", CHANGES)
def test_what_is_said_of_a_source_is_said_of_one_version_of_it(reading: Scene, action: str) -> None:
    kept, target = tree(reading.source), weights(reading.source)
    fault = Fault(TRANSFERS, action, offset=target.stat().st_size - 100)
    for at in reading.server.sweep(reading.count(fault, reading.source)):
        run = reading.server.disturbed(reading.argv, replace(fault, at=at), reading.source, target)
        if run.code == 0 and action != "vanish":
            assert reading.server.run(reading.argv).output == run.output, (at, run)
        elif run.code == 0:
            assert run.output == reading.said
        else:
            # Two checkpoints that now differ are told as such.
            assert run.code == 3 or (run.code == 1 and reading.argv[0] == "diff"), (at, run)
            if run.code == 3:
                check_message(run)
        shutil.rmtree(reading.source)
        restore(reading.source, kept)
