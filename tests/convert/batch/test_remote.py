"""Batches whose sources and outputs are elsewhere, on servers of this machine."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import tarfile
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

import interlingua
from interlingua.cli import main
from interlingua.convert.batch.jobs import DONE, FAILED, SKIPPED, Job, JobResult
from interlingua.convert.batch.lock import NAME, batch_lock
from interlingua.convert.batch.manifest import jobs_of, load_manifest, state_folder
from interlingua.convert.batch.places import identity, readable
from interlingua.convert.batch.plan import plan_batch
from interlingua.convert.batch.schedule import Settings, Task, Wanted, run_batch, schemes_of
from interlingua.convert.batch.state import BatchState
from interlingua.convert.batch.workers import Ended
from interlingua.convert.conversion import Options
from interlingua.errors import UsageError
from interlingua.verify.jobs import run_job
from interlingua.verify.pages.junit import junit
from tests import models
from tests.conftest import ROOT
from tests.convert.remote.hub_server import Hub, Repo
from tests.convert.remote.s3_server import S3Server
from tests.convert.remote.web_server import WebServer

PROVENANCE = "interlingua-provenance.json"


class Here:
    """Workers that are this process: what they do is seen by the servers' clients of this test."""

    memory = None

    def __init__(self, before: Callable[[Task], object]) -> None:
        self._before = before
        self.tasks: list[Task] = []

    @property
    def room(self) -> int:
        return 1 - len(self.tasks)

    def give(self, task: Task) -> None:
        self.tasks.append(task)

    def take(self, seconds: float) -> Sequence[Ended[Task, JobResult]]:
        task = self.tasks.pop()
        self._before(task)
        return [Ended(task, run_job(task))]

    def end(self) -> None:
        pass


def run(
    jobs: Sequence[Job], folder: Path, before: Callable[[Task], object] = lambda task: None
) -> dict[str, JobResult]:
    results = run_batch(jobs, run_job, Settings(version="1.2.3"), folder=folder, hire=lambda wanted: Here(before))
    return {result.name: result for result in results}


def statuses(jobs: Sequence[Job], folder: Path) -> list[str]:
    return [result.status for result in run(jobs, folder).values()]


def model(folder: Path, seed: int = 5) -> Path:
    return models.write_hf(folder, models.hf(("pooler",), seed=seed), models.hf_config(), models.SMALL.vocab)


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def put(folder: Path, place: str) -> None:
    for name, data in files(folder).items():
        bucket().pipe_file(f"{place}/{name}", data)


def bucket():
    import fsspec

    return fsspec.filesystem("s3", use_listings_cache=False)


def job(source: object, target: object, to: str = "uer", name: str = "m", **more) -> Job:
    return Job(f"{name}/{to}", str(source), str(target), Options(to, sync=False), **more)


def text_of(result: JobResult) -> str:
    return " ".join(check.text for check in result.checks)


def manifest(folder: Path, text: str) -> tuple[Job, ...]:
    (folder / "zoo.yaml").write_text(f"version: 1\n{text}")
    return jobs_of(load_manifest(folder / "zoo.yaml"), {})


def refused(folder: Path, text: str) -> str:
    with pytest.raises(UsageError) as caught:
        manifest(folder, text)
    return str(caught.value)


# -- from a bucket to a bucket


ZOO = """
defaults:
  folder: s3://zoo/converted
  no-sync: true
jobs:
  - source: s3://zoo/models/*
    to: uer
"""


@pytest.fixture
def zoo(s3: S3Server, tmp_path: Path) -> tuple[Job, ...]:
    """Jobs of two models of a bucket, whose outputs go there, too."""
    for number, name in enumerate(("a", "b")):
        put(model(tmp_path / name, number), f"s3://zoo/models/{name}")
    return manifest(tmp_path, ZOO)


