"""A batch as JUnit XML, which every CI system reads: one test case a job and check."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

from interlingua.convert.batch.jobs import SKIPPED, STOPPED, CheckResult, JobResult
from interlingua.verify.pages.files import write_whole

MESSAGE = 300
"""Characters of a failure's text that its one-line message has; its body has all."""

UNCHANGED = "Unchanged: the source, the options and the outputs are what they were."
NOT_RUN = "The batch was stopped before this job was finished."

_FORBIDDEN = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What no XML can hold; a carriage return would be read as a line feed."""


def write_junit(results: Sequence[JobResult], path: Path, suite: str = "interlingua batch") -> None:
    """Write the XML; it appears whole, or what was there before stays.

    Raises:
        OutputError: it cannot be written.
    """
    write_whole(path, junit(results, suite))


def junit(results: Sequence[JobResult], suite: str = "interlingua batch") -> bytes:
    """Return the XML, in UTF-8."""
    cases = [case for result in results for case in _cases(result)]
    failures = sum(case.find("failure") is not None for case in cases)
    skipped = sum(case.find("skipped") is not None for case in cases)
    counts = {"tests": str(len(cases)), "failures": str(failures), "errors": "0", "skipped": str(skipped)}
    seconds = f"{sum(result.seconds for result in results):.3f}"
    top = ElementTree.Element("testsuites", counts | {"time": seconds})
    inner = ElementTree.SubElement(top, "testsuite", {"name": _text(suite), **counts, "time": seconds})
    inner.extend(cases)
    ElementTree.indent(top)
    return bytes(ElementTree.tostring(top, encoding="utf-8", xml_declaration=True))


def _cases(result: JobResult) -> Iterator[ElementTree.Element]:
    for check in result.checks or (CheckResult("convert", result.ok),):
        names = {"classname": _text(result.name), "name": _text(check.name), "time": f"{check.seconds:.3f}"}
        case = ElementTree.Element("testcase", names)
        if result.status == SKIPPED:
            ElementTree.SubElement(case, "skipped", {"message": UNCHANGED})
        elif result.status == STOPPED:
            ElementTree.SubElement(case, "skipped", {"message": NOT_RUN})
        elif not check.ok:
            text = _text(check.text) or "It failed without a word."
            first = text.splitlines()[0] if text.splitlines() else text
            attributes = {"message": first[:MESSAGE], "type": f"exit code {result.exit_code}"}
            ElementTree.SubElement(case, "failure", attributes).text = text
        elif check.text:
            ElementTree.SubElement(case, "system-out").text = _text(check.text)
        yield case


def _text(text: str) -> str:
    """Return text with what no XML can hold spelled as an escape."""
    return _FORBIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
