"""JUnit XML: always valid, one case a job and check, and it says what went wrong."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlingua.convert.batch.jobs import DONE, FAILED, SKIPPED, STOPPED, CheckResult, JobResult
from interlingua.errors import OutputError
from interlingua.verify.pages.junit import MESSAGE, NOT_RUN, UNCHANGED, junit, write_junit

GOOD = JobResult("a", DONE, (CheckResult("convert", True, "6 files.", 1.5), CheckResult("weights", True)), 2.0)
BAD = JobResult("b", FAILED, (CheckResult("convert", False, "first line\nsecond & <third>", 0.25),), 0.25, exit_code=3)
SAME = JobResult("c", SKIPPED, (CheckResult("convert", True),))
STOPPED_JOB = JobResult("d", STOPPED)

TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=20)
CHECKS = st.builds(CheckResult, TEXT, st.booleans(), TEXT, st.floats(0, 1e6))
RESULTS = st.lists(
    st.builds(JobResult, TEXT, st.sampled_from([DONE, SKIPPED, FAILED, STOPPED]), st.tuples(CHECKS), st.floats(0, 1e6)),
    max_size=4,
)


def test_each_job_and_check_is_a_case() -> None:
    top = ElementTree.fromstring(junit([GOOD, BAD, SAME, STOPPED_JOB], "zoo.yaml"))
    (suite,) = top
    assert suite.attrib == {
        "name": "zoo.yaml",
        "tests": "5",
        "failures": "1",
        "errors": "0",
        "skipped": "2",
        "time": "2.250",
    }
    cases = [(case.get("classname"), case.get("name"), [child.tag for child in case]) for case in suite]
    assert cases == [
        ("a", "convert", ["system-out"]),
        ("a", "weights", []),
        ("b", "convert", ["failure"]),
        ("c", "convert", ["skipped"]),
        ("d", "convert", ["skipped"]),
    ]
    assert suite[0].get("time") == "1.500"


def test_a_failure_has_its_first_line_as_message_and_all_as_text() -> None:
    failure = ElementTree.fromstring(junit([BAD])).find(".//failure")
    assert failure is not None
    assert failure.attrib == {"message": "first line", "type": "exit code 3"}
    assert failure.text == "first line\nsecond & <third>"


@given(RESULTS, TEXT)
def test_it_is_valid_whatever_names_and_texts_hold(results: list[JobResult], suite: str) -> None:
    top = ElementTree.fromstring(junit(results, suite))
    assert len(list(top.iter("testcase"))) == len(results)
    for case, result in zip(top.iter("testcase"), results, strict=True):
        failed = result.status in (DONE, FAILED) and not result.checks[0].ok
        assert (case.find("failure") is not None) == failed


def test_signs_that_no_xml_holds_are_spelled() -> None:
    bad = JobResult("x\x00\ud800", FAILED, (CheckResult("convert", False, "\x1b[31mred\ufffe"),))
    case = next(ElementTree.fromstring(junit([bad])).iter("testcase"))
    assert case.get("classname") == r"x\x00\ud800"
    assert case[0].text == r"\x1b[31mred\ufffe"


def test_it_appears_whole_or_what_was_there_stays(tmp_path: Path) -> None:
    write_junit([GOOD], tmp_path / "a.xml")
    assert (tmp_path / "a.xml").read_bytes() == junit([GOOD])
    with pytest.raises(OutputError):
        write_junit([GOOD], tmp_path / "absent" / "a.xml")
    assert [path.name for path in tmp_path.iterdir()] == ["a.xml"]


def test_what_was_not_run_says_whether_it_needed_to_be() -> None:
    cases = list(ElementTree.fromstring(junit([SAME, STOPPED_JOB])).iter("skipped"))
    assert [case.get("message") for case in cases] == [UNCHANGED, NOT_RUN]


@pytest.mark.parametrize("status", [SKIPPED, STOPPED])
def test_what_was_not_run_is_no_failure_whatever_its_checks_say(status: str) -> None:
    case = next(ElementTree.fromstring(junit([JobResult("a", status, BAD.checks)])).iter("testcase"))
    assert [child.tag for child in case] == ["skipped"]


def test_a_job_that_failed_has_a_failure_for_each_check_that_did() -> None:
    both = JobResult("a", FAILED, (CheckResult("convert", True), CheckResult("parity", False, "no")), exit_code=1)
    top = ElementTree.fromstring(junit([both]))
    assert [[child.tag for child in case] for case in top.iter("testcase")] == [[], ["failure"]]
    assert top.get("failures") == "1"


def test_a_job_that_failed_before_any_check_is_a_failure() -> None:
    top = ElementTree.fromstring(junit([JobResult("a", FAILED, exit_code=70)]))
    assert (top.get("tests"), top.get("failures")) == ("1", "1")


@pytest.mark.parametrize("text", ["", "\n", "x" * 10_000, "\n\nlate"])
def test_a_failure_has_a_message_of_one_line_and_no_end(text: str) -> None:
    bad = JobResult("a", FAILED, (CheckResult("convert", False, text),))
    failure = next(ElementTree.fromstring(junit([bad])).iter("failure"))
    message = failure.get("message", "")
    assert len(message) <= MESSAGE
    assert "\n" not in message
    assert failure.text == (text or "It failed without a word.")
