"""Run commands of Interlingua with a fault each: a process that has everything imported, and forks for every run.

It runs with the shim preloaded (shim.c). Each line of its standard input is a request, ``{"argv": [...], "faults":
{...}, "stdout": path, "stderr": path}``, answered by a line ``{"code": ..., "seen": ...}``: the exit code (less than
zero for a signal) and the number of calls that the fault's conditions fit. What a run imports, opens and prints is
its own, so that runs know nothing of each other.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import signal
import sys
import time
import traceback
from typing import Any

from interlingua.cli import main as command
from interlingua.formats.registry import CONTAINERS

LIMIT = 60.0
"""Seconds after which a run is taken to hang."""


def run(argv: list[str]) -> int:
    """Carry out a command as the program does, and return its exit code."""
    try:
        command(argv, prog_name="interlingua")
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def child(request: dict[str, Any], answer: int) -> None:
    """Disturb and run one command in a process of its own; never returns."""
    shim = ctypes.CDLL(None)
    shim.faults_seen.restype = ctypes.c_long
    code = 1
    try:
        for number, key in ((1, "stdout"), (2, "stderr")):
            fd = os.open(request[key], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            os.dup2(fd, number)
            os.close(fd)
        os.environ.update(request["faults"])
        shim.faults_load()
        code = run(request["argv"])
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os.write(answer, str(shim.faults_seen()).encode())
        os._exit(code)


def serve(request: dict[str, Any]) -> dict[str, int]:
    """Run a request in a fork of this process."""
    out, answer = os.pipe()
    pid = os.fork()
    if pid == 0:
        child(request, answer)
    os.close(answer)
    deadline = time.monotonic() + LIMIT
    while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            ended = os.waitpid(pid, 0)
            os.close(out)
            raise TimeoutError(f"hangs: {request}")
        time.sleep(0.001)
    seen = os.read(out, 100)
    os.close(out)
    return {"code": os.waitstatus_to_exitcode(ended[1]), "seen": int(seen or -1)}


def main() -> None:
    """Import whatever commands import, by running some on the model named on the command line; then serve."""
    model, folder = sys.argv[1:]
    for container in CONTAINERS.values():
        container.load()
    with open(os.devnull, "w") as sink, contextlib.redirect_stdout(sink):
        for argv in (
            ["convert", model, f"{folder}/warm", "--to", "uer"],
            ["inspect", model, "--json"],
            ["inspect", model],
        ):
            if run(argv) != 0:
                raise SystemExit(1)
        run(["diff", model, f"{folder}/warm"])
        run(["fingerprint", model])
    gc.freeze()  # A collection in a fork would copy every page.
    gc.disable()
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(serve(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
