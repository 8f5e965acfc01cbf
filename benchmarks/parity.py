"""A real model in every dialect, each run in its own framework: what parity-check says, and its sentence embeddings.

``python -m benchmarks.parity`` converts all-MiniLM-L6-v2 to every dialect and prints a table. Sentence embeddings (the
mean of the last hidden states, of length 1) stand beside those of the package sentence-transformers where it is
installed. Others' implementations run where they are; ``Makefile`` knows an environment that has them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

import interlingua
from benchmarks.demo import find_model
from benchmarks.markdown import put, table
from interlingua.mappings.registry import DIALECTS
from interlingua.verify.encoders.request import Request
from interlingua.verify.parity.check import Options, check
from interlingua.verify.parity.outcome import DIFFERENT, Outcome, Side
from interlingua.verify.parity.process import Answer, run
from interlingua.verify.parity.runs import Settings
from interlingua.verify.report import plain_table
from interlingua.verify.text import SENTENCES

Array = NDArray[Any]

ENCODE = """
import json, sys
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1], device="cpu")
vectors = model.encode(json.loads(sys.argv[2]), batch_size=1, normalize_embeddings=True)
json.dump(vectors.tolist(), open(sys.argv[3], "w"))
"""


class Keeping:
    """Runs sides as usual, and keeps what B computed and what it was given."""

    def __init__(self) -> None:
        self.activations: dict[str, Array] = {}
        self.mask: Array = np.zeros(0)

    def __call__(self, request: Request, folder: Path, *, interpreter: str | None, timeout: float) -> Answer:
        """Run a request in a process of its own."""
        answer = run(request, folder, interpreter=interpreter, timeout=timeout)
        if folder.name == "B" and answer.failure is None:
            self.activations = dict(np.load(request.output))
            self.mask = np.load(request.batches)["text/attention_mask"]
        return answer

    def embeddings(self, layers: int) -> Array:
        """Return the sentences' embeddings, [sentences, hidden]."""
        x, mask = self.activations[f"text/layer.{layers - 1}"].astype(np.float64), self.mask[..., None]
        mean = (x * mask).sum(axis=1) / mask.sum(axis=1)
        found: Array = (mean / np.linalg.norm(mean, axis=1, keepdims=True))[: len(SENTENCES)]
        return found


def sentence_transformers(model: Path, folder: Path) -> Array | None:
    """Return what the package sentence-transformers makes of the sentences; None where it is not installed."""
    if importlib.util.find_spec("sentence_transformers") is None:
        return None
    out = folder / "embeddings.json"
    subprocess.run([sys.executable, "-c", ENCODE, str(model), json.dumps(SENTENCES), str(out)], check=True)
    return np.array(json.loads(out.read_text(encoding="utf-8")))


def units(side: Side) -> str:
    """Return the greatest error of a side from its oracle, in units of noise: root mean square, and one element."""
    if not side.gaps:
        return side.failure or "nothing"
    peak = max(gap.max_abs / gap.noise_max for gap in side.gaps)
    return f"{max(gap.units for gap in side.gaps):.2f}, {peak:.2f}"


def conventions(outcome: Outcome) -> str:
    """Return the conventions that differ, with what they explain."""
    return ", ".join(f"{share.convention} {share.share:.0%}" for share in outcome.shares) or "none"


def main() -> int:
    """Print the table; 1 where a dialect's model is called different."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(".demo"), help="where the model is, or is put")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--write", type=Path, help="a page that has a place for the table, to write it into")
    parser.add_argument("--dialect", action="append", choices=list(DIALECTS), help="only this one")
    arguments = parser.parse_args()
    console = Console(width=180, highlight=False)
    model = find_model(arguments.folder)
    columns = ("dialect", "reference", "rms, peak of B", "outputs", "conventions that differ", "embeddings", "seconds")
    rows: list[tuple[str, ...]] = []
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        expected = sentence_transformers(model, Path(name))
        for dialect in arguments.dialect or DIALECTS:
            target = Path(name) / dialect
            interlingua.convert(model, target, to=dialect, sync=False)
            keeping = Keeping()
            outcome = check(model, target, Options(settings=Settings(device=arguments.device, launch=keeping)))
            b = outcome.b
            apart = "not compared"
            if expected is not None and keeping.activations:
                apart = f"{np.abs(keeping.embeddings(b.config['num_hidden_layers']) - expected).max():.1e}"
            ran = f"{b.reference} {b.version} on {b.framework}".replace("  ", " ")
            row: tuple[str, ...] = (
                dialect,
                ran,
                units(b),
                outcome.verdict.removeprefix("same model, "),
                conventions(outcome),
                apart,
            )
            rows.append((*row, f"{outcome.seconds:.0f}"))
            failed += outcome.verdict == DIFFERENT
            if outcome.reasons:
                console.print(f"{dialect}: {' '.join(outcome.reasons)}")
            shutil.rmtree(target)
    table = plain_table(*columns)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    if arguments.write is not None:
        # Not the seconds: they are of this machine, and of what else it did.
        write_table(arguments.write, arguments.device, columns[:-1], [row[:-1] for row in rows], outcome.a.device)
    return min(failed, 1)


def write_table(page: Path, device: str, columns: Sequence[str], rows: Sequence[Sequence[str]], name: str) -> None:
    """Put the table, in Markdown, between the two comments of a page that ask for it."""
    where = "" if device == "cpu" else f"On {name}:\n\n"
    put(page, f"parity on {device}", where + table(columns, rows))


if __name__ == "__main__":
    raise SystemExit(main())
