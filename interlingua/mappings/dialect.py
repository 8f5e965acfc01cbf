"""What a dialect is: per family a table of rules and the form of its configuration, and the form of its folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from functools import cache, cached_property

from interlingua.mappings.config import Config, ConfigTable, Json
from interlingua.mappings.conventions import Conventions
from interlingua.mappings.rules import Rule, Shape
from interlingua.mappings.schema import ENCODER, LAYER, Family, layer_of, template
from interlingua.mappings.tokenizer_settings import SILENT, SmallFiles, TokenizerSettings

BASE = "{base}"
"""Stands in a native name for the model's own prefix (``bert.``), which only a model with heads has."""

MODEL = "{model}"
"""Stands in a native name for what the system calls a model with these heads (``Table.models``)."""

StrangerFinder = Callable[[Mapping[str, Shape]], frozenset[str]]
"""Tells from native names with shapes which of them is something else there than the table has under that name."""

TaskFinder = Callable[[Mapping[str, Shape], Mapping[str, Json]], tuple[str, str] | None]
"""Tells from native names with shapes, and the configuration, which head an ambiguous name is; and why."""


@dataclass(frozen=True, slots=True)
class Numbering:
    """How a system numbers layers in names.

    Attributes:
        first: the number of layer 0.
        suffix: layer 0 has no number, and layer 1 is ``_1``, as Keras tells things of one class apart.
    """

    first: int = 0
    suffix: bool = False

    def spell(self, layer: int) -> str:
        """Return what stands in a name for a layer (counted from 0)."""
        if self.suffix:
            return f"_{layer}" if layer else ""
        return str(layer + self.first)

    def readings(self, name: str) -> Iterator[tuple[str, int]]:
        """Yield (name with ``{layer}`` for a number, layer) for each number that can be a layer's."""
        for found in _NUMBER.finditer(name):
            start, number = found.start(), int(found.group())
            if not self.suffix and number >= self.first:
                yield name[:start] + LAYER + name[found.end() :], number - self.first
            elif self.suffix and number and name[start - 1 : start] == "_":
                yield name[: start - 1] + LAYER + name[found.end() :], number


# Nine digits at most: a longer number is no layer's, and Python refuses to read one of thousands.
_NUMBER = re.compile(r"(?<![0-9])(0|[1-9][0-9]{0,8})(?![0-9])")

PLAIN = Numbering()
KERAS = Numbering(suffix=True)


def as_it_is(name: str) -> str:
    """Return a native name as it is."""
    return name


def no_strangers(_names: Mapping[str, Shape]) -> frozenset[str]:
    """Take every name for what the table has under it."""
    return frozenset()


def no_fillings(_canonical: Collection[str]) -> Mapping[str, tuple[str, ...]]:
    """Make nothing up."""
    return {}


@cache
def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """Return what matches a name that one of the patterns (``fnmatch``) does; a dialect's tables share theirs."""
    return re.compile("|".join(map(translate, patterns)))


