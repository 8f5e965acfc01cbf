"""`python -m benchmarks.zoo`: every conversion of its zoo can be done, and what goes wrong in a run is seen."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import interlingua
from benchmarks import zoo, zoo_models
from benchmarks.zoo_models import ZOO
from interlingua.convert.batch import lock, state

pytest.importorskip("pydantic")

KEEPER = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open(sys.argv[1], "w").write(str(child.pid))
time.sleep(60)
"""


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """A zoo of one family in one size."""
    line = replace(ZOO[0], sizes=ZOO[0].sizes[:1], sources=("hf", "uer"), targets=("paddle", "hf"))
    monkeypatch.setattr(zoo, "ZOO", (line,))
    monkeypatch.setattr(zoo, "settle", lambda: None)  # It would wait for whatever else writes on this machine.
    monkeypatch.setattr(zoo_models, "ZOO", (line,))


def measured(folder: Path, monkeypatch: pytest.MonkeyPatch, kills: int) -> int:
    arguments = ["--folder", str(folder), "--scale", "small", "--kills", str(kills), "--jobs", "2"]
    monkeypatch.setattr(sys, "argv", ["zoo", *arguments])
    monkeypatch.setattr(zoo, "UNCHANGED", 600.0)
    monkeypatch.setattr(zoo, "A_JOB", 600.0)
    return zoo.main()


def test_the_zoo_has_sixty_checkpoints_of_five_families_with_three_targets_each(tmp_path: Path) -> None:
    made = list(zoo_models.make_zoo(tmp_path / "models", small=True))
    assert len(made) == 60
    assert len({path.parts[-3] for path in made}) == 5
    fingerprints = set()
    for path in made:
        with interlingua.open(path) as checkpoint:
            assert (checkpoint.family, checkpoint.dialect) == path.parts[-3:-1]
            fingerprints.add(interlingua.fingerprint(checkpoint).model)
    assert len(fingerprints) == 60


