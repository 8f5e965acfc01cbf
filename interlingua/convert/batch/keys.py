"""Keys of jobs: a job whose key is as it was would do again what it did."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from interlingua.convert.batch.jobs import Job
from interlingua.convert.batch.places import readable
from interlingua.convert.conversion import Options

ABOUT_THE_DISK = ("overwrite", "sync")
"""Options that change nothing in what is written."""


def options_dict(options: Options) -> dict[str, Any]:
    """Return the options that decide what is written, ready for JSON; files by their names, without their folders."""
    found = {key: value for key, value in asdict(options).items() if key not in ABOUT_THE_DISK}
    for key, value in found["source"].items():
        if isinstance(value, os.PathLike) or (key in ("config", "vocabulary") and value is not None):
            found["source"][key] = Path(value).name
    return found


def job_key(job: Job, source: str, golden: str | None, version: str) -> str:
    """Return the key of a job.

    Args:
        job: the job; its name and the folder it writes to are no part of the key.
        source: digest of its source's content.
        golden: digest of the file of activations; None: it has none.
        version: of this program.
    """
    parts = {
        "source": source,
        "source name": readable(job.source).name,
        "target name": readable(job.target).name,
        "options": options_dict(job.options),
        "checks": list(job.checks),
        "golden": golden,
        "version": version,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode("utf-8")).hexdigest()
