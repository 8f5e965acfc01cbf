"""Jobs of a batch as they really run: converted, checked, accounted for; whatever happens is a result."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

import interlingua
from benchmarks.families import realistic, write_model
from interlingua.convert.batch.jobs import DONE, FAILED, SKIPPED, Job, JobResult
from interlingua.convert.batch.schedule import Settings, Task, run_batch
from interlingua.convert.commit import MARK
from interlingua.convert.conversion import Options
from interlingua.convert.source import Asked
from interlingua.errors import CheckError, UsageError
from interlingua.mappings.schema import FAMILIES
from interlingua.verify import jobs as module
from interlingua.verify.jobs import report_name, run_job
from interlingua.verify.pages.junit import junit
from interlingua.verify.parity import check as checks
from tests.conftest import ROOT
from tests.verify.parity.outcomes import by_convention, different, healthy

TARGETS = ("uer", "paddle", "tf1")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_model(tmp_path / "src", FAMILIES["bert"], ("pooler",), 1, draw=realistic)


def job(source: Path, target: Path, to: str = "uer", **more) -> Job:
    return Job(f"{source.name}/{to}", str(source), str(target), Options(to, sync=False), **more)


def names(result: JobResult) -> list[tuple[str, bool]]:
    return [(check.name, check.ok) for check in result.checks]


def tree(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder, those left out that are a batch's own."""
    files = [path for path in folder.rglob("*") if path.is_file() and ".interlingua-batch" not in path.name]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("to", TARGETS)
def test_a_job_converts_checks_and_says_where_the_output_comes_from(source: Path, tmp_path: Path, to: str) -> None:
    result = run_job(Task(job(source, tmp_path / "out", to), version="1.2.3"))
    assert (result.status, result.exit_code, result.family) == (DONE, 0, "bert")
    assert names(result) == [("convert", True), ("weights", True)]
    found = tree(tmp_path / "out")
    assert result.outputs == {name: hashlib.sha256(data).hexdigest() for name, data in found.items()}
    listed = subprocess.run(["sha256sum", "-c", "--strict", "SHA256SUMS"], cwd=tmp_path / "out", capture_output=True)
    assert listed.returncode == 0
    assert listed.stdout.count(b"OK") == len(found) - 1
    origin = json.loads(found["interlingua-provenance.json"])
    with interlingua.open(tmp_path / "out") as opened:
        assert opened.dialect == to
        assert interlingua.fingerprint(opened).model == origin["source"]["fingerprint"] == result.fingerprint
    assert origin["tool"] == {"name": "interlingua", "version": "1.2.3"}
    assert origin["options"]["to"] == to
    assert set(origin["outputs"]) == set(found) - {"SHA256SUMS", "interlingua-provenance.json"}
    assert str(tmp_path) not in found["interlingua-provenance.json"].decode()


