"""What the commands print for people: tables that fold layers, and short paragraphs.

Rich draws the tables. It takes a tenth of the time of a short command to load, so sentences do without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from interlingua.convert.conversion import Result
from interlingua.convert.plan import Plan, Step
from interlingua.errors import counted, printable
from interlingua.mappings.config import Json
from interlingua.mappings.schema import LAYER
from interlingua.verify.difference import Comparison

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from interlingua.convert.json_forms import DescriptionForm


def shown(value: str, style: str = "") -> Text:
    """Return text for a terminal, in which no name out of a file can do anything."""
    from rich.text import Text

    return Text(printable(value), style)


def plain_table(*columns: str, right: Sequence[str] = ()) -> Table:
    """Return an empty table without frames."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def facts_grid() -> Table:
    """Return an empty grid of names and values, in which a value too long for a line goes on in the next."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    return grid


def folded(rows: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return the rows with those merged that differ in their layer's number alone.

    A merged row shows the numbers as a range: ``encoder.layer.{0…11}.output.dense.weight``.
    """
    groups: dict[tuple[str, ...], list[int | None]] = {}
    for row in rows:
        key = tuple(_LAYER.sub(LAYER, cell, count=1) for cell in row)
        numbers = (int(found.group()) for cell in row if (found := _LAYER.search(cell)))
        groups.setdefault(key, []).append(next(numbers, None))
    return [tuple(cell.replace(LAYER, _range(numbers)) for cell in key) for key, numbers in groups.items()]


# Between separators, or behind the words by which systems number layers inside one.
_LAYER = re.compile(
    r"(?:(?<=[./])|(?<=layer_)|(?<=transformer_encoder_)|(?<=layer_with_weights-))(?:0|[1-9][0-9]{0,8})(?=[./_])"
)


def _range(numbers: Sequence[int | None]) -> str:
    there = sorted({number for number in numbers if number is not None})
    if len(there) < 2:
        return "".join(map(str, there))
    if there == list(range(there[0], there[-1] + 1)):
        return f"{{{there[0]}…{there[-1]}}}"
    return "{" + ",".join(map(str, there)) + "}"


