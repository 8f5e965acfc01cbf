"""Keys of jobs change with all that decides what a job does, and with nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from interlingua.convert.batch.jobs import Job
from interlingua.convert.batch.keys import job_key
from interlingua.convert.conversion import Options
from interlingua.convert.source import Asked

JOB = Job("m/uer", "in/m", "out/m/uer", Options("uer", Asked(config=Path("in/config.json"))))
KEY = job_key(JOB, "s", None, "1")


def test_the_key_is_the_same_each_time_and_a_digest() -> None:
    assert job_key(JOB, "s", None, "1") == KEY
    assert len(KEY) == 64


def with_options(**changes) -> Job:
    return replace(JOB, options=replace(JOB.options, **changes))


@pytest.mark.parametrize(
    "changed",
    [
        replace(JOB, name="other"),
        replace(JOB, line=9),
        replace(JOB, source="elsewhere/m"),
        replace(JOB, target="elsewhere/uer"),
        with_options(overwrite=True),
        with_options(sync=False),
        with_options(source=Asked(config=Path("elsewhere/config.json"))),
        with_options(source=Asked(config="elsewhere/config.json")),
    ],
)
def test_where_things_are_is_no_part_of_it(changed: Job) -> None:
    assert job_key(changed, "s", None, "1") == KEY


@pytest.mark.parametrize(
    "changed",
    [
        replace(JOB, source="in/n"),
        replace(JOB, target="out/m/n.bin"),
        replace(JOB, checks=()),
        replace(JOB, checks=("weights", "parity")),
        with_options(to="paddle"),
        with_options(container="torch-zip"),
        with_options(dtype="float16"),
        with_options(max_shard_size=None),
        with_options(residue="drop"),
        with_options(preserve="outputs"),
        with_options(keep_names=True),
        with_options(source=Asked(family="bert", config=Path("in/config.json"))),
    ],
)
def test_what_decides_the_output_is_part_of_it(changed: Job) -> None:
    assert job_key(changed, "s", None, "1") != KEY


def test_content_and_version_are_part_of_it() -> None:
    keys = {KEY, job_key(JOB, "t", None, "1"), job_key(JOB, "s", "g", "1"), job_key(JOB, "s", None, "2")}
    assert len(keys) == 4