def test_the_same_job_gives_the_same_bytes_wherever_it_runs(source: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    moved = write_model(tmp_path / "elsewhere" / "src", FAMILIES["bert"], ("pooler",), 1, draw=realistic)
    for place, target in ((source, "a"), (moved, "b")):
        assert run_job(job(place, tmp_path / target)).ok
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_what_is_known_of_the_source_is_taken_as_it_is(source: Path, tmp_path: Path) -> None:
    result = run_job(Task(job(source, tmp_path / "out"), "d" * 64, "f" * 64))
    origin = json.loads((tmp_path / "out" / "interlingua-provenance.json").read_text())
    assert origin["source"] == {"name": "src", "sha256": "d" * 64, "fingerprint": "f" * 64}
    assert result.fingerprint == "f" * 64


def test_a_single_file_has_its_digests_beside_it(source: Path, tmp_path: Path) -> None:
    result = run_job(job(source, tmp_path / "out" / "m.bin"))
    assert set(result.outputs) == set(os.listdir(tmp_path / "out")) >= {"m.bin.sha256", "m.bin.provenance.json"}
    done = subprocess.run(["sha256sum", "-c", "m.bin.sha256"], cwd=tmp_path / "out", capture_output=True)
    assert done.returncode == 0


def test_a_container_alone_has_no_fingerprint(source: Path, tmp_path: Path) -> None:
    kept = replace(job(source, tmp_path / "m.bin"), options=Options(keep_names=True, container="torch-zip"))
    result = run_job(kept)
    assert (result.status, result.fingerprint, result.family) == (DONE, None, None)


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (lambda j: replace(j, source=f"{j.source}/absent"), 3, "absent"),
        (lambda j: replace(j, options=Options("ure")), 2, "Did you mean 'uer'"),
        (lambda j: replace(j, options=replace(j.options, source=Asked(family="gpt"))), 2, "There is no family 'gpt'"),
        (lambda j: replace(j, target=j.source), 5, "src"),
    ],
)
def test_a_failure_is_a_result_with_its_sentence_and_exit_code(
    source: Path, tmp_path: Path, spoil, code: int, words: str
) -> None:
    result = run_job(spoil(job(source, tmp_path / "out")))
    assert (result.status, result.exit_code, names(result)) == (FAILED, code, [("convert", False)])
    assert words in result.checks[0].text
    assert result.outputs == {}


