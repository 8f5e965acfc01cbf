"""Convert a zoo of sixty checkpoints with ``interlingua batch``, beside ``cp`` of the same bytes, and break it.

``python -m benchmarks.zoo --folder F`` makes the zoo (6 GB, and all-MiniLM-L6-v2 where it can be had), converts each
checkpoint to three dialects and prints a table with what that took: the whole run beside ``cp``, a second run in which
nothing has changed, a run that is killed again and again, and one with a truncated checkpoint. Exit code 1 where a
bound is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml
from rich.console import Console

from benchmarks import measure, minilm
from benchmarks.zoo_models import ZOO, make_zoo
from interlingua.convert.batch import lock, state
from interlingua.convert.batch.digests import file_digest
from interlingua.verify.report import plain_table

TIMES_CP = 1.5
A_JOB = 1.0
"""What the first run may take: so many times what ``cp`` takes, and so many seconds a job."""

UNCHANGED = 5.0
"""Seconds that a run may take in which nothing has changed."""

DISK = {"small": 1 << 30, "full": 36 << 30}
"""Bytes that the zoo, all outputs and the largest copy take together, with some to spare."""

RUNNING = (state.NAME, f"{state.NAME}-journal", lock.NAME)
"""Files of which no two runs are alike: the state holds durations and the files' times, the lock who held it.

Every other file is compared, ``SHA256SUMS`` and provenance included: neither has a time in it.
"""


@dataclass(frozen=True, slots=True)
class Zoo:
    """A zoo on the disk.

    Attributes:
        folder: what everything is in.
        jobs: how many jobs its manifest asks for.
        processes: jobs at a time.
        sync: whether outputs are forced to the disk, by the batch and after ``cp``.
    """

    folder: Path
    jobs: int
    processes: int
    sync: bool

    @property
    def models(self) -> Path:
        """Where the sources are."""
        return self.folder / "models"

    @property
    def converted(self) -> Path:
        """Where the outputs go."""
        return self.folder / "converted"

    def command(self, *more: str) -> list[str]:
        """Return the command that converts the zoo."""
        manifest = str(self.folder / "zoo.yaml")
        return [sys.executable, "-m", "interlingua", "batch", manifest, "--jobs", str(self.processes), *more]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; ``held`` is None where nothing is promised."""

    what: str
    found: str
    bound: str = ""
    held: bool | None = None


def main() -> int:
    """Measure; return 1 where a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where all is made; the models are kept (default: a temporary one)")
    parser.add_argument("--scale", choices=list(DISK), default="full", help="small: models of hardly any weights")
    parser.add_argument("--kills", type=int, default=20, help="how often a run is killed")
    parser.add_argument("--jobs", type=int, default=2, help="jobs at a time")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments at which it is killed")
    parser.add_argument("--sync", action="store_true", help="force outputs to the disk, and sync after cp")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="interlingua-zoo-"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        check_space(folder, DISK[arguments.scale])
        zoo = make(folder.resolve(), arguments.scale == "small", arguments.jobs, arguments.sync)
        rows = run(zoo, arguments.kills, arguments.seed)
    finally:
        shutil.rmtree(folder / "converted" if arguments.folder else folder, ignore_errors=True)
    show(rows)
    return int(any(row.held is False for row in rows))


def check_space(folder: Path, needed: int) -> None:
    """End the program where there is too little room; models that are there already need no more."""
    room = shutil.disk_usage(folder).free + nbytes(folder / "models")
    if room < needed:
        sys.exit(f"{folder}: {needed:,} bytes are needed, and {room:,} are free or hold the zoo already.")


def make(folder: Path, small: bool, processes: int, sync: bool) -> Zoo:
    """Make the zoo and its manifest."""
    models = folder / "models"
    made = list(make_zoo(models, small=small))
    print(f"{len(made)} checkpoints, {nbytes(models) / 1e9:.2f} GB", flush=True)
    entries = [entry(line.family, system, line.wanted(system)) for line in ZOO for system in line.sources]
    jobs = sum(len(line.sizes) * len(line.wanted(system)) for line in ZOO for system in line.sources)
    if not small:
        try:
            source = minilm.fetch(models / "sentence-transformers")
            where = {"source": str(source.relative_to(folder)), "output": "sentence-transformers/{name}/{to}"}
            entries.append({**where, "name": "all-MiniLM-L6-v2", "to": ["paddle", "tf1", "uer"]})
            jobs += 3
        except minilm.UnavailableError as error:
            print(f"{error} The zoo goes without it.", file=sys.stderr)
    manifest = {
        "version": 1,
        "defaults": {"folder": "converted", "checks": ["weights"], "no-sync": not sync},
        "jobs": entries,
    }
    (folder / "zoo.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False), encoding="utf-8")
    return Zoo(folder, jobs, processes, sync)


def entry(family: str, system: str, to: Sequence[str]) -> dict[str, Any]:
    """Return the manifest's entry for the models of one family from one system."""
    return {
        "source": f"models/{family}/{system}/*",
        "name": f"{{stem}}-{system}",
        "from": system,
        "to": list(to),
        "output": f"{family}/{{name}}/{{to}}",
    }


