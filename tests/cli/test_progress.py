"""Bars: what they count, and that they are shown to a terminal alone."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from interlingua.cli import progress
from interlingua.convert.batch.jobs import DONE, Job, JobResult
from interlingua.convert.conversion import Options
from tests.models import write_hf
from tests.terminals import terminal


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of sixty columns that can show a bar, and shows it nowhere."""
    monkeypatch.setattr(progress, "has_live_display", lambda: True)
    console = Console(quiet=True, width=60, force_terminal=True)
    monkeypatch.setattr(progress, "open_console", lambda **_: console)


def job(name: str) -> Job:
    return Job(name, "a", "b", Options(to="uer"))


def test_no_bar_where_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    for silent, display in ((True, True), (False, False)):
        monkeypatch.setattr(progress, "has_live_display", lambda display=display: display)
        with progress.ConversionProgress(silent) as writing, progress.BatchProgress(3, silent) as batch:
            writing.begin("writing", 100)
            writing.advance(100)
            batch.weigh({"one": 5})
            batch.tell(job("one"), JobResult("one", DONE))
            assert (writing.bar, batch.bar) == (None, None)


@pytest.mark.usefixtures("shown")
def test_a_conversion_counts_bytes_and_says_when_only_the_end_is_left() -> None:
    with progress.ConversionProgress(False) as writing:
        writing.begin("writing", 100)
        writing.advance(99)
        (task,) = writing.bar.tasks
        assert (task.completed, task.total, task.description) == (99, 100, "writing")
        writing.advance(1)
        assert (task.finished, task.description) == (True, "finishing")


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_a_bar_is_one_line_and_no_figure_is_cut(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    console = Console(quiet=True, width=columns, force_terminal=True)
    monkeypatch.setattr(progress, "has_live_display", lambda: True)
    monkeypatch.setattr(progress, "open_console", lambda **_: console)
    monkeypatch.setattr(progress, "_memory", lambda: "1024 MB")
    with progress.ConversionProgress(False) as bar:
        bar.begin("reading back", 438_000_000)
        for count in (100_000_000, 110_100_000):
            bar.advance(count)
        paper = Console(width=columns, file=io.StringIO())
        paper.print(bar.bar.get_renderable())
    (line,) = paper.file.getvalue().splitlines()
    assert line.startswith("reading back ")
    assert "210.1/438.0 MB" in line
    assert "…" not in line
    assert ("1024 MB" in line) == (columns >= 60)


@pytest.mark.usefixtures("shown")
def test_nothing_is_estimated_from_less_than_a_hundredth() -> None:
    with progress.ConversionProgress(False) as bar:
        bar.begin("uploading", 1000)
        (task,) = bar.bar.tasks
        for count, shown in ((9, 0), (2, 11), (9, 11), (-20, 0), (5, 0), (990, 995), (5, 1000)):
            bar.advance(count)
            assert task.completed == shown


@pytest.mark.usefixtures("shown")
def test_each_phase_of_a_conversion_has_the_bar_to_itself() -> None:
    with progress.ConversionProgress(False) as bar:
        for words, total in (("writing", 100), ("uploading", 120), ("reading back", None)):
            bar.begin(words, total)
            (task,) = bar.bar.tasks
            assert (task.description, task.completed, task.total) == (words, 0, total)
            bar.advance(60)
            bar.advance(-20)
            assert task.completed == 40
            bar.advance(60)
            assert task.description == ("finishing" if total == 100 else words)


@pytest.mark.usefixtures("shown")
def test_jobs_of_a_batch_count_by_their_bytes() -> None:
    with progress.BatchProgress(3, False) as batch:
        (task,) = batch.bar.tasks
        batch.tell(job("skipped"), JobResult("skipped", DONE))
        assert (task.completed, task.total) == (1, 3)
        batch.weigh({"small": 10, "large": 90})
        assert (task.completed, task.total, task.fields["jobs"]) == (0, 100, "1/3 jobs")
        batch.tell(job("large"), None)
        assert task.description == "large"
        batch.tell(job("large"), JobResult("large", DONE))
        assert (task.completed, task.description, task.fields["jobs"]) == (90, "", "2/3 jobs")
        batch.tell(job("small"), JobResult("small", DONE))
        assert task.finished


@pytest.mark.parametrize("columns", [60, 200])
def test_a_bar_is_drawn_and_wiped_away(tmp_path: Path, columns: int) -> None:
    source = write_hf(tmp_path / "source", {"weight": np.zeros((512, 1024), np.float32)})
    arguments = ("convert", source, tmp_path / "out", "--keep-names", "--container", "npz")
    text = terminal(*arguments, columns=columns, NO_COLOR="1")
    drawn = [line for line in re.split(r"[\r\n]", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)) if "MB" in line]
    bars = [line for line in drawn if line.startswith(("writing", "finishing"))]
    assert bars
    assert all(len(line) <= columns for line in bars)
    assert "…" not in "".join(bars)
    assert text.rstrip().endswith("bit for bit")
    assert "\x1b[2K" in text


def test_json_and_quiet_draw_nothing_on_a_terminal(tmp_path: Path) -> None:
    source = write_hf(tmp_path / "source", {"weight": np.zeros((512, 1024), np.float32)})
    command = ("convert", source, "--keep-names", "--container", "npz")
    assert terminal(*command[:2], tmp_path / "a", *command[2:], "-q") == ""
    json.loads(terminal(*command[:2], tmp_path / "b", *command[2:], "--json"))
