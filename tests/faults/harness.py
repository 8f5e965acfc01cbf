"""Faults, runs with a fault, and the sweep of a fault over every call of a kind."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.families import realistic, write_model
from interlingua.convert.commit import MARK
from interlingua.mappings.schema import FAMILIES
from tests.conftest import ROOT

ALL = bool(os.environ.get("INTERLINGUA_FAULTS"))
"""Whether every call is disturbed in turn (``make test-faults``); otherwise a sample of them, the same each time."""

SAMPLE = 3
"""Calls of a kind that are disturbed in one sweep, of those between the first two and the last two."""

LAST = 1 << 30
"""More calls than any run makes: nothing is disturbed."""

TRANSFERS = "read,readv,pread,preadv,copy_file_range,sendfile"
WRITES = "write,writev,pwrite,pwritev,copy_file_range,sendfile"

Tree = dict[str, bytes]


@dataclass(frozen=True)
class Fault:
    """One fault of the system.

    Attributes:
        calls: the calls it may befall, with commas between.
        action: what happens (shim.c).
        number: the error that is given, by its name.
        lasting: whether every later call fares the same.
        at: the number of the call, from 1; 0: all of them.
        offset: where ``change`` changes a byte.
    """

    calls: str
    action: str = "error"
    number: str = "EIO"
    lasting: bool = False
    at: int = 0
    offset: int = 0

    def settings(self, path: Path, report: Path, target: Path | None) -> dict[str, str]:
        """Return it as the shim reads it, for calls on what is at ``path`` or below."""
        found = {
            "FAULT_CALLS": f",{self.calls},",
            "FAULT_PATH": os.fspath(path),
            "FAULT_AT": str(self.at),
            "FAULT_ACTION": self.action,
            "FAULT_ERRNO": str(getattr(errno, self.number)),
            "FAULT_TARGET": os.fspath(target or ""),
            "FAULT_OFFSET": str(self.offset),
            "FAULT_REPORT": os.fspath(report),
        }
        return {**found, "FAULT_LASTING": "1"} if self.lasting else found

    def __str__(self) -> str:
        what = self.number if self.action == "error" else self.action
        return f"{what} at {self.calls}{' from then on' if self.lasting else ''}"


@dataclass(frozen=True)
class Run:
    """What came of a command.

    Attributes:
        code: its exit code; less than zero: the signal that ended it.
        seen: the calls that the fault's conditions fitted; -1 where the process was killed.
        disturbed: the calls that were disturbed, by name.
        output: what it printed.
        errors: what it said on standard error.
    """

    code: int
    seen: int
    disturbed: tuple[str, ...]
    output: str
    errors: str


@dataclass
class Server:
    """The process that runs commands (server.py), and a folder for what they print."""

    process: subprocess.Popen[str]
    folder: Path
    number: int = field(default=0)

    def run(self, argv: list[str], faults: Mapping[str, str] | None = None) -> Run:
        """Run a command of Interlingua."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        paths = {name: self.folder / name for name in ("stdout", "stderr", "report")}
        for path in paths.values():
            path.unlink(missing_ok=True)
        request = {"argv": argv, "faults": {"FAULT_ACTION": "none", **(faults or {})}}
        request |= {name: os.fspath(paths[name]) for name in ("stdout", "stderr")}
        print(json.dumps(request), file=self.process.stdin, flush=True)
        answer = json.loads(self.process.stdout.readline())
        report = paths["report"].read_text() if paths["report"].exists() else ""
        calls = tuple(line.split()[0] for line in report.splitlines())
        texts = (paths[name].read_text(errors="replace") for name in ("stdout", "stderr"))
        return Run(answer["code"], answer["seen"], calls, *texts)

    def disturbed(self, argv: list[str], fault: Fault, path: Path, target: Path | None = None) -> Run:
        """Run a command with a fault on what is at ``path`` or below."""
        return self.run(argv, fault.settings(path, self.folder / "report", target))

    def sweep(self, count: int) -> Iterator[int]:
        """Yield the numbers of the calls to disturb, of ``count``."""
        if ALL or count <= SAMPLE + 4:
            yield from range(1, count + 1)
            return
        yield from (1, 2)
        yield from sorted(random.Random(count).sample(range(3, count - 1), SAMPLE))
        yield from (count - 1, count)


def start(shim: Path, folder: Path) -> Server:
    """Start the process that runs commands, with the shim preloaded."""
    settings = {"LD_PRELOAD": os.fspath(shim), "PYTHONPATH": os.fspath(ROOT), "TMPDIR": os.fspath(folder / "tmp")}
    (folder / "tmp").mkdir()
    model = write_model(folder / "model", FAMILIES["bert"], ("pooler",), 0, draw=realistic)
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    process = subprocess.Popen(
        [sys.executable, "-W", "error", ROOT / "tests" / "faults" / "server.py", model, folder],
        env={**os.environ, **settings, **threads},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return Server(process, folder)


@dataclass(frozen=True)
class Scene:
    """A command, where it reads, where it writes, and what is there before and after.

    Attributes:
        server: runs it.
        argv: the command.
        source: the folder that it reads.
        place: the folder that it writes in; None where it writes nothing.
        weights: names in ``place`` without which nothing there counts as an output: of an output that is no folder.
        before: what is in ``place`` before.
        after: what is in ``place`` after success.
    """

    server: Server
    argv: list[str]
    source: Path
    place: Path | None = None
    weights: str | None = None
    before: Tree = field(default_factory=dict)
    after: Tree = field(default_factory=dict)
    said: str = ""

    def played(self) -> Scene:
        """Return it with what it leaves and prints where nothing is disturbed."""
        self.reset()
        run = self.server.run(self.argv)
        assert run.code == 0, run.errors
        assert remains(self.place) == []
        return replace(self, after=tree(self.place), said=run.output)

    def reset(self) -> None:
        """Have the destination be as it was before."""
        if self.place is not None:
            restore(self.place, self.before)

    def count(self, fault: Fault, path: Path) -> int:
        """Return how many calls the fault may befall."""
        self.reset()
        run = self.server.disturbed(self.argv, replace(fault, at=LAST), path)
        assert run.code == 0, run.errors
        assert run.disturbed == ()
        return run.seen

    def each(self, fault: Fault, path: Path) -> Iterator[tuple[Fault, Run]]:
        """Disturb the calls in turn, each in a run of its own over the same start, and yield what came of it."""
        for at in self.server.sweep(self.count(fault, path)):
            self.reset()
            here = replace(fault, at=at)
            run = self.server.disturbed(self.argv, here, path)
            # Threads may come to fewer calls in another order, which leaves the last ones alone.
            if run.disturbed:
                yield here, run


def tree(folder: Path | None) -> Tree:
    """Return every file below a folder with its content; what is left of staging folders is left out."""
    if folder is None or not folder.exists():
        return {}
    paths = (path for path in folder.rglob("*") if path.is_file() and MARK not in os.fspath(path.relative_to(folder)))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def restore(folder: Path, files: Tree) -> None:
    """Have a folder hold these files and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def remains(folder: Path | None) -> list[str]:
    """Return the names of staging folders that were left."""
    return [] if folder is None else sorted(path.name for path in folder.iterdir() if MARK in path.name[1:])


def check_message(run: Run) -> None:
    """Hold what a failed command said against what is promised: one paragraph, no traceback, an exit code of ours."""
    assert run.code in (1, 2, 3, 4, 5), run
    assert run.errors.startswith("interlingua: "), run.errors
    assert run.errors.count("\n") == 1, run.errors
    assert "fault of interlingua" not in run.errors
    assert len(run.errors) > len("interlingua: ") + 10