def test_a_pattern_stands_for_the_folders_of_a_bucket(zoo: tuple[Job, ...]) -> None:
    assert [(one.name, one.source, one.target) for one in zoo] == [
        ("a/uer", "s3://zoo/models/a", "s3://zoo/converted/a/uer"),
        ("b/uer", "s3://zoo/models/b", "s3://zoo/converted/b/uer"),
    ]


def test_outputs_in_a_bucket_are_whole_and_say_where_they_come_from(zoo: tuple[Job, ...], tmp_path: Path) -> None:
    results = run(zoo, tmp_path)
    assert [result.status for result in results.values()] == [DONE, DONE]
    base = "zoo/converted/a/uer"
    listed = bucket().cat_file(f"{base}/SHA256SUMS").decode().splitlines()
    found = {line.split("  ")[1]: line.split("  ")[0] for line in listed}
    there = {name.removeprefix(f"{base}/") for name in bucket().find(base)}
    assert set(found) == there - {"SHA256SUMS"}
    for name, digest in found.items():
        assert hashlib.sha256(bucket().cat_file(f"{base}/{name}")).hexdigest() == digest
    told = json.loads(bucket().cat_file(f"{base}/{PROVENANCE}"))["source"]
    etag = bucket().info("zoo/models/a/model.safetensors")["ETag"]
    assert (told["name"], told["uri"]) == ("a", "s3://zoo/models/a")
    assert told["versions"]["model.safetensors"] == f"etag:{etag}"
    with interlingua.open("s3://zoo/converted/a/uer") as opened:
        assert interlingua.fingerprint(opened).model == told["fingerprint"]


def test_what_is_unchanged_in_the_bucket_is_skipped_without_its_weights(
    s3: S3Server, zoo: tuple[Job, ...], tmp_path: Path
) -> None:
    run(zoo, tmp_path)
    s3.asked.clear()
    assert statuses(zoo, tmp_path) == [SKIPPED, SKIPPED]
    assert not [path for method, path in s3.asked if method in ("PUT", "DELETE")]
    assert not [path for method, path in s3.asked if method == "GET" and path.endswith(".bin")]


def test_one_that_changed_is_done_again_and_no_other(zoo: tuple[Job, ...], tmp_path: Path) -> None:
    before = run(zoo, tmp_path)
    put(model(tmp_path / "other", 9), "s3://zoo/models/a")
    after = run(zoo, tmp_path)
    assert [result.status for result in after.values()] == [DONE, SKIPPED]
    assert after["a/uer"].fingerprint != before["a/uer"].fingerprint


@pytest.mark.parametrize("change", ["changed", "deleted", "added"])
def test_an_output_that_is_not_as_it_was_is_made_again(zoo: tuple[Job, ...], tmp_path: Path, change: str) -> None:
    run(zoo[:1], tmp_path)
    whole = {name: bucket().cat_file(name) for name in bucket().find("zoo/converted")}
    weights = next(name for name in whole if name.endswith("pytorch_model.bin"))
    if change == "changed":
        bucket().pipe_file(weights, bytes(len(whole[weights])))
    elif change == "deleted":
        bucket().rm_file(weights)
    else:
        bucket().pipe_file("zoo/converted/a/uer/more.txt", b"more")
    assert statuses(zoo[:1], tmp_path) == [DONE]
    assert {name: bucket().cat_file(name) for name in bucket().find("zoo/converted")} == whole
    assert statuses(zoo[:1], tmp_path) == [SKIPPED]


def test_a_source_that_changes_after_the_look_at_it_is_not_converted_as_what_it_was(
    zoo: tuple[Job, ...], tmp_path: Path
) -> None:
    other = model(tmp_path / "other", 9)
    results = run(zoo[:1], tmp_path, before=lambda task: put(other, "s3://zoo/models/a"))
    assert results["a/uer"].status == FAILED
    assert "s3://zoo/models/a: has changed since the batch has looked at it" in text_of(results["a/uer"])
    assert not bucket().find("zoo/converted")


