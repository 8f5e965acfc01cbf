"""Recognise a model among native names: which canonical tensor each is, and what is left over and why."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from interlingua.errors import FormatError, MappingError, UsageError, counted, nearest
from interlingua.mappings.config import Json
from interlingua.mappings.dialect import Dialect, Table
from interlingua.mappings.rules import Operation, PadRows, Rule, Shape, SplitHeads, Transpose
from interlingua.mappings.schema import ENCODER, LAYER, layer_of, template

HEADS = "heads"
"""The symbol of the number of attention heads among sizes, where shapes tell it."""

MOST_ROOTS = 64
"""Models that are looked into to recognise a dialect: a file with more is one dialect's all the same."""

PREFERRED = (
    ("encoder_q", "encoder_k", "the query encoder is the one that is trained; encoder_k is its moving average"),
)
"""Pairs of submodels of which trainers keep two: (chosen, left, why)."""


@dataclass(frozen=True, slots=True)
class Found:
    """A canonical tensor found in a source.

    Attributes:
        native: its native name there, as the source spells it.
        rule: the rule that says so.
        copies: further native names that claim to be the same data.
    """

    native: str
    rule: Rule
    copies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Match:
    """What a source is, in canonical terms.

    Attributes:
        dialect: the dialect whose table it was read with.
        table: that table.
        root: what stands before the model in native names (``module.``), or nothing.
        roots: every such prefix that a model was found behind.
        tensors: canonical name -> where it was found, in canonical order.
        leftovers: native name -> why it is not part of the model, in the source's order.
        heads: heads found, in canonical order.
        layers: number of layers.
        sizes: shape symbol -> its value.
        notes: sentences on what was decided on the way.
    """

    dialect: Dialect
    table: Table
    root: str
    roots: tuple[str, ...]
    tensors: dict[str, Found]
    leftovers: dict[str, str]
    heads: tuple[str, ...]
    layers: int
    sizes: dict[str, int]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A table whose model is among a source's names.

    Attributes:
        dialect: its dialect.
        table: the table.
        rank: how well it fits; compare with others'.
    """

    dialect: Dialect
    table: Table
    rank: tuple[int, ...]


def recognise(
    dialects: Mapping[str, Dialect], names: Mapping[str, Shape], config: Mapping[str, Json], container: str
) -> list[Candidate]:
    """Return a candidate for each table whose model is among the names, best first.

    A table that knows more of the names is better; among equals one whose family the configuration states,
    then one whose prefix the names have, then one whose system keeps weights in such a container.
    """
    found = []
    # Of names that differ in their numbers alone one tells as much as all: a layer has what the others have.
    telling = {_DIGITS.sub("0", name): name for name in reversed(list(names))}.values()
    for dialect in dialects.values():
        for table in dialect.tables.values():
            score = _score(table, telling)
            if score is not None:
                claim = table.config.claims(config)
                rank = (score[0], claim is True, claim is not False, score[1], container in dialect.containers)
                found.append(Candidate(dialect, table, rank))
    return sorted(found, key=lambda candidate: candidate.rank, reverse=True)


_DIGITS = re.compile("[0-9]+")


def _score(table: Table, names: Iterable[str]) -> tuple[int, bool] | None:
    """Return how many of the names a table knows, and whether its own prefix is there; None: no model of it."""
    tidy = [table.tidy(name) for name in names]
    scores = []
    for root in table.roots(tidy)[:MOST_ROOTS]:
        inside = [name[len(root) :] for name in tidy if name.startswith(root)]
        known = sum(table.parse(table.clean(name)) is not None or name in table.aside for name in inside)
        scores.append((known, bool(table.base) and any(name.startswith(table.base) for name in inside)))
    return max(scores, default=None)


def match(
    dialect: Dialect, table: Table, names: Mapping[str, Shape], config: Mapping[str, Json], submodel: str | None = None
) -> Match:
    """Return what canonical tensor each native name is.

    Args:
        dialect: the dialect to read with.
        table: its table of the family to read as.
        names: native name -> native shape, in the source's order.
        config: the source's own configuration, empty where there is none.
        submodel: part of the prefix of the model to take, where there are several.

    Raises:
        UsageError: there are several models and nothing says which to take, or the one named is not there.
        MappingError: the encoder has a tensor that the table does not know, or lacks one.
        FormatError: shapes contradict each other, or one tensor is there under two spellings.
    """
    tidy = {name: table.tidy(name) for name in names}
    roots = table.roots(tidy.values())
    root, notes = _choose(roots, submodel)
    inside = {name: table.clean(seen[len(root) :]) for name, seen in tidy.items() if seen.startswith(root)}
    task = table.find_task(names, table.config.unwrap(config)) if table.find_task else None
    strangers = table.strangers(names)
    known = {native: name for native, name in inside.items() if native not in strangers}
    found, unknown = _assign(table, known, tidy, task[0] if task else None)
    _refuse_unknown_encoder(table, unknown, inside, dialect)
    taken = {name for entry in found.values() for name in (entry.native, *entry.copies)}
    leftovers = {name: _reason(table, root, name, inside.get(name)) for name in names if name not in taken}
    found, halves = _whole_heads(table, found)
    leftovers |= halves
    layers = _count_layers(table, found)
    ordered = {name: found[name] for name, _ in table.family.instances(layers) if name in found}
    heads = tuple(h for h in table.family.heads if any(table.family.find(name).part == h for name in ordered))
    if task and task[0] in heads and _is_ambiguous(table, ordered, task[0]):
        notes += (f"The classifier is read as {task[0].replace('_', ' ')}: {task[1]}.",)
    sizes = _sizes(table, ordered, names)
    ranked = {name: leftovers[name] for name in names if name in leftovers}
    return Match(dialect, table, root, tuple(roots), ordered, ranked, heads, layers, sizes, notes)


def _choose(roots: list[str], submodel: str | None) -> tuple[str, tuple[str, ...]]:
    if submodel is not None:
        wanted = submodel.strip("./")
        fitting = [r for r in roots if r.rstrip("./") == wanted or f".{wanted}." in f".{r}" or f"/{wanted}/" in f"/{r}"]
        if len(fitting) == 1:
            return fitting[0], ()
        named = [root.rstrip("./") for root in roots if root]
        there = listing([repr(name) for name in named]) or "one, with no prefix"
        near = None if fitting else nearest(wanted, named)
        raise UsageError(
            f"--submodel {submodel} fits {len(fitting)} of the models found here.",
            hint=f"Did you mean {near!r}? Found: {there}." if near else f"Found: {there}.",
        )
    if len(roots) == 1:
        return roots[0], ()
    for chosen, left, why in PREFERRED:
        a, b = ([root for root in roots if word in root] for word in (chosen, left))
        if len(a) == 1 and len(a) + len(b) == len(roots):
            return a[0], (f"Of the models {a[0]}* and {b[0]}* the first is taken ({why}); --submodel takes another.",)
    there = listing([repr(root.rstrip("./")) for root in roots])
    raise UsageError(f"There are {len(roots)} models in here: {there}.", hint="Choose one with --submodel PREFIX.")


def _assign(
    table: Table, inside: Mapping[str, str], tidy: Mapping[str, str], task: str | None
) -> tuple[dict[str, Found], list[str]]:
    """Return canonical name -> where found, and the native names that no rule knows."""
    found: dict[str, Found] = {}
    copies: dict[str, list[str]] = {}
    unknown = []
    for native, name in inside.items():
        key, layer = table.parse(name) or ("", None)
        rules = table.candidates.get(key, [])
        # Rules of one tensor differ in what is written alone.
        one = len({rule.canonical for rule in rules}) == 1
        rule = next((rule for rule in rules if one or rule.head == task), None)
        if rule is None:
            unknown.append(native)
            continue
        canonical = rule.canonical.replace(LAYER, str(layer or 0))
        if key in table.copies or (canonical in found and tidy[found[canonical].native] == tidy[native]):
            copies.setdefault(canonical, []).append(native)
        elif canonical in found:
            raise FormatError(
                f"{found[canonical].native!r} and {native!r} are two spellings of one tensor ({canonical})",
                hint="The file was put together from two versions; take one of them out.",
            )
        else:
            found[canonical] = Found(native, rule)
    for canonical, natives in copies.items():
        if canonical in found:
            found[canonical] = Found(found[canonical].native, found[canonical].rule, tuple(natives))
        else:
            rule = next(rule for rule in table.rules if rule.canonical == template(canonical) and rule.copies)
            found[canonical] = Found(natives[0], rule, tuple(natives[1:]))
    return found, unknown


def _refuse_unknown_encoder(table: Table, unknown: list[str], inside: Mapping[str, str], dialect: Dialect) -> None:
    strange = [n for n in unknown if inside[n].startswith(table.scopes) and not _is_bystander(table, inside[n])]
    if strange:
        raise MappingError(
            f"{counted(len(strange), 'tensor')} inside the encoder {'is' if len(strange) == 1 else 'are'} none of a "
            f"{table.family.name} in {dialect.title}: "
            f"{listing(strange)}.",
            names=strange,
            hint=_misspelt(table, strange[0], inside)
            or "It is another architecture, so leaving them out would "
            "change what it computes. --keep-names converts the container alone.",
        )


def _misspelt(table: Table, native: str, inside: Mapping[str, str]) -> str | None:
    """Return the hint that a name is probably a misspelling of one that the checkpoint lacks; None where it is not."""
    name = inside[native]
    for spelling, layer in (*table.numbering.readings(name), (name, 0)):
        near = nearest(spelling, table.candidates, TYPO)
        meant = near.replace(LAYER, table.numbering.spell(layer)) if near else None
        if meant is not None and meant not in inside.values():
            return f"Is it misspelt? {meant} is missing. --keep-names converts the container alone."
    return None


TYPO = 0.9
"""Likeness above which a tensor's name is one of the dialect's, misspelt: a letter or two of it."""


def _is_bystander(table: Table, name: str) -> bool:
    """Say whether a name inside the encoder's scope is no weight of it."""
    return name in table.buffers or table.is_slot(name)


