"""The page of a batch: models by dialects, why what failed did, and harmless whatever names say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from interlingua.convert.batch.jobs import DONE, FAILED, SKIPPED, STOPPED, CheckResult, Job, JobResult
from interlingua.convert.conversion import Options
from interlingua.errors import OutputError
from tests.verify.pages.test_page import ACTIVE, Elements
from tests.verify.parity.outcomes import HOSTILE

pytest.importorskip("jinja2")
from interlingua.verify.pages.batch_page import batch_page, write_batch_page

JOBS = [
    Job("a/uer", "zoo/a", "out/a/uer", Options("uer")),
    Job("a/tf1", "zoo/a", "out/a/tf1", Options("tf1")),
    Job("b/uer", "zoo/b", "out/b/uer", Options("uer")),
    Job("b/npz", "zoo/b", "out/b.npz", Options(keep_names=True, container="npz")),
]
RESULTS = [
    JobResult("a/uer", DONE, (CheckResult("convert", True),), 1.25, fingerprint="f" * 64, family="bert"),
    JobResult("a/tf1", FAILED, (CheckResult("convert", False, "one\ntwo <b>"),), exit_code=3),
    JobResult("b/uer", SKIPPED, (CheckResult("convert", True),), report="reports/b=2Fuer?.html"),
    JobResult("b/npz", STOPPED),
]


def test_it_has_every_job_in_the_row_of_its_model_and_the_column_of_its_dialect() -> None:
    text = batch_page(JOBS, RESULTS, "zoo.yaml", 12.3)
    table = text.partition('<section id="models">')[2].partition("</section>")[0]
    rows = [Elements(row).text for row in table.split("<tr>")[1:]]
    assert rows == ["model family uer tf1 npz", "zoo/a bert done FAILED -", "zoo/b - unchanged parity - stopped"]
    assert "1 done, 1 unchanged, 1 failed, 1 stopped" in Elements(text).text


def test_it_says_why_what_failed_did() -> None:
    text = batch_page(JOBS, RESULTS, "zoo.yaml")
    assert "<pre>one\ntwo &lt;b&gt;</pre>" in text
    assert 'id="failed"' not in batch_page(JOBS[:1], RESULTS[:1], "zoo.yaml")


def test_links_lead_from_the_page_to_the_reports() -> None:
    text = batch_page(JOBS, RESULTS, "zoo.yaml", folder=Path("pages"))
    assert re.findall(r'href="([^"]*)"', text) == ["../reports/b%3D2Fuer%3F.html"]


def test_nothing_is_fetched_or_run_whatever_names_say() -> None:
    job = Job(HOSTILE, HOSTILE, "out", Options(HOSTILE))
    result = JobResult(
        HOSTILE, FAILED, (CheckResult(HOSTILE, False, HOSTILE),), family=HOSTILE, fingerprint=HOSTILE, report=HOSTILE
    )
    text = batch_page([job], [result], HOSTILE)
    elements = Elements(text)
    assert not ACTIVE & set(elements.tags)
    assert not [name for name in elements.attributes if name == "src" or name.startswith("on")]
    assert not re.search(r"url\(|@import|https?://", text)
    assert not {"\x1b", "\u202e"} & set(text)
    assert "default-src 'none'" in text


def test_it_appears_whole_or_what_was_there_stays(tmp_path: Path) -> None:
    write_batch_page(JOBS, RESULTS, tmp_path / "zoo.html", "zoo.yaml")
    assert (tmp_path / "zoo.html").read_text().startswith("<!doctype html>")
    with pytest.raises(OutputError):
        write_batch_page(JOBS, RESULTS, tmp_path / "absent" / "zoo.html", "zoo.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["zoo.html"]


def header(text: str) -> str:
    """Return the head of a page's text, from its class on."""
    return text.partition('<header class="verdict ')[2].partition("</header>")[0]


@pytest.mark.parametrize(
    ("statuses", "style", "sign", "summary"),
    [
        ([DONE, SKIPPED], "same", "✓", "1 done, 1 unchanged"),
        ([DONE, STOPPED], "convention", "≈", "1 done, 1 stopped"),
        ([FAILED, STOPPED], "different", "✗", "1 failed, 1 stopped"),
        ([FAILED, DONE, DONE], "different", "✗", "2 done, 1 failed"),
        ([], "same", "✓", "no jobs"),
    ],
)
def test_a_batch_looks_as_good_as_it_is(statuses: list[str], style: str, sign: str, summary: str) -> None:
    jobs = [Job(str(number), f"zoo/{number}", "out", Options("uer")) for number in range(len(statuses))]
    results = [JobResult(job.name, status) for job, status in zip(jobs, statuses, strict=True)]
    found = header(batch_page(jobs, results, "zoo.yaml", 12.34))
    assert found.startswith(f'{style}"')
    assert f"{sign}</span> {summary}<" in found.replace("</h1>", "<")
    assert "12.3 s" in found


def test_each_status_has_its_look_beside_its_word() -> None:
    text = batch_page(JOBS, RESULTS, "zoo.yaml")
    assert set(re.findall(r'<span class="word ([a-zA-Z]+)">([a-zA-Z]+)</span>', text)) == {
        ("ok", "done"),
        ("ok", "unchanged"),
        ("FAIL", "FAILED"),
        ("unasked", "stopped"),
    }


def test_only_what_failed_is_said_to_have_failed() -> None:
    failed = batch_page(JOBS, RESULTS, "zoo.yaml").partition('<section id="failed">')[2].partition("</section>")[0]
    assert re.findall("<h3>(.*?)</h3>", failed) == ["a/tf1"]
    assert "convert, exit code 3" in failed


def test_two_jobs_of_one_model_and_dialect_are_both_in_their_cell() -> None:
    jobs = [Job("one", "zoo/a", "out/1", Options("uer")), Job("two", "zoo/a", "out/2", Options("uer"))]
    results = [JobResult("one", DONE, family="bert"), JobResult("two", FAILED)]
    table = batch_page(jobs, results, "zoo.yaml").partition('<section id="models">')[2].partition("</section>")[0]
    assert Elements(table.split("<tr>")[2]).text == "zoo/a bert done FAILED"


def test_names_that_are_kept_have_a_column_too() -> None:
    text = batch_page([Job("a", "zoo/a", "out", Options(keep_names=True))], [JobResult("a", DONE)], "zoo.yaml")
    assert "<th>names kept</th>" in text


def test_links_of_a_written_page_lead_from_its_own_folder(tmp_path: Path) -> None:
    report = tmp_path / "reports" / "a.html"
    (tmp_path / "pages").mkdir()
    result = JobResult(JOBS[0].name, DONE, report=str(report))
    write_batch_page(JOBS[:1], [result], tmp_path / "pages" / "zoo.html", "zoo.yaml", 7.5)
    text = (tmp_path / "pages" / "zoo.html").read_text(encoding="utf-8")
    assert 'href="../reports/a.html"' in text
    assert "7.5 s" in text