def test_somebody_elses_checkpoint_is_not_replaced(zoo: tuple[Job, ...], tmp_path: Path) -> None:
    put(tmp_path / "b", "s3://zoo/converted/a/uer")
    before = bucket().find("zoo/converted")
    results = run(zoo[:1], tmp_path)
    assert "s3://zoo/converted/a/uer: is there already" in text_of(results["a/uer"])
    assert bucket().find("zoo/converted") == before


def test_what_a_killed_upload_has_left_is_replaced(s3: S3Server, zoo: tuple[Job, ...], tmp_path: Path) -> None:
    run(zoo[:1], tmp_path)
    first = next(keys for keys in s3.seen if any(key.startswith("converted/") for key in keys))
    left = [key for key in first if key.startswith("converted/")]
    assert left == [f"converted/a/uer/{PROVENANCE}"]
    for name in bucket().find("zoo/converted"):
        if not name.endswith(PROVENANCE):
            bucket().rm_file(name)
    (tmp_path / "elsewhere").mkdir()
    assert statuses(zoo[:1], tmp_path / "elsewhere") == [DONE]


def test_a_bucket_that_is_not_there_fails_its_jobs_alone(zoo: tuple[Job, ...], tmp_path: Path) -> None:
    jobs = [job("s3://nobodys/m", "s3://zoo/converted/m", name="gone"), zoo[0]]
    results = run(jobs, tmp_path)
    assert [result.status for result in results.values()] == [FAILED, DONE]
    assert results["gone/uer"].exit_code == 3
    cases = ElementTree.fromstring(junit(tuple(results.values()), "zoo.yaml")).iter("testcase")
    failures = [case.find("failure") for case in cases if case.get("classname") == "gone/uer"]
    assert any(found is not None and "s3://nobodys/m: does not exist" in found.get("message", "") for found in failures)


def test_two_manifests_share_a_state_without_taking_each_others_jobs(zoo: tuple[Job, ...], tmp_path: Path) -> None:
    second = replace(zoo[0], target="s3://zoo/second/a")
    for one in (zoo[0], second):
        assert statuses([one], tmp_path) == [DONE]
    for one in (zoo[0], second):
        assert statuses([one], tmp_path) == [SKIPPED]
    with BatchState(tmp_path) as state:
        assert state.job(second.target) is not None


def test_the_command_runs_it_in_processes_and_keeps_its_state_beside_the_manifest(
    zoo: tuple[Job, ...], tmp_path: Path
) -> None:
    words = ["batch", str(tmp_path / "zoo.yaml"), "--json", "--jobs", "1", "--junit", str(tmp_path / "zoo.xml")]
    told = [json.loads(CliRunner().invoke(main, words).stdout) for _ in range(2)]
    assert [(one["done"], one["skipped"]) for one in told] == [(2, 0), (0, 2)]
    assert set(told[0]["jobs"][0]["versions"]) == set(told[0]["jobs"][0]["outputs"])
    assert (tmp_path / ".interlingua-batch.sqlite3").is_file()
    assert not (tmp_path / "s3:").exists()


# -- from the Hub


def test_a_branch_that_moves_is_read_as_it_was_and_the_next_batch_reads_what_it_is(hub: Hub, tmp_path: Path) -> None:
    repo = hub.repos["org/bert"] = Repo()
    first = repo.put(files(model(tmp_path / "one", 1)))
    other = files(model(tmp_path / "two", 2))
    moved: list[str] = []
    jobs = [job("hf://org/bert@main", tmp_path / "out" / to, to) for to in ("uer", "paddle")]

    def move(_task: Task) -> None:
        if not moved:
            moved.append(repo.put(other))

    def told() -> list[dict[str, object]]:
        return [json.loads(Path(one.target, PROVENANCE).read_text())["source"] for one in jobs]

    results = run(jobs, tmp_path, before=move)
    assert [result.status for result in results.values()] == [DONE, DONE]
    assert [one["uri"] for one in told()] == [f"hf://org/bert@{first}"] * 2
    assert [one["name"] for one in told()] == ["bert"] * 2
    assert statuses(jobs, tmp_path) == [DONE, DONE]
    assert [one["uri"] for one in told()] == [f"hf://org/bert@{moved[0]}"] * 2
    assert statuses(jobs, tmp_path) == [SKIPPED, SKIPPED]


