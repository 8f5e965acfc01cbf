"""Run code in a framework, in a process of its own: in one process the frameworks crash each other."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "CUDA_VISIBLE_DEVICES": "",
    "GLOG_v": "3",
    "GLOG_minloglevel": "3",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
}


def run_in(framework: str, code: str, *args: str | os.PathLike[str], timeout: float = 300) -> str:
    """Run ``code`` with ``sys.argv[1:] == args`` where ``framework`` can be imported; return its standard output.

    Skips the test, naming the framework, where it is not installed; fails with the code's standard error
    where the code fails.
    """
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed")
    done = subprocess.run(
        [sys.executable, "-c", code, *(os.fspath(arg) for arg in args)],
        env={**os.environ, **QUIET},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(f"{framework} exited with {done.returncode}:\n{done.stderr[-4000:]}", pytrace=False)
    return done.stdout
