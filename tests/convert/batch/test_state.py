"""The state of batches: kept through a kill, and never taken for what it is not."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from interlingua.convert.batch.digests import Stamp
from interlingua.convert.batch.jobs import DONE, CheckResult, JobResult
from interlingua.convert.batch.state import NAME, BatchState
from interlingua.errors import FormatError, OutputError
from tests.conftest import ROOT

RESULT = JobResult(
    "m/uer", DONE, (CheckResult("convert", True, "2 files", 0.5),), 1.5, 77, 0, {"a": "1"}, "f" * 64, "bert", "r.html"
)
KEY = Stamp((1 << 64) - 1, (1 << 64) - 2, 5, 10**18, 10**18 + 1)


def test_what_is_kept_is_there_after_reopening(tmp_path: Path) -> None:
    with BatchState(tmp_path) as state:
        assert (state.job("m/uer"), state.digest(KEY), state.fingerprint("s")) == (None, None, None)
        state.keep_job("key", RESULT)
        state.keep_digest(KEY, "d")
        state.keep_fingerprint("s", "f")
    with BatchState(tmp_path) as state:
        kept = state.job("m/uer")
        assert kept is not None
        assert (kept.key, kept.result) == ("key", RESULT)
        assert (state.digest(KEY), state.fingerprint("s")) == ("d", "f")
    assert os.listdir(tmp_path) == [NAME]


@pytest.mark.parametrize("field", ["device", "inode", "size", "mtime_ns", "ctime_ns"])
def test_a_digest_is_of_one_stamp(tmp_path: Path, field: str) -> None:
    from dataclasses import replace

    with BatchState(tmp_path) as state:
        state.keep_digest(KEY, "d")
        assert state.digest(replace(KEY, **{field: 3})) is None


def interrupted(state: BatchState) -> None:
    with state.together():
        state.keep_digest(KEY, "e")
        state.keep_fingerprint("s", "f")
        raise KeyboardInterrupt


def test_what_is_kept_together_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    with BatchState(tmp_path) as state:
        with state.together():
            state.keep_digest(KEY, "d")
            state.keep_job("key", RESULT)
        assert state.digest(KEY) == "d"
        with pytest.raises(KeyboardInterrupt):
            interrupted(state)
    with BatchState(tmp_path) as state:
        assert (state.digest(KEY), state.fingerprint("s")) == ("d", None)


def test_the_last_one_counts(tmp_path: Path) -> None:
    with BatchState(tmp_path) as state:
        for key in ("one", "two"):
            state.keep_job(key, RESULT)
        kept = state.job("m/uer")
        assert kept is not None
        assert kept.key == "two"


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()


def newer(path: Path) -> None:
    BatchState(path.parent).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


def cut(path: Path) -> None:
    BatchState(path.parent).close()
    path.write_bytes(path.read_bytes()[:1000])


def scribbled(path: Path) -> None:
    BatchState(path.parent).close()
    data = path.read_bytes()
    path.write_bytes(data[:100] + b"\xff" * (len(data) - 100))


def text(path: Path) -> None:
    path.write_text("this is no database" * 100)


@pytest.mark.parametrize("spoil", [foreign, newer, cut, scribbled, text])
def test_a_file_that_is_no_state_is_one_clear_error_and_stays_as_it_is(tmp_path: Path, spoil) -> None:
    spoil(tmp_path / NAME)
    before = (tmp_path / NAME).read_bytes()
    with pytest.raises(FormatError, match=r"is not a batch's state: .*Move it away"):
        BatchState(tmp_path)
    assert (tmp_path / NAME).read_bytes() == before


def test_a_row_that_makes_no_sense_is_an_error(tmp_path: Path) -> None:
    with BatchState(tmp_path) as state:
        state.keep_job("key", RESULT)
    with sqlite3.connect(tmp_path / NAME) as connection:
        connection.execute("UPDATE jobs SET result = '{'")
    connection.close()
    with BatchState(tmp_path) as state, pytest.raises(FormatError, match="is not a batch's state"):
        state.job("m/uer")


def test_a_folder_that_is_not_there_is_an_error_of_the_output(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        BatchState(tmp_path / "absent")


def test_an_empty_file_is_where_a_killed_batch_began(tmp_path: Path) -> None:
    (tmp_path / NAME).touch()
    with BatchState(tmp_path) as state:
        state.keep_job("key", RESULT)


KILLED = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from interlingua.convert.batch.state import BatchState
from tests.convert.batch.test_state import RESULT
state = BatchState(Path(sys.argv[1]))
for number in range(100):
    state.keep_job(str(number), replace(RESULT, name=f"job {number}"))
    if number == 40:
        state._connection.execute("BEGIN")
        state.keep_job("half", replace(RESULT, name="half"))
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_kill_9_loses_nothing_that_was_kept_and_keeps_no_half(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    with BatchState(tmp_path) as state:
        assert all(state.job(f"job {number}") for number in range(41))
        assert state.job("half") is None
