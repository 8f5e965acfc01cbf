"""Write ``docs/benchmarks.md``: conversions beside ``cp``, beside what people use today, and as checkpoints grow.

``python -m benchmarks.page --write docs/benchmarks.md`` measures all but the growth, which takes a disk of its own:
``--growth``. ``--quick`` is a run of minutes. A table is in the page as soon as it is measured, and what is not
measured stays as it was.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import interlingua
from benchmarks import growth, machine
from benchmarks.markdown import put, table
from benchmarks.measure import Job, Row, in_turn, run
from benchmarks.models import SIZES, Size, make_model
from benchmarks.peers import PEERS, Peer
from interlingua.mappings.registry import DIALECTS, conversions

PROGRAM = (sys.executable, "-m", "interlingua")

MAIN = ("hf", "tf1", "paddle", "ernie-fluid", "mindspore", "uer", "keras-hub")
"""The dialects that the first table has."""

RENAMED, TRANSPOSED, START = 1.2, 1.8, 0.25
"""Goals: times of ``cp`` where tensors are only renamed, and where some are transposed; seconds to start."""

FASTER, SMALLER = 5.0, 10.0
"""Goals: how many times less time and less memory than each peer."""

STEADY = 1.25
"""Goals of growth: what peak memory and times of ``cp`` may come to, as times of the smallest checkpoint's."""

WHOLE = 0.9
"""Bytes of the output, as a share of the source's, below which something was not converted."""

QUICK = ("base",)
SCALE = ("base", "large", "deep")
GROWTH = (1.0, 5.0, 10.0, 20.0)
"""Gigabytes (10^9 bytes) of the checkpoints that grow."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What one run measures with.

    Attributes:
        folder: where checkpoints are made, on the disk that is measured; absolute.
        runs: runs of each command, after one that is not counted.
        owners: interpreter of the owners' environment; None: there is none.
    """

    folder: Path
    runs: int
    owners: str | None = None

    def interpreter(self, peer: Peer) -> str | None:
        """Return the interpreter that runs a peer."""
        return self.owners if peer.owners else sys.executable


def main() -> int:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="BERT-base and two runs of each command")
    parser.add_argument("--size", action="append", choices=list(SIZES), help="these sizes (default: base, large, deep)")
    parser.add_argument("--runs", type=int, help="runs of each command (default: 5)")
    parser.add_argument("--only", action="append", choices=list(SECTIONS), help="this section")
    parser.add_argument("--growth", action="store_true", help="the growth, too: up to 40 GB on the disk")
    parser.add_argument("--gigabytes", type=float, action="append", help="size of a growing checkpoint")
    parser.add_argument("--owners", metavar="PYTHON", help="interpreter of the owners' environment (make test-owners)")
    parser.add_argument("--folder", type=Path, help="where checkpoints are made (default: a temporary folder)")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="page with places for the tables")
    arguments = parser.parse_args()
    sizes = [SIZES[name] for name in arguments.size or (QUICK if arguments.quick else SCALE)]
    runs = arguments.runs or (2 if arguments.quick else 5)
    wanted = arguments.only or ["pairs", "peers", *(["growth"] if arguments.growth else [])]
    with tempfile.TemporaryDirectory(prefix="interlingua-bench-", dir=arguments.folder) as name:
        setting = Setting(Path(name).resolve(), runs, arguments.owners)
        for section in wanted:
            head = "\n".join((command_line(sys.argv[1:]), "", facts(setting)))
            text = "Nothing was measured."
            for text in SECTIONS[section](setting, sizes, arguments.gigabytes or GROWTH):
                if arguments.write is not None:
                    put(arguments.write, f"benchmark of {section}", f"{head}\n\n{text}")
            print(text, end="\n\n", flush=True)
    return 0


def facts(setting: Setting) -> str:
    """Return the table of what is measured on."""
    counted = f"medians of {setting.runs} (memory: the most), after one more that is not counted"
    rows = [*machine.description(setting.folder), ("runs of each command", counted)]
    return table(("machine", ""), rows)


def command_line(arguments: Sequence[str]) -> str:
    """Return the command without its paths, which mean nothing elsewhere."""
    shown: list[str] = []
    for place, word in enumerate(arguments):
        before = arguments[place - 1] if place else ""
        name, equals, _ = word.partition("=")
        if before in PATHS:
            shown.append(PATHS[before])
        else:
            shown.append(f"{name}={PATHS[name]}" if equals and name in PATHS else word)
    return f"`{' '.join(('python -m benchmarks.page', *shown))}`"


PATHS = {"--owners": ".venv-owners/bin/python", "--folder": "FOLDER", "--write": "docs/benchmarks.md"}
"""Options that name a path -> what is shown in its place."""


# -- beside cp