def test_a_branch_is_looked_up_once_for_all_sources_below_it(hub: Hub, tmp_path: Path) -> None:
    repo = hub.repos["org/zoo"] = Repo()
    content = files(model(tmp_path / "one"))
    first = repo.put({f"{name}/{file}": data for name in "ab" for file, data in content.items()})
    looked: list[str] = []
    hub.before = lambda action: looked.append(action) if action == "info" else None
    jobs = [job(f"hf://org/zoo/{name}", tmp_path / "out" / name, name=name) for name in "ab"]
    assert statuses(jobs, tmp_path) == [DONE, DONE]
    assert len(looked) == 1
    assert json.loads((tmp_path / "out" / "b" / PROVENANCE).read_text())["source"]["uri"] == f"hf://org/zoo@{first}/b"


def test_a_commit_that_changes_nothing_of_the_model_changes_nothing(hub: Hub, tmp_path: Path) -> None:
    repo = hub.repos["org/bert"] = Repo()
    content = files(model(tmp_path / "one"))
    repo.put(content)
    jobs = [job("hf://org/bert", tmp_path / "out")]
    run(jobs, tmp_path)
    repo.put({**content, "notes.txt": b"words"})
    assert statuses(jobs, tmp_path) == [SKIPPED]


def test_a_pattern_in_a_repository_is_of_one_commit(hub: Hub, tmp_path: Path) -> None:
    repo = hub.repos["org/zoo"] = Repo()
    first = repo.put({"x/a/model.safetensors": b"", "x/b/model.safetensors": b"", "x/.c/model.bin": b"", "y/d": b""})
    jobs = manifest(tmp_path, "jobs:\n  - source: hf://org/zoo@main/x/*\n    to: uer\n")
    assert [(one.name, one.source) for one in jobs] == [
        (f"{name}/uer", f"hf://org/zoo@{first}/x/{name}") for name in "ab"
    ]


# -- from a web server


def test_a_server_that_fails_twice_is_asked_again(web: WebServer, tmp_path: Path) -> None:
    model(web.root / "bert")
    jobs = [job(f"{web.url}/bert", tmp_path / "out")]
    assert run(jobs, tmp_path, before=lambda task: setattr(web, "failures", 2))["m/uer"].status == DONE
    web.failures = 2
    assert statuses(jobs, tmp_path) == [SKIPPED]


def test_where_a_server_tells_no_versions_the_bytes_decide(web: WebServer, tmp_path: Path) -> None:
    web.tags = web.conditions = False
    model(web.root / "bert")
    jobs = [job(f"{web.url}/bert", tmp_path / "out")]
    assert statuses(jobs, tmp_path) == [DONE]
    assert statuses(jobs, tmp_path) == [SKIPPED]
    told = json.loads((tmp_path / "out" / PROVENANCE).read_text())["source"]
    digest = hashlib.sha256((web.root / "bert" / "model.safetensors").read_bytes()).hexdigest()
    assert told["versions"]["model.safetensors"] == f"sha256:{digest}"
    model(web.root / "bert", 9)
    assert statuses(jobs, tmp_path) == [DONE]


# -- the plan


