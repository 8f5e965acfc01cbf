"""`python -m benchmarks.page`: what it measures is what it says, and what misses a goal or cannot be run is named."""

from __future__ import annotations

import ast
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import interlingua
from benchmarks import growth, machine, markdown, page
from benchmarks.measure import Job, Row
from benchmarks.models import SIZES, Size, make_model
from benchmarks.peers import PEERS, Peer
from interlingua.formats import preallocation
from interlingua.mappings.registry import DIALECTS

ROOT = Path(__file__).resolve().parent.parent
SMALL = Size("small", hidden=64, layers=2, heads=2, vocab=400, positions=8)
COPY = Peer(
    "a copy",
    ("numpy",),
    "hf",
    "torch-zip",
    "hf",
    "torch-zip",
    "import shutil\nshutil.copytree(source, target, dirs_exist_ok=True)",
)


@pytest.fixture
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> page.Setting:
    """A run of one round in a small folder, which waits for no disk."""
    monkeypatch.setattr("benchmarks.measure.os.sync", lambda: None)
    monkeypatch.setattr(machine, "WRITTEN", 8 << 20)
    return page.Setting(tmp_path, 1)


def timed(wall: float, memory: int = 10**8, ratio: float = 1.0) -> Row:
    return Row("a row", wall, wall, memory, ratio)


def test_the_sizes_are_those_of_the_page() -> None:
    found = {name: round(growth.nbytes(SIZES[name]) / 1e9, 2) for name in page.SCALE}
    assert found == {"base": 0.44, "large": 1.34, "deep": 1.95}


@pytest.mark.parametrize(("transposed", "goal"), [(False, 1.2 * 2 + 0.25), (True, 1.8 * 2 + 0.25)])
def test_the_goal_is_a_multiple_of_cp_and_the_start(transposed: bool, goal: float) -> None:
    assert page.bound(2.0, transposed) == pytest.approx(goal)


@pytest.mark.parametrize(
    ("target", "transposed"), [("uer", False), ("mindspore", False), ("tf1", True), ("paddle", True)]
)
def test_a_pair_is_held_to_the_goal_of_what_it_does(tmp_path: Path, target: str, transposed: bool) -> None:
    assert page.transposes(make_model(SMALL, tmp_path), target) == transposed


@pytest.mark.parametrize(
    ("checked", "unchecked", "verdict"),
    [(1.4, 1.4, "met"), (1.5, 1.4, "**missed**, met unchecked"), (1.5, 1.5, "**missed**")],
)
def test_what_misses_its_goal_is_marked(
    setting: page.Setting, monkeypatch: pytest.MonkeyPatch, checked: float, unchecked: float, verdict: str
) -> None:
    monkeypatch.setattr(page, "in_turn", lambda jobs, runs: [timed(1.0), timed(checked), timed(unchecked)])
    row = page.pair_row(setting, make_model(SMALL, setting.folder), "hf", "uer")
    assert (row[2], row[5], row[-1]) == ("renamed", "1.45", verdict)


def test_every_main_dialect_goes_to_every_other(setting: page.Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "MAIN", ("hf", "ernie-fluid", "uer"))
    (text,) = page.pairs(setting, [SMALL], ())
    lines = [line.split(" | ")[:2] for line in text.splitlines() if line.startswith("| `")]
    names = ("hf", "ernie-fluid", "uer")
    assert lines == [[f"| `{one}`", f"`{other}`"] for one in names for other in names if one != other]
    assert list(setting.folder.iterdir()) == []


def test_an_output_that_lacks_weights_is_no_success(tmp_path: Path) -> None:
    source = make_model(SMALL, tmp_path)
    made = tmp_path / "made"
    check = page.whole(source, made)
    made.mkdir()
    assert not check()
    (made / "weights").write_bytes(bytes(page.nbytes(source)))
    assert check()


@pytest.mark.parametrize(
    ("ratio", "memory", "verdict"),
    [
        (0.2, 10**9, "met"),
        (0.21, 10**9, "**missed**: time"),
        (0.2, 10**9 - 1, "**missed**: memory"),
        (1.0, 10**8, "**missed**: time and memory"),
    ],
)
def test_a_peer_s_goals_are_five_times_and_ten_times(
    setting: page.Setting, monkeypatch: pytest.MonkeyPatch, ratio: float, memory: int, verdict: str
) -> None:
    monkeypatch.setattr(page, "in_turn", lambda jobs, runs: [timed(1.0, memory), timed(ratio, 10**8, ratio)])
    source = setting.folder / "held"
    interlingua.convert(make_model(SMALL, setting.folder), source, to="hf", container="torch-zip")
    theirs, ours = page.peer_rows(setting, source, COPY, {"numpy": "1"})
    assert (theirs[:2], ours[-1]) == (("a copy", "numpy 1"), verdict)


