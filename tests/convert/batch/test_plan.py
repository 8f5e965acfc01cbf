"""What a batch takes: bytes, order, time and room, of real checkpoints."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from benchmarks.families import realistic, write_model
from interlingua.convert.batch import plan as batch_plan
from interlingua.convert.batch.jobs import Job
from interlingua.convert.batch.plan import OVERHEAD, BatchPlan, FileSystem, plan_batch
from interlingua.convert.conversion import Options, convert
from interlingua.convert.source import open_checkpoint
from interlingua.errors import OutputError
from interlingua.mappings.schema import FAMILIES


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two models, one with more heads than the other."""
    folder = tmp_path_factory.mktemp("zoo")
    write_model(folder / "small", FAMILIES["bert"], ("pooler",), 1, draw=realistic)
    write_model(folder / "large", FAMILIES["bert"], ("pooler", "masked_lm"), 2, draw=realistic)
    return folder


def job(zoo: Path, source: str, out: Path, to: str = "uer", dtype: str = "keep", checks: tuple = ("weights",)) -> Job:
    name = f"{source}/{to}-{dtype}"
    return Job(name, str(zoo / source), str(out / name), Options(to=to, dtype=dtype), checks)


def tensor_bytes(source: Path) -> int:
    with open_checkpoint(source) as opened:
        return sum(spec.nbytes for spec in opened.tensors.values())


def test_the_largest_is_first_and_what_cannot_be_opened_last(zoo: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.bin").write_bytes(b"no checkpoint")
    jobs = [job(zoo, name, tmp_path / "out") for name in ("nowhere", "small", "large")]
    broken = Job("broken/hf", str(tmp_path / "broken.bin"), str(tmp_path / "out" / "b"), Options(to="hf"))
    plan = plan_batch([broken, *jobs])
    assert [each.job.name for each in plan.jobs] == [
        "large/uer-keep",
        "small/uer-keep",
        "broken/hf",
        "nowhere/uer-keep",
    ]
    assert [each.nbytes for each in plan.jobs[:2]] == [tensor_bytes(zoo / name) for name in ("large", "small")]
    assert [each.family for each in plan.jobs] == ["bert", "bert", None, None]
    assert [each.job.name for each in plan.problems] == ["broken/hf", "nowhere/uer-keep"]
    assert "nowhere: does not exist" in str(plan.problems[1].problem)


@pytest.mark.parametrize("dtype", ["keep", "float16"])
def test_an_output_takes_what_was_said_at_most(zoo: Path, tmp_path: Path, dtype: str) -> None:
    made = job(zoo, "large", tmp_path, "uer", dtype)
    (planned,) = plan_batch([made]).jobs
    convert(made.source, made.target, made.options)
    taken = sum(path.stat().st_size for path in Path(made.target).rglob("*") if path.is_file())
    assert taken <= planned.disk < taken + OVERHEAD
    assert planned.disk - OVERHEAD >= planned.nbytes // (2 if dtype == "float16" else 1)


def test_each_source_is_opened_once(zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def counted(source: str, *args: object, **kinds: bool) -> object:
        opened.append(source)
        return open_checkpoint(source, *args, **kinds)

    monkeypatch.setattr(batch_plan, "open_checkpoint", counted)
    plan = plan_batch([job(zoo, "small", tmp_path, to) for to in ("hf", "uer", "paddle")])
    assert opened == [str(zoo / "small")]
    assert plan.nbytes == 3 * tensor_bytes(zoo / "small")


def test_names_that_are_kept_need_no_model(tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    np.savez(tmp_path / "any.npz", x=np.zeros((3, 5), np.float64))
    options = Options(keep_names=True, container="safetensors")
    (planned,) = plan_batch([Job("any", str(tmp_path / "any.npz"), str(tmp_path / "out"), options)]).jobs
    assert (planned.nbytes, planned.family, planned.problem) == (120, None, None)


def test_time_is_bytes_over_the_rate_that_is_stated(zoo: Path, tmp_path: Path) -> None:
    jobs = [job(zoo, "small", tmp_path, "hf", checks=()), job(zoo, "small", tmp_path, "uer")]
    plan = plan_batch(jobs, rate=1000)
    unchecked, checked = (next(each for each in plan.jobs if each.job is made) for made in jobs)
    assert plan.seconds * 1000 == pytest.approx(2 * unchecked.nbytes + unchecked.disk + 2 * checked.disk)
    assert plan.as_dict()["assumed_rate"] == 1000


def test_outputs_are_summed_by_file_system(zoo: Path, tmp_path: Path) -> None:
    plan = plan_batch([job(zoo, "small", tmp_path / "a" / "b"), job(zoo, "large", tmp_path / "c")])
    (system,) = plan.file_systems
    assert system.path == str(tmp_path)
    assert system.needed == plan.disk == sum(each.disk for each in plan.jobs)
    assert 0 < system.free <= os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize
    plan.check_space()


def test_too_little_room_is_an_error_with_both_figures() -> None:
    plan = BatchPlan((), (FileSystem("/a", 10, 10), FileSystem("/b", 2_000_001, 2_000_000)))
    with pytest.raises(OutputError, match="/b: the outputs need 2,000,001 bytes, and 2,000,000 are free"):
        plan.check_space()


def test_a_plan_is_json(zoo: Path, tmp_path: Path) -> None:
    plan = plan_batch([job(zoo, "small", tmp_path), job(zoo, "nowhere", tmp_path)])
    found = json.loads(json.dumps(plan.as_dict(), allow_nan=False))
    assert found["jobs"][0]["bytes"] == found["bytes"] == tensor_bytes(zoo / "small")
    assert found["jobs"][1]["problem"].endswith(".")
    assert found["disk"] == found["file_systems"][0]["needed"]