def test_a_plan_counts_temporary_space_and_fetches_no_weights(web: WebServer, tmp_path: Path) -> None:
    model(web.root / "bert")
    (web.root / "bert" / "more.bin").write_bytes(os.urandom(1 << 20))
    with tarfile.open(web.root / "packed.tar.gz", "w:gz") as tar:
        tar.add(web.root / "bert", "bert")
    packed = (web.root / "packed.tar.gz").stat().st_size
    large, small = job(f"{web.url}/bert", "s3://zoo/x"), job(f"{web.url}/packed.tar.gz", "s3://zoo/y", name="y")
    plan = plan_batch([large, small], at_a_time=1)
    assert not plan.problems
    by_name = {planned.job.name: planned for planned in plan.jobs}
    assert by_name["y/uer"].nbytes == packed
    assert by_name["m/uer"].family == "bert"
    (system,) = plan.file_systems
    assert system.path == tempfile.gettempdir()
    assert system.needed == max(planned.nbytes + planned.disk for planned in plan.jobs)
    assert plan_batch([large, small], at_a_time=2).file_systems[0].needed == sum(
        planned.nbytes + planned.disk for planned in plan.jobs
    )
    assert web.sent < packed


# -- what a manifest may say


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("https://host/models/*", "https://host/models/*: a web server lists no folders"),
        ("hf://org/*", "the repositories of an organisation are not listed"),
        ("memory://m", "memory://m is gone with its process"),
        ("ftp://host/m", "ftp:// is nowhere that is known here"),
        ("s3://user:word@zoo/m", "must hold no user and no password"),
    ],
)
def test_sources_that_cannot_be_are_refused_by_line_and_key(tmp_path: Path, source: str, words: str) -> None:
    pytest.importorskip("fsspec")
    pytest.importorskip("huggingface_hub")
    told = refused(tmp_path, f"jobs:\n  - source: {source}\n    to: uer\n")
    assert f"{tmp_path}/zoo.yaml:3: jobs[0].source: " in told
    assert words in told
    assert "word@" not in told


def test_a_pattern_that_nothing_matches_is_refused_by_line_and_key(s3: S3Server, tmp_path: Path) -> None:
    for place in ("zoo", "nobodys"):
        told = refused(tmp_path, f"jobs:\n  - source: s3://{place}/none/*\n    to: uer\n")
        assert f"zoo.yaml:3: jobs[0].source: s3://{place}/none/*" in told


@pytest.mark.parametrize(
    ("defaults", "more", "words"),
    [
        ("folder: https://host/x", "", "defaults.folder: https://host/x: nothing is written to a web server"),
        ("folder: s3://zoo/x", "output: ../y", "jobs[0].output: the output '../y' leads out of its folder"),
        ("folder: x", "output: http://host/y", "jobs[0].output: http://host/y: nothing is written to a web server"),
        ("state: s3://zoo/x", "", "defaults.state: s3://zoo/x is not on this machine"),
        ("folder: x", "config: s3://zoo/c", "jobs[0].config: s3://zoo/c is not on this machine"),
    ],
)
def test_places_that_make_no_sense_are_refused_by_key(tmp_path: Path, defaults: str, more: str, words: str) -> None:
    text = f"defaults:\n  {defaults}\njobs:\n  - source: s3://zoo/m\n    to: uer\n" + (f"    {more}\n" if more else "")
    (tmp_path / "zoo.yaml").write_text(f"version: 1\n{text}")
    with pytest.raises(UsageError) as caught:
        _read(tmp_path / "zoo.yaml")
    assert words in str(caught.value)


def _read(path: Path) -> None:
    state_folder(load_manifest(path), {})
    jobs_of(load_manifest(path), {})


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ("s3://zoo/x", "s3://zoo/x", "is that of"),
        ("s3://zoo/x", "s3://zoo/x/y", "its target s3://zoo/x/y is in that of"),
        ("hf://org/m", "hf://org/m@main", "is that of"),
        ("gs://zoo/x", "gcs://zoo/x", "is that of"),
        ("s3://zoo/in/one/out", "s3://zoo/x", "is in the source s3://zoo/in/one"),
        ("s3://zoo/in", "s3://zoo/x", "its source s3://zoo/in/one is the target of"),
    ],
)
def test_uris_that_are_in_each_others_way_are_refused(tmp_path: Path, one: str, other: str, words: str) -> None:
    text = "".join(
        f"  - source: s3://zoo/in/{name}\n    to: uer\n    output: {output}\n"
        for name, output in (("one", one), ("two", other))
    )
    assert words in refused(tmp_path, f"jobs:\n{text}")


