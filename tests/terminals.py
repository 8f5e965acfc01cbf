"""The command in a process of its own: piped, or with a terminal for its output."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

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
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    command = [sys.executable, "-m", "interlingua", *map(str, arguments)]
    with subprocess.Popen(command, env=environment(**given), stdin=side, stdout=side, stderr=side) as child:
        os.close(side)
        seen = b""
        while data := _read(main):
            seen += data
        child.wait(timeout=60)
    os.close(main)
    return seen.decode()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # The other side is closed.
        return b""
