"""Failures as commands to GitHub's workflow runner, which shows them beside the manifest's lines."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from interlingua.convert.batch.jobs import FAILED, Job, JobResult

VARIABLE = "GITHUB_ACTIONS"
"""Environment variable that is ``true`` where that runner listens."""


def github_annotations(
    jobs: Sequence[Job],
    results: Sequence[JobResult],
    manifest: str,
    environment: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Yield a line for each check that failed; none where nobody listens.

    Args:
        jobs: the jobs, with the manifest's lines that they come from.
        results: what became of them.
        manifest: the manifest's path.
        environment: the environment; None: this process's.
    """
    if (os.environ if environment is None else environment).get(VARIABLE) != "true":
        return
    lines = {job.name: job.line for job in jobs}
    for result in results:
        if result.status != FAILED:
            continue
        for check in result.checks:
            if not check.ok:
                place = {"file": manifest, "line": str(max(1, lines.get(result.name, 1)))}
                yield _command("error", {**place, "title": f"{result.name}: {check.name}"}, check.text)


def _command(name: str, properties: Mapping[str, str], message: str) -> str:
    values = ",".join(f"{key}={_escaped(value, PROPERTY)}" for key, value in properties.items())
    return f"::{name} {values}::{_escaped(message, MESSAGE)}"


MESSAGE = {"%": "%25", "\r": "%0D", "\n": "%0A"}
PROPERTY = {**MESSAGE, ":": "%3A", ",": "%2C"}
"""What the runner would read as something else, and how it is spelled: the percent sign first."""


def _escaped(text: str, signs: Mapping[str, str]) -> str:
    for sign, spelled in signs.items():
        text = text.replace(sign, spelled)
    return text
