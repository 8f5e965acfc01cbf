"""What a dialect is: per family a table of rules, and the forms of its folder and configuration."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from interlingua.mappings.config import ConfigTable, Json
from interlingua.mappings.conventions import Conventions
from interlingua.mappings.rules import Rule, Shape
from interlingua.mappings.schema import ENCODER, LAYER, Family, layer_of, template

BASE = "{base}"
"""Stands in a native name for the model's own prefix (``bert.``), which only a model with heads has."""

TaskFinder = Callable[[Mapping[str, Shape], Mapping[str, Json]], tuple[str, str] | None]
"""Tells from native names with shapes, and the configuration, which head an ambiguous name is; and why."""


@dataclass(frozen=True, slots=True)
class Table:
    """One family in one dialect.

    Attributes:
        family: the family.
        rules: the table itself.
        base: what ``{base}`` is when written in a model with heads; a bare encoder has none.
        bases: what is read in the place of ``{base}``, besides nothing.
        renames: (old, new) endings of names that older versions wrote.
        scopes: starts of names that belong to the encoder: a name in there that no rule knows is an
            architecture that the table does not describe.
        buffers: names of what a model stores but computes anew on loading.
        architectures: (class, heads) of the system's model classes, the most demanding first.
        find_task: decides between rules that share a native name.
        rows: native row counts that the system's code fixes, by canonical name.
    """

    family: Family
    rules: tuple[Rule, ...]
    scopes: tuple[str, ...]
    base: str = ""
    bases: tuple[str, ...] = ()
    renames: tuple[tuple[str, str], ...] = ()
    buffers: frozenset[str] = frozenset()
    architectures: tuple[tuple[str, frozenset[str]], ...] = ()
    find_task: TaskFinder | None = None
    rows: Mapping[str, int] = field(default_factory=dict)

    def candidates(self) -> dict[str, list[Rule]]:
        """Return every native spelling (without base) that is read, with the rules that it may stand for."""
        found: dict[str, list[Rule]] = {}
        for rule in self.rules:
            for spelling in (*rule.spellings, *rule.copies):
                found.setdefault(spelling.replace(BASE, ""), []).append(rule)
        return found

    def rule(self, canonical: str, heads: Collection[str]) -> Rule | None:
        """Return the rule that writes a canonical tensor in a model with these heads, or None."""
        wanted = template(canonical)
        fitting = [
            rule for rule in self.rules if rule.canonical == wanted and (rule.head is None or rule.head in heads)
        ]
        return max(fitting, key=lambda rule: rule.head is not None, default=None)

    def spell(self, native: str, canonical: str, heads: Collection[str]) -> str:
        """Return a rule's native name with its layer number and base filled in."""
        layer = layer_of(canonical)
        name = native if layer is None else native.replace(LAYER, str(layer))
        return name.replace(BASE, self.base if set(heads) - {"pooler"} else "")

    def architecture(self, heads: Collection[str]) -> str | None:
        """Return the system's class for a model with these heads, or None where the system names none."""
        return next((name for name, needed in self.architectures if needed <= set(heads)), None)

    def clean(self, name: str) -> str:
        """Return a native name as today's version writes it, its base taken off."""
        for base in self.bases:
            if name.startswith(base):
                name = name[len(base) :]
                break
        for old, new in self.renames:
            if name.endswith(old):
                return name[: -len(old)] + new
        return name

    def roots(self, names: Iterable[str]) -> list[str]:
        """Return what stands before each model in these names (``module.``, ``state_dict.``, or nothing).

        A model is found by its word embedding, under any of its spellings.
        """
        anchors = [s.replace(BASE, "") for rule in self.rules for s in rule.spellings if rule.canonical == ANCHOR]
        found: dict[str, None] = {}
        for name in names:
            for anchor in anchors:
                prefix = name[: len(name) - len(anchor)]
                if name.endswith(anchor) and (not prefix or prefix[-1] in "./"):
                    base = next((b for b in self.bases if prefix == b or prefix.endswith((f".{b}", f"/{b}"))), "")
                    found[prefix[: len(prefix) - len(base)]] = None
        return list(found)


ANCHOR = "embeddings.word_embeddings.weight"
"""The tensor by which a model is found among others: every encoder has it."""


@dataclass(frozen=True, slots=True)
class FolderForm:
    """What a folder of this dialect holds, by file name.

    Attributes:
        weights: container -> name of the weights file; ``{shard}`` in ``shards`` stands for its number.
        shards: container -> (name of one shard, name of the index); empty where the system knows no shards.
        config: the configuration's file name.
        vocabulary: the vocabulary's file name.
        sidecars: patterns (``fnmatch``) of further files that this system's users expect to travel along.
        metadata: container -> what the container's own metadata must say.
    """

    weights: Mapping[str, str]
    config: str
    vocabulary: str
    shards: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    sidecars: tuple[str, ...] = ()
    metadata: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Dialect:
    """One system's naming, layout and folder conventions.

    Attributes:
        name: as ``--to`` and ``--from`` take it.
        title: the system's own name.
        containers: containers that the system reads, the default first.
        tables: family -> table.
        config: how its configuration is spelled.
        conventions: how its code computes.
        folder: what its folders hold.
        head_counts: hidden size -> attention heads, where the system ships one configuration for that size.
    """

    name: str
    title: str
    containers: tuple[str, ...]
    tables: Mapping[str, Table]
    config: ConfigTable
    conventions: Conventions
    folder: FolderForm
    head_counts: Mapping[int, int] = field(default_factory=dict)


def check_table(table: Table) -> list[str]:
    """Return what is wrong with a table: a rule for no tensor, a tensor named twice, a layer lost on the way."""
    wrong = []
    known = {tensor.name: tensor for tensor in table.family.tensors}
    for rule in table.rules:
        if rule.canonical not in known:
            wrong.append(f"{rule.canonical}: no tensor of {table.family.name}")
        wrong += [f"{s}: {LAYER} on one side only" for s in rule.spellings if (LAYER in s) != (LAYER in rule.canonical)]
    for spelling, rules in table.candidates().items():
        if len(rules) > 1 and len({rule.head for rule in rules}) != len(rules):
            wrong.append(f"{spelling}: stands for several tensors and no head decides")
    covered = {rule.canonical for rule in table.rules}
    wrong += [f"{name}: no rule" for name, tensor in known.items() if tensor.part == ENCODER and name not in covered]
    return wrong
