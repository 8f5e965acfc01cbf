"""A batch's JSON as Markdown, for the page that a CI system shows of a run: ``python -m`` this module FILE.json."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from interlingua.convert.batch.jobs import DONE, FAILED, SKIPPED, STOPPED

SHOWN = 100
"""Failures that are shown; a page has room for a megabyte."""

LONGEST = 500
"""Characters that are shown of one failure."""


def summary(document: Mapping[str, Any]) -> str:
    """Return Markdown of what ``interlingua batch --json`` printed, for a run or for a plan (``--dry-run``)."""
    return "\n".join(_plan(document) if "disk" in document else _run(document)) + "\n"


def counts(document: Mapping[str, Any]) -> dict[str, int]:
    """Return how many jobs became what; nothing of a plan."""
    return {status: int(document[status]) for status in (DONE, SKIPPED, FAILED, STOPPED) if status in document}


def _run(document: Mapping[str, Any]) -> Iterator[str]:
    found = counts(document)
    yield f"### Batch: {'all is well' if document['ok'] else 'not all is well'}"
    yield ""
    yield ", ".join(f"{count} {status}" for status, count in found.items())
    failures = list(_failures(document))
    if failures:
        yield from ("", "| job | check | why |", "| --- | --- | --- |", *failures[:SHOWN])
    if len(failures) > SHOWN:
        yield from ("", f"... and {len(failures) - SHOWN} more.")


def _failures(document: Mapping[str, Any]) -> Iterator[str]:
    for job in document["jobs"]:
        if job["status"] == FAILED:
            for check in job["checks"]:
                if not check["ok"]:
                    yield f"| {_cell(job['name'])} | {_cell(check['name'])} | {_cell(check['text'])} |"


def _plan(document: Mapping[str, Any]) -> Iterator[str]:
    jobs = document["jobs"]
    problems = [job for job in jobs if job["problem"] is not None]
    yield "### Batch: the plan"
    yield ""
    yield f"{len(jobs)} jobs, up to {document['disk']:,} bytes to be written"
    if problems:
        yield from ("", "| job | cannot be opened |", "| --- | --- |")
        yield from (f"| {_cell(job['name'])} | {_cell(job['problem'])} |" for job in problems[:SHOWN])


def _cell(text: str) -> str:
    """Return text as one cell of a table, in which nothing that a file or a manifest says is markup."""
    line = " ".join(text.split())
    line = line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
    # Character references are read after markup is: what is spelled so is text.
    return re.sub(r"[^\w\s.,;/'()+-]|_|://|www\.", lambda found: "".join(f"&#{ord(sign)};" for sign in found[0]), line)


def main(path: str, *what: str) -> None:
    """Print the summary of a file; with ``counts``, a line of ``status=number`` for each status instead."""
    document = json.loads(Path(path).read_text(encoding="utf-8"))
    if what == ("counts",):
        for status, count in counts(document).items():
            print(f"{status}={count}")
    else:
        print(summary(document), end="")


if __name__ == "__main__":
    main(*sys.argv[1:])