def run(zoo: Zoo, kills: int, seed: int) -> list[Row]:
    """Do everything, and return the table's lines."""
    shutil.rmtree(zoo.converted, ignore_errors=True)
    first, copied = timed(zoo)
    bound = TIMES_CP * copied + A_JOB * zoo.jobs
    gigabytes = f"{nbytes(zoo.models) / 1e9:.2f} GB in, {nbytes(zoo.converted) / 1e9:.2f} GB out"
    again = measure.run(measure.Job("unchanged", zoo.command("-q"), zoo.folder / "nothing"))
    rows = [
        Row("jobs, processes", f"{zoo.jobs}, {zoo.processes}"),
        Row("bytes", gigabytes),
        Row("cp of all of them" + (", then sync" if zoo.sync else ""), f"{copied:.1f} s"),
        Row("first run", f"{first.wall:.1f} s", f"{bound:.1f} s", first.wall <= bound),
        Row("the same, without the second a job", f"{first.wall / copied:.2f} x cp"),
        Row("its processors' time", f"{first.cpu:.1f} s"),
        Row("its largest process", f"{first.memory / 1e6:.0f} MB"),
        Row("run without changes", f"{again.wall:.1f} s", f"{UNCHANGED:.1f} s", again.wall <= UNCHANGED),
    ]
    if kills:
        rows.append(killed(zoo, kills, random.Random(seed), first.wall, again.wall))
    rows.append(poisoned(zoo))
    return rows


# -- time


def timed(zoo: Zoo) -> tuple[measure.Run, float]:
    """Run the batch between two halves of ``cp``; return what it took, and the seconds of ``cp``.

    Each starts with nothing left to be written to the disk. The sources are copied just before the batch reads them
    and the outputs just after it has written them, so that both find in memory what the other does.
    """
    copied = copy(zoo, zoo.models)
    settle()
    first = measure.run(measure.Job("batch", zoo.command("-q"), zoo.folder / "nothing"))
    return first, copied + copy(zoo, zoo.converted)


def settle() -> None:
    """Wait until nothing is left to be written to the disk."""
    subprocess.run(["sync"], check=True)


def copy(zoo: Zoo, folder: Path) -> float:
    """Copy every folder in a folder, one after the other, deleting the copies; return the seconds that ``cp`` took."""
    target = zoo.folder / "copy"
    script = 'cp -r "$0" "$1"' + (' && sync -f "$1"' if zoo.sync else "")
    seconds = 0.0
    for part in sorted(path for path in folder.iterdir() if path.is_dir()):
        settle()
        seconds += measure.run(measure.Job("cp", ["sh", "-c", script, str(part), str(target)], target)).wall
        shutil.rmtree(target)
    return seconds