def size(nbytes: int) -> str:
    """Return a number of bytes as people write it: ``90.9 MB`` (powers of ten)."""
    value = float(nbytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def count(parameters: int) -> str:
    """Return a number of parameters as model zoos write it: ``102.3M``."""
    if parameters < 1_000_000_000:
        return f"{parameters / 1e6:.1f}M"
    return f"{parameters / 1e9:.2f}B"


def show_steps(console: Console, plan: Plan) -> None:
    """Print which tensor becomes which, file by file."""
    for output in plan.outputs:
        console.print()
        console.print(shown(f"{output.path}  ({output.container}, {size(output.nbytes)})", style="bold"))
        if output.container == "file":
            continue
        rows = folded(_step_row(step) for step in output.steps)
        rows += folded((owner, tied, "", "", "tie") for tied, owner in output.ties.items())
        _show_tensors(console, rows)
    for text in plan.texts:
        console.print()
        console.print(shown(f"{text.path}  (text)", style="bold"))


def _show_tensors(console: Console, rows: Sequence[tuple[str, ...]]) -> None:
    """Print where each tensor goes: a line for each, or three where names do not fit beside each other."""
    table = plain_table("from", "to", "dtype", "shape", "operation")
    for row in rows:
        table.add_row(*map(shown, row))
    if fits(console, table):
        console.print(table)
        return
    for source, target, *rest in rows:
        console.print(shown(source))
        console.print(shown(f"  -> {target}"))
        console.print(shown(f"     {'  '.join(filter(None, rest))}"))


def fits(console: Console, table: Table) -> bool:
    """Say whether a table of long names can be read here: its lines are whole, or there is room to fold them in."""
    whole = console.measure(table, options=console.options.update(width=10_000)).maximum
    return console.width >= min(whole, WIDE)


WIDE = 110
"""Columns in which two long names have room beside each other, folded perhaps."""


def _step_row(step: Step) -> tuple[str, ...]:
    sources = ", ".join(dict.fromkeys(piece.name for piece in step.pieces if piece.origin != "zeros"))
    shape = " x ".join(map(str, step.target.shape)) or "scalar"
    return (sources, step.target.name, step.target.dtype.name, shape, step.operation)


def summary(plan: Plan) -> Iterator[str | Table]:
    """Return what was found and what will be done, in a few sentences, with a table of what has no place."""
    weights = [output for output in plan.outputs if output.container == plan.container]
    tensors = sum(len(output.steps) for output in weights if not _is_residue(output.path))
    heads = ", ".join(head.replace("_", " ") for head in plan.heads) or "no heads"
    what = f"{plan.family} in {plan.origin} ({heads})" if plan.family else "tensors under their own names"
    goal = f"{plan.target} ({plan.container})" if plan.target else plan.container
    yield f"{plan.source}: {what} -> {goal}, {counted(tensors, 'tensor')}, {size(plan.nbytes)}"
    if plan.residue:
        done = "kept in interlingua.residue.safetensors" if plan.keeps_residue else "left out"
        has, are = ("has", "is") if len(plan.residue) == 1 else ("have", "are")
        yield f"{counted(len(plan.residue), 'thing')} {has} no place in the target, and {are} {done}:"
        table = plain_table("residue", "size", "why", right=["size"])
        grouped = folded((kept.name, size(kept.nbytes), kept.reason) for kept in plan.residue)
        for row in grouped[:MOST]:
            table.add_row(*map(shown, row))
        yield table
        if len(grouped) > MOST:
            yield f"... and {len(grouped) - MOST} more (--dry-run --json lists them)"
    for note in plan.notes:
        yield f"note: {note}"


MOST = 12
"""Rows of residue that a summary shows."""


def _is_residue(path: str) -> bool:
    return path.endswith(".residue.safetensors")


def sentences_of(result: Result, seconds: float) -> Iterator[str]:
    """Return what a conversion did: a sentence for each lossy cast, and one for the whole."""
    for lost in result.lost:
        yield (
            f"narrowed: {lost.name}: of {lost.elements} elements {lost.losses.overflow} overflowed to infinity, "
            f"{lost.losses.underflow} underflowed to zero"
        )
    checked = "; read back and equal to the source, bit for bit" if result.checked else ""
    if result.checked and result.plan.casts:
        checked = "; read back and equal to the source as cast, bit for bit"
    rate = size(int(result.plan.nbytes / max(seconds, 1e-6)))
    yield f"{result.path}: {size(result.plan.nbytes)} in {seconds:.2f} s ({rate}/s){checked}"


def show_description(console: Console, found: DescriptionForm) -> None:
    """Print what ``inspect`` knows of a checkpoint."""
    facts = facts_grid()
    heads = ", ".join(head.replace("_", " ") for head in found["heads"] or ())
    for name, value in (
        ("path", found["path"]),
        ("container", found["container"]),
        ("dialect", found["dialect"] or "none that is known here"),
        ("family", found["family"]),
        ("heads", heads if found["heads"] is not None else None),
        ("submodels", ", ".join(found["submodels"])),
        ("parameters", f"{count(found['parameters'])} ({found['parameters']:,})"),
        ("tensors", f"{len(found['tensors'])}, {size(found['bytes'])}"),
        ("vocabulary", found["vocabulary"]),
        ("fingerprint", found["fingerprint"] or _no_fingerprint(found)),
        ("of the encoder", found["encoder_fingerprint"]),
    ):
        if value:
            facts.add_row(shown(name, style="bold"), shown(str(value)))
    console.print(facts)
    if found["config"]:
        console.print()
        config = facts_grid()
        for name, value in found["config"].items():
            config.add_row(shown(name), shown(_config_value(value)))
        console.print(config)
    console.print()
    console.print(_tensor_table(found))
    for name, reason in list(found["leftovers"].items())[:MOST]:
        console.print(shown(f"not of the model: {name}: {reason}"))
    for note in found["notes"]:
        console.print(shown(f"note: {note}"))
    if found["problem"]:
        console.print(shown(f"note: {found['problem']}"))


def _no_fingerprint(found: DescriptionForm) -> str | None:
    return "not computed here; `interlingua fingerprint` does" if found["dialect"] else None


def _config_value(value: Json) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _tensor_table(found: DescriptionForm) -> Table:
    stats = any("stats" in tensor for tensor in found["tensors"])
    columns = ["tensor", "dtype", "shape"]
    if any("native" in tensor for tensor in found["tensors"]):
        columns.insert(1, "native")
    table = plain_table(*columns, *(STATS if stats else ()))
    rows = []
    for tensor in found["tensors"]:
        shape = " x ".join(map(str, tensor["shape"])) or "scalar"
        cells: list[str] = [tensor["name"], tensor["dtype"], shape]
        if "native" in columns:
            cells.insert(1, tensor.get("native") or "")
        values: Mapping[str, Json] = tensor.get("stats") or {}
        rows.append((*cells, *(_config_value(values.get(key, "")) for key in STATS if stats)))
    for row in rows if stats else folded(rows):
        table.add_row(*map(shown, row))
    return table


STATS = ("min", "max", "mean", "nan", "inf")


def show_comparison(console: Console, comparison: Comparison) -> None:
    """Print the outcome of a comparison."""
    if comparison.same:
        console.print(shown(f"the same: {comparison.compared} tensors, nothing differs"))
        return
    table = plain_table("tensor", "differs in", "how")
    for entry in comparison.differences:
        table.add_row(shown(entry.name), shown(entry.what), shown(entry.detail))
    console.print(table)
    console.print(
        shown(
            f"different: {len(comparison.differences)} of {comparison.compared} compared tensors and those in one only"
        )
    )