# Compared by identity: a table is made once.
@dataclass(frozen=True, eq=False)
class Table:
    """One family in one dialect.

    Attributes:
        family: the family.
        rules: the table itself.
        config: how its configuration is spelled.
        conventions: how the system's code computes it.
        scopes: starts of names that belong to the encoder: a name in there that no rule knows is an
            architecture that the table does not describe.
        base: what ``{base}`` is when written in a model with heads.
        bare: what it is in a bare encoder (with or without its pooler).
        bases: what is read in the place of ``{base}``, besides nothing; longer ones first.
        tidy: brings a native name into the form that is looked up, where the system decorates names. Two
            names of one form are two copies of one tensor.
        numbering: how layers are numbered.
        renames: (old, new) endings of names that older versions wrote.
        buffers: names of what a model stores but computes anew on loading.
        slots: patterns (``fnmatch``) of names that a training run adds: optimizer moments, counters, rates.
        architectures: (class, heads) of the system's model classes, the most demanding first.
        models: class -> what stands for ``{model}`` in names.
        find_task: decides between rules that share a native name.
        rows: native row counts that the system's code fixes, by canonical name.
        head_counts: hidden size -> attention heads, where the system ships one configuration for that size.
        needs: optional tensors of the family that the system's own model always has.
        aside: names of what the system's model has and computes, and no canonical tensor is.
        strangers: tells which names stand for something else in a file, where a name's meaning depends on others.
        fillings: returns, of a model's canonical tensors, what the system's model always has besides and no other
            system knows: native name -> one symbol of the family's sizes an axis. Zeros are written.
    """

    family: Family
    rules: tuple[Rule, ...]
    config: ConfigTable
    conventions: Conventions
    scopes: tuple[str, ...]
    base: str = ""
    bare: str = ""
    bases: tuple[str, ...] = ()
    tidy: Callable[[str], str] = as_it_is
    numbering: Numbering = PLAIN
    renames: tuple[tuple[str, str], ...] = ()
    buffers: frozenset[str] = frozenset()
    slots: tuple[str, ...] = ()
    architectures: tuple[tuple[str, frozenset[str]], ...] = ()
    models: Mapping[str, str] = field(default_factory=dict)
    find_task: TaskFinder | None = None
    rows: Mapping[str, int] = field(default_factory=dict)
    head_counts: Mapping[int, int] = field(default_factory=dict)
    needs: frozenset[str] = frozenset()
    aside: frozenset[str] = frozenset()
    strangers: StrangerFinder = no_strangers
    fillings: Callable[[Collection[str]], Mapping[str, tuple[str, ...]]] = no_fillings

    @cached_property
    def candidates(self) -> Mapping[str, list[Rule]]:
        """Every native spelling that is read, as it is looked up, with the rules that it may stand for."""
        found: dict[str, list[Rule]] = {}
        for rule in self.rules:
            for spelling in dict.fromkeys(map(self._key, (*rule.spellings, *rule.copies))):
                found.setdefault(spelling, []).append(rule)
        return found

    @cached_property
    def heads(self) -> frozenset[str]:
        """The heads of which the system has anything."""
        return frozenset(self.family.find(rule.canonical).part for rule in self.rules) - {ENCODER}

    @cached_property
    def copies(self) -> frozenset[str]:
        """The spellings that are further names of a tensor, as they are looked up."""
        return frozenset(self._key(copy) for rule in self.rules for copy in rule.copies)

    @cached_property
    def _first_layer(self) -> Mapping[str, str]:
        """Names of layer 0 that have no number -> their spelling with ``{layer}``."""
        if not self.numbering.suffix:
            return {}
        return {key.replace(LAYER, ""): key for key in self.candidates if LAYER in key}

    def _key(self, spelling: str) -> str:
        return self.clean(self.tidy(spelling.replace(BASE, "")))

    def parse(self, name: str) -> tuple[str, int | None] | None:
        """Return the spelling that a name (tidy and clean) is, and its layer; None where no rule knows it."""
        # A file may spell the template itself, which is the name of no layer.
        if LAYER in name:
            return None
        if name in self.candidates:
            return name, None
        if name in self._first_layer:
            return self._first_layer[name], 0
        return next((reading for reading in self.numbering.readings(name) if reading[0] in self.candidates), None)

    def rule(self, canonical: str, heads: Collection[str]) -> Rule | None:
        """Return the rule that writes a canonical tensor in a model with these heads, or None."""
        wanted = template(canonical)
        fitting = [
            rule
            for rule in self.rules
            if rule.canonical == wanted
            and (rule.head is None or rule.head in heads)
            and (LAYER in rule.native or layer_of(canonical) in (None, 0))
        ]
        return max(fitting, key=lambda rule: rule.head is not None, default=None)

    def spell(self, native: str, canonical: str, heads: Collection[str]) -> str:
        """Return a rule's native name with its layer, base and model filled in."""
        layer = layer_of(canonical)
        name = native if layer is None else native.replace(LAYER, self.numbering.spell(layer))
        name = name.replace(MODEL, self.models.get(self.architecture(heads) or "", ""))
        return name.replace(BASE, self.base if set(heads) - {"pooler"} else self.bare)

    def architecture(self, heads: Collection[str]) -> str | None:
        """Return the system's class for a model with these heads, or None where the system names none.

        A model that lacks no more than the pooler of a class with its head is of that class.
        """
        fitting = next(((name, needed) for name, needed in self.architectures if needed <= set(heads)), None)
        if set(heads) - {"pooler"} and (fitting is None or not fitting[1] - {"pooler"}):
            pooled = {*heads, "pooler"}
            return next((name for name, needed in self.architectures if needed <= pooled), None)
        return fitting[0] if fitting else None

    def fits(self, other: Table) -> bool:
        """Say whether the models of this table and another one can be the same: neither needs what the other lacks."""
        ours, theirs = ({rule.canonical for rule in table.rules} for table in (self, other))
        return self.needs <= theirs | self.family.severable and other.needs <= ours | self.family.neutral

    def clean(self, name: str) -> str:
        """Return a tidy native name as today's version writes it, its base taken off."""
        if name.startswith(self.bases):
            name = name.removeprefix(next(base for base in self.bases if name.startswith(base)))
        for old, new in self.renames:
            if name.endswith(old):
                return name[: -len(old)] + new
        return name

    def is_slot(self, name: str) -> bool:
        """Say whether a training run added a tensor of that name."""
        return bool(self.slots) and _any_of(self.slots).fullmatch(name) is not None

    def roots(self, names: Iterable[str]) -> list[str]:
        """Return what stands before each model in these tidy names (``module.``, ``state_dict.``, or nothing).

        A model is found by its word embedding, under any of its spellings.
        """
        anchors = tuple(self._key(s) for rule in self.rules for s in rule.spellings if rule.canonical == ANCHOR)
        found: dict[str, None] = {}
        for name in names:
            if not name.endswith(anchors) or self.is_slot(name):
                continue
            for anchor in anchors:
                prefix = name[: len(name) - len(anchor)]
                if name.endswith(anchor) and (not prefix or prefix[-1] in "./"):
                    base = next((b for b in self.bases if prefix == b or prefix.endswith((f".{b}", f"/{b}"))), "")
                    found[prefix[: len(prefix) - len(base)]] = None
        return list(found)


