"""Time conversions against ``cp`` of the same bytes, and against what people use today, in turn in one run.

``python -m benchmarks --size large`` prints one table for each ordered pair of dialects. ``--no-sync`` runs
stand beside ``cp``, synced ones beside ``cp`` followed by ``sync`` of the file.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks.measure import Job, Row, in_turn, run
from benchmarks.models import SIZES, Size, make_model
from benchmarks.owners import OWNERS, code
from interlingua.formats.base import Writer
from interlingua.formats.registry import CONTAINERS, Container
from interlingua.mappings.registry import DIALECTS
from interlingua.verify.report import plain_table

PROGRAM = (sys.executable, "-m", "interlingua")

PEER = """
import sys, torch
if sys.argv[1].endswith(".safetensors"):
    from safetensors.torch import load_file
    state = load_file(sys.argv[1])
else:
    state = torch.load(sys.argv[1], map_location="cpu", weights_only=True)
torch.save({name.replace("encoder.", "renamed."): tensor for name, tensor in state.items()}, sys.argv[2])
"""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=[*SIZES, "all"], default="base")
    parser.add_argument("--containers", action="store_true", help="time containers instead of dialects")
    parser.add_argument("--pairs", action="store_true", help="time every ordered pair of containers in one table")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None, help="where the checkpoints are made (and kept)")
    arguments = parser.parse_args()
    console = Console(highlight=False)
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="interlingua-bench-"))
    try:
        for size in SIZES.values() if arguments.size == "all" else (SIZES[arguments.size],):
            bench = bench_pairs if arguments.pairs else bench_containers if arguments.containers else bench_size
            bench(size, folder, arguments.runs, console)
    finally:
        if arguments.folder is None:
            shutil.rmtree(folder, ignore_errors=True)


def bench_size(size: Size, folder: Path, runs: int, console: Console) -> None:
    """Print the tables of one size."""
    sources = {"hf": make_model(size, folder)}
    for name in DIALECTS:
        if name not in sources:
            sources[name] = folder / f"bert-{size.name}-{name}"
            if not sources[name].exists():
                arguments = ["convert", str(sources["hf"]), str(sources[name]), "--to", name, "-q"]
                subprocess.run([*PROGRAM, *arguments], check=True)
    show(console, f"start-up, bert-{size.name}", in_turn(starts(sources["hf"], folder), runs), "")
    for origin, source in sources.items():
        for target in DIALECTS:
            weights = max((file for file in source.iterdir() if file.is_file()), key=lambda file: file.stat().st_size)
            gigabytes = weights.stat().st_size / 1e9
            title = f"{origin} -> {target}, bert-{size.name}, {gigabytes:.2f} GB"
            show(console, title, in_turn(conversions(source, weights, target, folder), runs), "cp")
            show(console, f"{title}, on disk", in_turn(synced(source, weights, target, folder), runs), "cp + sync")


def bench_containers(size: Size, folder: Path, runs: int, console: Console) -> None:
    """Print a table for each container: into it, out of it, and its owner's load and save."""
    source = make_model(size, folder) / "model.safetensors"
    for container in CONTAINERS.values():
        if not container.writes:
            continue
        held = held_in(container, source, size, folder)
        jobs = container_jobs(source, weights_in(held, container), held, container, folder)
        gigabytes = source.stat().st_size / 1e9
        show(console, f"{container.title}, bert-{size.name}, {gigabytes:.2f} GB", in_turn(jobs, runs), "cp")


def bench_pairs(size: Size, folder: Path, runs: int, console: Console) -> None:
    """Print one table of all ways between two containers, each beside its bound."""
    source, copy, made = make_model(size, folder) / "model.safetensors", folder / "copy", folder / "made"
    written = [container for container in CONTAINERS.values() if container.writes]
    held = {container.name: held_in(container, source, size, folder) for container in written}
    ways = [(one, other) for one in written for other in written if one is not other]
    jobs = [Job("cp", ["cp", str(source), str(copy)], copy)]
    for one, other in ways:
        arguments = keep_names(held[one.name], made, other.name)
        jobs.append(Job(f"{one.name} -> {other.name}", [*PROGRAM, *arguments, "--no-sync", "-q"], made))
    cp, *rows = in_turn(jobs, runs)
    console.print(f"\nevery container to every other, bert-{size.name}; cp {cp.wall:.2f} s")
    table = plain_table("way", "wall s", "bound s", "cpu s", "peak MB", "x cp", "")
    missed = 0
    for (_, other), row in zip(ways, rows, strict=True):
        bound = (CHECKED if has_checksum(other) else COPIED) * cp.wall + START
        missed += row.wall > bound
        word = "over" if row.wall > bound else ""
        times = (f"{row.wall:.2f}", f"{bound:.2f}", f"{row.cpu:.2f}", f"{row.memory / 1e6:.0f}", f"{row.ratio:.2f}")
        table.add_row(row.name, *times, word)
    console.print(table)
    console.print(f"{len(rows) - missed} of {len(rows)} within their bound")


