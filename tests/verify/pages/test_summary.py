"""A batch's JSON as Markdown: what failed and why, and nothing of it markup."""

from __future__ import annotations

import html
import json
import subprocess
import sys
from pathlib import Path

import pytest

from interlingua.convert.batch.jobs import DONE, FAILED, STOPPED, CheckResult, JobResult
from interlingua.convert.batch.results import batch_dict
from interlingua.verify.pages.summary import LONGEST, SHOWN, counts, summary


def failed(name: str, text: str, check: str = "weights") -> JobResult:
    return JobResult(name, FAILED, (CheckResult("convert", True, "fine"), CheckResult(check, False, text)), exit_code=1)


def rows(markdown: str) -> list[str]:
    return [line for line in markdown.splitlines() if line.startswith("| ")][2:]


def test_counts_and_failures_are_shown() -> None:
    batch = batch_dict([JobResult("a/uer", DONE), failed("b/uer", "cut short"), JobResult("c/uer", STOPPED)])
    text = summary(batch)
    assert "not all is well" in text
    assert "1 done, 0 skipped, 1 failed, 1 stopped" in text
    assert rows(text) == ["| b/uer | weights | cut short |"]
    assert counts(batch) == {"done": 1, "skipped": 0, "failed": 1, "stopped": 1}


def test_a_batch_that_is_well_has_no_table() -> None:
    text = summary(batch_dict([JobResult("a/uer", DONE)]))
    assert "all is well" in text
    assert "|" not in text


@pytest.mark.parametrize(
    "text",
    [
        "a | b",
        "two\nlines\r\nand | more",
        "<img src=x onerror=alert(1)>",
        "![x](https://example.org/x.png)",
        "[x](javascript:alert(1))",
        "`code` *bold* _emphasis_ ~struck~",
        "@everyone and #1",
        "see https://example.org or www.example.org",
        "&#124; \\| \\",
    ],
)
def test_nothing_in_a_failure_is_markup(text: str) -> None:
    (row,) = rows(summary(batch_dict([failed("n", text)])))
    _, _, name, check, cell, end = [part.strip() for part in ("", *row.split("|"))]
    assert (name, check, end) == ("n", "weights", "")
    assert html.unescape(cell) == " ".join(text.split())
    for sign in "<>[]!`*_~@#\\":
        assert sign not in cell.replace("&#", "")
    assert "://" not in cell
    assert "www." not in cell


def test_a_page_s_room_is_kept() -> None:
    text = summary(batch_dict([failed(f"n{number}", "x" * 10_000) for number in range(SHOWN + 5)]))
    assert len(rows(text)) == SHOWN
    assert "... and 5 more." in text
    assert max(map(len, text.splitlines())) < LONGEST + 100
    assert len(text.encode("utf-8")) < 1 << 20


def test_a_plan_lists_what_cannot_be_opened() -> None:
    jobs = [{"name": "a/uer", "problem": None}, {"name": "b/uer", "problem": "models/b: does not exist."}]
    text = summary({"jobs": jobs, "disk": 1_000_000})
    assert "2 jobs, up to 1,000,000 bytes" in text
    assert rows(text) == ["| b/uer | models/b&#58; does not exist. |"]
    assert counts({"jobs": jobs, "disk": 1}) == {}


def test_the_command_prints_either(tmp_path: Path) -> None:
    (tmp_path / "batch.json").write_text(json.dumps(batch_dict([failed("b/uer", "cut short")])))
    command = [sys.executable, "-m", "interlingua.verify.pages.summary", str(tmp_path / "batch.json")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert "| b/uer | weights | cut short |" in printed
    printed = subprocess.run([*command, "counts"], capture_output=True, text=True, check=True, timeout=60).stdout
    assert printed.splitlines() == ["done=0", "skipped=0", "failed=1", "stopped=0"]