ANCHOR = "embeddings.word_embeddings.weight"
"""The tensor by which a model is found among others: every encoder has it."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a model when the small files of its folder are written.

    Attributes:
        config: the canonical configuration.
        family: name of its family.
        heads: its heads.
        architecture: the system's class for it, where it names one.
        parameters: elements of all tensors written.
        tokens: the vocabulary's tokens in order; None where there is none, or it is a SentencePiece model.
        lower_case: whether texts are lower-cased before they are cut into tokens: as is stated, else as the
            vocabulary suggests; None where nothing tells.
        pieces: whether there is a vocabulary that is a SentencePiece model.
        byte_level: whether there is a vocabulary of byte-level BPE.
        tokenizer: what is stated of the tokenizer.
    """

    config: Config
    family: str
    heads: tuple[str, ...]
    architecture: str | None
    parameters: int
    tokens: Sequence[str] | None
    lower_case: bool | None
    pieces: bool = False
    byte_level: bool = False
    tokenizer: TokenizerSettings = SILENT


Describe = Callable[[Sequence[str]], Mapping[str, str]]
"""Returns a container's own metadata from the names of its tensors."""


def as_the_table_has_it(name: str, _container: str, _sharded: bool) -> str:
    """Return a native name as the table has it."""
    return name


def no_files(_facts: Facts) -> Mapping[str, Json]:
    """Write no further files."""
    return {}


def no_settings(_read: SmallFiles, _listed: bool) -> TokenizerSettings:
    """Find nothing stated of a tokenizer: the system's folders have no place for it."""
    return SILENT


LINES = "lines"
NUMBERED = "numbered"
"""Forms of a vocabulary: one token a line; or one token, a tab and its number."""


EVERYWHERE = ("vocab.json", "merges.txt")
"""Files of a byte-level vocabulary, which mean the same in every system that has one."""


