"""Make the plan of a conversion: strict, complete, and before anything is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from interlingua.convert.configs import parse, spell
from interlingua.convert.documents import to_json, to_text
from interlingua.convert.folding import GAMMA, fold
from interlingua.convert.missing import (
    begins_behind,
    fillings,
    has_to_be_made,
    measured,
    refuse_other_padding,
    shape_of,
    zeros_of,
)
from interlingua.convert.plan import (
    CONFIG,
    FILES,
    RESIDUE,
    SOURCE,
    VOCABULARY,
    ZEROS,
    Kept,
    Output,
    Piece,
    Plan,
    Step,
    Text,
)
from interlingua.convert.residue import FILE_NAME, NAME, STRINGS, Entry, key_of, metadata_of
from interlingua.convert.source import Checkpoint
from interlingua.convert.stated_settings import Stated, stated_settings
from interlingua.convert.steps import cast_step, row_bytes, step_between, whole
from interlingua.convert.vocabularies import Vocabulary, parse_vocabulary
from interlingua.errors import FormatError, MappingError
from interlingua.formats.base import TensorSpec
from interlingua.formats.dtypes import STRING, UINT8, DType
from interlingua.formats.registry import Container
from interlingua.formats.trackable_graph import GRAPH_KEY
from interlingua.mappings.config import Config, Json
from interlingua.mappings.conventions import FOLDED, computed_eps, differences
from interlingua.mappings.dialect import EVERYWHERE, Dialect, Facts, Table, no_settings
from interlingua.mappings.match import Found, Match, listing
from interlingua.mappings.rules import Operation, Rule, splits
from interlingua.mappings.schema import ENCODER, TASK_TYPES, CanonicalTensor, Family, template

EPSILON = "layer_norm_eps"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user wants of the output.

    Attributes:
        dialect: its dialect.
        container: its container.
        dtype: the element type of floating-point weights; None keeps each as it is.
        max_shard: bytes of tensors a file holds at most, where the dialect knows shards; None: one file.
        residue: ``keep``, ``drop`` or ``error``.
        single_file: name of the weights file where the output is to be one, not a folder.
        preserve: ``weights`` moves every number as it is; ``outputs`` changes LayerNorm's gammas where the target
            computes it otherwise.
        family: the family that the output is to be of; None: the source's, or the one of its kin that the
            dialect has.
    """

    dialect: Dialect
    container: Container
    dtype: DType | None = None
    max_shard: int | None = None
    residue: str = "keep"
    single_file: str | None = None
    family: str | None = None
    preserve: str = "weights"


def make_plan(source: Checkpoint, wanted: Wanted) -> Plan:
    """Return the plan that converts an open, recognised source.

    Raises:
        FormatError: the source contradicts itself.
        MappingError: the target cannot hold the source, or ``residue`` is ``error`` and something is left.
    """
    if source.match is None:
        raise source.problem or MappingError("No dialect knows the source.")
    return _Planner(source, source.match, wanted).plan()


