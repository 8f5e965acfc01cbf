"""Run each side's reference encoder in a process of its own, with a time limit; whatever becomes of it is a result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interlingua.verify.encoders.request import Ran, Request

TIMEOUT = 900.0
"""Seconds that a side may take unless somebody says otherwise."""

QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "USE_TF": "0",
    "GLOG_minloglevel": "3",
    "GLOG_v": "4",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONFAULTHANDLER": "1",
    "NVIDIA_TF32_OVERRIDE": "0",
}
"""Environment of a side's process: no log of the framework's, no network, no TF32."""

START = "import sys; sys.path.append(sys.argv.pop(1)); from interlingua.verify.encoders.worker import main; main()"
"""The package's folder comes last, so that what the other interpreter has installed goes first."""

LAST = 1200
"""Characters of a process's standard error that a failure quotes."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a side's process.

    Attributes:
        ran: what ran; None where nothing did to its end.
        failure: why not, in a sentence; None where it did.
        refused: (reference, reason) of those that could not run.
        seconds: what it took.
        detail: the end of what the process said, for ``--debug``.
    """

    ran: Ran | None
    failure: str | None
    refused: tuple[tuple[str, str], ...]
    seconds: float
    detail: str = ""


def run(request: Request, folder: Path, *, interpreter: str | None = None, timeout: float = TIMEOUT) -> Answer:
    """Run a request in a process of its own.

    Args:
        request: what to run.
        folder: an empty folder for what the two processes tell each other.
        interpreter: the Python that the framework is installed in; None: this one.
        timeout: seconds after which the process is killed.
    """
    asked, answered, said = folder / "request.json", folder / "response.json", folder / "stderr"
    request.dump(asked)
    parent = str(Path(__file__).parents[3])
    python = sys.executable if interpreter is None else interpreter
    # The process starts in a folder of its own, where a relative path would lead elsewhere.
    python = os.path.abspath(python) if os.sep in python else python
    command = [python, "-c", START, parent, str(asked), str(answered)]
    started = time.monotonic()
    with said.open("wb") as errors:
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=_environment(request),
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
            )
        except OSError as error:
            return Answer(None, f"{command[0]} cannot be started: {error.strerror}", (), 0.0)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _kill(process)
    seconds = time.monotonic() - started
    detail = _tail(said)
    if code is None:
        return Answer(
            None, f"{request.framework} had not finished after {timeout:g} s and was stopped", (), seconds, detail
        )
    if code != 0 or not answered.is_file():
        return Answer(None, f"{request.framework}'s process {_ending(code)}: {_last_line(detail)}", (), seconds, detail)
    try:
        return _read(json.loads(answered.read_text(encoding="utf-8")), seconds, detail)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # The other interpreter may have this package from another time.
        why = f"{type(error).__name__}: {error}"
        return Answer(
            None, f"{request.framework}'s process gave an answer that cannot be read: {why}", (), seconds, detail
        )


def _environment(request: Request) -> dict[str, str]:
    environment = {**os.environ, **QUIET}
    if request.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    if "transformers-tf" in request.references:
        environment["USE_TF"] = "1"
        environment["TF_USE_LEGACY_KERAS"] = "1"
    if request.threads:
        environment["OMP_NUM_THREADS"] = str(request.threads)
    return environment


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started, whatever state they are in."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    process.wait()


def _ending(code: int) -> str:
    if code < 0:
        return f"died of {signal.Signals(-code).name}" if -code in set(signal.Signals) else f"died of signal {-code}"
    return f"ended with exit code {code}"


def _tail(path: Path) -> str:
    data = path.read_bytes()[-8 * LAST :]
    return data.decode("utf-8", "replace")[-LAST:]


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"


def _read(answer: Mapping[str, Any], seconds: float, detail: str) -> Answer:
    refused = tuple((str(name), str(reason)) for name, reason in answer.get("refused", ()))
    if "ran" in answer:
        return Answer(Ran(**answer["ran"]), None, refused, seconds)
    reasons = "; ".join(f"{name}: {reason}" for name, reason in refused)
    return Answer(
        None, f"{answer['error']}{f' ({reasons})' if reasons else ''}", refused, seconds, answer.get("trace", detail)
    )