def listing(names: list[str], most: int = 8) -> str:
    """Return the names in a sentence, at most ``most`` of them."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _reason(table: Table, root: str, native: str, name: str | None) -> str:
    """Say why a native name is not part of the model."""
    if name is None and table.is_slot(native):
        return "state of a training run"
    if name is None:
        return f"outside of the model (which is behind {root.rstrip('./')})"
    if name in table.buffers:
        return "a buffer, computed anew on loading"
    if native.startswith("optimizer") or table.is_slot(name):
        return "state of a training run"
    return f"a head or an addition that {table.family.name} has no name for"


def _whole_heads(table: Table, found: dict[str, Found]) -> tuple[dict[str, Found], dict[str, str]]:
    """Take heads out of which a part is missing; a tensor that is tied may be missing."""
    halves: dict[str, str] = {}
    whole = dict(found)
    for head in table.family.heads:
        tensors = [tensor for tensor in table.family.tensors if tensor.part == head]
        there = [tensor.name for tensor in tensors if tensor.name in found]
        missing = [tensor.name for tensor in tensors if tensor.name not in found and tensor.tied_to is None]
        if there and missing:
            for name in there:
                entry = whole.pop(name)
                halves |= dict.fromkeys((entry.native, *entry.copies), f"half of a head: {listing(missing)} missing")
    return whole, halves


def _count_layers(table: Table, found: Mapping[str, Found]) -> int:
    numbers = {number for name in found if (number := layer_of(name)) is not None}
    layers = max(numbers, default=-1) + 1
    if layers > len(found):
        raise FormatError(f"a layer is numbered {layers - 1}, but there are only {len(numbers)} layers")
    due = table.needs & table.family.neutral
    missing = [
        name
        for name, tensor in table.family.instances(layers)
        if tensor.part == ENCODER and name not in found and (not tensor.optional or name in due)
    ]
    if missing or not layers:
        raise MappingError(
            f"The source lacks {counted(len(missing), 'tensor')} of a {table.family.name} of "
            f"{counted(layers, 'layer')}: {listing(missing)}.",
            names=missing,
            hint="The file is incomplete, or it is another architecture. --keep-names converts the container alone.",
        )
    return layers


def _is_ambiguous(table: Table, found: Mapping[str, Found], head: str) -> bool:
    natives = [entry.rule.native for entry in found.values() if entry.rule.head == head]
    return any(len(table.candidates.get(native, ())) > 1 for native in natives)


def _sizes(table: Table, found: Mapping[str, Found], names: Mapping[str, Shape]) -> dict[str, int]:
    """Return what each shape symbol is, every tensor agreeing."""
    sizes: dict[str, int] = {}
    origin: dict[str, str] = {}
    for canonical, entry in found.items():
        native = names[entry.native]
        symbols = table.family.find(canonical).shape
        operation = entry.rule.operation
        shape = operation.canonical_shape(native) if operation and native else native
        if len(shape) != len(symbols):
            raise FormatError(f"{entry.native!r} has the shape {list(native)}, but {' x '.join(symbols)} is due")
        if isinstance(operation, PadRows) and native[0] < operation.before:
            raise FormatError(f"{entry.native!r} has {native[0]} rows, but {operation.before} come before the first")
        due = [*zip(symbols, shape, strict=True), *_head_axis(operation, native)]
        for symbol, size in due:
            wanted = int(symbol) if symbol.isdigit() else sizes.setdefault(symbol, size)
            if not symbol.isdigit():
                origin.setdefault(symbol, entry.native)
            if size != wanted:
                seen = f" (as {origin[symbol]!r} says)" if symbol in origin else ""
                raise FormatError(
                    f"{entry.native!r} has the shape {list(native)}, but its {symbol} size should be {wanted}{seen}",
                    hint="Tensors of different models are mixed, or the file is damaged.",
                )
    return sizes


def _head_axis(operation: Operation | None, native: Shape) -> list[tuple[str, int]]:
    """Return the number of attention heads where a tensor's own shape has it."""
    axis = 0 if isinstance(operation, SplitHeads) else getattr(operation, "heads", None)
    whole = 2 if isinstance(operation, Transpose) else 1
    return [] if axis is None or len(native) == whole else [(HEADS, native[axis])]