def pairs(setting: Setting, sizes: Sequence[Size], _: Sequence[float]) -> Iterator[str]:
    """Yield the tables of the sizes measured so far: every main dialect to every other."""
    parts: list[str] = []
    possible = {(found.source, found.target) for found in conversions() if found.family == "bert"}
    for size in sizes:
        with sources(setting, size) as find:
            rows = []
            for origin in MAIN:
                for target in MAIN:
                    if origin != target and (origin, target) in possible:
                        rows.append(pair_row(setting, find(origin, DIALECTS[origin].containers[0]), origin, target))
        missed = sum(row[-1].startswith("**") for row in rows)
        parts += [title(size), f"{len(rows) - missed} of {len(rows)} within their goal.", table(PAIRS, rows)]
        yield "\n\n".join(parts)


PAIRS = ("from", "to", "tensors are", "`cp` s", "wall s", "goal s", "CPU s", "peak MB", "x `cp`", "unchecked s", "goal")


def title(size: Size) -> str:
    """Return the heading of a size's tables."""
    return f"### BERT-{size.name}, {growth.nbytes(size) / 1e9:.2f} GB"


def pair_row(setting: Setting, source: Path, origin: str, target: str) -> tuple[str, ...]:
    """Measure one pair and return its line."""
    transposed = transposes(source, target)
    print(f"{source.name} -> {target}", file=sys.stderr, flush=True)
    made = setting.folder / "made"
    convert = [*PROGRAM, "convert", str(source), str(made), "--to", target, "--no-sync", "-q"]
    cp, checked, unchecked = in_turn(
        [
            Job("cp", ["cp", "-r", str(source), str(made)], made, whole(source, made)),
            Job("convert", convert, made, whole(source, made)),
            Job("unchecked", [*convert, "--check", "none"], made, whole(source, made)),
        ],
        setting.runs,
    )
    goal = bound(cp.wall, transposed)
    return (
        f"`{origin}`",
        f"`{target}`",
        "transposed" if transposed else "renamed",
        f"{cp.wall:.2f}",
        f"{checked.wall:.2f}",
        f"{goal:.2f}",
        f"{checked.cpu:.2f}",
        f"{checked.memory / 1e6:.0f}",
        f"{checked.ratio:.2f}",
        f"{unchecked.wall:.2f}",
        "met" if checked.wall <= goal else "**missed**, met unchecked" if unchecked.wall <= goal else "**missed**",
    )


def bound(cp: float, transposed: bool) -> float:
    """Return the seconds that a conversion may take where ``cp`` takes so many."""
    return (TRANSPOSED if transposed else RENAMED) * cp + START


def transposes(source: Path, target: str) -> bool:
    """Say whether a conversion transposes any tensor."""
    plan = interlingua.convert(source, source.parent / "nothing", to=target, dry_run=True).plan
    return any(step.transpose is not None for output in plan.outputs for step in output.steps)


def whole(source: Path, made: Path) -> Callable[[], bool]:
    """Return what says whether an output has about as many bytes as its source."""
    least = WHOLE * nbytes(source)
    return lambda: nbytes(made) >= least


