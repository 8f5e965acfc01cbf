"""The command in a process of its own: piped, or with a terminal for its output."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.pictures import screen
from tests.conftest import ROOT

STYLE_VARIABLES = ("NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS", "LINES")


def environment(**given: str) -> dict[str, str]:
    """Return this process's environment without what changes how output looks, and with what is given."""
    kept = {name: value for name, value in os.environ.items() if name not in STYLE_VARIABLES}
    return {**kept, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **given}


def piped(*arguments: object, **given: str) -> subprocess.CompletedProcess[str]:
    """Run a command with its output in pipes."""
    command = [sys.executable, "-m", "interlingua", *map(str, arguments)]
    return subprocess.run(command, env=environment(**given), capture_output=True, text=True, check=False, timeout=120)


def terminal(*arguments: object, columns: int = 80, **given: str) -> str:
    """Return what a command prints to a terminal, both of its streams."""
    command = [sys.executable, "-m", "interlingua", *map(str, arguments)]
    return screen(command, environment(**given), columns)[1]
