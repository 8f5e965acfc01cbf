"""Draw the README's pictures: three commands on a real model, as a terminal shows them. ``make pictures`` runs it.

The commands run on a pseudo-terminal; what they print is drawn as it is, colours included.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from benchmarks.minilm import NAME, fetch

COMMANDS = {
    "inspect": ("interlingua", "inspect", NAME),
    "convert": ("convert-checkpoint", NAME, "minilm-uer", "--to", "uer"),
    "parity": ("parity-check", NAME, "minilm-uer"),
}
"""Name of a picture -> the command in it; a later one works on what an earlier one made."""

COLUMNS = 112
LINES = 50

MOST = 38
"""Lines of a picture; what was cut off is said."""

OTHERWISE = ("COLUMNS", "LINES", "COLORTERM", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE")
"""Variables by which a terminal would look otherwise."""

FORMAT = re.sub(r"@font-face \{\{.*?\n    \}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
"""Rich's drawing without its fonts, which a reader's browser would fetch from elsewhere."""


def main() -> int:
    """Run the commands and write the pictures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pictures", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(".demo"), help="where the model is fetched to")
    parser.add_argument("--write", type=Path, required=True, metavar="FOLDER", help="where the pictures go")
    arguments = parser.parse_args()
    model = fetch(arguments.folder).resolve()
    with tempfile.TemporaryDirectory(prefix="interlingua-pictures-") as name:
        (Path(name) / NAME).symlink_to(model)
        for picture, command in COMMANDS.items():
            output = on_terminal(command, Path(name))
            (arguments.write / f"{picture}.svg").write_text(drawing(command, output), encoding="utf-8")
    return 0


def on_terminal(command: Sequence[str], folder: Path) -> str:
    """Return what a command prints on a terminal's screen.

    Raises:
        RuntimeError: it fails.
    """
    program = [str(Path(sys.executable).with_name(command[0])), *command[1:]]
    kept = {name: value for name, value in os.environ.items() if name not in OTHERWISE}
    environment = {**kept, "TERM": "xterm-256color"}
    with tempfile.TemporaryFile() as errors:
        # What moves while a command works goes to standard error, and is gone when it ends.
        code, seen = screen(program, environment, COLUMNS, cwd=folder, stderr=errors.fileno())
        errors.seek(0)
        if code:
            raise RuntimeError(f"{shlex.join(command)} exits with {code}: {errors.read().decode()}")
    return seen.replace("\r\n", "\n")


def screen(
    program: Sequence[str],
    environment: Mapping[str, str],
    columns: int,
    *,
    cwd: Path | None = None,
    stderr: int | None = None,
) -> tuple[int, str]:
    """Run a program on a pseudo-terminal; return its exit code, and what it printed there.

    Args:
        program: the program and its arguments.
        environment: its variables.
        columns: width of the terminal.
        cwd: the folder it is run in; None: this process's.
        stderr: descriptor of its standard error; None: the terminal.
    """
    main_end, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, columns, 0, 0))
    errors = side if stderr is None else stderr
    with subprocess.Popen(program, cwd=cwd, env=environment, stdin=side, stdout=side, stderr=errors) as child:
        os.close(side)
        seen = b""
        while data := _read(main_end):
            seen += data
        code = child.wait(timeout=60)
    os.close(main_end)
    return code, seen.decode()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:  # The other side is closed.
        return b""


def drawing(command: Sequence[str], output: str) -> str:
    """Return a picture (SVG) of a command and what it printed."""
    lines = output.rstrip("\n").split("\n")
    cut = len(lines) - MOST
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True, highlight=False)
    console.print(Text(f"$ {shlex.join(command)}", style="bold"))
    console.print(Text.from_ansi("\n".join(lines[:MOST])))
    if cut > 0:
        console.print(Text(f"... {cut} more lines", style="dim"))
    svg = console.export_svg(title=command[0], code_format=FORMAT, unique_id="terminal")
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
