"""What a benchmark ran on, in words that name the machine's kind and not the machine: no host names, no paths."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

WRITTEN = 256 << 20
"""Bytes that are written to learn how fast the disk is."""

VERSIONS = """
import json, sys
from importlib import metadata
def version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
print(json.dumps({name: version(name) for name in sys.argv[1:]}))
"""


def description(folder: Path) -> list[tuple[str, str]]:
    """Return (what, found) of the machine and of the file system that a folder is on."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return [
        ("processor", f"{processor()}, {len(os.sched_getaffinity(0))} cores"),
        ("memory", f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.1f} GB"),
        ("disk", f"{file_system(folder)}, {disk_speed(folder) / 1e6:.0f} MB/s written and synced"),
        ("system", f"{platform.system()} {platform.release().partition('-')[0]}, {distribution()}"),
        ("`cp`", first_line("cp", "--version")),
        ("Python", platform.python_version()),
        *((name, version or "not installed") for name, version in versions(sys.executable, OURS).items()),
        ("load when it began", f"{load} (1, 5, 15 minutes)"),
    ]


OURS = ("interlingua", "numpy", "ml_dtypes", "isal", "crc32c")
"""Packages on which a conversion's time depends."""


def processor() -> str:
    """Return the processor's name; its architecture where the system does not tell."""
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.machine()


def distribution() -> str:
    """Return the name of the system's distribution."""
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown distribution")
    except OSError:
        return "unknown distribution"


def file_system(folder: Path) -> str:
    """Return the type of the file system that a folder is on."""
    there = folder.resolve()
    found: dict[Path, str] = {}
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, place, kind, *_ = line.split(" ")
        found[Path(place.replace("\\040", " "))] = kind  # What is mounted last is on top.
    return next((found[place] for place in (there, *there.parents) if place in found), "unknown file system")


def disk_speed(folder: Path) -> float:
    """Return the bytes a second with which a new file gets to the disk."""
    path, block = folder / "disk-speed", os.urandom(8 << 20)
    started = time.perf_counter()
    try:
        with path.open("wb") as file:
            for _ in range(WRITTEN // len(block)):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        return WRITTEN / (time.perf_counter() - started)
    finally:
        path.unlink(missing_ok=True)


def first_line(*command: str) -> str:
    """Return the first line that a command prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]


def versions(interpreter: str, packages: Iterable[str]) -> dict[str, str | None]:
    """Return the version of each package that an interpreter has, None where it lacks it; none is imported."""
    command = [interpreter, "-I", "-c", VERSIONS, *packages]
    found: dict[str, str | None] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return found
