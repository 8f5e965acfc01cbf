"""Batches: what is carried out, in which order, what is skipped, and how one ends before its time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.families import write_model
from interlingua.convert.batch.jobs import DONE, FAILED, SKIPPED, STOPPED, Job, JobResult
from interlingua.convert.batch.schedule import Settings, common_folder, run_batch
from interlingua.convert.batch.state import NAME as STATE
from interlingua.convert.commit import MARK
from interlingua.convert.conversion import Options
from interlingua.errors import FormatError, OutputError, UsageError
from interlingua.mappings.schema import FAMILIES
from tests.conftest import ROOT
from tests.convert.batch.work import copy


def job(root: Path, name: str, words: str = "", seed: int = 1) -> Job:
    """Return a job whose source says some words (in its vocabulary)."""
    source = root / "in" / name
    if not source.exists():
        source.parent.mkdir(exist_ok=True)
        write_model(source, FAMILIES["bert"], ("pooler",), seed)
        tokens = (source / "vocab.txt").read_text().splitlines()
        tokens[-len(words.split()) or len(tokens) :] = words.split()
        (source / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens))
    return Job(name, str(source), str(root / "out" / "all" / name), Options("uer", sync=False))


def jobs_of(root: Path, **words: str) -> list[Job]:
    return [job(root, name, said) for name, said in words.items()]


def run(root: Path, jobs: list[Job], **settings) -> dict[str, str]:
    """Carry out a batch and return each job's status."""
    results = run_batch(jobs, copy, Settings(**{"processes": 2, **settings}), folder=root / "out")
    assert [result.name for result in results] == [each.name for each in jobs]
    return {result.name: result.status for result in results}


def remains(root: Path) -> list[str]:
    """Return what is left of outputs that were not finished."""
    return [path.name for path in (root / "out").rglob("*") if MARK in path.name[1:]]


def log(root: Path) -> list[str]:
    return (root / "out" / "log").read_text().splitlines()


def started(root: Path) -> list[str]:
    return [line.partition(" ")[2] for line in log(root) if line.startswith("start")]


def test_every_job_is_carried_out_once_and_then_skipped(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, a="", b="", c="")
    assert run(tmp_path, jobs) == dict.fromkeys("abc", DONE)
    assert sorted(started(tmp_path)) == ["a", "b", "c"]
    assert run(tmp_path, jobs) == dict.fromkeys("abc", SKIPPED)
    assert len(started(tmp_path)) == 3
    assert run(tmp_path, jobs, resume=False) == dict.fromkeys("abc", DONE)


def change_source(jobs: list[Job]) -> None:
    path = Path(jobs[1].source, "model.safetensors")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def change_vocabulary(jobs: list[Job]) -> None:
    path = Path(jobs[1].source, "vocab.txt")
    path.write_text(path.read_text().replace("w7", "v7"))


def change_option(jobs: list[Job]) -> None:
    jobs[1] = replace(jobs[1], options=replace(jobs[1].options, dtype="float16"))


def change_check(jobs: list[Job]) -> None:
    jobs[1] = replace(jobs[1], checks=())


def change_output(jobs: list[Job]) -> None:
    Path(jobs[1].target, "model").write_text("x")


def change_output_behind_the_back(jobs: list[Job]) -> None:
    path = Path(jobs[1].target, "model")
    before, data = path.stat(), path.read_text()
    path.write_text(data.replace("w7", "v7"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        change_source,
        change_vocabulary,
        change_option,
        change_check,
        change_output,
        change_output_behind_the_back,
    ],
)
def test_a_change_carries_out_just_that_job(tmp_path: Path, change) -> None:
    jobs = jobs_of(tmp_path, a="", b="", c="")
    run(tmp_path, jobs)
    change(jobs)
    assert run(tmp_path, jobs) == {"a": SKIPPED, "b": DONE, "c": SKIPPED}
    assert run(tmp_path, jobs) == dict.fromkeys("abc", SKIPPED)


def test_another_version_carries_out_everything(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, a="")
    for version in ("1", "2"):
        assert run(tmp_path, jobs, version=version) == {"a": DONE}
    assert run(tmp_path, jobs, version="2") == {"a": SKIPPED}


def test_a_source_that_changes_meanwhile_is_not_vouched_for(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, a="")

    def meddle(each: Job, result: JobResult | None) -> None:
        if result is None:
            change_source([each, each])

    (result,) = run_batch(jobs, copy, Settings(1), folder=tmp_path / "out", tell=meddle)
    assert result.status == DONE
    again = run_batch(jobs, copy, Settings(1), folder=tmp_path / "out")
    # Nothing says that the first output is a batch's: it has no row, and no file on its origin.
    assert again[0].status == FAILED


def test_a_failed_job_is_tried_again_and_the_others_are_not(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, a="", b="fail", c="die", d="")
    assert run(tmp_path, jobs) == {"a": DONE, "b": FAILED, "c": FAILED, "d": DONE}
    path = Path(jobs[1].source, "vocab.txt")
    path.write_text(path.read_text().replace("fail", "good"))
    assert run(tmp_path, jobs) == {"a": SKIPPED, "b": DONE, "c": FAILED, "d": SKIPPED}


def test_a_process_that_dies_fails_its_job_with_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, a="die", b="")
    results = run_batch(jobs, copy, Settings(1), folder=tmp_path / "out")
    assert [result.status for result in results] == [FAILED, DONE]
    assert results[0].checks[0].text.startswith("The process that carried it out was ended by SIGKILL")
    assert results[0].exit_code == 1
    assert remains(tmp_path) == []


def test_work_that_raises_ends_its_process_and_fails_its_job(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, a="", b="")
    (tmp_path / "out" / "all").mkdir(parents=True)
    Path(jobs[0].target).write_text("in the way")
    assert run(tmp_path, jobs) == {"a": FAILED, "b": DONE}
    assert Path(jobs[0].target).read_text() == "in the way"


