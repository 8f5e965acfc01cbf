"""A batch in whose folder the system fails: what it has not done is not called done, and the next run does it."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from tests.faults.harness import WRITES, Fault, Scene, Server, remains, tree
from tests.faults.scenes import model

pytest.importorskip("pydantic")
pytest.importorskip("yaml")

ZOO = """version: 1
defaults: {folder: %s, to: [uer]}
jobs:
  - source: %s
"""

FAULTS = (
    Fault(f"{WRITES},ftruncate,fallocate", number="ENOSPC", lasting=True),
    Fault("fsync"),
    Fault("rename,renameat2,link", number="EIO", lasting=True),
    Fault("open", number="EACCES"),
)


def outputs(scene: Scene) -> dict[str, bytes]:
    """Return what the jobs have written, without what the batch keeps for itself."""
    return {name: data for name, data in tree(scene.place).items() if not name.startswith(".interlingua")}


@pytest.fixture(scope="module")
def batch(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    root = tmp_path_factory.mktemp("scene")
    source = model(root / "src" / "a")
    (root / "zoo.yaml").write_text(ZOO % (root / "place", source))
    scene = Scene(server, ["batch", str(root / "zoo.yaml"), "--jobs", "1", "-q"], root / "src", root / "place")
    scene.reset()
    run = server.run(scene.argv)
    assert run.code == 0, run
    return replace(scene, after=outputs(scene))


@pytest.mark.parametrize("fault", FAULTS, ids=str)
@pytest.mark.parametrize("at", [1, 4, 12])
def test_a_batch_that_is_disturbed_does_not_call_done_what_is_not_and_the_next_one_does_it(
    batch: Scene, fault: Fault, at: int
) -> None:
    assert batch.place is not None
    shutil.rmtree(batch.place)
    batch.place.mkdir()
    run = batch.server.disturbed(batch.argv, replace(fault, at=at), batch.place)
    assert run.code in (0, 1, 5), run
    assert "Traceback" not in run.errors, run.errors
    assert "fault of interlingua" not in run.output + run.errors, run
    found = outputs(batch)
    assert not found or found == batch.after, (run, sorted(found))
    assert run.code or found == batch.after, run
    again = batch.server.run(batch.argv)
    assert again.code == 0, again
    assert outputs(batch) == batch.after
    assert remains(batch.place) == []