COPIED, CHECKED, START = 1.3, 2.0, 0.3
"""What a way may take: times of ``cp`` where bytes are copied and where a checksum is due; seconds to start."""


def has_checksum(container: Container) -> bool:
    """Say whether a container keeps checksums of its tensors."""
    module = container.load()
    writers = (value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Writer))
    return any(writer.checksum is not None and writer.container == container.name for writer in writers)


def held_in(container: Container, source: Path, size: Size, folder: Path) -> Path:
    """Return a folder with the model in a container, making it where it is not there."""
    held = folder / f"bert-{size.name}-{container.name}"
    if not held.exists():
        subprocess.run([*PROGRAM, *keep_names(source, held, container.name), "-q"], check=True)
    return held


def keep_names(source: Path, target: Path, container: str) -> list[str]:
    """Return the arguments that convert a container and no names."""
    return ["convert", str(source), str(target), "--keep-names", "--container", container]


def weights_in(folder: Path, container: Container) -> Path:
    """Return what a container's owner opens in a folder that a conversion has made."""
    return folder / ("model" + next(iter(container.suffixes), ""))


def container_jobs(source: Path, weights: Path, held: Path, container: Container, folder: Path) -> list[Job]:
    """Return the jobs of one container."""
    copy, made, peer = folder / "copy", folder / "made", folder / "peer"
    jobs = [
        Job("cp", ["cp", str(source), str(copy)], copy),
        Job("safetensors -> it", [*PROGRAM, *keep_names(source, made, container.name), "--no-sync"], made),
        Job("it -> safetensors", [*PROGRAM, *keep_names(held, made, "safetensors"), "--no-sync"], made),
    ]
    if container.name in OWNERS and importlib.util.find_spec(OWNERS[container.name][0]) is not None:
        target = peer / weights.name
        program = f"import os, sys; os.mkdir(os.path.dirname(sys.argv[2]))\n{code(container.name)}"
        command = [sys.executable, "-c", program, str(weights), str(target)]
        jobs += working([Job(f"{OWNERS[container.name][0]}: load, save", command, peer)])
    return jobs


def working(jobs: list[Job]) -> list[Job]:
    """Return those of the jobs that can be run here; say of the others why not."""
    able = []
    for job in jobs:
        try:
            run(job)
            able.append(job)
        except RuntimeError as error:
            print(f"left out: {str(error).strip().splitlines()[0]} ... {str(error).strip().splitlines()[-1]}")
    return able


def starts(source: Path, folder: Path) -> list[Job]:
    """Return the jobs that show how long it takes to begin."""
    nowhere = folder / "nothing"
    return [
        Job("python -c pass", [sys.executable, "-c", "pass"], nowhere),
        Job("interlingua --help", [*PROGRAM, "--help"], nowhere),
        Job("interlingua inspect", [*PROGRAM, "inspect", str(source)], nowhere),
    ]


def conversions(source: Path, weights: Path, target: str, folder: Path) -> list[Job]:
    """Return the jobs that leave writing to the system."""
    copy, made, peer = folder / "copy", folder / "made", folder / "peer.bin"
    convert = [*PROGRAM, "convert", str(source), str(made), "--to", target, "--no-sync"]
    jobs = [
        Job("cp", ["cp", str(weights), str(copy)], copy),
        Job("interlingua convert --check none", [*convert, "--check", "none"], made),
        Job("interlingua convert", convert, made),
    ]
    if importlib.util.find_spec("torch") is not None:
        name = "torch: load, rename, save"
        jobs.append(Job(name, [sys.executable, "-c", PEER, str(weights), str(peer)], peer))
    return jobs


def synced(source: Path, weights: Path, target: str, folder: Path) -> list[Job]:
    """Return the jobs after which the bytes are on the disk."""
    copy, made = folder / "copy", folder / "made"
    return [
        Job("cp + sync", ["sh", "-c", 'cp "$0" "$1" && sync "$1"', str(weights), str(copy)], copy),
        Job("interlingua convert", [*PROGRAM, "convert", str(source), str(made), "--to", target], made),
    ]


def show(console: Console, title: str, rows: list[Row], unit: str) -> None:
    """Print one table."""
    console.print(f"\n{title}")
    table = plain_table("command", "wall s", "cpu s", "peak MB", f"x {unit or rows[0].name}")
    for row in rows:
        table.add_row(row.name, f"{row.wall:.2f}", f"{row.cpu:.2f}", f"{row.memory / 1e6:.0f}", f"{row.ratio:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
