"""Pages whose commands are run: what they show has to be what is printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

FENCE = re.compile(r"^( *)```(\w+) ?(\S*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


def environment(**more: str) -> Mapping[str, str]:
    """Return this process's environment with its Python first on the path."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith(("GITHUB_", "GIT_"))}
    return {**ours, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", **more}


def blocks(page: str) -> Iterator[tuple[str, str, str]]:
    """Yield (language, file name, text) of a page's blocks of code, without their indentation."""
    for indent, kind, name, body in FENCE.findall(page):
        yield kind, name, re.sub(f"^{indent}", "", body, flags=re.MULTILINE)


def follow(page: str, folder: Path, **variables: str) -> int:
    """Write the manifests of a page and run its commands, in order; return how many there were.

    A command's output has to have the lines that the page shows under it, in their order.
    """
    commands, status = 0, 0
    for kind, name, text in blocks(page):
        if kind == "yaml" and name:
            (folder / name).write_text(text)
        for command, shown in COMMAND.findall(text) if kind == "console" else ():
            done = subprocess.run(
                ["bash", "-c", f"(exit {status})\n{command}"],
                cwd=folder,
                env=environment(**variables),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=300,
            )
            commands, status = commands + 1, done.returncode
            lines = shown.splitlines()
            missing = absent(lines, done.stdout.splitlines())
            assert missing is None, f"$ {command}: no {missing!r} in\n{done.stdout}"
            assert status == 0 or lines, f"$ {command}\n{done.stdout}"
    return commands


def absent(shown: list[str], printed: list[str]) -> str | None:
    """Return the first of the shown lines that is not among the printed ones, after those before it."""
    left = iter(" ".join(line.split()) for line in printed)
    for line in shown:
        wanted = re.escape(" ".join(line.split())).replace("\\ …\\ ", "\\ (?:.*\\ )?").replace("…", ".*")
        if not any(re.fullmatch(wanted, each) for each in left):
            return line
    return None
