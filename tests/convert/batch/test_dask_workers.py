"""Batches on a Dask scheduler: a real one, with workers that are processes of their own, on this machine."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("distributed")
pytest.importorskip("cryptography")

from interlingua.convert.batch import dask_workers
from interlingua.convert.batch.dask_job import Site, SourceFile, flaw, python_version, version
from interlingua.convert.batch.dask_workers import absolute, hire_dask, is_seen
from interlingua.convert.batch.jobs import DONE, FAILED, SKIPPED, STOPPED, Job, JobResult
from interlingua.convert.batch.schedule import Settings, Task, Work, run_batch
from interlingua.convert.conversion import Options
from interlingua.convert.source import Asked
from interlingua.errors import UsageError
from interlingua.verify.jobs import run_job
from tests.conftest import ROOT
from tests.convert.batch.test_schedule import jobs_of, log, remains, started
from tests.convert.batch.work import copy, held

HOST = "127.0.0.1"


@dataclass
class Cluster:
    """A scheduler and workers, each started from its command line."""

    folder: Path
    env: dict[str, str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return str(json.loads((self.folder / "scheduler.json").read_text())["address"])

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        with open(self.folder / "log", "ab") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *words, "--no-dashboard"],
                env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(self.folder), **self.env},
                stdout=file,
                stderr=file,
                start_new_session=True,
                cwd=self.folder,
            )
        self.processes.append(process)
        return process

    def worker(self, *words: str) -> subprocess.Popen[bytes]:
        place = ("--host", HOST, "--local-directory", str(self.folder), "--nthreads", "1")
        return self.start("worker", self.address, *place, *words)


@contextmanager
def cluster_at(folder: Path, **env: str) -> Iterator[Cluster]:
    """Yield a cluster without workers; end it with all its processes."""
    folder.mkdir()
    cluster = Cluster(folder, env)
    try:
        port = ("--host", HOST, "--port", "0", "--scheduler-file", str(folder / "scheduler.json"))
        cluster.start("scheduler", *port)
        wait_for(folder / "scheduler.json")
        yield cluster
    finally:
        for process in reversed(cluster.processes):
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of two workers, one with a nanny and one without."""
    with cluster_at(tmp_path_factory.mktemp("dask") / "cluster") as cluster:
        cluster.worker()
        cluster.worker("--no-nanny")
        wait_for_workers(cluster.address, 2)
        yield cluster


def wait_for_workers(address: str, count: int) -> None:
    from distributed import Client

    with Client(address, set_as_default=False) as client:
        client.wait_for_workers(count, timeout=60)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, f"{path} does not come"
        time.sleep(0.02)


def run(root: Path, address: str, jobs: list[Job], work: Work = copy, **settings) -> list[JobResult]:
    """Carry out a batch on a scheduler."""
    hire = partial(hire_dask, address)
    return list(run_batch(jobs, work, Settings(**settings), folder=root / "out", hire=hire))


def statuses(results: list[JobResult]) -> list[str]:
    return [result.status for result in results]


def tree(root: Path) -> dict[str, bytes]:
    """Return every file of the outputs, without what is the batch's own."""
    files = [path for path in root.rglob("*") if path.is_file() and not path.name.startswith(".interlingua-batch")]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def test_jobs_are_carried_out_and_then_skipped(tmp_path: Path, shared: Cluster) -> None:
    jobs = jobs_of(tmp_path, a="", b="fail", c="die", d="")
    results = run(tmp_path, shared.address, jobs)
    assert statuses(results) == [DONE, FAILED, FAILED, DONE]
    assert results[1].exit_code == 3
    # A failure of a job's own is the job's, and one that kills its process takes no worker with it.
    assert sorted(started(tmp_path)) == ["a", "b", "c", "d"]
    assert results[2].checks[0].text.startswith("The process that carried it out on the worker tcp://127.0.0.1:")
    assert "was ended by SIGKILL" in results[2].checks[0].text
    assert remains(tmp_path) == []
    good = [jobs[0], jobs[3]]
    assert statuses(run(tmp_path, shared.address, good)) == [SKIPPED, SKIPPED]
    # Nobody is needed where nothing is left to do.
    assert statuses(run(tmp_path, "tcp://127.0.0.1:1", good)) == [SKIPPED, SKIPPED]


def test_outputs_and_provenance_are_those_of_processes_here(tmp_path: Path, shared: Cluster) -> None:
    jobs = [replace(job, options=replace(job.options, to="paddle")) for job in jobs_of(tmp_path, a="", b="")]
    run_batch(jobs, run_job, Settings(2), folder=tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "here")
    assert statuses(run(tmp_path, shared.address, jobs, run_job)) == [DONE, DONE]
    assert tree(tmp_path / "out") == tree(tmp_path / "here")