class _Planner:
    """Collects the parts of one plan; used once."""

    def __init__(self, source: Checkpoint, match: Match, wanted: Wanted) -> None:
        family = match.table.family
        table = _target_table(source, family, wanted)
        if table is None or table.family.name not in (family.name, *family.kin):
            raise _no_family(wanted, family)
        self.source, self.match, self.wanted = source, match, wanted
        self.table: Table = table
        self.form = wanted.dialect.folder_of(table.family.name)
        self.source_form = match.dialect.folder_of(family.name)
        self.same = wanted.dialect is match.dialect and table is match.table
        self.shares = wanted.container.shares
        self.heads = tuple(head for head in match.heads if self._holds(head))
        self.returned = self._returned()
        # A model is named by all its heads, those among them that come back from the residue.
        self.named = {*self.heads, *(self.table.family.find(name).part for name in self.returned)} - {ENCODER}
        self.entries: list[tuple[Entry, Step]] = []
        self.factor: float | None = None
        self.unfolded: set[str] = set()
        self.spelled: dict[str, Json] = {}
        self.notes: list[str] = list(match.notes)
        self.returning = set(match.leftovers) if self.same and not match.root else self._kept_tensors()

    def _kept_tensors(self) -> set[str]:
        residue = self.source.residue
        return set(residue.of(self.wanted.dialect.name, "tensor")) if residue else set()

    def _returned(self) -> dict[str, Entry]:
        """Return the model's tensors that an earlier conversion kept for the target, by canonical name."""
        residue = self.source.residue
        kept = residue.of(self.wanted.dialect.name, "tensor").values() if residue else ()
        known = {tensor.name for tensor in self.table.family.tensors}
        return {entry.canonical: entry for entry in kept if template(entry.canonical) in known}

    def _holds(self, head: str) -> bool:
        if head not in self.table.family.heads:
            return False
        tensors = [tensor.name for tensor in self.match.table.family.tensors if tensor.part == head]
        # What shares another tensor's data needs no place of its own.
        placed = (name for name in tensors if name not in self.source.ties)
        return all(self.table.rule(name, (head, *self.match.heads)) is not None for name in placed)

    def plan(self) -> Plan:
        steps, ties = self._weights()
        steps += self._restored({step.target.name for step in steps} | set(ties))
        steps += self._filled({step.target.name for step in steps})
        texts, config_steps = self._config()
        outputs = list(self._weight_files(steps, ties))
        texts += self._index(outputs)
        companions, more = self._companions(steps)
        outputs += config_steps + companions
        texts += more
        self._carry_on()
        things = ((entry, step) for entry, step in self.entries if entry.kind != NAME)
        kept = tuple(Kept(entry.name, step.target.nbytes, entry.reason) for entry, step in things)
        if self.wanted.residue == "error" and kept:
            names = [entry.name for entry in kept]
            raise MappingError(
                f"{self.wanted.dialect.title} has no place for {len(names)} things of the source: {listing(names)}.",
                names=names,
                hint="--residue keep keeps them in a file beside the output; --residue drop leaves them out.",
            )
        if self.wanted.residue == "keep" and self.entries:
            outputs.append(self._residue_file())
        self._note_conventions()
        _refuse_clashes(self.source, [*(output.path for output in outputs), *(text.path for text in texts)])
        return Plan(
            source=self.source.name,
            origin=self.match.dialect.name,
            target=self.wanted.dialect.name,
            family=self.table.family.name,
            container=self.wanted.container.name,
            heads=tuple(head for head in self.table.family.heads if head in self.named),
            outputs=tuple(outputs),
            texts=tuple(texts),
            residue=kept,
            keeps_residue=self.wanted.residue == "keep",
            notes=tuple(self.notes),
        )

    # -- weights

    def _weights(self) -> tuple[list[Step], dict[str, str]]:
        """Return a step for each tensor of the model, and the names that share another's data."""
        self._refuse_lacking()
        steps: list[Step] = []
        ties: dict[str, str] = {}
        natives: dict[str, str] = {}
        for canonical, tensor in self.match.table.family.instances(self.match.layers):
            owner = self.source.ties.get(canonical)
            if self._comes_back_tied(canonical, tensor):
                owner = tensor.tied_to
            found = self.match.tensors.get(owner or canonical)
            if found is None and has_to_be_made(self.table, canonical, self.returned):
                first, *others = self._made(canonical, tensor)
                steps += [first] if self.shares else [first, *others]
                ties |= {step.target.name: first.target.name for step in others} if self.shares else {}
            if found is None or tensor.part not in (ENCODER, *self.match.heads, *self.named):
                continue
            rule = self.table.rule(canonical, self.named) if tensor.part in (ENCODER, *self.named) else None
            if rule is None or (canonical in self.idle and not self.same):
                if canonical in self.match.tensors and owner is None:
                    self._leave_tensor(canonical, tensor)
                continue
            native, *copies = self._names(rule, canonical)
            if found.rule.remembered and not self.same:
                self._remember(found.native, canonical)
            if owner is not None and self.shares:
                ties |= dict.fromkeys((native, *copies), natives[owner])
            elif owner is None or rule.always:
                natives[canonical] = native
                steps.append(self._step(canonical, found, native, rule.operation))
                if self.shares:
                    ties |= dict.fromkeys(copies, native)
                else:
                    steps += [self._step(canonical, found, copy, rule.operation) for copy in copies]
        for native, reason in self.match.leftovers.items():
            if self.same and not self.match.root:
                spec = self.source.tensors[native]
                if native != GRAPH_KEY or all(step.target.name in self.source.tensors for step in steps):
                    steps.append(Step(spec, (whole(SOURCE, spec),)))
            else:
                self._leave(native, reason, kind="foreign" if self.match.root else "tensor")
        return steps, ties

    def _comes_back_tied(self, canonical: str, tensor: CanonicalTensor) -> bool:
        """Say whether a tensor belongs to a head that comes back, and shared another's data when that was kept."""
        away = tensor.part in self.named and tensor.part not in self.heads
        return away and tensor.tied_to is not None and canonical not in self.returned

    def _leave_tensor(self, canonical: str, tensor: CanonicalTensor) -> None:
        """Keep a tensor of the model that the target has no place for, under every name that it has."""
        reason, found = self._why_not(canonical, tensor), self.match.tensors[canonical]
        self._leave(found.native, reason, canonical=canonical)
        for copy in found.copies:
            self._leave(copy, reason)

    def _made(self, canonical: str, tensor: CanonicalTensor) -> list[Step]:
        """Return zeros for a tensor that the source's system does without and the target's has, under each name."""
        config, rule = self.source.completed.config, self.table.rule(canonical, self.named)
        shape = shape_of(self.table, tensor.shape, config)
        if rule is None:
            raise LookupError(f"{canonical} is needed, and has no rule")
        shape = rule.operation.native_shape(shape, config.num_attention_heads) if rule.operation else shape
        self.notes.append(f"{canonical} is zeros: {self.match.dialect.title} has none, and computes without.")
        return [zeros_of(native, self._dtype, shape, canonical) for native in self._names(rule, canonical)]

    def _filled(self, taken: set[str]) -> list[Step]:
        """Return zeros for what the target's model always has, and no other system knows."""
        due = fillings(self.table, self.match.tensors, self.source.completed.config)
        made = [zeros_of(name, self._dtype, shape) for name, shape in due.items() if name not in taken]
        if made:
            names = listing([step.target.name for step in made])
            self.notes.append(f"{self.wanted.dialect.title}'s model has {names}, which the source has not: zeros.")
        return made

    @property
    def _dtype(self) -> DType:
        """The element type of what is made: the word embedding's, as it is written."""
        spec = self.source.tensors[next(iter(self.match.tensors.values())).native]
        return self.wanted.dtype or spec.dtype

    def _refuse_lacking(self) -> None:
        """Refuse a model without a tensor that the target's code would then fill at random."""
        refuse_other_padding(self.table, self.match, self.source.completed.config, self.wanted.dialect.title)
        every = (name for name, _ in self.table.family.instances(self.match.layers))
        needs = self.table.needs - self.table.family.neutral
        lacking = [name for name in every if template(name) in needs and name not in self.match.tensors]
        if lacking:
            raise MappingError(
                f"{self.wanted.dialect.title} computes with {listing(lacking)}, which the source has not.",
                names=lacking,
                hint="That system cannot run this model.",
            )

    def _names(self, rule: Rule, canonical: str) -> list[str]:
        """Return the native names that a tensor is written under, the first with the data.

        A name under which something else comes back (see ``Rule.copies``) is not among them.
        """
        native, *copies = (self.table.spell(name, canonical, self.named) for name in (rule.native, *rule.copies))
        if rule.remembered:
            native = self.remembered.get(canonical, native)
        every = self.shares or not self.source.ties or rule.always or native in self.returning
        names = [name for name in (native, *(copies if every else ())) if name not in self.returning]
        return names or [native]

    @cached_property
    def idle(self) -> frozenset[str]:
        """Tensors of the model that are stored and, by its configuration, not computed with.

        A system that is told so makes no place for them; one that is not would compute with them.
        """
        return frozenset({TASK_TYPES} if self.source.completed.config.use_task_id is False else ())

    def _why_not(self, canonical: str, tensor: CanonicalTensor) -> str:
        """Say why the target has no place for a tensor of the model.

        Raises:
            MappingError: without it, the encoder would compute something else.
        """
        title = self.wanted.dialect.title
        if canonical in self.idle:
            return "the source's configuration says that it is not computed with"
        if tensor.part != ENCODER:
            untied = [t.name for t in self.table.family.tensors if t.part == tensor.part and t.tied_to]
            apart = any(self.table.rule(name, self.match.heads) is None for name in untied)
            which = " that is not tied to the word embedding" if apart and tensor.part in self.table.heads else ""
            return f"{title} has no {tensor.part.replace('_', ' ')} head{which}"
        if canonical in self.match.table.family.severable:
            much = measured(self.source, self.match.tensors[canonical].native)
            self.notes.append(f"{canonical} is left out: {title} has none, and computes without what it adds, {much}.")
            return f"{title} has no such embedding"
        raise MappingError(
            f"{title} has no {canonical}, and without it the encoder would compute something else.",
            names=(self.match.tensors[canonical].native,),
            hint="That system cannot run this model.",
        )

    def _step(self, canonical: str, found: Found, ours: str, do: Operation | None) -> Step:
        """Return the step from one native tensor to another, operations that cancel taken out."""
        spec, undo = self.source.tensors[found.native], found.rule.operation
        step = step_between(spec, undo, do, ours, canonical, self.attention_heads if splits(do) else 1)
        pieces = tuple(self._padding(step, piece) if piece.origin == ZEROS else piece for piece in step.pieces)
        step = replace(step, pieces=pieces)
        if pieces[0].origin == ZEROS and begins_behind(undo):
            rows, title = begins_behind(undo), self.match.dialect.title
            self.notes.append(
                f"The first {rows} rows of {ours} are zeros: {title} has none, and padding alone reads them."
            )
        if pieces[0].origin == SOURCE and pieces[0].start:
            self._keep_dropped_rows(spec, pieces[0].start, canonical)
        if canonical.endswith(GAMMA):
            step = self._folded(step, spec, canonical)
        fixed = self.table.rows.get(canonical)
        if fixed is not None and step.target.shape[0] != fixed:
            raise MappingError(
                f"{self.wanted.dialect.title}'s {ours} always has {fixed} rows, but {step.target.shape[0]} are due.",
                names=(found.native,),
                hint="The model has more (or fewer) token types than that system knows.",
            )
        return cast_step(step, self.wanted.dtype)

    def _folded(self, step: Step, spec: TensorSpec, canonical: str) -> Step:
        """Return the step of a gamma, changed where outputs are to be preserved, or changed back."""
        ours, theirs = self.match.table.conventions, self.table.conventions
        found = fold(step, self.source, ours, theirs, outputs=self.wanted.preserve == "outputs")
        if found.changed:
            self._keep("folded", spec.name, "as it was before it was multiplied", spec, step.pieces, canonical)
            self.factor = found.step.scale
        if found.came_back:
            self.unfolded.add(canonical)
        return found.step

    @cached_property
    def attention_heads(self) -> int:
        """The model's number of attention heads."""
        return self.source.completed.config.num_attention_heads

    def _keep_dropped_rows(self, spec: TensorSpec, cut: int, canonical: str) -> None:
        kept = TensorSpec(spec.name, spec.dtype, (cut // row_bytes(spec), *spec.shape[1:]))
        reason = f"rows that {self.wanted.dialect.title} does not have"
        self._keep("rows", spec.name, reason, kept, (Piece(SOURCE, spec.name, 0, cut),), canonical)

    def _padding(self, step: Step, zeros: Piece) -> Piece:
        """Return where the rows in front of a tensor come from: what an earlier conversion kept, else zeros.

        A system that has the tensor under several names has the same rows under each.
        """
        target = step.target
        before = zeros.nbytes // row_bytes(target)
        if self.source.residue is not None:
            rows = self.source.residue.of(self.wanted.dialect.name, "rows")
            same = (entry for entry in rows.values() if entry.canonical == step.canonical)
            entry = rows.get(target.name) or next(same, None)
            if entry is not None:
                spec = self.source.residue.reader.tensors[entry.key]
                if (spec.dtype, spec.shape) == (target.dtype, (before, *target.shape[1:])):
                    return whole(RESIDUE, spec)
                self.notes.append(
                    f"The rows kept of {target.name} are {spec.dtype} {list(spec.shape)}, which does not fit any more: "
                    "zeros take their place."
                )
        return zeros

    def _restored(self, taken: set[str]) -> list[Step]:
        """Return steps for tensors of the target's dialect that an earlier conversion kept."""
        if self.source.residue is None:
            return []
        kept = self.source.residue.of(self.wanted.dialect.name, "tensor")
        tensors = self.source.residue.reader.tensors
        steps = [
            Step(replace(tensors[entry.key], name=name), (whole(RESIDUE, tensors[entry.key]),))
            for name, entry in kept.items()
            if name not in taken
        ]
        return steps + self._strings(taken | {step.target.name for step in steps})

    def _strings(self, written: set[str]) -> list[Step]:
        """Return steps for strings that an earlier conversion kept, where the container has strings.

        A graph of objects is put back where it has every name that is written; where it has not, the model is laid
        out otherwise, and the writer makes its own.
        """
        residue = self.source.residue
        if residue is None or self.wanted.container.name != "tensor-bundle":
            return []
        steps = []
        for name, entry in residue.of(self.wanted.dialect.name, STRINGS).items():
            spec = residue.reader.tensors[entry.key]
            encoded = residue.reader.read(entry.key).tobytes() if name == GRAPH_KEY else b""
            if name not in written and (name != GRAPH_KEY or all(other.encode() in encoded for other in written)):
                steps.append(Step(TensorSpec(name, STRING, (), spec.nbytes), (whole(RESIDUE, spec),)))
        return steps

    # -- files

    def _weight_files(self, steps: list[Step], ties: Mapping[str, str]) -> Iterable[Output]:
        """Yield the weights file, or its shards."""
        words = self.wanted.dialect.bfloat16_as_uint16
        form, container = self.form, self.wanted.container.name
        name = self.wanted.single_file or form.weights[container]
        limit = self.wanted.max_shard
        sharded = not (limit is None or self.wanted.single_file or sum(step.target.nbytes for step in steps) <= limit)
        if sharded and container not in form.shards:
            self.notes.append(f"{self.wanted.dialect.title} knows no shards: the weights are one file.")
            sharded = False
        steps, ties = self._named_in_file(steps, ties, sharded)
        if limit is None or not sharded:
            yield Output(name, container, tuple(steps), ties, self._metadata(steps), words)
            return
        parts = _shards(steps, limit)
        for number, part in enumerate(parts, 1):
            shard = form.shards[container][0].format(shard=f"{number:05}-of-{len(parts):05}")
            names = {step.target.name for step in part}
            shared = {t: o for t, o in ties.items() if o in names}
            yield Output(shard, container, part, shared, self._metadata(part), words)

    def _named_in_file(
        self, steps: list[Step], ties: Mapping[str, str], sharded: bool
    ) -> tuple[list[Step], dict[str, str]]:
        """Return steps and ties under the names that the container has; of names that become one, the first."""

        def spelled(name: str) -> str:
            return self.form.name_in_file(name, self.wanted.container.name, sharded)

        named: dict[str, Step] = {}
        for step in steps:
            named.setdefault(name := spelled(step.target.name), replace(step, target=replace(step.target, name=name)))
        return list(named.values()), {spelled(tied): spelled(owner) for tied, owner in ties.items()}

    def _metadata(self, steps: Sequence[Step]) -> Mapping[str, str]:
        """Return what the container's own metadata must say of these tensors."""
        stated = self.form.metadata.get(self.wanted.container.name, {})
        return stated([step.target.name for step in steps]) if callable(stated) else stated

    def _index(self, outputs: list[Output]) -> list[Text]:
        if len(outputs) < 2:
            return []
        files = {name: out.path for out in outputs for name in (*(s.target.name for s in out.steps), *out.ties)}
        total = sum(output.nbytes for output in outputs)
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(files.items()))}
        name = self.form.shards[self.wanted.container.name][1]
        return [Text(name, to_json(index))]

    def _config(self) -> tuple[list[Text], list[Output]]:
        """Return the target's configuration: as a text, or as the very bytes that were kept of it."""
        completed = self.source.completed
        self.notes += completed.notes
        name = self.form.config
        base, original = self._config_base(name)
        config = self._config_with_returned(completed.config, base)
        native, unsaid = spell(config, self.wanted.dialect, self.table, self.named, self._main_dtype(), base)
        self.notes += unsaid
        self.spelled = parse(native, self.table.config, name)
        if not self.same and self.source.config_path is not None and self._is_own_config():
            path = self.source.config_path
            spec = TensorSpec(path.name, UINT8, (path.stat().st_size,))
            own = self.source_form.config
            self._keep("config", own, "the source's own configuration", spec, (whole(CONFIG, spec),))
        if original is not None and native == base:
            return [], [original]
        return [Text(name, to_text(native, name))], []

    def _config_with_returned(self, config: Config, base: Mapping[str, Json]) -> Config:
        """Return the configuration with what tensors say that come back from the residue.

        A task embedding came from a model that computed with it, unless its own configuration, ``base``, denies it.
        """
        entry = self.returned.get(TASK_TYPES)
        if entry is None or self.source.residue is None:
            return config
        rows = self.source.residue.reader.tensors[entry.key].shape[0]
        used = parse(base, self.table.config, "the configuration kept as residue").get("use_task_id") is not False
        return replace(config, task_type_vocab_size=rows, use_task_id=used)

    def _misses_pooler(self) -> bool:
        """Say whether the system's class for the model has a pooler that the model lacks."""
        named = self.table.architecture(self.named)
        base = self.table.architecture(("pooler",))
        needs = "pooler" in dict(self.table.architectures).get(named or "", ())
        return "pooler" in set(self.table.family.heads) - self.named and named is not None and (needs or named == base)

    def _is_own_config(self) -> bool:
        return self.match.dialect.recognises(self.source.native_config)

    def _config_base(self, name: str) -> tuple[dict[str, Json], Output | None]:
        """Return a configuration in the target's dialect to start from, and how its bytes would be copied."""
        source, dialect = self.source, self.wanted.dialect
        if source.residue is not None and dialect is not self.match.dialect:
            entry = source.residue.of(dialect.name, "config").get(name)
            if entry is not None:
                native = source.residue.json(entry)
                spec = source.residue.reader.tensors[entry.key]
                if self._is_of_the_target(native):
                    return native, _file(name, whole(RESIDUE, spec), spec.nbytes)
        alike = dialect is self.match.dialect or self.match.dialect.name in self.form.kin
        foreign = not alike and self._is_own_config()
        if source.config_path is not None and not foreign and self._is_of_the_target(source.native_config):
            spec = TensorSpec(source.config_path.name, UINT8, (source.config_path.stat().st_size,))
            return source.native_config, _file(name, whole(CONFIG, spec), spec.nbytes)
        return {}, None

    def _is_of_the_target(self, native: Mapping[str, Json]) -> bool:
        """Say whether a configuration is one of the target's dialect and family."""
        form = self.table.config
        return form.recognises(native) and form.claims(native) is not False

    def _main_dtype(self) -> str:
        return self._dtype.name

    def _companions(self, steps: list[Step]) -> tuple[list[Output], list[Text]]:
        """Return the vocabulary, the sidecars, and what else the target's users expect."""
        source = self.source
        outputs, texts = self._vocabulary()
        if self.wanted.single_file:
            return outputs, texts
        for name in source.sidecars:
            size = (source.folder / name).stat().st_size
            common = self.source_form.commonly(name)
            if self.same or common in EVERYWHERE or self.match.dialect.name in self.form.kin:
                outputs.append(_file(self.form.places.get(common, common), Piece(FILES, name, 0, size), size))
            else:
                spec = TensorSpec(name, UINT8, (size,))
                reason = f"a file that {self.wanted.dialect.title} has no use for"
                self._keep("file", name, reason, spec, (Piece(FILES, name, 0, size),))
        there = {output.path for output in outputs} | {text.path for text in texts}
        if source.residue is not None:
            kept = [source.residue.of(name, "file") for name in (self.wanted.dialect.name, *self.form.kin)]
            for name, entry in ((name, entry) for files in kept for name, entry in files.items()):
                spec = source.residue.reader.tensors[entry.key]
                if name not in there:
                    outputs.append(_file(name, whole(RESIDUE, spec), spec.nbytes))
                    there.add(name)
        made = {} if self.same else self.form.files(self._facts(steps))
        texts += [
            Text(name, content if isinstance(content, str) else to_json(content))
            for name, content in made.items()
            if name not in there
        ]
        self.notes += [remark for name, remark in self.form.remarks.items() if name in {*made} - there]
        self._note_tokenizer()
        return outputs, texts

    @cached_property
    def stated(self) -> Stated:
        """What the source states of its tokenizer."""
        return stated_settings(self.source, self.match)

    def _note_tokenizer(self) -> None:
        """Say what is stated of the tokenizer where the target's folder has no place for it, or what was not read."""
        if self.same:
            return
        self.notes += self.stated.notes
        words = self.stated.settings.words
        if words and self.source.vocabulary is not None and self.form.settings is no_settings:
            self.notes.append(f"Nothing in the target's folder says how texts are cut: {', '.join(words)}.")

    def _vocabulary(self) -> tuple[list[Output], list[Text]]:
        """Return the vocabulary in the target's form: as the bytes that there are, or spelled anew."""
        source, form = self.source, self.form
        path, listed = source.vocabulary, source.tokens
        if path is None:
            return [], []
        size = path.stat().st_size
        as_it_is = Piece(VOCABULARY, path.name, 0, size)
        if listed is None:
            known = path.name in (form.sentencepiece, *form.vocabularies)
            return [_file(path.name if known else form.sentencepiece, as_it_is, size)], []
        kept = self._kept_vocabulary(listed)
        if kept is not None:
            return [kept], []
        if listed.form == form.vocabulary_form:
            return [_file(form.vocabulary, as_it_is, size)], []
        if not self.same:
            spec = TensorSpec(path.name, UINT8, (size,))
            own = self.source_form.vocabulary
            self._keep("file", own, "the vocabulary as the source has it", spec, (whole(VOCABULARY, spec),))
        if listed.unnamed:
            named = listing([listed.tokens[row] for row in listed.unnamed])
            self.notes.append(f"The vocabulary gives {len(listed.unnamed)} rows no token: they are called {named}.")
        return [], [Text(form.vocabulary, listed.spell(form.vocabulary_form))]

    def _kept_vocabulary(self, listed: Vocabulary) -> Output | None:
        """Return the target's own vocabulary file where an earlier conversion kept it, and it says the same."""
        residue, name = self.source.residue, self.form.vocabulary
        entry = residue.of(self.wanted.dialect.name, "file").get(name) if residue else None
        if residue is None or entry is None:
            return None
        if parse_vocabulary(residue.text(entry), path=residue.reader.path).tokens != listed.tokens:
            return None
        spec = residue.reader.tensors[entry.key]
        return _file(name, whole(RESIDUE, spec), spec.nbytes)

    def _facts(self, steps: list[Step]) -> Facts:
        listed, settings = self.source.tokens, self.stated.settings
        suggested = listed.lower_case if listed else None
        return Facts(
            config=self.source.completed.config,
            family=self.table.family.name,
            heads=tuple(head for head in self.table.family.heads if head in self.named),
            architecture=self.table.architecture(self.named),
            parameters=sum(step.target.elements for step in steps),
            tokens=listed.tokens if listed else None,
            lower_case=suggested if settings.lower_case is None else settings.lower_case,
            pieces=self.source.vocabulary is not None and listed is None,
            byte_level=self.source.vocabulary is None
            and set(EVERYWHERE) <= set(map(self.source_form.commonly, self.source.sidecars)),
            tokenizer=settings,
        )

    # -- residue

    def _leave(self, native: str, reason: str, kind: str = "tensor", canonical: str = "") -> None:
        spec = self.source.tensors[native]
        if spec.dtype is STRING and spec.shape:
            self.notes.append(f"{native}, an array of strings, is left out.")
            return
        if spec.dtype is STRING:
            # Nothing but TensorFlow's own container has strings: what is kept is how that encodes them.
            kind = STRINGS if kind == "tensor" else kind
        kept = TensorSpec(native, UINT8, (spec.nbytes,)) if spec.dtype is STRING else spec
        self._keep(kind, native, reason, kept, (whole(SOURCE, spec),), canonical)

    def _remember(self, native: str, canonical: str) -> None:
        """Keep what a tensor is called, where the dialect's table would call it otherwise on the way back."""
        name = native.removeprefix(self.match.root)
        if name != self.match.table.spell(self.match.tensors[canonical].rule.native, canonical, self.match.heads):
            self._keep(NAME, name, "what it is called", TensorSpec(name, UINT8, (0,)), (), canonical)

    @cached_property
    def remembered(self) -> Mapping[str, str]:
        """What the target's tensors were called when an earlier conversion read them, by canonical name."""
        residue = self.source.residue
        kept = residue.of(self.wanted.dialect.name, NAME).values() if residue else ()
        return {entry.canonical: entry.name for entry in kept}

    def _keep(
        self, kind: str, name: str, reason: str, spec: TensorSpec, pieces: tuple[Piece, ...], canonical: str = ""
    ) -> None:
        dialect = self.match.dialect.name
        entry = Entry(key_of(kind, dialect, name), kind, dialect, name, reason, canonical)
        if entry.key not in {there.key for there, _ in self.entries}:
            self.entries.append((entry, Step(replace(spec, name=entry.key), pieces)))

    def _carry_on(self) -> None:
        """Pass on what earlier conversions kept and this one does not put back."""
        if self.source.residue is None:
            return
        there = {entry.key for entry, _ in self.entries}
        for entry in self.source.residue.entries:
            put_back = entry.dialect == self.wanted.dialect.name and entry.kind not in ("foreign", "folded")
            put_back |= entry.kind == "folded" and entry.canonical in self.unfolded
            if not put_back and entry.key not in there:
                spec = self.source.residue.reader.tensors[entry.key]
                self.entries.append((entry, Step(spec, (whole(RESIDUE, spec),))))

    def _residue_file(self) -> Output:
        entries = [entry for entry, _ in self.entries]
        steps = tuple(step for _, step in self.entries)
        earlier = self.source.residue.families if self.source.residue else {}
        families = {**earlier, self.match.dialect.name: self.match.table.family.name}
        return Output(FILE_NAME, "safetensors", steps, metadata=metadata_of(entries, families))

    def _epsilons(self) -> tuple[float, float]:
        """Return the epsilons that the layers compute with in the source's and in the target's system."""
        default = self.source.completed.config.layer_norm_eps
        sides = ((self.match.table, self.source.stated), (self.table, self.spelled))
        ours, theirs = (
            computed_eps(table.conventions, values.get(EPSILON) if EPSILON in table.config.keys else None, default)
            for table, values in sides
        )
        return ours, theirs

    def _note_conventions(self) -> None:
        if self.factor is not None:
            self.notes.append(FOLDED.format(factor=self.factor))
        elif self.unfolded:
            self.notes.append("LayerNorm's gammas are what they were before they were multiplied.")
        else:
            self.notes += differences(self.match.table.conventions, self.table.conventions, *self._epsilons())
        if self.table.family is not self.match.table.family:
            self.notes.append(f"A {self.match.table.family.name} is written as a {self.table.family.name}.")
        if self._misses_pooler():
            self.notes.append("There is no pooler: load it with add_pooling_layer=False, or one is made at random.")
        self.notes += self.source.remarks


