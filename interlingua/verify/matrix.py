"""What converts to what, as tables and as a value: computed from the dialects, and held true by the tests."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from interlingua.convert.json_forms import VERSION, CrossingForm, MatrixForm
from interlingua.errors import UsageError, suggestion
from interlingua.formats.registry import CONTAINERS
from interlingua.mappings.registry import DIALECTS, conversions, families
from interlingua.verify.report import plain_table, shown


def as_dict() -> MatrixForm:
    """Return everything that can be converted, ready for JSON."""
    pairs: dict[str, dict[str, list[str]]] = {a: {b: [] for b in DIALECTS} for a in DIALECTS}
    for pair in conversions():
        pairs[pair.source][pair.target].append(pair.family)
    renamed: list[CrossingForm] = [
        {"from": pair.source, "to": pair.target, "family": pair.family, "as": pair.written_as}
        for pair in conversions()
        if pair.family != pair.written_as
    ]
    return {
        "schema": VERSION,
        "dialects": pairs,
        "written_as_another_family": renamed,
        "containers": {c.name: {"reads": True, "writes": c.writes, "title": c.title} for c in CONTAINERS.values()},
    }


def tables(family: str | None = None) -> Iterator[Table]:
    """Yield tables for a terminal: which dialect converts to which, what each dialect has, and the containers.

    Args:
        family: show this family's models alone; None: how many families there are for each pair.

    Raises:
        UsageError: there is no such family.
    """
    if family not in (None, *families()):
        raise UsageError(f"There is no family {family!r}.", hint=suggestion(family or "", families()))
    yield _grid(family)
    if family is None:
        yield _dialects()
        yield _containers()


def _grid(family: str | None) -> Table:
    """Return the pairs; columns are numbered, as names would not fit beside each other."""
    numbers = {name: str(number) for number, name in enumerate(DIALECTS, 1)}
    table = plain_table("", "from \\ to", *numbers.values(), right=("", *numbers.values()))
    table.padding = (0, 1, 0, 0)  # It fits into sixty columns so.
    cells: dict[tuple[str, str], list[str]] = {}
    for pair in conversions():
        if family in (None, pair.family):
            cells.setdefault((pair.source, pair.target), []).append(pair.written_as)
    for source, number in numbers.items():
        row = (cells.get((source, target), []) for target in DIALECTS)
        shorten = (_cell(found, family) for found in row)
        table.add_row(number, shown(source), *shorten)
    return table


def _cell(found: list[str], family: str | None) -> str:
    if not found:
        return "-"
    if family is None:
        return str(len(found))
    return "yes" if found == [family] else f"as {found[0]}"


def _dialects() -> Table:
    table = plain_table("dialect", "system", "families", "containers")
    for dialect in DIALECTS.values():
        table.add_row(
            *(shown(cell) for cell in (dialect.name, dialect.title)),
            shown(", ".join(dialect.tables)),
            shown(", ".join(dialect.containers)),
        )
    return table


def _containers() -> Table:
    table = plain_table("container", "what it is", "reads", "writes")
    for container in CONTAINERS.values():
        table.add_row(container.name, container.title, "yes", "yes" if container.writes else "-")
    return table
