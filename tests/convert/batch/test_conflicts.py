"""Jobs that would be in each other's way are refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlingua.convert.batch.conflicts import refuse_conflicts
from interlingua.convert.batch.jobs import Job
from interlingua.convert.conversion import Options
from interlingua.errors import UsageError


def refuse(folder: Path, *ends: tuple[str, str, str], options: Options | None = None) -> None:
    chosen = options or Options(to="hf")
    jobs = [
        Job(name, str(folder / source), str(folder / target), chosen, line=number)
        for number, (name, source, target) in enumerate(ends, 1)
    ]
    refuse_conflicts(jobs, Path("zoo.yaml"))


def test_jobs_beside_each_other_are_fine(tmp_path: Path) -> None:
    refuse(tmp_path, ("a", "a", "out/a"), ("b", "a", "out/ab"), ("c", "out-c", "out/c.bin"), ("d", "a/x", "out/d"))


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (("a", "a", "x"), ("a", "b", "y"), r"zoo\.yaml:2: a: there is a job of that name on line 1, of .*/a"),
        (("a", "a", "x"), ("b", "b", "x"), r"zoo\.yaml:2: b: its target .*/x is that of 'a' \(line 1\)"),
        (("a", "a", "x"), ("b", "b", "y/../x"), r"b: its target .* is that of 'a'"),
        (("a", "a", "x"), ("b", "b", "x/y"), r"b: its target .*/x/y is in that of 'a'"),
        (("a", "a", "x/y"), ("b", "b", "x"), r"a: its target .*/x/y is in that of 'b'"),
        (("a", "a", "x"), ("b", "b", "a/y"), r"b: its target .*/a/y is in the source .*/a"),
        (("a", "a", "a"), ("b", "b", "y"), r"a: its source .*/a is the target of 'a'"),
        (("a", "a", "x"), ("b", "x", "y"), r"b: its source .*/x is the target of 'a'. Jobs run in any order"),
        (("a", "a", "x"), ("b", "x/m.bin", "y"), r"b: its source .*/x/m\.bin is the target of 'a'"),
        (("a", "a", "x/a.bin"), ("b", "b", "x/b.bin"), r"b: its configuration would be that of 'a'"),
    ],
)
def test_jobs_in_each_others_way_are_refused(
    tmp_path: Path, one: tuple[str, str, str], other: tuple[str, str, str], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        refuse(tmp_path, one, other)


def test_two_files_that_have_no_configuration_fit_into_one_folder(tmp_path: Path) -> None:
    options = Options(keep_names=True, container="npz")
    refuse(tmp_path, ("a", "a", "x/a.npz"), ("b", "b", "x/b.npz"), options=options)


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "here").symlink_to("there")
    with pytest.raises(UsageError, match="is that of 'a'"):
        refuse(tmp_path, ("a", "a", "there/x"), ("b", "b", "here/x"))