def _target_table(source: Checkpoint, family: Family, wanted: Wanted) -> Table | None:
    """Return the table to write with: of the family asked for, or that the model came from, or its own."""
    if wanted.family is not None:
        return wanted.dialect.tables.get(wanted.family)
    came_from = source.residue.families.get(wanted.dialect.name) if source.residue else None
    if came_from in (family.name, *family.kin) and came_from in wanted.dialect.tables:
        return wanted.dialect.tables[came_from]
    return wanted.dialect.table_for(family)


def _no_family(wanted: Wanted, family: Family) -> MappingError:
    title, there = wanted.dialect.title, ", ".join(wanted.dialect.tables)
    if wanted.family is not None and wanted.family not in (family.name, *family.kin):
        return MappingError(
            f"The source is a {family.name}, which is no {wanted.family}: another architecture.",
            hint=f"A {family.name} can be written as {' or '.join((family.name, *family.kin))}.",
        )
    return MappingError(
        f"{title} has no {wanted.family or family.name} that is known here.", hint=f"It has {there or 'no family'}."
    )


def _refuse_clashes(source: Checkpoint, files: list[str]) -> None:
    """Refuse a residue that would put its files in the place of others."""
    twice = sorted({name for name in files if files.count(name) > 1})
    if twice:
        raise FormatError(
            f"keeps {listing(twice)}, which the output has of its own",
            path=source.residue.reader.path if source.residue else source.path,
            hint="Move the residue away to convert without what it keeps.",
        )


def _file(path: str, piece: Piece, nbytes: int) -> Output:
    return Output(path, "file", (Step(TensorSpec(path, UINT8, (nbytes,)), (piece,)),))


def _shards(steps: list[Step], limit: int) -> list[tuple[Step, ...]]:
    """Return the steps in their order, cut so that each part has at most ``limit`` bytes (or one tensor)."""
    parts: list[list[Step]] = [[]]
    size = 0
    for step in steps:
        if parts[-1] and size + step.target.nbytes > limit:
            parts.append([])
            size = 0
        parts[-1].append(step)
        size += step.target.nbytes
    return [tuple(part) for part in parts]