@pytest.mark.parametrize("line", ZOO, ids=lambda line: line.family)
def test_every_source_can_be_held_by_its_three_targets(
    tmp_path: Path, line: zoo_models.Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = replace(line, sizes=line.sizes[:1])
    monkeypatch.setattr(zoo_models, "ZOO", (line,))
    for path in zoo_models.make_zoo(tmp_path / "models", small=True):
        wanted = line.wanted(path.parent.name)
        assert len(wanted) == 3
        for target in wanted:
            interlingua.convert(path, tmp_path / path.parent.name / target, to=target, sync=False)


def test_a_run_holds_its_bounds_and_shows_the_broken_checkpoint_s_cases(
    tmp_path: Path, little: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert measured(tmp_path, monkeypatch, kills=2) == 0
    out = capsys.readouterr().out
    assert out.count("<testcase ") == 1
    assert "was cut short" in out
    assert "killed 2 times and resumed" in out
    assert "1 failed, 2 done, 0 skipped" in out
    assert not any(line.split()[-1:] == ["NO"] for line in out.splitlines())
    assert not (tmp_path / "converted").exists()
    # The truncated file is whole again: the models serve the next run.
    for model in zoo_models.make_zoo(tmp_path / "models", small=True):
        with interlingua.open(model) as checkpoint:
            assert interlingua.fingerprint(checkpoint).model
    assert list(tmp_path.rglob("*.whole")) == []


def test_a_missed_bound_is_exit_code_1(
    tmp_path: Path, little: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(zoo, "TIMES_CP", -1e9)
    assert measured(tmp_path, monkeypatch, kills=0) == 1
    missed = [line for line in capsys.readouterr().out.splitlines() if line.split()[-1:] == ["NO"]]
    assert [line.split("  ")[0] for line in missed] == ["first run"]


def test_an_output_that_an_interruption_has_changed_is_named(
    tmp_path: Path, little: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    zoo_of_one = zoo.make(tmp_path, True, 2, False)
    zoo.measure.run(zoo.measure.Job("batch", zoo_of_one.command("-q"), tmp_path / "nothing"))
    odd = zoo_of_one.converted / "bert" / "bert-uncased-tiny-hf" / "paddle" / "vocab.txt"
    odd.write_text("something else")
    row = zoo.killed(zoo_of_one, 1, zoo.random.Random(0), 0.0, 0.0)
    assert row.held is False
    assert "paddle/vocab.txt" in capsys.readouterr().out


def test_moments_that_are_too_late_come_sooner(tmp_path: Path, little: None, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo_of_one = zoo.make(tmp_path, True, 2, False)
    zoo.measure.run(zoo.measure.Job("batch", zoo_of_one.command("-q"), tmp_path / "nothing"))
    waited: list[float] = []

    def kill(command: Sequence[str], seconds: float) -> bool:
        waited.append(seconds)
        if seconds > 10:  # As if the machine had been a hundred times as slow when the times were taken.
            zoo.subprocess.run(command, check=True)
        return seconds <= 10

    monkeypatch.setattr(zoo, "kill", kill)
    row = zoo.killed(zoo_of_one, 2, zoo.random.Random(0), 24.0, 4.0)
    assert row.held
    late = [seconds for seconds in waited if seconds > 10]
    assert waited[: len(late)] == late
    assert late == sorted(late, reverse=True)
    assert 1 < len(late) < 10
    assert f"{1 + len(late)} fresh starts" in row.found
    assert max(waited) < 24.0


def test_only_the_state_and_the_lock_are_not_compared(tmp_path: Path) -> None:
    for name in (state.NAME, lock.NAME, "SHA256SUMS", "interlingua-provenance.json", ".model.interlingua-0123"):
        (tmp_path / name).write_text(name)
    assert zoo.sums(tmp_path).keys() == {"SHA256SUMS", "interlingua-provenance.json", ".model.interlingua-0123"}


def test_files_that_differ_or_are_only_on_one_side_are_told() -> None:
    assert zoo.differing({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "x", "d": "4"}) == {"b", "c", "d"}


def test_a_kill_reaches_what_the_command_has_started(tmp_path: Path) -> None:
    noted = tmp_path / "pid"
    seconds = 1.0
    while not noted.exists() or not noted.read_text():
        assert zoo.kill([sys.executable, "-c", KEEPER, str(noted)], seconds)
        seconds *= 2  # A busy machine: the child had not been started yet.
    child = int(noted.read_text())
    deadline = time.monotonic() + 30
    while running(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    reached = not running(child)
    if not reached:
        os.kill(child, signal.SIGKILL)
    assert reached


def running(process: int) -> bool:
    """Whether a process runs: one that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_command_that_ends_by_itself_was_not_killed() -> None:
    assert not zoo.kill([sys.executable, "-c", "pass"], 600.0)
    with pytest.raises(RuntimeError, match="not killed failed \\(3\\): no luck"):
        zoo.kill([sys.executable, "-c", "import sys; print('no luck', file=sys.stderr); sys.exit(3)"], 600.0)


def test_too_little_room_is_said_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="bytes are needed"):
        zoo.check_space(tmp_path, 1 << 60)
    (tmp_path / "models").mkdir()
    whole = tmp_path / "models" / "model"
    whole.write_bytes(b"")
    os.truncate(whole, 1 << 40)  # What is there already needs no more room.
    zoo.check_space(tmp_path, 1 << 40)
    whole.unlink()


def test_the_manifest_is_one_that_the_command_reads(tmp_path: Path, little: None) -> None:
    made = zoo.make(tmp_path, True, 1, True)
    done = zoo.subprocess.run(made.command("--dry-run", "--json"), capture_output=True, text=True, check=True)
    jobs = json.loads(done.stdout)["jobs"]
    assert len(jobs) == made.jobs == 3
    assert all(job["problem"] is None for job in jobs)
