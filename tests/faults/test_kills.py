"""A process that is killed right before or after a call leaves the whole output, or what was there."""

from __future__ import annotations

import signal

import pytest

from tests.faults.harness import WRITES, Fault, Scene, Server, remains, tree
from tests.faults.scenes import CONVERSIONS, build

MOMENTS = f"open,mkdir,rmdir,unlink,rename,renameat2,link,fsync,ftruncate,fallocate,flock,{WRITES}"
"""Every call that changes something, and every opening."""

MOVES = "rename,renameat2,link"

SCENES = ("folder", "folder over an older one", "file", "file over an older one", "shards")


@pytest.fixture(scope="module", params=SCENES)
def conversion(request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return build(CONVERSIONS[request.param], server, tmp_path_factory.mktemp("scene"))


@pytest.mark.parametrize("action", ["kill-before", "kill-after"])
@pytest.mark.parametrize("calls", [MOVES, MOMENTS], ids=["moves", "any call"])
def test_a_killed_run_leaves_the_whole_or_what_was_there_and_the_next_clears_up(
    conversion: Scene, calls: str, action: str
) -> None:
    place = conversion.place
    assert place is not None
    killed = 0
    for fault, run in conversion.each(Fault(calls, action), place):
        assert run.code == -signal.SIGKILL, (fault, run)
        killed += 1
        found = tree(place)
        if any(name.startswith("m.bin") for name in conversion.after):
            # Files beside each other are moved one by one: the weights, which come last, say that all are there.
            assert "m.bin" not in found or found in (conversion.before, conversion.after), (fault, sorted(found))
        else:
            assert found in (conversion.before, conversion.after), (fault, sorted(found))
    assert killed
    again = [word for word in conversion.argv if word != "--overwrite"]
    run = conversion.server.run([*again, "--overwrite"])
    assert run.code == 0, run
    assert remains(place) == []
    assert set(conversion.after) <= set(tree(place))
