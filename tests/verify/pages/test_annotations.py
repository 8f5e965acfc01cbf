"""Annotations: one line a failed check, at the manifest's line, and only where they are read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlingua.convert.batch.jobs import DONE, FAILED, SKIPPED, STOPPED, CheckResult, Job, JobResult
from interlingua.convert.conversion import Options
from interlingua.verify.pages.annotations import github_annotations

THERE = {"GITHUB_ACTIONS": "true"}
JOBS = [Job("a", "in", "out/a", Options("uer"), line=7), Job("b", "in", "out/b", Options("uer"), line=9)]
BAD = JobResult("b", FAILED, (CheckResult("convert", True), CheckResult("weights", False, "100% wrong:\r\n, see")))


def test_each_failed_check_is_a_line() -> None:
    results = [JobResult("a", DONE, (CheckResult("convert", True),)), BAD]
    assert list(github_annotations(JOBS, results, "zoo,1:2.yaml", THERE)) == [
        "::error file=zoo%2C1%3A2.yaml,line=9,title=b%3A weights::100%25 wrong:%0D%0A, see"
    ]


def test_there_are_none_where_nobody_reads_them() -> None:
    for environment in ({}, {"GITHUB_ACTIONS": "false"}, {"CI": "true"}):
        assert list(github_annotations(JOBS, [BAD], "zoo.yaml", environment)) == []
    assert list(github_annotations(JOBS, [JobResult("a", SKIPPED, BAD.checks)], "zoo.yaml", THERE)) == []


@given(st.text(), st.text(), st.text())
def test_a_text_stays_on_its_line_and_in_its_place(manifest: str, name: str, text: str) -> None:
    job = Job(name, "in", "out", Options("uer"))
    bad = JobResult(name, FAILED, (CheckResult("convert", False, text),))
    (line,) = github_annotations([job], [bad], manifest, THERE)
    assert "\n" not in line
    assert "\r" not in line
    properties, _, message = line.removeprefix("::error ").partition("::")
    assert len(properties.split(",")) == 3
    assert message.replace("%0A", "\n").replace("%0D", "\r").replace("%25", "%") == text


def test_what_was_not_run_is_no_failure() -> None:
    stopped = JobResult("b", STOPPED, BAD.checks)
    assert list(github_annotations(JOBS, [stopped], "zoo.yaml", THERE)) == []


@pytest.mark.parametrize("jobs", [[], [Job("b", "in", "out/b", Options("uer"), line=0)]])
def test_a_job_of_no_line_is_shown_at_the_first(jobs: list[Job]) -> None:
    (line,) = github_annotations(jobs, [BAD], "zoo.yaml", THERE)
    assert ",line=1," in line


@pytest.mark.parametrize(("value", "number"), [("true", 1), ("false", 0), (None, 0)])
def test_the_process_environment_says_whether_anybody_listens(
    monkeypatch: pytest.MonkeyPatch, value: str | None, number: int
) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    if value is not None:
        monkeypatch.setenv("GITHUB_ACTIONS", value)
    assert len(list(github_annotations(JOBS, [BAD], "zoo.yaml"))) == number