def test_names_come_from_the_places_that_people_know(tmp_path: Path) -> None:
    jobs = manifest(
        tmp_path,
        "defaults: {folder: 'hf://us/converted@next'}\n"
        "jobs:\n"
        "  - {source: 'hf://org/bert@v1.0', to: uer}\n"
        "  - {source: 'https://host/m%C3%B6del/pytorch_model.bin', to: uer}\n"
        "  - {source: 's3://zoo/a.tar.gz', to: uer}\n"
        f"  - {{source: 'file://{tmp_path}/here', to: uer, output: 's3://zoo/{{name}}'}}\n",
    )
    assert [one.name for one in jobs] == ["bert/uer", "mödel/uer", "a/uer", "here/uer"]
    assert [one.target for one in jobs] == [
        "hf://us/converted@next/bert/uer",
        "hf://us/converted@next/mödel/uer",
        "hf://us/converted@next/a/uer",
        "s3://zoo/here",
    ]
    assert jobs[3].source == str(tmp_path / "here")
    assert readable("hf://org/bert@v1/sub").name == "sub"
    assert identity("hf://org/bert@v1/sub")[:3] == identity("hf://org/bert@v1")


def test_the_state_is_beside_the_manifest_or_where_that_says(tmp_path: Path) -> None:
    for defaults, folder in (
        ("folder: s3://zoo/x", tmp_path),
        ("folder: made", tmp_path / "made"),
        ("{folder: 's3://zoo/x', state: kept}", tmp_path / "kept"),
    ):
        section = defaults if defaults.startswith("{") else f"\n  {defaults}"
        manifest(tmp_path, f"defaults: {section}\njobs:\n  - {{source: m, to: uer}}\n")
        assert state_folder(load_manifest(tmp_path / "zoo.yaml"), {}) == folder


def test_the_manifest_of_the_page_on_ci_is_one(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    block = page.partition("## Far away")[2].partition("```yaml\n")[2].partition("```")[0]
    (tmp_path / "zoo.yaml").write_text(block)
    assert state_folder(load_manifest(tmp_path / "zoo.yaml"), {}) == tmp_path
    (tmp_path / "zoo.yaml").write_text(block.replace("models/*", "models/one"))
    jobs = jobs_of(load_manifest(tmp_path / "zoo.yaml"), {})
    assert [one.name.partition("/")[0] for one in jobs[::2]] == ["bert-base-uncased", "one", "albert"]


# -- on Dask


def test_workers_need_share_nothing_where_all_is_elsewhere_but_the_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    from interlingua.convert.batch.dask_job import flaw
    from interlingua.convert.batch.dask_workers import absolute, site_of

    task = Task(job("s3://zoo/a", "s3://zoo/b"))
    with batch_lock(tmp_path) as lock:
        wanted = Wanted(run_job, 1, {}, [], tmp_path, lock, threading.Event(), schemes_of([task.job]))
        site = site_of(wanted)
        assert site_of(replace(wanted, targets=[tmp_path / "out"])).beacon == str(tmp_path / NAME)
    assert (site.beacon, site.folders, site.schemes) == ("", (), ("s3",))
    assert absolute(task) == task
    assert flaw(site) is None
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "s3fs" else found(name))
    assert flaw(site) == "has no module s3fs, which the jobs' URIs take: pip install 'interlingua[remote]' there"


def test_workers_of_dask_read_and_write_the_bucket(zoo: tuple[Job, ...], tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    pytest.importorskip("cryptography")
    words = ["batch", str(tmp_path / "zoo.yaml"), "--json", "--jobs", "1", "--scheduler", "local"]
    told = [json.loads(CliRunner().invoke(main, words).stdout) for _ in range(2)]
    assert [(one["done"], one["skipped"]) for one in told] == [(2, 0), (0, 2)]
    assert bucket().exists(f"s3://zoo/converted/b/uer/{PROVENANCE}")
