"""The tool at work on a real model: to every dialect and back, with fingerprints. ``make demo`` runs it.

Every command that is run is shown as it is run, so that it can be repeated by hand.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.minilm import UnavailableError, fetch
from benchmarks.models import Size, make_model
from interlingua.verify.report import plain_table

PROGRAM = Path(sys.executable).with_name("interlingua")

GENERATED = Size("generated", hidden=256, layers=4, heads=4, vocab=8000)


@dataclass(frozen=True, slots=True)
class Trip:
    """A way to another dialect, and back where there is one."""

    dialect: str
    there: Path
    back: Path | None


def main() -> int:
    """Run the demonstration; return 1 where a fingerprint or a file of the round trip differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(".demo"), help="where everything is made (default: .demo)")
    folder = parser.parse_args().folder
    source = find_model(folder)
    run("inspect", source)
    model = ask("inspect", source)
    trips = plan(model, folder)
    for trip in trips:
        run("convert", source, trip.there, "--to", trip.dialect, "--overwrite")
        if trip.back is not None:
            run("convert", trip.there, trip.back, "--to", model["dialect"], "--overwrite")
    made = [path for trip in trips for path in (trip.there, trip.back) if path is not None]
    run("fingerprint", source, *made)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    equal = show_fingerprints(console, [source, *made])
    identical = show_files(console, source, model, trips)
    if equal and identical:
        console.print(f"\nTo {', '.join(trip.dialect for trip in trips)} and back: the same model, without loss.")
        return 0
    console.print("\nSomething differs: see above.")
    return 1


def find_model(folder: Path) -> Path:
    """Return the real model, or a generated one where the real one cannot be had."""
    try:
        return fetch(folder)
    except UnavailableError as error:
        print(f"{error}\nGoing on with a generated BERT of random weights.", flush=True)
    source = make_model(GENERATED, folder)
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"token{n}" for n in range(5, GENERATED.vocab))]
    (source / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    return source


def plan(model: Mapping[str, Any], folder: Path) -> list[Trip]:
    """Return a trip to each dialect, other than the model's own, that knows the model's family."""
    matrix = ask("matrix")["dialects"]
    own, family = model["dialect"], model["family"]
    return [
        Trip(name, folder / name, folder / f"{own}-from-{name}" if family in matrix[name][own] else None)
        for name, families in matrix[own].items()
        if name != own and family in families
    ]


def run(*arguments: str | Path) -> None:
    """Show a command of interlingua and run it; end the demonstration where it fails."""
    command = [os.path.relpath(PROGRAM), *map(str, arguments)]
    print(f"\n$ {shlex.join(command)}", flush=True)
    done = subprocess.run(command, check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)


def ask(*arguments: str | Path) -> Any:
    """Return what a command of interlingua says as JSON."""
    done = subprocess.run([PROGRAM, *map(str, arguments), "--json"], check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def show_fingerprints(console: Console, paths: Sequence[Path]) -> bool:
    """Print a table of fingerprints; return whether all of them are the first one."""
    found = [(path, ask("inspect", path, "--fingerprint")) for path in paths]
    expected = {key: found[0][1][key] for key in ("fingerprint", "encoder_fingerprint")}
    table = plain_table("checkpoint", "dialect", "container", "fingerprint", "of the encoder", "equal")
    equal = True
    for path, said in found:
        same = all(said[key] == value for key, value in expected.items())
        equal &= same
        digests = (f"{said[key][:16]}..." for key in expected)
        table.add_row(path.name, said["dialect"], said["container"], *digests, "yes" if same else "NO")
    console.print("\nFingerprints (their first 16 digits)")
    console.print(table)
    return equal


def show_files(console: Console, source: Path, model: Mapping[str, Any], trips: Sequence[Trip]) -> bool:
    """Print a table of the source's files after each round trip; return whether all is as it was.

    A file that is no part of the checkpoint may be missing; weights, configuration and vocabulary may not.
    """
    rounds = [(trip.dialect, trip.back) for trip in trips if trip.back is not None]
    needed = {Path(model[key]) for key in ("weights", "config_file", "vocabulary")}
    table = plain_table("file", "identical after", "not carried by", "DIFFERENT after")
    good = True
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        name = path.relative_to(source)
        cells = [compare(path, back / name) for _, back in rounds]
        good &= all(cell == SAME or (cell == ABSENT and path not in needed) for cell in cells)
        found = {
            kind: [dialect for (dialect, _), cell in zip(rounds, cells, strict=True) if cell == kind] for kind in KINDS
        }
        same, absent, different = (found[kind] for kind in KINDS)
        table.add_row(str(name), f"{len(same)} of {len(rounds)}", ", ".join(absent), ", ".join(different))
    console.print(f"\nFiles of {source} after the way there and back")
    console.print(table)
    return good


KINDS = SAME, ABSENT, DIFFERENT = "identical", "not carried", "DIFFERENT"


def compare(one: Path, other: Path) -> str:
    """Say how a file compares with the one that it came back as."""
    if not other.is_file():
        return ABSENT
    if one.stat().st_size != other.stat().st_size:
        return DIFFERENT
    with one.open("rb") as a, other.open("rb") as b:
        while block := a.read(1 << 20):
            if block != b.read(1 << 20):
                return DIFFERENT
    return SAME


if __name__ == "__main__":
    sys.exit(main())