@dataclass(frozen=True, slots=True)
class FolderForm:
    """What a folder of this dialect holds, by file name.

    Attributes:
        weights: container -> name of the weights (a file, a folder, or the prefix of several files);
            ``{shard}`` in ``shards`` stands for a shard's number.
        config: the configuration's file name.
        vocabulary: the vocabulary's file name.
        shards: container -> (name of one shard, name of the index); empty where the system knows no shards.
        configs: further names under which the configuration is found.
        vocabularies: further names under which a vocabulary is found.
        vocabulary_form: ``lines`` or ``numbered``.
        sentencepiece: the file name of a vocabulary that is a SentencePiece model.
        sidecars: patterns (``fnmatch``) of further files that this system's users expect to travel along.
        metadata: container -> what the container's own metadata must say, or what tells it from the names.
        name_in_file: returns a native name as a container has it, alone or in shards, where that is not as the
            table has it; of names that become one, the first is written.
        files: returns further small files (JSON values, or texts) that the system's loader wants, by name;
            one that travels along or was kept takes the place of the one made here.
        settings: returns what a folder states of its tokenizer, from its small files and whether its vocabulary is
            a list of tokens; what ``files`` writes of it comes back by this.
        remarks: file name -> the sentence that is said when that file is made, not found.
        kin: dialects whose sidecars mean the same here, so that they travel along.
        places: file of ``EVERYWHERE`` -> its path here, where the system has it under another.
    """

    weights: Mapping[str, str]
    config: str
    vocabulary: str
    shards: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    configs: tuple[str, ...] = ()
    vocabularies: tuple[str, ...] = ()
    vocabulary_form: str = LINES
    sentencepiece: str = "spiece.model"
    sidecars: tuple[str, ...] = ()
    metadata: Mapping[str, Mapping[str, str] | Describe] = field(default_factory=dict)
    name_in_file: Callable[[str, str, bool], str] = as_the_table_has_it
    files: Callable[[Facts], Mapping[str, Json]] = no_files
    settings: Callable[[SmallFiles, bool], TokenizerSettings] = no_settings
    remarks: Mapping[str, str] = field(default_factory=dict)
    kin: tuple[str, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)

    def commonly(self, path: str) -> str:
        """Return a file of the folder as every system calls it, where every system has it; else its path here."""
        return next((name for name, place in self.places.items() if place == path), path)


@dataclass(frozen=True, slots=True)
class Dialect:
    """One system's naming, layout and folder conventions.

    Attributes:
        name: as ``--to`` and ``--from`` take it.
        title: the system's own name.
        containers: containers that the system reads, the default first.
        tables: family -> table.
        folder: what its folders hold.
        family_folders: family -> what the folders of its models hold, where that is something else.
        bfloat16_as_uint16: whether the system's files may hold bfloat16 as uint16, without a mark.
    """

    name: str
    title: str
    containers: tuple[str, ...]
    tables: Mapping[str, Table]
    folder: FolderForm
    bfloat16_as_uint16: bool = False
    family_folders: Mapping[str, FolderForm] = field(default_factory=dict)

    @property
    def folders(self) -> tuple[FolderForm, ...]:
        """Every form that its folders have."""
        return (self.folder, *self.family_folders.values())

    def folder_of(self, family: str) -> FolderForm:
        """Return the form of the folders of a family's models."""
        return self.family_folders.get(family, self.folder)

    def table_for(self, family: Family) -> Table | None:
        """Return the table of a family, or of one that holds the same model; None where there is none."""
        return next((self.tables[name] for name in (family.name, *family.kin) if name in self.tables), None)

    def recognises(self, native: Mapping[str, Json]) -> bool:
        """Say whether a JSON object looks like a configuration of this dialect."""
        return any(table.config.recognises(native) for table in self.tables.values())


def check_table(table: Table) -> list[str]:
    """Return what is wrong with a table: a rule for no tensor, a tensor named twice, a layer lost on the way."""
    wrong = []
    known = {tensor.name: tensor for tensor in table.family.tensors}
    for rule in table.rules:
        if rule.canonical not in known:
            wrong.append(f"{rule.canonical}: no tensor of {table.family.name}")
        lost = [spelling for spelling in rule.spellings if LAYER in spelling and LAYER not in rule.canonical]
        shared = table.family.counts != "num_hidden_layers"
        lost += [s for s in rule.spellings if LAYER in rule.canonical and LAYER not in s and not shared]
        wrong += [f"{spelling}: {LAYER} on one side only" for spelling in lost]
    for spelling, rules in table.candidates.items():
        if len(rules) > 1 and len({rule.head for rule in rules}) != len(rules):
            wrong.append(f"{spelling}: stands for several tensors and no head decides")
    covered = {rule.canonical for rule in table.rules}
    needed = {name for name, tensor in known.items() if tensor.part == ENCODER and not tensor.optional}
    wrong += [f"{name}: no rule" for name in known if name in needed - covered]
    return wrong