def test_relative_paths_are_the_batch_s_own(tmp_path: Path, shared: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = jobs_of(tmp_path, a="")
    monkeypatch.chdir(tmp_path)
    assert statuses(run(tmp_path, shared.address, [replace(job, source="in/a", target="out/all/a")])) == [DONE]
    assert (tmp_path / "out" / "all" / "a" / "model").exists()


def test_fail_fast_starts_nothing_after_a_failure(tmp_path: Path, shared: Cluster) -> None:
    jobs = jobs_of(tmp_path, a="fail", b="", c="")
    with open(Path(jobs[0].source, "vocab.txt"), "a") as file:
        file.write("x" * 5000 + "\n")
    results = run(tmp_path, shared.address, jobs, processes=1, fail_fast=True)
    assert statuses(results) == [FAILED, STOPPED, STOPPED]
    assert started(tmp_path) == ["a"]


@pytest.mark.parametrize(("room", "together"), [(1 << 40, 2), (300 << 20, 1)])
def test_no_more_jobs_run_than_there_are_threads_and_memory_for(
    tmp_path: Path, shared: Cluster, room: int, together: int
) -> None:
    jobs = jobs_of(tmp_path, a="wait", b="wait", c="wait")
    running: set[str] = set()
    told: list[int] = []

    def tell(each: Job, result: JobResult | None) -> None:
        (running.add if result is None else running.discard)(each.name)
        told.append(len(running))

    hire = partial(hire_dask, shared.address)
    results = run_batch(jobs, copy, Settings(memory=room), folder=tmp_path / "out", tell=tell, hire=hire)
    assert all(result.ok for result in results)
    assert max(told) == together


STOPPED_BATCH = """
import sys
from functools import partial
from pathlib import Path
from interlingua.convert.batch.dask_workers import hire_dask
from interlingua.convert.batch.schedule import Settings, run_batch
from tests.convert.batch.test_schedule import jobs_of
from tests.convert.batch.work import copy
if __name__ == "__main__":
    root = Path(sys.argv[1])
    jobs = jobs_of(root, b="sleep", c="sleep", d="sleep")
    hire = partial(hire_dask, sys.argv[2])
    print(*(each.status for each in run_batch(jobs, copy, Settings(2), folder=root / "out", hire=hire)))
"""


@contextmanager
def sleeping(root: Path, scheduler: str) -> Iterator[subprocess.Popen[str]]:
    """Start a batch of jobs that take for ever; two of them are being written when it is handed over."""
    jobs_of(root, b="sleep", c="sleep", d="sleep")
    script = root / "batch.py"
    script.write_text(STOPPED_BATCH)
    with subprocess.Popen(
        [sys.executable, "-W", "error", str(script), str(root), scheduler],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        deadline = time.monotonic() + 120
        while len(remains(root)) < 2 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        yield process


@pytest.mark.parametrize("local", [False, True])
def test_after_kill_9_of_the_batch_every_job_is_called_off(tmp_path: Path, shared: Cluster, local: bool) -> None:
    with sleeping(tmp_path, "local" if local else shared.address) as process:
        assert len(remains(tmp_path)) == 2
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
    deadline = time.monotonic() + 60
    while remains(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert remains(tmp_path) == []


@pytest.mark.parametrize("local", [False, True])
def test_an_interruption_ends_every_job_wherever_it_runs(tmp_path: Path, shared: Cluster, local: bool) -> None:
    with sleeping(tmp_path, "local" if local else shared.address) as process:
        os.killpg(process.pid, signal.SIGINT)  # As Ctrl-C in a terminal does.
        said, complaints = process.communicate(timeout=60)
    # When it has ended, nothing is being written any more.
    assert remains(tmp_path) == []
    assert (said.split(), complaints) == ([STOPPED] * 3, "")
    assert not [line for line in log(tmp_path) if line.startswith("end")]


def lose_the_worker(root: Path) -> threading.Thread:
    """Kill, as the loss of a machine does, the worker that is in the middle of the job, and what it started."""
    import psutil

    def status(pid: int) -> str:
        try:
            return str(psutil.Process(pid).status())
        except psutil.NoSuchProcess:
            return psutil.STATUS_ZOMBIE  # A thread of its parent has waited for it, a moment before that stopped.

    def kill() -> None:
        held_by = root / "out" / "all" / "held"
        wait_for(held_by)
        process, worker = map(int, held_by.read_text().split())
        # Neither is to notice that the other is gone: to the scheduler both end at once.
        os.kill(worker, signal.SIGSTOP)
        while status(worker) != psutil.STATUS_STOPPED:
            time.sleep(0.01)
        os.kill(process, signal.SIGKILL)
        while status(process) != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        os.kill(worker, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


def test_a_job_whose_worker_is_lost_is_done_by_another_as_if_nothing_had_been(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, a="", b="", c="")
    run_batch(jobs, run_job, Settings(2), folder=tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "here")
    with cluster_at(tmp_path / "cluster") as cluster:
        workers = [cluster.worker("--no-nanny"), cluster.worker("--no-nanny")]
        wait_for_workers(cluster.address, 2)
        (tmp_path / "out" / "all").mkdir(parents=True)
        thread = lose_the_worker(tmp_path)
        results = run(tmp_path, cluster.address, jobs, held)
        thread.join()
        assert sorted(worker.poll() is None for worker in workers) == [False, True]
    (tmp_path / "out" / "all" / "held").unlink()
    assert statuses(results) == [DONE, DONE, DONE]
    assert remains(tmp_path) == []
    assert tree(tmp_path / "out") == tree(tmp_path / "here")
    assert statuses(run(tmp_path, "tcp://127.0.0.1:1", jobs)) == [SKIPPED] * 3


def test_a_job_that_loses_too_many_workers_fails_and_says_so(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, a="", b="")
    with cluster_at(tmp_path / "cluster", DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0") as cluster:
        cluster.worker("--no-nanny")
        cluster.worker("--no-nanny")
        wait_for_workers(cluster.address, 2)
        (tmp_path / "out" / "all").mkdir(parents=True)
        thread = lose_the_worker(tmp_path)
        results = run(tmp_path, cluster.address, jobs, held, processes=1)
        thread.join()
    assert statuses(results) == [FAILED, DONE]
    expected = "lost with its worker at every attempt (1 in all), at the last with tcp://127.0.0.1:"
    assert expected in results[0].checks[0].text
    assert remains(tmp_path) == []


def test_when_the_scheduler_is_lost_every_job_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = jobs_of(tmp_path, a="sleep", b="", c="")
    monkeypatch.setattr(dask_workers, "PATIENCE", 2.0)
    with cluster_at(tmp_path / "cluster") as cluster:
        cluster.worker()
        wait_for_workers(cluster.address, 1)

        def tell(each: Job, result: JobResult | None) -> None:
            if result is None:
                os.killpg(cluster.processes[0].pid, signal.SIGKILL)

        hire = partial(hire_dask, cluster.address)
        results = run_batch(jobs, copy, Settings(), folder=tmp_path / "out", tell=tell, hire=hire)
    assert statuses(results) == [FAILED] * 3
    assert all("is out of reach: " in result.checks[0].text for result in results)


OTHER_VERSION = "import interlingua; interlingua.__version__ = '0.0.9'\n"


def test_a_worker_of_another_version_is_refused_by_name_before_anything_is_done(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, a="")
    with cluster_at(tmp_path / "cluster") as cluster:
        (cluster.folder / "other.py").write_text(OTHER_VERSION)
        cluster.worker("--no-nanny", "--preload", str(cluster.folder / "other.py"))
        with pytest.raises(UsageError, match=r"The worker tcp://127\.0\.0\.1:\d+ has interlingua 0\.0\.9, "):
            run(tmp_path, cluster.address, jobs)
    assert not (tmp_path / "out" / "log").exists()


def test_a_worker_that_comes_late_is_asked_by_its_job(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, a="wait", b="wait")
    with cluster_at(tmp_path / "cluster") as cluster:
        (cluster.folder / "other.py").write_text(OTHER_VERSION)
        good = cluster.worker("--no-nanny")
        wait_for_workers(cluster.address, 1)

        def tell(each: Job, result: JobResult | None) -> None:
            if result is None and each.name == "a":
                cluster.worker("--no-nanny", "--preload", str(cluster.folder / "other.py"))
                wait_for_workers(cluster.address, 2)
                os.killpg(good.pid, signal.SIGKILL)

        hire = partial(hire_dask, cluster.address)
        results = run_batch(jobs, copy, Settings(1), folder=tmp_path / "out", tell=tell, hire=hire)
    assert statuses(results) == [FAILED, FAILED]
    assert all("could not begin: the worker tcp://127.0.0.1:" in result.checks[0].text for result in results)


def site(tmp_path: Path) -> Site:
    (tmp_path / "beacon").write_bytes(b"light")
    (tmp_path / "source").write_bytes(b"12345")
    found = (tmp_path / "source").stat()
    source = SourceFile(str(tmp_path / "source"), 5, int(found.st_mtime))
    return Site(version(), python_version(), str(tmp_path / "beacon"), b"light", (source,), (str(tmp_path),))


def test_a_worker_that_shares_everything_is_fit(tmp_path: Path) -> None:
    assert flaw(site(tmp_path)) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": "9"}, "has interlingua"),
        ({"python": "2.7"}, "runs Python"),
        ({"light": b"another batch's"}, "sees another folder there"),
        ({"beacon": "/nowhere/beacon"}, "does not see /nowhere"),
        ({"sources": (SourceFile("/nowhere/source", 5, 0),)}, "does not see /nowhere/source"),
        ({"folders": ("/nowhere",)}, "cannot write into /nowhere"),
    ],
)
def test_a_worker_that_does_not_share_something_says_what(tmp_path: Path, change: dict, words: str) -> None:
    assert words in str(flaw(replace(site(tmp_path), **change)))


def test_another_file_under_a_source_s_name_is_seen(tmp_path: Path) -> None:
    shared = site(tmp_path)
    for other in (replace(shared.sources[0], size=6), replace(shared.sources[0], seconds=0)):
        assert "sees another file there" in str(flaw(replace(shared, sources=(other,))))


def test_a_scheduler_that_does_not_answer_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_workers, "CONNECT", 1.0)
    with socket.socket() as taken:
        taken.bind((HOST, 0))  # Nobody listens there, nor can anybody else.
        address = f"tcp://{HOST}:{taken.getsockname()[1]}"
        with pytest.raises(UsageError, match=f"The scheduler {address} does not answer"):
            run(tmp_path, address, jobs_of(tmp_path, a=""))
    with pytest.raises(UsageError, match="does not answer"):  # There are no certificates.
        run(tmp_path, "tls://127.0.0.1:1", jobs_of(tmp_path, a=""))


def test_a_scheduler_without_workers_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_workers, "PATIENCE", 0.5)
    with cluster_at(tmp_path / "cluster") as cluster, pytest.raises(UsageError, match="has no workers"):
        run(tmp_path, cluster.address, jobs_of(tmp_path, a=""))


def test_paths_are_sent_absolute_and_uris_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sent = absolute(Task(Job("a", "in/a", "s3://bucket/a", Options("uer", source=Asked(config="c.json"))))).job
    assert (sent.source, sent.target, sent.golden) == (str(tmp_path / "in/a"), "s3://bucket/a", None)
    assert (sent.options.source.config, sent.options.source.vocabulary) == (str(tmp_path / "c.json"), None)


def test_an_output_is_waited_for_until_it_is_seen(tmp_path: Path) -> None:
    task = Task(Job("a", "in/a", str(tmp_path / "out"), Options("uer")))
    result = JobResult("a", DONE, outputs={"model": "0" * 64, "vocab.txt": "0" * 64})
    assert not is_seen(task, result)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model").touch()
    assert not is_seen(task, result)
    (tmp_path / "out" / "vocab.txt").touch()
    assert is_seen(task, result)
    assert is_seen(task, JobResult("a", FAILED))


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-W", "error", "-m", "interlingua", "batch", "zoo.yaml", "--json", *words]
    env = {**os.environ, "TMPDIR": str(folder)}
    return subprocess.run(line, cwd=folder, env=env, capture_output=True, text=True, timeout=300)


def test_the_command_does_on_a_cluster_of_this_machine_what_processes_do(tmp_path: Path) -> None:
    pytest.importorskip("pydantic")
    jobs_of(tmp_path, a="", b="")
    (tmp_path / "in" / "c").mkdir()
    (tmp_path / "in" / "c" / "model.safetensors").write_bytes(b"broken")
    (tmp_path / "zoo.yaml").write_text("version: 1\njobs:\n  - source: in/*\n    to: [uer, paddle]\n")
    said = {}
    for name, words in (("here", ()), ("dask", ("--scheduler", "local", "--jobs", "2"))):
        done = command(tmp_path, *words)
        assert (done.returncode, done.stderr) == (1, "")
        said[name] = [{**job, "seconds": 0, "checks": None} for job in json.loads(done.stdout)["jobs"]]
        (tmp_path / "converted").rename(tmp_path / name)
    assert said["here"] == said["dask"]
    assert tree(tmp_path / "here") == tree(tmp_path / "dask")