def test_peers_that_are_not_there_or_fail_are_named_and_the_others_measured(
    setting: page.Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = replace(COPY, name="absent", packages=("no-such-package",))
    elsewhere = replace(COPY, name="elsewhere", owners=True)
    failing = replace(COPY, name="failing", steps="raise KeyError('/a/path')")
    empty = replace(COPY, name="empty", steps="pass")
    monkeypatch.setattr(page, "PEERS", (COPY, absent, elsewhere, failing, empty))
    (text,) = page.peers(setting, [SMALL], ())
    assert "| a copy | numpy " in text
    assert "- absent: no-such-package not installed." in text
    assert "- elsewhere: it needs the owners' environment (--owners)." in text
    assert "- failing: it fails here (KeyError)." in text
    assert "- empty: it fails here (" in text
    assert str(setting.folder) not in text


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer_s_program_is_python_and_its_conversion_possible(peer: Peer, tmp_path: Path) -> None:
    ast.parse(peer.program)
    assert peer.held in DIALECTS[peer.origin].containers
    assert peer.made in DIALECTS[peer.to].containers
    held = tmp_path / "held"
    interlingua.convert(make_model(SMALL, tmp_path), held, to=peer.origin, container=peer.held, residue="drop")
    assert interlingua.convert(held, tmp_path / "made", to=peer.to, container=peer.made, dry_run=True).plan.nbytes


@pytest.mark.parametrize("sparse", [False, True])
def test_a_grown_checkpoint_is_one_model_in_shards(tmp_path: Path, monkeypatch, sparse: bool) -> None:
    monkeypatch.setattr(preallocation, "LARGE", 1)
    size = growth.size_of(0.0002, SMALL)
    made = growth.make(size, tmp_path, sparse=sparse, shard=10**5)
    assert abs(made.nbytes - 200_000) < growth.nbytes(replace(SMALL, layers=1))
    assert len(list(made.folder.glob("model-*.safetensors"))) > 1
    plan = interlingua.convert(made.folder, tmp_path / "uer", to="uer").plan
    assert plan.nbytes >= made.nbytes
    kept = sum(path.stat().st_blocks for path in made.folder.glob("*.safetensors")) * 512
    assert (kept < made.nbytes) == sparse


def test_what_does_not_fit_on_the_disk_is_sparse_or_left_out(
    setting: page.Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = growth.nbytes(SMALL)
    found = []
    for free in (2 * needed, 2 * needed - 1, needed, needed - 1):
        usage = (0, 0, free + growth.SPARE)
        monkeypatch.setattr(growth.shutil, "disk_usage", lambda folder, usage=usage: type("U", (), {"free": usage[2]}))
        found.append(growth.room(SMALL, setting.folder))
    assert found == [False, True, True, None]
    *_, text = page.grown(setting, (), [1.0])
    assert "- 1 GB: it and one output do not fit on the disk." in text


def test_growth_is_held_against_the_smallest(tmp_path: Path) -> None:
    made, smallest = growth.Grown(tmp_path, 10**9, False), timed(1.0, 100, 2.0)
    assert page.growth_row(made, timed(1.0), timed(1.0, 125, 2.5), smallest)[-2:] == ("yes", "yes")
    assert page.growth_row(made, timed(1.0), timed(1.0, 126, 2.51), smallest)[-2:] == ("**no**", "**no**")


def test_the_page_has_a_place_for_every_section_and_keeps_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text((ROOT / "docs/benchmarks.md").read_text(encoding="utf-8"), encoding="utf-8")
    for section in page.SECTIONS:
        markdown.put(path, f"benchmark of {section}", f"figures of {section}")
        markdown.put(path, f"benchmark of {section}", f"newer figures of {section}")
    text = path.read_text(encoding="utf-8")
    assert [text.count(f"figures of {section}\n") for section in page.SECTIONS] == [1, 1, 1]
    assert text.startswith("# Benchmarks\n")
    with pytest.raises(SystemExit, match="has no <!-- nothing -->"):
        markdown.put(path, "nothing", "")


def test_the_whole_run_writes_the_page_and_leaves_nothing(
    tmp_path: Path, setting: page.Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "MAIN", ("hf", "uer"))
    monkeypatch.setitem(SIZES, "tiny", SMALL)
    path, folder = tmp_path / "page.md", tmp_path / "work"
    folder.mkdir()
    path.write_text("<!-- benchmark of pairs -->\n<!-- end of benchmark of pairs -->\n", encoding="utf-8")
    options = ["--size", "tiny", "--runs", "1", "--only", "pairs", "--folder", str(folder), f"--write={path}"]
    monkeypatch.setattr(sys, "argv", ["page", *options])
    assert page.main() == 0
    text = path.read_text(encoding="utf-8")
    assert "--folder FOLDER --write=docs/benchmarks.md`" in text
    assert "| runs of each command | medians of 1 " in text
    assert str(tmp_path) not in text
    assert machine.platform.node() not in text
    assert list(folder.iterdir()) == []


def test_the_machine_is_described_without_its_name_and_its_places(setting: page.Setting) -> None:
    found = dict(machine.description(setting.folder))
    assert found["interlingua"] == interlingua.__version__
    assert {"processor", "memory", "disk", "system", "Python", "numpy", "load when it began"} <= set(found)
    assert all(str(setting.folder) not in value for value in found.values())


@pytest.mark.parametrize("folder", ["/proc", "/proc/self"])
def test_a_file_system_is_that_of_the_nearest_mount(folder: str) -> None:
    assert machine.file_system(Path(folder)) == "proc"


def test_a_job_of_the_growth_copies_holes_as_bytes(setting: page.Setting) -> None:
    cp, *others = page.growth_jobs(setting, growth.Grown(setting.folder / "model", 1, True))
    assert isinstance(cp, Job)
    assert "--sparse=never" in cp.command
    assert {job.target for job in others} == {cp.target}, "the disk holds one output at a time"