def nbytes(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# -- kill -9


SOONER = 0.8
"""By what the moments of kills are multiplied where a run has ended before its own."""


def killed(zoo: Zoo, kills: int, moments: random.Random, work: float, start: float) -> Row:
    """Kill a fresh run at moments that are spread over its work, resume it after each, and compare what is there.

    A run that ends before its moment has come is compared, too. The next one then starts from nothing, and all
    moments come sooner, for the machine was busier when the times were taken.

    Args:
        zoo: the zoo, converted without disturbance.
        kills: how often.
        moments: draws the moments.
        work: seconds of the undisturbed run.
        start: seconds that a run takes before it goes on: those of one in which nothing is to be done.
    """
    expected = sums(zoo.converted)
    shutil.rmtree(zoo.converted)
    done, pace, rounds, wrong = 0.0, 1.0, 1, set[str]()
    for moment in sorted(moments.uniform(0, max(0.0, work - start)) for _ in range(kills)):
        while not kill(zoo.command("-q"), pace * (start + moment - done)):
            wrong |= differing(expected, sums(zoo.converted))
            shutil.rmtree(zoo.converted)
            done, pace, rounds = 0.0, SOONER * pace, rounds + 1
        done = moment
    measure.run(measure.Job("resumed", zoo.command("-q"), zoo.folder / "nothing"))
    wrong |= differing(expected, sums(zoo.converted))
    for name in sorted(wrong)[:20]:
        print(f"not as in the undisturbed run: {name}")
    found = f"{len(expected)} files, {len(wrong)} differ, {rounds} fresh starts"
    return Row(f"killed {kills} times and resumed", found, "0 differ", not wrong)


def kill(command: Sequence[str], seconds: float) -> bool:
    """Start a command and kill it and all that it has started; False: it was done before.

    Raises:
        RuntimeError: it failed by itself.
    """
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stderr=errors, start_new_session=True)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return True
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if code != 0:
            errors.seek(0)
            raise RuntimeError(f"a run that was not killed failed ({code}): {errors.read().decode()[-2000:]}")
        return False


def sums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file in a folder by its path, but for those of which no two runs are alike."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in RUNNING)
    with ThreadPoolExecutor(2) as pool:
        return dict(zip((str(path.relative_to(folder)) for path in files), pool.map(file_digest, files), strict=True))


def differing(one: Mapping[str, str], other: Mapping[str, str]) -> set[str]:
    """Return the names of files that are not the same in both, or only in one."""
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}


# -- a broken checkpoint


def poisoned(zoo: Zoo) -> Row:
    """Truncate a checkpoint, delete its family's outputs, and see that its own jobs fail and no others do."""
    line = ZOO[0]
    model = zoo.models / line.family / line.sources[0] / line.sizes[-1].name
    shutil.rmtree(zoo.converted / line.family)
    page = zoo.folder / "zoo.xml"
    with truncated(model / "model.safetensors"):
        command = zoo.command("--json", "--junit", str(page), "--report", str(zoo.folder / "zoo.html"))
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"the run with a truncated checkpoint failed ({done.returncode}): {done.stderr[-2000:]}")
    statuses = {job["name"]: job["status"] for job in json.loads(done.stdout)["jobs"]}
    own = {f"{model.name}-{line.sources[0]}/{to}" for to in line.wanted(line.sources[0])}
    failed = {name for name, status in statuses.items() if status == "failed"}
    others = {status: list(statuses.values()).count(status) for status in ("done", "skipped")}
    cases = [case for case in ElementTree.parse(page).iter("testcase") if case.find("failure") is not None]
    for case in cases:
        print(ElementTree.tostring(case, encoding="unicode").strip())
    held = (
        done.returncode == 1
        and failed == own == {case.get("classname") for case in cases}
        and sum(others.values()) == zoo.jobs - len(own)
    )
    found = f"{len(failed)} failed, {others['done']} done, {others['skipped']} skipped"
    return Row(f"{model.name} truncated", found, f"its own {len(own)} fail", held)


@contextlib.contextmanager
def truncated(file: Path) -> Iterator[None]:
    """Cut a file in half, and put it back as it was."""
    whole = file.with_name(f"{file.name}.whole")
    file.rename(whole)
    try:
        with whole.open("rb") as source, file.open("wb") as half:
            shutil.copyfileobj(source, half)
            half.truncate(whole.stat().st_size // 2)
        yield
    finally:
        whole.replace(file)


def show(rows: Sequence[Row]) -> None:
    """Print the table."""
    table = plain_table("what", "found", "bound", "held", right=("found", "bound"))
    for row in rows:
        table.add_row(row.what, row.found, row.bound, {None: "", True: "yes", False: "NO"}[row.held])
    Console(highlight=False, width=None if sys.stdout.isatty() else 120).print(table)


if __name__ == "__main__":
    sys.exit(main())
