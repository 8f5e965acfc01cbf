"""Faults of the kinds that conversion scripts make, injected one at a time; and what each way of checking says of them.

``python -m benchmarks.faults`` prints which of them parity-check catches, which cause it names, and which of them
the checks that people use today let pass.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import interlingua
from benchmarks.families import first, head_sets, realistic, write_model
from interlingua.convert.source import Asked, Checkpoint, open_checkpoint
from interlingua.formats import registry
from interlingua.formats.base import TensorSpec, write_at
from interlingua.formats.dtypes import DTYPES, numpy_dtype
from interlingua.mappings.registry import DIALECTS, conversions
from interlingua.mappings.schema import FAMILIES, Family
from interlingua.verify.encoders.request import Activations, Request, load_batches
from interlingua.verify.parity.check import Options, check
from interlingua.verify.parity.outcome import DIFFERENT, Outcome
from interlingua.verify.parity.process import Answer
from interlingua.verify.parity.runs import Settings

Array = NDArray[Any]
Arrays = dict[str, Array]


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A converted checkpoint that a fault is put into.

    Attributes:
        folder: where it is.
        arrays: its tensors by native name; a fault changes them in place.
        names: canonical name -> native name.
        checkpoint: the open checkpoint.
    """

    folder: Path
    arrays: Arrays
    names: Mapping[str, str]
    checkpoint: Checkpoint

    def layer(self, number: int, part: str) -> str:
        """Return the native name of a layer's tensor, of the only group's where layers share their weights."""
        own = f"encoder.layer.{number}.{part}"
        return self.names.get(own) or self.names[f"encoder.group.0.{part}"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One mishap.

    Attributes:
        name: what it is.
        cause: how parity-check is to call it.
        inject: changes the arrays of a target, or the files of its folder; returns False where the target has
            nothing that it could happen to.
        in_config: whether it is in the files beside the weights.
        on: ``dialect``: into a conversion to the family's other dialect; ``itself``: into one to the source's own,
            whose code reads every value of its configuration.
    """

    name: str
    cause: str
    inject: Callable[[Target], bool]
    in_config: bool = False
    on: str = "dialect"


# -- what can go wrong with tensors


def transpose(part: str, target: Target) -> bool:
    """Leave a square matrix as the other system has it."""
    name = target.layer(0, part)
    target.arrays[name] = np.ascontiguousarray(target.arrays[name].T)
    return True


def swap(one: str, other: str, target: Target) -> bool:
    """Exchange two linear layers of one layer."""
    for kind in ("weight", "bias"):
        a, b = (target.layer(0, f"attention.self.{part}.{kind}") for part in (one, other))
        target.arrays[a], target.arrays[b] = target.arrays[b], target.arrays[a]
    return True


def exchange_layers(target: Target) -> bool:
    """Number two layers the other way round."""
    if "encoder.layer.1.output.dense.weight" not in target.names:
        return False
    for canonical, native in target.names.items():
        if canonical.startswith("encoder.layer.0."):
            other = target.names[canonical.replace("layer.0.", "layer.1.")]
            target.arrays[native], target.arrays[other] = target.arrays[other], target.arrays[native]
    return True


def shift_rows(kind: str, by: int, target: Target) -> bool:
    """Cut or pad a table at its beginning once too often."""
    native = target.names.get(f"embeddings.{kind}_embeddings.weight")
    if native is None or len(target.arrays[native]) <= by:
        return False
    table = target.arrays[native].copy()
    table[by:] = target.arrays[native][:-by]
    target.arrays[native] = table
    return True


def one_row(row: int, target: Target) -> bool:
    """Give one token another's embedding."""
    table = target.arrays[target.names["embeddings.word_embeddings.weight"]]
    table[row] = table[row - 2]
    return True


def zero(part: str, target: Target) -> bool:
    """Forget a bias."""
    target.arrays[target.layer(1, part)][:] = 0
    return True


def cut_positions(target: Target) -> bool:
    """Fill the rows from a shorter model's length on with zeros."""
    native = target.names.get("embeddings.position_embeddings.weight")
    if native is None:
        return False
    target.arrays[native][10:] = 0
    return True


def one_unit(part: str, target: Target) -> bool:
    """Move one element by one unit in the last place."""
    array = target.arrays[target.layer(1, part)].reshape(-1)
    array[7] = np.nextafter(array[7], np.float32(np.inf), dtype=np.float32)
    return True


def untie(target: Target) -> bool:
    """Store a decoder that is not the word embedding any more."""
    table, heads = target.checkpoint.match, target.checkpoint.heads
    rule = None if table is None else table.table.rule("masked_lm.decoder.weight", heads)
    if table is None or rule is None or "masked_lm" not in heads:
        return False
    words = target.arrays[target.names["embeddings.word_embeddings.weight"]]
    decoder = (words[::-1] if rule.operation is None else words[::-1].T).copy()
    target.arrays[table.table.spell(rule.native, "masked_lm.decoder.weight", heads)] = decoder
    return True


def narrow(dtype: str, target: Target) -> bool:
    """Pass every value through a narrower type, and store it wide again."""
    for name, array in target.arrays.items():
        if array.dtype == np.float32:
            target.arrays[name] = array.astype(numpy_dtype(DTYPES[dtype])).astype(np.float32)
    return True


def drop_pooler(target: Target) -> bool:
    """Leave the pooler out."""
    gone = [native for canonical, native in target.names.items() if canonical.startswith("pooler.")]
    for native in gone:
        del target.arrays[native]
    return bool(gone)


def scale_gammas(target: Target) -> bool:
    """Fold a LayerNorm's other formula in, where nobody asked for it."""
    for canonical, native in target.names.items():
        if canonical.endswith("LayerNorm.weight"):
            width = target.arrays[native].size
            target.arrays[native] *= np.float32((width / (width - 1)) ** 0.5)
    return True


def swap_gamma_beta(target: Target) -> bool:
    """Take a LayerNorm's gamma for its beta."""
    a, b = (target.layer(0, f"output.LayerNorm.{kind}") for kind in ("weight", "bias"))
    target.arrays[a], target.arrays[b] = target.arrays[b], target.arrays[a]
    return True


def flip_sign(target: Target) -> bool:
    """Change one element's sign."""
    target.arrays[target.layer(0, "intermediate.dense.bias")].reshape(-1)[3] *= -1
    return True


def not_a_number(target: Target) -> bool:
    """Write a NaN."""
    target.arrays[target.layer(0, "intermediate.dense.bias")].reshape(-1)[3] = np.nan
    return True


def permute_heads(target: Target) -> bool:
    """Split a matrix into heads in another order."""
    name = target.layer(0, "attention.self.value.bias")
    target.arrays[name] = np.ascontiguousarray(target.arrays[name].reshape(6, -1).T).reshape(-1)
    return True


# -- what can go wrong beside them


def set_value(canonical: str, value: object, target: Target) -> bool:
    """Write another value into the configuration."""
    checkpoint = target.checkpoint
    if checkpoint.match is None or checkpoint.config_path is None:
        return False
    table = checkpoint.match.table
    fixed = canonical == "layer_norm_eps" and table.conventions.layer_norm_eps is not None
    if canonical not in table.config.keys or fixed:
        return False
    spelled = table.config.spell_activation(str(value)) if canonical == "hidden_act" else value
    if spelled is None:
        return False
    native = json.loads(checkpoint.config_path.read_text(encoding="utf-8"))
    native |= dict.fromkeys(table.config.keys[canonical], spelled)
    checkpoint.config_path.write_text(json.dumps(native), encoding="utf-8")
    return True


def swap_tokens(target: Target) -> bool:
    """Exchange two lines of the vocabulary."""
    path = target.checkpoint.vocabulary
    if path is None or path.suffix != ".txt":
        return False
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[9], lines[11] = lines[11], lines[9]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return True


FAULTS = (
    Fault("attention.output.dense untransposed", "untransposed", partial(transpose, "attention.output.dense.weight")),
    Fault("query untransposed", "untransposed", partial(transpose, "attention.self.query.weight")),
    Fault("query and key swapped", "swapped tensors", partial(swap, "query", "key")),
    Fault("key and value swapped", "swapped tensors", partial(swap, "key", "value")),
    Fault("query and value swapped", "swapped tensors", partial(swap, "query", "value")),
    Fault("two layers exchanged", "exchanged layers", exchange_layers),
    Fault("segment rows shifted by one", "segment rows shifted", partial(shift_rows, "token_type", 1)),
    Fault("positions shifted by two", "position offset: shifted", partial(shift_rows, "position", 2)),
    Fault("positions beyond row 10 zeroed", "rows beyond", cut_positions),
    Fault("vocabulary shifted by one", "vocabulary rows shifted", partial(shift_rows, "word", 1)),
    Fault("one vocabulary row wrong", "one row", partial(one_row, 20)),
    Fault("last vocabulary row wrong", "one row", partial(one_row, -1)),
    Fault("key bias zeroed", "zeroed", partial(zero, "attention.self.key.bias")),
    Fault("output bias zeroed", "zeroed", partial(zero, "output.dense.bias")),
    Fault("one element off by one unit", "one element", partial(one_unit, "output.dense.weight")),
    Fault("key bias off by one unit", "one element", partial(one_unit, "attention.self.key.bias")),
    Fault("decoder untied", "untied decoder", untie),
    Fault("narrowed to float16", "narrowed dtype", partial(narrow, "float16")),
    Fault("narrowed to bfloat16", "narrowed dtype", partial(narrow, "bfloat16")),
    Fault("pooler missing", "missing pooler", drop_pooler),
    Fault("gammas scaled", "folded LayerNorm", scale_gammas),
    Fault("gamma and beta swapped", "swapped tensors", swap_gamma_beta),
    Fault("one sign flipped", "one element", flip_sign),
    Fault("one NaN", "not finite", not_a_number),
    Fault("value bias in another order", "another order", permute_heads),
    Fault("epsilon 1e-5 for 1e-12", "epsilon", partial(set_value, "layer_norm_eps", 1e-5), True, "itself"),
    Fault("epsilon 1e-7 for 1e-12", "epsilon", partial(set_value, "layer_norm_eps", 1e-7), True, "itself"),
    Fault("gelu by tanh", "activation", partial(set_value, "hidden_act", "gelu_tanh"), True, "itself"),
    Fault("relu for gelu", "activation", partial(set_value, "hidden_act", "relu"), True, "itself"),
    Fault("3 attention heads for 6", "configuration", partial(set_value, "num_attention_heads", 3), True, "itself"),
    Fault("two tokens exchanged", "vocabulary", swap_tokens, True),
)

HEADS = {
    "bert": ("pooler", "masked_lm", "next_sentence"),
    "ernie": ("pooler", "masked_lm", "next_sentence"),
    "ernie-gram": ("pooler", "sequence_classification"),
    "albert": ("pooler", "masked_lm", "sentence_order"),
    "roberta": ("masked_lm",),
    "xlm-roberta": ("masked_lm",),
    "nezha": ("pooler", "masked_lm", "next_sentence"),
    "electra": ("masked_lm",),
    "distilbert": ("masked_lm",),
}
"""Family -> the heads of the model that faults are put into."""

OTHERS = ("uer", "paddle", "mindnlp", "hf")
"""Dialects to convert to: the first that has the family and is not the source's."""


def other_dialect(family: Family) -> str:
    """Return the dialect that a family's models are converted to."""
    source = first(family).name
    return next((name for name in OTHERS if name != source and family.name in DIALECTS[name].tables), source)


def cases() -> Iterator[tuple[Family, Fault]]:
    """Yield every family with every fault that can happen to its model."""
    with tempfile.TemporaryDirectory() as name:
        for family in FAMILIES.values():
            source = write_model(Path(name) / family.name, family, HEADS[family.name], 7, draw=realistic)
            for number, fault in enumerate(FAULTS):
                target = convert(source, Path(name) / f"{family.name}-{number}", family, fault)
                if break_it(target, fault):
                    yield family, fault


def convert(source: Path, folder: Path, family: Family, fault: Fault) -> Path:
    """Convert a model to the dialect that a fault is put into; return its folder."""
    dialect = first(family).name if fault.on == "itself" else other_dialect(family)
    interlingua.convert(source, folder, to=dialect, family=family.name, sync=False, residue="drop")
    return folder


def break_it(folder: Path, fault: Fault) -> bool:
    """Put a fault into a converted checkpoint; return whether it could happen to it."""
    with open_checkpoint(folder) as checkpoint:
        if checkpoint.match is None:
            raise LookupError(f"{folder} is of no dialect")
        arrays = _read_all(checkpoint)
        names = {canonical: found.native for canonical, found in checkpoint.match.tensors.items()}
        target = Target(folder, arrays, names, checkpoint)
        if not fault.inject(target):
            return False
        weights, container, metadata = checkpoint.weights, checkpoint.container, checkpoint.reader.carried
    if not fault.in_config:
        weights.unlink()
        write(weights, container, arrays, metadata)
    return True


def _read_all(checkpoint: Checkpoint) -> Arrays:
    """Return every tensor of numbers."""
    return {name: _read(checkpoint, spec) for name, spec in checkpoint.tensors.items() if spec.dtype.numpy}


def _read(checkpoint: Checkpoint, spec: TensorSpec) -> Array:
    data = bytearray(spec.nbytes)
    checkpoint.reader.read_into(spec.name, 0, memoryview(data))
    return np.frombuffer(data, numpy_dtype(spec.dtype)).reshape(spec.shape).copy()


def write(path: Path, container: str, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write arrays into a file of a container."""
    specs = [TensorSpec(name, DTYPES[array.dtype.name], array.shape) for name, array in arrays.items()]
    with registry.find(container).load().open_writer(path, specs, metadata=metadata) as writer:
        for name, array in arrays.items():
            with writer.slot(name) as slot:
                write_at(slot.fd, slot.offset, memoryview(np.ascontiguousarray(array).tobytes()))
                value = _checksum(writer.checksum, array)
            writer.seal(name, value)
        writer.finish()


def _checksum(kind: str | None, array: Array) -> int | None:
    from interlingua.formats.base import checksum_of

    return checksum_of(kind, memoryview(np.ascontiguousarray(array).tobytes()), 0)


# -- what the ways of checking say


class InProcess:
    """Runs sides by the own encoder, in PyTorch, in this process: hundreds of checks without as many starts of it.

    Attributes:
        kept: what each side computed, by the order of runs.
    """

    def __init__(self) -> None:
        self.kept: list[Activations] = []

    def __call__(self, request: Request, folder: Path, *, interpreter: str | None, timeout: float) -> Answer:
        """Run a request, its tensors read by this package's reader whatever the container."""
        from interlingua.verify.encoders import own
        from interlingua.verify.encoders.torch_ops import TorchOps

        class Reading(TorchOps):
            def load(self, request: Request) -> Arrays:
                with open_checkpoint(request.weights, model=False) as checkpoint:
                    return _read_all(checkpoint)

        activations, ran = own.run_on(Reading(request), request, load_batches(request.batches))
        np.savez(request.output, **activations)
        self.kept.append(activations)
        return Answer(ran, None, (), 0.0)


def run_check(a: Path, b: Path, family: str, launch: InProcess) -> Outcome:
    """Run parity-check on two folders."""
    settings = Settings(device="cpu", launch=launch, third_party=False)
    return check(a, b, Options(a=Asked(family=family), b=Asked(family=family), settings=settings))


@dataclass(frozen=True, slots=True)
class Peers:
    """What checks that people use today say of two sides: whether each calls them the same."""

    cosine: bool
    allclose: bool
    three_numbers: bool


def peers(one: Activations, other: Activations) -> Peers:
    """Judge the last hidden states as the usual scripts do: the first row, and the whole."""
    last = max((name for name in one if name.startswith("hard/layer.")), key=lambda name: int(name.rsplit(".", 1)[1]))
    a, b = one[last].astype(np.float64), other[last].astype(np.float64)
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return Peers(
        cosine=bool(np.sum(a * b) / lengths >= 0.99),
        allclose=bool(np.allclose(a, b, atol=1e-3)),
        three_numbers=bool(np.array_equal(np.round(a[0, 0, :3], 4), np.round(b[0, 0, :3], 4))),
    )


def causes_of(outcome: Outcome) -> set[str]:
    """Return the names of all causes that an outcome gives."""
    named = {cause.name for cause in (*outcome.faults, *outcome.causes)}
    return named | ({"vocabulary"} if outcome.tokens.differences else set())


@dataclass(frozen=True, slots=True)
class Healthy:
    """A right conversion, and what parity-check says of it."""

    words: str
    outcome: Outcome


def healthy(count: int, seed: int) -> Iterator[Healthy]:
    """Convert random models between random dialects, as they should be, and check each."""
    import random

    draws = random.Random(seed)  # a seed repeats the run
    ways = [way for way in conversions() if way.source != way.target]
    for number in range(count):
        way = draws.choice(ways)
        family = FAMILIES[way.family]
        heads = draws.choice(list(head_sets(family)) or [()])
        eps = draws.choice((1e-12, 1e-7, 1e-6, 1e-5))
        options: dict[str, Any] = {"family": family.name, "sync": False, "residue": "drop"}
        with tempfile.TemporaryDirectory() as name:
            made = write_model(Path(name) / "made", family, heads, seed + number, draw=realistic, eps=eps)
            source, target = Path(name) / "a" / "model", Path(name) / "b" / "model"
            interlingua.convert(made, source, to=way.source, **options)
            interlingua.convert(source, target, to=way.target, dialect=way.source, sync=False, residue="drop")
            words = f"{way.source} to {way.target}, {family.name} with {' '.join(heads) or 'no head'}, epsilon {eps:g}"
            settings = Settings(device="cpu", launch=InProcess(), third_party=False)
            wanted = Options(a=Asked(dialect=way.source), b=Asked(dialect=way.target), settings=settings)
            yield Healthy(words, check(source, target, wanted))


def show_healthy(count: int, seed: int) -> int:
    """Check random right conversions; print those that are called different, and return how many."""
    console = Console(width=140, highlight=False)
    verdicts: dict[str, int] = {}
    worst = 0.0
    for case in healthy(count, seed):
        verdicts[case.outcome.verdict] = verdicts.get(case.outcome.verdict, 0) + 1
        worst = max(worst, *(gap.units for side in (case.outcome.a, case.outcome.b) for gap in side.gaps))
        if case.outcome.verdict == DIFFERENT:
            console.print(f"{case.words}: {' '.join(case.outcome.reasons)}")
    console.print(f"{count} right conversions: {verdicts}; at most {worst:.3g} units of noise from the oracle")
    return verdicts.get(DIFFERENT, 0)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--healthy", type=int, default=0, help="check so many right conversions instead")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.healthy:
        return 1 if show_healthy(arguments.healthy, arguments.seed) else 0
    return show_faults()


def show_faults() -> int:
    """Inject every fault into every family's model; print what is said, and return 0 where all is caught and named."""
    table = Table("family", "fault", "parity-check", "cause named", "cosine >= 0.99", "allclose 1e-3", "3 numbers")
    caught = named = count = 0
    missed = {"cosine": 0, "allclose": 0, "three_numbers": 0}
    with tempfile.TemporaryDirectory() as name:
        for family in FAMILIES.values():
            source = write_model(Path(name) / family.name, family, HEADS[family.name], 7, draw=realistic)
            for number, fault in enumerate(FAULTS):
                target = convert(source, Path(name) / f"{family.name}-{number}", family, fault)
                if not break_it(target, fault):
                    continue
                launch = InProcess()
                outcome = run_check(source, target, family.name, launch)
                said = peers(launch.kept[0], launch.kept[1])
                is_caught, is_named = outcome.exit_code() == 1, fault.cause in causes_of(outcome)
                count, caught, named = count + 1, caught + is_caught, named + is_named
                for peer in missed:
                    missed[peer] += getattr(said, peer)
                words = ["caught" if is_caught else "MISSED", fault.cause if is_named else "NOT NAMED"]
                passed = ["passes" if getattr(said, peer) else "caught" for peer in missed]
                table.add_row(family.name, fault.name, *words, *passed)
    console = Console(width=140)
    console.print(table)
    console.print(f"{count} faults: {caught} caught, {named} with their cause; let pass by {missed}")
    return 0 if count == caught == named else 1


if __name__ == "__main__":
    raise SystemExit(main())