def test_a_fault_of_this_program_is_a_result_too(source: Path, tmp_path: Path, monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(module, "convert", fail)
    result = run_job(job(source, tmp_path / "out"))
    assert (result.status, result.exit_code) == (FAILED, 70)
    assert "ZeroDivisionError: by nothing" in result.checks[0].text
    assert "Traceback" in result.checks[0].text


def test_weights_that_differ_fail_their_own_check(source: Path, tmp_path: Path, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise CheckError("what was written is not what was read")

    monkeypatch.setattr(module, "check_weights", fail)
    result = run_job(job(source, tmp_path / "out", checks=("weights", "parity")))
    assert names(result) == [("convert", True), ("weights", False)]
    assert (result.status, result.exit_code) == (FAILED, 1)
    unchecked = run_job(job(source, tmp_path / "out2", checks=()))
    assert names(unchecked) == [("convert", True)]


def test_parity_is_checked_and_its_page_written(source: Path, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("jinja2")
    seen = []
    monkeypatch.setattr(checks, "check", lambda a, b, options: (seen.append((a, b, options)), healthy())[1])
    wanted = job(source, tmp_path / "out", checks=("weights", "parity"))
    result = run_job(Task(wanted, reports=str(tmp_path / "pages" / "deep")))
    assert names(result) == [("convert", True), ("weights", True), ("parity", True)]
    ((a, b, options),) = seen
    assert (a, b, options.b.dialect) == (str(source), str(tmp_path / "out"), "uer")
    assert result.report == str(tmp_path / "pages" / "deep" / "src=2Fuer.parity.html")
    assert "parity check" in Path(result.report).read_text()


def test_models_that_differ_fail_with_the_verdict(source: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(checks, "check", lambda *_: different())
    result = run_job(job(source, tmp_path / "out", checks=("parity",)))
    assert names(result) == [("convert", True), ("parity", False)]
    assert (result.exit_code, result.report) == (1, None)
    assert result.checks[1].text.startswith("The verdict is: different")


def test_kept_activations_are_held_against_the_output(source: Path, tmp_path: Path, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(checks, "check_against", lambda a, file, _: (seen.append((a, file)), healthy())[1])
    result = run_job(job(source, tmp_path / "out", checks=("golden",), golden="kept.npz"))
    assert names(result) == [("convert", True), ("golden", True)]
    assert seen == [(str(tmp_path / "out"), Path("kept.npz"))]
    without = run_job(job(source, tmp_path / "out2", checks=("golden",)))
    assert (names(without)[1], without.exit_code) == (("golden", False), UsageError.exit_code)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, list]:
    """What is asked of the checks that run models, which find everything well; ``found`` may be changed."""
    kept: dict[str, list] = {"check": [], "check_against": [], "found": [healthy(), healthy()]}
    monkeypatch.setattr(checks, "check", lambda *args: (kept["check"].append(args), kept["found"][0])[1])
    monkeypatch.setattr(
        checks, "check_against", lambda *args: (kept["check_against"].append(args), kept["found"][1])[1]
    )
    return kept


def test_no_model_is_run_of_a_conversion_that_failed(source: Path, tmp_path: Path, asked) -> None:
    broken = replace(job(source, tmp_path / "out", checks=("weights", "parity", "golden"), golden="k"), source="absent")
    result = run_job(broken)
    assert names(result) == [("convert", False)]
    assert (result.exit_code, asked["check"], asked["check_against"]) == (3, [], [])


def test_the_checks_know_of_both_sides_what_the_conversion_did(source: Path, tmp_path: Path, asked) -> None:
    known = Options("uer", Asked(dialect="hf", family="bert"), sync=False)
    wanted = replace(job(source, tmp_path / "out", checks=("parity", "golden"), golden="a kept.npz"), options=known)
    assert run_job(wanted).ok
    ((_, _, parity),), ((_, _, golden),) = asked["check"], asked["check_against"]
    assert (parity.a, parity.b, golden.a) == (known.source, Asked(dialect="uer"), Asked(dialect="uer"))
    assert parity.command == f"parity-check {source} {tmp_path / 'out'}"
    assert golden.command == f"parity-check {tmp_path / 'out'} --against 'a kept.npz'"


def test_every_check_is_listed_in_one_order_and_the_first_failure_is_the_exit_code(
    source: Path, tmp_path: Path, asked
) -> None:
    pytest.importorskip("jinja2")
    asked["found"] = [different(), healthy()]
    wanted = job(source, tmp_path / "out", checks=("golden", "parity", "weights"), golden="k")
    result = run_job(Task(wanted, reports=str(tmp_path / "pages")))
    assert names(result) == [("convert", True), ("weights", True), ("parity", False), ("golden", True)]
    assert (result.status, result.exit_code) == (FAILED, 1)
    assert str(result.report).endswith(".parity.html")
    assert len(list((tmp_path / "pages").iterdir())) == 2
    only = run_job(
        Task(replace(wanted, checks=("golden",), target=str(tmp_path / "out2")), reports=str(tmp_path / "p"))
    )
    assert str(only.report).endswith(".golden.html")


def test_outputs_that_differ_by_convention_are_no_failure(source: Path, tmp_path: Path, asked) -> None:
    asked["found"] = [by_convention(), healthy()]
    result = run_job(job(source, tmp_path / "out", checks=("parity",)))
    assert (result.status, result.exit_code) == (DONE, 0)
    assert result.checks[1].text.startswith("The verdict is: same model, outputs differ by convention; ")
    assert result.checks[1].text.endswith(".")


def test_a_page_that_cannot_be_written_is_a_result_with_its_exit_code(source: Path, tmp_path: Path, asked) -> None:
    pytest.importorskip("jinja2")
    (tmp_path / "taken").write_bytes(b"")
    result = run_job(Task(job(source, tmp_path / "out", checks=("parity",)), reports=str(tmp_path / "taken" / "pages")))
    assert names(result) == [("convert", True), ("parity", False)]
    assert result.exit_code == 5
    assert "Traceback" not in result.checks[1].text


def test_names_of_pages_are_names_of_files_and_differ() -> None:
    jobs = ["a/b", "a_b", "a=2Fb", "ä b", "..", "a\nb"]
    found = [report_name(name, "parity") for name in jobs]
    assert len(set(found)) == len(jobs)
    assert all("/" not in name and name.isascii() and name.isprintable() for name in found)


# -- whole batches


def zoo(root: Path) -> list[Job]:
    """Return jobs that convert two models to three dialects, and one to a single file."""
    jobs = []
    for number in range(2):
        folder = root / "in" / f"m{number}"
        if not folder.exists():
            folder.parent.mkdir(exist_ok=True)
            write_model(folder, FAMILIES["bert"], ("pooler",), number, draw=realistic)
        jobs += [
            Job(f"m{number}/{to}", str(folder), str(root / "out" / f"m{number}" / to), Options(to)) for to in TARGETS
        ]
    target = root / "out" / "single" / "m.bin"
    return [*jobs, Job("single", str(root / "in" / "m0"), str(target), Options("uer"))]


def test_a_poisoned_checkpoint_fails_its_own_jobs_alone(tmp_path: Path) -> None:
    jobs = zoo(tmp_path)
    weights = tmp_path / "in" / "m1" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    results = run_batch(jobs, run_job, Settings(2))
    assert {result.name: result.status for result in results} == {
        each.name: FAILED if each.name.startswith("m1/") else DONE for each in jobs
    }
    suite = ElementTree.fromstring(junit(results))
    failures = {case.get("classname"): case.find("failure") for case in suite.iter("testcase")}
    for name, failure in failures.items():
        assert (failure is not None) == str(name).startswith("m1/")
        if failure is not None:
            assert "model.safetensors" in str(failure.get("message"))
            assert failure.get("type") == "exit code 3"
    weights.unlink()
    write_model(tmp_path / "again", FAMILIES["bert"], ("pooler",), 1, draw=realistic)
    (tmp_path / "again" / "model.safetensors").rename(weights)
    mended = run_batch(jobs, run_job, Settings(2))
    assert {r.name: r.status for r in mended} == {
        each.name: DONE if each.name.startswith("m1/") else SKIPPED for each in jobs
    }


BATCH = """
import os, signal, sys
from pathlib import Path
from interlingua.convert.batch.schedule import Settings, run_batch
from interlingua.verify.jobs import run_job
from tests.verify.test_jobs import zoo
if __name__ == "__main__":
    root, moment = Path(sys.argv[1]), int(sys.argv[2])
    seen = 0
    def tell(job, result):
        global seen
        seen += 1
        if seen == moment:
            os.kill(os.getpid(), signal.SIGKILL)
    results = run_batch(zoo(root), run_job, Settings(2), tell=tell)
    print(*(result.status for result in results))
"""


def batch(root: Path, moment: int) -> subprocess.CompletedProcess[str]:
    """Carry out the zoo in a process of its own, which is killed at its n-th event."""
    (root / "batch.py").write_text(BATCH)
    command = [sys.executable, str(root / "batch.py"), str(root), str(moment)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_kill_9_at_several_moments_and_going_on_gives_the_bytes_of_an_undisturbed_batch(tmp_path: Path) -> None:
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        zoo(tmp_path / name)
    undisturbed = run_batch(zoo(tmp_path / "whole"), run_job, Settings(2))
    assert all(result.status == DONE for result in undisturbed)
    # With each run fewer jobs are left, so that the events come at other moments of the whole.
    for moment in (1, 3, 4, 6, 9):
        done = batch(tmp_path / "killed", moment)
        assert done.returncode == -signal.SIGKILL, done.stderr
    last = batch(tmp_path / "killed", 0)
    assert last.returncode == 0, last.stderr
    assert set(last.stdout.split()) <= {DONE, SKIPPED}
    assert SKIPPED in last.stdout.split()
    assert tree(tmp_path / "killed" / "out") == tree(tmp_path / "whole" / "out")
    assert [path for path in (tmp_path / "killed").rglob("*") if MARK in path.name and "batch" not in path.name] == []
    again = run_batch(zoo(tmp_path / "killed"), run_job, Settings(2))
    assert all(result.status == SKIPPED for result in again)