def nbytes(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@contextlib.contextmanager
def sources(setting: Setting, size: Size) -> Iterator[Callable[[str, str], Path]]:
    """Yield what returns a model of a size in a dialect and container; it is made when first asked for."""
    folder = setting.folder / size.name
    folder.mkdir()

    def find(dialect: str, container: str) -> Path:
        first, held = make_model(size, folder), folder / f"{dialect}-{container}"
        if not held.exists():
            interlingua.convert(first, held, to=dialect, container=container, residue="drop")
        return held

    try:
        yield find
    finally:
        shutil.rmtree(folder)


# -- beside what people use today


def peers(setting: Setting, sizes: Sequence[Size], _: Sequence[float]) -> Iterator[str]:
    """Yield the tables of the sizes measured so far: every peer, and the same conversion here."""
    parts: list[str] = []
    found = {peer.name: versions(setting, peer) for peer in PEERS}
    for size in sizes:
        rows, left_out = [], []
        with sources(setting, size) as find:
            for peer in PEERS:
                lacking = found[peer.name]
                if isinstance(lacking, str):
                    left_out.append(f"- {peer.name}: {lacking}.")
                    continue
                print(f"{size.name}: {peer.name}", file=sys.stderr, flush=True)
                try:
                    rows += peer_rows(setting, find(peer.origin, peer.held), peer, lacking)
                except RuntimeError as error:
                    print(error, file=sys.stderr)
                    left_out.append(f"- {peer.name}: it fails here ({kind_of(str(error))}).")
        parts += [title(size), table(AGAINST, rows)]
        if left_out:
            parts.append("Left out:\n\n" + "\n".join(left_out))
        yield "\n\n".join(parts)


AGAINST = ("way", "with", "wall s", "CPU s", "peak MB", "times faster", "times less memory", "goal")


def peer_rows(setting: Setting, source: Path, peer: Peer, known: dict[str, str]) -> list[tuple[str, ...]]:
    """Measure one peer and the same conversion here, in turn; return their two lines.

    Raises:
        RuntimeError: one of them fails, or leaves less than the model.
    """
    made = setting.folder / "made"
    arguments = [str(source), str(made), "--to", peer.to, "--container", peer.made, "--no-sync", "-q"]
    command = [str(setting.interpreter(peer)), "-I", "-c", peer.program, str(source), str(made)]
    theirs = Job(peer.name, command, made, whole(source, made))
    run(theirs)
    ours = Job("interlingua convert", [*PROGRAM, "convert", *arguments], made, whole(source, made))
    first, second = in_turn([theirs, ours], setting.runs)
    faster, smaller = 1 / second.ratio, first.memory / second.memory
    missed = [word for word, value, goal in (("time", faster, FASTER), ("memory", smaller, SMALLER)) if value < goal]
    verdict = f"**missed**: {' and '.join(missed)}" if missed else "met"
    used = ", ".join(f"{name} {version}" for name, version in known.items())
    return [
        (peer.name, used, *figures(first), "", "", ""),
        (f"`interlingua convert --to {peer.to}`", "", *figures(second), f"{faster:.1f}", f"{smaller:.1f}", verdict),
    ]


def figures(row: Row) -> tuple[str, str, str]:
    """Return wall time, CPU time and memory."""
    return f"{row.wall:.2f}", f"{row.cpu:.2f}", f"{row.memory / 1e6:.0f}"


def versions(setting: Setting, peer: Peer) -> dict[str, str] | str:
    """Return the versions of a peer's packages; or why it cannot be run."""
    interpreter = setting.interpreter(peer)
    if interpreter is None:
        return "it needs the owners' environment (--owners)"
    found = machine.versions(interpreter, peer.packages)
    lacking = [name for name, version in found.items() if version is None]
    if lacking:
        return f"{' and '.join(lacking)} not installed"
    return {name: version for name, version in found.items() if version is not None}


def kind_of(failure: str) -> str:
    """Return the kind of the exception that a failed program ended with, and nothing of where that was."""
    last = failure.strip().splitlines()[-1].partition(":")[0]
    return last if last.isidentifier() else "no exception is named"


# -- as checkpoints grow


def grown(setting: Setting, _: Sequence[Size], gigabytes: Sequence[float]) -> Iterator[str]:
    """Yield the table of the checkpoints measured so far, from small to large."""
    rows: list[tuple[str, ...]] = []
    left_out: list[str] = []
    first: dict[str, Row] = {}
    for number in sorted(gigabytes):
        size = growth.size_of(number)
        sparse = growth.room(size, setting.folder)
        if sparse is None:
            left_out.append(f"- {number:g} GB: it and one output do not fit on the disk.")
        else:
            rows += growth_rows(setting, size, sparse, first)
        yield "\n\n".join((table(GROWN, rows), *(["Left out:\n\n" + "\n".join(left_out)] if left_out else [])))


GROWN = ("to", "GB", "source", "`cp` s", "wall s", "s a GB", "CPU s a GB", "peak MB", "x `cp`", "linear", "flat")


def growth_rows(setting: Setting, size: Size, sparse: bool, first: dict[str, Row]) -> list[tuple[str, ...]]:
    """Make a checkpoint, measure it, and return its lines; what the smallest one took is kept in ``first``."""
    print(f"growth: {size.name}", file=sys.stderr, flush=True)
    made = growth.make(size, setting.folder, sparse=sparse)
    try:
        cp, *found = in_turn(growth_jobs(setting, made), setting.runs)
    finally:
        shutil.rmtree(made.folder)
    return [growth_row(made, cp, row, first.setdefault(row.name, row)) for row in found]


def growth_jobs(setting: Setting, made: growth.Grown) -> list[Job]:
    """Return ``cp`` and two conversions: one that renames, one that transposes. All write to the same place."""
    target = setting.folder / "made"
    check = whole(made.folder, target)
    jobs = [Job("cp", ["cp", "-r", "--sparse=never", str(made.folder), str(target)], target, check)]
    for to in ("uer", "tf1"):
        arguments = ["convert", str(made.folder), str(target), "--to", to, "--no-sync", "-q"]
        jobs.append(Job(to, [*PROGRAM, *arguments], target, check))
    return jobs


def growth_row(made: growth.Grown, cp: Row, row: Row, smallest: Row) -> tuple[str, ...]:
    """Return one line: time is held against that of ``cp``, which finds the same disk and caches."""
    size = made.nbytes / 1e9
    return (
        f"`{row.name}`",
        f"{size:.2f}",
        "sparse" if made.sparse else "written",
        f"{cp.wall:.2f}",
        f"{row.wall:.2f}",
        f"{row.wall / size:.2f}",
        f"{row.cpu / size:.2f}",
        f"{row.memory / 1e6:.0f}",
        f"{row.ratio:.2f}",
        "yes" if row.ratio <= STEADY * smallest.ratio else "**no**",
        "yes" if row.memory <= STEADY * smallest.memory else "**no**",
    )


Section = Callable[[Setting, Sequence[Size], Sequence[float]], Iterator[str]]

SECTIONS: dict[str, Section] = {"pairs": pairs, "peers": peers, "growth": grown}
"""Sections of the page, each between two comments that name it."""


if __name__ == "__main__":
    raise SystemExit(main())
