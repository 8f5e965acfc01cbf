"""The lock of a batch: who holds it is named, and it ends with the last process that holds it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from interlingua.convert.batch import lock as module
from interlingua.convert.batch.lock import NAME, batch_lock
from interlingua.errors import OutputError
from tests.conftest import ROOT

HOLD = """
import sys, time
from pathlib import Path
from interlingua.convert.batch.lock import batch_lock
with batch_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_is_told_who_the_first_is(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        words = f"another batch is at work here: process {process.pid} on "
        with pytest.raises(OutputError, match=words), batch_lock(tmp_path):
            pass
        process.communicate("", timeout=30)
    with batch_lock(tmp_path):
        pass


def test_it_ends_with_a_killed_process(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with batch_lock(tmp_path):
        pass


def test_a_copy_keeps_it_and_a_process_that_is_gone_is_waited_for(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    with batch_lock(tmp_path) as fd:
        copy = os.dup(fd)
    (tmp_path / NAME).write_text('{"process": 99999999, "host": "' + os.uname().nodename + '", "since": "then"}')
    waits: list[float] = []
    sleep = module.time.sleep
    monkeypatch.setattr(module.time, "sleep", lambda seconds: (waits.append(seconds), sleep(seconds)))
    with pytest.raises(OutputError, match="process 99999999"), batch_lock(tmp_path):
        pass
    assert waits
    os.close(copy)
    with batch_lock(tmp_path):
        pass


def test_a_lock_without_a_word_is_still_one(tmp_path: Path) -> None:
    with batch_lock(tmp_path):
        (tmp_path / NAME).write_text("?")
        with pytest.raises(OutputError, match="a process that has not said who it is"), batch_lock(tmp_path):
            pass


def test_a_place_that_cannot_be_written_is_an_error_of_the_output(tmp_path: Path) -> None:
    with pytest.raises(OutputError), batch_lock(tmp_path / "absent"):
        pass