def test_the_largest_start_first(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, a="", b="", c="")
    with open(Path(jobs[1].source, "vocab.txt"), "a") as file:
        file.write("x" * 5000 + "\n")
    with open(Path(jobs[2].source, "vocab.txt"), "a") as file:
        file.write("x" * 9000 + "\n")
    run(tmp_path, jobs, processes=1)
    assert started(tmp_path) == ["c", "b", "a"]


def test_fail_fast_starts_nothing_after_a_failure(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, a="fail", b="", c="")
    with open(Path(jobs[0].source, "vocab.txt"), "a") as file:
        file.write("x" * 5000 + "\n")
    assert run(tmp_path, jobs, processes=1, fail_fast=True) == {"a": FAILED, "b": STOPPED, "c": STOPPED}
    assert started(tmp_path) == ["a"]


@pytest.mark.parametrize(("room", "together"), [(None, True), (1 << 40, True), (300 << 20, False)])
def test_no_more_jobs_run_than_there_is_memory_for(tmp_path: Path, room: int | None, together: bool) -> None:
    # Those that run together both wait until the other has started.
    jobs = jobs_of(tmp_path, a="wait", b="wait", c="wait")
    told: list[int] = []
    running: set[str] = set()

    def tell(each: Job, result: JobResult | None) -> None:
        (running.add if result is None else running.discard)(each.name)
        told.append(len(running))

    results = run_batch(jobs, copy, Settings(2, memory=room), folder=tmp_path / "out", tell=tell)
    assert all(result.ok for result in results)
    assert max(told) == (2 if together else 1)


def test_a_source_that_cannot_be_opened_is_left_to_its_job(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, a="", b="")
    Path(jobs[0].source, "model.safetensors").write_bytes(b"broken")
    for _ in range(2):
        assert run(tmp_path, jobs)["a"] in (DONE, FAILED)  # It is carried out each time: nothing vouches for it.
    assert started(tmp_path).count("a") == 2
    assert started(tmp_path).count("b") == 1


@pytest.mark.parametrize("field", ["name", "target"])
def test_jobs_that_collide_are_refused(tmp_path: Path, field: str) -> None:
    one, other = jobs_of(tmp_path, a="", b="")
    with pytest.raises(UsageError, match=f"Two jobs have the {field}"):
        run(tmp_path, [one, replace(other, **{field: getattr(one, field)})])
    assert not (tmp_path / "out").exists()


def test_the_state_lies_where_all_outputs_are(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, a="", b="")
    assert common_folder(jobs) == tmp_path / "out" / "all"
    assert common_folder(jobs[:1]) == tmp_path / "out" / "all"
    assert common_folder([*jobs, replace(jobs[0], target=str(tmp_path / "x" / "y"))]) == tmp_path


def test_a_damaged_state_is_an_error_before_anything_is_done(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, a="")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / STATE).write_text("nonsense" * 100)
    with pytest.raises(FormatError, match="is not a batch's state"):
        run(tmp_path, jobs)
    assert not (tmp_path / "out" / "log").exists()


BATCH = """
import sys
from pathlib import Path
from interlingua.convert.batch.schedule import Settings, run_batch
from tests.convert.batch.work import copy
from tests.convert.batch.test_schedule import jobs_of
if __name__ == "__main__":
    root = Path(sys.argv[1])
    results = run_batch(jobs_of(root, a="", b="sleep", c="sleep", d=""), copy, Settings(2), folder=root / "out")
    print(*(result.status for result in results))
"""


def begin(root: Path) -> subprocess.Popen[str]:
    """Start a batch in which two jobs take for ever, and wait until they have started."""
    jobs_of(root, a="", b="sleep", c="sleep", d="")
    script = root / "batch.py"
    script.write_text(BATCH)
    process = subprocess.Popen(
        [sys.executable, str(script), str(root)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not {"b", "c"} <= set(started(root) if (root / "out" / "log").exists() else ()):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("group", [False, True])
def test_a_signal_ends_a_batch_with_nothing_half_written_and_it_goes_on_from_there(
    tmp_path: Path, number: signal.Signals, group: bool
) -> None:
    with begin(tmp_path) as process:
        if group:  # As Ctrl-C in a terminal does.
            os.killpg(process.pid, number)
        else:
            os.kill(process.pid, number)
        said, _ = process.communicate(timeout=60)
    statuses = said.split()
    assert statuses[1:3] == [STOPPED, STOPPED]
    assert remains(tmp_path) == []
    quick = jobs_of(tmp_path, a="", d="")
    expected = {"a": SKIPPED if statuses[0] == DONE else DONE, "d": SKIPPED if statuses[3] == DONE else DONE}
    assert run(tmp_path, quick) == expected


def test_the_second_batch_is_told_who_the_first_is(tmp_path: Path) -> None:
    with begin(tmp_path) as process:
        with pytest.raises(OutputError, match=f"another batch is at work here: process {process.pid} "):
            run(tmp_path, jobs_of(tmp_path, a=""))
        os.kill(process.pid, signal.SIGTERM)
        process.communicate(timeout=60)


def test_after_kill_9_no_process_is_left_to_write(tmp_path: Path) -> None:
    with begin(tmp_path) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
    assert set(run(tmp_path, jobs_of(tmp_path, d="")).values()) <= {DONE, SKIPPED}
    for name in "bc":
        path = tmp_path / "in" / name / "vocab.txt"
        path.write_text(path.read_text().replace("sleep", "awake"))
    done = run(tmp_path, jobs_of(tmp_path, b="", c=""))
    assert done == {"b": DONE, "c": DONE}
    assert remains(tmp_path) == []
