"""What fuzzing has found once is replayed ever after; and every target's own seeds are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlingua.formats.registry import CONTAINERS
from tests.formats.hostile import check_reader
from tests.fuzz.targets import TARGETS

REGRESSIONS = Path(__file__).with_name("regressions")
FOUND = sorted(path for path in REGRESSIONS.rglob("*") if path.is_file() and path.name != ".gitkeep")


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}-{path.name[:20]}")
def test_an_input_that_once_broke_a_reader_breaks_it_no_more(path: Path, tmp_path: Path) -> None:
    target = TARGETS[path.parent.name]
    place = target.place(path.read_bytes(), tmp_path)
    check_reader(CONTAINERS[target.container].load().open_reader, place)


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_is_read_as_what_it_is(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    (tmp_path / "seeds").mkdir()
    (tmp_path / "place").mkdir()
    seeds = list(target.seeds(tmp_path / "seeds"))
    if not seeds:
        pytest.skip(f"the files that {name} is fuzzed from are not here")
    for data in seeds:
        assert check_reader(CONTAINERS[target.container].load().open_reader, target.place(data, tmp_path / "place"))
