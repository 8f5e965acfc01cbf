"""A batch as one HTML page that needs nothing else: a table of models and dialects, and why what failed did."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from interlingua.convert.batch.jobs import DONE, FAILED, SKIPPED, STOPPED, Job, JobResult
from interlingua.verify.pages.environment import template
from interlingua.verify.pages.files import write_whole

TEMPLATE = "batch_page.html"

WORDS = {
    DONE: ("ok", "done"),
    SKIPPED: ("ok", "unchanged"),
    FAILED: ("FAIL", "FAILED"),
    STOPPED: ("unasked", "stopped"),
}
"""Status -> how it looks: a class, and its word."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One job in the table: its name, its status as a class and a word, and a link to its parity report."""

    name: str
    style: str
    word: str
    link: str | None


@dataclass(frozen=True, slots=True)
class Row:
    """One model in the table, and what became of it in each dialect."""

    model: str
    family: str
    cells: tuple[tuple[Cell, ...], ...]


def write_batch_page(
    jobs: Sequence[Job], results: Sequence[JobResult], path: Path, title: str, seconds: float = 0.0
) -> None:
    """Write the page; it appears whole, or what was there before stays.

    Raises:
        UsageError: Jinja2 is not installed.
        OutputError: it cannot be written.
    """
    text = batch_page(jobs, results, title, seconds, folder=path.parent)
    write_whole(path, text.encode("utf-8"))


def batch_page(
    jobs: Sequence[Job],
    results: Sequence[JobResult],
    title: str,
    seconds: float = 0.0,
    folder: Path | None = None,
) -> str:
    """Return the page's text.

    Args:
        jobs: the jobs.
        results: what became of them.
        title: what the batch is called.
        seconds: what it took.
        folder: where the page will be: links to reports start there; None: here.

    Raises:
        UsageError: Jinja2 is not installed.
    """
    failed = [result for result in results if result.status == FAILED]
    columns = tuple(dict.fromkeys(_dialect(job) for job in jobs))
    good = all(result.ok for result in results)
    context: dict[str, Any] = {
        "title": title,
        "style": "same" if good else "different" if failed else "convention",
        "sign": "✓" if good else "✗" if failed else "≈",
        "summary": _summary(results),
        "columns": columns,
        "rows": _rows(jobs, results, columns, folder or Path()),
        "failed": failed,
        "results": [(result, *WORDS[result.status]) for result in results],
        "seconds": seconds,
    }
    text: str = template(TEMPLATE).render(context)
    return text


def _summary(results: Sequence[JobResult]) -> str:
    counts = {word: sum(result.status == status for result in results) for status, (_, word) in WORDS.items()}
    return ", ".join(f"{count} {word.lower()}" for word, count in counts.items() if count) or "no jobs"


def _dialect(job: Job) -> str:
    return job.options.to or job.options.container or "names kept"


def _rows(jobs: Sequence[Job], results: Sequence[JobResult], columns: Sequence[str], folder: Path) -> list[Row]:
    by_name = {result.name: result for result in results}
    cells: dict[str, dict[str, list[Cell]]] = {}
    families: dict[str, str] = {}
    for job in jobs:
        result = by_name[job.name]
        cells.setdefault(job.source, {}).setdefault(_dialect(job), []).append(_cell(result, folder))
        families[job.source] = families.get(job.source) or result.family or ""
    return [
        Row(source, families[source], tuple(tuple(found.get(column, ())) for column in columns))
        for source, found in cells.items()
    ]


def _cell(result: JobResult, folder: Path) -> Cell:
    style, word = WORDS[result.status]
    link = None if result.report is None else quote(Path(os.path.relpath(result.report, folder)).as_posix())
    return Cell(result.name, style, word, link)
