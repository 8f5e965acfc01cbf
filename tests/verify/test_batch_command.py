"""The command ``interlingua batch``: from a manifest to exit codes, reports and one JSON document."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from benchmarks.families import realistic, write_model
from interlingua import cli
from interlingua.convert.batch import plan as batch_plan
from interlingua.mappings.schema import FAMILIES

pytest.importorskip("pydantic")
pytest.importorskip("jinja2")

ZOO = """version: 1
variables: {models: nowhere}
defaults: {folder: converted, no-sync: true, to: [uer, paddle]}
jobs:
  - source: ${models}/good
  - source: ${models}/bad
"""


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    for seed, name in enumerate(("good", "bad")):
        write_model(tmp_path / "models" / name, FAMILIES["bert"], ("pooler",), seed, draw=realistic)
    (tmp_path / "zoo.yaml").write_text(ZOO)
    return tmp_path / "zoo.yaml"


def poison(zoo: Path) -> None:
    (zoo.parent / "models" / "bad" / "model.safetensors").write_bytes(b"broken")


def run(zoo: Path, *arguments: object) -> Result:
    command = ["batch", str(zoo), "--set", "models=models", "--jobs", "1", *map(str, arguments)]
    return CliRunner().invoke(cli.main, command)


def statuses(result: Result) -> dict[str, str]:
    return {job["name"]: job["status"] for job in json.loads(result.stdout)["jobs"]}


NAMES = ("good/uer", "good/paddle", "bad/uer", "bad/paddle")


def test_all_is_done_and_then_skipped(zoo: Path) -> None:
    first = run(zoo, "--json")
    assert first.exit_code == 0, first.output
    assert statuses(first) == dict.fromkeys(NAMES, "done")
    assert json.loads(first.stdout)["ok"] is True
    again = run(zoo)
    assert again.exit_code == 0
    assert again.stdout.count("skipped, unchanged") == 4
    assert "4 jobs in" in again.stdout
    assert run(zoo, "-q").output == ""
    assert statuses(run(zoo, "--no-resume", "--json")) == dict.fromkeys(NAMES, "done")


def test_a_failed_job_is_exit_code_1_and_in_every_report(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(zoo)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    xml, page = zoo.parent / "junit.xml", zoo.parent / "zoo.html"
    result = run(zoo, "--json", "--junit", xml, "--report", page)
    assert result.exit_code == 1, result.output
    assert Counter(statuses(result).values()) == {"done": 2, "failed": 2}
    cases = {case.get("classname"): case.find("failure") for case in ElementTree.parse(xml).iter("testcase")}
    assert {name for name, failure in cases.items() if failure is not None} == {"bad/uer", "bad/paddle"}
    assert page.read_text().count("model.safetensors") >= 2
    lines = [line for line in result.stderr.splitlines() if line.startswith("::error ")]
    assert len(lines) == 2
    assert all(f"file={zoo},line=6," in line for line in lines)
    assert "model.safetensors" in run(zoo).stdout


def test_fail_fast_stops(zoo: Path) -> None:
    poison(zoo)
    (zoo.parent / "models" / "good" / "model.safetensors").write_bytes(b"broken")
    result = run(zoo, "--fail-fast", "--json")
    assert result.exit_code == 1
    assert Counter(statuses(result).values()) == {"failed": 1, "stopped": 3}


def test_a_dry_run_says_what_it_takes_and_writes_nothing(zoo: Path) -> None:
    before = sorted(zoo.parent.rglob("*"))
    result = run(zoo, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "4 jobs: " in result.stdout
    assert {job["name"] for job in json.loads(run(zoo, "--dry-run", "--json").stdout)["jobs"]} == set(NAMES)
    assert sorted(zoo.parent.rglob("*")) == before


def test_a_dry_run_is_no_success_where_a_source_cannot_be_opened(zoo: Path) -> None:
    poison(zoo)
    result = run(zoo, "--dry-run")
    assert result.exit_code == 1
    assert "2 of 4 jobs would fail: bad/" in result.stderr
    assert "4 jobs: " in result.stdout
    as_json = run(zoo, "--dry-run", "--json")
    assert as_json.exit_code == 1
    assert len([job for job in json.loads(as_json.stdout)["jobs"] if job["problem"]]) == 2


def test_reports_have_a_folder_before_the_first_job_runs(zoo: Path) -> None:
    deep = zoo.parent / "a" / "b"
    assert run(zoo, "--junit", deep / "junit.xml", "--report", deep / "c" / "zoo.html").exit_code == 0
    assert (deep / "junit.xml").exists()
    assert (deep / "c" / "zoo.html").exists()
    (zoo.parent / "file").write_text("")
    refused = run(zoo, "--no-resume", "--junit", zoo.parent / "file" / "junit.xml")
    assert refused.exit_code == 5
    assert refused.stdout == ""


def test_room_is_made_sure_of_before_anything_is_written(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as full:
        full.setattr(batch_plan, "_free", lambda _: 1000)
        result = run(zoo)
        assert result.exit_code == 5
        assert "the outputs need" in result.stderr
        assert run(zoo, "--dry-run").exit_code == 5
    assert not (zoo.parent / "converted" / "good").exists()
    assert run(zoo).exit_code == 0
    monkeypatch.setattr(batch_plan, "_free", lambda _: 1000)
    assert run(zoo).exit_code == 0  # What is there already needs no room.


@pytest.mark.parametrize(
    ("text", "arguments", "code", "words"),
    [
        ("version: 1\njobs:\n  - sauce: x\n", (), 2, "sauce"),
        (ZOO, ("--set", "models"), 2, "--set takes NAME=VALUE"),
        (ZOO, ("--memory", "much"), 2, "is no size"),
    ],
)
def test_a_request_that_makes_no_sense_is_one_paragraph(
    zoo: Path, text: str, arguments: tuple[str, ...], code: int, words: str
) -> None:
    zoo.write_text(text)
    result = CliRunner().invoke(cli.main, ["batch", str(zoo), *arguments])
    assert result.exit_code == code, result.output
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_a_manifest_that_is_not_there_cannot_be_read(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.main, ["batch", str(tmp_path / "absent.yaml")])
    assert result.exit_code == 3
    assert "absent.yaml" in result.stderr


def test_a_damaged_state_is_one_paragraph(zoo: Path) -> None:
    (zoo.parent / "converted").mkdir()
    (zoo.parent / "converted" / ".interlingua-batch.sqlite3").write_text("nonsense" * 200)
    result = run(zoo)
    assert result.exit_code == 3
    assert "is not a batch's state" in result.stderr
